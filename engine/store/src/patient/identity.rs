//! Who is who: identifiers and demographics (DIN-60, HL7-21, HL7-33). `merge` says who turned out to
//! be whom.

use domain::{Action, Actor, Demographics, DemographicsChange, Event, PatientId, Subject};
use serde_json::json;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::error::Result;
use crate::trail::append::append;
use contracts::PatientView;

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

// An advisory lock of everything that reads or changes identity comes before any other question of its
// transaction: what is read then sees the merges that were waited for.
// Plans are made once, and not from what the tables hold at that moment: what is asked is always found by
// its keys.
const SHARED: &str = "begin; set local plan_cache_mode = force_generic_plan;
    set local enable_seqscan = off;
    select pg_advisory_xact_lock_shared(x'1D0001'::bigint)";
const ALONE: &str = "begin; set local plan_cache_mode = force_generic_plan;
    set local enable_seqscan = off;
    select pg_advisory_xact_lock(x'1D0001'::bigint)";

/// A transaction that keeps merges away until it ends; others may read identity beside it.
pub(crate) async fn begin_shared(pool: &PgPool) -> Result<Transaction<'static, Postgres>> {
    Ok(pool.begin_with(SHARED).await?)
}

/// A transaction that keeps everybody away who reads or changes identity, until it ends.
pub(crate) async fn begin_alone(pool: &PgPool) -> Result<Transaction<'static, Postgres>> {
    Ok(pool.begin_with(ALONE).await?)
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

/// Takes over what a message says of whom it names. What is shown is what was said of the survivor;
/// what was said of those who went fills in what nobody said of it, whatever came first.
pub(crate) async fn update(
    connection: &mut PgConnection,
    patient: Uuid,
    change: &DemographicsChange,
    actor: &Actor,
    message: Uuid,
) -> Result<()> {
    let row: (serde_json::Value,) =
        sqlx::query_as("select demographics from patient where id = $1 for no key update")
            .bind(patient)
            .fetch_one(&mut *connection)
            .await?;
    let current: Demographics = serde_json::from_value(row.0)?;
    let changed = current.clone().changed(change);
    if changed == current {
        return Ok(());
    }
    sqlx::query("update patient set demographics = $2 where id = $1")
        .bind(patient)
        .bind(serde_json::to_value(&changed)?)
        .execute(&mut *connection)
        .await?;
    let root = root_of(connection, patient).await?;
    sqlx::query("update patient set version = version + 1 where id = $1")
        .bind(root)
        .execute(&mut *connection)
        .await?;
    let subject = Subject { patient: Some(root), message: Some(message), ..Subject::default() };
    let event = Event::engine("patient_updated", Action::U, subject, json!({}));
    append(connection, &event.by(actor.clone())).await?;
    Ok(())
}

/// A patient, as reports name them. `root` must have been resolved.
pub(crate) async fn view(connection: &mut PgConnection, root: Uuid) -> Result<PatientView> {
    let row: (String, String, serde_json::Value, i32) =
        sqlx::query_as("select value, issuer, demographics, version from patient where id = $1")
            .bind(root)
            .fetch_one(&mut *connection)
            .await?;
    let (value, issuer, demographics, version) = row;
    let mut demographics: Demographics = serde_json::from_value(demographics)?;
    let others: Vec<(serde_json::Value,)> = sqlx::query_as(
        "select p.demographics from patient_family($1) f join patient p on p.id = f
         where p.id <> $1 order by p.id desc",
    )
    .bind(root)
    .fetch_all(connection)
    .await?;
    for (other,) in others {
        demographics = demographics.or(&serde_json::from_value(other)?);
    }
    Ok(PatientView { id: root, identifier: PatientId { value, issuer }, demographics, version })
}
