//! Imaging orders: added, changed or cancelled by messages, and matched to studies (HL7-20,
//! HL7-40).

use domain::event::{OrderCancelled, OrderReceived};
use domain::{Actor, Event, Order, OrderAction, StudyInstanceUid, Subject};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::trail::append::append;

/// Stores an order, and schedules a decision about the studies that match it.
pub(crate) async fn store_in_tx(
    tx: &mut PgConnection,
    order: &Order,
    patient: Option<Uuid>,
    actor: &Actor,
    message: Uuid,
) -> Result<()> {
    let id = write_row(tx, order, patient, message).await?;
    let subject = Subject {
        patient,
        accession: Some(order.key.accession.clone()).filter(|it| !it.is_empty()),
        study: order.key.study.as_ref().map(ToString::to_string),
        message: Some(message),
        ..Subject::default()
    };
    let event = match order.action {
        OrderAction::Place | OrderAction::UpdateStatus => {
            Event::new(subject, OrderReceived { order: id })
        }
        OrderAction::Cancel => Event::new(subject, OrderCancelled { order: id }),
    };
    append(tx, &event.by(actor.clone())).await?;
    schedule_studies(tx, order, patient).await
}

/// Adds an order, or changes the one that has its numbers.
async fn write_row(
    tx: &mut PgConnection,
    order: &Order,
    patient: Option<Uuid>,
    message: Uuid,
) -> Result<Uuid> {
    let known: Option<(Uuid, serde_json::Value)> = sqlx::query_as(
        "select id, body from imaging_order
         where (placer <> '' and placer = $1) or (filler <> '' and filler = $2)
            or (placer = '' and filler = '' and accession <> '' and accession = $3)
         order by changed_at desc limit 1 for update",
    )
    .bind(&order.key.placer)
    .bind(&order.key.filler)
    .bind(&order.key.accession)
    .fetch_optional(&mut *tx)
    .await?;
    let (id, order) = if let Some((id, body)) = known {
        // Fields that a later message leaves open stay as they were (HL7-21).
        (id, serde_json::from_value::<Order>(body)?.updated(order.clone()))
    } else {
        let action = order.action.after(OrderAction::Place);
        (Uuid::now_v7(), Order { action, ..order.clone() })
    };
    sqlx::query(
        "insert into imaging_order (id, patient, placer, filler, accession, requested_procedure,
            study, body, cancelled, message, account, visit)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         on conflict (id) do update set
            patient = coalesce(excluded.patient, imaging_order.patient),
            placer = excluded.placer, filler = excluded.filler, accession = excluded.accession,
            requested_procedure = excluded.requested_procedure, study = excluded.study,
            body = excluded.body, cancelled = excluded.cancelled, message = excluded.message,
            account = excluded.account, visit = excluded.visit, changed_at = now()",
    )
    .bind(id)
    .bind(patient)
    .bind(&order.key.placer)
    .bind(&order.key.filler)
    .bind(&order.key.accession)
    .bind(&order.key.requested_procedure)
    .bind(order.key.study.as_ref().map(StudyInstanceUid::as_str))
    .bind(serde_json::to_value(&order)?)
    .bind(order.action == OrderAction::Cancel)
    .bind(message)
    .bind(&order.account)
    .bind(&order.visit)
    .execute(tx)
    .await?;
    Ok(id)
}

/// Schedules a decision about every study that the order may ask for.
async fn schedule_studies(
    tx: &mut PgConnection,
    order: &Order,
    patient: Option<Uuid>,
) -> Result<()> {
    sqlx::query(
        "update study set decide_at = clock_timestamp()
         where uid = $1 or (accession <> '' and accession = $2)
            or (filler <> '' and filler = $3) or (placer <> '' and placer = $4)
            or (requested_procedure <> '' and requested_procedure = $5
                and patient in (select patient_family($6)))",
    )
    .bind(order.key.study.as_ref().map(StudyInstanceUid::as_str))
    .bind(&order.key.accession)
    .bind(&order.key.filler)
    .bind(&order.key.placer)
    .bind(&order.key.requested_procedure)
    .bind(patient)
    .execute(tx)
    .await?;
    Ok(())
}
