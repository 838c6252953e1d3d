use std::sync::Arc;

use contracts::{Answers, MessageEffect, MessageOutcome, MessageRecord, OutputKind};
use domain::{
    Action, Actor, Demographics, DemographicsChange, Event, ExchangedDocument, Order, OrderAction,
    Outcome, PatientId, Subject,
};
use jiff::Timestamp;
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::database::wakeups::Announced;
use crate::error::Result;
use crate::intake::message_batch::KnownPatients;
use crate::patient::identity;
use crate::patient::identity::IdentityDomains;
use crate::patient::merge;
use crate::patient::merge::Word;
use crate::result::corrections;
use crate::trail::append::append;
use crate::vault::keys::Keys;
use crate::vault::payload;

/// How messages are kept.
#[derive(Clone)]
pub(crate) struct KeepMessages {
    pub(crate) pool: PgPool,
    pub(crate) keys: Arc<Keys>,
    pub(crate) domains: IdentityDomains,
    pub(crate) known: KnownPatients,
    pub(crate) announced: Arc<Announced>,
}

/// What the effects of a message say about the message itself.
#[derive(Default)]
pub(crate) struct About {
    pub(crate) document: Option<ExchangedDocument>,
    pub(crate) accession: String,
}

impl About {
    pub(crate) fn of(effects: &[MessageEffect]) -> Self {
        let mut about = Self::default();
        for effect in effects {
            match effect {
                MessageEffect::Order(order) => about.accession.clone_from(&order.key.accession),
                MessageEffect::Document { document, accession, .. } => {
                    about.document = Some(document.clone());
                    about.accession.clone_from(accession);
                }
                _ => {}
            }
        }
        about
    }
}

/// Keeps a message and does what it asks, in a transaction of its own.
pub(crate) async fn keep_alone(
    keep: &KeepMessages,
    record: &MessageRecord,
) -> Result<MessageOutcome> {
    let is_harmless = |it: &MessageEffect| {
        matches!(
            it,
            MessageEffect::Patient { .. }
                | MessageEffect::Order(_)
                | MessageEffect::Document { .. }
        )
    };
    let mut tx = if record.arrival.effects.iter().all(is_harmless) {
        identity::begin_shared(&keep.pool).await?
    } else {
        identity::begin_alone(&keep.pool).await?
    };
    if let Some(answer) = repeated(&mut tx, record).await? {
        tx.commit().await?;
        return Ok(MessageOutcome::Repeated(answer));
    }
    let about = About::of(&record.arrival.effects);
    let patient = keep.first_patient(&mut tx, record).await?;
    keep.insert_message(&mut tx, record, patient, &about).await?;
    append(&mut tx, &event_of(record, patient, &about.accession)).await?;
    keep.apply_effects(&mut tx, record).await?;
    tx.commit().await?;
    Ok(MessageOutcome::New)
}

