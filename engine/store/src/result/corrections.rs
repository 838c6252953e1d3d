//! Corrections: instances and messages from outside that may follow a draft of ours (OUT-81).
//!
//! The intake notes every arrival that may be one. Each is then compared with the runs on its
//! study, and settled once, whether it matched a draft or not.

use async_trait::async_trait;
use contracts::{
    ComposedObject, CorrectionCandidate, CorrectionContent, CorrectionPair, CorrectionStore,
    NewTask, ReviewView, StoreError,
};
use domain::event::{CorrectionMatched, CorrectionUnreadable, CorrectionsRead};
use domain::{Actor, CorrectionSource, Event, ExchangedDocument, Outcome, Subject, TaskKind};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::decode;
use crate::database::pg_store::{PgStore, commit};
use crate::error::{Error, Result, StoreResult};
use crate::patient::identity;
use crate::result::pair::{self, LabelledPair};
use crate::result::review;
use crate::run::{record, task};
use crate::trail::append::append;
use crate::vault::keys::Keys;
use crate::vault::payload;

/// Upper bound of the runs a candidate is compared with; the newest are taken.
const RUNS_MAX: i64 = 20;

/// Notes an instance that may be a correction.
pub(crate) async fn note_instance(
    tx: &mut PgConnection,
    source: CorrectionSource,
    instance: &str,
    sha256: &str,
    study: &str,
) -> Result<()> {
    sqlx::query(
        "insert into correction (source, origin, sha256, study) values ($1, $2, $3, $4)
         on conflict do nothing",
    )
    .bind(source.name())
    .bind(instance)
    .bind(sha256)
    .bind(study)
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes a message that may be a correction.
pub(crate) async fn note_message(
    tx: &mut PgConnection,
    source: CorrectionSource,
    message: Uuid,
    accession: &str,
) -> Result<()> {
    sqlx::query(
        "insert into correction (source, origin, accession) values ($1, $2, $3)
         on conflict do nothing",
    )
    .bind(source.name())
    .bind(message.to_string())
    .bind(accession)
    .execute(tx)
    .await?;
    Ok(())
}

#[async_trait]
impl CorrectionStore for PgStore {
    async fn next_correction(&self) -> StoreResult<Option<CorrectionCandidate>> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        let next = next_in_tx(&mut tx, &self.keys).await?;
        commit(tx).await?;
        Ok(next)
    }

    async fn settle_correction(
        &self,
        source: CorrectionSource,
        origin: &str,
        pairs: Vec<CorrectionPair>,
    ) -> StoreResult<()> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        for pair in &pairs {
            store_pair(&mut tx, &self.keys, source, origin, pair).await?;
        }
        settle(&mut tx, source, origin).await?;
        Ok(commit(tx).await?)
    }

    async fn give_up_correction(
        &self,
        source: CorrectionSource,
        origin: &str,
        reason: &str,
    ) -> StoreResult<()> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        if let Some(study) = settle(&mut tx, source, origin).await? {
            let instance = Some(origin.to_owned());
            let subject = Subject { study: Some(study), instance, ..Subject::default() };
            let body = CorrectionUnreadable { source };
            let event = Event::new(subject.clone(), body).ended(Outcome::MinorFailure);
            append(&mut tx, &event).await?;
            let kind = TaskKind::CorrectionUnreadable;
            let reason = reason.to_owned();
            task::open_once(&mut tx, &NewTask { kind, subject, reason }).await?;
        }
        Ok(commit(tx).await?)
    }
}

/// Takes a correction for decided on, and returns its study. Nothing, if it was before, or is that
/// of a message.
async fn settle(
    tx: &mut PgConnection,
    source: CorrectionSource,
    origin: &str,
) -> Result<Option<String>> {
    let study: Option<Option<String>> = sqlx::query_scalar(
        "update correction set decided_at = now()
         where source = $1 and origin = $2 and decided_at is null returning study",
    )
    .bind(source.name())
    .bind(origin)
    .fetch_optional(tx)
    .await?;
    Ok(study.flatten())
}

#[derive(sqlx::FromRow)]
struct CandidateRow {
    source: String,
    origin: String,
    sha256: Option<String>,
    study: Option<String>,
    accession: Option<String>,
}

