//! The clock of the database, which measures every timer, lease and deadline, and what follows when
//! it jumps.

use domain::event::ClockJumped;
use domain::{Event, Subject};
use uuid::Uuid;

use crate::database::pg_store::{PgStore, commit};
use crate::error::{Error, Result, StoreResult};
use crate::trail::append::append_with_id;

/// The first half of the keys of events that report jumps. The other half is the time before the
/// jump: the same jump has the same key.
const JUMP_EVENT_KEY: u64 = 0x1D0C_10CC_0000_8000;

/// The statements that shift every timer, deadline and recent time that timers are measured from.
/// `$1` is the time before the jump, `$2` the size of the jump, both in microseconds.
///
/// They lock in the same order as intake and runs: studies by name, a study before its
/// associations, a run before its nodes and deliveries. Otherwise two transactions could deadlock,
/// which a database whose clock has jumped back would find out late.
const SHIFTS: &[&str] = &[
    "update study set decide_at = shifted_time(decide_at, $1, $2, 'timer'),
        first_received = shifted_time(first_received, $1, $2, 'fact'),
        last_received = shifted_time(last_received, $1, $2, 'fact')
     where uid in (select uid from study where decide_at is not null order by uid for no key update)",
    "update study_association
     set ended_at = shifted_time(ended_at, $1, $2, 'fact')
     where study in (select uid from study where decide_at is not null)",
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
     where state = 'awaiting_commitment'",
    "update commitment set run_after = shifted_time(run_after, $1, $2, 'timer'),
        lease_until = shifted_time(lease_until, $1, $2, 'timer')
     where state in ('asked', 'checked')",
    "update destination_state
     set open_until = shifted_time(open_until, $1, $2, 'timer')",
    "update review_lock set until = shifted_time(until, $1, $2, 'timer')",
];

impl PgStore {
    /// The time of the database, in microseconds since 1970 in UTC.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn clock(&self) -> StoreResult<i64> {
        let now = sqlx::query_scalar("select micros(clock_timestamp())").fetch_one(&self.pool);
        Ok(now.await.map_err(Error::from)?)
    }

    /// Shifts all timers by as much as the clock has jumped since it showed `last`, and reports the
    /// jump. Calling it again for the same jump changes nothing. Both are in microseconds.
    ///
    /// # Errors
    ///
    /// Fails if the database does. Nothing was shifted.
    pub async fn clock_jumped(&self, last: i64, by: i64) -> StoreResult<()> {
        Ok(self.shift_times(last, by).await?)
    }

    async fn shift_times(&self, last: i64, by: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        // An earlier call may have succeeded without its caller learning of it.
        let event = Uuid::from_u64_pair(JUMP_EVENT_KEY, last.unsigned_abs());
        let known = sqlx::query_scalar("select exists (select from audit.event where id = $1)");
        if known.bind(event).fetch_one(&mut *tx).await? {
            return Ok(());
        }
        for statement in SHIFTS {
            sqlx::query(*statement).bind(last).bind(by).execute(&mut *tx).await?;
        }
        let body = ClockJumped { milliseconds: by / 1000 };
        append_with_id(&mut tx, event, &Event::new(Subject::default(), body)).await?;
        commit(tx).await
    }
}
