//! Answers of a PACS to our own requests for storage commitment (DIN-34).
//!
//! An answer may arrive before the attempt that asked for it has ended. So it is stored first, and
//! settles the delivery whenever both are there. What is stored is how it differs from the request,
//! instance by instance.

use std::time::Duration;

use contracts::{
    CommitmentAnswer, CommitmentGap, NewTask, Output, SopReference, WorkKind, describe_gaps,
};
use domain::event::{
    CommitmentAnswered, Delivered, DeliveryFailed, DeliveryOutcome, DeliveryPostponed,
};
use domain::{Actor, DeliveryState, Event, Outcome, Subject, TaskKind};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::wakeups::notify;
use crate::delivery::compose::omissions;
use crate::error::Result;
use crate::run::task;
use crate::trail::append::append;
use crate::vault::keys::Keys;
use crate::vault::payload;

/// Wait before a delivery that was not committed is sent again.
const RESEND_WAIT: Duration = Duration::from_mins(1);

/// Attempts at a delivery that is not committed, before a person is asked.
const ATTEMPTS_MAX: i32 = 5;

/// The delivery whose attempt has asked for a commitment.
#[derive(sqlx::FromRow)]
struct AskedRow {
    state: String,
    composed: Option<Uuid>,
}

/// Stores an answer, compared with what the delivery consists of. False if no delivery has asked
/// for it.
pub(crate) async fn record_in_tx(
    tx: &mut PgConnection,
    keys: &Keys,
    answer: &CommitmentAnswer,
    actor: Actor,
) -> Result<bool> {
    let result = &answer.result;
    // Locked against the end of the attempt that asked: one of the two sees the other.
    let asked: Option<AskedRow> =
        sqlx::query_as("select state, composed from delivery where commitment = $1 for update")
            .bind(&result.transaction)
            .fetch_optional(&mut *tx)
            .await?;
    let Some(asked) = asked else { return Ok(false) };
    let requested = match asked.composed {
        Some(composed) => requested(tx, keys, composed).await?,
        None => Vec::new(),
    };
    sqlx::query(
        "insert into commitment_answer (transaction_uid, failed) values ($1, $2)
         on conflict do nothing",
    )
    .bind(&result.transaction)
    .bind(serde_json::to_value(answer.gaps(&requested))?)
    .execute(&mut *tx)
    .await?;
    let body = CommitmentAnswered {
        transaction: result.transaction.clone(),
        committed: result.committed.len(),
        failed: result.failed.len(),
    };
    append(tx, &Event::new(Subject::default(), body).by(actor)).await?;
    if DeliveryState::parse(&asked.state) == Some(DeliveryState::AwaitingCommitment) {
        settle(tx, &result.transaction).await?;
    }
    Ok(true)
}

/// The instances that the attempt asked to be committed: the composed objects. Original images
/// are requested individually.
async fn requested(
    tx: &mut PgConnection,
    keys: &Keys,
    composed: Uuid,
) -> Result<Vec<SopReference>> {
    let content = payload::read_existing(tx, keys, composed).await?;
    let outputs: Vec<Output> = serde_json::from_slice(&content)?;
    let objects = outputs.into_iter().filter(|it| it.stored.is_none());
    Ok(objects.map(|it| SopReference { sop_class: it.sop_class, sop_instance: it.id }).collect())
}

/// A delivery that awaits its commitment.
#[derive(sqlx::FromRow)]
struct AwaitingRow {
    id: Uuid,
    run: Uuid,
    destination: String,
    attempt: i32,
    composed: Option<Uuid>,
}

/// Ends a delivery that awaits commitment, if its answer is stored: it is delivered, sent again, or
/// given to a person after too many attempts.
pub(crate) async fn settle(tx: &mut PgConnection, transaction: &str) -> Result<()> {
    let gaps: Option<Value> =
        sqlx::query_scalar("select failed from commitment_answer where transaction_uid = $1")
            .bind(transaction)
            .fetch_optional(&mut *tx)
            .await?;
    let Some(gaps) = gaps else { return Ok(()) };
    let gaps: Vec<CommitmentGap> = serde_json::from_value(gaps)?;
    let row: Option<AwaitingRow> = sqlx::query_as(
        "select id, run, destination, attempt, composed from delivery
         where commitment = $1 and state = 'awaiting_commitment' for update",
    )
    .bind(transaction)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(()) };
    let state = match gaps.as_slice() {
        [] => DeliveryState::Delivered,
        _ if row.attempt < ATTEMPTS_MAX => DeliveryState::Queued,
        _ => DeliveryState::Failed,
    };
    let reason = match row.composed {
        _ if !gaps.is_empty() => describe_gaps(&gaps),
        Some(payload) => omissions(tx, row.run, payload).await?,
        None => String::new(),
    };
    sqlx::query(
        "update delivery set reason = $2, state = $3,
            run_after = clock_timestamp()
                + case when $3 = 'queued' then $4 else 0 end * interval '1 second',
            ended_at = case when $3 = 'queued' then null else clock_timestamp() end
         where id = $1",
    )
    .bind(row.id)
    .bind(&reason)
    .bind(state.name())
    .bind(RESEND_WAIT.as_secs_f64())
    .execute(&mut *tx)
    .await?;
    record_end(tx, row, state, transaction, reason).await?;
    notify(tx, WorkKind::Delivery).await
}

/// Records how a delivery that awaited commitment ended, and opens a task if it has failed.
async fn record_end(
    tx: &mut PgConnection,
    row: AwaitingRow,
    state: DeliveryState,
    transaction: &str,
    reason: String,
) -> Result<()> {
    let AwaitingRow { run, destination, attempt, .. } = row;
    let reason = format!("{destination}: {reason}");
    let subject = Subject { run: Some(run), destination: Some(destination), ..Subject::default() };
    let outcome = DeliveryOutcome { attempt: None, commitment: Some(transaction.to_owned()) };
    let event = match state {
        DeliveryState::Delivered => Event::new(subject.clone(), Delivered(outcome)),
        DeliveryState::Failed => {
            Event::new(subject.clone(), DeliveryFailed { attempt: Some(attempt) })
                .ended(Outcome::SeriousFailure)
        }
        DeliveryState::Queued
        | DeliveryState::Sending
        | DeliveryState::AwaitingCommitment
        | DeliveryState::Blocked => {
            Event::new(subject.clone(), DeliveryPostponed(outcome)).ended(Outcome::MinorFailure)
        }
    };
    append(tx, &event).await?;
    if state == DeliveryState::Failed {
        let kind = TaskKind::CommitmentMissing;
        task::open(tx, &NewTask { kind, subject, reason }).await?;
    }
    Ok(())
}

/// Fails deliveries that a destination has accepted and not committed in time, and opens a task for
/// each. Returns their number.
pub(crate) async fn expire_in_tx(tx: &mut PgConnection, wait_max: Duration) -> Result<u64> {
    let rows: Vec<(Uuid, String)> = sqlx::query_as(
        "update delivery set state = 'failed', ended_at = clock_timestamp(),
            reason = 'the destination took it and did not confirm storage commitment in time'
         where state = 'awaiting_commitment' and ended_at < clock_timestamp() - $1 * interval '1 second'
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