impl KeepMessages {
    /// Whom a message is about: the first it names, added if that is for the first time.
    async fn first_patient(
        &self,
        tx: &mut PgConnection,
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
                | MessageEffect::MoveEncounter { target: id, .. } => (Some(id), none),
                MessageEffect::RenumberEncounter { .. } => (None, none),
                MessageEffect::Order(order) => (order.patient.as_ref(), none),
                MessageEffect::Document { patient, .. } => (patient.as_ref(), none),
            };
            if let Some(id) = id {
                return self.patient(tx, id, &demographics).await.map(Some);
            }
        }
        Ok(None)
    }

    async fn insert_message(
        &self,
        tx: &mut PgConnection,
        record: &MessageRecord,
        patient: Option<Uuid>,
        about: &About,
    ) -> Result<()> {
        let arrival = &record.arrival;
        let raw = payload::keep(tx, &self.keys, patient, "hl7", &arrival.raw).await?;
        let document = match &about.document {
            Some(document) => {
                let text = serde_json::to_vec(document)?;
                Some(payload::keep(tx, &self.keys, patient, "document", &text).await?.id)
            }
            None => None,
        };
        sqlx::query(
            "insert into message (id, address, sending_application, sending_facility, message_code,
                trigger_event, control_id, sha256, raw, document, patient, accession,
                acknowledgement, code, problem, decided, application_acknowledgement)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
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
        .bind(&about.accession)
        .bind(arrival.answers.first.as_deref().unwrap_or_default())
        .bind(&arrival.acknowledgement_code)
        .bind(&arrival.problem)
        .bind(arrival.problem.is_some())
        .bind(&arrival.answers.application)
        .execute(&mut *tx)
        .await?;
        if let Some(kind) = output_kind(record, about) {
            corrections::note_message(tx, record.id, &about.accession, kind).await?;
        }
        Ok(())
    }

    /// The patient an identifier was first used for, added if it is new.
    async fn patient(
        &self,
        tx: &mut PgConnection,
        id: &PatientId,
        change: &DemographicsChange,
    ) -> Result<Uuid> {
        let demographics = Demographics::default().changed(change);
        identity::find_or_add(tx, &self.domains, id, &demographics).await
    }

    async fn apply_effects(&self, tx: &mut PgConnection, record: &MessageRecord) -> Result<()> {
        let arrival = &record.arrival;
        let actor = Actor::peer(&arrival.sending_application, &arrival.address);
        for effect in &arrival.effects {
            self.apply(tx, effect, record, &actor).await?;
        }
        Ok(())
    }

    async fn apply(
        &self,
        tx: &mut PgConnection,
        effect: &MessageEffect,
        record: &MessageRecord,
        actor: &Actor,
    ) -> Result<()> {
        let none = DemographicsChange::default();
        let said_at = record.arrival.said_at.unwrap_or_else(Timestamp::now);
        match effect {
            MessageEffect::Patient { id, demographics } => {
                let found = self.patient(tx, id, demographics).await?;
                identity::update(tx, found, demographics, actor, record.id).await
            }
            MessageEffect::Merge { kind, survivor, source, demographics } => {
                let to = self.patient(tx, survivor, demographics).await?;
                // Who goes is not known by the words on who stays.
                let from = self.patient(tx, source, &none).await?;
                let (kind, survivor) = (*kind, (to, survivor));
                let word =
                    Word { kind, survivor, source: from, said_at, actor, message: record.id };
                merge::merge(tx, &word).await?;
                identity::update(tx, to, demographics, actor, record.id).await
            }
            MessageEffect::Link { one, other, is_linked } => {
                let both =
                    (self.patient(tx, one, &none).await?, self.patient(tx, other, &none).await?);
                merge::link(tx, both, *is_linked, said_at, actor, record.id).await
            }
            MessageEffect::MoveEncounter { what, number, source, target } => {
                let from = self.patient(tx, source, &none).await?;
                let to = self.patient(tx, target, &none).await?;
                merge::move_encounter(tx, (*what, number), (from, to), actor, record.id).await
            }
            MessageEffect::RenumberEncounter { what, old, new } => {
                merge::renumber_encounter(tx, *what, (old, new), actor, record.id).await
            }
            MessageEffect::Order(order) => self.keep_order(tx, order, actor, record.id).await,
            MessageEffect::Document { .. } => Ok(()),
        }
    }

    async fn keep_order(
        &self,
        tx: &mut PgConnection,
        order: &Order,
        actor: &Actor,
        message: Uuid,
    ) -> Result<()> {
        let patient = match &order.patient {
            Some(id) => Some(self.patient(tx, id, &DemographicsChange::default()).await?),
            None => None,
        };
        let id = write_order(tx, order, patient, message).await?;
        let is_cancelled = order.action == OrderAction::Cancel;
        let subject = Subject {
            patient,
            accession: Some(order.key.accession.clone()).filter(|it| !it.is_empty()),
            study: order.key.study.as_ref().map(ToString::to_string),
            message: Some(message),
            ..Subject::default()
        };
        let kind = if is_cancelled { "order_cancelled" } else { "order_received" };
        let detail = json!({"order": id});
        let event = Event::engine(kind, Action::U, subject, detail).by(actor.clone());
        append(tx, &event).await?;
        sqlx::query(
            "update study set look_at = clock_timestamp()
             where uid = $1 or (accession <> '' and accession = $2)
                or (filler <> '' and filler = $3) or (placer <> '' and placer = $4)
                or (requested_procedure <> '' and requested_procedure = $5
                    and patient in (select patient_family($6)))",
        )
        .bind(order.key.study.as_ref().map(domain::StudyInstanceUid::as_str))
        .bind(&order.key.accession)
        .bind(&order.key.filler)
        .bind(&order.key.placer)
        .bind(&order.key.requested_procedure)
        .bind(patient)
        .execute(tx)
        .await?;
        Ok(())
    }
}

