//! Messages that wait at the same time are kept together.
//!
//! Those of which there is nothing more to find out are kept so: said for the first time, of a patient who
//! is known and is said to be who they are, with results or a document or nothing at all. All else goes its
//! own way (`message::keep_alone`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use contracts::{MessageEffect, MessageKept, MessageRecord};
use domain::{Demographics, PatientId};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::error::Result;
use crate::event::body_of;
use crate::group::Keep;
use crate::message::{About, KeepMessages, event_of, keep_alone, output_kind};
use crate::payload::{self, PayloadKey};
use crate::{IdentityDomains, identity};

impl Keep for KeepMessages {
    type Record = MessageRecord;
    type Kept = MessageKept;

    /// One: a group is the cheaper, the more there are in it.
    const LANES: u64 = 1;

    const NEW: MessageKept = MessageKept::New;

    /// What tells it from others: of two copies at once, one is a repetition (HL7-13).
    fn lane(record: &MessageRecord) -> impl Hash {
        (record.arrival.control_id.clone(), record.arrival.sha256.clone())
    }

    async fn together(
        &self,
        connection: &mut PgConnection,
        records: &[&MessageRecord],
    ) -> Result<Vec<i64>> {
        let plain = plain(records, &self.domains);
        if plain.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = connection.begin_with(identity::SHARED).await?;
        let known = known(&mut tx, &plain).await?;
        let mut rows = Rows::default();
        let mut opened = HashMap::new();
        for one in &plain {
            let Some(known) = known.get(&one.place) else { continue };
            if !one.changes_nothing(&known.demographics) {
                continue;
            }
            let key = match opened.entry(known.key) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    entry.insert(PayloadKey::open(&self.keys, known.key, &known.wrapped)?)
                }
            };
            rows.push(one, known.patient, key)?;
        }
        if !rows.places.is_empty() {
            rows.write(&mut tx).await?;
        }
        tx.commit().await?;
        self.announced.assembly.notify_one();
        Ok(rows.places)
    }

    async fn alone(&self, record: &MessageRecord) -> Result<MessageKept> {
        let kept = keep_alone(self, record).await?;
        self.announced.assembly.notify_one();
        Ok(kept)
    }
}

/// A message that may be kept with others, if its patient is known.
struct Plain<'a> {
    place: i64,
    record: &'a MessageRecord,
    /// By what its patient is known: value and issuer.
    name: (String, String),
    about: About,
}

impl Plain<'_> {
    /// Whether all it says of its patient is known.
    fn changes_nothing(&self, current: &Demographics) -> bool {
        self.record.arrival.effects.iter().all(|it| match it {
            MessageEffect::Patient { demographics, .. } => {
                current.clone().changed(demographics) == *current
            }
            _ => true,
        })
    }
}

/// Those that may be kept together.
fn plain<'a>(records: &[&'a MessageRecord], domains: &IdentityDomains) -> Vec<Plain<'a>> {
    let mut copies: HashMap<(&str, &str), usize> = HashMap::new();
    for arrival in records.iter().map(|it| &it.arrival) {
        *copies.entry((&arrival.control_id, &arrival.sha256)).or_default() += 1;
    }
    let mut all = Vec::new();
    for (place, record) in (1..).zip(records) {
        let arrival = &record.arrival;
        let is_single = copies.get(&(&*arrival.control_id, &*arrival.sha256)) == Some(&1);
        let patient = only_patient(&arrival.effects).filter(|_| is_single);
        if let Some(patient) = patient.filter(|_| !arrival.control_id.is_empty()) {
            let about = About::of(&arrival.effects);
            all.push(Plain { place, record, name: domains.key(patient), about });
        }
    }
    all
}

/// The patient a message is about, if that and results are all it says.
fn only_patient(effects: &[MessageEffect]) -> Option<&PatientId> {
    let mut only = None;
    for effect in effects {
        let patient = match effect {
            MessageEffect::Patient { id, .. } => Some(id),
            MessageEffect::Document { patient, .. } => patient.as_ref(),
            _ => return None,
        };
        if only.is_some() && patient.is_some() && only != patient {
            return None;
        }
        only = patient.or(only);
    }
    only
}

/// What is known of the patient of a message, and the key of what is kept of them.
struct Known {
    patient: Uuid,
    demographics: Demographics,
    key: Uuid,
    wrapped: Vec<u8>,
}

/// By place, of those that are no repetitions.
async fn known(tx: &mut PgConnection, plain: &[Plain<'_>]) -> Result<HashMap<i64, Known>> {
    let column = |of: fn(&MessageRecord) -> &str| -> Vec<&str> {
        plain.iter().map(|it| of(it.record)).collect()
    };
    let rows: Vec<(i64, Uuid, serde_json::Value, Uuid, Vec<u8>)> = sqlx::query_as(
        "select g.place, p.id, p.demographics, k.id, k.wrapped
         from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                $7::text[])
            g (place, value, issuer, control_id, sha256, application, facility)
         join patient_identifier i on i.value = g.value and i.issuer = g.issuer
         join patient p on p.id = i.patient
         join payload_key k on k.destroyed_at is null
            and coalesce(k.patient, '00000000-0000-0000-0000-000000000000') = i.patient
         where not exists (select from message m
            where m.control_id = g.control_id and m.sha256 = g.sha256
                and m.sending_application = g.application and m.sending_facility = g.facility
                and m.received_at > now() - interval '7 days')",
    )
    .bind(plain.iter().map(|it| it.place).collect::<Vec<_>>())
    .bind(plain.iter().map(|it| it.name.0.as_str()).collect::<Vec<_>>())
    .bind(plain.iter().map(|it| it.name.1.as_str()).collect::<Vec<_>>())
    .bind(column(|it| &it.arrival.control_id))
    .bind(column(|it| &it.arrival.sha256))
    .bind(column(|it| &it.arrival.sending_application))
    .bind(column(|it| &it.arrival.sending_facility))
    .fetch_all(tx)
    .await?;
    let mut all = HashMap::new();
    for (place, patient, demographics, key, wrapped) in rows {
        let demographics = serde_json::from_value(demographics)?;
        all.insert(place, Known { patient, demographics, key, wrapped });
    }
    Ok(all)
}

