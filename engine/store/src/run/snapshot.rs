//! Snapshots: rows of studies, messages and runs as decisions and reports need them.

use std::collections::BTreeMap;

use contracts::{
    Announced, Associations, MessageSnapshot, OrderSnapshot, PluginPin, RunSnapshot,
    SeriesSnapshot, StoredInstance, StudySnapshot,
};
use domain::{MessageType, NodeOutput, OrderMatch};
use jiff::Timestamp;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::error::{Result, inconsistent, stored};
use crate::vault::payload;

/// A message that workflows decide about.
#[derive(sqlx::FromRow)]
struct MessageRow {
    id: Uuid,
    message_code: String,
    trigger_event: String,
    /// The patient, after all merges.
    patient: Option<Uuid>,
    /// The payload that holds the document.
    document: Option<Uuid>,
}

impl PgStore {
    pub(crate) async fn message(&self, tx: &mut PgConnection, id: Uuid) -> Result<MessageSnapshot> {
        let found = self.message_snapshots(tx, &[id]).await?.pop();
        found.ok_or_else(|| inconsistent("a message is missing"))
    }

    /// Messages, in the order in which they came.
    pub(crate) async fn message_snapshots(
        &self,
        tx: &mut PgConnection,
        ids: &[Uuid],
    ) -> Result<Vec<MessageSnapshot>> {
        let rows: Vec<MessageRow> = sqlx::query_as(
            "select id, message_code, trigger_event, patient_root(patient) as patient, document from message
             where id = any($1) order by received_at, id",
        )
        .bind(ids)
        .fetch_all(&mut *tx)
        .await?;
        let documents: Vec<Uuid> = rows.iter().filter_map(|row| row.document).collect();
        let mut documents = payload::read_all(tx, &self.keys, &documents).await?;
        let mut all = Vec::new();
        for row in rows {
            let document = match row.document.and_then(|it| documents.remove(&it)) {
                Some(document) => serde_json::from_slice(&document)?,
                None => domain::ExchangedDocument::default(),
            };
            let message_type = MessageType { code: row.message_code, trigger: row.trigger_event };
            all.push(MessageSnapshot { id: row.id, message_type, patient: row.patient, document });
        }
        Ok(all)
    }

    /// What the nodes of a run gave so far.
    pub(crate) async fn outputs(
        &self,
        tx: &mut PgConnection,
        run: Uuid,
    ) -> Result<BTreeMap<String, NodeOutput>> {
        let rows: Vec<(String, Uuid)> = sqlx::query_as(
            "select node, output from node where run = $1 and output is not null order by node",
        )
        .bind(run)
        .fetch_all(&mut *tx)
        .await?;
        let mut outputs = BTreeMap::new();
        for (node, output) in rows {
            let content = payload::read_there(tx, &self.keys, output).await?;
            outputs.insert(node, serde_json::from_slice(&content)?);
        }
        Ok(outputs)
    }
}

pub(crate) async fn plugins(
    tx: &mut PgConnection,
    run: Uuid,
) -> Result<BTreeMap<String, PluginPin>> {
    let rows: Vec<(String, Value)> = sqlx::query_as(
        "select node, plugin from node where run = $1 and plugin is not null and output is not null",
    )
    .bind(run)
    .fetch_all(tx)
    .await?;
    let mut plugins = BTreeMap::new();
    for (node, plugin) in rows {
        plugins.insert(node, serde_json::from_value(plugin)?);
    }
    Ok(plugins)
}

type StudyRow = (Option<Uuid>, String, String, i64, i64, Value);

/// Everything decisions about a study need.
pub(crate) async fn study(tx: &mut PgConnection, uid: &str) -> Result<StudySnapshot> {
    let (patient, accession, description, first, last, standings): StudyRow = sqlx::query_as(
        "select patient_root(patient), accession, description, micros(first_received),
            micros(last_received), standings from study where uid = $1",
    )
    .bind(uid)
    .fetch_one(&mut *tx)
    .await?;
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
        standings: serde_json::from_value(standings)?,
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

/// Key, order, patient, cancelled, and which of [`OrderMatch::ALL`] found it.
type OrderRow = (Uuid, Value, Option<Uuid>, bool, i32);

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
        let matched_by = usize::try_from(rule).ok().and_then(|it| OrderMatch::ALL.get(it));
        let matched_by = *matched_by.ok_or_else(|| inconsistent("no rule has this number"))?;
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
        let input_key = contracts::InputKey::parse(&input_key);
        runs.push(RunSnapshot { id, workflow, has_ended, input_key, first_later, first });
    }
    Ok(runs)
}
