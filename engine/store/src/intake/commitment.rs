//! Requests of peers for storage commitment, and the answers we owe them (DIN-30..33; PS3.4, J.3).
//!
//! A request is stored, its instances are checked, and the result is reported: on the association
//! of the request if it is still open, or else on one of our own, again and again for some days.

use std::time::Duration;

use async_trait::async_trait;
use contracts::{
    CommitmentCheck, CommitmentReport, CommitmentRequest, CommitmentResult, CommitmentStore,
    FailedReference, FailureReason, NewTask, ReferenceToCheck, ReportEnd, SopReference,
    StoredReference, WorkKind,
};
use domain::event::{
    CommitmentAsked, CommitmentAskedAgain, CommitmentAttempt, CommitmentChecked, CommitmentGivenUp,
    CommitmentPostponed, CommitmentReported, CommitmentRequested,
};
use domain::{Actor, CommitmentState, Event, Outcome, Subject, TaskKind};
use serde_json::Value;
use sqlx::PgConnection;

use crate::database::decode;
use crate::database::pg_store::{PgStore, commit};
use crate::database::wakeups::notify;
use crate::error::{Error, Result, StoreResult};
use crate::run::task;
use crate::trail::append::append;

/// First wait after a report failed. Each further one is twice as long.
const WAIT_MIN: Duration = Duration::from_mins(1);

/// Upper bound of the wait between two attempts, and of every lease of a request. What lies further
/// ahead was written under a clock that was ahead.
const WAIT_MAX: Duration = Duration::from_hours(1);

/// For how many days we try to report a result (DIN-32).
const PATIENCE_DAYS: i32 = 7;

#[async_trait]
impl CommitmentStore for PgStore {
    async fn store_commitment_request(&self, request: CommitmentRequest) -> StoreResult<()> {
        let mut tx = self.begin().await?;
        store_in_tx(&mut tx, &request).await?;
        Ok(commit(tx).await?)
    }

    async fn claim_commitment_check(
        &self,
        lease: Duration,
    ) -> StoreResult<Option<CommitmentCheck>> {
        let mut tx = self.begin().await?;
        let check = claim_check_in_tx(&mut tx, lease).await?;
        commit(tx).await?;
        Ok(check)
    }

    async fn postpone_commitment_check(
        &self,
        peer: &str,
        transaction: &str,
        wait: Duration,
    ) -> StoreResult<()> {
        sqlx::query(
            "update commitment set lease_until = clock_timestamp() + $3 * interval '1 second'
             where peer = $1 and transaction_uid = $2 and state = 'asked'",
        )
        .bind(peer)
        .bind(transaction)
        .bind(wait.as_secs_f64())
        .execute(&self.pool)
        .await
        .map_err(Error::from)?;
        Ok(())
    }

    async fn finish_commitment_check(
        &self,
        peer: &str,
        result: CommitmentResult,
        grace: Duration,
    ) -> StoreResult<()> {
        let mut tx = self.begin().await?;
        finish_check_in_tx(&mut tx, peer, &result, grace).await?;
        Ok(commit(tx).await?)
    }

    async fn claim_commitment_reply(
        &self,
        peer: &str,
        transaction: &str,
        lease: Duration,
    ) -> StoreResult<Option<CommitmentResult>> {
        let result: Option<Value> = sqlx::query_scalar(
            "update commitment set attempt = attempt + 1,
                lease_until = clock_timestamp() + $3 * interval '1 second'
             where peer = $1 and transaction_uid = $2 and state = 'checked'
                and is_due(coalesce(lease_until, '-infinity'), $4)
             returning result",
        )
        .bind(peer)
        .bind(transaction)
        .bind(lease.as_secs_f64())
        .bind(WAIT_MAX.as_secs_f64())
        .fetch_optional(&self.pool)
        .await
        .map_err(Error::from)?;
        Ok(result.map(serde_json::from_value).transpose().map_err(Error::from)?)
    }

    async fn claim_commitment_report(
        &self,
        lease: Duration,
    ) -> StoreResult<Option<CommitmentReport>> {
        Ok(claim_report(self, lease).await?)
    }

    async fn finish_commitment_report(
        &self,
        peer: &str,
        transaction: &str,
        end: ReportEnd,
    ) -> StoreResult<()> {
        let mut tx = self.begin().await?;
        finish_report_in_tx(&mut tx, peer, transaction, &end).await?;
        Ok(commit(tx).await?)
    }
}

async fn store_in_tx(tx: &mut PgConnection, request: &CommitmentRequest) -> Result<()> {
    let references = serde_json::to_value(&request.references)?;
    let added = sqlx::query(
        "insert into commitment (peer, transaction_uid, called_ae, address, request)
         values ($1, $2, $3, $4, $5) on conflict do nothing",
    )
    .bind(&request.calling_ae)
    .bind(&request.transaction)
    .bind(&request.called_ae)
    .bind(&request.address)
    .bind(&references)
    .execute(&mut *tx)
    .await?;
    let facts = CommitmentRequested {
        transaction: request.transaction.clone(),
        instances: request.references.len(),
    };
    let event = if added.rows_affected() == 1 {
        add_references(tx, request).await?;
        Event::new(Subject::default(), CommitmentAsked(facts))
    } else {
        repeat(tx, request, &references).await?;
        Event::new(Subject::default(), CommitmentAskedAgain(facts))
    };
    append(tx, &event.by(Actor::peer(&request.calling_ae, &request.address))).await?;
    notify(tx, WorkKind::Commitment).await?;
    notify(tx, WorkKind::Assembly).await
}

/// Stores the instances of a request, which are evidence of what a study consists of (DIN-50).
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
    sqlx::query(
        "update study set decide_at = clock_timestamp()
         where uid in (select study from instance where uid = any($1))",
    )
    .bind(&uids)
    .execute(tx)
    .await?;
    Ok(())
}

