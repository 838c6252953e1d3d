//! What is removed once its time is over: images, messages, results. Rows and trail stay.
//!
//! Nothing goes that somebody still waits for: a run, a delivery, a person with an open task, or a
//! study that is not decided on. What was committed to a peer has a time of its own (DIN-33).

use std::time::Duration;

use contracts::StoreError;
use domain::{Action, Actor, Event, Subject};
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::error::{Error, Result, inconsistent};
use crate::trail::append::append;

/// Most things of one kind that are looked at in one go.
const BATCH: i64 = 500;

/// For how long what is kept. What has no time is never removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionTerms {
    /// Images, since the last of their study came.
    pub images: Option<Duration>,
    /// Images we committed to keep, since the last of their study came and since we did.
    pub committed_images: Option<Duration>,
    /// What messages say, since they came.
    pub messages: Option<Duration>,
    /// What runs found and what was sent of it, since they ended.
    pub results: Option<Duration>,
}

/// What can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RetainedKind {
    /// The images of a study.
    Images,
    /// What a message says.
    Message,
    /// What a run found.
    Results,
}

/// Something whose time is over.
#[derive(Clone, Debug, Serialize)]
pub struct Expired {
    /// What it is.
    pub kind: RetainedKind,
    /// UID of the study, or key of the message or run.
    pub id: String,
    /// How many files or payloads.
    pub count: i64,
    /// How large they are together.
    pub bytes: i64,
    /// Since when it has been there.
    pub since: String,
}

const IMAGES: &str = "from study s join instance i on i.study = s.uid
    where i.removed_at is null
        and case when i.committed_at is null
            then s.last_received < now() - $1 * interval '1 second'
            else greatest(s.last_received, i.committed_at) < now() - $2 * interval '1 second' end
        and s.look_at is null
        and not exists (select from run r where r.study = s.uid and (r.ended_at is null or exists
            (select from delivery d where d.run = r.id
                and d.state in ('queued', 'sending', 'promised'))))
        and not exists (select from task t
            where t.decided_at is null and t.subject ->> 'study' = s.uid)";

const MESSAGES: &str = "from message m join payload p on p.id in (m.raw, m.document)
    where p.removed_at is null and m.decided and m.received_at < now() - $1 * interval '1 second'
        and not exists (select from run r where r.message = m.id and r.ended_at is null)
        and not exists (select from task t
            where t.decided_at is null and t.subject ->> 'message' = m.id::text)";

const RESULTS: &str = "from run r join payload p on p.id in
        (select output from node where run = r.id
            union select composed from delivery where run = r.id
            union select sent from delivery where run = r.id
            union select unnest(array[content, difference]) from run_version where run = r.id
            union select unnest(array[draft, final, difference]) from labelled_pair where run = r.id)
    where p.removed_at is null and r.ended_at < now() - $1 * interval '1 second'
        and not exists (select from delivery d where d.run = r.id
            and d.state in ('queued', 'sending', 'promised'))
        and not exists (select from task t
            where t.decided_at is null and t.subject ->> 'run' = r.id::text)";

