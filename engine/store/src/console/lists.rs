//! Lists for people: studies, messages, runs, deliveries, tasks and events, and one run in detail.

use std::collections::BTreeMap;

use domain::event::TrailRead;
use domain::{Actor, Event, Subject};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::{PgStore, commit};
use crate::error::{Error, Result, StoreResult};
use crate::trail::append::append;
use crate::vault::payload;

/// A study in a list.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct StudyLine {
    /// Study Instance UID.
    pub study: String,
    /// Accession number.
    pub accession: String,
    /// The identifier of its patient.
    pub patient: Option<String>,
    /// Modalities, separated by commas.
    pub modalities: String,
    /// Number of current instances.
    pub instances: i64,
    /// When the last instance arrived, in UTC (RFC 3339).
    pub last_received: String,
    /// Number of runs on it.
    pub runs: i64,
}

/// A message in a list.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct MessageLine {
    /// The engine's key.
    pub id: Uuid,
    /// When it arrived, in UTC (RFC 3339).
    pub received_at: String,
    /// Sending application (MSH-3).
    pub sender: String,
    /// Type and trigger event (MSH-9).
    pub message_type: String,
    /// Message control ID (MSH-10).
    pub control_id: String,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// Acknowledgement code of the answer (MSA-1).
    pub code: String,
    /// Why it was refused.
    pub problem: Option<String>,
    /// What is unusual about it: names of `MessageFlag`.
    pub flags: Vec<String>,
    /// Whether it was decided which workflows start on it.
    pub decided: bool,
    /// The later message whose results hold in place of its own.
    #[sqlx(default)]
    pub superseded_by: Option<Uuid>,
}

/// A run in a list.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct RunLine {
    /// Its key.
    pub id: Uuid,
    /// The workflow.
    pub workflow: String,
    /// The name of a `RunStatus`.
    pub status: String,
    /// Study it is about.
    pub study: Option<String>,
    /// Message it is about.
    pub message: Option<Uuid>,
    /// Why it was started.
    pub reason: String,
    /// When it was started.
    pub started_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
}

/// A node of a run.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct NodeLine {
    /// Its name.
    pub node: String,
    /// The name of a `NodeState`.
    pub state: String,
    /// Number of attempts.
    pub attempt: i32,
    /// The plugin, with its version.
    pub plugin: Option<String>,
    /// Why it is in this state.
    pub reason: String,
}

/// A delivery.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct DeliveryLine {
    /// Its key.
    pub id: Uuid,
    /// Its run.
    pub run: Uuid,
    /// The destination.
    pub destination: String,
    /// What.
    pub what: Value,
    /// The name of a `DeliveryState`.
    pub state: String,
    /// Number of attempts.
    pub attempt: i32,
    /// Why it is in this state.
    pub reason: String,
}

/// Selects events: those that fit every field that is set.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Any identifier of the patient.
    pub patient: Option<String>,
    /// Study Instance UID.
    pub study: Option<String>,
    /// The id of the actor.
    pub user: Option<String>,
    /// A result: its run, or an identifier under which it was sent.
    pub result: Option<String>,
}

/// One run with everything in it.
#[derive(Clone, Debug, Serialize)]
pub struct RunDetail {
    /// The run.
    pub run: RunLine,
    /// Its nodes.
    pub nodes: Vec<NodeLine>,
    /// What it sends.
    pub deliveries: Vec<DeliveryLine>,
    /// What its nodes found.
    pub outputs: BTreeMap<String, Value>,
}

/// Something a person has to look at.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct TaskLine {
    /// Its key.
    pub id: Uuid,
    /// The name of a `TaskKind`.
    pub kind: String,
    /// What it is about.
    pub subject: Value,
    /// Why.
    pub reason: String,
    /// Since when.
    pub opened_at: String,
    /// What was decided, once a person has.
    pub decision: Option<String>,
}

/// An event in a list.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct EventLine {
    /// When.
    pub at: String,
    /// What.
    pub kind: String,
    /// All of it.
    pub body: Value,
    /// Its place in the chain, once it is sealed.
    pub seq: Option<i64>,
}

