//! The queue of deliveries: claims under a lease, and what people and merges queue again.
//!
//! Deliveries of one patient to one destination are sent in the order of their `position`
//! (HL7-14). As with nodes, a worker that has lost its lease is fenced off by the attempt number.

use std::time::Duration;

use async_trait::async_trait;
use contracts::{
    ClaimedDelivery, CommitmentAnswer, Compose, ComposeFailure, DELIVERY_WAIT_MAX, DeliveryEnd,
    DeliveryStore, DeliveryView, Output, StoreError, WorkKind,
};
use domain::event::{
    CorrectionQueued, DeliveryAttempt, DeliveryLeftAsItWas, DeliveryResent, DeliveryStarted,
    StaleDelivery,
};
use domain::{Actor, Event, Subject, derived_uid};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::lease::LEASE_MAX;
use crate::database::pg_store::{PgStore, commit};
use crate::database::wakeups::notify;
use crate::delivery::destination::REST_SECONDS_MAX;
use crate::delivery::{attempt, commitment_answer, compose, view};
use crate::error::{Error, Result, StoreResult, inconsistent};
use crate::patient::identity;
use crate::trail::append::append;

#[async_trait]
impl DeliveryStore for PgStore {
    async fn claim_delivery(
        &self,
        lease: Duration,
        in_flight: &[Uuid],
    ) -> StoreResult<Option<ClaimedDelivery>> {
        let mut tx = self.begin().await?;
        let claimed = claim_in_tx(&mut tx, lease, in_flight).await?;
        commit(tx).await?;
        Ok(claimed)
    }

    async fn view_delivery(&self, delivery: &ClaimedDelivery) -> StoreResult<DeliveryView> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        let view = view::of(&mut tx, &self.keys, delivery).await?;
        commit(tx).await?;
        Ok(view)
    }

    async fn compose_delivery(
        &self,
        delivery: &ClaimedDelivery,
        compose: Compose<'_>,
    ) -> StoreResult<std::result::Result<Vec<Output>, ComposeFailure>> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        let outputs = compose::compose_in_tx(&mut tx, &self.keys, delivery, compose).await?;
        // A failure leaves no trace: its revision number is free again.
        if outputs.is_ok() {
            commit(tx).await?;
        }
        Ok(outputs)
    }

    async fn renew_delivery(&self, delivery: &ClaimedDelivery, lease: Duration) -> StoreResult<()> {
        let renewed = sqlx::query(
            "update delivery set lease_until = clock_timestamp() + $3 * interval '1 second'
             where id = $1 and attempt = $2 and state = 'sending'",
        )
        .bind(delivery.id)
        .bind(delivery.attempt)
        .bind(lease.as_secs_f64())
        .execute(&self.pool)
        .await
        .map_err(Error::from)?;
        if renewed.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Superseded) }
    }

    async fn finish_delivery(
        &self,
        delivery: &ClaimedDelivery,
        end: DeliveryEnd,
    ) -> StoreResult<()> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        attempt::finish_in_tx(&mut tx, &self.keys, delivery, &end).await?;
        Ok(commit(tx).await?)
    }

    async fn queue_identity_corrections(
        &self,
        wants_correction: &(dyn for<'a> Fn(&'a str) -> bool + Sync),
    ) -> StoreResult<u64> {
        let mut tx = self.begin().await?;
        let count = decide_stale_in_tx(&mut tx, wants_correction).await?;
        commit(tx).await?;
        Ok(count)
    }

    async fn expire_awaiting_commitment(&self, wait_max: Duration) -> StoreResult<u64> {
        let mut tx = self.begin().await?;
        let count = commitment_answer::expire_in_tx(&mut tx, wait_max).await?;
        commit(tx).await?;
        Ok(count)
    }

    async fn record_commitment_answer(
        &self,
        answer: CommitmentAnswer,
        peer: &str,
        address: &str,
    ) -> StoreResult<bool> {
        let mut tx = self.begin().await?;
        let actor = Actor::peer(peer, address);
        let is_known = commitment_answer::record_in_tx(&mut tx, &self.keys, &answer, actor).await?;
        commit(tx).await?;
        Ok(is_known)
    }
}

#[derive(sqlx::FromRow)]
struct ClaimedRow {
    id: Uuid,
    run: Uuid,
    index: i32,
    destination: String,
    what: Value,
    attempt: i32,
}

