//! The export of a study: its current instances, and the patient they belong to now.

use contracts::PatientView;
use domain::event::StudyExported;
use domain::{Actor, Event, Subject};
use uuid::Uuid;

use crate::database::pg_store::{PgStore, commit};
use crate::error::{Error, StoreResult};
use crate::patient::identity;
use crate::trail::append::append;

/// An instance to export.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct InstanceToExport {
    /// SOP Instance UID.
    pub uid: String,
    /// SHA-256 of the data set, in hex: the name of its file.
    pub sha256: String,
    /// AE title of the peer that sent it.
    pub calling_ae: String,
}

/// A study to export.
#[derive(Clone, Debug)]
pub struct StudyExport {
    /// Study Instance UID.
    pub study: String,
    /// The patient as of now, after all merges; nothing if unknown.
    pub patient: Option<PatientView>,
    /// Its current instances, without those that retention has removed.
    pub instances: Vec<InstanceToExport>,
}

impl PgStore {
    /// Finds a study, and reports that `actor` exports it. `None` if there is no such study.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn export_study(
        &self,
        study: &str,
        actor: Actor,
    ) -> StoreResult<Option<StudyExport>> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        let root: Option<Option<Uuid>> =
            sqlx::query_scalar("select patient_root(patient) from study where uid = $1")
                .bind(study)
                .fetch_optional(&mut *tx)
                .await
                .map_err(Error::from)?;
        let Some(root) = root else { return Ok(None) };
        let patient = match root {
            Some(root) => Some(identity::view(&mut tx, root).await?),
            None => None,
        };
        let instances: Vec<InstanceToExport> = sqlx::query_as(
            "select uid, sha256, calling_ae from instance
             where study = $1 and is_current and removed_at is null order by series, uid",
        )
        .bind(study)
        .fetch_all(&mut *tx)
        .await
        .map_err(Error::from)?;
        let study = study.to_owned();
        let subject = Subject { patient: root, study: Some(study.clone()), ..Subject::default() };
        let body = StudyExported { instances: instances.len() };
        append(&mut tx, &Event::new(subject, body).by(actor)).await?;
        commit(tx).await?;
        Ok(Some(StudyExport { study, patient, instances }))
    }
}
