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

/// Moves the orders of an account or visit, with the studies they asked for, to another patient.
pub(crate) async fn move_orders(
    connection: &mut PgConnection,
    change: &EncounterMove<'_>,
) -> Result<()> {
    let query = format!(
        "update imaging_order set patient = $3, changed_at = now()
         where {} = $1 and patient in (select patient_family($2)) returning study, accession",
        column(change.what)
    );
    let moved: Vec<(Option<String>, String)> = sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(change.number)
        .bind(change.source)
        .bind(change.target)
        .fetch_all(&mut *connection)
        .await?;
    for (study, accession) in &moved {
        sqlx::query(
            "update study set patient = $4, decide_at = clock_timestamp()
             where (uid = $1 or (accession <> '' and accession = $2))
                and patient in (select patient_family($3))",
        )
        .bind(study)
        .bind(accession)
        .bind(change.source)
        .bind(change.target)
        .execute(&mut *connection)
        .await?;
    }
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

/// Gives an account or visit another number, in the orders of its patient only.
pub(crate) async fn renumber(
    connection: &mut PgConnection,
    change: &EncounterRenumbering<'_>,
) -> Result<()> {
    let query = format!(
        "update imaging_order set {0} = $2
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
