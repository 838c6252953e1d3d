//! Merges and links: assertions of messages about two patients, and what follows from them
//! (HL7-30..37).
//!
//! Every assertion is stored in `patient_alias` and stays there. [`settle`] derives from all of
//! them together which patient is the root of which; so chains, repetitions and any order of
//! messages end the same. It also reports and schedules what follows for studies and deliveries.

use contracts::{MergeKind, WorkKind};
use domain::event::{
    DeliveryQueued, IdentityChangedAfterDelivery, MergedPatients, PatientIdentifierChanged,
    PatientMoved, PatientPair, PatientsLinked, PatientsMerged, PatientsUnlinked,
};
use domain::identity_graph::{Assertion, roots};
use domain::{Action, Actor, BlockReason, Event, PatientId, Subject};
use jiff::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::wakeups::notify;
use crate::error::Result;
use crate::patient::identity;
use crate::run::separation;
use crate::trail::append::append;

/// A message asserts that two patients are one.
pub(crate) struct MergeAssertion<'a> {
    pub(crate) kind: MergeKind,
    /// The patient that stays.
    pub(crate) survivor: Uuid,
    /// The survivor's identifier as the message writes it.
    pub(crate) survivor_id: &'a PatientId,
    /// The patient that is merged into the survivor.
    pub(crate) source: Uuid,
    /// When the sender states it happened; the last assertion of two patients decides.
    pub(crate) asserted_at: Timestamp,
    pub(crate) actor: &'a Actor,
    pub(crate) message: Uuid,
}

/// Stores that two patients are one, and settles what follows.
pub(crate) async fn merge(
    connection: &mut PgConnection,
    assertion: &MergeAssertion<'_>,
) -> Result<()> {
    let id = assertion.survivor_id;
    // A patient known by a bare identifier gets the issuer that a message names.
    if !id.issuer.is_empty() {
        sqlx::query("update patient set value = $2, issuer = $3 where id = $1")
            .bind(assertion.survivor)
            .bind(&id.value)
            .bind(&id.issuer)
            .execute(&mut *connection)
            .await?;
    }
    let event = merge_event(assertion, assertion.survivor);
    let event = append(connection, &event).await?;
    // Auditors search for either of the two patients (HL7-35).
    let source_event = merge_event(assertion, assertion.source).with_action(Action::D);
    append(connection, &source_event).await?;
    if assertion.survivor == assertion.source {
        return Ok(());
    }
    let alias = Alias {
        from: assertion.source,
        to: assertion.survivor,
        is_same: true,
        asserted_at: assertion.asserted_at,
        event,
    };
    add_alias(connection, &alias).await?;
    settle(connection, assertion.survivor).await
}

fn merge_event(assertion: &MergeAssertion<'_>, patient: Uuid) -> Event {
    let subject =
        Subject { patient: Some(patient), message: Some(assertion.message), ..Subject::default() };
    let facts = MergedPatients {
        from: assertion.source,
        to: assertion.survivor,
        stated_at: assertion.asserted_at.to_string(),
    };
    let event = match assertion.kind {
        MergeKind::Merge => Event::new(subject, PatientsMerged(facts)),
        MergeKind::Rename => Event::new(subject, PatientIdentifierChanged(facts)),
        MergeKind::Move => Event::new(subject, PatientMoved(facts)),
    };
    event.by(assertion.actor.clone())
}

/// A row of `patient_alias`: an assertion that two patients are, or are not, one.
pub(crate) struct Alias {
    pub(crate) from: Uuid,
    pub(crate) to: Uuid,
    /// False for the reversal of a merge.
    pub(crate) is_same: bool,
    pub(crate) asserted_at: Timestamp,
    /// The event that reports it.
    pub(crate) event: Uuid,
}

pub(crate) async fn add_alias(connection: &mut PgConnection, alias: &Alias) -> Result<()> {
    sqlx::query(
        "insert into patient_alias (from_patient, to_patient, event, asserted_at, is_same)
         values ($1, $2, $3, at_micros($4), $5)",
    )
    .bind(alias.from)
    .bind(alias.to)
    .bind(alias.event)
    .bind(alias.asserted_at.as_microsecond())
    .bind(alias.is_same)
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct AliasRow {
    from_patient: Uuid,
    to_patient: Uuid,
    is_same: bool,
    asserted_at: i64,
}

/// Derives the roots anew, for all patients that any assertion connects with `patient`.
pub(crate) async fn settle(connection: &mut PgConnection, patient: Uuid) -> Result<()> {
    let rows: Vec<AliasRow> = sqlx::query_as(
        "with recursive near (id) as (
            select $1::uuid
            union
            select case when a.from_patient = near.id then a.to_patient else a.from_patient end
                from near join patient_alias a on near.id in (a.from_patient, a.to_patient))
         select from_patient, to_patient, is_same, micros(asserted_at) as asserted_at
         from patient_alias where from_patient in (select id from near)",
    )
    .bind(patient)
    .fetch_all(&mut *connection)
    .await?;
    let assertions: Vec<Assertion<Uuid>> = rows
        .into_iter()
        .map(|row| Assertion {
            at: row.asserted_at,
            is_same: row.is_same,
            from: row.from_patient,
            to: row.to_patient,
        })
        .collect();
    let mut changed: Vec<Uuid> = Vec::new();
    for (one, root) in roots(&assertions) {
        let merged_into = Some(root).filter(|it| *it != one);
        let before: Option<Option<Uuid>> = sqlx::query_scalar(
            "update patient p set merged_into = $2, version = p.version + 1
             from patient old where p.id = $1 and old.id = p.id
                and p.merged_into is distinct from $2 returning old.merged_into",
        )
        .bind(one)
        .bind(merged_into)
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(before) = before {
            changed.extend([one, root]);
            changed.extend(before);
        }
    }
    changed.sort();
    changed.dedup();
    // Before anything is composed anew.
    separation::separate(connection, &changed).await?;
    for one in &changed {
        follow_up(connection, *one).await?;
    }
    if changed.is_empty() { Ok(()) } else { notify(connection, WorkKind::Assembly).await }
}

