//! Decisions about studies and messages, and the runs they start.

use async_trait::async_trait;
use contracts::{AssemblyStore, DecideMessage, DecideStudy, NewRun, StudyStep, WorkKind};
use domain::event::{DeliveryBlocked, RunStarted};
use domain::{BlockReason, Event, StudyInstanceUid, Subject};
use jiff::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::{PgStore, commit};
use crate::database::wakeups::notify;
use crate::error::{Error, Result, StoreResult};
use crate::patient::identity;
use crate::run::{chain, later_results, record, snapshot, task};
use crate::trail::append::{append, append_all};
use crate::vault::keys::Keys;

/// Upper bound of messages that are decided on in one transaction.
const MESSAGES_MAX: i64 = 16;

#[async_trait]
impl AssemblyStore for PgStore {
    async fn decide_study(&self, now: Timestamp, decide: DecideStudy<'_>) -> StoreResult<bool> {
        // Mostly no study is due, and one query without a transaction is enough.
        let is_due: bool = sqlx::query_scalar("select is_study_due(at_micros($1))")
            .bind(now.as_microsecond())
            .fetch_one(&self.pool)
            .await
            .map_err(Error::from)?;
        if !is_due {
            return Ok(false);
        }
        let mut tx = identity::begin_shared(&self.pool).await?;
        let is_found = decide_study_in_tx(&mut tx, &self.keys, now, decide).await?;
        commit(tx).await?;
        Ok(is_found)
    }

    async fn decide_messages(&self, decide: DecideMessage<'_>) -> StoreResult<bool> {
        let is_due: bool = sqlx::query_scalar("select is_message_due()")
            .fetch_one(&self.pool)
            .await
            .map_err(Error::from)?;
        if !is_due {
            return Ok(false);
        }
        let mut tx = identity::begin_shared(&self.pool).await?;
        let is_found = decide_messages_in_tx(&mut tx, &self.keys, decide).await?;
        commit(tx).await?;
        Ok(is_found)
    }
}

async fn decide_study_in_tx(
    tx: &mut PgConnection,
    keys: &Keys,
    now: Timestamp,
    decide: DecideStudy<'_>,
) -> Result<bool> {
    let due: Option<String> = sqlx::query_scalar(
        "select uid from study where decide_at <= at_micros($1)
         order by decide_at limit 1 for update skip locked",
    )
    .bind(now.as_microsecond())
    .fetch_optional(&mut *tx)
    .await?;
    let Some(uid) = due else { return Ok(false) };
    if uid.parse::<StudyInstanceUid>().is_err() {
        // The instances of a malformed study are flagged, and used by nothing (DIN-61).
        sqlx::query("update study set decide_at = null where uid = $1")
            .bind(&uid)
            .execute(tx)
            .await?;
        return Ok(true);
    }
    let snapshot = snapshot::study(tx, &uid).await?;
    apply_study_step(tx, keys, &uid, decide(&snapshot)).await?;
    Ok(true)
}

async fn apply_study_step(
    tx: &mut PgConnection,
    keys: &Keys,
    uid: &str,
    step: StudyStep,
) -> Result<()> {
    append_all(tx, &step.events).await?;
    for new in &step.tasks {
        task::open(tx, new).await?;
    }
    sqlx::query("update study set decide_at = at_micros($2), standings = $3 where uid = $1")
        .bind(uid)
        .bind(step.look_again.map(Timestamp::as_microsecond))
        .bind(serde_json::to_value(&step.standings)?)
        .execute(&mut *tx)
        .await?;
    for new in step.start {
        start_run(tx, keys, new).await?;
    }
    Ok(())
}

async fn decide_messages_in_tx(
    tx: &mut PgConnection,
    keys: &Keys,
    mut decide: DecideMessage<'_>,
) -> Result<bool> {
    let due: Vec<Uuid> = sqlx::query_scalar(
        "select id from message where not decided order by received_at limit $1
         for update skip locked",
    )
    .bind(MESSAGES_MAX)
    .fetch_all(&mut *tx)
    .await?;
    let mut snapshots = snapshot::messages(tx, keys, &due).await?;
    later_results::lock(tx, &snapshots).await?;
    let mut events = Vec::new();
    for snapshot in &mut snapshots {
        later_results::complete(tx, keys, snapshot).await?;
        let step = decide(snapshot);
        events.extend(step.events);
        for new in &step.tasks {
            task::open(tx, new).await?;
        }
        // Started before the next message is decided on, which may replace what this one says.
        for new in step.start {
            start_run(tx, keys, new).await?;
        }
    }
    append_all(tx, &events).await?;
    sqlx::query("update message set decided = true where id = any($1)")
        .bind(&due)
        .execute(&mut *tx)
        .await?;
    Ok(!due.is_empty())
}

