//! Results that were combined while two patients were one stand apart again when they are not
//! (HL7-37).
//!
//! What later messages are combined with is what each message states itself, so no value of one
//! patient is taken for one of the other again. What was concluded from both together is not sent any
//! more, and a person decides about what receivers have.

use contracts::NewTask;
use domain::event::ResultsSeparated;
use domain::{Event, Subject, TaskKind};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::run::task;
use crate::trail::append::append;

/// A message whose document holds results of another patient.
#[derive(sqlx::FromRow)]
struct Mixed {
    id: Uuid,
    patient: Option<Uuid>,
    control_id: String,
    other: Uuid,
    other_patient: Option<Uuid>,
    other_control_id: String,
}

/// Separates the results of patients whose roots have changed from those of others.
pub(crate) async fn separate(tx: &mut PgConnection, patients: &[Uuid]) -> Result<()> {
    let mixed: Vec<Mixed> = sqlx::query_as(
        "with recursive mixed (id, other) as (
            select h.id, m.id from message m join message h on h.id = m.superseded_by
                where (m.patient = any($1) or h.patient = any($1))
                    and patient_root(m.patient) is distinct from patient_root(h.patient)
            union
            select h.superseded_by, mixed.other from mixed join message h on h.id = mixed.id
                where h.superseded_by is not null)
         select distinct on (h.id) h.id, h.patient, h.control_id, m.id as other,
            m.patient as other_patient, m.control_id as other_control_id
         from mixed join message h on h.id = mixed.id join message m on m.id = mixed.other
         where patient_root(m.patient) is distinct from patient_root(h.patient)
         order by h.id, m.id",
    )
    .bind(patients)
    .fetch_all(&mut *tx)
    .await?;
    for it in &mixed {
        sqlx::query("update message set in_force = null, combined_with = $2 where id = $1")
            .bind(it.id)
            .bind(it.other)
            .execute(&mut *tx)
            .await?;
        sqlx::query("update message set superseded_by = null where superseded_by = $1")
            .bind(it.id)
            .execute(&mut *tx)
            .await?;
        report(tx, it).await?;
    }
    Ok(())
}

/// Reports it, and asks a person: under each of the two patients.
async fn report(tx: &mut PgConnection, mixed: &Mixed) -> Result<()> {
    let reason = format!(
        "the results of message {} were combined with those of message {} while their patients were \
         merged; what was concluded from both is held, and has to be withdrawn where it was sent",
        mixed.control_id, mixed.other_control_id
    );
    for (patient, message) in [(mixed.patient, mixed.id), (mixed.other_patient, mixed.other)] {
        let subject = Subject { patient, message: Some(message), ..Subject::default() };
        let body = ResultsSeparated { message: mixed.id, other: mixed.other };
        append(tx, &Event::new(subject.clone(), body)).await?;
        let kind = TaskKind::IdentityConflict;
        task::open_once(tx, &NewTask { kind, subject, reason: reason.clone() }).await?;
    }
    Ok(())
}

/// Whether a message was decided on with results of a patient who is another one now.
pub(crate) async fn is_mixed(tx: &mut PgConnection, message: Option<Uuid>) -> Result<bool> {
    let query = sqlx::query_scalar(
        "select exists (select from message h join message m on m.id = h.combined_with
            where h.id = $1 and patient_root(m.patient) is distinct from patient_root(h.patient))",
    );
    Ok(query.bind(message).fetch_one(tx).await?)
}
