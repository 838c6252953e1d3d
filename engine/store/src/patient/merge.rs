//! Who turned out to be whom: merges, links and moves, and taking them back (HL7-30..37).
//!
//! Words on patients are added to `patient_alias` and stay; [`settle`] works out from all of them
//! who is whose root now, and puts on record and in motion what follows from it.

use contracts::{Encounter, MergeKind, StoreError};
use domain::identity_graph::{Assertion, roots};
use domain::{Action, Actor, BlockReason, Event, Outcome, PatientId, Subject};
use jiff::Timestamp;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::database::wakeups::announce;
use crate::error::{Error, Result};
use crate::patient::identity;
use crate::trail::append::append;

/// Something a message says of two patients.
pub(crate) struct Word<'a> {
    pub(crate) kind: MergeKind,
    /// The one that stays, and how the message writes it.
    pub(crate) survivor: (Uuid, &'a PatientId),
    pub(crate) source: Uuid,
    pub(crate) said_at: Timestamp,
    pub(crate) actor: &'a Actor,
    pub(crate) message: Uuid,
}

/// Takes in that two patients are one. Chains, repeats and any order of messages end the same.
pub(crate) async fn merge(connection: &mut PgConnection, word: &Word<'_>) -> Result<()> {
    let (survivor, id) = word.survivor;
    let kind = match word.kind {
        MergeKind::Merge => "patients_merged",
        MergeKind::Rename => "patient_identifier_changed",
        MergeKind::Move => "patient_moved",
    };
    // Whoever is known by a bare identifier gets the authority that a message names.
    if !id.issuer.is_empty() {
        sqlx::query("update patient set value = $2, issuer = $3 where id = $1")
            .bind(survivor)
            .bind(&id.value)
            .bind(&id.issuer)
            .execute(&mut *connection)
            .await?;
    }
    let detail = json!({
        "from": word.source, "to": survivor, "said_at": word.said_at.to_string(),
    });
    let subject =
        Subject { patient: Some(survivor), message: Some(word.message), ..Subject::default() };
    let event = Event::engine(kind, Action::U, subject.clone(), detail.clone());
    let event = append(connection, &event.by(word.actor.clone())).await?;
    // Auditors look for either of the two (HL7-35).
    let other = Subject { patient: Some(word.source), ..subject };
    let gone = Event::engine(kind, Action::D, other, detail).by(word.actor.clone());
    append(connection, &gone).await?;
    if survivor == word.source {
        return Ok(());
    }
    add(connection, (word.source, survivor), true, word.said_at, event).await?;
    settle(connection, survivor).await
}

async fn add(
    connection: &mut PgConnection,
    (from, to): (Uuid, Uuid),
    is_same: bool,
    said_at: Timestamp,
    event: Uuid,
) -> Result<()> {
    sqlx::query(
        "insert into patient_alias (from_patient, to_patient, event, asserted_at, is_same)
         values ($1, $2, $3, at_micros($4), $5)",
    )
    .bind(from)
    .bind(to)
    .bind(event)
    .bind(said_at.as_microsecond())
    .bind(is_same)
    .execute(connection)
    .await?;
    Ok(())
}

/// Works out anew who is whose root, among all that anything was ever said of with `patient`.
async fn settle(connection: &mut PgConnection, patient: Uuid) -> Result<()> {
    let rows: Vec<(Uuid, Uuid, bool, i64)> = sqlx::query_as(
        "with recursive near (id) as (
            select $1::uuid
            union
            select case when a.from_patient = near.id then a.to_patient else a.from_patient end
                from near join patient_alias a on near.id in (a.from_patient, a.to_patient))
         select from_patient, to_patient, is_same, micros(asserted_at) from patient_alias
         where from_patient in (select id from near)",
    )
    .bind(patient)
    .fetch_all(&mut *connection)
    .await?;
    let assertion = |(from, to, is_same, at)| Assertion { at, is_same, from, to };
    let words: Vec<Assertion<Uuid>> = rows.into_iter().map(assertion).collect();
    let mut touched: Vec<Uuid> = Vec::new();
    for (one, root) in roots(&words) {
        let target = Some(root).filter(|it| *it != one);
        let before: Option<(Option<Uuid>,)> = sqlx::query_as(
            "update patient p set merged_into = $2, version = p.version + 1
             from patient old where p.id = $1 and old.id = p.id
                and p.merged_into is distinct from $2 returning old.merged_into",
        )
        .bind(one)
        .bind(target)
        .fetch_optional(&mut *connection)
        .await?;
        if let Some((before,)) = before {
            touched.extend([one, root]);
            touched.extend(before);
        }
    }
    touched.sort();
    touched.dedup();
    for one in &touched {
        follow(connection, *one).await?;
    }
    if touched.is_empty() { Ok(()) } else { announce(connection, "assembly").await }
}

