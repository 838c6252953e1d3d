//! Who is who: identifiers, demographics and merges (HL7-30..33).

use domain::{Action, Actor, Demographics, Event, PatientId, Subject};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::event::{announce, append};
use contracts::PatientView;

/// Advisory lock of everything that reads or changes identity. Merges take it alone.
const IDENTITY_LOCK: i64 = 0x1D_0001;

/// How many authorities give out patient identifiers at a site (DIN-60).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityDomains {
    /// One: an identifier is the same whoever is named as its issuer, or nobody.
    Single,
    /// Several: an identifier without an issuer is of this one.
    Many {
        /// The issuer that is meant when none is named.
        default_issuer: String,
    },
}

impl IdentityDomains {
    /// What identifiers are compared by.
    pub(crate) fn key(&self, id: &PatientId) -> (String, String) {
        let issuer = match self {
            Self::Single => String::new(),
            Self::Many { default_issuer } if id.issuer.is_empty() => default_issuer.clone(),
            Self::Many { .. } => id.issuer.clone(),
        };
        (id.value.clone(), issuer)
    }
}

/// Keeps merges away until the transaction ends; others may read identity beside us.
pub(crate) async fn lock_shared(connection: &mut PgConnection) -> Result<()> {
    sqlx::query("select pg_advisory_xact_lock_shared($1)")
        .bind(IDENTITY_LOCK)
        .execute(connection)
        .await?;
    Ok(())
}

/// Keeps everybody away who reads or changes identity, until the transaction ends.
pub(crate) async fn lock_alone(connection: &mut PgConnection) -> Result<()> {
    sqlx::query("select pg_advisory_xact_lock($1)").bind(IDENTITY_LOCK).execute(connection).await?;
    Ok(())
}

/// The patient whom `id` names, made if there is none. Not yet resolved through merges.
pub(crate) async fn find_or_add(
    connection: &mut PgConnection,
    domains: &IdentityDomains,
    id: &PatientId,
    demographics: &Demographics,
) -> Result<Uuid> {
    let (value, issuer) = domains.key(id);
    let find = "select patient from patient_identifier where value = $1 and issuer = $2";
    if let Some((patient,)) = sqlx::query_as::<_, (Uuid,)>(find)
        .bind(&value)
        .bind(&issuer)
        .fetch_optional(&mut *connection)
        .await?
    {
        return Ok(patient);
    }
    let patient = Uuid::now_v7();
    sqlx::query("insert into patient (id, value, issuer, demographics) values ($1, $2, $3, $4)")
        .bind(patient)
        .bind(&id.value)
        .bind(&id.issuer)
        .bind(serde_json::to_value(demographics)?)
        .execute(&mut *connection)
        .await?;
    let added = sqlx::query(
        "insert into patient_identifier (value, issuer, patient) values ($1, $2, $3)
         on conflict do nothing",
    )
    .bind(&value)
    .bind(&issuer)
    .bind(patient)
    .execute(&mut *connection)
    .await?;
    if added.rows_affected() == 1 {
        let subject = Subject { patient: Some(patient), ..Subject::default() };
        append(connection, &Event::engine("patient_added", Action::C, subject, json!({}))).await?;
        return Ok(patient);
    }
    // Somebody else added the same identifier at the same moment: theirs holds.
    sqlx::query("delete from patient where id = $1")
        .bind(patient)
        .execute(&mut *connection)
        .await?;
    let row: (Uuid,) =
        sqlx::query_as(find).bind(&value).bind(&issuer).fetch_one(connection).await?;
    Ok(row.0)
}

/// Who somebody turned out to be.
pub(crate) async fn root_of(connection: &mut PgConnection, patient: Uuid) -> Result<Uuid> {
    let row: (Uuid,) =
        sqlx::query_as("select patient_root($1)").bind(patient).fetch_one(connection).await?;
    Ok(row.0)
}

/// Takes over what a message says of a patient.
pub(crate) async fn update(
    connection: &mut PgConnection,
    patient: Uuid,
    newer: &Demographics,
    actor: &Actor,
    message: Uuid,
) -> Result<()> {
    let root = root_of(connection, patient).await?;
    let current = view(connection, root).await?.demographics;
    let updated = current.clone().updated(newer);
    if updated == current {
        return Ok(());
    }
    sqlx::query("update patient set demographics = $2, version = version + 1 where id = $1")
        .bind(root)
        .bind(serde_json::to_value(&updated)?)
        .execute(&mut *connection)
        .await?;
    let subject = Subject { patient: Some(root), message: Some(message), ..Subject::default() };
    let event = Event::engine("patient_updated", Action::U, subject, json!({}));
    append(connection, &event.by(actor.clone())).await?;
    Ok(())
}

/// Makes two patients one (ADT^A40). Chains, repeats and any order of messages end the same.
pub(crate) async fn merge(
    connection: &mut PgConnection,
    survivor: (Uuid, &PatientId),
    source: Uuid,
    actor: &Actor,
    message: Uuid,
) -> Result<()> {
    let to = root_of(connection, survivor.0).await?;
    let from = root_of(connection, source).await?;
    let subject = Subject { patient: Some(to), message: Some(message), ..Subject::default() };
    let detail = json!({"from": from, "to": to, "changed": from != to});
    let event = Event::engine("patients_merged", Action::U, subject, detail).by(actor.clone());
    let event = append(connection, &event).await?;
    // A survivor that was itself merged since keeps the name it was merged into: messages may come
    // out of order. Only a merge the other way round brings an old name back.
    if survivor.0 == to || source == to {
        sqlx::query(
            "update patient set value = $2, issuer = $3, version = version + 1 where id = $1",
        )
        .bind(to)
        .bind(&survivor.1.value)
        .bind(&survivor.1.issuer)
        .execute(&mut *connection)
        .await?;
    }
    if from == to {
        return Ok(());
    }
    sqlx::query("update patient set merged_into = $2, version = version + 1 where id = $1")
        .bind(from)
        .bind(to)
        .execute(&mut *connection)
        .await?;
    sqlx::query("insert into patient_alias (from_patient, to_patient, event) values ($1, $2, $3)")
        .bind(from)
        .bind(to)
        .bind(event)
        .execute(&mut *connection)
        .await?;
    // What waited because two patients seemed to differ may go on now.
    sqlx::query("update study set look_at = now() where patient in (select patient_family($1))")
        .bind(to)
        .execute(&mut *connection)
        .await?;
    release_deliveries(connection, to).await
}

/// Queues again what was held back because two patients seemed to differ, and were found to differ
/// when it was composed (`attempt` counts from then on).
async fn release_deliveries(connection: &mut PgConnection, patient: Uuid) -> Result<()> {
    let rows: Vec<(Uuid, String)> = sqlx::query_as(
        "update delivery set state = 'queued', run_after = now(), ended_at = null, reason = ''
         where state = 'blocked' and attempt > 0 and reason like 'identity_conflict%'
            and run in (select id from run where patient in (select patient_family($1)))
         returning run, destination",
    )
    .bind(patient)
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

/// A patient, as reports name them. `root` must have been resolved.
pub(crate) async fn view(connection: &mut PgConnection, root: Uuid) -> Result<PatientView> {
    let row: (String, String, serde_json::Value, i32) =
        sqlx::query_as("select value, issuer, demographics, version from patient where id = $1")
            .bind(root)
            .fetch_one(connection)
            .await?;
    let (value, issuer, demographics, version) = row;
    let demographics = serde_json::from_value(demographics)?;
    Ok(PatientView { id: root, identifier: PatientId { value, issuer }, demographics, version })
}
