use std::time::Duration;

use contracts::{
    ClaimedNode, DecideRun, NewDelivery, NodeAttempt, NodeChange, PluginPin, RunRecord, RunStep,
    StoreError,
};
use domain::{Action, Event, NodeOutput, Subject, WorkflowRef};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::database::wakeups::announce;
use crate::error::{Result, inconsistent, stored};
use crate::patient::identity;
use crate::run::snapshot::{orders, run_series};
use crate::run::task;
use crate::trail::append::{append, append_all};
use crate::vault::keys::Keys;
use crate::vault::payload;

impl PgStore {
    pub(crate) async fn claim_node_row(&self, lease: Duration) -> Result<Option<ClaimedNode>> {
        let mut tx = self.pool.begin().await?;
        let row: Option<(Uuid, String, i32, Option<Value>)> = sqlx::query_as(
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
        let Some((id, node, attempt, plugin)) = row else { return Ok(None) };
        let run = load(&mut tx, id, false).await?;
        let plugin = plugin.ok_or_else(|| inconsistent("a node to work on has no plugin"))?;
        let plugin: PluginPin = serde_json::from_value(plugin)?;
        let detail = json!({"attempt": attempt, "plugin": plugin.name, "version": plugin.version,
            "plugin_sha256": plugin.digest});
        append(&mut tx, &Event::engine("node_started", Action::E, subject(&run, &node), detail))
            .await?;
        let document = match run.message {
            Some(message) => Some(self.message(&mut tx, message).await?.document),
            None => None,
        };
        let series = run_series(&mut tx, id).await?;
        let outputs = self.outputs(&mut tx, id).await?;
        let study = run.study.as_ref().map(ToString::to_string);
        let orders = orders(&mut tx, study.as_deref()).await?;
        let reports = self.known_reports(&mut tx, &run).await?;
        tx.commit().await?;
        Ok(Some(ClaimedNode {
            run,
            node,
            attempt,
            plugin,
            series,
            document,
            outputs,
            orders,
            reports,
        }))
    }

    pub(crate) async fn renew_node_row(
        &self,
        attempt: &NodeAttempt,
        lease: Duration,
    ) -> Result<()> {
        let renewed = sqlx::query(
            "update node set lease_until = clock_timestamp() + $4 * interval '1 second'
             where run = $1 and node = $2 and attempt = $3 and state = 'running'",
        )
        .bind(attempt.run)
        .bind(&attempt.node)
        .bind(attempt.number)
        .bind(lease.as_secs_f64())
        .execute(&self.pool)
        .await?;
        if renewed.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Superseded.into()) }
    }

    pub(crate) async fn change_run_row(
        &self,
        run: Uuid,
        attempt: Option<&NodeAttempt>,
        decide: DecideRun<'_>,
    ) -> Result<()> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        let current = load(&mut tx, run, true).await?;
        if let Some(attempt) = attempt {
            let row: Option<(i32,)> = sqlx::query_as(
                "select attempt from node where run = $1 and node = $2 and attempt = $3
                    and state = 'running' for update",
            )
            .bind(run)
            .bind(&attempt.node)
            .bind(attempt.number)
            .fetch_optional(&mut *tx)
            .await?;
            row.ok_or(StoreError::Superseded)?;
        }
        let Some(step) = decide(&current) else { return Ok(()) };
        let (priority,): (i16,) = sqlx::query_as("select priority from run where id = $1")
            .bind(run)
            .fetch_one(&mut *tx)
            .await?;
        apply(&mut tx, &self.keys, run, current.patient, priority, step).await?;
        announce(&mut tx, "node").await?;
        announce(&mut tx, "delivery").await?;
        tx.commit().await?;
        Ok(())
    }

    pub(crate) async fn abandoned_rows(&self) -> Result<Vec<NodeAttempt>> {
        let rows: Vec<(Uuid, String, i32)> = sqlx::query_as(
            "select run, node, attempt from node
             where state = 'running' and lease_until < clock_timestamp()",
        )
        .fetch_all(&self.pool)
        .await?;
        let attempts =
            rows.into_iter().map(|(run, node, number)| NodeAttempt { run, node, number });
        Ok(attempts.collect())
    }
}

type RunRow = (
    String,
    String,
    String,
    Value,
    Option<Uuid>,
    Option<String>,
    Option<Uuid>,
    bool,
    Option<Value>,
);

/// A run, locked until the transaction ends if `is_to_change`.
pub(crate) async fn load(tx: &mut PgConnection, id: Uuid, is_to_change: bool) -> Result<RunRecord> {
    if is_to_change {
        sqlx::query("select 1 from run where id = $1 for update")
            .bind(id)
            .execute(&mut *tx)
            .await?;
    }
    let row: Option<RunRow> = sqlx::query_as(
        "select r.workflow, r.digest, w.definition, r.state,
            patient_root(coalesce((select s.patient from study s where s.uid = r.study),
                (select m.patient from message m where m.id = r.message), r.patient)), r.study,
            r.message, r.ended_at is not null, r.amends
         from run r join workflow_version w on w.name = r.workflow and w.digest = r.digest
         where r.id = $1",
    )
    .bind(id)
    .fetch_optional(tx)
    .await?;
    let (name, digest, definition, state, patient, study, message, has_ended, amends) =
        row.ok_or_else(|| inconsistent("there is no such run"))?;
    let study = study.map(|it| stored(&it)).transpose()?;
    let workflow = WorkflowRef { name, digest };
    let amends = amends.map(serde_json::from_value).transpose()?;
    Ok(RunRecord { id, workflow, definition, state, patient, study, message, has_ended, amends })
}

