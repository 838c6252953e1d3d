use std::time::Duration;

use contracts::{
    Block, ClaimedDelivery, Compose, ComposeFailure, DeliveryEnd, DeliveryView, NewTask, Output,
    RunRecord, SentBefore, StoreError,
};
use domain::{Action, Event, Outcome, Subject, TaskKind, derived_uid};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::database::wakeups::announce;
use crate::delivery::commitment_answer;
use crate::delivery::destination;
use crate::error::{Result, inconsistent};
use crate::patient::identity;
use crate::run::record;
use crate::run::snapshot::{orders, plugins, run_series, time};
use crate::run::task;
use crate::trail::append::append;
use crate::vault::payload;

impl PgStore {
    pub(crate) async fn claim_delivery_row(
        &self,
        lease: Duration,
        in_hand: &[Uuid],
    ) -> Result<Option<ClaimedDelivery>> {
        let mut tx = self.pool.begin().await?;
        // In order per destination and patient (HL7-14). A lease that ran out is taken over: the
        // names of what is sent are the same on every try.
        let row: Option<(Uuid, Uuid, i32, String, Value, i32)> = sqlx::query_as(
            "update delivery set state = 'sending', attempt = attempt + 1,
                lease_until = clock_timestamp() + $1 * interval '1 second'
             where id = (
                select d.id from delivery d
                where ((d.state = 'queued' and d.run_after <= clock_timestamp())
                    or (d.state = 'sending' and d.lease_until < clock_timestamp()))
                  and d.id <> all($2)
                  and not exists (select from hold where part = 'deliveries')
                  and not exists (select from destination_state s where s.name = d.destination
                      and (s.is_paused or s.open_until > clock_timestamp()))
                  and not exists (select 1 from delivery e
                    where e.destination = d.destination and e.position < d.position
                      and e.patient is not distinct from d.patient
                      and e.state in ('queued', 'sending'))
                order by d.position limit 1 for update skip locked)
             returning id, run, index, destination, what, attempt",
        )
        .bind(lease.as_secs_f64())
        .bind(in_hand)
        .fetch_optional(&mut *tx)
        .await?;
        let Some((id, run, index, destination, what, attempt)) = row else {
            return Ok(None);
        };
        let index = usize::try_from(index).map_err(|_| inconsistent("a negative index"))?;
        let what = serde_json::from_value(what)?;
        // Another one for every try: a transaction UID is never used again (DIN-32).
        let transaction = derived_uid(&["commitment", &id.to_string(), &attempt.to_string()]);
        sqlx::query("update delivery set commitment = $2 where id = $1")
            .bind(id)
            .bind(&transaction)
            .execute(&mut *tx)
            .await?;
        let delivery = ClaimedDelivery { id, run, index, destination, what, attempt, transaction };
        let event =
            event(&mut tx, &delivery, "delivery_started", json!({"attempt": attempt})).await?;
        append(&mut tx, &event).await?;
        tx.commit().await?;
        Ok(Some(delivery))
    }