/// What follows for a patient whose family has changed.
async fn follow(connection: &mut PgConnection, patient: Uuid) -> Result<()> {
    let root = identity::root_of(connection, patient).await?;
    sqlx::query("update patient set version = version + 1 where id = $1")
        .bind(root)
        .execute(&mut *connection)
        .await?;
    // What waited because two patients seemed to differ may go on now, or must wait.
    sqlx::query("update study set look_at = now() where patient in (select patient_family($1))")
        .bind(root)
        .execute(&mut *connection)
        .await?;
    release_deliveries(connection, root).await?;
    mark_stale(connection, root).await
}

/// Queues again what was held back because two patients seemed to differ, and were found to differ
/// when it was composed (`attempt` counts from then on).
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
        let (run, destination) = (Some(run), Some(destination));
        let subject = Subject { patient: Some(patient), run, destination, ..Subject::default() };
        let detail = json!({"reason": "the conflict was resolved"});
        append(connection, &Event::engine("delivery_queued", Action::E, subject, detail)).await?;
    }
    announce(connection, "delivery").await
}

/// Puts on record what is out under a name that no longer holds (HL7-34).
async fn mark_stale(connection: &mut PgConnection, patient: Uuid) -> Result<()> {
    let rows: Vec<(Uuid, Uuid, String)> = sqlx::query_as(
        "update delivery d set is_stale = true
         where state in ('delivered', 'promised') and not is_stale and composed_stamp is not null
            and run in (select r.id from run r left join study s on s.uid = r.study
                where coalesce(s.patient, r.patient) in (select patient_family($1)))
            and composed_patient is distinct from $1
         returning d.id, d.run, d.destination",
    )
    .bind(patient)
    .fetch_all(&mut *connection)
    .await?;
    for (delivery, run, destination) in rows {
        let (run, destination) = (Some(run), Some(destination));
        let subject = Subject { patient: Some(patient), run, destination, ..Subject::default() };
        let kind = "identity_changed_after_delivery";
        let detail = json!({"delivery": delivery});
        append(connection, &Event::engine(kind, Action::U, subject, detail)).await?;
    }
    Ok(())
}

/// Takes in that two patients belong together, or no longer. Nothing moves (HL7-30).
pub(crate) async fn link(
    connection: &mut PgConnection,
    (one, other): (Uuid, Uuid),
    is_linked: bool,
    said_at: Timestamp,
    actor: &Actor,
    message: Uuid,
) -> Result<()> {
    let (one, other) = if one < other { (one, other) } else { (other, one) };
    let kind = if is_linked { "patients_linked" } else { "patients_unlinked" };
    let subject = Subject { patient: Some(one), message: Some(message), ..Subject::default() };
    let detail = json!({"one": one, "other": other});
    let event = Event::engine(kind, Action::U, subject, detail).by(actor.clone());
    let event = append(connection, &event).await?;
    sqlx::query(
        "insert into patient_link (one, other, is_linked, asserted_at, event)
         values ($1, $2, $3, at_micros($4), $5)",
    )
    .bind(one)
    .bind(other)
    .bind(is_linked)
    .bind(said_at.as_microsecond())
    .bind(event)
    .execute(connection)
    .await?;
    Ok(())
}

fn column(what: Encounter) -> &'static str {
    match what {
        Encounter::Account => "account",
        Encounter::Visit => "visit",
    }
}

