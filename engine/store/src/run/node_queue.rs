//! The queue of nodes: claims under a lease, and fencing of workers that have lost theirs.
//!
//! A worker claims a node for the duration of a lease and renews it while it works. Once a lease
//! has expired, another worker may claim the node with the next attempt number; every write of the
//! first worker is then refused, because it names the old one.

use std::time::Duration;

use async_trait::async_trait;
use contracts::{ClaimedNode, DecideRun, NodeAttempt, PluginPin, RunStore, StoreError, WorkKind};
use domain::Event;
use domain::event::NodeStarted;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::lease::LEASE_MAX;
use crate::database::pg_store::{PgStore, commit};
use crate::database::wakeups::notify;
use crate::error::{Error, Result, StoreResult, inconsistent};
use crate::patient::identity;
use crate::run::{overdue, prior_reports, record, snapshot};
use crate::trail::append::append;
use crate::vault::keys::Keys;

#[async_trait]
impl RunStore for PgStore {
    async fn claim_node(&self, lease: Duration) -> StoreResult<Option<ClaimedNode>> {
        let mut tx = self.begin().await?;
        let claimed = claim_in_tx(&mut tx, &self.keys, lease).await?;
        commit(tx).await?;
        Ok(claimed)
    }

    async fn renew_node(&self, attempt: &NodeAttempt, lease: Duration) -> StoreResult<()> {
        let renewed = sqlx::query(
            "update node set lease_until = clock_timestamp() + $4 * interval '1 second'
             where run = $1 and node = $2 and attempt = $3 and state = 'running'",
        )
        .bind(attempt.run)
        .bind(&attempt.node)
        .bind(attempt.number)
        .bind(lease.as_secs_f64())
        .execute(&self.pool)
        .await
        .map_err(Error::from)?;
        if renewed.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Superseded) }
    }

    async fn change_run(
        &self,
        run: Uuid,
        attempt: Option<&NodeAttempt>,
        decide: DecideRun<'_>,
    ) -> StoreResult<()> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        let current = record::load_locked(&mut tx, run).await?;
        if let Some(attempt) = attempt {
            check_attempt(&mut tx, attempt).await?;
        }
        let Some(step) = decide(&current) else { return Ok(()) };
        let run = record::RunToChange::of(&mut tx, &current).await?;
        record::apply_step(&mut tx, &self.keys, &run, step).await?;
        notify(&mut tx, WorkKind::Node).await?;
        notify(&mut tx, WorkKind::Delivery).await?;
        Ok(commit(tx).await?)
    }

    async fn abandoned_nodes(&self) -> StoreResult<Vec<NodeAttempt>> {
        let rows: Vec<(Uuid, String, i32)> = sqlx::query_as(
            "select run, node, attempt from node
             where state = 'running' and is_due(lease_until, $1)",
        )
        .bind(LEASE_MAX.as_secs_f64())
        .fetch_all(&self.pool)
        .await
        .map_err(Error::from)?;
        Ok(rows.into_iter().map(|(run, node, number)| NodeAttempt { run, node, number }).collect())
    }

    async fn report_overdue(&self) -> StoreResult<u64> {
        let mut tx = self.begin().await?;
        let count = overdue::report_in_tx(&mut tx).await?;
        commit(tx).await?;
        Ok(count)
    }
}

#[derive(sqlx::FromRow)]
struct ClaimedRow {
    run: Uuid,
    node: String,
    attempt: i32,
    plugin: Option<Value>,
}

async fn claim_in_tx(
    tx: &mut PgConnection,
    keys: &Keys,
    lease: Duration,
) -> Result<Option<ClaimedNode>> {
    let claimed: Option<ClaimedRow> = sqlx::query_as(
        "update node set state = 'running', attempt = attempt + 1, changed_at = now(),
            lease_until = clock_timestamp() + $1 * interval '1 second'
         where (run, node) = (
            select n.run, n.node from node n join run r on r.id = n.run
            where n.state = 'ready' and n.run_after <= clock_timestamp() and r.status = 'running'
                and not exists (select from hold where part = 'workflows')
            order by n.priority, n.turn, n.run_after limit 1 for update of n skip locked)
         returning run, node, attempt, plugin",
    )
    .bind(lease.as_secs_f64())
    .fetch_optional(&mut *tx)
    .await?;
    let Some(claimed) = claimed else { return Ok(None) };
    let run = record::load(tx, claimed.run).await?;
    let plugin = claimed.plugin.ok_or_else(|| inconsistent("a node to work on has no plugin"))?;
    let plugin: PluginPin = serde_json::from_value(plugin)?;
    let started = NodeStarted {
        attempt: claimed.attempt,
        plugin: plugin.name.clone(),
        version: plugin.version.clone(),
        plugin_sha256: plugin.digest.clone(),
    };
    let subject = record::node_subject(&run, &claimed.node);
    append(tx, &Event::new(subject, started)).await?;
    let document = match run.message {
        Some(message) => Some(snapshot::message(tx, keys, message).await?.document),
        None => None,
    };
    let patient = match run.patient {
        Some(patient) => Some(identity::filed(tx, patient).await?),
        None => None,
    };
    let study = run.study.as_ref().map(ToString::to_string);
    Ok(Some(ClaimedNode {
        series: snapshot::run_series(tx, run.id).await?,
        outputs: snapshot::outputs(tx, keys, run.id).await?,
        orders: snapshot::orders(tx, study.as_deref()).await?,
        reports: prior_reports::of_patient(tx, keys, &run).await?,
        run,
        node: claimed.node,
        attempt: claimed.attempt,
        plugin,
        patient,
        document,
    }))
}

/// Fails with [`StoreError::Superseded`] unless this attempt is the current one. Locks its node.
async fn check_attempt(tx: &mut PgConnection, attempt: &NodeAttempt) -> Result<()> {
    let current: Option<i32> = sqlx::query_scalar(
        "select attempt from node where run = $1 and node = $2 and attempt = $3
            and state = 'running' for update",
    )
    .bind(attempt.run)
    .bind(&attempt.node)
    .bind(attempt.number)
    .fetch_optional(tx)
    .await?;
    current.map(|_| ()).ok_or_else(|| StoreError::Superseded.into())
}
