//! Imaging orders: added, changed or cancelled by messages, and matched to studies (HL7-20,
//! HL7-40).
//!
//! A number is one order's only together with what assigned it. Where it is uncertain which order a
//! message means, nothing is changed and a person decides.

use contracts::NewTask;
use domain::event::{OrderCancelled, OrderConflicting, OrderReceived};
use domain::{
    Actor, Event, Order, OrderAction, OrderConflict, OrderKind, OrderNumber, Outcome,
    StudyInstanceUid, Subject, TaskKind,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::intake::numbering::Numbering;
use crate::intake::order_link;
use crate::patient::identity;
use crate::run::task;
use crate::trail::append::append;

/// An order of a message, to be stored.
pub(crate) struct OrderArrival<'a> {
    pub(crate) numbering: &'a Numbering,
    pub(crate) order: &'a Order,
    pub(crate) patient: Option<Uuid>,
    pub(crate) actor: &'a Actor,
    pub(crate) message: Uuid,
}

impl OrderArrival<'_> {
    /// The authority that a number names, as the site names it; else empty.
    fn authority(&self, number: &OrderNumber) -> String {
        self.numbering.domains.authority(number.assigner.authority())
    }

    /// Whether these cannot be the same number of the same order: the numbers differ, or both name
    /// an authority and not the same one.
    fn contradict(&self, one: &OrderNumber, other: &OrderNumber) -> bool {
        if one.is_empty() || other.is_empty() {
            return false;
        }
        let authorities = [self.authority(one), self.authority(other)];
        let are_named = authorities.iter().all(|it| !it.is_empty());
        let [first, second] = authorities;
        one.number != other.number || (are_named && first != second)
    }
}

/// Stores an order, and schedules a decision about the studies that match it.
pub(crate) async fn store_in_tx(tx: &mut PgConnection, arrival: &OrderArrival<'_>) -> Result<()> {
    // Of two messages about a new order, only one may add it. Taken last: its holder waits for
    // studies at most.
    sqlx::query("select pg_advisory_xact_lock(x'1D0002'::bigint)").execute(&mut *tx).await?;
    match find(tx, arrival).await? {
        Found::Nothing => {
            let action = arrival.order.action.after(OrderAction::Place);
            let order = Order { action, ..arrival.order.clone() };
            write(tx, arrival, Uuid::now_v7(), &order).await
        }
        Found::Known { id, order } => {
            // Fields that a later message leaves open stay as they were (HL7-21).
            let order = order.updated(arrival.order.clone());
            write(tx, arrival, id, &order).await
        }
        Found::Conflict { conflict, orders } => report(tx, arrival, conflict, orders).await,
    }
}

/// The order that a message means.
enum Found {
    /// None that is known.
    Nothing,
    Known {
        id: Uuid,
        order: Box<Order>,
    },
    /// It is uncertain which.
    Conflict {
        conflict: OrderConflict,
        orders: Vec<Uuid>,
    },
}

#[derive(sqlx::FromRow)]
struct KnownOrder {
    id: Uuid,
    body: serde_json::Value,
    /// The root of its patient.
    patient: Option<Uuid>,
}

async fn find(tx: &mut PgConnection, arrival: &OrderArrival<'_>) -> Result<Found> {
    let patient = match arrival.patient {
        Some(patient) => Some(identity::root_of(tx, patient).await?),
        None => None,
    };
    let mut known = by_numbers(tx, arrival).await?;
    if known.is_empty() {
        known = by_accession(tx, arrival, patient).await?;
    }
    let orders = known.iter().map(|it| it.id).collect();
    let Some(last) = known.pop() else { return Ok(Found::Nothing) };
    if !known.is_empty() {
        return Ok(Found::Conflict { conflict: OrderConflict::SeveralOrders, orders });
    }
    if last.patient.is_some() && patient.is_some() && last.patient != patient {
        return Ok(Found::Conflict { conflict: OrderConflict::OtherPatient, orders });
    }
    let order: Box<Order> = serde_json::from_value(last.body)?;
    let key = &arrival.order.key;
    let known_key = &order.key;
    if arrival.contradict(&known_key.placer, &key.placer)
        || arrival.contradict(&known_key.filler, &key.filler)
    {
        return Ok(Found::Conflict { conflict: OrderConflict::OtherNumber, orders });
    }
    Ok(Found::Known { id: last.id, order })
}

/// The orders of the same kind that have one of its numbers.
async fn by_numbers(tx: &mut PgConnection, arrival: &OrderArrival<'_>) -> Result<Vec<KnownOrder>> {
    let key = &arrival.order.key;
    let known = sqlx::query_as(
        "select id, body, patient_root(patient) as patient from imaging_order
         where ((placer <> '' and placer = $1 and placer_authority = $2 and placer_sender = $3)
                or (filler <> '' and filler = $4 and filler_authority = $5 and filler_sender = $6))
            and (kind = $7 or kind = $8 or $7 = $8)
         order by id for update",
    )
    .bind(&key.placer.number)
    .bind(arrival.authority(&key.placer))
    .bind(key.placer.assigner.sender())
    .bind(&key.filler.number)
    .bind(arrival.authority(&key.filler))
    .bind(key.filler.assigner.sender())
    .bind(key.kind.name())
    .bind(OrderKind::Unknown.name())
    .fetch_all(tx)
    .await?;
    Ok(known)
}