async fn claim_in_tx(
    tx: &mut PgConnection,
    lease: Duration,
    in_flight: &[Uuid],
) -> Result<Option<ClaimedDelivery>> {
    // A delivery whose lease has expired is claimed again: the identifiers of what is sent are the
    // same on every attempt.
    let row: Option<ClaimedRow> = sqlx::query_as(
        "update delivery set state = 'sending', attempt = attempt + 1,
            lease_until = clock_timestamp() + $1 * interval '1 second'
         where id = (
            select d.id from delivery d
            where ((d.state = 'queued' and is_due(d.run_after, $3))
                or (d.state = 'sending' and is_due(d.lease_until, $4)))
              and d.id <> all($2)
              and not exists (select from hold where part = 'deliveries')
              and not exists (select from destination_state s where s.name = d.destination
                  and (s.is_paused or not is_due(s.open_until, $5)))
              and not exists (select 1 from delivery e
                where e.destination = d.destination and e.position < d.position
                  and e.patient is not distinct from d.patient
                  and e.state in ('queued', 'sending'))
            order by d.position limit 1 for update skip locked)
         returning id, run, index, destination, what, attempt",
    )
    .bind(lease.as_secs_f64())
    .bind(in_flight)
    .bind(DELIVERY_WAIT_MAX.as_secs_f64())
    .bind(LEASE_MAX.as_secs_f64())
    .bind(REST_SECONDS_MAX)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    // Another one for every attempt: a transaction UID is never used again (DIN-32).
    let transaction = derived_uid(&["commitment", &row.id.to_string(), &row.attempt.to_string()]);
    sqlx::query("update delivery set commitment = $2 where id = $1")
        .bind(row.id)
        .bind(&transaction)
        .execute(&mut *tx)
        .await?;
    let delivery = ClaimedDelivery {
        id: row.id,
        run: row.run,
        index: usize::try_from(row.index).map_err(|_| inconsistent("a negative index"))?,
        destination: row.destination,
        what: serde_json::from_value(row.what)?,
        attempt: row.attempt,
        transaction,
    };
    let started = DeliveryStarted(DeliveryAttempt { attempt: delivery.attempt });
    let subject = view::subject(tx, &delivery).await?;
    append(tx, &Event::new(subject, started)).await?;
    Ok(Some(delivery))
}

/// A delivery that was made under an identity that no longer holds.
#[derive(sqlx::FromRow)]
struct StaleRow {
    id: Uuid,
    run: Uuid,
    destination: String,
    /// Whether it consists of original images only, which were forwarded as they came.
    is_forwarded: bool,
}

/// Upper bound of the stale deliveries that are decided on in one transaction.
const STALE_MAX: i64 = 100;

async fn decide_stale_in_tx(
    tx: &mut PgConnection,
    wants_correction: &(dyn for<'a> Fn(&'a str) -> bool + Sync),
) -> Result<u64> {
    let rows: Vec<StaleRow> = sqlx::query_as(
        "select id, run, destination, what = '[\"images\"]' as is_forwarded from delivery
         where is_stale and state in ('delivered', 'awaiting_commitment')
         order by position limit $1 for update skip locked",
    )
    .bind(STALE_MAX)
    .fetch_all(&mut *tx)
    .await?;
    for row in &rows {
        // Forwarded images stay as they came: their destination learns of merges itself.
        let is_queued = !row.is_forwarded && wants_correction(&row.destination);
        sqlx::query(
            "update delivery set is_stale = false,
                state = case when $2 then 'queued' else state end,
                run_after = now(), ended_at = case when $2 then null else ended_at end,
                reason = case when $2 then 'sent anew: patient or order turned out to be another'
                    else reason end
             where id = $1",
        )
        .bind(row.id)
        .bind(is_queued)
        .execute(&mut *tx)
        .await?;
        let subject = Subject {
            run: Some(row.run),
            destination: Some(row.destination.clone()),
            ..Subject::default()
        };
        let stale = StaleDelivery { delivery: row.id };
        let event = if is_queued {
            Event::new(subject, CorrectionQueued(stale))
        } else {
            Event::new(subject, DeliveryLeftAsItWas(stale))
        };
        append(tx, &event).await?;
    }
    if !rows.is_empty() {
        notify(tx, WorkKind::Delivery).await?;
    }
    Ok(rows.len() as u64)
}

impl PgStore {
    /// Sends a delivery again that has failed, was made or was blocked, under the same
    /// identifiers. False if there is no such delivery.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn resend(&self, delivery: Uuid, actor: Actor) -> StoreResult<bool> {
        let mut tx = self.begin().await?;
        let row: Option<(Uuid, String)> = sqlx::query_as(
            "update delivery set state = 'queued', run_after = now(), ended_at = null,
                blocked_by = null, reason = 'resent by a person'
             where id = $1 and (state in ('queued', 'awaiting_commitment', 'failed', 'delivered')
                or (state = 'blocked' and attempt > 0)) returning run, destination",
        )
        .bind(delivery)
        .fetch_optional(&mut *tx)
        .await
        .map_err(Error::from)?;
        let Some((run, destination)) = row else { return Ok(false) };
        let subject =
            Subject { run: Some(run), destination: Some(destination), ..Subject::default() };
        append(&mut tx, &Event::new(subject, DeliveryResent {}).by(actor)).await?;
        notify(&mut tx, WorkKind::Delivery).await?;
        commit(tx).await?;
        Ok(true)
    }

    /// Sends failed deliveries again, to one destination or to all. Returns their number.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn resend_failed(
        &self,
        destination: Option<&str>,
        actor: Actor,
    ) -> StoreResult<usize> {
        let failed: Vec<Uuid> = sqlx::query_scalar(
            "select id from delivery where state = 'failed'
                and destination = coalesce($1, destination) order by position",
        )
        .bind(destination)
        .fetch_all(&self.pool)
        .await
        .map_err(Error::from)?;
        let mut count = 0;
        for id in failed {
            count += usize::from(self.resend(id, actor.clone()).await?);
        }
        Ok(count)
    }
}