    pub(crate) async fn renew_delivery_row(
        &self,
        delivery: &ClaimedDelivery,
        lease: Duration,
    ) -> Result<()> {
        let renewed = sqlx::query(
            "update delivery set lease_until = clock_timestamp() + $3 * interval '1 second'
             where id = $1 and attempt = $2 and state = 'sending'",
        )
        .bind(delivery.id)
        .bind(delivery.attempt)
        .bind(lease.as_secs_f64())
        .execute(&self.pool)
        .await?;
        if renewed.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Superseded.into()) }
    }

    pub(crate) async fn view_delivery_row(
        &self,
        delivery: &ClaimedDelivery,
    ) -> Result<DeliveryView> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        let view = self.view(&mut tx, delivery).await?;
        tx.commit().await?;
        Ok(view)
    }

    async fn view(
        &self,
        tx: &mut PgConnection,
        delivery: &ClaimedDelivery,
    ) -> Result<DeliveryView> {
        let id = delivery.run;
        let run = record::load(tx, id, false).await?;
        let before = self.before(tx, delivery, &run).await?;
        let patient = match run.patient {
            Some(root) => Some(identity::view(tx, root).await?),
            None => None,
        };
        let study = run.study.as_ref().map(domain::StudyInstanceUid::as_str);
        let accession: Option<(String,)> =
            sqlx::query_as("select accession from study where uid = $1")
                .bind(study)
                .fetch_optional(&mut *tx)
                .await?;
        let accession = accession.map(|(it,)| it).unwrap_or_default();
        let message = match run.message {
            Some(message) => Some(self.message(tx, message).await?),
            None => None,
        };
        let (concluded, has_failures): (i64, bool) = sqlx::query_as(
            "select micros(coalesce(max(n.changed_at), max(r.started_at))),
                coalesce(bool_or(n.state = 'failed'), false)
             from run r left join node n on n.run = r.id where r.id = $1",
        )
        .bind(id)
        .fetch_one(&mut *tx)
        .await?;
        Ok(DeliveryView {
            concluded: time(concluded)?,
            series: run_series(tx, id).await?,
            outputs: self.outputs(tx, id).await?,
            plugins: plugins(tx, id).await?,
            has_failures,
            patient,
            orders: orders(tx, study).await?,
            accession,
            message,
            reviewed: self.versions(tx, id, true).await?.pop(),
            revision: 0,
            before,
            run,
        })
    }

    /// What a destination has of a run, or of the one it replaces or adds to.
    async fn before(
        &self,
        tx: &mut PgConnection,
        delivery: &ClaimedDelivery,
        run: &RunRecord,
    ) -> Result<Option<SentBefore>> {
        let row: Option<(Uuid, i32, bool)> = sqlx::query_as(
            "select sent, sent_version, id = $1 from delivery where sent is not null
                and (id = $1 or run = $2 and destination = $3)
             order by id = $1 desc, index = $4 desc, position desc limit 1",
        )
        .bind(delivery.id)
        .bind(run.amends.map(|it| it.run))
        .bind(&delivery.destination)
        .bind(i32::try_from(delivery.index).unwrap_or_default())
        .fetch_optional(&mut *tx)
        .await?;
        let Some((sent, version, is_own)) = row else { return Ok(None) };
        // What is over was removed: then nothing can be said of it.
        let Some(content) = payload::read(tx, &self.keys, sent).await? else { return Ok(None) };
        let SentRecord { last, tried } = serde_json::from_slice(&content)?;
        let is_known = !last.is_empty() || is_own && !tried.is_empty();
        let version = u32::try_from(version).unwrap_or_default();
        let before = SentBefore { version, is_own, outputs: last, tried };
        Ok(is_known.then_some(before))
    }

    /// Remembers, before anything is sent, what may arrive; and once it has, that it has.
    async fn note_sent(
        &self,
        tx: &mut PgConnection,
        delivery: &ClaimedDelivery,
        (patient, outputs): (Option<Uuid>, &[Output]),
        version: Option<u32>,
    ) -> Result<()> {
        let before: Option<Option<Uuid>> =
            sqlx::query_scalar("select sent from delivery where id = $1")
                .bind(delivery.id)
                .fetch_optional(&mut *tx)
                .await?;
        let mut record = SentRecord::default();
        if let Some(Some(before)) = before
            && let Some(content) = payload::read(tx, &self.keys, before).await?
        {
            record = serde_json::from_slice(&content)?;
        }
        let heads = outputs.iter().map(|it| Output { bytes: Vec::new(), ..it.clone() });
        let heads: Vec<Output> = heads.collect();
        let new = heads.iter().filter(|it| !record.tried.iter().any(|tried| tried.id == it.id));
        let new: Vec<Output> = new.cloned().collect();
        record.tried.extend(new);
        if version.is_some() {
            record.last = heads;
        }
        let content = serde_json::to_vec(&record)?;
        let kept = payload::keep(tx, &self.keys, patient, "sent", &content).await?;
        sqlx::query(
            "update delivery set sent = $2, sent_version = coalesce($3, sent_version) where id = $1",
        )
        .bind(delivery.id)
        .bind(kept.id)
        .bind(version.map(|it| i32::try_from(it).unwrap_or(i32::MAX)))
        .execute(tx)
        .await?;
        Ok(())
    }

    pub(crate) async fn compose_delivery_row(
        &self,
        delivery: &ClaimedDelivery,
        compose: Compose<'_>,
    ) -> Result<std::result::Result<Vec<Output>, ComposeFailure>> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        let composed = current(&mut tx, delivery).await?;
        let mut view = self.view(&mut tx, delivery).await?;
        let stamp = stamp(&view);
        if let Some(payload) = composed.payload.filter(|_| composed.stamp.as_ref() == Some(&stamp))
        {
            let content = payload::read_there(&mut tx, &self.keys, payload).await?;
            return Ok(Ok(serde_json::from_slice(&content)?));
        }
        view.revision = revision(&mut tx, delivery.run, &numbered(&view, &stamp)?).await?;
        let outputs = match compose(&view) {
            Ok(outputs) => outputs,
            Err(reason) => return Ok(Err(reason)),
        };
        let content = serde_json::to_vec(&outputs)?;
        let kept =
            payload::keep(&mut tx, &self.keys, view.run.patient, "outputs", &content).await?;
        sqlx::query(
            "update delivery set composed = $2, composed_stamp = $3, composed_patient = $4,
                composed_version = $5 where id = $1",
        )
        .bind(delivery.id)
        .bind(kept.id)
        .bind(&stamp)
        .bind(view.patient.as_ref().map(|it| it.id))
        .bind(i32::try_from(version_of(&view)).unwrap_or(i32::MAX))
        .execute(&mut *tx)
        .await?;
        self.note_sent(&mut tx, delivery, (view.run.patient, &outputs), None).await?;
        let ids: Vec<Value> =
            outputs.iter().map(|it| json!({"kind": it.kind, "id": it.id})).collect();
        let detail = json!({"outputs": ids, "payload": kept.id, "salted_sha256": kept.digest});
        let event = event(&mut tx, delivery, "report_composed", detail).await?;
        append(&mut tx, &event).await?;
        tx.commit().await?;
        Ok(Ok(outputs))
    }

    pub(crate) async fn finish_delivery_row(
        &self,
        delivery: &ClaimedDelivery,
        end: DeliveryEnd,
    ) -> Result<()> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        // Before the delivery, as whoever changes the run does: what people decide meanwhile is either
        // seen here, or finds the delivery ended.
        sqlx::query("select 1 from run where id = $1 for share")
            .bind(delivery.run)
            .execute(&mut *tx)
            .await?;
        let composed = current(&mut tx, delivery).await?;
        let (state, reason, wait, kind, outcome) = told(&end);
        sqlx::query(
            "update delivery set state = $2, reason = $3, lease_until = null, blocked_by = $5,
                run_after = clock_timestamp() + $4 * interval '1 second',
                ended_at = case when $2 = 'queued' then null else clock_timestamp() end
             where id = $1",
        )
        .bind(delivery.id)
        .bind(state)
        .bind(reason.replace('\0', ""))
        .bind(wait.unwrap_or_default().as_secs_f64())
        .bind(match &end {
            DeliveryEnd::Blocked(block) => Some(block.by.name()),
            _ => None,
        })
        .execute(&mut *tx)
        .await?;
        // What a peer says may name a patient: it stays in the row, which can be erased.
        let detail = json!({"attempt": delivery.attempt});
        let ended = event(&mut tx, delivery, kind, detail).await?.ended(outcome);
        append(&mut tx, &ended).await?;
        destination::note(&mut tx, &delivery.destination, &end).await?;
        if let DeliveryEnd::Failed { reason, .. } = &end {
            let subject = ended.subject;
            let kind = TaskKind::DeliveryFailed;
            let reason = format!("{}: {reason}", delivery.destination);
            task::open(&mut tx, &NewTask { kind, subject, reason }).await?;
        }
        if end == DeliveryEnd::AwaitingCommitment {
            // The answer may have been faster.
            commitment_answer::settle(&mut tx, &delivery.transaction).await?;
        }
        if matches!(end, DeliveryEnd::Delivered | DeliveryEnd::AwaitingCommitment) {
            self.note_arrival(&mut tx, delivery, composed).await?;
        }
        announce(&mut tx, "delivery").await?;
        tx.commit().await?;
        Ok(())
    }

    /// Remembers what the destination has now, and whether it is to get something else by now.
    async fn note_arrival(
        &self,
        tx: &mut PgConnection,
        delivery: &ClaimedDelivery,
        composed: Composed,
    ) -> Result<()> {
        let view = self.view(tx, delivery).await?;
        let version = composed.version.and_then(|it| u32::try_from(it).ok()).unwrap_or_default();
        if let Some(payload) = composed.payload {
            let content = payload::read_there(tx, &self.keys, payload).await?;
            let outputs: Vec<Output> = serde_json::from_slice(&content)?;
            let sent = (view.run.patient, outputs.as_slice());
            self.note_sent(tx, delivery, sent, Some(version)).await?;
        }
        go_on(tx, delivery, version, version_of(&view)).await?;
        let patient = view.patient.as_ref().map(|it| it.id);
        if composed.stamp.is_some() && composed.patient != patient {
            sqlx::query("update delivery set is_stale = true where id = $1")
                .bind(delivery.id)
                .execute(&mut *tx)
                .await?;
            let kind = "identity_changed_after_delivery";
            let late = event(tx, delivery, kind, json!({})).await?;
            append(tx, &late).await?;
        }
        Ok(())
    }
}

