//! Answers of a PACS to our own requests for storage commitment (DIN-34).
//!
//! An answer may arrive before the attempt that asked for it has ended. So it is stored first, and
//! settles the delivery whenever both are there.

use std::time::Duration;

use contracts::{CommitmentResult, FailureReason, NewTask, SopReference, WorkKind};
use domain::event::{
    CommitmentAnswered, Delivered, DeliveryFailed, DeliveryOutcome, DeliveryPostponed,
};
use domain::{Actor, DeliveryState, Event, Outcome, Subject, TaskKind};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::wakeups::notify;
use crate::error::Result;
use crate::run::task;
use crate::trail::append::append;

/// Wait before a delivery that was not committed is sent again.
const RESEND_WAIT: Duration = Duration::from_mins(1);

/// Stores an answer. False if no delivery has asked for it.
pub(crate) async fn record_in_tx(
    tx: &mut PgConnection,
    result: &CommitmentResult,
    actor: Actor,
) -> Result<bool> {
    // Locked against the end of the attempt that asked: one of the two sees the other.
    let state: Option<String> =
        sqlx::query_scalar("select state from delivery where commitment = $1 for update")
            .bind(&result.transaction)
            .fetch_optional(&mut *tx)
            .await?;
    let Some(state) = state else { return Ok(false) };
    sqlx::query(
        "insert into commitment_answer (transaction_uid, failed) values ($1, $2)
         on conflict do nothing",
    )
    .bind(&result.transaction)
    .bind(serde_json::to_value(&result.failed)?)
    .execute(&mut *tx)
    .await?;
    let body = CommitmentAnswered {
        transaction: result.transaction.clone(),
        committed: result.committed.len(),
        failed: result.failed.len(),
    };
    append(tx, &Event::new(Subject::default(), body).by(actor)).await?;
    if DeliveryState::parse(&state) == Some(DeliveryState::AwaitingCommitment) {
        settle(tx, &result.transaction).await?;
    }
    Ok(true)
}

/// Ends a delivery that awaits commitment, if its answer is stored: it is delivered, or sent again.
pub(crate) async fn settle(tx: &mut PgConnection, transaction: &str) -> Result<()> {
    let failed: Option<Value> =
        sqlx::query_scalar("select failed from commitment_answer where transaction_uid = $1")
            .bind(transaction)
            .fetch_optional(&mut *tx)
            .await?;
    let Some(failed) = failed else { return Ok(()) };
    let failed: Vec<(SopReference, FailureReason)> = serde_json::from_value(failed)?;
    let is_committed = failed.is_empty();
    let row: Option<(Uuid, String)> = sqlx::query_as(
        "update delivery set reason = $3,
            state = case when $2 then 'delivered' else 'queued' end,
            run_after = clock_timestamp() + case when $2 then 0 else $4 end * interval '1 second',
            ended_at = case when $2 then clock_timestamp() end
         where commitment = $1 and state = 'promised' returning run, destination",
    )
    .bind(transaction)
    .bind(is_committed)
    .bind(reason_of(&failed))
    .bind(RESEND_WAIT.as_secs_f64())
    .fetch_optional(&mut *tx)
    .await?;
    let Some((run, destination)) = row else { return Ok(()) };
    let subject = Subject { run: Some(run), destination: Some(destination), ..Subject::default() };
    let outcome = DeliveryOutcome { attempt: None, commitment: Some(transaction.to_owned()) };
    let event = if is_committed {
        Event::new(subject, Delivered(outcome))
    } else {
        Event::new(subject, DeliveryPostponed(outcome)).ended(Outcome::MinorFailure)
    };
    append(tx, &event).await?;
    notify(tx, WorkKind::Delivery).await
}

/// The failure reasons (0008,1197) as a sentence; empty if there are none.
fn reason_of(failed: &[(SopReference, FailureReason)]) -> String {
    if failed.is_empty() {
        return String::new();
    }
    let codes: Vec<String> = failed.iter().map(|(_, it)| format!("{:#06x}", it.0)).collect();
    format!("the destination did not commit: {}", codes.join(", "))
}

/// Fails deliveries that a destination has accepted and not committed in time, and opens a task for
/// each. Returns their number.
pub(crate) async fn expire_in_tx(tx: &mut PgConnection, wait_max: Duration) -> Result<u64> {
    let rows: Vec<(Uuid, String)> = sqlx::query_as(
        "update delivery set state = 'failed', ended_at = clock_timestamp(),
            reason = 'the destination took it and did not confirm storage commitment in time'
         where state = 'promised' and ended_at < clock_timestamp() - $1 * interval '1 second'
         returning run, destination",
    )
    .bind(wait_max.as_secs_f64())
    .fetch_all(&mut *tx)
    .await?;
    for (run, destination) in &rows {
        let subject = Subject {
            run: Some(*run),
            destination: Some(destination.clone()),
            ..Subject::default()
        };
        let event = Event::new(subject.clone(), DeliveryFailed { attempt: None });
        append(tx, &event.ended(Outcome::SeriousFailure)).await?;
        let reason = format!("{destination} took a report and did not confirm it");
        let kind = TaskKind::CommitmentMissing;
        task::open(tx, &NewTask { kind, subject, reason }).await?;
    }
    Ok(rows.len() as u64)
}
