//! A run as it is stored, and the changes a decision makes to it.

use contracts::{NewDelivery, NodeChange, RunEnd, RunRecord, RunStep};
use domain::event::{DeliveryBlocked, DeliveryQueued, NodeOutputStored};
use domain::{DeliveryState, Event, NodeOutput, Subject, WorkflowRef, row_keys};
use jiff::Timestamp;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::decode;
use crate::error::{Result, inconsistent};
use crate::run::{snapshot, task};
use crate::trail::append::{append, append_all};
use crate::vault::keys::Keys;
use crate::vault::payload::{self, StoredPayload};

#[derive(sqlx::FromRow)]
struct RunRow {
    workflow: String,
    digest: String,
    definition: String,
    state: Value,
    patient: Option<Uuid>,
    study: Option<String>,
    message: Option<Uuid>,
    has_ended: bool,
    amends: Option<Value>,
}

/// Loads a run.
pub(crate) async fn load(tx: &mut PgConnection, id: Uuid) -> Result<RunRecord> {
    let row: Option<RunRow> = sqlx::query_as(
        "select r.workflow, r.digest, w.definition, r.state,
            patient_root(coalesce((select s.patient from study s where s.uid = r.study),
                (select m.patient from message m where m.id = r.message), r.patient)) as patient,
            r.study, r.message, r.ended_at is not null as has_ended, r.amends
         from run r join workflow_version w on w.name = r.workflow and w.digest = r.digest
         where r.id = $1",
    )
    .bind(id)
    .fetch_optional(tx)
    .await?;
    let row = row.ok_or_else(|| inconsistent("there is no such run"))?;
    Ok(RunRecord {
        id,
        workflow: WorkflowRef { name: row.workflow, digest: row.digest },
        definition: row.definition,
        state: row.state,
        patient: row.patient,
        study: row.study.map(|it| decode::uid(&it)).transpose()?,
        message: row.message,
        has_ended: row.has_ended,
        amends: row.amends.map(serde_json::from_value).transpose()?,
    })
}

/// Loads a run to change it: its row is locked until the transaction ends.
pub(crate) async fn load_locked(tx: &mut PgConnection, id: Uuid) -> Result<RunRecord> {
    sqlx::query("select 1 from run where id = $1 for update").bind(id).execute(&mut *tx).await?;
    load(tx, id).await
}

/// The subject of events about a run.
pub(crate) fn subject(run: &RunRecord) -> Subject {
    Subject {
        patient: run.patient,
        study: run.study.as_ref().map(ToString::to_string),
        message: run.message,
        run: Some(run.id),
        ..Subject::default()
    }
}

/// The subject of events about a node of a run.
pub(crate) fn node_subject(run: &RunRecord, node: &str) -> Subject {
    Subject { node: Some(node.to_owned()), ..subject(run) }
}

/// A run as far as a change needs it.
pub(crate) struct RunToChange {
    pub(crate) id: Uuid,
    /// The patient whose key encrypts the outputs.
    pub(crate) patient: Option<Uuid>,
    /// The priority that new nodes get.
    pub(crate) priority: i16,
}

impl RunToChange {
    pub(crate) async fn of(tx: &mut PgConnection, run: &RunRecord) -> Result<Self> {
        let query = sqlx::query_scalar("select priority from run where id = $1").bind(run.id);
        let priority = query.fetch_one(tx).await?;
        Ok(Self { id: run.id, patient: run.patient, priority })
    }
}

/// Writes what a decision changes in a run.
pub(crate) async fn apply_step(
    tx: &mut PgConnection,
    keys: &Keys,
    run: &RunToChange,
    step: RunStep,
) -> Result<()> {
    append_all(tx, &step.events).await?;
    sqlx::query(
        "update run set state = $2,
            status = coalesce($3, case when $4 then 'running' else status end),
            ended_at = case when $3 is not null then clock_timestamp()
                when $4 then null else ended_at end
         where id = $1",
    )
    .bind(run.id)
    .bind(&step.state)
    .bind(step.end.map(RunEnd::name))
    .bind(step.is_reopened)
    .execute(&mut *tx)
    .await?;
    for change in &step.nodes {
        change_node(tx, keys, run, change).await?;
    }
    for delivery in &step.deliveries {
        queue_delivery(tx, run, delivery).await?;
    }
    for new in &step.tasks {
        task::open(tx, new).await?;
    }
    Ok(())
}