/// The orders of the same kind and patient that have its accession number, where one of the two has
/// no other number.
async fn by_accession(
    tx: &mut PgConnection,
    arrival: &OrderArrival<'_>,
    patient: Option<Uuid>,
) -> Result<Vec<KnownOrder>> {
    let key = &arrival.order.key;
    let has_number = !key.placer.is_empty() || !key.filler.is_empty();
    let known = sqlx::query_as(
        "select id, body, patient_root(patient) as patient from imaging_order
         where accession <> '' and accession = $1 and (not $2 or (placer = '' and filler = ''))
            and (kind = $3 or kind = $4 or $3 = $4)
            and ($5::uuid is null or patient is null or patient_root(patient) = $5)
            and ($6 = '' or accession_issuer in ('', $6))
         order by id for update",
    )
    .bind(&key.accession)
    .bind(has_number)
    .bind(key.kind.name())
    .bind(OrderKind::Unknown.name())
    .bind(patient)
    .bind(arrival.numbering.domains.authority(&key.accession_issuer))
    .fetch_all(tx)
    .await?;
    Ok(known)
}

/// Writes the row of an order, and reports it.
async fn write(
    tx: &mut PgConnection,
    arrival: &OrderArrival<'_>,
    id: Uuid,
    order: &Order,
) -> Result<()> {
    write_row(tx, arrival, id, order).await?;
    let event = match arrival.order.action {
        OrderAction::Place | OrderAction::UpdateStatus => {
            Event::new(subject(arrival), OrderReceived { order: id })
        }
        OrderAction::Cancel => Event::new(subject(arrival), OrderCancelled { order: id }),
    };
    append(tx, &event.by(arrival.actor.clone())).await?;
    order_link::to_studies(tx, id, order, arrival.patient).await
}

fn subject(arrival: &OrderArrival<'_>) -> Subject {
    let key = &arrival.order.key;
    Subject {
        patient: arrival.patient,
        accession: Some(key.accession.clone()).filter(|it| !it.is_empty()),
        study: key.study.as_ref().map(ToString::to_string),
        message: Some(arrival.message),
        ..Subject::default()
    }
}

async fn write_row(
    tx: &mut PgConnection,
    arrival: &OrderArrival<'_>,
    id: Uuid,
    order: &Order,
) -> Result<()> {
    let key = &order.key;
    sqlx::query(
        "insert into imaging_order (id, patient, placer, filler, accession, requested_procedure,
            study, body, cancelled, message, account, visit, placer_authority, placer_sender,
            filler_authority, filler_sender, kind, accession_issuer, accession_in_images)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
            $19)
         on conflict (id) do update set
            patient = coalesce(imaging_order.patient, excluded.patient),
            placer = excluded.placer, filler = excluded.filler, accession = excluded.accession,
            requested_procedure = excluded.requested_procedure, study = excluded.study,
            body = excluded.body, cancelled = excluded.cancelled, message = excluded.message,
            account = excluded.account, visit = excluded.visit,
            placer_authority = excluded.placer_authority, placer_sender = excluded.placer_sender,
            filler_authority = excluded.filler_authority, filler_sender = excluded.filler_sender,
            kind = excluded.kind, accession_issuer = excluded.accession_issuer,
            accession_in_images = excluded.accession_in_images, changed_at = now()",
    )
    .bind(id)
    .bind(arrival.patient)
    .bind(&key.placer.number)
    .bind(&key.filler.number)
    .bind(&key.accession)
    .bind(&key.requested_procedure)
    .bind(key.study.as_ref().map(StudyInstanceUid::as_str))
    .bind(serde_json::to_value(order)?)
    .bind(order.action == OrderAction::Cancel)
    .bind(arrival.message)
    .bind(&order.account)
    .bind(&order.visit)
    .bind(arrival.authority(&key.placer))
    .bind(key.placer.assigner.sender())
    .bind(arrival.authority(&key.filler))
    .bind(key.filler.assigner.sender())
    .bind(key.kind.name())
    .bind(arrival.numbering.domains.authority(&key.accession_issuer))
    .bind(arrival.numbering.long_accession.in_images(&key.accession))
    .execute(tx)
    .await?;
    Ok(())
}

/// Reports a message of which it is uncertain which order it means.
async fn report(
    tx: &mut PgConnection,
    arrival: &OrderArrival<'_>,
    conflict: OrderConflict,
    orders: Vec<Uuid>,
) -> Result<()> {
    let subject = subject(arrival);
    let body = OrderConflicting { conflict, orders };
    let event = Event::new(subject.clone(), body).ended(Outcome::MinorFailure);
    append(tx, &event.by(arrival.actor.clone())).await?;
    let reason = match conflict {
        OrderConflict::SeveralOrders => {
            "the numbers of a message are those of several orders; none was changed"
        }
        OrderConflict::OtherNumber => {
            "a message gives an order another number than it has; the order was not changed"
        }
        OrderConflict::OtherPatient => {
            "a message about another patient has the number of an order; it was not changed"
        }
    };
    let kind = TaskKind::OrderConflict;
    task::open(tx, &NewTask { kind, subject, reason: reason.to_owned() }).await
}
