//! Snapshots: what decisions, nodes and reports read of studies, messages and runs.
//!
//! Every function reads within the transaction of its caller, so that a decision and what it is
//! based on belong together.

use std::collections::{BTreeMap, BTreeSet};

use contracts::{
    Announced, Associations, InputKey, MessageSnapshot, OrderSnapshot, PluginPin, ResultHistory,
    RunSnapshot, SeriesSnapshot, StoredInstance, StudySnapshot,
};
use domain::{ExchangedDocument, MessageType, NodeOutput, OrderMatch, ReviewState};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::decode;
use crate::error::{Result, inconsistent};
use crate::vault::keys::Keys;
use crate::vault::payload;

#[derive(sqlx::FromRow)]
struct StudyRow {
    patient: Option<Uuid>,
    accession: String,
    description: String,
    first_received: i64,
    last_received: i64,
    standings: Value,
}

/// A study, as a decision needs it.
pub(crate) async fn study(tx: &mut PgConnection, uid: &str) -> Result<StudySnapshot> {
    let row: StudyRow = sqlx::query_as(
        "select patient_root(patient) as patient, accession, description,
            micros(first_received) as first_received, micros(last_received) as last_received,
            standings
         from study where uid = $1",
    )
    .bind(uid)
    .fetch_one(&mut *tx)
    .await?;
    Ok(StudySnapshot {
        associations: associations(tx, uid).await?,
        announced: announced(tx, uid).await?,
        study: decode::uid(uid)?,
        patient: row.patient,
        orders: orders(tx, Some(uid)).await?,
        accession: row.accession,
        description: row.description,
        first_received: decode::timestamp(row.first_received)?,
        last_received: decode::timestamp(row.last_received)?,
        series: study_series(tx, uid).await?,
        runs: runs(tx, uid).await?,
        standings: serde_json::from_value(row.standings)?,
    })
}

/// An instance with its series.
#[derive(sqlx::FromRow)]
struct InstanceRow {
    series: String,
    modality: String,
    body_part: String,
    description: String,
    instance: String,
    sop_class: String,
    sha256: String,
    is_own: bool,
}

/// The current instances of a study, by series.
async fn study_series(tx: &mut PgConnection, uid: &str) -> Result<Vec<SeriesSnapshot>> {
    let rows: Vec<InstanceRow> = sqlx::query_as(
        "select s.uid as series, s.modality, s.body_part, s.description, i.uid as instance,
            i.sop_class, i.sha256, i.is_own
         from instance i join series s on s.uid = i.series
         where i.study = $1 and i.is_current order by s.uid, i.uid",
    )
    .bind(uid)
    .fetch_all(tx)
    .await?;
    by_series(rows)
}

/// The instances a run works on, by series.
pub(crate) async fn run_series(tx: &mut PgConnection, run: Uuid) -> Result<Vec<SeriesSnapshot>> {
    let rows: Vec<InstanceRow> = sqlx::query_as(
        "select s.uid as series, s.modality, s.body_part, s.description, i.uid as instance,
            i.sop_class, i.sha256, i.is_own
         from run_instance r join instance i on i.uid = r.uid and i.sha256 = r.sha256
            join series s on s.uid = i.series
         where r.run = $1 order by s.uid, i.uid",
    )
    .bind(run)
    .fetch_all(tx)
    .await?;
    by_series(rows)
}

/// Joins rows that are ordered by series into one snapshot for each series.
fn by_series(rows: Vec<InstanceRow>) -> Result<Vec<SeriesSnapshot>> {
    let mut all: Vec<SeriesSnapshot> = Vec::new();
    for row in rows {
        let instance = StoredInstance {
            instance: decode::uid(&row.instance)?,
            sop_class: decode::uid(&row.sop_class)?,
            sha256: row.sha256,
        };
        match all.last_mut() {
            Some(last) if last.series.as_str() == row.series => {
                last.is_own |= row.is_own;
                last.instances.push(instance);
            }
            _ => all.push(SeriesSnapshot {
                series: decode::uid(&row.series)?,
                modality: row.modality,
                is_own: row.is_own,
                body_part: row.body_part,
                description: row.description,
                instances: vec![instance],
            }),
        }
    }
    Ok(all)
}

