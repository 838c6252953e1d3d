//! Who a patient is: identifiers and demographics (DIN-60, HL7-21, HL7-33).
//!
//! An identifier stays with the patient it was first used for. Merges (`merge`) only change which
//! patient is the *root* of another; the root is resolved anew wherever it matters.

use std::collections::BTreeMap;

use contracts::PatientView;
use domain::event::{PatientAdded, PatientUpdated};
use domain::{Actor, Demographics, DemographicsChange, Event, PatientId, Subject};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::database::pg_store::Tx;
use crate::error::Result;
use crate::trail::append::append;

/// How many authorities issue patient identifiers at a site (DIN-60).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityDomains {
    /// One: the issuer of an identifier is ignored.
    Single,
    /// Several: an identifier without an issuer belongs to the default one.
    Many {
        /// The issuer of identifiers that name none.
        default_issuer: String,
        /// Names of issuers, by the OID under which some senders know them.
        names: BTreeMap<String, String>,
    },
}

/// What identifiers are compared by. The issuer is empty at a site with a single domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct IdentityKey {
    pub(crate) value: String,
    pub(crate) issuer: String,
}

impl IdentityDomains {
    /// The key of an identifier.
    pub(crate) fn key(&self, id: &PatientId) -> IdentityKey {
        let issuer = match self {
            Self::Single => String::new(),
            Self::Many { default_issuer, .. } if id.issuer.is_empty() => default_issuer.clone(),
            Self::Many { names, .. } => names.get(&id.issuer).unwrap_or(&id.issuer).clone(),
        };
        IdentityKey { value: id.value.clone(), issuer }
    }
}

// Every transaction that reads or changes identity takes an advisory lock before its first query:
// what it reads then includes the merges it has waited for.
// Plans are generic and use indexes: they are made once, and all queries look rows up by key.
const SHARED: &str = "begin; set local plan_cache_mode = force_generic_plan;
    set local enable_seqscan = off;
    select pg_advisory_xact_lock_shared(x'1D0001'::bigint)";
const EXCLUSIVE: &str = "begin; set local plan_cache_mode = force_generic_plan;
    set local enable_seqscan = off;
    select pg_advisory_xact_lock(x'1D0001'::bigint)";

/// Begins a transaction during which no merge can commit. Others may read identity beside it.
pub(crate) async fn begin_shared(pool: &PgPool) -> Result<Tx> {
    Ok(pool.begin_with(SHARED).await?)
}

/// Begins a transaction that excludes all others that read or change identity, until it ends.
pub(crate) async fn begin_exclusive(pool: &PgPool) -> Result<Tx> {
    Ok(pool.begin_with(EXCLUSIVE).await?)
}

/// The patient an identifier was first used for, added if the identifier is new. Merges are not
/// resolved.
pub(crate) async fn find_or_add(
    connection: &mut PgConnection,
    domains: &IdentityDomains,
    id: &PatientId,
    demographics: &Demographics,
) -> Result<Uuid> {
    let key = domains.key(id);
    if let Some(patient) = find(connection, &key).await? {
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
    .bind(&key.value)
    .bind(&key.issuer)
    .bind(patient)
    .execute(&mut *connection)
    .await?;
    if added.rows_affected() == 1 {
        let subject = Subject { patient: Some(patient), ..Subject::default() };
        append(connection, &Event::new(subject, PatientAdded {})).await?;
        return Ok(patient);
    }
    // Another transaction added the same identifier at the same moment, and was first.
    sqlx::query("delete from patient where id = $1")
        .bind(patient)
        .execute(&mut *connection)
        .await?;
    find(connection, &key).await?.ok_or_else(|| sqlx::Error::RowNotFound.into())
}

async fn find(connection: &mut PgConnection, key: &IdentityKey) -> Result<Option<Uuid>> {
    let query = "select patient from patient_identifier where value = $1 and issuer = $2";
    let found = sqlx::query_scalar(query).bind(&key.value).bind(&key.issuer);
    Ok(found.fetch_optional(connection).await?)
}

/// The root of a patient: the one that it was merged into, over all merges.
pub(crate) async fn root_of(connection: &mut PgConnection, patient: Uuid) -> Result<Uuid> {
    let query = sqlx::query_scalar("select patient_root($1)").bind(patient);
    Ok(query.fetch_one(connection).await?)
}

/// Applies the demographics that a message states of a patient.
///
/// A patient's view shows the demographics of the root. Those of merged patients only fill in what
/// the root leaves open, in whatever order the messages came.
pub(crate) async fn update(
    connection: &mut PgConnection,
    patient: Uuid,
    change: &DemographicsChange,
    actor: &Actor,
    message: Uuid,
) -> Result<()> {
    let stored: serde_json::Value =
        sqlx::query_scalar("select demographics from patient where id = $1 for no key update")
            .bind(patient)
            .fetch_one(&mut *connection)
            .await?;
    let current: Demographics = serde_json::from_value(stored)?;
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
    append(connection, &Event::new(subject, PatientUpdated {}).by(actor.clone())).await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct PatientRow {
    value: String,
    issuer: String,
    demographics: serde_json::Value,
    version: i32,
}

/// A patient as reports name them. `root` must have been resolved.
pub(crate) async fn view(connection: &mut PgConnection, root: Uuid) -> Result<PatientView> {
    let row: PatientRow =
        sqlx::query_as("select value, issuer, demographics, version from patient where id = $1")
            .bind(root)
            .fetch_one(&mut *connection)
            .await?;
    let mut demographics: Demographics = serde_json::from_value(row.demographics)?;
    let merged: Vec<serde_json::Value> = sqlx::query_scalar(
        "select p.demographics from patient_family($1) f join patient p on p.id = f
         where p.id <> $1 order by p.id desc",
    )
    .bind(root)
    .fetch_all(connection)
    .await?;
    for other in merged {
        demographics = demographics.or(&serde_json::from_value(other)?);
    }
    let identifier = PatientId { value: row.value, issuer: row.issuer };
    Ok(PatientView { id: root, identifier, demographics, version: row.version })
}
