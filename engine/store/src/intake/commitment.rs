//! Storage commitment: requests of peers, and answers of a PACS (DIN-30..34).

use std::time::Duration;

use async_trait::async_trait;
use contracts::{
    CommitmentCheck, CommitmentReport, CommitmentRequest, CommitmentResult, CommitmentStore,
    FailureReason, NewTask, ReferenceToCheck, ReportEnd, SopReference, StoreError, StoredReference,
};
use domain::{Action, Actor, Event, Outcome, Subject, TaskKind};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::database::pg_store::PgStore;
use crate::database::wakeups::announce;
use crate::error::Result;
use crate::run::task;
use crate::trail::append::append;

/// First wait after an answer could not be given; each further one is twice as long …
const WAIT_MIN: Duration = Duration::from_mins(1);

/// … up to this.
const WAIT_MAX: Duration = Duration::from_hours(1);

/// How long we try to give an answer (DIN-32).
const PATIENCE_DAYS: i32 = 7;

#[async_trait]
impl CommitmentStore for PgStore {
    async fn store_commitment_request(
        &self,
        request: CommitmentRequest,
    ) -> std::result::Result<(), StoreError> {
        Ok(self.keep_commitment_row(&request).await?)
    }

    async fn claim_commitment_check(
        &self,
        lease: Duration,
    ) -> std::result::Result<Option<CommitmentCheck>, StoreError> {
        Ok(self.claim_check(lease).await?)
    }

    async fn finish_commitment_check(
        &self,
        peer: &str,
        result: CommitmentResult,
        grace: Duration,
    ) -> std::result::Result<(), StoreError> {
        Ok(self.finish_check(peer, &result, grace).await?)
    }

    async fn claim_commitment_reply(
        &self,
        peer: &str,
        transaction: &str,
        lease: Duration,
    ) -> std::result::Result<Option<CommitmentResult>, StoreError> {
        Ok(self.claim_reply(peer, transaction, lease).await?)
    }

    async fn claim_commitment_report(
        &self,
        lease: Duration,
    ) -> std::result::Result<Option<CommitmentReport>, StoreError> {
        Ok(self.claim_report(lease).await?)
    }

    async fn finish_commitment_report(
        &self,
        peer: &str,
        transaction: &str,
        end: ReportEnd,
    ) -> std::result::Result<(), StoreError> {
        Ok(self.finish_report(peer, transaction, &end).await?)
    }
}

