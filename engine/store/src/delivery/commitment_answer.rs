//! Answers of a PACS to our own requests for storage commitment (DIN-34).

use std::time::Duration;

use contracts::{CommitmentResult, FailureReason, NewTask, SopReference};
use domain::{Action, Actor, Event, Outcome, Subject, TaskKind};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::database::pg_store::PgStore;
use crate::database::wakeups::announce;
use crate::error::Result;
use crate::run::task;
use crate::trail::append::append;

impl PgStore {
    pub(crate) async fn note_answer(
        &self,
        result: &CommitmentResult,
        actor: &Actor,
    ) -> Result<bool> {
        let mut tx = self.pool.begin().await?;
        // Locked against the end of the try that asked: one of the two sees the other.
        let known: Option<(String,)> =
            sqlx::query_as("select state from delivery where commitment = $1 for update")
                .bind(&result.transaction)
                .fetch_optional(&mut *tx)
                .await?;
        let Some((state,)) = known else { return Ok(false) };
        sqlx::query(
            "insert into commitment_answer (transaction_uid, failed) values ($1, $2)
             on conflict do nothing",
        )
        .bind(&result.transaction)
        .bind(serde_json::to_value(&result.failed)?)
        .execute(&mut *tx)
        .await?;
        let detail = json!({
            "transaction": result.transaction,
            "committed": result.committed.len(), "failed": result.failed.len(),
        });
        let event = Event::engine("commitment_answered", Action::C, Subject::default(), detail);
        append(&mut tx, &event.by(actor.clone())).await?;
        if state == "promised" {
            settle(&mut tx, &result.transaction).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    pub(crate) async fn give_up_promise_rows(&self, patience: Duration) -> Result<u64> {
        let mut tx = self.pool.begin().await?;
        let rows: Vec<(uuid::Uuid, String)> = sqlx::query_as(
            "update delivery set state = 'failed', ended_at = clock_timestamp(),
                reason = 'the destination took it and did not confirm storage commitment in time'
             where state = 'promised' and ended_at < clock_timestamp() - $1 * interval '1 second'
             returning run, destination",
        )
        .bind(patience.as_secs_f64())
        .fetch_all(&mut *tx)
        .await?;
        for (run, destination) in &rows {
            let subject = Subject {
                run: Some(*run),
                destination: Some(destination.clone()),
                ..Subject::default()
            };
            let event = Event::engine("delivery_failed", Action::E, subject.clone(), json!({}));
            append(&mut tx, &event.ended(Outcome::SeriousFailure)).await?;
            let reason = format!("{destination} took a report and did not confirm it");
            let kind = TaskKind::CommitmentMissing;
            task::open(&mut tx, &NewTask { kind, subject, reason }).await?;
        }
        tx.commit().await?;
        Ok(rows.len() as u64)
    }
}

/// Ends a delivery that is promised, if its answer is here: it has arrived, or is sent again.
pub(crate) async fn settle(tx: &mut PgConnection, transaction: &str) -> Result<()> {
    let answer: Option<(Value,)> =
        sqlx::query_as("select failed from commitment_answer where transaction_uid = $1")
            .bind(transaction)
            .fetch_optional(&mut *tx)
            .await?;
    let Some((failed,)) = answer else { return Ok(()) };
    let failed: Vec<(SopReference, FailureReason)> = serde_json::from_value(failed)?;
    let is_committed = failed.is_empty();
    let reasons: Vec<String> = failed.iter().map(|(_, it)| format!("{:#06x}", it.0)).collect();
    let reason = if is_committed {
        String::new()
    } else {
        format!("the destination did not commit: {}", reasons.join(", "))
    };
    let row: Option<(uuid::Uuid, String)> = sqlx::query_as(
        "update delivery set reason = $3,
            state = case when $2 then 'delivered' else 'queued' end,
            run_after = clock_timestamp() + case when $2 then 0 else 60 end * interval '1 second',
            ended_at = case when $2 then clock_timestamp() end
         where commitment = $1 and state = 'promised' returning run, destination",
    )
    .bind(transaction)
    .bind(is_committed)
    .bind(&reason)
    .fetch_optional(&mut *tx)
    .await?;
    let Some((run, destination)) = row else { return Ok(()) };
    let subject = Subject { run: Some(run), destination: Some(destination), ..Subject::default() };
    let kind = if is_committed { "delivered" } else { "delivery_postponed" };
    let outcome = if is_committed { Outcome::Success } else { Outcome::MinorFailure };
    let detail = json!({"commitment": transaction});
    append(tx, &Event::engine(kind, Action::E, subject, detail).ended(outcome)).await?;
    announce(tx, "delivery").await
}
