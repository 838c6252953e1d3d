//! Who a patient is: identifiers and demographics (DIN-60, HL7-21, HL7-33).
//!
//! An identifier stays with the patient it was first used for. Merges (`merge`) only change which
//! patient is the *root* of another; the root is resolved anew wherever it matters.

use std::collections::BTreeMap;

use contracts::{PatientAuthorities, PatientView};
use domain::event::{PatientAdded, PatientUpdated};
use domain::{Actor, Demographics, DemographicsChange, Event, FiledPatient, PatientId, Subject};
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
    /// Several, as far as the site knows them.
    Many(Authorities),
}

/// What a site says about the authorities that issue patient identifiers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorities {
    /// The issuer of identifiers that name none. Without it they are their sender's own.
    pub default_issuer: Option<String>,
    /// The issuer of identifiers that name none, by sender: a calling AE title, a sending
    /// application, or `APPLICATION|FACILITY`.
    pub senders: BTreeMap<String, String>,
    /// Names of issuers, by the OID under which some senders know them.
    pub names: BTreeMap<String, String>,
}

/// The system that an identifier came from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sender<'a> {
    /// Over DICOM.
    Dicom { calling_ae: &'a str },
    /// Over HL7.
    Hl7 { application: &'a str, facility: &'a str },
}

/// What identifiers are compared by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct IdentityKey {
    pub(crate) value: String,
    /// The authority. Empty at a site with a single domain; a text that no authority can have for an
    /// identifier that is its sender's own.
    pub(crate) issuer: String,
}

/// Begins the text that stands for a sender, and separates its parts.
const OF_SENDER: char = '\u{1f}';

impl IdentityDomains {
    /// The identifiers of a sender.
    pub(crate) const fn of<'a>(&'a self, sender: Sender<'a>) -> SenderDomains<'a> {
        SenderDomains { domains: self, sender }
    }

    /// An authority under the name that the site gives it.
    pub(crate) fn authority(&self, named: &str) -> String {
        let known = match self {
            Self::Single => None,
            Self::Many(authorities) => authorities.names.get(named),
        };
        known.map_or(named, String::as_str).replace(OF_SENDER, " ")
    }
}

impl PatientAuthorities for IdentityDomains {
    fn authority(&self, application: &str, facility: &str, id: &PatientId) -> String {
        self.of(Sender::Hl7 { application, facility }).key(id).issuer
    }
}

/// What the identifiers of one sender mean.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SenderDomains<'a> {
    domains: &'a IdentityDomains,
    sender: Sender<'a>,
}

impl SenderDomains<'_> {
    /// The key of an identifier.
    pub(crate) fn key(&self, id: &PatientId) -> IdentityKey {
        let issuer = match self.domains {
            IdentityDomains::Single => String::new(),
            IdentityDomains::Many(authorities) => {
                let named = Some(self.issuer(id)).filter(|it| !it.is_empty());
                let issuer = named.as_ref().or(authorities.default_issuer.as_ref());
                issuer.map_or_else(|| self.sender.text(), |it| self.domains.authority(it))
            }
        };
        IdentityKey { value: id.value.clone(), issuer }
    }

    /// The issuer that an identifier names, or that the site gives its sender; else empty.
    fn issuer(&self, id: &PatientId) -> String {
        match self.domains {
            IdentityDomains::Many(authorities) if id.issuer.is_empty() => {
                self.sender.mapped(&authorities.senders).cloned().unwrap_or_default()
            }
            _ => id.issuer.clone(),
        }
    }

    /// Who states something about a patient under an identifier: its authority, or the sender.
    fn speaker(&self, id: &PatientId) -> String {
        let issuer = self.issuer(id);
        if issuer.is_empty() { self.sender.text() } else { self.domains.authority(&issuer) }
    }
}

impl Sender<'_> {
    /// The sender as one text, which no authority is.
    fn text(&self) -> String {
        match self {
            Self::Dicom { calling_ae } => format!("{OF_SENDER}{calling_ae}"),
            Self::Hl7 { application, facility } => {
                format!("{OF_SENDER}{application}{OF_SENDER}{facility}")
            }
        }
    }

    fn mapped<'a>(&self, senders: &'a BTreeMap<String, String>) -> Option<&'a String> {
        match self {
            Self::Dicom { calling_ae } => senders.get(*calling_ae),
            Self::Hl7 { application, facility } => senders
                .get(&format!("{application}|{facility}"))
                .or_else(|| senders.get(*application)),
        }
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
/// resolved. That another authority or sender states other demographics is noted.
pub(crate) async fn find_or_add(
    connection: &mut PgConnection,
    domains: SenderDomains<'_>,
    id: &PatientId,
    demographics: &Demographics,
) -> Result<Uuid> {
    let key = domains.key(id);
    let speaker = domains.speaker(id);
    if let Some(known) = find(connection, &key).await? {
        note_collision(connection, &known, &speaker, demographics).await?;
        return Ok(known.patient);
    }
    let patient = Uuid::now_v7();
    sqlx::query(
        "insert into patient (id, value, issuer, demographics, stated_by)
         values ($1, $2, $3, $4, $5)",
    )
    .bind(patient)
    .bind(&id.value)
    .bind(domains.issuer(id))
    .bind(serde_json::to_value(demographics)?)
    .bind(speaker)
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
    let first = find(connection, &key).await?;
    first.map(|it| it.patient).ok_or_else(|| sqlx::Error::RowNotFound.into())
}

/// A patient whose identifier is known.
#[derive(sqlx::FromRow)]
struct KnownPatient {
    patient: Uuid,
    demographics: serde_json::Value,
    /// The authority or sender that named the patient first; empty if that was not recorded.
    stated_by: String,
}

async fn find(connection: &mut PgConnection, key: &IdentityKey) -> Result<Option<KnownPatient>> {
    let query = "select i.patient, p.demographics, p.stated_by
        from patient_identifier i join patient p on p.id = i.patient
        where i.value = $1 and i.issuer = $2";
    let found = sqlx::query_as(query).bind(&key.value).bind(&key.issuer);
    Ok(found.fetch_optional(connection).await?)
}

/// Notes that an authority or sender states other demographics than the one that named the patient
/// first: two patients may have one identifier. `isocenter doctor` counts them.
async fn note_collision(
    connection: &mut PgConnection,
    known: &KnownPatient,
    speaker: &str,
    stated: &Demographics,
) -> Result<()> {
    if known.stated_by.is_empty() || known.stated_by == speaker {
        return Ok(());
    }
    let current: Demographics = serde_json::from_value(known.demographics.clone())?;
    if !current.is_of_somebody_else(stated) {
        return Ok(());
    }
    sqlx::query(
        "insert into identity_collision (patient, stated_by) values ($1, $2)
         on conflict (patient, stated_by) do update set seen_at = now()",
    )
    .bind(known.patient)
    .bind(speaker)
    .execute(connection)
    .await?;
    Ok(())
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

/// A patient as documents are compared with them: with the identifiers of all who were merged.
/// `root` must have been resolved.
pub(crate) async fn filed(connection: &mut PgConnection, root: Uuid) -> Result<FiledPatient> {
    let PatientView { demographics, .. } = view(connection, root).await?;
    let identifiers: Vec<(String, String)> = sqlx::query_as(
        "select p.value, p.issuer from patient_family($1) f join patient p on p.id = f
         order by p.id",
    )
    .bind(root)
    .fetch_all(connection)
    .await?;
    let identifiers = identifiers.into_iter().map(|(value, issuer)| PatientId { value, issuer });
    Ok(FiledPatient { demographics, identifiers: identifiers.collect() })
}
