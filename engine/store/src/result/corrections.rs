use contracts::{
    ComposedObject, CorrectionCandidate, CorrectionContent, CorrectionPair, OutputKind, ReviewView,
    StoreError,
};
use domain::{Action, Actor, Event, ExchangedDocument, Subject};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::error::{Error, Result, inconsistent};
use crate::patient::identity;
use crate::run::record;
use crate::trail::append::append;
use crate::vault::payload;

/// Runs that something may be a correction of.
const RUNS_MAX: i64 = 20;

/// Remembers that something came which may be a correction of a draft.
pub(crate) async fn note_instance(
    tx: &mut PgConnection,
    instance: &str,
    sha256: &str,
    study: &str,
    kind: OutputKind,
) -> Result<()> {
    sqlx::query(
        "insert into correction (source, origin, sha256, study) values ($1, $2, $3, $4)
         on conflict do nothing",
    )
    .bind(kind.name())
    .bind(instance)
    .bind(sha256)
    .bind(study)
    .execute(tx)
    .await?;
    Ok(())
}

/// The same of a message.
pub(crate) async fn note_message(
    tx: &mut PgConnection,
    message: Uuid,
    accession: &str,
    kind: OutputKind,
) -> Result<()> {
    sqlx::query(
        "insert into correction (source, origin, accession) values ($1, $2, $3)
         on conflict do nothing",
    )
    .bind(kind.name())
    .bind(message.to_string())
    .bind(accession)
    .execute(tx)
    .await?;
    Ok(())
}

type Row = (String, String, Option<String>, Option<String>, Option<String>);

impl PgStore {
    /// The oldest thing that came and was not looked at, with the runs it may be of.
    pub(crate) async fn next_returned_row(&self) -> Result<Option<CorrectionCandidate>> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        let row: Option<Row> = sqlx::query_as(
            "select source, origin, sha256, study, accession from correction
             where decided_at is null order by at limit 1",
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some((source, origin, sha256, study, accession)) = row else { return Ok(None) };
        let runs: Vec<Uuid> = sqlx::query_scalar(
            "select r.id from run r join study s on s.uid = r.study
             where s.uid = $1 or ($2 <> '' and s.accession = $2
                and patient_root(s.patient) =
                    (select patient_root(m.patient) from message m where m.id::text = $4))
             order by r.started_at desc limit $3",
        )
        .bind(&study)
        .bind(accession.clone().unwrap_or_default())
        .bind(RUNS_MAX)
        .bind(&origin)
        .fetch_all(&mut *tx)
        .await?;
        let mut views: Vec<ReviewView> = Vec::new();
        for id in runs {
            match self.review(&mut tx, id, false).await {
                Ok(view) => views.extend(view),
                // What a run found was removed: there is nothing left to match with.
                Err(Error::Store(StoreError::Inconsistent(_))) => {}
                Err(error) => return Err(error),
            }
        }
        let content = match sha256 {
            Some(sha256) => CorrectionContent::Instance { sha256 },
            None => CorrectionContent::Message(self.document_of(&mut tx, &origin).await?),
        };
        let composed = self.composed_in(&mut tx, study.as_deref()).await?;
        tx.commit().await?;
        let source = domain::CorrectionSource::parse(&source)
            .ok_or_else(|| inconsistent("a correction of an unknown source"))?;
        Ok(Some(CorrectionCandidate { source, origin, content, runs: views, composed }))
    }

    async fn document_of(&self, tx: &mut PgConnection, message: &str) -> Result<ExchangedDocument> {
        let id: Uuid = message.parse().unwrap_or_default();
        let payload: Option<Option<Uuid>> =
            sqlx::query_scalar("select document from message where id = $1")
                .bind(id)
                .fetch_optional(&mut *tx)
                .await?;
        let Some(Some(payload)) = payload else { return Ok(ExchangedDocument::default()) };
        let content = payload::read(tx, &self.keys, payload).await?;
        Ok(content.map(|it| serde_json::from_slice(&it)).transpose()?.unwrap_or_default())
    }

    /// Which run composed which object, for a study: what comes back names what it follows.
    async fn composed_in(
        &self,
        tx: &mut PgConnection,
        study: Option<&str>,
    ) -> Result<Vec<ComposedObject>> {
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

    /// Puts on record what became of something that came back.
    pub(crate) async fn settle_returned_row(
        &self,
        source: &str,
        origin: &str,
        pairs: Vec<CorrectionPair>,
    ) -> Result<()> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        for pair in &pairs {
            let record = record::load(&mut tx, pair.run, false).await?;
            let content = serde_json::to_vec(&pair.content)?;
            let kept =
                payload::keep(&mut tx, &self.keys, record.patient, "returned", &content).await?;
            let artifacts: Vec<&str> =
                pair.content.artifacts().map(|it| it.sha256.as_str()).collect();
            payload::use_artifacts(&mut tx, kept.id, &artifacts).await?;
            let difference = serde_json::to_vec(&pair.difference)?;
            let difference =
                payload::keep(&mut tx, &self.keys, record.patient, "difference", &difference)
                    .await?;
            let of = (pair.run, record.patient);
            self.keep_pair(&mut tx, of, &pair.draft, (source, origin, kept.id, difference.id))
                .await?;
            let detail = json!({"source": source, "payload": kept.id,
                "salted_sha256": kept.digest, "difference": difference.id});
            let subject = record::subject(&record, "");
            append(&mut tx, &Event::engine("correction_matched", Action::C, subject, detail))
                .await?;
        }
        sqlx::query("update correction set decided_at = now() where source = $1 and origin = $2")
            .bind(source)
            .bind(origin)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The newest pairs of draft and final. Who looked is put on record (AUD-08).
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn corrections(
        &self,
        limit: i64,
        actor: Actor,
    ) -> std::result::Result<Vec<CorrectionLine>, StoreError> {
        Ok(self.correction_rows(limit, actor).await?)
    }

    async fn correction_rows(&self, limit: i64, actor: Actor) -> Result<Vec<CorrectionLine>> {
        let mut tx = self.pool.begin().await?;
        let rows: Vec<(Uuid, Uuid, String, String, String, Uuid)> = sqlx::query_as(
            "select id, run, source, origin,
                to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), difference
             from labelled_pair order by at desc limit $1",
        )
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
        let mut lines = Vec::new();
        for (id, run, source, origin, at, difference) in rows {
            // What was erased stays in the list, without its content.
            let content = payload::read(&mut tx, &self.keys, difference).await?;
            let difference = content.map(|it| serde_json::from_slice(&it)).transpose()?;
            let difference = difference.unwrap_or_default();
            lines.push(CorrectionLine { id, run, source, origin, at, difference });
        }
        let event = Event::engine("corrections_read", Action::R, Subject::default(), json!({}));
        append(&mut tx, &event.by(actor)).await?;
        tx.commit().await?;
        Ok(lines)
    }
}

/// A draft and what became of it, as it is listed.
#[derive(Clone, Debug, Serialize)]
pub struct CorrectionLine {
    /// Its key.
    pub id: Uuid,
    /// The run that drafted.
    pub run: Uuid,
    /// `review`, `seg`, `sr`, `oru` or `mdm`.
    pub source: String,
    /// The version of the run, or the instance or message that came.
    pub origin: String,
    /// When it was matched.
    pub at: String,
    /// What is other.
    pub difference: Value,
}