/// Everything that follows for a patient whose merges or studies have changed.
pub(crate) async fn follow_up(connection: &mut PgConnection, patient: Uuid) -> Result<()> {
    let root = identity::root_of(connection, patient).await?;
    sqlx::query("update patient set version = version + 1 where id = $1")
        .bind(root)
        .execute(&mut *connection)
        .await?;
    // Studies that waited because two patients seemed to differ may start now, or must wait.
    sqlx::query("update study set decide_at = now() where patient in (select patient_family($1))")
        .bind(root)
        .execute(&mut *connection)
        .await?;
    release_deliveries(connection, root).await?;
    mark_stale(connection, root).await
}

/// Queues deliveries again that were found to mix two patients when they were composed (`attempt`
/// counts from then on).
async fn release_deliveries(connection: &mut PgConnection, patient: Uuid) -> Result<()> {
    let rows: Vec<(Uuid, String)> = sqlx::query_as(
        "update delivery set state = 'queued', run_after = now(), ended_at = null, reason = '',
            blocked_by = null
         where state = 'blocked' and attempt > 0 and blocked_by = $2
            and run in (select id from run where patient in (select patient_family($1)))
         returning run, destination",
    )
    .bind(patient)
    .bind(BlockReason::IdentityConflict.name())
    .fetch_all(&mut *connection)
    .await?;
    for (run, destination) in rows {
        let subject = Subject {
            patient: Some(patient),
            run: Some(run),
            destination: Some(destination),
            ..Subject::default()
        };
        let reason = Some("the conflict was resolved".to_owned());
        append(connection, &Event::new(subject, DeliveryQueued { what: None, reason })).await?;
    }
    notify(connection, WorkKind::Delivery).await
}

/// Marks and reports deliveries that were made under an identity that no longer holds (HL7-34).
async fn mark_stale(connection: &mut PgConnection, patient: Uuid) -> Result<()> {
    let rows: Vec<(Uuid, Uuid, String)> = sqlx::query_as(
        "update delivery d set is_stale = true
         where state in ('delivered', 'awaiting_commitment') and not is_stale and composed_stamp is not null
            and run in (select r.id from run r left join study s on s.uid = r.study
                where coalesce(s.patient, r.patient) in (select patient_family($1)))
            and composed_patient is distinct from $1
         returning d.id, d.run, d.destination",
    )
    .bind(patient)
    .fetch_all(&mut *connection)
    .await?;
    for (delivery, run, destination) in rows {
        let subject = Subject {
            patient: Some(patient),
            run: Some(run),
            destination: Some(destination),
            ..Subject::default()
        };
        let body = IdentityChangedAfterDelivery { delivery: Some(delivery) };
        append(connection, &Event::new(subject, body)).await?;
    }
    Ok(())
}

/// A message asserts that two patients belong together, or no longer.
pub(crate) struct LinkAssertion<'a> {
    pub(crate) one: Uuid,
    pub(crate) other: Uuid,
    pub(crate) is_linked: bool,
    pub(crate) asserted_at: Timestamp,
    pub(crate) actor: &'a Actor,
    pub(crate) message: Uuid,
}

/// Stores a link. Neither patient becomes the root of the other: nothing moves (HL7-30).
pub(crate) async fn link(
    connection: &mut PgConnection,
    assertion: &LinkAssertion<'_>,
) -> Result<()> {
    let one = assertion.one.min(assertion.other);
    let other = assertion.one.max(assertion.other);
    let subject =
        Subject { patient: Some(one), message: Some(assertion.message), ..Subject::default() };
    let pair = PatientPair { one, other };
    let event = if assertion.is_linked {
        Event::new(subject, PatientsLinked(pair))
    } else {
        Event::new(subject, PatientsUnlinked(pair))
    };
    let event = append(connection, &event.by(assertion.actor.clone())).await?;
    sqlx::query(
        "insert into patient_link (one, other, is_linked, asserted_at, event)
         values ($1, $2, $3, at_micros($4), $5)",
    )
    .bind(one)
    .bind(other)
    .bind(assertion.is_linked)
    .bind(assertion.asserted_at.as_microsecond())
    .bind(event)
    .execute(connection)
    .await?;
    Ok(())
}
