//! What is handed out of a study: its current instances, and whose they are by now.

use contracts::{PatientView, StoreError};
use domain::{Action, Actor, Event, Subject};
use serde_json::json;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::error::Result;
use crate::patient::identity;
use crate::trail::append::append;

/// A study that is handed out.
#[derive(Clone, Debug)]
pub struct StudyExport {
    /// Its Study Instance UID.
    pub study: String,
    /// By what its patient is known now, if it is known whose it is.
    pub patient: Option<PatientView>,
    /// SOP Instance UID, SHA-256 of the data set, and who sent it; what was removed is not among them.
    pub instances: Vec<(String, String, String)>,
}

impl PgStore {
    /// Finds a study, and puts on record that `actor` is given it. Nothing, if there is none.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn export_study(
        &self,
        study: &str,
        actor: Actor,
    ) -> std::result::Result<Option<StudyExport>, StoreError> {
        Ok(self.export_rows(study, actor).await?)
    }

    async fn export_rows(&self, study: &str, actor: Actor) -> Result<Option<StudyExport>> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        let row: Option<(Option<Uuid>,)> =
            sqlx::query_as("select patient_root(patient) from study where uid = $1")
                .bind(study)
                .fetch_optional(&mut *tx)
                .await?;
        let Some((root,)) = row else { return Ok(None) };
        let patient = match root {
            Some(root) => Some(identity::view(&mut tx, root).await?),
            None => None,
        };
        let instances: Vec<(String, String, String)> = sqlx::query_as(
            "select uid, sha256, calling_ae from instance
             where study = $1 and is_current and removed_at is null order by series, uid",
        )
        .bind(study)
        .fetch_all(&mut *tx)
        .await?;
        let study = study.to_owned();
        let subject = Subject { patient: root, study: Some(study.clone()), ..Subject::default() };
        let detail = json!({"instances": instances.len()});
        append(&mut tx, &Event::engine("study_exported", Action::R, subject, detail).by(actor))
            .await?;
        tx.commit().await?;
        Ok(Some(StudyExport { study, patient, instances }))
    }
}
