//! Why something did or did not happen: everything that is known about an identifier.

use std::collections::BTreeMap;

use contracts::WorkflowStanding;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::console::lists::{
    EventLine, MessageLine, RunDetail, STUDY_COLUMNS, StudyLine, TaskLine,
};
use crate::database::pg_store::PgStore;
use crate::error::{Error, Result, StoreResult};

/// What is known about an accession number, a study, a patient identifier or a message.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Why {
    /// Patients that belong together with those it names, and stay patients of their own.
    pub links: Vec<Value>,
    /// Orders it names.
    pub orders: Vec<Value>,
    /// Messages it names.
    pub messages: Vec<MessageLine>,
    /// Runs on those messages.
    pub message_runs: Vec<RunDetail>,
    /// What waits for a person about those messages themselves.
    pub message_tasks: Vec<TaskLine>,
    /// Studies it names.
    pub studies: Vec<WhyStudy>,
    /// Instances that were refused under this UID, and never stored.
    pub refusals: Vec<EventLine>,
}

/// What is known about a study.
#[derive(Clone, Debug, Serialize)]
pub struct WhyStudy {
    /// The study.
    pub study: StudyLine,
    /// Why each workflow that has not started waits, or does not start.
    pub standings: BTreeMap<String, WorkflowStanding>,
    /// What ran on it.
    pub runs: Vec<RunDetail>,
    /// What waits for a person.
    pub tasks: Vec<TaskLine>,
}

impl PgStore {
    /// Everything that is known about what `text` names.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn why(&self, text: &str) -> StoreResult<Why> {
        Ok(self.why_rows(text).await?)
    }

    async fn why_rows(&self, text: &str) -> Result<Why> {
        let uids: Vec<String> = sqlx::query_scalar(
            "select distinct s.uid from study s
             where s.uid = $1
                or s.uid in (select study from study_accession_number where number = $1)
                or s.uid in (select study from imaging_order
                    where accession = $1 or placer = $1 or filler = $1)
                or s.uid in (select study from series where uid = $1)
                or s.uid in (select study from instance where uid = $1)
                or s.patient in (select f from patient_identifier i, patient_family(i.patient) f
                    where i.value = $1)
             order by s.uid limit 100",
        )
        .bind(text)
        .fetch_all(&self.pool)
        .await?;
        let mut studies = Vec::new();
        for uid in uids {
            studies.push(self.why_study(&uid).await?);
        }
        let (messages, message_runs) = self.why_messages(text).await?;
        let ids: Vec<String> = messages.iter().map(|it| it.id.to_string()).collect();
        Ok(Why {
            links: self.why_links(text).await?,
            orders: self.why_orders(text).await?,
            messages,
            message_runs,
            message_tasks: self.tasks_about("message", &ids).await?,
            studies,
            refusals: self.why_refusals(text).await?,
        })
    }

    async fn why_links(&self, text: &str) -> Result<Vec<Value>> {
        let rows = sqlx::query_scalar(
            "with family as (select distinct f from patient_identifier i,
                patient_family(i.patient) f where i.value = $1),
             latest as (select distinct on (one, other) one, other, is_linked from patient_link
                where one in (select f from family) or other in (select f from family)
                order by one, other, asserted_at desc, event desc)
             select jsonb_build_object('with', p.value) from latest l
                join patient p on p.id = patient_root(
                    case when l.one in (select f from family) then l.other else l.one end)
             where l.is_linked order by p.value limit 100",
        )
        .bind(text)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }

    async fn why_study(&self, uid: &str) -> Result<WhyStudy> {
        let query = format!("{STUDY_COLUMNS} where s.uid = $1");
        let study = sqlx::query_as(sqlx::AssertSqlSafe(query));
        let study = study.bind(uid).fetch_one(&self.pool).await?;
        let standings: Value = sqlx::query_scalar("select standings from study where uid = $1")
            .bind(uid)
            .fetch_one(&self.pool)
            .await?;
        let runs: Vec<Uuid> =
            sqlx::query_scalar("select id from run where study = $1 order by started_at")
                .bind(uid)
                .fetch_all(&self.pool)
                .await?;
        let tasks = self.tasks_about("study", &[uid.to_owned()]).await?;
        let standings = serde_json::from_value(standings)?;
        Ok(WhyStudy { study, standings, runs: self.details(runs).await?, tasks })
    }

    /// The tasks whose subject names one of `values` under `part`.
    async fn tasks_about(&self, part: &str, values: &[String]) -> Result<Vec<TaskLine>> {
        let tasks = sqlx::query_as(
            "select id, kind, subject, reason,
                to_char(opened_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as opened_at,
                decision from task where subject ->> $1 = any($2) order by opened_at",
        );
        Ok(tasks.bind(part).bind(values).fetch_all(&self.pool).await?)
    }

    async fn details(&self, runs: Vec<Uuid>) -> Result<Vec<RunDetail>> {
        let mut details = Vec::new();
        for run in runs {
            details.extend(self.run_detail(run).await?);
        }
        Ok(details)
    }

    async fn why_messages(&self, text: &str) -> Result<(Vec<MessageLine>, Vec<RunDetail>)> {
        let messages: Vec<MessageLine> = sqlx::query_as(
            "select id, to_char(received_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
                as received_at, sending_application as sender,
                message_code || '^' || trigger_event as message_type, control_id, sha256, code, problem,
                flags, decided, superseded_by
             from message where control_id = $1 or id::text = $1 or (accession = $1 and $1 <> '')
                or patient in (select f from patient_identifier i, patient_family(i.patient) f
                    where i.value = $1)
             order by received_at limit 100",
        )
        .bind(text)
        .fetch_all(&self.pool)
        .await?;
        let ids: Vec<Uuid> = messages.iter().map(|it| it.id).collect();
        let runs: Vec<Uuid> =
            sqlx::query_scalar("select id from run where message = any($1) order by started_at")
                .bind(ids)
                .fetch_all(&self.pool)
                .await?;
        Ok((messages, self.details(runs).await?))
    }

    async fn why_orders(&self, text: &str) -> Result<Vec<Value>> {
        let rows = sqlx::query_scalar(
            "select jsonb_build_object('placer', placer, 'filler', filler, 'kind', kind,
                'placer_authority', placer_authority, 'filler_authority', filler_authority,
                'accession', accession, 'accession_in_images', accession_in_images,
                'study', study, 'procedure', body ->> 'procedure', 'cancelled', cancelled,
                'patient', (select p.value from patient p where p.id = patient_root(o.patient)))
             from imaging_order o
             where accession = $1 or placer = $1 or filler = $1 or study = $1
                or (accession_in_images <> '' and accession_in_images = $1) limit 100",
        )
        .bind(text)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }

    /// Instances that were refused, by their UID.
    async fn why_refusals(&self, text: &str) -> Result<Vec<EventLine>> {
        let rows = sqlx::query_as(
            "select to_char(e.at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as at,
                e.kind, e.body, s.seq
             from audit.event e left join audit.seal s on s.event = e.id
             where e.kind = 'instance_refused' and (e.instance = $1 or e.study = $1)
             order by e.at limit 100",
        );
        rows.bind(text).fetch_all(&self.pool).await.map_err(Error::from)
    }
}
