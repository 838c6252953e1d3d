//! How destinations fare: paused by a person, or not answering.

use contracts::{DeliveryEnd, StoreError};
use domain::{Action, Actor, Event, Outcome, Subject};
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::database::wakeups::announce;
use crate::error::{Error, Result};
use crate::trail::append::append;

/// Failures in a row after which nothing is tried for a while.
const FAILURES_MAX: i32 = 5;

/// Who paused a destination that pauses when it does not take something.
const BY_ITSELF: &str = "on_error: block";

/// First rest after that, in seconds; each further one is twice as long …
const REST_MIN: f64 = 15.0;

/// … up to this.
const REST_MAX: f64 = 300.0;

/// A destination in a list.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct DestinationLine {
    /// Its name.
    pub name: String,
    /// `working`, `resting` (it failed several times), `paused`.
    pub state: String,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Failures in a row.
    pub failures: i32,
    /// What it failed with last.
    pub last_error: String,
    /// When it took something last.
    pub last_ok: Option<String>,
    /// Deliveries that wait for it.
    pub waiting: i64,
    /// Deliveries that failed for good.
    pub failed: i64,
}

impl PgStore {
    /// All destinations that anything was ever for, or that somebody paused.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn destinations(&self) -> std::result::Result<Vec<DestinationLine>, StoreError> {
        let rows = sqlx::query_as(
            "select n.name, case when s.is_paused then 'paused'
                    when s.open_until > clock_timestamp() then 'resting' else 'working' end as state,
                s.paused_by, coalesce(s.failures, 0) as failures,
                coalesce(s.last_error, '') as last_error,
                to_char(s.last_ok at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as last_ok,
                count(d.id) filter (where d.state in ('queued', 'sending', 'promised')) as waiting,
                count(d.id) filter (where d.state = 'failed') as failed
             from (select name from destination_state
                    union select distinct destination from delivery) n
                left join destination_state s on s.name = n.name
                left join delivery d on d.destination = n.name
             group by n.name, s.name order by n.name",
        );
        Ok(rows.fetch_all(&self.pool).await.map_err(Error::from)?)
    }

    /// Sends nothing more to a destination, or goes on. False if it was so already.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn pause_destination(
        &self,
        name: &str,
        is_paused: bool,
        actor: Actor,
    ) -> std::result::Result<bool, StoreError> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        sqlx::query("insert into destination_state (name) values ($1) on conflict do nothing")
            .bind(name)
            .execute(&mut *tx)
            .await
            .map_err(Error::from)?;
        let changed = sqlx::query(
            "update destination_state set is_paused = $2, open_until = null, failures = 0,
                paused_by = case when $2 then $3 end
             where name = $1 and (is_paused <> $2 or (not $2 and open_until is not null))",
        )
        .bind(name)
        .bind(is_paused)
        .bind(&actor.id)
        .execute(&mut *tx)
        .await
        .map_err(Error::from)?;
        if changed.rows_affected() == 0 {
            return Ok(false);
        }
        let kind = if is_paused { "destination_paused" } else { "destination_resumed" };
        let subject = Subject { destination: Some(name.to_owned()), ..Subject::default() };
        append(&mut tx, &Event::engine(kind, Action::U, subject, json!({})).by(actor)).await?;
        announce(&mut tx, "delivery").await?;
        tx.commit().await.map_err(Error::from)?;
        Ok(true)
    }

    /// Sends a delivery again that failed or was made, under the same names. False if there is none.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn resend(
        &self,
        delivery: Uuid,
        actor: Actor,
    ) -> std::result::Result<bool, StoreError> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        let row: Option<(Uuid, String)> = sqlx::query_as(
            "update delivery set state = 'queued', run_after = now(), reason = 'resent by a person',
                ended_at = null, blocked_by = null
             where id = $1 and (state in ('queued', 'promised', 'failed', 'delivered')
                or (state = 'blocked' and attempt > 0)) returning run, destination",
        )
        .bind(delivery)
        .fetch_optional(&mut *tx)
        .await
        .map_err(Error::from)?;
        let Some((run, destination)) = row else { return Ok(false) };
        let (run, destination) = (Some(run), Some(destination));
        let subject = Subject { run, destination, ..Subject::default() };
        let event = Event::engine("delivery_resent", Action::E, subject, json!({})).by(actor);
        append(&mut tx, &event).await?;
        announce(&mut tx, "delivery").await?;
        tx.commit().await.map_err(Error::from)?;
        Ok(true)
    }

    /// Sends deliveries again that failed, to one destination or all. Says how many.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn resend_failed(
        &self,
        destination: Option<&str>,
        actor: Actor,
    ) -> std::result::Result<usize, StoreError> {
        let rows: Vec<(Uuid,)> = sqlx::query_as(
            "select id from delivery where state = 'failed'
                and destination = coalesce($1, destination) order by position",
        )
        .bind(destination)
        .fetch_all(&self.pool)
        .await
        .map_err(Error::from)?;
        let mut count = 0;
        for (id,) in rows {
            count += usize::from(self.resend(id, actor.clone()).await?);
        }
        Ok(count)
    }
}

