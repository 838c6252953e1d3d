use std::collections::BTreeMap;

use contracts::{
    Announced, Associations, DecideMessage, DecideStudy, MessageSnapshot, NewRun, OrderSnapshot,
    RunSnapshot, SeriesSnapshot, StoredInstance, StudySnapshot, StudyStep,
};
use domain::{Action, Event, Subject};
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Result, inconsistent, stored};
use crate::event::{announce, append, append_all};
use crate::{PgStore, identity, payload, run, task};

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
        let snapshot = study(&mut tx, &uid).await?;
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
        sqlx::query("update study set look_at = at_micros($2), told = $3 where uid = $1")
            .bind(uid)
            .bind(step.look_again.map(Timestamp::as_microsecond))
            .bind(serde_json::to_value(&step.told)?)
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
        for snapshot in self.snapshots(&mut tx, &due).await? {
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

    pub(crate) async fn message(&self, tx: &mut PgConnection, id: Uuid) -> Result<MessageSnapshot> {
        let found = self.snapshots(tx, &[id]).await?.pop();
        found.ok_or_else(|| inconsistent("a message is missing"))
    }

    /// Messages, in the order in which they came.
    async fn snapshots(&self, tx: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<MessageSnapshot>> {
        let rows: Vec<(Uuid, String, Option<Uuid>, Option<Uuid>)> = sqlx::query_as(
            "select id, message_type, patient_root(patient), document from message
             where id = any($1) order by received_at, id",
        )
        .bind(ids)
        .fetch_all(&mut *tx)
        .await?;
        let documents: Vec<Uuid> = rows.iter().filter_map(|it| it.3).collect();
        let mut documents = payload::read_all(tx, &self.keys, &documents).await?;
        let mut all = Vec::new();
        for (id, message_type, patient, document) in rows {
            let document = match document.and_then(|it| documents.remove(&it)) {
                Some(document) => serde_json::from_slice(&document)?,
                None => domain::ExchangedDocument::default(),
            };
            all.push(MessageSnapshot { id, message_type, patient, document });
        }
        Ok(all)
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
                next_turn($13, $7))
             on conflict (input_key) do nothing",
        )
        .bind(new.id)
        .bind(&new.workflow.name)
        .bind(&new.workflow.digest)
        .bind(new.patient)
        .bind(new.study.as_ref().map(domain::StudyInstanceUid::as_str))
        .bind(new.message)
        .bind(new.priority)
        .bind(&new.input_key)
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
        run::apply(tx, &self.keys, new.id, new.patient, new.priority, new.step).await?;
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
        "update delivery set state = 'blocked', ended_at = now(),
            reason = 'replaced by a run on all instances'
         where run = $1 and state = 'queued' returning destination",
    )
    .bind(earlier)
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
        "instances": new.instances.len(), "input_key": new.input_key,
        "amends": new.amends.map(|it| it.run), "replaces": new.amends.map(|it| it.is_replaced),
    });
    Event::engine("run_started", Action::E, subject, detail)
}

type StudyRow = (Option<Uuid>, String, String, i64, i64, Value);

/// Everything decisions about a study need.
async fn study(tx: &mut PgConnection, uid: &str) -> Result<StudySnapshot> {
    let (patient, accession, description, first, last, told): StudyRow = sqlx::query_as(
        "select patient_root(patient), accession, description, micros(first_received),
            micros(last_received), told from study where uid = $1",
    )
    .bind(uid)
    .fetch_one(&mut *tx)
    .await?;
    let told: BTreeMap<String, String> = serde_json::from_value(told)?;
    Ok(StudySnapshot {
        associations: associations(tx, uid).await?,
        announced: announced(tx, uid).await?,
        study: stored(uid)?,
        patient,
        orders: orders(tx, Some(uid)).await?,
        accession,
        description,
        first_received: time(first)?,
        last_received: time(last)?,
        series: study_series(tx, uid).await?,
        runs: runs(tx, uid).await?,
        told,
    })
}

pub(crate) fn time(micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|_| inconsistent("a time is out of range"))
}

async fn study_series(tx: &mut PgConnection, uid: &str) -> Result<Vec<SeriesSnapshot>> {
    let rows: Vec<SeriesRow> = sqlx::query_as(
        "select s.uid, s.modality, s.body_part, s.description, i.uid, i.sop_class, i.sha256,
            i.is_own
         from instance i join series s on s.uid = i.series
         where i.study = $1 and i.is_current order by s.uid, i.uid",
    )
    .bind(uid)
    .fetch_all(tx)
    .await?;
    grouped(rows)
}

type SeriesRow = (String, String, String, String, String, String, String, bool);

/// The instances of a run, by series.
pub(crate) async fn run_series(tx: &mut PgConnection, run: Uuid) -> Result<Vec<SeriesSnapshot>> {
    let rows: Vec<SeriesRow> = sqlx::query_as(
        "select s.uid, s.modality, s.body_part, s.description, i.uid, i.sop_class, i.sha256,
            i.is_own
         from run_instance r join instance i on i.uid = r.uid and i.sha256 = r.sha256
            join series s on s.uid = i.series
         where r.run = $1 order by s.uid, i.uid",
    )
    .bind(run)
    .fetch_all(tx)
    .await?;
    grouped(rows)
}