/// State, reason, wait, kind of event and its outcome of a delivery that ended so.
fn told(end: &DeliveryEnd) -> (&'static str, &str, Option<Duration>, &'static str, Outcome) {
    match end {
        DeliveryEnd::Delivered => ("delivered", "", None, "delivered", Outcome::Success),
        DeliveryEnd::AwaitingCommitment => {
            let reason = "taken; waits for storage commitment";
            ("promised", reason, None, "delivery_promised", Outcome::Success)
        }
        DeliveryEnd::Again { reason, after } => {
            ("queued", reason, Some(*after), "delivery_postponed", Outcome::MinorFailure)
        }
        DeliveryEnd::Failed { reason, .. } => {
            ("failed", reason, None, "delivery_failed", Outcome::SeriousFailure)
        }
        DeliveryEnd::Blocked(Block { reason, .. }) => {
            ("blocked", reason, None, "delivery_blocked", Outcome::MinorFailure)
        }
    }
}

/// Everything a report is composed from: identity, orders, version. If any of it changes, the report
/// is composed again, and may turn out to be one that must not be sent.
fn stamp(view: &DeliveryView) -> String {
    let order = |it: &contracts::OrderSnapshot| {
        let patient = it.patient.map(|it| it.to_string()).unwrap_or_default();
        format!("{} {patient} {}", it.id, it.is_cancelled)
    };
    let orders: Vec<String> = view.orders.iter().map(order).collect();
    format!("{};{};{}", who(view), orders.join(","), version_of(view))
}