/// Takes in how a try went.
pub(crate) async fn note(tx: &mut PgConnection, name: &str, end: &DeliveryEnd) -> Result<()> {
    match end {
        DeliveryEnd::Delivered | DeliveryEnd::AwaitingCommitment => {
            let (failures,): (i32,) = sqlx::query_as(
                "insert into destination_state (name, last_ok) values ($1, clock_timestamp())
                 on conflict (name) do update set last_ok = excluded.last_ok, failures = 0,
                    open_until = null, last_error = ''
                 returning coalesce((select failures from destination_state where name = $1), 0)",
            )
            .bind(name)
            .fetch_one(&mut *tx)
            .await?;
            if failures >= FAILURES_MAX {
                tell(tx, "destination_back", name, Outcome::Success).await?;
            }
        }
        DeliveryEnd::Again { reason, .. } => {
            let (failures,): (i32,) = sqlx::query_as(
                "insert into destination_state (name, failures, last_error) values ($1, 1, $2)
                 on conflict (name) do update set failures = destination_state.failures + 1,
                    last_error = excluded.last_error,
                    open_until = case when destination_state.failures + 1 >= $3
                        then clock_timestamp() + interval '1 second' * least($5,
                            $4 * power(2, least(destination_state.failures + 1 - $3, 20))) end
                 returning failures",
            )
            .bind(name)
            .bind(reason.replace('\0', ""))
            .bind(FAILURES_MAX)
            .bind(REST_MIN)
            .bind(REST_MAX)
            .fetch_one(&mut *tx)
            .await?;
            if failures == FAILURES_MAX {
                tell(tx, "destination_rests", name, Outcome::SeriousFailure).await?;
            }
        }
        DeliveryEnd::Failed { reason, pauses: true } => {
            sqlx::query(
                "insert into destination_state (name, is_paused, paused_by, last_error)
                    values ($1, true, $2, $3)
                 on conflict (name) do update set is_paused = true, paused_by = $2, last_error = $3",
            )
            .bind(name)
            .bind(BY_ITSELF)
            .bind(reason.replace('\0', ""))
            .execute(&mut *tx)
            .await?;
            tell(tx, "destination_paused", name, Outcome::SeriousFailure).await?;
        }
        // It answered: that it did not take this one says nothing of the next.
        DeliveryEnd::Failed { pauses: false, .. } | DeliveryEnd::Blocked(_) => {}
    }
    Ok(())
}

async fn tell(tx: &mut PgConnection, kind: &str, name: &str, outcome: Outcome) -> Result<()> {
    let subject = Subject { destination: Some(name.to_owned()), ..Subject::default() };
    append(tx, &Event::engine(kind, Action::E, subject, json!({})).ended(outcome)).await?;
    Ok(())
}
