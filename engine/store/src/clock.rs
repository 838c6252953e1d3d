//! The database's clock, which all that waits for its time is measured by; and what becomes of that if the
//! clock jumps.

use domain::{Action, Event, Subject};
use serde_json::json;

use crate::PgStore;
use crate::error::{Error, Result};
use crate::event::append;
use contracts::StoreError;

/// All that waits for its time, or is measured from a time just gone by: what the clock last said, and by how
/// many microseconds it has jumped.
const WAITING: &[&str] = &[
    "update study set look_at = moved(look_at, at_micros($1), $2 * interval '1 us', true),
        first_received = moved(first_received, at_micros($1), $2 * interval '1 us', false),
        last_received = moved(last_received, at_micros($1), $2 * interval '1 us', false)
     where look_at is not null",
    "update study_association set ended_at = moved(ended_at, at_micros($1), $2 * interval '1 us', false)
     where study in (select uid from study where look_at is not null)",
    "update node set run_after = moved(run_after, at_micros($1), $2 * interval '1 us', true),
        lease_until = moved(lease_until, at_micros($1), $2 * interval '1 us', true),
        due_at = moved(due_at, at_micros($1), $2 * interval '1 us', true)
     where state in ('waiting', 'ready', 'running', 'in_review')",
    "update run set due_at = moved(due_at, at_micros($1), $2 * interval '1 us', true)
     where status = 'running'",
    "update delivery set run_after = moved(run_after, at_micros($1), $2 * interval '1 us', true),
        lease_until = moved(lease_until, at_micros($1), $2 * interval '1 us', true)
     where state in ('queued', 'sending')",
    "update commitment set run_after = moved(run_after, at_micros($1), $2 * interval '1 us', true),
        lease_until = moved(lease_until, at_micros($1), $2 * interval '1 us', true)
     where state in ('asked', 'checked')",
    "update destination_state
     set open_until = moved(open_until, at_micros($1), $2 * interval '1 us', true)",
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

    /// Moves all that waits for its time by as much as the clock has jumped since it said `last`, so that it
    /// waits neither longer nor shorter, and puts that on record. Both are in microseconds.
    ///
    /// # Errors
    ///
    /// Fails if the database does. Nothing was moved.
    pub async fn clock_jumped(&self, last: i64, by: i64) -> std::result::Result<(), StoreError> {
        Ok(self.move_times(last, by).await?)
    }

    async fn move_times(&self, last: i64, by: i64) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        for statement in WAITING {
            sqlx::query(*statement).bind(last).bind(by).execute(&mut *tx).await?;
        }
        let detail = json!({"milliseconds": by / 1000});
        append(&mut tx, &Event::engine("clock_jumped", Action::E, Subject::default(), detail))
            .await?;
        tx.commit().await?;
        Ok(())
    }
}
