//! Messages that wait at the same time are kept together.
//!
//! What can be kept so is decided by `message_batch_insert` (migrations/functions): what is said for the first time, of a
//! patient who is known and is said to be who they are, with results or a document or nothing at all. All else
//! goes its own way (`message::keep_alone`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use contracts::{MessageEffect, MessageOutcome, MessageRecord};
use domain::{Demographics, PatientId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::intake::batcher::Keep;
use crate::intake::message::{About, KeepMessages, event_of, keep_alone, output_kind};
use crate::patient::identity::IdentityDomains;
use crate::trail::append::body_of;
use crate::vault::keys::Keys;
use crate::vault::payload::{self, PayloadKey};

/// Of how many patients what is known is remembered.
const KNOWN_MAX: usize = 1_000;

impl Keep for KeepMessages {
    type Record = MessageRecord;
    type Kept = MessageOutcome;

    const NEW: MessageOutcome = MessageOutcome::New;

    fn sender(record: &MessageRecord) -> Option<Uuid> {
        record.arrival.connection
    }

    async fn together(
        &self,
        connection: &mut PgConnection,
        records: &[&MessageRecord],
    ) -> Result<Vec<i64>> {
        let plain = plain(records, &self.domains);
        self.known.learn(connection, &self.keys, &plain).await?;
        let mut rows = Rows::default();
        for one in &plain {
            if let Some(known) = self.known.of(&one.name)
                && one.changes_nothing(&known.demographics)
            {
                rows.push(one, &known)?;
            }
        }
        if rows.places.is_empty() {
            return Ok(Vec::new());
        }
        let kept = rows.write(connection).await?;
        self.announced.assembly.notify_one();
        // What the database did not take, it knows more of than we do.
        let left = plain.iter().filter(|it| !kept.contains(&it.place));
        self.known.forget(left.map(|it| &it.name));
        Ok(kept)
    }

    async fn alone(&self, record: &MessageRecord) -> Result<MessageOutcome> {
        let kept = keep_alone(self, record).await?;
        self.announced.assembly.notify_one();
        Ok(kept)
    }
}

/// A message that may be kept with others, if its patient is known.
struct Plain<'a> {
    place: i64,
    record: &'a MessageRecord,
    name: Name,
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

/// What is known of a patient, and the key of what is kept of them.
struct Known {
    patient: Uuid,
    /// As the database has it, to see whether it still does.
    stored: serde_json::Value,
    demographics: Demographics,
    key: PayloadKey,
}

/// What is known of patients of whom messages came lately. It may be out of date: the database takes only what
/// still holds.
#[derive(Clone, Default)]
pub(crate) struct KnownPatients(Arc<Mutex<HashMap<Name, Arc<Known>>>>);

/// By what a patient is known: value and issuer.
type Name = (String, String);

impl KnownPatients {
    fn of(&self, name: &Name) -> Option<Arc<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn forget<'a>(&self, names: impl Iterator<Item = &'a Name>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.for_each(|it| _ = all.remove(it));
    }

    /// Looks up those of whom nothing is known yet.
    async fn learn(
        &self,
        connection: &mut PgConnection,
        keys: &Keys,
        plain: &[Plain<'_>],
    ) -> Result<()> {
        let new = |it: &&Plain<'_>| self.of(&it.name).is_none();
        let names: HashSet<&Name> = plain.iter().filter(new).map(|it| &it.name).collect();
        if names.is_empty() {
            return Ok(());
        }
        let (values, issuers): (Vec<&str>, Vec<&str>) =
            names.into_iter().map(|(value, issuer)| (value.as_str(), issuer.as_str())).unzip();
        let rows: Vec<(String, String, Uuid, serde_json::Value, Uuid, Vec<u8>)> = sqlx::query_as(
            "select i.value, i.issuer, p.id, p.demographics, k.id, k.wrapped
             from unnest($1::text[], $2::text[]) g (value, issuer)
             join patient_identifier i on i.value = g.value and i.issuer = g.issuer
             join patient p on p.id = i.patient
             join payload_key k on k.destroyed_at is null
                and coalesce(k.patient, '00000000-0000-0000-0000-000000000000') = i.patient",
        )
        .bind(values)
        .bind(issuers)
        .fetch_all(connection)
        .await?;
        let mut found = HashMap::new();
        for (value, issuer, patient, stored, key, wrapped) in rows {
            let demographics = serde_json::from_value(stored.clone())?;
            let key = PayloadKey::open(keys, key, &wrapped)?;
            let known = Known { patient, stored, demographics, key };
            found.insert((value, issuer), Arc::new(known));
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KNOWN_MAX {
            all.clear();
        }
        all.extend(found);
        Ok(())
    }
}

/// What is written of messages, column by column.
#[derive(Default)]
struct Rows<'a> {
    places: Vec<i64>,
    records: Vec<&'a MessageRecord>,
    patients: Vec<Uuid>,
    demographics: Vec<serde_json::Value>,
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
    fn push(&mut self, one: &Plain<'a>, known: &Known) -> Result<()> {
        let key = &known.key;
        let Plain { record, about, .. } = one;
        let arrival = &record.arrival;
        let document = about.document.as_ref().map(serde_json::to_vec).transpose()?;
        let event = event_of(record, Some(known.patient), &about.accession);
        self.bodies.push(body_of(&event)?);
        self.sealed_raws.push(payload::sealed(key, &arrival.raw)?);
        self.sealed_documents.push(document.map(|it| payload::sealed(key, &it)).transpose()?);
        self.documents.push(about.document.as_ref().map(|_| Uuid::now_v7()));
        self.kinds.push(output_kind(record, about).map(contracts::OutputKind::name));
        self.places.push(one.place);
        self.records.push(record);
        self.patients.push(known.patient);
        self.demographics.push(known.stored.clone());
        self.keys.push(key.id);
        self.raws.push(Uuid::now_v7());
        self.accessions.push(about.accession.clone());
        self.events.push(Uuid::now_v7());
        Ok(())
    }

    /// Writes it all with one question, and gives the places of those that were taken.
    async fn write(&self, connection: &mut PgConnection) -> Result<Vec<i64>> {
        let column = |of: fn(&MessageRecord) -> &str| -> Vec<&str> {
            self.records.iter().map(|it| of(it)).collect()
        };
        let bytes = |of: fn(&MessageRecord) -> Option<&[u8]>| -> Vec<Option<&[u8]>> {
            self.records.iter().map(|it| of(it)).collect()
        };
        let problems: Vec<Option<&str>> =
            self.records.iter().map(|it| it.arrival.problem.as_deref()).collect();
        let places = sqlx::query_scalar(
            "select message_batch_insert($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                $16, $17, $18, $19, $20, $21, $22, $23, $24)",
        )
        .bind(&self.places)
        .bind(self.records.iter().map(|it| it.id).collect::<Vec<_>>())
        .bind(column(|it| &it.arrival.address))
        .bind(column(|it| &it.arrival.sending_application))
        .bind(column(|it| &it.arrival.sending_facility))
        .bind(column(|it| &it.arrival.message_type.code))
        .bind(column(|it| &it.arrival.message_type.trigger))
        .bind(column(|it| &it.arrival.control_id))
        .bind(column(|it| &it.arrival.sha256))
        .bind(&self.raws)
        .bind(&self.sealed_raws)
        .bind(&self.documents)
        .bind(&self.sealed_documents)
        .bind(&self.keys)
        .bind(&self.patients)
        .bind(&self.demographics)
        .bind(&self.accessions)
        .bind(bytes(|it| Some(it.arrival.answers.first.as_deref().unwrap_or_default())))
        .bind(column(|it| &it.arrival.acknowledgement_code))
        .bind(problems)
        .bind(bytes(|it| it.arrival.answers.application.as_deref()))
        .bind(&self.kinds)
        .bind(&self.events)
        .bind(&self.bodies)
        .fetch_all(connection)
        .await?;
        Ok(places)
    }
}