impl PgStore {
    async fn keep_commitment_row(&self, request: &CommitmentRequest) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        let asked = serde_json::to_value(&request.references)?;
        let added = sqlx::query(
            "insert into commitment (peer, transaction_uid, called_ae, address, request)
             values ($1, $2, $3, $4, $5) on conflict do nothing",
        )
        .bind(&request.calling_ae)
        .bind(&request.transaction)
        .bind(&request.called_ae)
        .bind(&request.address)
        .bind(&asked)
        .execute(&mut *tx)
        .await?;
        let is_new = added.rows_affected() == 1;
        if is_new {
            add_references(&mut tx, request).await?;
        } else {
            repeat(&mut tx, request, &asked).await?;
        }
        let kind = if is_new { "commitment_asked" } else { "commitment_asked_again" };
        let detail = json!({
            "transaction": request.transaction, "instances": request.references.len(),
        });
        let actor = Actor::peer(&request.calling_ae, &request.address);
        append(&mut tx, &Event::engine(kind, Action::C, Subject::default(), detail).by(actor))
            .await?;
        announce(&mut tx, "commitment").await?;
        announce(&mut tx, "assembly").await?;
        tx.commit().await?;
        Ok(())
    }

    async fn claim_check(&self, lease: Duration) -> Result<Option<CommitmentCheck>> {
        let row: Option<(String, String, Value)> = sqlx::query_as(
            "update commitment set lease_until = clock_timestamp() + $1 * interval '1 second'
             where (peer, transaction_uid) = (
                select peer, transaction_uid from commitment
                where state = 'asked' and coalesce(lease_until, '-infinity') < clock_timestamp()
                order by asked_at limit 1 for update skip locked)
             returning peer, transaction_uid, request",
        )
        .bind(lease.as_secs_f64())
        .fetch_optional(&self.pool)
        .await?;
        let Some((peer, transaction, request)) = row else { return Ok(None) };
        let asked: Vec<SopReference> = serde_json::from_value(request)?;
        let mut references = Vec::new();
        for reference in asked {
            let kept: Option<(String, String)> = sqlx::query_as(
                "select sop_class, sha256 from instance where uid = $1 and removed_at is null
                 order by is_current desc, received_at limit 1",
            )
            .bind(&reference.sop_instance)
            .fetch_optional(&self.pool)
            .await?;
            let stored = kept.map(|(sop_class, sha256)| StoredReference { sop_class, sha256 });
            references.push(ReferenceToCheck { reference, stored });
        }
        Ok(Some(CommitmentCheck { peer, transaction, references }))
    }

    async fn finish_check(
        &self,
        peer: &str,
        result: &CommitmentResult,
        grace: Duration,
    ) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        let uids: Vec<&str> = result.committed.iter().map(|it| it.sop_instance.as_str()).collect();
        sqlx::query(
            "update instance set committed_at = coalesce(committed_at, now()) where uid = any($1)",
        )
        .bind(&uids)
        .execute(&mut *tx)
        .await?;
        let changed = sqlx::query(
            "update commitment set state = 'checked', result = $3, lease_until = null,
                run_after = clock_timestamp() + $4 * interval '1 second'
             where peer = $1 and transaction_uid = $2 and state = 'asked'",
        )
        .bind(peer)
        .bind(&result.transaction)
        .bind(serde_json::to_value(result)?)
        .bind(grace.as_secs_f64())
        .execute(&mut *tx)
        .await?;
        if changed.rows_affected() == 1 {
            let detail = json!({
                "transaction": result.transaction, "peer": peer,
                "committed": result.committed.len(), "failed": result.failed.len(),
            });
            let event = Event::engine("commitment_checked", Action::E, Subject::default(), detail);
            append(&mut tx, &event).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn claim_reply(
        &self,
        peer: &str,
        transaction: &str,
        lease: Duration,
    ) -> Result<Option<CommitmentResult>> {
        let row: Option<(Value,)> = sqlx::query_as(
            "update commitment set attempt = attempt + 1,
                lease_until = clock_timestamp() + $3 * interval '1 second'
             where peer = $1 and transaction_uid = $2 and state = 'checked'
                and coalesce(lease_until, '-infinity') < clock_timestamp()
             returning result",
        )
        .bind(peer)
        .bind(transaction)
        .bind(lease.as_secs_f64())
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|(result,)| serde_json::from_value(result)).transpose()?)
    }

    async fn claim_report(&self, lease: Duration) -> Result<Option<CommitmentReport>> {
        let row: Option<(String, String, String, Value, i32)> = sqlx::query_as(
            "update commitment set attempt = attempt + 1,
                lease_until = clock_timestamp() + $1 * interval '1 second'
             where (peer, transaction_uid) = (
                select peer, transaction_uid from commitment
                where state = 'checked' and run_after <= clock_timestamp()
                    and coalesce(lease_until, '-infinity') < clock_timestamp()
                order by run_after limit 1 for update skip locked)
             returning peer, address, called_ae, result, attempt",
        )
        .bind(lease.as_secs_f64())
        .fetch_optional(&self.pool)
        .await?;
        let Some((peer, address, called_ae, result, attempt)) = row else { return Ok(None) };
        let result = serde_json::from_value(result)?;
        Ok(Some(CommitmentReport { peer, address, called_ae, result, attempt }))
    }

    async fn finish_report(&self, peer: &str, transaction: &str, end: &ReportEnd) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        let (is_reported, reason) = match end {
            ReportEnd::Reported => (true, ""),
            ReportEnd::NotReported(reason) => (false, reason.as_str()),
        };
        let row: Option<(String, i32)> = sqlx::query_as(
            "update commitment set lease_until = null, reason = $4,
                state = case when $3 then 'reported'
                    when asked_at < now() - $5 * interval '1 day' then 'given_up' else state end,
                run_after = clock_timestamp()
                    + least($6 * power(2, least(attempt, 20) - 1), $7) * interval '1 second'
             where peer = $1 and transaction_uid = $2 and state = 'checked'
             returning state, attempt",
        )
        .bind(peer)
        .bind(transaction)
        .bind(is_reported)
        .bind(reason.replace('\0', ""))
        .bind(PATIENCE_DAYS)
        .bind(WAIT_MIN.as_secs_f64())
        .bind(WAIT_MAX.as_secs_f64())
        .fetch_optional(&mut *tx)
        .await?;
        let Some((state, attempt)) = row else { return Ok(()) };
        let kind = match state.as_str() {
            "reported" => "commitment_reported",
            "given_up" => "commitment_given_up",
            _ => "commitment_postponed",
        };
        let detail = json!({"transaction": transaction, "peer": peer, "attempt": attempt});
        let outcome = if is_reported { Outcome::Success } else { Outcome::MinorFailure };
        let event = Event::engine(kind, Action::E, Subject::default(), detail).ended(outcome);
        append(&mut tx, &event).await?;
        if state == "given_up" {
            let reason = format!(
                "the answer to storage commitment {transaction} could not be given to {peer} \
                 for {PATIENCE_DAYS} days: {reason}"
            );
            let kind = TaskKind::CommitmentGivenUp;
            task::open(&mut tx, &NewTask { kind, subject: Subject::default(), reason }).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

async fn add_references(tx: &mut PgConnection, request: &CommitmentRequest) -> Result<()> {
    let uids: Vec<&str> = request.references.iter().map(|it| it.sop_instance.as_str()).collect();
    sqlx::query(
        "insert into commitment_reference (peer, transaction_uid, instance)
         select $1, $2, it from unnest($3::text[]) it on conflict do nothing",
    )
    .bind(&request.calling_ae)
    .bind(&request.transaction)
    .bind(&uids)
    .execute(&mut *tx)
    .await?;
    // What it says of a study is evidence (DIN-50).
    sqlx::query(
        "update study set look_at = clock_timestamp()
         where uid in (select study from instance where uid = any($1))",
    )
    .bind(&uids)
    .execute(tx)
    .await?;
    Ok(())
}

/// The same request is answered again; another one under its transaction UID fails whole (DIN-31).
async fn repeat(tx: &mut PgConnection, request: &CommitmentRequest, asked: &Value) -> Result<()> {
    let duplicate = CommitmentResult {
        transaction: request.transaction.clone(),
        committed: Vec::new(),
        failed: request
            .references
            .iter()
            .map(|it| (it.clone(), FailureReason::DUPLICATE_TRANSACTION))
            .collect(),
    };
    sqlx::query(
        "update commitment set
            state = case when state = 'asked' then state else 'checked' end,
            run_after = clock_timestamp(), lease_until = null,
            result = case when state = 'asked' then null when request = $3 then result else $4 end
         where peer = $1 and transaction_uid = $2",
    )
    .bind(&request.calling_ae)
    .bind(&request.transaction)
    .bind(asked)
    .bind(serde_json::to_value(&duplicate)?)
    .execute(tx)
    .await?;
    Ok(())
}
