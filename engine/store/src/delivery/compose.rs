//! Composing a delivery: once for everything it depends on, and again when any of it changes.

use contracts::{
    ClaimedDelivery, Compose, ComposeFailure, ComposedReport, DeliveryView, OrderSnapshot, Output,
    StoreError,
};
use domain::Event;
use domain::event::{ComposedOutput, ReportComposed};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::delivery::sent::{self, SentOutputs};
use crate::delivery::view;
use crate::error::Result;
use crate::trail::append::append;
use crate::vault::keys::Keys;
use crate::vault::payload;

/// What a delivery was composed of last.
#[derive(sqlx::FromRow)]
pub(crate) struct Composed {
    /// The payload of the outputs.
    pub(crate) payload: Option<Uuid>,
    /// Everything they were composed from (see [`stamp`]).
    pub(crate) stamp: Option<String>,
    /// The patient they were composed for.
    pub(crate) patient: Option<Uuid>,
    /// The version of the result that they show; zero before review.
    pub(crate) version: Option<i32>,
    /// The orders they name.
    pub(crate) orders: Option<Vec<Uuid>>,
}

impl Composed {
    /// Whether something was composed, and for no patient.
    pub(crate) const fn is_without_patient(&self) -> bool {
        self.stamp.is_some() && self.patient.is_none()
    }

    /// An order of these that is in force and that they do not name: it came meanwhile.
    pub(crate) fn missing_order(&self, orders: &[OrderSnapshot]) -> Option<Uuid> {
        let named = self.orders.as_ref()?;
        let missing = orders.iter().find(|it| !it.is_cancelled && !named.contains(&it.id));
        missing.map(|it| it.id)
    }
}

/// What was composed so far. Locks the delivery.
///
/// # Errors
///
/// [`StoreError::Superseded`] if this attempt is not the current one.
pub(crate) async fn composed_in_tx(
    tx: &mut PgConnection,
    delivery: &ClaimedDelivery,
) -> Result<Composed> {
    let row: Option<Composed> = sqlx::query_as(
        "select composed as payload, composed_stamp as stamp, composed_patient as patient,
            composed_version as version, composed_orders as orders
         from delivery where id = $1 and attempt = $2 and state = 'sending' for update",
    )
    .bind(delivery.id)
    .bind(delivery.attempt)
    .fetch_optional(tx)
    .await?;
    row.ok_or_else(|| StoreError::Superseded.into())
}

/// Composes a delivery, or returns the stored outputs if nothing they depend on has changed.
pub(crate) async fn compose_in_tx(
    tx: &mut PgConnection,
    keys: &Keys,
    delivery: &ClaimedDelivery,
    compose: Compose<'_>,
) -> Result<std::result::Result<Vec<Output>, ComposeFailure>> {
    let composed = composed_in_tx(tx, delivery).await?;
    let mut view = view::of(tx, keys, delivery).await?;
    let stamp = stamp(&view);
    if let Some(payload) = composed.payload
        && composed.stamp.as_ref() == Some(&stamp)
    {
        if is_repeated(tx, delivery).await? {
            return Ok(Err(ComposeFailure::Repeats));
        }
        let content = payload::read_existing(tx, keys, payload).await?;
        return Ok(Ok(serde_json::from_slice(&content)?));
    }
    view.revision = revision(tx, delivery.run, &revision_stamp(&view, &stamp)?).await?;
    let ComposedReport { outputs, omitted } = match compose(&view) {
        Ok(report) => report,
        Err(failure) => return Ok(Err(failure)),
    };
    let content = serde_json::to_vec(&outputs)?;
    let stored = payload::store(tx, keys, view.run.patient, "outputs", &content).await?;
    sqlx::query(
        "update delivery set composed = $2, composed_stamp = $3, composed_patient = $4,
            composed_version = $5, composed_orders = $6, is_stale = false where id = $1",
    )
    .bind(delivery.id)
    .bind(stored.id)
    .bind(&stamp)
    .bind(view.patient.as_ref().map(|it| it.id))
    .bind(i32::try_from(version_of(&view)).unwrap_or(i32::MAX))
    .bind(view.orders.iter().map(|it| it.id).collect::<Vec<Uuid>>())
    .execute(&mut *tx)
    .await?;
    let about_to_send =
        SentOutputs { patient: view.run.patient, outputs: &outputs, acknowledged_version: None };
    sent::record_in_tx(tx, keys, delivery, &about_to_send).await?;
    let body = ReportComposed {
        outputs: outputs
            .iter()
            .map(|it| ComposedOutput { kind: it.kind, id: it.id.clone() })
            .collect(),
        omitted,
        payload: stored.id,
        salted_sha256: stored.digest,
    };
    let subject = view::subject(tx, delivery).await?;
    append(tx, &Event::new(subject, body)).await?;
    if is_repeated(tx, delivery).await? {
        return Ok(Err(ComposeFailure::Repeats));
    }
    Ok(Ok(outputs))
}

