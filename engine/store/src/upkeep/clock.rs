//! The database's clock, which all that waits for its time is measured by; and what becomes of that if the
//! clock jumps.

use domain::{Action, Event, Subject};
use serde_json::json;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::error::{Error, Result};
use crate::trail::append::body_of;
use contracts::StoreError;

/// The first half of the keys of events that tell of jumps; the other half is what the clock last said.
const JUMPS: u64 = 0x1D0C_10CC_0000_8000;

/// All that waits for its time, or is measured from a time just gone by: what the clock last said, and by how
/// many microseconds it has jumped. In the order in which intake and runs take their locks: studies by name, a study before
/// its associations, a run before its nodes and deliveries. A database whose clock jumps back finds out late that two wait
/// for each other.
const WAITING: &[&str] = &[
    "update study set look_at = shifted_time(look_at, $1, $2, 'timer'),
        first_received = shifted_time(first_received, $1, $2, 'fact'),
        last_received = shifted_time(last_received, $1, $2, 'fact')
     where uid in (select uid from study where look_at is not null order by uid for no key update)",
    "update study_association
     set ended_at = shifted_time(ended_at, $1, $2, 'fact')
     where study in (select uid from study where look_at is not null)",
    "update run set due_at = shifted_time(due_at, $1, $2, 'deadline')
     where status = 'running'",
    "update node set run_after = shifted_time(run_after, $1, $2, 'timer'),
        lease_until = shifted_time(lease_until, $1, $2, 'timer'),
        due_at = shifted_time(due_at, $1, $2, 'deadline')
     where state in ('waiting', 'ready', 'running', 'in_review')",
    "update delivery set run_after = shifted_time(run_after, $1, $2, 'timer'),
        lease_until = shifted_time(lease_until, $1, $2, 'timer')
     where state in ('queued', 'sending')",
    "update delivery set ended_at = shifted_time(ended_at, $1, $2, 'fact')
     where state = 'promised'",
    "update commitment set run_after = shifted_time(run_after, $1, $2, 'timer'),
        lease_until = shifted_time(lease_until, $1, $2, 'timer')
     where state in ('asked', 'checked')",
    "update destination_state
     set open_until = shifted_time(open_until, $1, $2, 'timer')",
    "update review_lock set until = shifted_time(until, $1, $2, 'timer')",
];

impl PgStore {
    /// What the clock says, in microseconds since 1970.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn clock(&self) -> std::result::Result<i64, StoreError> {
        let now = sqlx::query_scalar("select micros(clock_timestamp())").fetch_one(&self.pool);
        Ok(now.await.map_err(Error::from)?)
    }

    /// Moves what waits for its time by as much as the clock has jumped since it said `last`, and puts that on
    /// record; once, however often it is asked. Both are in microseconds.
    ///
    /// # Errors
    ///
    /// Fails if the database does. Nothing was moved.
    pub async fn clock_jumped(&self, last: i64, by: i64) -> std::result::Result<(), StoreError> {
        Ok(self.move_times(last, by).await?)
    }

    async fn move_times(&self, last: i64, by: i64) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        // The answer of an earlier try may have been lost.
        let event = Uuid::from_u64_pair(JUMPS, last.unsigned_abs());
        let known = sqlx::query_scalar("select exists (select from audit.event where id = $1)");
        if known.bind(event).fetch_one(&mut *tx).await? {
            return Ok(());
        }
        for statement in WAITING {
            sqlx::query(*statement).bind(last).bind(by).execute(&mut *tx).await?;
        }
        let detail = json!({"milliseconds": by / 1000});
        let body = Event::engine("clock_jumped", Action::E, Subject::default(), detail);
        sqlx::query("select audit.append($1, $2)")
            .bind(event)
            .bind(body_of(&body)?)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}
