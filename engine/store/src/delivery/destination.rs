//! How destinations fare: paused by a person, or resting after repeated failures (circuit breaker).

use contracts::{AtFault, DeliveryEnd, WorkKind};
use domain::event::{DestinationBack, DestinationPaused, DestinationRests, DestinationResumed};
use domain::{Action, Actor, Event, Outcome, Subject};
use serde::Serialize;
use sqlx::PgConnection;

use crate::database::pg_store::{PgStore, commit};
use crate::database::wakeups::notify;
use crate::error::{Error, Result, StoreResult};
use crate::trail::append::append;

/// Number of failures in a row after which a destination rests.
const FAILURES_MAX: i32 = 5;

/// The `paused_by` of a destination that the engine paused, as its configuration states.
const PAUSED_BY_ENGINE: &str = "on_error: block";

/// First rest, in seconds. Each further one is twice as long.
const REST_SECONDS_MIN: f64 = 15.0;

/// Upper bound of a rest, in seconds.
pub(crate) const REST_SECONDS_MAX: f64 = 300.0;

/// A destination in a list.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct DestinationLine {
    /// Its name.
    pub name: String,
    /// `working`, `resting` (it failed several times), `paused`.
    pub state: String,
    /// The person who paused it.
    pub paused_by: Option<String>,
    /// Number of failures in a row.
    pub failures: i32,
    /// The last error.
    pub last_error: String,
    /// When it accepted a delivery last, in UTC (RFC 3339).
    pub last_ok: Option<String>,
    /// Number of deliveries in the queue.
    pub waiting: i64,
    /// Number of deliveries that failed for good.
    pub failed: i64,
}

impl PgStore {
    /// All destinations that ever had a delivery, or that somebody paused.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn destinations(&self) -> StoreResult<Vec<DestinationLine>> {
        let rows = sqlx::query_as(
            "select n.name, case when s.is_paused then 'paused'
                    when not is_due(s.open_until, $1) then 'resting' else 'working' end as state,
                s.paused_by, coalesce(s.failures, 0) as failures,
                coalesce(s.last_error, '') as last_error,
                to_char(s.last_ok at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as last_ok,
                count(d.id) filter (where d.state in ('queued', 'sending', 'awaiting_commitment')) as waiting,
                count(d.id) filter (where d.state = 'failed') as failed
             from (select name from destination_state
                    union select distinct destination from delivery) n
                left join destination_state s on s.name = n.name
                left join delivery d on d.destination = n.name
             group by n.name, s.name order by n.name",
        )
        .bind(REST_SECONDS_MAX);
        Ok(rows.fetch_all(&self.pool).await.map_err(Error::from)?)
    }

    /// Pauses a destination, or resumes it. False if nothing changes.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn pause_destination(
        &self,
        name: &str,
        is_paused: bool,
        actor: Actor,
    ) -> StoreResult<bool> {
        let mut tx = self.begin().await?;
        let is_changed = pause_in_tx(&mut tx, name, is_paused, actor).await?;
        commit(tx).await?;
        Ok(is_changed)
    }
}

async fn pause_in_tx(
    tx: &mut PgConnection,
    name: &str,
    is_paused: bool,
    actor: Actor,
) -> Result<bool> {
    sqlx::query("insert into destination_state (name) values ($1) on conflict do nothing")
        .bind(name)
        .execute(&mut *tx)
        .await?;
    let changed = sqlx::query(
        "update destination_state set is_paused = $2, open_until = null, failures = 0,
            paused_by = case when $2 then $3 end
         where name = $1 and (is_paused <> $2 or (not $2 and open_until is not null))",
    )
    .bind(name)
    .bind(is_paused)
    .bind(&actor.id)
    .execute(&mut *tx)
    .await?;
    if changed.rows_affected() == 0 {
        return Ok(false);
    }
    let event = if is_paused {
        Event::new(subject(name), DestinationPaused {})
    } else {
        Event::new(subject(name), DestinationResumed {})
    };
    append(tx, &event.by(actor)).await?;
    notify(tx, WorkKind::Delivery).await?;
    Ok(true)
}

fn subject(name: &str) -> Subject {
    Subject { destination: Some(name.to_owned()), ..Subject::default() }
}

/// Notes the end of an attempt: a success, another failure in a row, or a pause.
pub(crate) async fn note_attempt(
    tx: &mut PgConnection,
    name: &str,
    end: &DeliveryEnd,
) -> Result<()> {
    match end {
        DeliveryEnd::Delivered | DeliveryEnd::AwaitingCommitment => note_success(tx, name).await,
        DeliveryEnd::Again { reason, at_fault: AtFault::Destination, .. } => {
            note_failure(tx, name, reason).await
        }
        DeliveryEnd::Failed { reason, pauses: true } => pause_after(tx, name, reason).await,
        // Nothing was asked of the destination; or it answered, and its refusal of this delivery
        // says nothing of the next one.
        DeliveryEnd::Again { at_fault: AtFault::Engine, .. }
        | DeliveryEnd::Failed { pauses: false, .. }
        | DeliveryEnd::Blocked(_) => Ok(()),
    }
}

async fn note_success(tx: &mut PgConnection, name: &str) -> Result<()> {
    let failures_before: i32 = sqlx::query_scalar(
        "insert into destination_state (name, last_ok) values ($1, clock_timestamp())
         on conflict (name) do update set last_ok = excluded.last_ok, failures = 0,
            open_until = null, last_error = ''
         returning coalesce((select failures from destination_state where name = $1), 0)",
    )
    .bind(name)
    .fetch_one(&mut *tx)
    .await?;
    if failures_before >= FAILURES_MAX {
        append(tx, &Event::new(subject(name), DestinationBack {})).await?;
    }
    Ok(())
}

async fn note_failure(tx: &mut PgConnection, name: &str, reason: &str) -> Result<()> {
    let failures: i32 = sqlx::query_scalar(
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
    .bind(REST_SECONDS_MIN)
    .bind(REST_SECONDS_MAX)
    .fetch_one(&mut *tx)
    .await?;
    if failures == FAILURES_MAX {
        let event = Event::new(subject(name), DestinationRests {});
        append(tx, &event.ended(Outcome::SeriousFailure)).await?;
    }
    Ok(())
}

async fn pause_after(tx: &mut PgConnection, name: &str, reason: &str) -> Result<()> {
    sqlx::query(
        "insert into destination_state (name, is_paused, paused_by, last_error)
            values ($1, true, $2, $3)
         on conflict (name) do update set is_paused = true, paused_by = $2, last_error = $3",
    )
    .bind(name)
    .bind(PAUSED_BY_ENGINE)
    .bind(reason.replace('\0', ""))
    .execute(&mut *tx)
    .await?;
    let event = Event::new(subject(name), DestinationPaused {}).with_action(Action::E);
    append(tx, &event.ended(Outcome::SeriousFailure)).await?;
    Ok(())
}
