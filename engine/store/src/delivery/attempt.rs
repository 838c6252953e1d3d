//! The end of an attempt: the state of the delivery, of its destination, and what follows.

use std::time::Duration;

use contracts::{Block, ClaimedDelivery, DeliveryEnd, NewTask, Output, WorkKind};
use domain::event::{
    Delivered, DeliveryAttempt, DeliveryBlocked, DeliveryFailed, DeliveryOutcome,
    DeliveryPostponed, DeliveryPromised, IdentityChangedAfterDelivery, OrderLinkedAfterDelivery,
};
use domain::{Action, BlockReason, DeliveryState, Event, Outcome, Subject, TaskKind};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::wakeups::notify;
use crate::delivery::compose::{Composed, composed_in_tx, omissions, version_of};
use crate::delivery::sent::{self, SentOutputs};
use crate::delivery::{commitment_answer, destination, view};
use crate::error::Result;
use crate::run::task;
use crate::trail::append::append;
use crate::vault::keys::Keys;
use crate::vault::payload;

/// Ends an attempt.
pub(crate) async fn finish_in_tx(
    tx: &mut PgConnection,
    keys: &Keys,
    delivery: &ClaimedDelivery,
    end: &DeliveryEnd,
) -> Result<()> {
    // Locks the run before the delivery, as changes of the run do: a decision that a person makes
    // meanwhile is either seen here, or finds the delivery ended.
    sqlx::query("select 1 from run where id = $1 for share")
        .bind(delivery.run)
        .execute(&mut *tx)
        .await?;
    let composed = composed_in_tx(tx, delivery).await?;
    write_state(tx, delivery, end, &composed).await?;
    if let DeliveryEnd::Blocked(block) = end
        && block.by == BlockReason::SignedResult
        && !view::of(tx, keys, delivery).await?.is_proposal()
    {
        // It was signed, or the result before it withdrawn, since it was composed.
        requeue(tx, delivery).await?;
    }
    let subject = view::subject(tx, delivery).await?;
    append(tx, &event_of(subject.clone(), delivery.attempt, end)).await?;
    destination::note_attempt(tx, &delivery.destination, end).await?;
    if let DeliveryEnd::Failed { reason, .. } = end {
        let reason = format!("{}: {reason}", delivery.destination);
        task::open(tx, &NewTask { kind: TaskKind::DeliveryFailed, subject, reason }).await?;
    }
    if *end == DeliveryEnd::AwaitingCommitment {
        // The answer may have arrived before the attempt ended.
        commitment_answer::settle(tx, &delivery.transaction).await?;
    }
    if matches!(end, DeliveryEnd::Delivered | DeliveryEnd::AwaitingCommitment) {
        note_arrival(tx, keys, delivery, composed).await?;
    }
    notify(tx, WorkKind::Delivery).await
}

/// What people are told of a delivery that arrived and names no patient.
const WITHOUT_PATIENT: &str = "its study or message names no patient";

/// The columns that an end changes.
struct EndColumns<'a> {
    state: DeliveryState,
    reason: &'a str,
    /// How long the delivery waits for its next attempt.
    wait: Duration,
    block: Option<&'a Block>,
}

impl<'a> EndColumns<'a> {
    const fn new(state: DeliveryState, reason: &'a str) -> Self {
        Self { state, reason, wait: Duration::ZERO, block: None }
    }

    fn of(end: &'a DeliveryEnd) -> Self {
        match end {
            DeliveryEnd::Delivered => Self::new(DeliveryState::Delivered, ""),
            DeliveryEnd::AwaitingCommitment => {
                let reason = "accepted; waits for storage commitment";
                Self::new(DeliveryState::AwaitingCommitment, reason)
            }
            DeliveryEnd::Again { reason, after, .. } => {
                Self { wait: *after, ..Self::new(DeliveryState::Queued, reason) }
            }
            DeliveryEnd::Failed { reason, .. } => Self::new(DeliveryState::Failed, reason),
            DeliveryEnd::Blocked(block) => {
                Self { block: Some(block), ..Self::new(DeliveryState::Blocked, &block.reason) }
            }
        }
    }
}

/// What people are told of a delivery that arrived; empty if nothing.
async fn remark_of(tx: &mut PgConnection, run: Uuid, composed: &Composed) -> Result<String> {
    let mut remarks = Vec::new();
    if composed.is_without_patient() {
        remarks.push(WITHOUT_PATIENT.to_owned());
    }
    if let Some(payload) = composed.payload {
        remarks.push(omissions(tx, run, payload).await?);
    }
    remarks.retain(|it| !it.is_empty());
    Ok(remarks.join("; "))
}