/// Adds an order, or changes the one that has its numbers.
async fn write_order(
    tx: &mut PgConnection,
    order: &Order,
    patient: Option<Uuid>,
    message: Uuid,
) -> Result<Uuid> {
    let key = &order.key;
    let known: Option<(Uuid, serde_json::Value)> = sqlx::query_as(
        "select id, body from imaging_order
         where (placer <> '' and placer = $1) or (filler <> '' and filler = $2)
            or (placer = '' and filler = '' and accession <> '' and accession = $3)
         order by changed_at desc limit 1 for update",
    )
    .bind(&key.placer)
    .bind(&key.filler)
    .bind(&key.accession)
    .fetch_optional(&mut *tx)
    .await?;
    let (id, order) = match known {
        // What a later message leaves open stays as it was (HL7-21).
        Some((id, body)) => (id, serde_json::from_value::<Order>(body)?.updated(order.clone())),
        None => (Uuid::now_v7(), order.clone()),
    };
    let key = &order.key;
    sqlx::query(
        "insert into imaging_order (id, patient, placer, filler, accession, requested_procedure,
            study, body, cancelled, message, account, visit)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         on conflict (id) do update set
            patient = coalesce(excluded.patient, imaging_order.patient),
            placer = excluded.placer, filler = excluded.filler, accession = excluded.accession,
            requested_procedure = excluded.requested_procedure, study = excluded.study,
            body = excluded.body, cancelled = excluded.cancelled, message = excluded.message,
            account = excluded.account, visit = excluded.visit, changed_at = now()",
    )
    .bind(id)
    .bind(patient)
    .bind(&key.placer)
    .bind(&key.filler)
    .bind(&key.accession)
    .bind(&key.requested_procedure)
    .bind(key.study.as_ref().map(domain::StudyInstanceUid::as_str))
    .bind(serde_json::to_value(&order)?)
    .bind(order.action == OrderAction::Cancel)
    .bind(message)
    .bind(&order.account)
    .bind(&order.visit)
    .execute(tx)
    .await?;
    Ok(id)
}

/// What was answered the first time, if this is a repetition (HL7-13).
async fn repeated(tx: &mut PgConnection, record: &MessageRecord) -> Result<Option<Answers>> {
    let arrival = &record.arrival;
    if arrival.control_id.is_empty() {
        return Ok(None);
    }
    // Two copies that arrive at once must not both be the first.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 7))")
        .bind(format!("{}\u{1f}{}", arrival.control_id, arrival.sha256))
        .execute(&mut *tx)
        .await?;
    let known: Option<(Uuid, Vec<u8>, Option<Vec<u8>>)> = sqlx::query_as(
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
    let Some((message, first, application)) = known else { return Ok(None) };
    let subject = Subject { message: Some(message), ..Subject::default() };
    let actor = Actor::peer(&arrival.sending_application, &arrival.address);
    let event = Event::engine("message_repeated", Action::R, subject, json!({})).by(actor);
    append(tx, &event).await?;
    Ok(Some(Answers { first: Some(first).filter(|it| !it.is_empty()), application }))
}

/// As what a message may be a correction of a report of ours, if it may.
pub(crate) fn output_kind(record: &MessageRecord, about: &About) -> Option<OutputKind> {
    let kind = match record.arrival.message_type.code.as_str() {
        "ORU" => OutputKind::Oru,
        "MDM" => OutputKind::Mdm,
        _ => return None,
    };
    (about.document.is_some() && !about.accession.is_empty()).then_some(kind)
}

/// What the trail says of it.
pub(crate) fn event_of(record: &MessageRecord, patient: Option<Uuid>, accession: &str) -> Event {
    let arrival = &record.arrival;
    let subject = Subject {
        patient,
        accession: Some(accession.to_owned()).filter(|it| !it.is_empty()),
        message: Some(record.id),
        ..Subject::default()
    };
    let detail = json!({
        "message_type": arrival.message_type.to_string(), "control_id": arrival.control_id,
        "code": arrival.acknowledgement_code, "problem": arrival.problem,
        "bytes": arrival.raw.len(),
    });
    let is_taken = arrival.problem.is_none();
    let outcome = if is_taken { Outcome::Success } else { Outcome::MinorFailure };
    let actor = Actor::peer(&arrival.sending_application, &arrival.address);
    let kind = if is_taken { "message_received" } else { "message_refused" };
    Event::engine(kind, Action::C, subject, detail).by(actor).ended(outcome)
}
