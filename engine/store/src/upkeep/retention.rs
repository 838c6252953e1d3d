//! Retention: images, messages and results are removed once their term has expired. Rows and trail
//! stay.
//!
//! Nothing is removed that is still needed: by a run, a delivery, a person with an open task, or a
//! study that is not decided on. Instances that were committed to a peer have a term of their own
//! (DIN-33).

use std::time::Duration;

use domain::event::{ImagesRemoved, MessageRemoved, RemovedPayloads, ResultsRemoved};
use domain::{Actor, Event, Subject};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::{PgStore, commit};
use crate::error::{Error, Result, StoreResult, inconsistent};
use crate::trail::append::append;

/// Upper bound of the items of one kind that are looked at in one pass.
const BATCH: i64 = 500;

/// How long each kind of content is retained. Content without a term is never removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionTerms {
    /// Images, from the arrival of the last instance of their study.
    pub images: Option<Duration>,
    /// Images we committed to, from the later of that arrival and the commitment.
    pub committed_images: Option<Duration>,
    /// Contents of messages, from their arrival.
    pub messages: Option<Duration>,
    /// Outputs of runs and what was sent of them, from the end of the run.
    pub results: Option<Duration>,
}

/// What can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RetainedKind {
    /// The images of a study.
    Images,
    /// The content of a message.
    Message,
    /// The results of a run.
    Results,
}

impl RetainedKind {
    const ALL: [Self; 3] = [Self::Images, Self::Message, Self::Results];

    /// The term that applies, in seconds.
    fn term(self, terms: &RetentionTerms) -> Option<f64> {
        let term = match self {
            Self::Images => terms.images,
            Self::Message => terms.messages,
            Self::Results => terms.results,
        };
        term.map(|it| it.as_secs_f64())
    }

    /// `from` and `where` of the rows whose term `$1` has expired and that nothing needs.
    const fn expired_rows(self) -> &'static str {
        match self {
            Self::Images => EXPIRED_IMAGES,
            Self::Message => EXPIRED_MESSAGES,
            Self::Results => EXPIRED_RESULTS,
        }
    }

    /// The query of the expired items, oldest first.
    fn query(self) -> String {
        let (id, bytes, since) = match self {
            Self::Images => ("s.uid", "i.bytes", "i.received_at"),
            Self::Message => ("m.id", "octet_length(p.sealed)", "m.received_at"),
            Self::Results => ("r.id", "octet_length(p.sealed)", "r.ended_at"),
        };
        let rows = self.expired_rows();
        format!(
            "select {id}::text as id, count(*) as count,
                coalesce(sum({bytes}), 0)::bigint as bytes,
                to_char(min({since}) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as since
             {rows} group by {id} order by min({since}) limit {BATCH}"
        )
    }
}

/// An item whose retention term has expired.
#[derive(Clone, Debug, Serialize)]
pub struct Expired {
    /// What it is.
    pub kind: RetainedKind,
    /// UID of the study, or key of the message or run.
    pub id: String,
    /// Number of files or payloads.
    pub count: i64,
    /// Their size in bytes.
    pub bytes: i64,
    /// Since when it has been stored, in UTC (RFC 3339).
    pub since: String,
}

#[derive(sqlx::FromRow)]
struct ExpiredRow {
    id: String,
    count: i64,
    bytes: i64,
    since: String,
}

/// Files that nothing refers to any more: SHA-256 of each, in hex.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesToRemove {
    /// Data sets of instances.
    pub instances: Vec<String>,
    /// Artifacts of results.
    pub artifacts: Vec<String>,
}

/// `$1` is the term of images, `$2` that of committed ones.
const EXPIRED_IMAGES: &str = "from study s join instance i on i.study = s.uid
    where i.removed_at is null
        and case when i.committed_at is null
            then s.last_received < now() - $1 * interval '1 second'
            else greatest(s.last_received, i.committed_at) < now() - $2 * interval '1 second' end
        and s.decide_at is null
        and not exists (select from run r where r.study = s.uid and (r.ended_at is null or exists
            (select from delivery d where d.run = r.id
                and d.state in ('queued', 'sending', 'awaiting_commitment'))))
        and not exists (select from task t
            where t.decided_at is null and t.subject ->> 'study' = s.uid)";