/// Moves the orders of an account or visit, and the studies they asked for, to another patient
/// (HL7-32).
pub(crate) async fn move_encounter(
    connection: &mut PgConnection,
    (what, number): (Encounter, &str),
    (source, target): (Uuid, Uuid),
    actor: &Actor,
    message: Uuid,
) -> Result<()> {
    let query = format!(
        "update imaging_order set patient = $3, changed_at = now()
         where {} = $1 and patient in (select patient_family($2)) returning study, accession",
        column(what)
    );
    let moved: Vec<(Option<String>, String)> = sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(number)
        .bind(source)
        .bind(target)
        .fetch_all(&mut *connection)
        .await?;
    for (study, accession) in &moved {
        sqlx::query(
            "update study set patient = $4, look_at = clock_timestamp()
             where (uid = $1 or (accession <> '' and accession = $2))
                and patient in (select patient_family($3))",
        )
        .bind(study)
        .bind(accession)
        .bind(source)
        .bind(target)
        .execute(&mut *connection)
        .await?;
    }
    let subject = Subject { patient: Some(target), message: Some(message), ..Subject::default() };
    let detail = json!({"from": source, "to": target, "orders": moved.len()});
    let kind = format!("{}_moved", column(what));
    append(connection, &Event::engine(&kind, Action::U, subject, detail).by(actor.clone())).await?;
    for one in [source, target] {
        follow(connection, one).await?;
    }
    Ok(())
}

/// Takes in that an account or visit has another number.
pub(crate) async fn renumber_encounter(
    connection: &mut PgConnection,
    what: Encounter,
    (old, new): (&str, &str),
    actor: &Actor,
    message: Uuid,
) -> Result<()> {
    let query = format!("update imaging_order set {0} = $2 where {0} = $1", column(what));
    let changed = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(old)
        .bind(new)
        .execute(&mut *connection)
        .await?;
    let subject = Subject { message: Some(message), ..Subject::default() };
    let detail = json!({"orders": changed.rows_affected()});
    let kind = format!("{}_renumbered", column(what));
    append(connection, &Event::engine(&kind, Action::U, subject, detail).by(actor.clone())).await?;
    Ok(())
}

/// Why a merge is not taken back.
#[derive(Debug, thiserror::Error)]
pub enum UnmergeError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One of the two is not known.
    #[error("no patient has the identifier `{0}`")]
    Unknown(String),
    /// They are not merged.
    #[error("the two are not merged with each other; `isocenter why` shows what either became")]
    NotMerged,
    /// There is no such request, or it was approved.
    #[error("there is no such open request; `isocenter patient requests` lists them")]
    NoRequest,
    /// Whoever asked cannot approve.
    #[error("{0} asked for this: a second person has to approve it (HL7-37)")]
    SamePerson(String),
}