/// Writes payloads, messages, what may be corrections of ours, and events.
const WRITE: &str = "with g as materialized (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[],
        $6::text[], $7::text[], $8::uuid[], $9::bytea[], $10::uuid[], $11::bytea[],
        $12::uuid[], $13::uuid[], $14::text[], $15::bytea[], $16::text[], $17::text[],
        $18::bytea[], $19::text[], $20::uuid[], $21::jsonb[]) with ordinality
    it (id, address, application, facility, message_type, control_id, sha256, raw,
        sealed_raw, document, sealed_document, key, patient, accession, acknowledgement,
        code, problem, application_acknowledgement, returned, event, body, place)
), raws as (
    insert into payload (id, key, kind, sealed) select raw, key, 'hl7', sealed_raw from g
), documents as (
    insert into payload (id, key, kind, sealed)
    select document, key, 'document', sealed_document from g where document is not null
), kept as (
    insert into message (id, address, sending_application, sending_facility,
        message_type, control_id, sha256, raw, document, patient, accession,
        acknowledgement, code, problem, decided, application_acknowledgement)
    select id, address, application, facility, message_type, control_id, sha256, raw,
        document, patient, accession, acknowledgement, code, problem,
        problem is not null, application_acknowledgement
    from g
), noted as (
    insert into returned (source, origin, accession)
    select returned, id::text, accession from g where returned is not null
    on conflict do nothing
)
select audit.append(event, body) from g order by place";

/// What is written of messages, column by column.
#[derive(Default)]
struct Rows<'a> {
    places: Vec<i64>,
    records: Vec<&'a MessageRecord>,
    patients: Vec<Uuid>,
    keys: Vec<Uuid>,
    raws: Vec<Uuid>,
    sealed_raws: Vec<Vec<u8>>,
    documents: Vec<Option<Uuid>>,
    sealed_documents: Vec<Option<Vec<u8>>>,
    accessions: Vec<String>,
    /// As what it may be a correction of ours, if it may.
    kinds: Vec<Option<&'static str>>,
    events: Vec<Uuid>,
    bodies: Vec<serde_json::Value>,
}

impl<'a> Rows<'a> {
    fn push(&mut self, one: &Plain<'a>, patient: Uuid, key: &PayloadKey) -> Result<()> {
        let Plain { record, about, .. } = one;
        let arrival = &record.arrival;
        let document = about.document.as_ref().map(serde_json::to_vec).transpose()?;
        let event = event_of(record, Some(patient), &about.accession);
        self.bodies.push(body_of(&event)?);
        self.sealed_raws.push(payload::sealed(key, &arrival.raw)?.0);
        let sealed = document.map(|it| payload::sealed(key, &it)).transpose()?;
        self.sealed_documents.push(sealed.map(|it| it.0));
        self.documents.push(about.document.as_ref().map(|_| Uuid::now_v7()));
        self.kinds.push(output_kind(record, about).map(contracts::OutputKind::name));
        self.places.push(one.place);
        self.records.push(record);
        self.patients.push(patient);
        self.keys.push(key.id);
        self.raws.push(Uuid::now_v7());
        self.accessions.push(about.accession.clone());
        self.events.push(Uuid::now_v7());
        Ok(())
    }

    /// Writes it all with one question.
    async fn write(&self, tx: &mut PgConnection) -> Result<()> {
        let column = |of: fn(&MessageRecord) -> &str| -> Vec<&str> {
            self.records.iter().map(|it| of(it)).collect()
        };
        let bytes = |of: fn(&MessageRecord) -> Option<&[u8]>| -> Vec<Option<&[u8]>> {
            self.records.iter().map(|it| of(it)).collect()
        };
        let problems: Vec<Option<&str>> =
            self.records.iter().map(|it| it.arrival.problem.as_deref()).collect();
        sqlx::query(WRITE)
            .bind(self.records.iter().map(|it| it.id).collect::<Vec<_>>())
            .bind(column(|it| &it.arrival.address))
            .bind(column(|it| &it.arrival.sending_application))
            .bind(column(|it| &it.arrival.sending_facility))
            .bind(column(|it| &it.arrival.message_type))
            .bind(column(|it| &it.arrival.control_id))
            .bind(column(|it| &it.arrival.sha256))
            .bind(&self.raws)
            .bind(&self.sealed_raws)
            .bind(&self.documents)
            .bind(&self.sealed_documents)
            .bind(&self.keys)
            .bind(&self.patients)
            .bind(&self.accessions)
            .bind(bytes(|it| Some(it.arrival.answers.first.as_deref().unwrap_or_default())))
            .bind(column(|it| &it.arrival.acknowledgement_code))
            .bind(problems)
            .bind(bytes(|it| it.arrival.answers.application.as_deref()))
            .bind(&self.kinds)
            .bind(&self.events)
            .bind(&self.bodies)
            .execute(tx)
            .await?;
        Ok(())
    }
}
