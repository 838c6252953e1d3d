//! Instances that wait at the same time are kept together.
//!
//! What can be kept so is decided by `instance_batch_insert` (migrations/functions): new instances of a series that is
//! known and says the same. All else goes its own way (`intake::keep_alone`).

use std::sync::Arc;

use contracts::{InstanceOutcome, InstanceRecord};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::IdentityDomains;
use crate::database::wakeups::Announced;
use crate::error::Result;
use crate::intake::batcher::Keep;
use crate::intake::instance::{event_of, keep_alone};
use crate::trail::append::body_of;

/// How instances are kept.
#[derive(Clone)]
pub(crate) struct KeepInstances {
    pub(crate) pool: PgPool,
    pub(crate) domains: IdentityDomains,
    pub(crate) announced: Arc<Announced>,
}

impl Keep for KeepInstances {
    type Record = InstanceRecord;
    type Kept = InstanceOutcome;

    const NEW: InstanceOutcome = InstanceOutcome::New;

    fn sender(record: &InstanceRecord) -> Option<Uuid> {
        Some(record.arrival.association)
    }

    async fn together(
        &self,
        connection: &mut PgConnection,
        records: &[&InstanceRecord],
    ) -> Result<Vec<i64>> {
        let column = |of: fn(&InstanceRecord) -> &str| -> Vec<&str> {
            records.iter().map(|it| of(it)).collect()
        };
        let names = records.iter().map(|it| it.patient.as_ref().map(|it| self.domains.key(it)));
        let (values, issuers): (Vec<Option<String>>, Vec<Option<String>>) =
            names.map(Option::unzip).unzip();
        let flags: Vec<serde_json::Value> = records
            .iter()
            .map(|it| Ok(serde_json::to_value(&it.quality_flags)?))
            .collect::<Result<_>>()?;
        let conflicting: Vec<bool> = records
            .iter()
            .map(|it| it.quality_flags.iter().any(|it| it.is_identity_conflict()))
            .collect();
        let bytes: Vec<i64> =
            records.iter().map(|it| i64::try_from(it.bytes).unwrap_or(i64::MAX)).collect();
        let own: Vec<bool> = records.iter().map(|it| it.is_own).collect();
        let associations: Vec<Uuid> = records.iter().map(|it| it.arrival.association).collect();
        let ids: Vec<Uuid> = records.iter().map(|_| Uuid::now_v7()).collect();
        // Of whom they are, the database knows.
        let bodies = records.iter().map(|it| body_of(&event_of(it, None, InstanceOutcome::New)));
        let bodies = bodies.collect::<Result<Vec<_>>>()?;
        let places = sqlx::query_scalar(
            "select instance_batch_insert($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                $16, $17, $18)",
        )
        .bind(column(|it| &it.study))
        .bind(column(|it| &it.series))
        .bind(column(|it| &it.instance))
        .bind(column(|it| &it.sha256))
        .bind(column(|it| it.sop_class.as_str()))
        .bind(column(|it| &it.arrival.transfer_syntax))
        .bind(bytes)
        .bind(column(|it| &it.arrival.calling_ae))
        .bind(flags)
        .bind(conflicting)
        .bind(own)
        .bind(associations)
        .bind(column(|it| &it.modality))
        .bind(column(|it| &it.frame_of_reference))
        .bind(values)
        .bind(issuers)
        .bind(ids)
        .bind(bodies)
        .fetch_all(connection)
        .await?;
        Ok(places)
    }

    async fn alone(&self, record: &InstanceRecord) -> Result<InstanceOutcome> {
        let kept = keep_alone(&self.pool, &self.domains, record).await?;
        self.announced.assembly.notify_one();
        Ok(kept)
    }
}