/// Starts a run, unless the same workflow has had the same input (DIN-53).
async fn start_run(tx: &mut PgConnection, keys: &Keys, new: NewRun) -> Result<()> {
    sqlx::query(
        "insert into workflow_version (name, digest, definition) values ($1, $2, $3)
         on conflict do nothing",
    )
    .bind(&new.workflow.name)
    .bind(&new.workflow.digest)
    .bind(&new.definition)
    .execute(&mut *tx)
    .await?;
    if !insert_row(tx, &new).await? {
        return Ok(());
    }
    // A signed result is not replaced before a person has signed the later one.
    if let Some(amended) = new.amends.filter(|it| it.is_replaced)
        && chain::standing(tx, new.id).await?.is_none_or(|it| it.run != amended.run)
    {
        block_replaced_deliveries(tx, &new, amended.run).await?;
    }
    for instance in &new.instances {
        sqlx::query("insert into run_instance (run, uid, sha256) values ($1, $2, $3)")
            .bind(new.id)
            .bind(instance.instance.as_str())
            .bind(&instance.sha256)
            .execute(&mut *tx)
            .await?;
    }
    append(tx, &started(&new)).await?;
    let run = record::RunToChange { id: new.id, patient: new.patient, priority: new.priority };
    record::apply_step(tx, keys, &run, new.step).await?;
    notify(tx, WorkKind::Node).await
}

/// Inserts the row of a run. False if a run with the same input key exists.
async fn insert_row(tx: &mut PgConnection, new: &NewRun) -> Result<bool> {
    let source = source(tx, new).await?;
    let added = sqlx::query(
        "insert into run (id, workflow, digest, patient, study, message, priority, input_key,
            state, reason, amends, due_at, source, turn)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, at_micros($12), $13,
            run_next_turn($13, $7))
         on conflict (input_key) do nothing",
    )
    .bind(new.id)
    .bind(&new.workflow.name)
    .bind(&new.workflow.digest)
    .bind(new.patient)
    .bind(new.study.as_ref().map(StudyInstanceUid::as_str))
    .bind(new.message)
    .bind(new.priority)
    .bind(new.input_key.to_string())
    .bind(&new.step.state)
    .bind(&new.reason)
    .bind(new.amends.map(serde_json::to_value).transpose()?)
    .bind(new.due.map(Timestamp::as_microsecond))
    .bind(source)
    .execute(tx)
    .await?;
    Ok(added.rows_affected() == 1)
}

/// The peer that sent the input of a run: runs of many peers are queued in turn.
async fn source(tx: &mut PgConnection, new: &NewRun) -> Result<String> {
    let instance = new.instances.first();
    let source: Option<String> = sqlx::query_scalar(
        "select coalesce((select calling_ae from instance where uid = $1 and sha256 = $2),
            (select address from message where id = $3))",
    )
    .bind(instance.map(|it| it.instance.as_str()))
    .bind(instance.map(|it| &it.sha256))
    .bind(new.message)
    .fetch_one(tx)
    .await?;
    Ok(source.unwrap_or_default())
}

/// Blocks the unsent deliveries of an earlier run that the new one replaces.
async fn block_replaced_deliveries(
    tx: &mut PgConnection,
    new: &NewRun,
    earlier: Uuid,
) -> Result<()> {
    let destinations: Vec<String> = sqlx::query_scalar(
        "update delivery set state = 'blocked', blocked_by = $2, ended_at = now(),
            reason = 'replaced by a later run'
         where run = $1 and state = 'queued' returning destination",
    )
    .bind(earlier)
    .bind(BlockReason::Replaced.name())
    .fetch_all(&mut *tx)
    .await?;
    for destination in destinations {
        let subject = Subject {
            patient: new.patient,
            run: Some(earlier),
            destination: Some(destination),
            ..Subject::default()
        };
        let body =
            DeliveryBlocked { what: None, reason: None, replaced_by: Some(new.id), attempt: None };
        append(tx, &Event::new(subject, body)).await?;
    }
    Ok(())
}

fn started(new: &NewRun) -> Event {
    let subject = Subject {
        patient: new.patient,
        study: new.study.as_ref().map(ToString::to_string),
        message: new.message,
        run: Some(new.id),
        ..Subject::default()
    };
    let body = RunStarted {
        workflow: new.workflow.name.clone(),
        digest: new.workflow.digest.clone(),
        reason: new.reason.clone(),
        instances: new.instances.len(),
        input_key: new.input_key.to_string(),
        amends: new.amends.map(|it| it.run),
        replaces: new.amends.map(|it| it.is_replaced),
    };
    Event::new(subject, body)
}