/// A study as lists show it; a condition or an order may follow.
pub(crate) const STUDY_COLUMNS: &str = "select s.uid as study, s.accession,
    (select p.value from patient p where p.id = patient_root(s.patient)) as patient,
    coalesce((select string_agg(distinct modality, ',') from series
    where study = s.uid), '') as modalities,
    (select count(*) from instance i where i.study = s.uid and is_current) as instances,
    to_char(s.last_received at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
    as last_received,
    (select count(*) from run r where r.study = s.uid) as runs
    from study s ";

const RUN_COLUMNS: &str = "select id, workflow, status, study, message, reason,
    to_char(started_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as started_at,
    to_char(ended_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as ended_at from run ";

impl PgStore {
    /// The newest studies.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn studies(&self, limit: i64) -> StoreResult<Vec<StudyLine>> {
        let query = format!("{STUDY_COLUMNS} order by s.last_received desc limit $1");
        let rows = sqlx::query_as(sqlx::AssertSqlSafe(query));
        Ok(rows.bind(limit).fetch_all(&self.pool).await.map_err(Error::from)?)
    }

    /// The newest messages.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn messages(&self, limit: i64) -> StoreResult<Vec<MessageLine>> {
        let rows = sqlx::query_as(
            "select id, to_char(received_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
                as received_at, sending_application as sender,
                message_code || '^' || trigger_event as message_type, control_id, sha256, code, problem,
                flags, decided
             from message order by received_at desc limit $1",
        );
        Ok(rows.bind(limit).fetch_all(&self.pool).await.map_err(Error::from)?)
    }

    /// The newest runs.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn runs(&self, limit: i64) -> StoreResult<Vec<RunLine>> {
        let query = format!("{RUN_COLUMNS} order by run.started_at desc limit $1");
        let rows = sqlx::query_as(sqlx::AssertSqlSafe(query));
        Ok(rows.bind(limit).fetch_all(&self.pool).await.map_err(Error::from)?)
    }

    /// One run with everything in it. `None` if there is no such run.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn run(&self, id: Uuid) -> StoreResult<Option<RunDetail>> {
        Ok(self.run_detail(id).await?)
    }

    pub(crate) async fn run_detail(&self, id: Uuid) -> Result<Option<RunDetail>> {
        let query = format!("{RUN_COLUMNS} where id = $1");
        let run: Option<RunLine> =
            sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(&self.pool).await?;
        let Some(run) = run else { return Ok(None) };
        let nodes = sqlx::query_as(
            "select node, state, attempt, plugin ->> 'name' || ' ' || (plugin ->> 'version')
                as plugin, reason from node where run = $1 order by changed_at, node",
        );
        let nodes = nodes.bind(id).fetch_all(&self.pool).await?;
        let deliveries = sqlx::query_as(
            "select id, run, destination, what, state, attempt, reason from delivery
             where run = $1 order by index",
        );
        let deliveries = deliveries.bind(id).fetch_all(&self.pool).await?;
        let outputs = self.readable_outputs(id).await?;
        Ok(Some(RunDetail { run, nodes, deliveries, outputs }))
    }

    /// The outputs of the nodes of a run. Null for what was erased or cannot be read.
    async fn readable_outputs(&self, run: Uuid) -> Result<BTreeMap<String, Value>> {
        let rows: Vec<(String, Uuid)> =
            sqlx::query_as("select node, output from node where run = $1 and output is not null")
                .bind(run)
                .fetch_all(&self.pool)
                .await?;
        let mut outputs = BTreeMap::new();
        let mut connection = self.pool.acquire().await?;
        for (node, output) in rows {
            let content = payload::read(&mut connection, &self.keys, output).await?;
            let value = content.and_then(|it| serde_json::from_slice(&it).ok());
            outputs.insert(node, value.unwrap_or(Value::Null));
        }
        Ok(outputs)
    }

    /// The newest deliveries; with `only_failed`, those that failed or are blocked.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn deliveries(
        &self,
        only_failed: bool,
        limit: i64,
    ) -> StoreResult<Vec<DeliveryLine>> {
        let rows = sqlx::query_as(
            "select id, run, destination, what, state, attempt, reason from delivery
             where not $1 or state in ('failed', 'blocked') order by position desc limit $2",
        );
        Ok(rows.bind(only_failed).bind(limit).fetch_all(&self.pool).await.map_err(Error::from)?)
    }

    /// The open tasks, oldest first.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn tasks(&self, limit: i64) -> StoreResult<Vec<TaskLine>> {
        let rows = sqlx::query_as(
            "select id, kind, subject, reason,
                to_char(opened_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as opened_at,
                decision from task where decided_at is null order by opened_at limit $1",
        );
        Ok(rows.bind(limit).fetch_all(&self.pool).await.map_err(Error::from)?)
    }

    /// The newest events, all or those that fit the filter. Reading them is an event too (AUD-08).
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn events(
        &self,
        filter: &EventFilter,
        limit: i64,
        actor: Actor,
    ) -> StoreResult<Vec<EventLine>> {
        let mut tx = self.begin().await?;
        let lines = events_in_tx(&mut tx, filter, limit).await?;
        let subject = Subject { study: filter.study.clone(), ..Subject::default() };
        // The identifier of a patient must be erasable: it is not named here.
        let body = TrailRead {
            by_patient: filter.patient.is_some(),
            user: filter.user.clone(),
            result: filter.result.clone(),
        };
        append(&mut tx, &Event::new(subject, body).by(actor)).await?;
        commit(tx).await?;
        Ok(lines)
    }
}

async fn events_in_tx(
    tx: &mut PgConnection,
    filter: &EventFilter,
    limit: i64,
) -> Result<Vec<EventLine>> {
    let rows = sqlx::query_as(
        "select to_char(e.at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as at,
            e.kind, e.body, s.seq
         from audit.event e left join audit.seal s on s.event = e.id
         where ($1::text is null or e.patient in (select f from patient_identifier i,
                    patient_family(i.patient) f where i.value = $1))
           and ($2::text is null or e.study = $2)
           and ($3::text is null or e.body #>> '{actor,id}' = $3)
           and ($4::text is null or e.run in (
                select id from run where id::text = $4
                union select c.run from audit.event c where c.kind = 'report_composed'
                    and c.body #> '{detail,outputs}' @> jsonb_build_array(
                        jsonb_build_object('id', $4::text))))
         order by e.at desc limit $5",
    );
    Ok(rows
        .bind(&filter.patient)
        .bind(&filter.study)
        .bind(&filter.user)
        .bind(&filter.result)
        .bind(limit)
        .fetch_all(tx)
        .await?)
}
