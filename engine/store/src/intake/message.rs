//! Single messages: repetitions, the patient each is about, and its effects (HL7-13, HL7-21..37).

use contracts::{Answers, MessageEffect, MessageOutcome, MessageRecord, NewTask};
use domain::event::{
    MessageFacts, MessageReceived, MessageRefused, MessageRepeated, MessageWithoutEffect,
};
use domain::{
    Actor, CorrectionSource, Demographics, DemographicsChange, Event, ExchangedDocument,
    MessageFlag, Outcome, PatientId, Subject, TaskKind,
};
use jiff::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::{PgStore, commit};
use crate::error::Result;
use crate::intake::numbering::Numbering;
use crate::intake::order::{self, OrderArrival};
use crate::patient::encounter::{self, EncounterMove, EncounterRenumbering};
use crate::patient::identity::{self, IdentityDomains, Sender, SenderDomains};
use crate::patient::merge::{self, LinkAssertion, MergeAssertion};
use crate::result::corrections;
use crate::run::task;
use crate::trail::append::append;
use crate::vault::keys::Keys;
use crate::vault::payload;

/// What the effects of a message state about the message itself.
#[derive(Default)]
pub(crate) struct MessageTopic {
    /// The results or document it carries.
    pub(crate) document: Option<ExchangedDocument>,
    /// The accession number it is about, or nothing.
    pub(crate) accession: String,
}

impl MessageTopic {
    /// Authorities get the names that the site gives them.
    pub(crate) fn of(effects: &[MessageEffect], domains: &IdentityDomains) -> Self {
        let mut topic = Self::default();
        for effect in effects {
            match effect {
                MessageEffect::Order(order) => topic.accession.clone_from(&order.key.accession),
                MessageEffect::Document { document, accession, .. } => {
                    let name_of = |named: &str| domains.authority(named);
                    topic.document = Some(document.clone().with_authorities_named(name_of));
                    topic.accession.clone_from(accession);
                }
                _ => {}
            }
        }
        topic
    }
}

/// Inserts one message and applies its effects, in a transaction of its own.
pub(crate) async fn insert_one(
    store: &PgStore,
    numbering: &Numbering,
    record: &MessageRecord,
) -> Result<MessageOutcome> {
    let mut tx = if record.arrival.effects.iter().all(leaves_identity_alone) {
        identity::begin_shared(&store.pool).await?
    } else {
        identity::begin_exclusive(&store.pool).await?
    };
    if let Some(answers) = first_answers_in_tx(&mut tx, record).await? {
        commit(tx).await?;
        return Ok(MessageOutcome::Repeated(answers));
    }
    let topic = MessageTopic::of(&record.arrival.effects, &numbering.domains);
    let domains = numbering.domains.of(sender(record));
    let patient = first_patient_in_tx(&mut tx, domains, record).await?;
    insert_row(&mut tx, &store.keys, record, patient, &topic).await?;
    append(&mut tx, &event_of(record, patient, &topic.accession)).await?;
    if record.arrival.flags.contains(&MessageFlag::WithoutEffect) {
        append(&mut tx, &without_effect(record)).await?;
    }
    if let Some(task) = unread_document(record, patient, &topic) {
        task::open(&mut tx, &task).await?;
    }
    for effect in &record.arrival.effects {
        apply_in_tx(&mut tx, numbering, record, effect).await?;
    }
    commit(tx).await?;
    Ok(MessageOutcome::New)
}

/// The task for a message that has nothing but pointers to documents elsewhere: no workflow starts
/// on it, and nobody would notice. Beside results, the report on them names what was not read.
fn unread_document(
    record: &MessageRecord,
    patient: Option<Uuid>,
    topic: &MessageTopic,
) -> Option<NewTask> {
    let document = topic.document.as_ref()?;
    let has_content = document.reported().next().is_some() || !document.attachments.is_empty();
    if has_content || !record.arrival.flags.contains(&MessageFlag::DocumentByPointer) {
        return None;
    }
    let accession = Some(topic.accession.clone()).filter(|it| !it.is_empty());
    let message = Some(record.id);
    let reason = format!(
        "message {} has no result, only a pointer to a document elsewhere (OBX-2 RP): it was not \
         fetched, and nobody has read it",
        record.arrival.control_id
    );
    Some(NewTask {
        kind: TaskKind::DocumentNotRead,
        subject: Subject { patient, accession, message, ..Subject::default() },
        reason,
    })
}

/// The system that sent a message.
pub(crate) fn sender(record: &MessageRecord) -> Sender<'_> {
    let arrival = &record.arrival;
    Sender::Hl7 { application: &arrival.sending_application, facility: &arrival.sending_facility }
}