async fn write_state(
    tx: &mut PgConnection,
    delivery: &ClaimedDelivery,
    end: &DeliveryEnd,
    composed: &Composed,
) -> Result<()> {
    let remark;
    let mut columns = EndColumns::of(end);
    if columns.state == DeliveryState::Delivered {
        remark = remark_of(tx, delivery.run, composed).await?;
        columns.reason = &remark;
    }
    sqlx::query(
        "update delivery set state = $2, reason = $3, blocked_by = $5, lease_until = null,
            run_after = clock_timestamp() + $4 * interval '1 second',
            ended_at = case when $2 = 'queued' then null else clock_timestamp() end
         where id = $1",
    )
    .bind(delivery.id)
    .bind(columns.state.name())
    .bind(columns.reason.replace('\0', ""))
    .bind(columns.wait.as_secs_f64())
    .bind(columns.block.map(|it| it.by.name()))
    .execute(tx)
    .await?;
    Ok(())
}

/// The event that reports the end of an attempt. What a destination answers may name a patient: the
/// reason stays in the row, which can be erased.
fn event_of(subject: Subject, attempt: i32, end: &DeliveryEnd) -> Event {
    let outcome = DeliveryOutcome { attempt: Some(attempt), commitment: None };
    match end {
        DeliveryEnd::Delivered => Event::new(subject, Delivered(outcome)),
        DeliveryEnd::AwaitingCommitment => {
            Event::new(subject, DeliveryPromised(DeliveryAttempt { attempt }))
        }
        DeliveryEnd::Again { .. } => {
            Event::new(subject, DeliveryPostponed(outcome)).ended(Outcome::MinorFailure)
        }
        DeliveryEnd::Failed { .. } => {
            Event::new(subject, DeliveryFailed { attempt: Some(attempt) })
                .ended(Outcome::SeriousFailure)
        }
        DeliveryEnd::Blocked(_) => {
            let body = DeliveryBlocked {
                what: None,
                reason: None,
                replaced_by: None,
                attempt: Some(attempt),
            };
            Event::new(subject, body).ended(Outcome::MinorFailure)
        }
    }
}

/// Has a delivery attempted again at once.
async fn requeue(tx: &mut PgConnection, delivery: &ClaimedDelivery) -> Result<()> {
    sqlx::query(
        "update delivery set state = 'queued', blocked_by = null, ended_at = null where id = $1",
    )
    .bind(delivery.id)
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes that a delivery was made under an identity or without an order that holds now.
async fn mark_stale(tx: &mut PgConnection, delivery: &ClaimedDelivery) -> Result<()> {
    sqlx::query("update delivery set is_stale = true where id = $1")
        .bind(delivery.id)
        .execute(tx)
        .await?;
    Ok(())
}

/// Records what the destination has now, and whether it is to get something else already.
async fn note_arrival(
    tx: &mut PgConnection,
    keys: &Keys,
    delivery: &ClaimedDelivery,
    composed: Composed,
) -> Result<()> {
    let view = view::of(tx, keys, delivery).await?;
    let missing_order = composed.missing_order(&view.orders);
    let version = composed.version.and_then(|it| u32::try_from(it).ok()).unwrap_or_default();
    if let Some(payload) = composed.payload {
        let content = payload::read_existing(tx, keys, payload).await?;
        let outputs: Vec<Output> = serde_json::from_slice(&content)?;
        let sent = SentOutputs {
            patient: view.run.patient,
            outputs: &outputs,
            acknowledged_version: Some(version),
        };
        sent::record_in_tx(tx, keys, delivery, &sent).await?;
    }
    // A reviewer has created a later version meanwhile: it is sent next.
    if version != version_of(&view) {
        requeue(tx, delivery).await?;
    }
    if let Some(order) = missing_order {
        mark_stale(tx, delivery).await?;
        let subject = view::subject(tx, delivery).await?;
        let body = OrderLinkedAfterDelivery { delivery: delivery.id, order };
        append(tx, &Event::new(subject, body)).await?;
    }
    let patient = view.patient.as_ref().map(|it| it.id);
    if composed.stamp.is_some() && composed.patient != patient {
        mark_stale(tx, delivery).await?;
        let subject = view::subject(tx, delivery).await?;
        let body = IdentityChangedAfterDelivery { delivery: None };
        append(tx, &Event::new(subject, body).with_action(Action::E)).await?;
    }
    Ok(())
}
