//! Orders meet the studies they ask for, whichever of the two comes first (HL7-40, DIN-65).

use domain::event::OrderLinkedAfterDelivery;
use domain::{Event, Order, OrderAction, StudyInstanceUid, Subject};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::run::snapshot;
use crate::trail::append::append;

/// Schedules a decision about every study that an order may ask for. What was delivered without an
/// order that asks for the study is stale.
pub(crate) async fn to_studies(
    tx: &mut PgConnection,
    id: Uuid,
    order: &Order,
    patient: Option<Uuid>,
) -> Result<()> {
    for study in schedule(tx, id, order, patient).await? {
        let orders = snapshot::orders(tx, Some(&study)).await?;
        let is_linked = orders.iter().any(|it| it.id == id);
        if is_linked && order.action != OrderAction::Cancel {
            mark_stale(tx, id, &study).await?;
        }
    }
    Ok(())
}

/// Schedules the studies, and returns them.
async fn schedule(
    tx: &mut PgConnection,
    id: Uuid,
    order: &Order,
    patient: Option<Uuid>,
) -> Result<Vec<String>> {
    let studies = sqlx::query_scalar(
        "update study set decide_at = clock_timestamp()
         where uid = $1
            or uid = any(array(select a.study from imaging_order o join study_accession_number a
                on a.number in (o.accession, o.accession_in_images) where o.id = $2))
            or (filler <> '' and filler = $3) or (placer <> '' and placer = $4)
            or (requested_procedure <> '' and requested_procedure = $5
                and patient in (select patient_family($6)))
         returning uid",
    )
    .bind(order.key.study.as_ref().map(StudyInstanceUid::as_str))
    .bind(id)
    .bind(&order.key.filler.number)
    .bind(&order.key.placer.number)
    .bind(&order.key.requested_procedure)
    .bind(patient)
    .fetch_all(tx)
    .await?;
    Ok(studies)
}

#[derive(sqlx::FromRow)]
struct StaleRow {
    id: Uuid,
    run: Uuid,
    destination: String,
}

/// Marks and reports deliveries of a study that were composed without the order.
async fn mark_stale(tx: &mut PgConnection, order: Uuid, study: &str) -> Result<()> {
    let rows: Vec<StaleRow> = sqlx::query_as(
        "update delivery set is_stale = true
         where state in ('delivered', 'awaiting_commitment') and not is_stale
            and composed_orders is not null and not ($1 = any(composed_orders))
            and run in (select id from run where study = $2)
         returning id, run, destination",
    )
    .bind(order)
    .bind(study)
    .fetch_all(&mut *tx)
    .await?;
    for row in rows {
        let subject = Subject {
            study: Some(study.to_owned()),
            run: Some(row.run),
            destination: Some(row.destination),
            ..Subject::default()
        };
        let body = OrderLinkedAfterDelivery { delivery: row.id, order };
        append(tx, &Event::new(subject, body)).await?;
    }
    Ok(())
}