impl PgStore {
    /// What would be removed now, the oldest first: as many of each kind as one pass removes.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn expired(
        &self,
        terms: &RetentionTerms,
    ) -> std::result::Result<Vec<Expired>, StoreError> {
        let of = |kind, key: &str, bytes: &str, since: &str, from: &str| {
            let statement = format!(
                "select {key}::text, count(*), coalesce(sum({bytes}), 0)::bigint,
                    to_char(min({since}) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
                 {from} group by {key} order by min({since}) limit {BATCH}"
            );
            (kind, statement)
        };
        let images = of(RetainedKind::Images, "s.uid", "i.bytes", "i.received_at", IMAGES);
        let size = "octet_length(p.sealed)";
        let messages = of(RetainedKind::Message, "m.id", size, "m.received_at", MESSAGES);
        let results = of(RetainedKind::Results, "r.id", size, "r.ended_at", RESULTS);
        let mut all = Vec::new();
        for (kind, statement) in [images, messages, results] {
            let mut query = sqlx::query_as(sqlx::AssertSqlSafe(statement)).bind(terms.first(kind));
            if kind == RetainedKind::Images {
                query = query.bind(seconds(terms.committed_images));
            }
            let rows: Vec<(String, i64, i64, String)> =
                query.fetch_all(&self.pool).await.map_err(Error::from)?;
            all.extend(rows.into_iter().map(|(id, count, bytes, since)| Expired {
                kind,
                id,
                count,
                bytes,
                since,
            }));
        }
        Ok(all)
    }

    /// Removes something whose time is over, and says so in the trail. Files go after:
    /// [`Self::files_to_remove`]. False if somebody has come to need it meanwhile.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn remove_expired(
        &self,
        expired: &Expired,
        terms: &RetentionTerms,
        by: Actor,
    ) -> std::result::Result<bool, StoreError> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        let removed = match expired.kind {
            RetainedKind::Images => remove_images(&mut tx, &expired.id, terms).await?,
            kind => remove_payloads(&mut tx, kind, &expired.id, terms).await?,
        };
        let Some((subject, detail)) = removed else { return Ok(false) };
        let kind = match expired.kind {
            RetainedKind::Images => "images_removed",
            RetainedKind::Message => "message_removed",
            RetainedKind::Results => "results_removed",
        };
        append(&mut tx, &Event::engine(kind, Action::D, subject, detail).by(by)).await?;
        tx.commit().await.map_err(Error::from)?;
        Ok(true)
    }

    /// SHA-256 of instances and of artifacts whose files nobody has any more use for.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn files_to_remove(&self) -> std::result::Result<[Vec<String>; 2], StoreError> {
        let instances: Vec<String> = sqlx::query_scalar(
            "select distinct sha256 from instance i where removed_at is not null
                and not is_file_gone and not exists
                (select from instance o where o.sha256 = i.sha256 and o.removed_at is null)",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(Error::from)?;
        let artifacts = sqlx::query_scalar(
            "select distinct sha256 from artifact_use a where removed_at is not null
                and not is_file_gone and not exists
                (select from artifact_use o where o.sha256 = a.sha256 and o.removed_at is null)",
        );
        let artifacts = artifacts.fetch_all(&self.pool).await.map_err(Error::from)?;
        Ok([instances, artifacts])
    }

    /// Puts on record that a file is gone.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn note_file_gone(&self, sha256: &str) -> std::result::Result<(), StoreError> {
        for table in ["instance", "artifact_use"] {
            let statement = format!(
                "update {table} set is_file_gone = true where sha256 = $1 and removed_at is not null"
            );
            let done = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(sha256);
            done.execute(&self.pool).await.map_err(Error::from)?;
        }
        Ok(())
    }
}

impl RetentionTerms {
    fn first(&self, kind: RetainedKind) -> Option<f64> {
        seconds(match kind {
            RetainedKind::Images => self.images,
            RetainedKind::Message => self.messages,
            RetainedKind::Results => self.results,
        })
    }
}

fn seconds(term: Option<Duration>) -> Option<f64> {
    term.map(|it| it.as_secs_f64())
}

type Removed = Option<(Subject, serde_json::Value)>;

async fn remove_images(
    tx: &mut PgConnection,
    study: &str,
    terms: &RetentionTerms,
) -> Result<Removed> {
    // As an image that comes now does: what it changes is seen by the check below.
    let found: Option<(Option<Uuid>, String)> = sqlx::query_as(
        "select patient_root(patient), accession from study where uid = $1 for update",
    )
    .bind(study)
    .fetch_optional(&mut *tx)
    .await?;
    let (patient, accession) = found.ok_or_else(|| inconsistent("a study is missing"))?;
    let statement = format!(
        "update instance set removed_at = now() where (uid, sha256) in
            (select i.uid, i.sha256 {IMAGES} and s.uid = $3) returning bytes"
    );
    let bytes: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
        .bind(seconds(terms.images))
        .bind(seconds(terms.committed_images))
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
    let detail = json!({"instances": bytes.len(), "bytes": bytes.iter().sum::<i64>()});
    Ok(Some((subject, detail)))
}

async fn remove_payloads(
    tx: &mut PgConnection,
    kind: RetainedKind,
    id: &str,
    terms: &RetentionTerms,
) -> Result<Removed> {
    let id: Uuid = id.parse().map_err(|_| inconsistent("a key is none"))?;
    let (from, key, table) = match kind {
        RetainedKind::Message => (MESSAGES, "m.id", "message"),
        _ => (RESULTS, "r.id", "run"),
    };
    let owner = format!("select patient_root(patient) from {table} where id = $1 for update");
    let patient: Option<Uuid> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(owner)).bind(id).fetch_one(&mut *tx).await?;
    let statement = format!(
        "update payload set sealed = null, removed_at = now() where id in
            (select p.id {from} and {key} = $2) returning id"
    );
    let gone: Vec<Uuid> = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
        .bind(terms.first(kind))
        .bind(id)
        .fetch_all(&mut *tx)
        .await?;
    if gone.is_empty() {
        return Ok(None);
    }
    sqlx::query("update artifact_use set removed_at = now() where payload = any($1)")
        .bind(&gone)
        .execute(tx)
        .await?;
    let subject = match kind {
        RetainedKind::Message => Subject { patient, message: Some(id), ..Subject::default() },
        _ => Subject { patient, run: Some(id), ..Subject::default() },
    };
    Ok(Some((subject, json!({"payloads": gone.len()}))))
}