const EXPIRED_MESSAGES: &str = "from message m
        join payload p on p.id in (m.raw, m.document, m.in_force)
    where p.removed_at is null and m.decided and m.received_at < now() - $1 * interval '1 second'
        and not exists (select from run r where r.message = m.id and r.ended_at is null)
        and not exists (select from task t
            where t.decided_at is null and t.subject ->> 'message' = m.id::text)";

const EXPIRED_RESULTS: &str = "from run r join payload p on p.id in
        (select output from node where run = r.id
            union select composed from delivery where run = r.id
            union select sent from delivery where run = r.id
            union select unnest(array[content, difference]) from run_version where run = r.id
            union select unnest(array[draft, final, difference]) from labelled_pair where run = r.id)
    where p.removed_at is null and r.ended_at < now() - $1 * interval '1 second'
        and not exists (select from delivery d where d.run = r.id
            and d.state in ('queued', 'sending', 'awaiting_commitment'))
        and not exists (select from task t
            where t.decided_at is null and t.subject ->> 'run' = r.id::text)";

impl PgStore {
    /// The items that would be removed now, oldest first, a bounded number of each kind.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn expired(&self, terms: &RetentionTerms) -> StoreResult<Vec<Expired>> {
        let mut all = Vec::new();
        for kind in RetainedKind::ALL {
            let mut query =
                sqlx::query_as(sqlx::AssertSqlSafe(kind.query())).bind(kind.term(terms));
            if kind == RetainedKind::Images {
                query = query.bind(committed_term(terms));
            }
            let rows: Vec<ExpiredRow> = query.fetch_all(&self.pool).await.map_err(Error::from)?;
            all.extend(rows.into_iter().map(|row| Expired {
                kind,
                id: row.id,
                count: row.count,
                bytes: row.bytes,
                since: row.since,
            }));
        }
        Ok(all)
    }

    /// Removes an item whose term has expired, and reports it. The files are removed after:
    /// [`Self::files_to_remove`]. False if something has come to need the item meanwhile.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn remove_expired(
        &self,
        expired: &Expired,
        terms: &RetentionTerms,
        by: Actor,
    ) -> StoreResult<bool> {
        let mut tx = self.begin().await?;
        let event = match expired.kind {
            RetainedKind::Images => remove_images(&mut tx, &expired.id, terms).await?,
            RetainedKind::Message => remove_message(&mut tx, &expired.id, terms).await?,
            RetainedKind::Results => remove_results(&mut tx, &expired.id, terms).await?,
        };
        let Some(event) = event else { return Ok(false) };
        append(&mut tx, &event.by(by)).await?;
        commit(tx).await?;
        Ok(true)
    }

    /// The files that nothing refers to any more.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn files_to_remove(&self) -> StoreResult<FilesToRemove> {
        let instances = sqlx::query_scalar(
            "select distinct sha256 from instance i where removed_at is not null
                and not is_file_gone and not exists
                (select from instance o where o.sha256 = i.sha256 and o.removed_at is null)",
        );
        let artifacts = sqlx::query_scalar(
            "select distinct sha256 from artifact_use a where removed_at is not null
                and not is_file_gone and not exists
                (select from artifact_use o where o.sha256 = a.sha256 and o.removed_at is null)",
        );
        Ok(FilesToRemove {
            instances: instances.fetch_all(&self.pool).await.map_err(Error::from)?,
            artifacts: artifacts.fetch_all(&self.pool).await.map_err(Error::from)?,
        })
    }

    /// Records that a file was removed.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn note_file_gone(&self, sha256: &str) -> StoreResult<()> {
        for table in ["instance", "artifact_use"] {
            let statement = format!(
                "update {table} set is_file_gone = true where sha256 = $1 and removed_at is not null"
            );
            let updated = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(sha256);
            updated.execute(&self.pool).await.map_err(Error::from)?;
        }
        Ok(())
    }
}