/// Has the result of a repeated request reported again. Another request under a transaction UID
/// that was used before fails for all its instances (DIN-31).
async fn repeat(
    tx: &mut PgConnection,
    request: &CommitmentRequest,
    references: &Value,
) -> Result<()> {
    let reason = FailureReason::DUPLICATE_TRANSACTION;
    let named = request.references.iter().cloned();
    let failed = named.map(|reference| FailedReference { reference, reason }).collect();
    let transaction = request.transaction.clone();
    let duplicate = CommitmentResult { transaction, committed: Vec::new(), failed };
    sqlx::query(
        "update commitment set
            state = case when state = 'asked' then state else 'checked' end,
            run_after = clock_timestamp(), lease_until = null,
            result = case when state = 'asked' then null when request = $3 then result else $4 end
         where peer = $1 and transaction_uid = $2",
    )
    .bind(&request.calling_ae)
    .bind(&request.transaction)
    .bind(references)
    .bind(serde_json::to_value(&duplicate)?)
    .execute(tx)
    .await?;
    Ok(())
}

async fn claim_check_in_tx(
    tx: &mut PgConnection,
    lease: Duration,
) -> Result<Option<CommitmentCheck>> {
    let row: Option<(String, String, Value)> = sqlx::query_as(
        "update commitment set lease_until = clock_timestamp() + $1 * interval '1 second'
         where (peer, transaction_uid) = (
            select peer, transaction_uid from commitment
            where state = 'asked' and is_due(coalesce(lease_until, '-infinity'), $2)
            order by asked_at limit 1 for update skip locked)
         returning peer, transaction_uid, request",
    )
    .bind(lease.as_secs_f64())
    .bind(WAIT_MAX.as_secs_f64())
    .fetch_optional(&mut *tx)
    .await?;
    let Some((peer, transaction, request)) = row else { return Ok(None) };
    let requested: Vec<SopReference> = serde_json::from_value(request)?;
    let mut references = Vec::new();
    for reference in requested {
        let stored: Option<(String, String)> = sqlx::query_as(
            "select sop_class, sha256 from instance where uid = $1 and removed_at is null
             order by is_current desc, received_at limit 1",
        )
        .bind(&reference.sop_instance)
        .fetch_optional(&mut *tx)
        .await?;
        let stored = stored.map(|(sop_class, sha256)| StoredReference { sop_class, sha256 });
        references.push(ReferenceToCheck { reference, stored });
    }
    Ok(Some(CommitmentCheck { peer, transaction, references }))
}

async fn finish_check_in_tx(
    tx: &mut PgConnection,
    peer: &str,
    result: &CommitmentResult,
    grace: Duration,
) -> Result<()> {
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
        let body = CommitmentChecked {
            transaction: result.transaction.clone(),
            peer: peer.to_owned(),
            committed: result.committed.len(),
            failed: result.failed.len(),
        };
        append(tx, &Event::new(Subject::default(), body)).await?;
    }
    Ok(())
}

#[derive(sqlx::FromRow)]
struct ReportRow {
    peer: String,
    address: String,
    called_ae: String,
    result: Value,
    attempt: i32,
}

async fn claim_report(store: &PgStore, lease: Duration) -> Result<Option<CommitmentReport>> {
    let row: Option<ReportRow> = sqlx::query_as(
        "update commitment set attempt = attempt + 1,
            lease_until = clock_timestamp() + $1 * interval '1 second'
         where (peer, transaction_uid) = (
            select peer, transaction_uid from commitment
            where state = 'checked' and is_due(run_after, $2)
                and is_due(coalesce(lease_until, '-infinity'), $2)
            order by run_after limit 1 for update skip locked)
         returning peer, address, called_ae, result, attempt",
    )
    .bind(lease.as_secs_f64())
    .bind(WAIT_MAX.as_secs_f64())
    .fetch_optional(&store.pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(CommitmentReport {
        peer: row.peer,
        address: row.address,
        called_ae: row.called_ae,
        result: serde_json::from_value(row.result)?,
        attempt: row.attempt,
    }))
}

async fn finish_report_in_tx(
    tx: &mut PgConnection,
    peer: &str,
    transaction: &str,
    end: &ReportEnd,
) -> Result<()> {
    let (is_reported, reason) = match end {
        ReportEnd::Reported => (true, ""),
        ReportEnd::NotReported(reason) => (false, reason.as_str()),
    };
    let row: Option<(String, i32)> = sqlx::query_as(
        "update commitment set lease_until = null, reason = $4,
            state = case when $3 then 'reported'
                when asked_at < now() - $5 * interval '1 day' then 'expired' else state end,
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
    let facts =
        CommitmentAttempt { transaction: transaction.to_owned(), peer: peer.to_owned(), attempt };
    let subject = Subject::default();
    let state = decode::named(&state, CommitmentState::parse)?;
    let event = match state {
        CommitmentState::Reported => Event::new(subject, CommitmentReported(facts)),
        CommitmentState::Expired => {
            Event::new(subject, CommitmentGivenUp(facts)).ended(Outcome::MinorFailure)
        }
        CommitmentState::Requested | CommitmentState::Checked => {
            Event::new(subject, CommitmentPostponed(facts)).ended(Outcome::MinorFailure)
        }
    };
    append(tx, &event).await?;
    if state == CommitmentState::Expired {
        let reason = format!(
            "the answer to storage commitment {transaction} could not be given to {peer} \
             for {PATIENCE_DAYS} days: {reason}"
        );
        let subject = Subject::default();
        task::open(tx, &NewTask { kind: TaskKind::CommitmentGivenUp, subject, reason }).await?;
    }
    Ok(())
}