async fn change_node(
    tx: &mut PgConnection,
    keys: &Keys,
    run: &RunToChange,
    change: &NodeChange,
) -> Result<()> {
    let output = match &change.output {
        Some(output) => Some(store_output(tx, keys, run, &change.node, output).await?),
        None => None,
    };
    sqlx::query(
        "insert into node (run, node, state, plugin, priority, run_after, output, reason, due_at,
            turn)
         values ($1, $2, $3, $4, $5, coalesce(at_micros($6), now()), $7, $8, at_micros($9),
            (select turn from run where id = $1))
         on conflict (run, node) do update set
            state = excluded.state, plugin = coalesce(excluded.plugin, node.plugin),
            run_after = excluded.run_after, output = coalesce(excluded.output, node.output),
            reason = excluded.reason, lease_until = null, changed_at = clock_timestamp(),
            due_at = coalesce(excluded.due_at, node.due_at)",
    )
    .bind(run.id)
    .bind(&change.node)
    .bind(change.state.name())
    .bind(change.plugin.as_ref().map(serde_json::to_value).transpose()?)
    .bind(run.priority)
    .bind(change.run_after.map(Timestamp::as_microsecond))
    .bind(output.map(|it| it.id))
    .bind(change.reason.replace('\0', ""))
    .bind(change.due.map(Timestamp::as_microsecond))
    .execute(tx)
    .await?;
    Ok(())
}

/// Stores the output of a node, and reports it.
async fn store_output(
    tx: &mut PgConnection,
    keys: &Keys,
    run: &RunToChange,
    node: &str,
    output: &NodeOutput,
) -> Result<StoredPayload> {
    let mut output = output.clone();
    if !output.laboratory.is_empty() || !output.segmentations.is_empty() {
        // Rows get their keys here, once: what other nodes have stored keeps its own (HL7-53).
        let mut others = snapshot::outputs(tx, keys, run.id).await?;
        others.remove(node);
        row_keys::number(&mut output, others.values());
    }
    let content = serde_json::to_vec(&output)?;
    let stored = payload::store(tx, keys, run.patient, "node_output", &content).await?;
    let artifacts: Vec<&str> = output.artifacts().map(|it| it.sha256.as_str()).collect();
    payload::link_artifacts(tx, stored.id, &artifacts).await?;
    let subject = Subject {
        patient: run.patient,
        run: Some(run.id),
        node: Some(node.to_owned()),
        ..Subject::default()
    };
    let body = NodeOutputStored { payload: stored.id, salted_sha256: stored.digest.clone() };
    append(tx, &Event::new(subject, body)).await?;
    Ok(stored)
}

/// Adds a delivery to the queue, or releases one that was blocked before.
async fn queue_delivery(tx: &mut PgConnection, run: &RunToChange, new: &NewDelivery) -> Result<()> {
    let state = if new.blocked.is_some() { DeliveryState::Blocked } else { DeliveryState::Queued };
    let added = sqlx::query(
        "insert into delivery (id, run, index, destination, what, patient, state, blocked_by,
            reason, ended_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, case when $7 = 'blocked' then now() end)
         on conflict (run, index) do update set state = excluded.state, blocked_by = null,
            reason = excluded.reason, ended_at = excluded.ended_at, run_after = now()
         where delivery.state = 'blocked' and excluded.state = 'queued'",
    )
    .bind(Uuid::now_v7())
    .bind(run.id)
    .bind(i32::try_from(new.index).map_err(|_| inconsistent("too many deliveries"))?)
    .bind(&new.destination)
    .bind(serde_json::to_value(&new.what)?)
    .bind(run.patient)
    .bind(state.name())
    .bind(new.blocked.as_ref().map(|it| it.by.name()))
    .bind(new.blocked.as_ref().map(|it| it.reason.as_str()).unwrap_or_default())
    .execute(&mut *tx)
    .await?;
    if added.rows_affected() == 0 {
        return Ok(());
    }
    let subject = Subject {
        patient: run.patient,
        run: Some(run.id),
        destination: Some(new.destination.clone()),
        ..Subject::default()
    };
    let what = Some(new.what.clone());
    let event = match &new.blocked {
        Some(block) => {
            let reason = Some(block.reason.clone());
            let body = DeliveryBlocked { what, reason, replaced_by: None, attempt: None };
            Event::new(subject, body)
        }
        None => Event::new(subject, DeliveryQueued { what, reason: None }),
    };
    append(tx, &event).await?;
    Ok(())
}
