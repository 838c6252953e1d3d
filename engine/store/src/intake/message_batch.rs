//! Messages in batches: one call of a database function for all that wait at the same time.
//!
//! The function `message_batch_insert` (migrations/functions) inserts messages that come for the
//! first time, carry results, a document or nothing, have no flags, and name one patient who is
//! known as the message states. All others are left to [`message::insert_one`].
//!
//! Payloads are encrypted here, with the key of the patient, before the database function decides.
//! So the patient must be known beforehand: [`PatientCache`] holds those of recent messages.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contracts::{MessageEffect, MessageOutcome, MessageRecord, WorkKind};
use domain::{CorrectionSource, Demographics, PatientId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::error::Result;
use crate::intake::batcher::BatchInsert;
use crate::intake::message::{self, MessageTopic};
use crate::intake::numbering::Numbering;
use crate::patient::identity::{IdentityDomains, IdentityKey};
use crate::trail::append::body_of;
use crate::vault::keys::Keys;
use crate::vault::payload::{self, PayloadKey};

/// Upper bound of cached patients.
const CACHED_PATIENTS_MAX: usize = 1_000;

/// Inserts messages.
#[derive(Clone)]
pub(crate) struct MessageInsert {
    store: Arc<PgStore>,
    numbering: Numbering,
    patients: PatientCache,
}

impl MessageInsert {
    pub(crate) fn new(store: &Arc<PgStore>, numbering: Numbering) -> Self {
        Self { store: Arc::clone(store), numbering, patients: PatientCache::default() }
    }
}

impl BatchInsert for MessageInsert {
    type Record = MessageRecord;
    type Outcome = MessageOutcome;

    const INSERTED: MessageOutcome = MessageOutcome::New;

    fn sender(record: &MessageRecord) -> Option<Uuid> {
        record.arrival.connection
    }

    async fn insert_batch(
        &self,
        connection: &mut PgConnection,
        records: &[&MessageRecord],
    ) -> Result<Vec<i64>> {
        let candidates = candidates(records, &self.numbering.domains);
        self.patients.load(connection, &self.store.keys, &candidates).await?;
        let mut rows = Rows::default();
        for candidate in &candidates {
            if let Some(patient) = self.patients.get(&candidate.patient)
                && candidate.leaves_unchanged(&patient.demographics)
            {
                rows.push(candidate, &patient)?;
            }
        }
        if rows.positions.is_empty() {
            return Ok(Vec::new());
        }
        let inserted = rows.insert(connection).await?;
        self.store.wakeups.wake(WorkKind::Assembly);
        // The database knows more of a patient whose message it left out: the cache is outdated.
        let left_out = candidates.iter().filter(|it| !inserted.contains(&it.position));
        self.patients.remove(left_out.map(|it| &it.patient));
        Ok(inserted)
    }

    async fn insert_one(&self, record: &MessageRecord) -> Result<MessageOutcome> {
        let outcome = message::insert_one(&self.store, &self.numbering, record).await?;
        self.store.wakeups.wake(WorkKind::Assembly);
        Ok(outcome)
    }
}

/// A message that may be inserted in a batch, if its patient is known.
struct Candidate<'a> {
    /// Its place in the batch, counted from 1.
    position: i64,
    record: &'a MessageRecord,
    patient: IdentityKey,
    topic: MessageTopic,
}

impl Candidate<'_> {
    /// Whether everything it states of its patient is known already.
    fn leaves_unchanged(&self, current: &Demographics) -> bool {
        self.record.arrival.effects.iter().all(|effect| match effect {
            MessageEffect::Patient { demographics, .. } => {
                current.clone().changed(demographics) == *current
            }
            _ => true,
        })
    }
}

/// The messages that may be inserted in a batch: one patient, one copy, an identifier of its own,
/// no flags.
fn candidates<'a>(records: &[&'a MessageRecord], domains: &IdentityDomains) -> Vec<Candidate<'a>> {
    let mut copies: HashMap<(&str, &str), usize> = HashMap::new();
    for arrival in records.iter().map(|it| &it.arrival) {
        *copies.entry((&arrival.control_id, &arrival.sha256)).or_default() += 1;
    }
    let mut candidates = Vec::new();
    for (position, record) in (1..).zip(records) {
        let arrival = &record.arrival;
        let is_single = copies.get(&(&*arrival.control_id, &*arrival.sha256)) == Some(&1);
        let patient = only_patient(&arrival.effects);
        if let Some(patient) = patient
            && is_single
            && !arrival.control_id.is_empty()
            && arrival.flags.is_empty()
        {
            let patient = domains.of(message::sender(record)).key(patient);
            let topic = MessageTopic::of(&arrival.effects, domains);
            candidates.push(Candidate { position, record, patient, topic });
        }
    }
    candidates
}

/// The patient a message is about, if it states nothing but demographics and results of them.
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

/// A patient as the database had them when they were loaded.
struct CachedPatient {
    id: Uuid,
    /// As stored: the database compares them, and so finds out whether this is outdated.
    stored_demographics: serde_json::Value,
    demographics: Demographics,
    key: PayloadKey,
}

/// Patients of recent messages. An entry may be outdated: the database inserts only messages whose
/// patient is still as the entry states.
#[derive(Clone, Default)]
struct PatientCache(Arc<Mutex<HashMap<IdentityKey, Arc<CachedPatient>>>>);

/// A row of a patient with their key.
#[derive(sqlx::FromRow)]
struct PatientRow {
    value: String,
    issuer: String,
    patient: Uuid,
    demographics: serde_json::Value,
    key: Uuid,
    wrapped: Vec<u8>,
}