/// Whether an effect cannot change who anybody is, so that others may read identity meanwhile.
const fn leaves_identity_alone(effect: &MessageEffect) -> bool {
    matches!(
        effect,
        MessageEffect::Patient { .. } | MessageEffect::Order(_) | MessageEffect::Document { .. }
    )
}

/// The patient a message is about: the first it names, added if the identifier is new.
async fn first_patient_in_tx(
    tx: &mut PgConnection,
    domains: SenderDomains<'_>,
    record: &MessageRecord,
) -> Result<Option<Uuid>> {
    for effect in &record.arrival.effects {
        let none = DemographicsChange::default();
        let (id, demographics) = match effect {
            MessageEffect::Patient { id, demographics }
            | MessageEffect::Merge { survivor: id, demographics, .. } => {
                (Some(id), demographics.clone())
            }
            MessageEffect::Link { one: id, .. }
            | MessageEffect::MoveEncounter { target: id, .. }
            | MessageEffect::RenumberEncounter { patient: id, .. } => (Some(id), none),
            MessageEffect::Order(order) => (order.patient.as_ref(), none),
            MessageEffect::Document { patient, .. } => (patient.as_ref(), none),
        };
        if let Some(id) = id {
            return find_or_add(tx, domains, id, &demographics).await.map(Some);
        }
    }
    Ok(None)
}

/// The patient an identifier was first used for, added if the identifier is new.
async fn find_or_add(
    tx: &mut PgConnection,
    domains: SenderDomains<'_>,
    id: &PatientId,
    change: &DemographicsChange,
) -> Result<Uuid> {
    let demographics = Demographics::default().changed(change);
    identity::find_or_add(tx, domains, id, &demographics).await
}

async fn insert_row(
    tx: &mut PgConnection,
    keys: &Keys,
    record: &MessageRecord,
    patient: Option<Uuid>,
    topic: &MessageTopic,
) -> Result<()> {
    let arrival = &record.arrival;
    let raw = payload::store(tx, keys, patient, "hl7", &arrival.raw).await?;
    let document = match &topic.document {
        Some(document) => {
            let content = serde_json::to_vec(document)?;
            Some(payload::store(tx, keys, patient, "document", &content).await?.id)
        }
        None => None,
    };
    sqlx::query(
        "insert into message (id, address, sending_application, sending_facility, message_code,
            trigger_event, control_id, sha256, raw, document, patient, accession,
            acknowledgement, code, problem, decided, application_acknowledgement, flags)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
    )
    .bind(record.id)
    .bind(&arrival.address)
    .bind(&arrival.sending_application)
    .bind(&arrival.sending_facility)
    .bind(&arrival.message_type.code)
    .bind(&arrival.message_type.trigger)
    .bind(&arrival.control_id)
    .bind(&arrival.sha256)
    .bind(raw.id)
    .bind(document)
    .bind(patient)
    .bind(&topic.accession)
    .bind(arrival.answers.first.as_deref().unwrap_or_default())
    .bind(&arrival.acknowledgement_code)
    .bind(&arrival.problem)
    .bind(arrival.starts_nothing())
    .bind(&arrival.answers.application)
    .bind(arrival.flags.iter().map(|it| it.name()).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    if let Some(source) = correction_source(record, topic) {
        corrections::note_message(tx, source, record.id, &topic.accession).await?;
    }
    Ok(())
}

async fn apply_in_tx(
    tx: &mut PgConnection,
    numbering: &Numbering,
    record: &MessageRecord,
    effect: &MessageEffect,
) -> Result<()> {
    let arrival = &record.arrival;
    let domains = numbering.domains.of(sender(record));
    let actor = Actor::peer(&arrival.sending_application, &arrival.address);
    let none = DemographicsChange::default();
    let asserted_at = arrival.stated_at.unwrap_or_else(Timestamp::now);
    let message = record.id;
    match effect {
        MessageEffect::Patient { id, demographics } => {
            let patient = find_or_add(tx, domains, id, demographics).await?;
            identity::update(tx, patient, demographics, &actor, message).await
        }
        MessageEffect::Merge { kind, survivor, source, demographics } => {
            let survivor_key = find_or_add(tx, domains, survivor, demographics).await?;
            // The demographics are the survivor's: they say nothing of the source.
            let source_key = find_or_add(tx, domains, source, &none).await?;
            let assertion = MergeAssertion {
                kind: *kind,
                survivor: survivor_key,
                survivor_id: survivor,
                source: source_key,
                asserted_at,
                actor: &actor,
                message,
            };
            merge::merge(tx, &assertion).await?;
            identity::update(tx, survivor_key, demographics, &actor, message).await
        }
        MessageEffect::Link { one, other, is_linked } => {
            let one = find_or_add(tx, domains, one, &none).await?;
            let other = find_or_add(tx, domains, other, &none).await?;
            let assertion = LinkAssertion {
                one,
                other,
                is_linked: *is_linked,
                asserted_at,
                actor: &actor,
                message,
            };
            merge::link(tx, &assertion).await
        }
        MessageEffect::MoveEncounter { what, number, source, target } => {
            let source = find_or_add(tx, domains, source, &none).await?;
            let target = find_or_add(tx, domains, target, &none).await?;
            let change =
                EncounterMove { what: *what, number, source, target, actor: &actor, message };
            encounter::move_orders(tx, &change).await
        }
        MessageEffect::RenumberEncounter { patient, what, old, new } => {
            let patient = find_or_add(tx, domains, patient, &none).await?;
            let change =
                EncounterRenumbering { patient, what: *what, old, new, actor: &actor, message };
            encounter::renumber(tx, &change).await
        }
        MessageEffect::Order(order) => {
            let patient = match &order.patient {
                Some(id) => Some(find_or_add(tx, domains, id, &none).await?),
                None => None,
            };
            let arrival = OrderArrival { numbering, order, patient, actor: &actor, message };
            order::store_in_tx(tx, &arrival).await
        }
        MessageEffect::Document { .. } => Ok(()),
    }
}

