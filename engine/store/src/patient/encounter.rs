//! Accounts and visits: orders that move to another patient, or get another number (HL7-32).

use contracts::Encounter;
use domain::event::{
    AccountMoved, AccountRenumbered, MovedOrders, RenumberedOrders, VisitMoved, VisitRenumbered,
};
use domain::{Actor, Event, Subject};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::patient::merge;
use crate::run::snapshot;
use crate::trail::append::append;

/// A message moves an account or visit to another patient.
pub(crate) struct EncounterMove<'a> {
    pub(crate) what: Encounter,
    pub(crate) number: &'a str,
    pub(crate) source: Uuid,
    pub(crate) target: Uuid,
    pub(crate) actor: &'a Actor,
    pub(crate) message: Uuid,
}

/// A message gives an account or visit of a patient another number.
pub(crate) struct EncounterRenumbering<'a> {
    pub(crate) patient: Uuid,
    pub(crate) what: Encounter,
    pub(crate) old: &'a str,
    pub(crate) new: &'a str,
    pub(crate) actor: &'a Actor,
    pub(crate) message: Uuid,
}

/// The column of `imaging_order` that holds the number.
const fn column(what: Encounter) -> &'static str {
    match what {
        Encounter::Account => "account",
        Encounter::Visit => "visit",
    }
}

/// Moves the orders of an account or visit, with the studies they asked for, to another patient. A
/// study that also answers an order that stays is not moved: images and orders are of two patients
/// then, and a person decides.
pub(crate) async fn move_orders(
    connection: &mut PgConnection,
    change: &EncounterMove<'_>,
) -> Result<()> {
    let query = format!(
        "select id from imaging_order
         where {} = $1 and patient in (select patient_family($2)) order by id for update",
        column(change.what)
    );
    let moved: Vec<Uuid> = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
        .bind(change.number)
        .bind(change.source)
        .fetch_all(&mut *connection)
        .await?;
    // Before anything moves: an order may ask for a study by a number of its patient only.
    let studies = studies_of(connection, change.source, &moved).await?;
    sqlx::query("update imaging_order set patient = $2, changed_at = now() where id = any($1)")
        .bind(&moved)
        .bind(change.target)
        .execute(&mut *connection)
        .await?;
    sqlx::query("update study set patient = $2, decide_at = clock_timestamp() where uid = any($1)")
        .bind(studies)
        .bind(change.target)
        .execute(&mut *connection)
        .await?;
    let subject = Subject {
        patient: Some(change.target),
        message: Some(change.message),
        ..Subject::default()
    };
    let facts = MovedOrders { from: change.source, to: change.target, orders: moved.len() };
    let event = match change.what {
        Encounter::Account => Event::new(subject, AccountMoved(facts)),
        Encounter::Visit => Event::new(subject, VisitMoved(facts)),
    };
    append(connection, &event.by(change.actor.clone())).await?;
    merge::follow_up(connection, change.source).await?;
    merge::follow_up(connection, change.target).await
}

/// The studies of a patient that some of these orders ask for, and no other order.
async fn studies_of(
    connection: &mut PgConnection,
    patient: Uuid,
    orders: &[Uuid],
) -> Result<Vec<String>> {
    if orders.is_empty() {
        return Ok(Vec::new());
    }
    let studies: Vec<String> = sqlx::query_scalar(
        "select uid from study where patient in (select patient_family($1)) order by uid",
    )
    .bind(patient)
    .fetch_all(&mut *connection)
    .await?;
    let mut asked_for = Vec::new();
    for study in studies {
        let asking = snapshot::orders(connection, Some(&study)).await?;
        if !asking.is_empty() && asking.iter().all(|it| orders.contains(&it.id)) {
            asked_for.push(study);
        }
    }
    Ok(asked_for)
}

/// Gives an account or visit another number, in the orders of its patient only.
pub(crate) async fn renumber(
    connection: &mut PgConnection,
    change: &EncounterRenumbering<'_>,
) -> Result<()> {
    // The body, too: a later message that leaves the number open keeps that of the body.
    let query = format!(
        "update imaging_order set {0} = $2,
            body = jsonb_set(body, array['{0}'], to_jsonb($2::text)), changed_at = now()
         where {0} = $1 and patient in (select patient_family($3))",
        column(change.what)
    );
    let changed = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(change.old)
        .bind(change.new)
        .bind(change.patient)
        .execute(&mut *connection)
        .await?;
    let subject = Subject {
        patient: Some(change.patient),
        message: Some(change.message),
        ..Subject::default()
    };
    let facts = RenumberedOrders { orders: changed.rows_affected() };
    let event = match change.what {
        Encounter::Account => Event::new(subject, AccountRenumbered(facts)),
        Encounter::Visit => Event::new(subject, VisitRenumbered(facts)),
    };
    append(connection, &event.by(change.actor.clone())).await?;
    Ok(())
}