impl From<Error> for UnmergeError {
    fn from(error: Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<sqlx::Error> for UnmergeError {
    fn from(error: sqlx::Error) -> Self {
        Self::from(Error::from(error))
    }
}

impl PgStore {
    /// Asks for a merge to be taken back. Gives the key by which somebody else approves it.
    ///
    /// # Errors
    ///
    /// Says why there is nothing to take back.
    pub async fn ask_unmerge(
        &self,
        source: &str,
        survivor: &str,
        actor: Actor,
    ) -> std::result::Result<Uuid, UnmergeError> {
        let mut tx = self.pool.begin().await?;
        let mut both = Vec::new();
        for value in [source, survivor] {
            let found: Option<(Uuid,)> =
                sqlx::query_as("select patient from patient_identifier where value = $1 limit 1")
                    .bind(value)
                    .fetch_optional(&mut *tx)
                    .await?;
            both.push(found.ok_or_else(|| UnmergeError::Unknown(value.to_owned()))?.0);
        }
        let [from, to] = both.as_slice() else { return Err(UnmergeError::NotMerged) };
        let (is_direct,): (bool,) = sqlx::query_as(
            "select patient_root($1) = patient_root($2) and exists (select from patient_alias
                where is_same and (from_patient, to_patient) in (($1, $2), ($2, $1)))",
        )
        .bind(from)
        .bind(to)
        .fetch_one(&mut *tx)
        .await?;
        if !is_direct {
            return Err(UnmergeError::NotMerged);
        }
        let id = Uuid::now_v7();
        sqlx::query(
            "insert into unmerge_request (id, from_patient, to_patient, asked_by)
             values ($1, $2, $3, $4)",
        )
        .bind(id)
        .bind(from)
        .bind(to)
        .bind(&actor.id)
        .execute(&mut *tx)
        .await?;
        let subject = Subject { patient: Some(*to), ..Subject::default() };
        let detail = json!({"request": id, "from": from, "to": to});
        append(&mut tx, &Event::engine("unmerge_asked", Action::C, subject, detail).by(actor))
            .await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Takes a merge back that somebody else asked to be.
    ///
    /// # Errors
    ///
    /// Says why it is not: the request, or who approves.
    pub async fn approve_unmerge(
        &self,
        request: Uuid,
        actor: Actor,
    ) -> std::result::Result<(), UnmergeError> {
        let mut tx = identity::begin_alone(&self.pool).await?;
        let row: Option<(Uuid, Uuid, String)> = sqlx::query_as(
            "select from_patient, to_patient, asked_by from unmerge_request
             where id = $1 and approved_at is null for update",
        )
        .bind(request)
        .fetch_optional(&mut *tx)
        .await?;
        let (from, to, asked_by) = row.ok_or(UnmergeError::NoRequest)?;
        if asked_by == actor.id {
            return Err(UnmergeError::SamePerson(asked_by));
        }
        sqlx::query(
            "update unmerge_request set approved_by = $2, approved_at = now() where id = $1",
        )
        .bind(request)
        .bind(&actor.id)
        .execute(&mut *tx)
        .await?;
        let subject = Subject { patient: Some(to), ..Subject::default() };
        let detail = json!({"request": request, "from": from, "to": to, "asked_by": asked_by});
        let event = Event::engine("patients_unmerged", Action::U, subject.clone(), detail.clone());
        let event = append(&mut tx, &event.by(actor.clone()).ended(Outcome::Success)).await?;
        let other = Subject { patient: Some(from), ..subject };
        let other = Event::engine("patients_unmerged", Action::U, other, detail).by(actor);
        append(&mut tx, &other).await?;
        add(&mut tx, (from, to), false, Timestamp::now(), event).await?;
        settle(&mut tx, from).await?;
        settle(&mut tx, to).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Requests to take merges back that nobody has approved: key, who asked, since when.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn unmerge_requests(
        &self,
    ) -> std::result::Result<Vec<(Uuid, String, String)>, StoreError> {
        let rows = sqlx::query_as(
            "select id, asked_by,
                to_char(asked_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
             from unmerge_request where approved_at is null order by asked_at",
        );
        Ok(rows.fetch_all(&self.pool).await.map_err(Error::from)?)
    }

    pub(crate) async fn decide_correction_rows(
        &self,
        wants_correction: &(dyn for<'a> Fn(&'a str) -> bool + Sync),
    ) -> Result<u64> {
        let mut tx = self.pool.begin().await?;
        let rows: Vec<(Uuid, Uuid, String, bool)> = sqlx::query_as(
            "select id, run, destination, what <> '[\"images\"]' from delivery where is_stale
                and state in ('delivered', 'promised')
             order by position limit 100 for update skip locked",
        )
        .fetch_all(&mut *tx)
        .await?;
        for (id, run, destination, is_ours) in &rows {
            // Images that were passed on stay what they are: who has them hears of merges, too.
            let is_wanted = *is_ours && wants_correction(destination);
            sqlx::query(
                "update delivery set is_stale = false,
                    state = case when $2 then 'queued' else state end,
                    run_after = now(), ended_at = case when $2 then null else ended_at end,
                    reason = case when $2 then 'sent anew: the patient turned out to be another'
                        else reason end
                 where id = $1",
            )
            .bind(id)
            .bind(is_wanted)
            .execute(&mut *tx)
            .await?;
            let kind = if is_wanted { "correction_queued" } else { "delivery_left_as_it_was" };
            let (run, destination) = (Some(*run), Some(destination.clone()));
            let subject = Subject { run, destination, ..Subject::default() };
            append(&mut tx, &Event::engine(kind, Action::E, subject, json!({"delivery": id})))
                .await?;
        }
        if !rows.is_empty() {
            announce(&mut tx, "delivery").await?;
        }
        tx.commit().await?;
        Ok(rows.len() as u64)
    }
}