/// What the outputs of a payload lack, for people: images that could not be decoded. Empty if
/// nothing.
pub(crate) async fn omissions(tx: &mut PgConnection, run: Uuid, payload: Uuid) -> Result<String> {
    let rows: Vec<OmissionRow> = sqlx::query_as(
        "select o.value ->> 'instance' as instance, o.value ->> 'reason' as reason
         from audit.event e, jsonb_array_elements(e.body #> '{detail,omitted}') o
         where e.run = $1 and e.kind = 'report_composed' and e.body #>> '{detail,payload}' = $2
         order by e.position, 1",
    )
    .bind(run)
    .bind(payload.to_string())
    .fetch_all(tx)
    .await?;
    let texts =
        rows.iter().map(|it| format!("nothing is drawn into image {}: {}", it.instance, it.reason));
    Ok(texts.collect::<Vec<_>>().join("; "))
}

/// An image that a report has no picture of.
#[derive(sqlx::FromRow)]
struct OmissionRow {
    instance: String,
    reason: String,
}

/// Whether the destination received this delivery repeatedly without a cause:
/// no other content, no change of identity and no person.
async fn is_repeated(tx: &mut PgConnection, delivery: &ClaimedDelivery) -> Result<bool> {
    let repeated = sqlx::query_scalar("select is_delivery_repeated($1, $2)")
        .bind(delivery.run)
        .bind(&delivery.destination)
        .fetch_one(tx)
        .await?;
    Ok(repeated)
}

/// The identity, orders and version that a report is composed from, and whether it gives way to the
/// result of another run. If any of it changes, the report is composed again, and may turn out to be
/// one that must not be sent.
fn stamp(view: &DeliveryView) -> String {
    let orders: Vec<String> = view.orders.iter().map(order_stamp).collect();
    let standing = if view.is_proposal() { ";proposal" } else { "" };
    let replaced = if view.is_replaced { ";replaced" } else { "" };
    let is_signed = view.reviewed.as_ref().is_some_and(|it| it.state.is_signed());
    let superseded = if view.is_superseded && !is_signed { ";superseded" } else { "" };
    let version = version_of(view);
    let patient = patient_stamp(view);
    format!("{patient};{};{version}{standing}{replaced}{superseded}", orders.join(","))
}

fn order_stamp(order: &OrderSnapshot) -> String {
    let patient = order.patient.map(|it| it.to_string()).unwrap_or_default();
    format!("{} {patient} {}", order.id, order.is_cancelled)
}

fn patient_stamp(view: &DeliveryView) -> String {
    match &view.patient {
        Some(patient) => format!("{} {}", patient.id, patient.version),
        None => "nobody".to_owned(),
    }
}

/// The version that reviewers have given the result; zero if none has.
pub(crate) fn version_of(view: &DeliveryView) -> u32 {
    view.reviewed.as_ref().map_or(0, |it| it.attestation.version)
}

/// Everything that the composed outputs depend on. The same revision number stands for the same
/// content, at every destination.
fn revision_stamp(view: &DeliveryView, stamp: &str) -> Result<String> {
    let orders: Vec<_> = view.orders.iter().map(|it| &it.order).collect();
    let before: Vec<&str> =
        view.before.iter().flat_map(|it| &it.outputs).map(|it| it.id.as_str()).collect();
    let concluded = view.concluded.as_microsecond();
    let plugins: Vec<&String> = view.plugins.values().map(|it| &it.digest).collect();
    let all = json!([view.outputs, orders, before, concluded, view.has_failures, plugins]);
    let digest = hex::encode(Sha256::digest(serde_json::to_vec(&all)?));
    Ok(format!("{stamp};{digest}"))
}

/// The revision number of a stamp: those of a run count from zero, in the order they were first
/// composed.
async fn revision(tx: &mut PgConnection, run: Uuid, stamp: &str) -> Result<u32> {
    // One at a time, so that two new stamps get two numbers.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('revision ' || $1::text, 0))")
        .bind(run)
        .execute(&mut *tx)
        .await?;
    let number: i32 = sqlx::query_scalar(
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
