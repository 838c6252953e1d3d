//! The database's clock, which all that waits for its time is measured by; and what becomes of that if the
//! clock jumps.

use domain::{Action, Event, Subject};
use serde_json::json;

use crate::PgStore;
use crate::error::{Error, Result};
use crate::event::append;
use contracts::StoreError;

/// All that waits for its time, or is measured from a time just gone by. `$1` is in microseconds.
const WAITING: &[&str] = &[
    "update study set look_at = look_at + $1 * interval '1 us',
        first_received = first_received + $1 * interval '1 us',
        last_received = last_received + $1 * interval '1 us' where look_at is not null",
    "update study_association set ended_at = ended_at + $1 * interval '1 us'
     where study in (select uid from study where look_at is not null)",
    "update node set run_after = run_after + $1 * interval '1 us',
        lease_until = lease_until + $1 * interval '1 us', due_at = due_at + $1 * interval '1 us'
     where state in ('waiting', 'ready', 'running', 'in_review')",
    "update run set due_at = due_at + $1 * interval '1 us' where status = 'running'",
    "update delivery set run_after = run_after + $1 * interval '1 us',
        lease_until = lease_until + $1 * interval '1 us' where state in ('queued', 'sending')",
    "update commitment set run_after = run_after + $1 * interval '1 us',
        lease_until = lease_until + $1 * interval '1 us' where state in ('asked', 'checked')",
    "update destination_state set open_until = open_until + $1 * interval '1 us'",
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

    /// Moves all that waits for its time by as much as the clock has jumped, so that it waits neither longer
    /// nor shorter, and puts that on record.
    ///
    /// # Errors
    ///
    /// Fails if the database does. Nothing was moved.
    pub async fn clock_jumped(&self, micros: i64) -> std::result::Result<(), StoreError> {
        Ok(self.move_times(micros).await?)
    }

    async fn move_times(&self, micros: i64) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        for statement in WAITING {
            sqlx::query(*statement).bind(micros).execute(&mut *tx).await?;
        }
        let detail = json!({"milliseconds": micros / 1000});
        append(&mut tx, &Event::engine("clock_jumped", Action::E, Subject::default(), detail))
            .await?;
        tx.commit().await?;
        Ok(())
    }
}