/// Which state people have given the result; nought, if none.
fn version_of(view: &DeliveryView) -> u32 {
    view.reviewed.as_ref().map_or(0, |it| it.attestation.version)
}

/// The number of a stamp among those of a run, from nought in the order of their coming.
async fn revision(tx: &mut PgConnection, run: Uuid, stamp: &str) -> Result<u32> {
    // One at a time: two stamps that come together get two numbers.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('revision ' || $1::text, 0))")
        .bind(run)
        .execute(&mut *tx)
        .await?;
    let (number,): (i32,) = sqlx::query_as(
        "with known as (select number from run_revision where run = $1 and stamp = $2),
            made as (insert into run_revision (run, stamp, number)
                select $1, $2, coalesce((select max(number) + 1 from run_revision where run = $1), 0)
                where not exists (select from known) returning number)
         select number from known union all select number from made",
    )
    .bind(run)
    .bind(stamp)
    .fetch_one(tx)
    .await?;
    Ok(u32::try_from(number).unwrap_or_default())
}

fn who(view: &DeliveryView) -> String {
    match &view.patient {
        Some(patient) => format!("{} {}", patient.id, patient.version),
        None => "nobody".to_owned(),
    }
}

/// What a destination was sent.
#[derive(Default, Serialize, Deserialize)]
struct SentRecord {
    /// Last, and acknowledged.
    last: Vec<Output>,
    /// Ever, whether it arrived or not.
    tried: Vec<Output>,
}

/// What a number is given for: everything that what is composed depends on. The same number is the same content,
/// whoever gets it.
fn numbered(view: &DeliveryView, stamp: &str) -> Result<String> {
    let bodies: Vec<_> = view.orders.iter().map(|it| &it.order).collect();
    let before: Vec<&str> =
        view.before.iter().flat_map(|it| &it.outputs).map(|it| it.id.as_str()).collect();
    let concluded = view.concluded.as_microsecond();
    let plugins: Vec<&String> = view.plugins.values().map(|it| &it.digest).collect();
    let all = json!([view.outputs, bodies, before, concluded, view.has_failures, plugins]);
    let digest = hex::encode(Sha256::digest(serde_json::to_vec(&all)?));
    Ok(format!("{stamp};{digest}"))
}

/// Queues a delivery again that has ended, if people went on meanwhile.
async fn go_on(
    tx: &mut PgConnection,
    delivery: &ClaimedDelivery,
    sent: u32,
    now: u32,
) -> Result<()> {
    if sent == now {
        return Ok(());
    }
    sqlx::query("update delivery set state = 'queued', ended_at = null where id = $1")
        .bind(delivery.id)
        .execute(tx)
        .await?;
    Ok(())
}

/// What a delivery consists of so far.
#[derive(sqlx::FromRow)]
struct Composed {
    /// The stored outputs.
    payload: Option<Uuid>,
    /// Everything they were composed from.
    stamp: Option<String>,
    /// The patient they were composed for.
    patient: Option<Uuid>,
    /// The version of the result that they show.
    version: Option<i32>,
}

/// What was composed so far. Fails if this attempt is not the current one.
async fn current(tx: &mut PgConnection, delivery: &ClaimedDelivery) -> Result<Composed> {
    let row: Option<Composed> = sqlx::query_as(
        "select composed as payload, composed_stamp as stamp, composed_patient as patient,
            composed_version as version
         from delivery where id = $1 and attempt = $2 and state = 'sending' for update",
    )
    .bind(delivery.id)
    .bind(delivery.attempt)
    .fetch_optional(tx)
    .await?;
    Ok(row.ok_or(StoreError::Superseded)?)
}

async fn event(
    tx: &mut PgConnection,
    delivery: &ClaimedDelivery,
    kind: &str,
    detail: Value,
) -> Result<Event> {
    let run = record::load(tx, delivery.run, false).await?;
    let destination = Some(delivery.destination.clone());
    let subject = Subject { destination, ..record::subject(&run, "") };
    Ok(Event::engine(kind, Action::E, subject, detail))
}