fn grouped(rows: Vec<SeriesRow>) -> Result<Vec<SeriesSnapshot>> {
    let mut all: Vec<SeriesSnapshot> = Vec::new();
    for (series, modality, body_part, description, instance, sop_class, sha256, is_own) in rows {
        let instance =
            StoredInstance { instance: stored(&instance)?, sop_class: stored(&sop_class)?, sha256 };
        match all.last_mut() {
            Some(last) if last.series.as_str() == series => {
                last.is_own |= is_own;
                last.instances.push(instance);
            }
            _ => {
                let (series, instances) = (stored(&series)?, vec![instance]);
                all.push(SeriesSnapshot {
                    series,
                    modality,
                    is_own,
                    body_part,
                    description,
                    instances,
                });
            }
        }
    }
    Ok(all)
}

/// Key, order, patient, cancelled, and by which rule it was found.
type OrderRow = (Uuid, Value, Option<Uuid>, bool, i32);

/// The rules by which orders are found, the first that finds any counts (HL7-40).
const RULES: &[&str] =
    &["study_instance_uid", "accession_number", "order_number", "requested_procedure"];

/// The orders that ask for a study.
pub(crate) async fn orders(
    tx: &mut PgConnection,
    study: Option<&str>,
) -> Result<Vec<OrderSnapshot>> {
    let rows: Vec<OrderRow> = sqlx::query_as(
        "select o.id, o.body, patient_root(o.patient), o.cancelled, case
                when o.study = s.uid then 0
                when s.accession <> '' and o.accession = s.accession then 1
                when (s.filler <> '' and o.filler = s.filler)
                    or (s.placer <> '' and o.placer = s.placer) then 2
                else 3 end
             from study s join imaging_order o on o.study = s.uid
                or (s.accession <> '' and o.accession = s.accession)
                or (s.filler <> '' and o.filler = s.filler)
                or (s.placer <> '' and o.placer = s.placer)
                or (s.requested_procedure <> '' and o.requested_procedure = s.requested_procedure
                    and patient_root(o.patient) = patient_root(s.patient))
             where s.uid = $1 order by 5, o.id",
    )
    .bind(study)
    .fetch_all(tx)
    .await?;
    let best = rows.first().map(|it| it.4);
    let mut orders = Vec::new();
    for (id, body, patient, is_cancelled, rule) in rows {
        if Some(rule) != best {
            break;
        }
        let order: domain::Order = serde_json::from_value(body)?;
        let by = usize::try_from(rule).ok().and_then(|it| RULES.get(it));
        let matched_by = by.copied().unwrap_or_default().to_owned();
        orders.push(OrderSnapshot { id, order, patient, is_cancelled, matched_by });
    }
    Ok(orders)
}

async fn associations(tx: &mut PgConnection, study: &str) -> Result<Associations> {
    let (open, last): (i64, Option<i64>) = sqlx::query_as(
        "select count(*) filter (where ended_at is null), micros(max(ended_at))
         from study_association where study = $1",
    )
    .bind(study)
    .fetch_one(tx)
    .await?;
    let open = usize::try_from(open).unwrap_or_default();
    Ok(Associations { open, last_ended: last.map(time).transpose()? })
}

/// Of all requests for commitment that name an instance of the study: what they name, and what of it
/// has not come. A modality that asks for two studies at once waits for both.
async fn announced(tx: &mut PgConnection, study: &str) -> Result<Announced> {
    let (instances, missing): (i64, i64) = sqlx::query_as(
        "with asked as (select distinct r.peer, r.transaction_uid from commitment_reference r
                join instance i on i.uid = r.instance where i.study = $1)
         select count(distinct r.instance), count(distinct r.instance) filter (where not exists
                (select from instance i where i.uid = r.instance))
         from asked join commitment_reference r using (peer, transaction_uid)",
    )
    .bind(study)
    .fetch_one(tx)
    .await?;
    let count = |it| usize::try_from(it).unwrap_or_default();
    Ok(Announced { instances: count(instances), missing: count(missing) })
}

async fn runs(tx: &mut PgConnection, study: &str) -> Result<Vec<RunSnapshot>> {
    let rows: Vec<(Uuid, String, bool, String, Option<i64>, Uuid)> = sqlx::query_as(
        "select id, workflow, ended_at is not null, input_key,
            (select micros(min(i.received_at)) from instance i where i.study = run.study
                and i.is_current and not exists (select from run_instance r
                    where r.run = run.id and r.uid = i.uid and r.sha256 = i.sha256)),
            coalesce((amends ->> 'first')::uuid, id)
         from run where study = $1 order by started_at",
    )
    .bind(study)
    .fetch_all(tx)
    .await?;
    let mut runs = Vec::new();
    for (id, workflow, has_ended, input_key, later, first) in rows {
        let first_later = later.map(time).transpose()?;
        runs.push(RunSnapshot { id, workflow, has_ended, input_key, first_later, first });
    }
    Ok(runs)
}
