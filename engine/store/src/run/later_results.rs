//! Results that a laboratory reports again: a message is decided on with those before it that answer
//! the same order of the same patient (HL7-53).
//!
//! Messages about one order are decided on one after the other ([`lock`]). What they state together
//! is computed by [`domain::later_results`]; a document that is not that of the message alone is
//! stored with it.

use std::collections::BTreeSet;

use contracts::{EarlierResult, MessageSnapshot};
use domain::later_results::{Combined, KnownDocument, combine};
use domain::{Assigner, ExchangedDocument, OrderNumber, ReviewState};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::decode;
use crate::error::Result;
use crate::vault::keys::Keys;
use crate::vault::payload;

/// Keeps other decisions about the orders of these messages away until the transaction ends. All
/// locks are taken at once, in one order, so that two transactions never wait for each other.
pub(crate) async fn lock(tx: &mut PgConnection, messages: &[MessageSnapshot]) -> Result<()> {
    let fillers = messages.iter().flat_map(|it| it.document.fillers());
    let numbers: BTreeSet<&str> = fillers.map(|it| it.number.as_str()).collect();
    if numbers.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "select pg_advisory_xact_lock(it.key) from (
            select distinct hashtextextended('result_order ' || number, 0) as key
            from unnest($1::text[]) number order by key) it",
    )
    .bind(numbers.into_iter().collect::<Vec<&str>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Completes a message by what it has to do with earlier ones, and stores that.
pub(crate) async fn complete(
    tx: &mut PgConnection,
    keys: &Keys,
    message: &mut MessageSnapshot,
) -> Result<()> {
    let Some(patient) = message.patient else { return Ok(()) };
    if message.document.fillers().is_empty() {
        return Ok(());
    }
    let known = known_documents(tx, keys, message, patient).await?;
    note_orders(tx, message.id, &message.document.fillers()).await?;
    if known.messages.is_empty() {
        return Ok(());
    }
    let combined = combine(&message.document, &known.documents);
    message.history.is_ambiguous = combined.is_ambiguous;
    message.history.is_repeated = combined.is_repeated;
    if let Some(holder) = combined.outdated_by.and_then(|it| known.messages.get(it)) {
        message.history.is_outdated = true;
        return supersede(tx, &[message.id], *holder).await;
    }
    let replaced = combined.replaced.iter().filter_map(|it| known.messages.get(*it));
    let replaced: Vec<Uuid> = replaced.copied().collect();
    if replaced.is_empty() {
        return Ok(());
    }
    supersede(tx, &replaced, message.id).await?;
    message.history.earlier = earlier(tx, message.id).await?;
    store_in_force(tx, keys, message, combined).await
}

/// The messages that were decided on before, and their documents, in the order of their arrival.
#[derive(Default)]
struct KnownMessages {
    messages: Vec<Uuid>,
    documents: Vec<KnownDocument>,
}

#[derive(sqlx::FromRow)]
struct KnownRow {
    id: Uuid,
    content: Uuid,
    sending_application: String,
    sending_facility: String,
    arrived_later: bool,
}

/// The messages in force about the same patient that answer an order of `message`.
async fn known_documents(
    tx: &mut PgConnection,
    keys: &Keys,
    message: &MessageSnapshot,
    patient: Uuid,
) -> Result<KnownMessages> {
    let orders = OrderColumns::of(&message.document.fillers());
    let rows: Vec<KnownRow> = sqlx::query_as(
        "with own as (select id, received_at from message where id = $1),
         found as (
            select distinct o.message as id
                from unnest($3::text[], $4::text[], $5::text[]) g (number, authority, sender)
                join result_order o on o.number = g.number and o.authority = g.authority
                    and o.sender = g.sender
                where o.message <> $1)
         select m.id, p.id as content, m.sending_application, m.sending_facility,
            (m.received_at, m.id) > (own.received_at, own.id) as arrived_later
         from found join message m on m.id = found.id cross join own
            join payload p on p.id = coalesce(m.in_force, m.document) and p.removed_at is null
            join payload_key k on k.id = p.key and k.destroyed_at is null
         where m.superseded_by is null and m.patient in (select patient_family($2))
         order by m.received_at, m.id",
    )
    .bind(message.id)
    .bind(patient)
    .bind(orders.numbers)
    .bind(orders.authorities)
    .bind(orders.senders)
    .fetch_all(&mut *tx)
    .await?;
    let contents: Vec<Uuid> = rows.iter().map(|it| it.content).collect();
    let mut contents = payload::read_all_existing(tx, keys, &contents).await?;
    let mut known = KnownMessages::default();
    for row in rows {
        let Some(content) = contents.remove(&row.content) else { continue };
        let document: ExchangedDocument = serde_json::from_slice(&content)?;
        // Documents that were stored before do not say who sent them.
        let sender = Assigner::Sender {
            application: row.sending_application,
            facility: row.sending_facility,
        };
        let document = document.with_numbers_of(&sender);
        known.messages.push(row.id);
        known.documents.push(KnownDocument { document, arrived_later: row.arrived_later });
    }
    Ok(known)
}

/// Order numbers, as the columns of `result_order` compare them.
struct OrderColumns {
    numbers: Vec<String>,
    authorities: Vec<String>,
    senders: Vec<String>,
}

impl OrderColumns {
    fn of(fillers: &BTreeSet<&OrderNumber>) -> Self {
        Self {
            numbers: fillers.iter().map(|it| it.number.clone()).collect(),
            authorities: fillers.iter().map(|it| it.assigner.authority().to_owned()).collect(),
            senders: fillers.iter().map(|it| it.assigner.sender()).collect(),
        }
    }
}

async fn note_orders(
    tx: &mut PgConnection,
    message: Uuid,
    fillers: &BTreeSet<&OrderNumber>,
) -> Result<()> {
    let orders = OrderColumns::of(fillers);
    sqlx::query(
        "insert into result_order (message, number, authority, sender)
         select $1, g.* from unnest($2::text[], $3::text[], $4::text[]) g on conflict do nothing",
    )
    .bind(message)
    .bind(orders.numbers)
    .bind(orders.authorities)
    .bind(orders.senders)
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes which message holds in place of others.
async fn supersede(tx: &mut PgConnection, messages: &[Uuid], by: Uuid) -> Result<()> {
    sqlx::query("update message set superseded_by = $2 where id = any($1)")
        .bind(messages)
        .bind(by)
        .execute(tx)
        .await?;
    Ok(())
}

/// Stores the document in force, and takes it for that of the message.
async fn store_in_force(
    tx: &mut PgConnection,
    keys: &Keys,
    message: &mut MessageSnapshot,
    combined: Combined,
) -> Result<()> {
    message.document = combined.document;
    let content = serde_json::to_vec(&message.document)?;
    let stored = payload::store(tx, keys, message.patient, "document", &content).await?;
    sqlx::query("update message set in_force = $2 where id = $1")
        .bind(message.id)
        .bind(stored.id)
        .execute(&mut *tx)
        .await?;
    note_orders(tx, message.id, &message.document.fillers()).await
}

#[derive(sqlx::FromRow)]
struct EarlierRow {
    run: Uuid,
    workflow: String,
    first: Uuid,
    has_ended: bool,
    states: Vec<String>,
}

/// The runs on all messages that `message` replaces, directly or through others, whose place no
/// other run has taken.
async fn earlier(tx: &mut PgConnection, message: Uuid) -> Result<Vec<EarlierResult>> {
    let rows: Vec<EarlierRow> = sqlx::query_as(
        "with recursive replaced (id) as (
            select id from message where superseded_by = $1
            union
            select m.id from replaced join message m on m.superseded_by = replaced.id)
         select r.id as run, r.workflow, r.ended_at is not null as has_ended,
            coalesce((r.amends ->> 'first')::uuid, r.id) as first,
            array(select v.state from run_version v where v.run = r.id order by v.version) as states
         from replaced join run r on r.message = replaced.id
         where not exists (select from run l where l.amends ->> 'run' = r.id::text
            and l.amends is not null and (l.amends ->> 'is_replaced')::boolean)
         order by r.started_at, r.id",
    )
    .bind(message)
    .fetch_all(tx)
    .await?;
    let results = rows.into_iter().map(|row| {
        let states = row.states.iter().map(|it| decode::named(it, ReviewState::parse));
        let states: Vec<ReviewState> = states.collect::<Result<_>>()?;
        Ok(EarlierResult {
            run: row.run,
            workflow: row.workflow,
            first: row.first,
            has_ended: row.has_ended,
            reviewed: ReviewState::in_force(&states).and_then(|it| states.get(it)).copied(),
        })
    });
    results.collect()
}
