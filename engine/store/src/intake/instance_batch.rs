//! Instances in batches: one call of a database function for all that wait at the same time.
//!
//! The function `instance_batch_insert` (migrations/functions) inserts new instances of a series
//! that is stored and agrees with them. All others are left to [`instance::insert_one`].

use std::sync::Arc;

use contracts::{InstanceOutcome, InstanceRecord, WorkKind};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::error::Result;
use crate::intake::batcher::BatchInsert;
use crate::intake::instance;
use crate::patient::identity::{IdentityDomains, IdentityKey};
use crate::trail::append::body_of;

/// Inserts instances.
#[derive(Clone)]
pub(crate) struct InstanceInsert {
    pub(crate) store: Arc<PgStore>,
    pub(crate) domains: IdentityDomains,
}

impl BatchInsert for InstanceInsert {
    type Record = InstanceRecord;
    type Outcome = InstanceOutcome;

    const INSERTED: InstanceOutcome = InstanceOutcome::New;

    fn sender(record: &InstanceRecord) -> Option<Uuid> {
        Some(record.arrival.association)
    }

    async fn insert_batch(
        &self,
        connection: &mut PgConnection,
        records: &[&InstanceRecord],
    ) -> Result<Vec<i64>> {
        let columns = Columns::of(records, &self.domains)?;
        let positions = sqlx::query_scalar(
            "select instance_batch_insert($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                $16, $17, $18)",
        )
        .bind(text_column(records, |it| &it.study))
        .bind(text_column(records, |it| &it.series))
        .bind(text_column(records, |it| &it.instance))
        .bind(text_column(records, |it| &it.sha256))
        .bind(text_column(records, |it| it.sop_class.as_str()))
        .bind(text_column(records, |it| &it.arrival.transfer_syntax))
        .bind(columns.bytes)
        .bind(text_column(records, |it| &it.arrival.calling_ae))
        .bind(columns.flags)
        .bind(columns.has_identity_conflict)
        .bind(columns.is_own)
        .bind(columns.associations)
        .bind(text_column(records, |it| &it.modality))
        .bind(text_column(records, |it| &it.frame_of_reference))
        .bind(columns.identifier_values)
        .bind(columns.identifier_issuers)
        .bind(columns.event_ids)
        .bind(columns.event_bodies)
        .fetch_all(connection)
        .await?;
        Ok(positions)
    }

    async fn insert_one(&self, record: &InstanceRecord) -> Result<InstanceOutcome> {
        let outcome = instance::insert_one(&self.store, &self.domains, record).await?;
        self.store.wakeups.wake(WorkKind::Assembly);
        Ok(outcome)
    }
}

fn text_column<'a>(
    records: &[&'a InstanceRecord],
    field: fn(&InstanceRecord) -> &str,
) -> Vec<&'a str> {
    records.iter().copied().map(field).collect()
}

/// The columns of a batch that are not plain text: one entry for each record.
#[derive(Default)]
struct Columns {
    bytes: Vec<i64>,
    flags: Vec<serde_json::Value>,
    has_identity_conflict: Vec<bool>,
    is_own: Vec<bool>,
    associations: Vec<Uuid>,
    identifier_values: Vec<Option<String>>,
    identifier_issuers: Vec<Option<String>>,
    event_ids: Vec<Uuid>,
    event_bodies: Vec<serde_json::Value>,
}

impl Columns {
    fn of(records: &[&InstanceRecord], domains: &IdentityDomains) -> Result<Self> {
        let mut columns = Self::default();
        for record in records {
            let identifier = record.patient.as_ref();
            let domains = domains.of(instance::sender(record));
            let identifier = identifier.map(|it| domains.key(it));
            let (value, issuer) =
                identifier.map(|IdentityKey { value, issuer }| (value, issuer)).unzip();
            // The database function adds the patient to the event: it alone knows the root.
            let flags = &record.quality_flags;
            let event = instance::event_of(record, None, &InstanceOutcome::New, flags);
            columns.bytes.push(i64::try_from(record.bytes).unwrap_or(i64::MAX));
            let has_conflict = record.quality_flags.iter().any(|it| it.is_identity_conflict());
            columns.flags.push(serde_json::to_value(&record.quality_flags)?);
            columns.has_identity_conflict.push(has_conflict);
            columns.is_own.push(record.is_own);
            columns.associations.push(record.arrival.association);
            columns.identifier_values.push(value);
            columns.identifier_issuers.push(issuer);
            columns.event_ids.push(Uuid::now_v7());
            columns.event_bodies.push(body_of(&event)?);
        }
        Ok(columns)
    }
}