#[derive(sqlx::FromRow)]
struct OrderRow {
    id: Uuid,
    body: Value,
    patient: Option<Uuid>,
    is_cancelled: bool,
    /// The index of the rule in [`OrderMatch::ALL`].
    rule: i32,
}

/// The orders that ask for a study. Only those that the first matching rule finds (HL7-40).
///
/// A number without an authority may be that of several orders: those for the patient of the study
/// count, if there are any. An order of a laboratory asks for a study only if it names it.
pub(crate) async fn orders(
    tx: &mut PgConnection,
    study: Option<&str>,
) -> Result<Vec<OrderSnapshot>> {
    let rows: Vec<OrderRow> = sqlx::query_as(
        "with s as (select * from study where uid = $1),
         by_accession as (
            select o.id from study_accession_number a join imaging_order o on (
                    (o.accession <> '' and o.accession = a.number)
                    or (o.accession_in_images <> '' and o.accession_in_images = a.number))
                and (a.issuer = '' or o.accession_issuer in ('', a.issuer))
             where a.study = $1),
         by_number as (
            select o.id from s join imaging_order o
                on o.filler <> '' and o.filler = s.filler
                and (s.filler_authority = '' or o.filler_authority in ('', s.filler_authority))
            union select o.id from s join imaging_order o
                on o.placer <> '' and o.placer = s.placer
                and (s.placer_authority = '' or o.placer_authority in ('', s.placer_authority))),
         by_procedure as (
            select o.id from s join imaging_order o on o.requested_procedure <> ''
                and o.requested_procedure = s.requested_procedure
                and patient_root(o.patient) = patient_root(s.patient)),
         matches as (
            select id, 0 as rule from imaging_order where study = $1
            union all select id, 1 from by_accession
            union all select id, 2 from by_number
            union all select id, 3 from by_procedure),
         found as (
            select o.id, o.body, patient_root(o.patient) as patient, o.cancelled as is_cancelled,
                patient_root(o.patient) = patient_root(s.patient) as is_of_patient, m.rule
             from (select id, min(rule) as rule from matches group by id) m
                join imaging_order o on o.id = m.id cross join s
             where m.rule = 0 or o.kind <> 'laboratory')
         select f.id, f.body, f.patient, f.is_cancelled, f.rule from found f
         where f.rule <> 2 or f.is_of_patient
            or not exists (select from found g where g.rule = 2 and g.is_of_patient)
         order by f.rule, f.id",
    )
    .bind(study)
    .fetch_all(tx)
    .await?;
    let first_rule = rows.first().map(|row| row.rule);
    let mut orders = Vec::new();
    for row in rows.into_iter().take_while(|row| Some(row.rule) == first_rule) {
        let rule = usize::try_from(row.rule).ok().and_then(|it| OrderMatch::ALL.get(it));
        orders.push(OrderSnapshot {
            id: row.id,
            order: serde_json::from_value(row.body)?,
            patient: row.patient,
            is_cancelled: row.is_cancelled,
            matched_by: *rule.ok_or_else(|| inconsistent("no rule has this number"))?,
        });
    }
    Ok(orders)
}

async fn associations(tx: &mut PgConnection, study: &str) -> Result<Associations> {
    let (open, last_ended): (i64, Option<i64>) = sqlx::query_as(
        "select count(*) filter (where ended_at is null), micros(max(ended_at))
         from study_association where study = $1",
    )
    .bind(study)
    .fetch_one(tx)
    .await?;
    let last_ended = decode::timestamp_or_none(last_ended)?;
    Ok(Associations { open: decode::count(open), last_ended })
}

/// All instances that requests for storage commitment name together with one of the study, and how
/// many of them have not arrived. A modality that asks for two studies at once waits for both.
async fn announced(tx: &mut PgConnection, study: &str) -> Result<Announced> {
    let (instances, missing): (i64, i64) = sqlx::query_as(
        "with requests as (select distinct r.peer, r.transaction_uid from commitment_reference r
                join instance i on i.uid = r.instance where i.study = $1)
         select count(distinct r.instance), count(distinct r.instance) filter (where not exists
                (select from instance i where i.uid = r.instance))
         from requests join commitment_reference r using (peer, transaction_uid)",
    )
    .bind(study)
    .fetch_one(tx)
    .await?;
    Ok(Announced { instances: decode::count(instances), missing: decode::count(missing) })
}