pub(crate) fn subject(run: &RunRecord, node: &str) -> Subject {
    Subject {
        patient: run.patient,
        study: run.study.as_ref().map(ToString::to_string),
        message: run.message,
        run: Some(run.id),
        node: Some(node.to_owned()).filter(|it| !it.is_empty()),
        ..Subject::default()
    }
}

/// Writes what a decision changes in a run.
pub(crate) async fn apply(
    tx: &mut PgConnection,
    keys: &Keys,
    run: Uuid,
    patient: Option<Uuid>,
    priority: i16,
    step: RunStep,
) -> Result<()> {
    append_all(tx, &step.events).await?;
    sqlx::query(
        "update run set state = $2, status = coalesce($3, case when $4 then 'running' else status end),
            ended_at = case when $3 is not null then clock_timestamp()
                when $4 then null else ended_at end
         where id = $1",
    )
    .bind(run)
    .bind(&step.state)
    .bind(step.end.map(contracts::RunEnd::name))
    .bind(step.is_reopened)
    .execute(&mut *tx)
    .await?;
    for change in &step.nodes {
        change_node(tx, keys, (run, patient, priority), change).await?;
    }
    for delivery in &step.deliveries {
        queue_delivery(tx, run, patient, delivery).await?;
    }
    for new in &step.tasks {
        task::open(tx, new).await?;
    }
    Ok(())
}

async fn change_node(
    tx: &mut PgConnection,
    keys: &Keys,
    (run, patient, priority): (Uuid, Option<Uuid>, i16),
    change: &NodeChange,
) -> Result<()> {
    let output = match &change.output {
        Some(output) => {
            let content = serde_json::to_vec(output)?;
            Some(payload::keep(tx, keys, patient, "node_output", &content).await?)
        }
        None => None,
    };
    if let Some(kept) = &output {
        let subject = Subject {
            patient,
            run: Some(run),
            node: Some(change.node.clone()),
            ..Subject::default()
        };
        let artifacts = change.output.iter().flat_map(NodeOutput::artifacts);
        let artifacts: Vec<&str> = artifacts.map(|it| it.sha256.as_str()).collect();
        payload::use_artifacts(tx, kept.id, &artifacts).await?;
        let detail = json!({"payload": kept.id, "salted_sha256": kept.digest});
        append(tx, &Event::engine("node_output_kept", Action::C, subject, detail)).await?;
    }
    sqlx::query(
        "insert into node (run, node, state, plugin, priority, run_after, output, reason, due_at, turn)
         values ($1, $2, $3, $4, $5, coalesce(at_micros($6), now()), $7, $8, at_micros($9),
            (select turn from run where id = $1))
         on conflict (run, node) do update set
            state = excluded.state, plugin = coalesce(excluded.plugin, node.plugin),
            run_after = excluded.run_after, output = coalesce(excluded.output, node.output),
            reason = excluded.reason, lease_until = null, changed_at = clock_timestamp(),
            due_at = coalesce(excluded.due_at, node.due_at)",
    )
    .bind(run)
    .bind(&change.node)
    .bind(change.state.name())
    .bind(change.plugin.as_ref().map(serde_json::to_value).transpose()?)
    .bind(priority)
    .bind(change.run_after.map(jiff::Timestamp::as_microsecond))
    .bind(output.map(|it| it.id))
    .bind(change.reason.replace('\0', ""))
    .bind(change.due.map(jiff::Timestamp::as_microsecond))
    .execute(tx)
    .await?;
    Ok(())
}

async fn queue_delivery(
    tx: &mut PgConnection,
    run: Uuid,
    patient: Option<Uuid>,
    new: &NewDelivery,
) -> Result<()> {
    let state = if new.blocked.is_some() { "blocked" } else { "queued" };
    let added = sqlx::query(
        "insert into delivery (id, run, index, destination, what, patient, state, reason, blocked_by,
            ended_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, case when $7 = 'blocked' then now() end)
         on conflict (run, index) do update set state = excluded.state, reason = excluded.reason,
            blocked_by = null, ended_at = excluded.ended_at, run_after = now()
         where delivery.state = 'blocked' and excluded.state = 'queued'",
    )
    .bind(Uuid::now_v7())
    .bind(run)
    .bind(i32::try_from(new.index).map_err(|_| inconsistent("too many deliveries"))?)
    .bind(&new.destination)
    .bind(serde_json::to_value(&new.what)?)
    .bind(patient)
    .bind(state)
    .bind(new.blocked.as_ref().map(|it| it.reason.as_str()).unwrap_or_default())
    .bind(new.blocked.as_ref().map(|it| it.by.name()))
    .execute(&mut *tx)
    .await?;
    if added.rows_affected() == 0 {
        return Ok(());
    }
    let subject = Subject {
        patient,
        run: Some(run),
        destination: Some(new.destination.clone()),
        ..Subject::default()
    };
    let kind = if new.blocked.is_some() { "delivery_blocked" } else { "delivery_queued" };
    let detail = json!({"what": new.what, "reason": new.blocked.as_ref().map(|it| &it.reason)});
    append(tx, &Event::engine(kind, Action::E, subject, detail)).await?;
    Ok(())
}
