use contracts::{DecideMessage, DecideStudy, NewRun, StudyStep};
use domain::{Action, BlockReason, Event, Subject};
use jiff::Timestamp;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::database::wakeups::announce;
use crate::error::Result;
use crate::patient::identity;
use crate::run::record;
use crate::run::snapshot;
use crate::run::task;
use crate::trail::append::{append, append_all};

/// Most messages that are decided on in one transaction.
const MESSAGES_MAX: i64 = 16;

impl PgStore {
    pub(crate) async fn end_association_rows(&self, association: Option<Uuid>) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        // A study before its associations, as the intake and `clock::WAITING` do.
        sqlx::query(
            "select from study where uid in (select study from study_association
                where ended_at is null and association = coalesce($1, association))
             order by uid for no key update",
        )
        .bind(association)
        .execute(&mut *tx)
        .await?;
        let ended: Vec<(String,)> = sqlx::query_as(
            "update study_association set ended_at = clock_timestamp()
             where ended_at is null and association = coalesce($1, association) returning study",
        )
        .bind(association)
        .fetch_all(&mut *tx)
        .await?;
        if !ended.is_empty() {
            let studies: Vec<String> = ended.into_iter().map(|(it,)| it).collect();
            sqlx::query("update study set look_at = clock_timestamp() where uid = any($1)")
                .bind(&studies)
                .execute(&mut *tx)
                .await?;
            announce(&mut tx, "assembly").await?;
        }
        tx.commit().await?;
        Ok(())
    }

    pub(crate) async fn decide_study_row(
        &self,
        now: Timestamp,
        decide: DecideStudy<'_>,
    ) -> Result<bool> {
        // Mostly there is nothing to do, and one question is enough.
        let look = "select is_study_due(at_micros($1))";
        if !sqlx::query_scalar(look).bind(now.as_microsecond()).fetch_one(&self.pool).await? {
            return Ok(false);
        }
        let mut tx = identity::begin_shared(&self.pool).await?;
        let due: Option<(String,)> = sqlx::query_as(
            "select uid from study where look_at <= at_micros($1)
             order by look_at limit 1 for update skip locked",
        )
        .bind(now.as_microsecond())
        .fetch_optional(&mut *tx)
        .await?;
        let Some((uid,)) = due else { return Ok(false) };
        if uid.parse::<domain::StudyInstanceUid>().is_err() {
            // Its instances are flagged, and used by nothing (DIN-61).
            sqlx::query("update study set look_at = null where uid = $1")
                .bind(&uid)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            return Ok(true);
        }
        let snapshot = snapshot::study(&mut tx, &uid).await?;
        let step = decide(&snapshot);
        self.apply_study_step(&mut tx, &uid, step).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn apply_study_step(
        &self,
        tx: &mut PgConnection,
        uid: &str,
        step: StudyStep,
    ) -> Result<()> {
        append_all(tx, &step.events).await?;
        for new in &step.tasks {
            task::open(tx, new).await?;
        }
        sqlx::query("update study set look_at = at_micros($2), standings = $3 where uid = $1")
            .bind(uid)
            .bind(step.look_again.map(Timestamp::as_microsecond))
            .bind(serde_json::to_value(&step.standings)?)
            .execute(&mut *tx)
            .await?;
        for new in step.start {
            self.start_run(tx, new).await?;
        }
        Ok(())
    }

    pub(crate) async fn decide_message_rows(&self, mut decide: DecideMessage<'_>) -> Result<bool> {
        if !sqlx::query_scalar("select is_message_due()").fetch_one(&self.pool).await? {
            return Ok(false);
        }
        let mut tx = identity::begin_shared(&self.pool).await?;
        let due: Vec<Uuid> = sqlx::query_scalar(
            "select id from message where not decided order by received_at limit $1
             for update skip locked",
        )
        .bind(MESSAGES_MAX)
        .fetch_all(&mut *tx)
        .await?;
        let (mut start, mut events) = (Vec::new(), Vec::new());
        for snapshot in self.message_snapshots(&mut tx, &due).await? {
            let step = decide(&snapshot);
            start.extend(step.start);
            events.extend(step.events);
        }
        append_all(&mut tx, &events).await?;
        sqlx::query("update message set decided = true where id = any($1)")
            .bind(&due)
            .execute(&mut *tx)
            .await?;
        for new in start {
            self.start_run(&mut tx, new).await?;
        }
        tx.commit().await?;
        Ok(!due.is_empty())
    }

    /// Starts a run, unless the same workflow has had the same input (DIN-53).
    async fn start_run(&self, tx: &mut PgConnection, new: NewRun) -> Result<()> {
        sqlx::query(
            "insert into workflow_version (name, digest, definition) values ($1, $2, $3)
             on conflict do nothing",
        )
        .bind(&new.workflow.name)
        .bind(&new.workflow.digest)
        .bind(&new.definition)
        .execute(&mut *tx)
        .await?;
        let source = source(tx, &new).await?;
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
        .bind(new.study.as_ref().map(domain::StudyInstanceUid::as_str))
        .bind(new.message)
        .bind(new.priority)
        .bind(new.input_key.to_string())
        .bind(&new.step.state)
        .bind(&new.reason)
        .bind(new.amends.map(serde_json::to_value).transpose()?)
        .bind(new.due.map(Timestamp::as_microsecond))
        .bind(source)
        .execute(&mut *tx)
        .await?;
        if added.rows_affected() == 0 {
            return Ok(());
        }
        if let Some(amended) = new.amends.filter(|it| it.is_replaced) {
            withdraw(tx, &new, amended.run).await?;
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
        record::apply(tx, &self.keys, new.id, new.patient, new.priority, new.step).await?;
        announce(tx, "node").await
    }
}

/// Who sent what a run is on.
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

/// Holds back what of an earlier run has not been sent: a later one replaces it.
async fn withdraw(tx: &mut PgConnection, new: &NewRun, earlier: Uuid) -> Result<()> {
    let rows: Vec<(String,)> = sqlx::query_as(
        "update delivery set state = 'blocked', ended_at = now(), blocked_by = $2,
            reason = 'replaced by a run on all instances'
         where run = $1 and state = 'queued' returning destination",
    )
    .bind(earlier)
    .bind(BlockReason::Replaced.name())
    .fetch_all(&mut *tx)
    .await?;
    for (destination,) in rows {
        let subject = Subject {
            patient: new.patient,
            run: Some(earlier),
            destination: Some(destination),
            ..Subject::default()
        };
        let detail = json!({"replaced_by": new.id});
        append(tx, &Event::engine("delivery_blocked", Action::E, subject, detail)).await?;
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
    let detail = json!({
        "workflow": new.workflow.name, "digest": new.workflow.digest, "reason": new.reason,
        "instances": new.instances.len(), "input_key": new.input_key.to_string(),
        "amends": new.amends.map(|it| it.run), "replaces": new.amends.map(|it| it.is_replaced),
    });
    Event::engine("run_started", Action::E, subject, detail)
}