#[derive(sqlx::FromRow)]
struct RunRow {
    id: Uuid,
    workflow: String,
    has_ended: bool,
    input_key: String,
    first_later: Option<i64>,
    first: Uuid,
}

async fn runs(tx: &mut PgConnection, study: &str) -> Result<Vec<RunSnapshot>> {
    let rows: Vec<RunRow> = sqlx::query_as(
        "select id, workflow, ended_at is not null as has_ended, input_key,
            (select micros(min(i.received_at)) from instance i where i.study = run.study
                and i.is_current and not exists (select from run_instance r
                    where r.run = run.id and r.uid = i.uid and r.sha256 = i.sha256))
                as first_later,
            coalesce((amends ->> 'first')::uuid, id) as first
         from run where study = $1 order by started_at",
    )
    .bind(study)
    .fetch_all(&mut *tx)
    .await?;
    let signed = signed_runs(tx, study).await?;
    rows.into_iter()
        .map(|row| {
            Ok(RunSnapshot {
                is_signed: signed.contains(&row.id),
                id: row.id,
                workflow: row.workflow,
                has_ended: row.has_ended,
                input_key: InputKey::parse(&row.input_key),
                first_later: decode::timestamp_or_none(row.first_later)?,
                first: row.first,
            })
        })
        .collect()
}

/// The runs on a study whose result a person has signed and nobody has withdrawn.
async fn signed_runs(tx: &mut PgConnection, study: &str) -> Result<BTreeSet<Uuid>> {
    let rows: Vec<(Uuid, String)> = sqlx::query_as(
        "select v.run, v.state from run_version v join run r on r.id = v.run
         where r.study = $1 order by v.run, v.version",
    )
    .bind(study)
    .fetch_all(tx)
    .await?;
    let mut states: BTreeMap<Uuid, Vec<ReviewState>> = BTreeMap::new();
    for (run, state) in rows {
        states.entry(run).or_default().push(decode::named(&state, ReviewState::parse)?);
    }
    let is_signed = |states: &[ReviewState]| {
        let at = ReviewState::in_force(states);
        at.and_then(|at| states.get(at)).is_some_and(|it| it.is_signed())
    };
    Ok(states.into_iter().filter(|(_, it)| is_signed(it)).map(|(run, _)| run).collect())
}

/// A message, as a decision needs it.
pub(crate) async fn message(
    tx: &mut PgConnection,
    keys: &Keys,
    id: Uuid,
) -> Result<MessageSnapshot> {
    let found = messages(tx, keys, &[id]).await?.pop();
    found.ok_or_else(|| inconsistent("a message is missing"))
}

#[derive(sqlx::FromRow)]
struct MessageRow {
    id: Uuid,
    message_code: String,
    trigger_event: String,
    patient: Option<Uuid>,
    document: Option<Uuid>,
}

/// Messages, in the order of their arrival.
pub(crate) async fn messages(
    tx: &mut PgConnection,
    keys: &Keys,
    ids: &[Uuid],
) -> Result<Vec<MessageSnapshot>> {
    let rows: Vec<MessageRow> = sqlx::query_as(
        "select id, message_code, trigger_event, patient_root(patient) as patient,
            coalesce(in_force, document) as document
         from message where id = any($1) order by received_at, id",
    )
    .bind(ids)
    .fetch_all(&mut *tx)
    .await?;
    let payloads: Vec<Uuid> = rows.iter().filter_map(|row| row.document).collect();
    let mut contents = payload::read_all_existing(tx, keys, &payloads).await?;
    let mut all = Vec::new();
    for row in rows {
        let document = match row.document.and_then(|it| contents.remove(&it)) {
            Some(content) => serde_json::from_slice(&content)?,
            None => ExchangedDocument::default(),
        };
        let message_type = MessageType { code: row.message_code, trigger: row.trigger_event };
        let history = ResultHistory::default();
        let MessageRow { id, patient, .. } = row;
        all.push(MessageSnapshot { id, message_type, patient, document, history });
    }
    Ok(all)
}

/// The outputs that the nodes of a run have given so far, by node.
pub(crate) async fn outputs(
    tx: &mut PgConnection,
    keys: &Keys,
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
        let content = payload::read_existing(tx, keys, output).await?;
        outputs.insert(node, serde_json::from_slice(&content)?);
    }
    Ok(outputs)
}

/// The plugins that gave the outputs of a run, by node.
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
