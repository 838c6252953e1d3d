//! Instances that wait at the same time are kept together: one question, one transaction, and one flush
//! of the database's log for all of them. Who waits alone is a group of one.
//!
//! What can be kept so is decided by `keep_together` (migration 0013): new instances of a series that is
//! known and says the same. All else goes its own way (`intake::keep_alone`).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use contracts::{InstanceRecord, Kept, StoreError};
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::IdentityDomains;
use crate::error::Result;
use crate::event::body_of;
use crate::intake::{event_of, keep_alone};

/// Most instances of one transaction: it holds the rows of their studies until it ends.
const GROUP_MAX: usize = 64;

/// How many may wait to be taken into a group. Who comes then waits for a place.
const WAITING_MAX: usize = 256;

/// Groups that are made at once. A study is always of the same lane, so that no lane waits for another.
const LANES: u64 = 2;

/// An instance, and who waits for it.
struct Waiting {
    record: InstanceRecord,
    answer: oneshot::Sender<std::result::Result<Kept, StoreError>>,
}

/// The ways to where groups are made.
pub(crate) struct Groups(Vec<mpsc::Sender<Waiting>>);

impl Groups {
    /// Begins to make groups, until this is dropped.
    pub(crate) fn begin(pool: &PgPool, domains: &IdentityDomains) -> Self {
        let lane = |_| {
            let (to, from) = mpsc::channel(WAITING_MAX);
            let (pool, domains) = (pool.clone(), domains.clone());
            tokio::spawn(Lane { pool, domains, held: None }.work(from));
            to
        };
        Self((0..LANES).map(lane).collect())
    }

    /// Keeps an instance, and says so once it is committed.
    pub(crate) async fn keep(
        &self,
        record: InstanceRecord,
    ) -> std::result::Result<Kept, StoreError> {
        let ended = || StoreError::Database("the store is being closed".into());
        let mut hasher = DefaultHasher::new();
        record.study.hash(&mut hasher);
        let lane = usize::try_from(hasher.finish() % LANES).unwrap_or_default();
        let lane = self.0.get(lane).ok_or_else(ended)?;
        let (answer, answered) = oneshot::channel();
        lane.send(Waiting { record, answer }).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

/// Where groups are made, one after the other.
struct Lane {
    pool: PgPool,
    domains: IdentityDomains,
    /// The connection of the last group, if it is still good.
    held: Option<PoolConnection<Postgres>>,
}

impl Lane {
    async fn work(mut self, mut from: mpsc::Receiver<Waiting>) {
        let mut group = Vec::new();
        // Who closes the pool waits for the connection that is held here.
        let mut closed = self.pool.close_event();
        loop {
            tokio::select! {
                biased;
                count = from.recv_many(&mut group, GROUP_MAX) => if count == 0 { return },
                () = &mut closed => return,
            }
            self.keep_group(std::mem::take(&mut group)).await;
        }
    }

    async fn keep_group(&mut self, group: Vec<Waiting>) {
        let records: Vec<&InstanceRecord> = group.iter().map(|it| &it.record).collect();
        // If one of them is to blame, or the connection has ended, each is tried on its own.
        let together = self.keep_together(&records).await.unwrap_or_default();
        for (place, waiting) in (1..).zip(group) {
            let kept = if together.contains(&place) {
                Ok(Kept::New)
            } else {
                let kept = keep_alone(&self.pool, &self.domains, &waiting.record).await;
                kept.map_err(StoreError::from)
            };
            // Who is gone has no use for the answer; what it sent is kept.
            _ = waiting.answer.send(kept);
        }
    }

    /// Keeps those that can be kept together, and gives their places, the first of which is 1.
    async fn keep_together(&mut self, records: &[&InstanceRecord]) -> Result<Vec<i64>> {
        let mut connection = match self.held.take() {
            Some(connection) => connection,
            None => self.pool.acquire().await?,
        };
        let column = |of: fn(&InstanceRecord) -> &str| -> Vec<&str> {
            records.iter().map(|it| of(it)).collect()
        };
        let names = records.iter().map(|it| it.patient.as_ref().map(|it| self.domains.key(it)));
        let (values, issuers): (Vec<Option<String>>, Vec<Option<String>>) =
            names.map(Option::unzip).unzip();
        let flags: Vec<serde_json::Value> =
            records.iter().map(|it| it.quality_flags.clone().into()).collect();
        let bytes: Vec<i64> =
            records.iter().map(|it| i64::try_from(it.bytes).unwrap_or(i64::MAX)).collect();
        let own: Vec<bool> = records.iter().map(|it| it.is_own).collect();
        let associations: Vec<Uuid> = records.iter().map(|it| it.arrival.association).collect();
        let ids: Vec<Uuid> = records.iter().map(|_| Uuid::now_v7()).collect();
        // Of whom they are, the database knows.
        let bodies = records.iter().map(|it| body_of(&event_of(it, None, Kept::New)));
        let bodies = bodies.collect::<Result<Vec<_>>>()?;
        let places = sqlx::query_scalar(
            "select keep_together($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                $16, $17)",
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
        .bind(own)
        .bind(associations)
        .bind(column(|it| &it.modality))
        .bind(column(|it| &it.frame_of_reference))
        .bind(values)
        .bind(issuers)
        .bind(ids)
        .bind(bodies)
        .fetch_all(&mut *connection)
        .await?;
        self.held = Some(connection);
        Ok(places)
    }
}