/// A message that was stored before, with its answers.
#[derive(sqlx::FromRow)]
struct StoredAnswers {
    id: Uuid,
    acknowledgement: Vec<u8>,
    application_acknowledgement: Option<Vec<u8>>,
}

/// The answers of the first time, if this message is a repetition (HL7-13).
async fn first_answers_in_tx(
    tx: &mut PgConnection,
    record: &MessageRecord,
) -> Result<Option<Answers>> {
    let arrival = &record.arrival;
    if arrival.control_id.is_empty() {
        return Ok(None);
    }
    // Of two copies that arrive at once, only one may be the first.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 7))")
        .bind(format!("{}\u{1f}{}", arrival.control_id, arrival.sha256))
        .execute(&mut *tx)
        .await?;
    let stored: Option<StoredAnswers> = sqlx::query_as(
        "select id, acknowledgement, application_acknowledgement from message
         where control_id = $1 and sha256 = $2 and sending_application = $3
            and sending_facility = $4 and received_at > now() - interval '7 days'
         order by received_at limit 1",
    )
    .bind(&arrival.control_id)
    .bind(&arrival.sha256)
    .bind(&arrival.sending_application)
    .bind(&arrival.sending_facility)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(stored) = stored else { return Ok(None) };
    let subject = Subject { message: Some(stored.id), ..Subject::default() };
    let actor = Actor::peer(&arrival.sending_application, &arrival.address);
    append(tx, &Event::new(subject, MessageRepeated {}).by(actor)).await?;
    Ok(Some(Answers {
        first: Some(stored.acknowledgement).filter(|it| !it.is_empty()),
        application: stored.application_acknowledgement,
    }))
}

/// The source of the correction that a message may be, if it may be one.
pub(crate) fn correction_source(
    record: &MessageRecord,
    topic: &MessageTopic,
) -> Option<CorrectionSource> {
    let source = match record.arrival.message_type.code.as_str() {
        "ORU" => CorrectionSource::Oru,
        "MDM" => CorrectionSource::Mdm,
        _ => return None,
    };
    (topic.document.is_some() && !topic.accession.is_empty()).then_some(source)
}

/// The event that reports a message, accepted or refused.
pub(crate) fn event_of(record: &MessageRecord, patient: Option<Uuid>, accession: &str) -> Event {
    let arrival = &record.arrival;
    let subject = Subject {
        patient,
        accession: Some(accession.to_owned()).filter(|it| !it.is_empty()),
        message: Some(record.id),
        ..Subject::default()
    };
    let facts = MessageFacts {
        message_type: arrival.message_type.to_string(),
        control_id: arrival.control_id.clone(),
        code: arrival.acknowledgement_code.clone(),
        problem: arrival.problem.clone(),
        bytes: arrival.raw.len() as u64,
        flags: arrival.flags.clone(),
    };
    let event = if arrival.problem.is_none() {
        Event::new(subject, MessageReceived(facts))
    } else {
        Event::new(subject, MessageRefused(facts)).ended(Outcome::MinorFailure)
    };
    event.by(Actor::peer(&arrival.sending_application, &arrival.address))
}

/// The event that says that a message changes nothing.
fn without_effect(record: &MessageRecord) -> Event {
    let arrival = &record.arrival;
    let subject = Subject { message: Some(record.id), ..Subject::default() };
    let body = MessageWithoutEffect { processing_id: arrival.processing_id.clone() };
    Event::new(subject, body).by(Actor::peer(&arrival.sending_application, &arrival.address))
}