/// The term of images we committed to, in seconds.
fn committed_term(terms: &RetentionTerms) -> Option<f64> {
    terms.committed_images.map(|it| it.as_secs_f64())
}

/// Removes the expired images of a study. Returns the event, or nothing if none has expired.
async fn remove_images(
    tx: &mut PgConnection,
    study: &str,
    terms: &RetentionTerms,
) -> Result<Option<Event>> {
    // Locks the study as the intake does: the query below sees an instance that arrives now.
    let found: Option<(Option<Uuid>, String)> = sqlx::query_as(
        "select patient_root(patient), accession from study where uid = $1 for update",
    )
    .bind(study)
    .fetch_optional(&mut *tx)
    .await?;
    let (patient, accession) = found.ok_or_else(|| inconsistent("a study is missing"))?;
    let statement = format!(
        "update instance set removed_at = now() where (uid, sha256) in
            (select i.uid, i.sha256 {EXPIRED_IMAGES} and s.uid = $3) returning bytes"
    );
    let bytes: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
        .bind(RetainedKind::Images.term(terms))
        .bind(committed_term(terms))
        .bind(study)
        .fetch_all(tx)
        .await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let subject = Subject {
        patient,
        study: Some(study.to_owned()),
        accession: Some(accession).filter(|it| !it.is_empty()),
        ..Subject::default()
    };
    let body = ImagesRemoved { instances: bytes.len(), bytes: bytes.iter().sum() };
    Ok(Some(Event::new(subject, body)))
}

async fn remove_message(
    tx: &mut PgConnection,
    id: &str,
    terms: &RetentionTerms,
) -> Result<Option<Event>> {
    let id = key(id)?;
    let patient: Option<Uuid> =
        sqlx::query_scalar("select patient_root(patient) from message where id = $1 for update")
            .bind(id)
            .fetch_one(&mut *tx)
            .await?;
    let removed = remove_payloads(tx, RetainedKind::Message, "m.id", id, terms).await?;
    let subject = Subject { patient, message: Some(id), ..Subject::default() };
    Ok(removed.map(|it| Event::new(subject, MessageRemoved(it))))
}

async fn remove_results(
    tx: &mut PgConnection,
    id: &str,
    terms: &RetentionTerms,
) -> Result<Option<Event>> {
    let id = key(id)?;
    let patient: Option<Uuid> =
        sqlx::query_scalar("select patient_root(patient) from run where id = $1 for update")
            .bind(id)
            .fetch_one(&mut *tx)
            .await?;
    let removed = remove_payloads(tx, RetainedKind::Results, "r.id", id, terms).await?;
    let subject = Subject { patient, run: Some(id), ..Subject::default() };
    Ok(removed.map(|it| Event::new(subject, ResultsRemoved(it))))
}

fn key(id: &str) -> Result<Uuid> {
    id.parse().map_err(|_| inconsistent("a key is none"))
}

/// Removes the expired payloads of one owner, with their claims on artifacts.
async fn remove_payloads(
    tx: &mut PgConnection,
    kind: RetainedKind,
    owner_column: &str,
    owner: Uuid,
    terms: &RetentionTerms,
) -> Result<Option<RemovedPayloads>> {
    let expired_rows = kind.expired_rows();
    let statement = format!(
        "update payload set sealed = null, removed_at = now() where id in
            (select p.id {expired_rows} and {owner_column} = $2) returning id"
    );
    let removed: Vec<Uuid> = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
        .bind(kind.term(terms))
        .bind(owner)
        .fetch_all(&mut *tx)
        .await?;
    if removed.is_empty() {
        return Ok(None);
    }
    sqlx::query("update artifact_use set removed_at = now() where payload = any($1)")
        .bind(&removed)
        .execute(tx)
        .await?;
    Ok(Some(RemovedPayloads { payloads: removed.len() }))
}