async fn next_in_tx(tx: &mut PgConnection, keys: &Keys) -> Result<Option<CorrectionCandidate>> {
    let row: Option<CandidateRow> = sqlx::query_as(
        "select source, origin, sha256, study, accession from correction
         where decided_at is null order by at limit 1",
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mut views: Vec<ReviewView> = Vec::new();
    for run in candidate_runs(tx, &row).await? {
        match review::view_in_tx(tx, keys, run).await {
            Ok(view) => views.extend(view),
            // Retention removed the results of the run: there is no draft left to compare with.
            Err(Error::Store(StoreError::Inconsistent(_))) => {}
            Err(error) => return Err(error),
        }
    }
    let content = match row.sha256 {
        Some(sha256) => CorrectionContent::Instance { sha256 },
        None => CorrectionContent::Message(document_of(tx, keys, &row.origin).await?),
    };
    Ok(Some(CorrectionCandidate {
        source: decode::named(&row.source, CorrectionSource::parse)?,
        origin: row.origin,
        content,
        runs: views,
        composed: composed_of(tx, row.study.as_deref()).await?,
    }))
}

/// The runs on the study of a candidate, or on studies of its accession number and patient.
async fn candidate_runs(tx: &mut PgConnection, row: &CandidateRow) -> Result<Vec<Uuid>> {
    let runs = sqlx::query_scalar(
        "select r.id from run r join study s on s.uid = r.study
         where s.uid = $1 or ($2 <> '' and s.accession = $2
            and patient_root(s.patient) =
                (select patient_root(m.patient) from message m where m.id::text = $4))
         order by r.started_at desc limit $3",
    )
    .bind(&row.study)
    .bind(row.accession.as_deref().unwrap_or_default())
    .bind(RUNS_MAX)
    .bind(&row.origin);
    Ok(runs.fetch_all(tx).await?)
}

/// The document of a message; empty if it was erased.
async fn document_of(
    tx: &mut PgConnection,
    keys: &Keys,
    message: &str,
) -> Result<ExchangedDocument> {
    let id: Uuid = message.parse().unwrap_or_default();
    let payload: Option<Option<Uuid>> =
        sqlx::query_scalar("select document from message where id = $1")
            .bind(id)
            .fetch_optional(&mut *tx)
            .await?;
    let Some(Some(payload)) = payload else { return Ok(ExchangedDocument::default()) };
    let content = payload::read(tx, keys, payload).await?;
    Ok(content.map(|it| serde_json::from_slice(&it)).transpose()?.unwrap_or_default())
}

/// The objects that runs composed for a study: a correction names the one it follows.
async fn composed_of(tx: &mut PgConnection, study: Option<&str>) -> Result<Vec<ComposedObject>> {
    let rows: Vec<(String, Uuid)> = sqlx::query_as(
        "select o ->> 'id', e.run from audit.event e,
            jsonb_array_elements(e.body #> '{detail,outputs}') o
         where e.kind = 'report_composed' and e.study = $1 and e.run is not null",
    )
    .bind(study)
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|(id, run)| ComposedObject { id, run }).collect())
}

async fn store_pair(
    tx: &mut PgConnection,
    keys: &Keys,
    source: CorrectionSource,
    origin: &str,
    correction: &CorrectionPair,
) -> Result<()> {
    let run = record::load(tx, correction.run).await?;
    let content = serde_json::to_vec(&correction.content)?;
    let content = payload::store(tx, keys, run.patient, "returned", &content).await?;
    let artifacts: Vec<&str> =
        correction.content.artifacts().map(|it| it.sha256.as_str()).collect();
    payload::link_artifacts(tx, content.id, &artifacts).await?;
    let difference = serde_json::to_vec(&correction.difference)?;
    let difference = payload::store(tx, keys, run.patient, "difference", &difference).await?;
    let pair = LabelledPair {
        run: run.id,
        patient: run.patient,
        source,
        origin,
        draft: &correction.draft,
        content: content.id,
        difference: difference.id,
    };
    pair::store_in_tx(tx, keys, &pair).await?;
    let body = CorrectionMatched {
        source,
        payload: content.id,
        salted_sha256: content.digest,
        difference: difference.id,
    };
    append(tx, &Event::new(record::subject(&run), body)).await?;
    Ok(())
}

/// A draft and its correction in a list.
#[derive(Clone, Debug, Serialize)]
pub struct CorrectionLine {
    /// The key of the pair.
    pub id: Uuid,
    /// The run that drafted.
    pub run: Uuid,
    /// A name of [`CorrectionSource`].
    pub source: String,
    /// The version of the run, or the instance or message that arrived.
    pub origin: String,
    /// When the pair was stored, in UTC (RFC 3339).
    pub at: String,
    /// How the two differ; null once it was erased.
    pub difference: Value,
}

#[derive(sqlx::FromRow)]
struct PairRow {
    id: Uuid,
    run: Uuid,
    source: String,
    origin: String,
    at: String,
    difference: Uuid,
}

impl PgStore {
    /// The newest pairs of draft and correction. Reading them is an event too (AUD-08).
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn corrections(&self, limit: i64, actor: Actor) -> StoreResult<Vec<CorrectionLine>> {
        let mut tx = self.begin().await?;
        let lines = lines_in_tx(&mut tx, &self.keys, limit).await?;
        let event = Event::new(Subject::default(), CorrectionsRead {});
        append(&mut tx, &event.by(actor)).await?;
        commit(tx).await?;
        Ok(lines)
    }
}

async fn lines_in_tx(
    tx: &mut PgConnection,
    keys: &Keys,
    limit: i64,
) -> Result<Vec<CorrectionLine>> {
    let rows: Vec<PairRow> = sqlx::query_as(
        "select id, run, source, origin,
            to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as at, difference
         from labelled_pair order by at desc limit $1",
    )
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;
    let mut lines = Vec::new();
    for row in rows {
        let content = payload::read(tx, keys, row.difference).await?;
        let difference = content.map(|it| serde_json::from_slice(&it)).transpose()?;
        lines.push(CorrectionLine {
            id: row.id,
            run: row.run,
            source: row.source,
            origin: row.origin,
            at: row.at,
            difference: difference.unwrap_or_default(),
        });
    }
    Ok(lines)
}