impl PatientCache {
    fn locked(&self) -> MutexGuard<'_, HashMap<IdentityKey, Arc<CachedPatient>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &IdentityKey) -> Option<Arc<CachedPatient>> {
        self.locked().get(key).cloned()
    }

    fn remove<'a>(&self, keys: impl Iterator<Item = &'a IdentityKey>) {
        let mut cached = self.locked();
        for key in keys {
            cached.remove(key);
        }
    }

    /// Loads the patients of candidates that are not cached yet.
    async fn load(
        &self,
        connection: &mut PgConnection,
        keys: &Keys,
        candidates: &[Candidate<'_>],
    ) -> Result<()> {
        let missing: HashSet<&IdentityKey> =
            candidates.iter().map(|it| &it.patient).filter(|it| self.get(it).is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (values, issuers): (Vec<&str>, Vec<&str>) =
            missing.into_iter().map(|it| (it.value.as_str(), it.issuer.as_str())).unzip();
        let rows: Vec<PatientRow> = sqlx::query_as(
            "select i.value, i.issuer, p.id as patient, p.demographics, k.id as key, k.wrapped
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
        let mut loaded = HashMap::new();
        for row in rows {
            let patient = CachedPatient {
                id: row.patient,
                demographics: serde_json::from_value(row.demographics.clone())?,
                stored_demographics: row.demographics,
                key: PayloadKey::open(keys, row.key, &row.wrapped)?,
            };
            loaded.insert(IdentityKey { value: row.value, issuer: row.issuer }, Arc::new(patient));
        }
        let mut cached = self.locked();
        if cached.len() >= CACHED_PATIENTS_MAX {
            cached.clear();
        }
        cached.extend(loaded);
        Ok(())
    }
}

/// The rows of a batch, column by column: one entry for each message.
#[derive(Default)]
struct Rows<'a> {
    positions: Vec<i64>,
    records: Vec<&'a MessageRecord>,
    patients: Vec<Uuid>,
    demographics: Vec<serde_json::Value>,
    keys: Vec<Uuid>,
    raws: Vec<Uuid>,
    encrypted_raws: Vec<Vec<u8>>,
    documents: Vec<Option<Uuid>>,
    encrypted_documents: Vec<Option<Vec<u8>>>,
    accessions: Vec<String>,
    /// The source of the correction that the message may be.
    correction_sources: Vec<Option<&'static str>>,
    event_ids: Vec<Uuid>,
    event_bodies: Vec<serde_json::Value>,
}

impl<'a> Rows<'a> {
    fn push(&mut self, candidate: &Candidate<'a>, patient: &CachedPatient) -> Result<()> {
        let key = &patient.key;
        let record = candidate.record;
        let topic = &candidate.topic;
        let document = topic.document.as_ref().map(serde_json::to_vec).transpose()?;
        let encrypted = document.map(|it| payload::encrypted(key, &it)).transpose()?;
        let event = message::event_of(record, Some(patient.id), &topic.accession);
        let source = message::correction_source(record, topic);
        self.positions.push(candidate.position);
        self.records.push(record);
        self.patients.push(patient.id);
        self.demographics.push(patient.stored_demographics.clone());
        self.keys.push(key.id);
        self.raws.push(Uuid::now_v7());
        self.encrypted_raws.push(payload::encrypted(key, &record.arrival.raw)?);
        self.documents.push(encrypted.as_ref().map(|_| Uuid::now_v7()));
        self.encrypted_documents.push(encrypted);
        self.accessions.push(topic.accession.clone());
        self.correction_sources.push(source.map(CorrectionSource::name));
        self.event_ids.push(Uuid::now_v7());
        self.event_bodies.push(body_of(&event)?);
        Ok(())
    }

    fn texts(&self, field: fn(&MessageRecord) -> &str) -> Vec<&'a str> {
        self.records.iter().copied().map(field).collect()
    }

    /// Inserts the rows with one statement, and returns the positions of those that were inserted.
    async fn insert(&self, connection: &mut PgConnection) -> Result<Vec<i64>> {
        let ids: Vec<Uuid> = self.records.iter().map(|it| it.id).collect();
        let arrivals = || self.records.iter().map(|it| &it.arrival);
        let first_answers: Vec<&[u8]> =
            arrivals().map(|it| it.answers.first.as_deref().unwrap_or_default()).collect();
        let application_answers: Vec<Option<&[u8]>> =
            arrivals().map(|it| it.answers.application.as_deref()).collect();
        let problems: Vec<Option<&str>> = arrivals().map(|it| it.problem.as_deref()).collect();
        let positions = sqlx::query_scalar(
            "select message_batch_insert($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                $16, $17, $18, $19, $20, $21, $22, $23, $24)",
        )
        .bind(&self.positions)
        .bind(ids)
        .bind(self.texts(|it| &it.arrival.address))
        .bind(self.texts(|it| &it.arrival.sending_application))
        .bind(self.texts(|it| &it.arrival.sending_facility))
        .bind(self.texts(|it| &it.arrival.message_type.code))
        .bind(self.texts(|it| &it.arrival.message_type.trigger))
        .bind(self.texts(|it| &it.arrival.control_id))
        .bind(self.texts(|it| &it.arrival.sha256))
        .bind(&self.raws)
        .bind(&self.encrypted_raws)
        .bind(&self.documents)
        .bind(&self.encrypted_documents)
        .bind(&self.keys)
        .bind(&self.patients)
        .bind(&self.demographics)
        .bind(&self.accessions)
        .bind(first_answers)
        .bind(self.texts(|it| &it.arrival.acknowledgement_code))
        .bind(problems)
        .bind(application_answers)
        .bind(&self.correction_sources)
        .bind(&self.event_ids)
        .bind(&self.event_bodies)
        .fetch_all(connection)
        .await?;
        Ok(positions)
    }
}
