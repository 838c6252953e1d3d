//! Reversal of a merge: one person asks for it, a second one approves it (HL7-37).

use contracts::StoreError;
use domain::event::{PatientsUnmerged, UnmergeAsked};
use domain::{Event, Subject, TokenHolder};
use jiff::Timestamp;
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::{PgStore, commit};
use crate::error::{Error, StoreResult};
use crate::patient::identity;
use crate::patient::merge::{Alias, add_alias, settle};
use crate::trail::append::append;

/// Why a merge is not reversed.
#[derive(Debug, thiserror::Error)]
pub enum UnmergeError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One of the two is not known.
    #[error("no patient has the identifier `{0}`")]
    Unknown(String),
    /// Several patients have this identifier, each of another authority.
    #[error("several patients have the identifier `{0}`: write it as IDENTIFIER^AUTHORITY")]
    Ambiguous(String),
    /// The two are not merged.
    #[error("the two are not merged with each other; `isocenter why` shows what either became")]
    NotMerged,
    /// There is no such request, or it was approved.
    #[error("there is no such open request; `isocenter patient requests` lists them")]
    NoRequest,
    /// The person who asked cannot approve.
    #[error("{0} asked for this: a second person has to approve it (HL7-37)")]
    SamePerson(String),
    /// It was asked for under the name of an account, which proves nobody.
    #[error("this was asked for without a token: ask again, with the token of a person")]
    WithoutToken,
}

impl From<Error> for UnmergeError {
    fn from(error: Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<sqlx::Error> for UnmergeError {
    fn from(error: sqlx::Error) -> Self {
        Self::from(Error::from(error))
    }
}

/// An open request in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct UnmergeRequestLine {
    /// The key of the request.
    pub id: Uuid,
    /// The person who asked.
    pub asked_by: String,
    /// When they asked, in UTC (RFC 3339).
    pub asked_at: String,
}

#[derive(sqlx::FromRow)]
struct RequestRow {
    from_patient: Uuid,
    to_patient: Uuid,
    asked_by: String,
    asked_token: Option<Uuid>,
}

impl PgStore {
    /// Asks for the reversal of a merge. Returns the key with which a second person approves it.
    ///
    /// # Errors
    ///
    /// States why there is nothing to reverse.
    pub async fn ask_unmerge(
        &self,
        source: &str,
        survivor: &str,
        holder: &TokenHolder,
    ) -> Result<Uuid, UnmergeError> {
        let mut tx = self.begin().await?;
        let mut patients = Vec::new();
        for value in [source, survivor] {
            patients.push(named_patient(&mut tx, value).await?);
        }
        let [from, to] = patients.as_slice() else { return Err(UnmergeError::NotMerged) };
        let is_merged: bool = sqlx::query_scalar(
            "select patient_root($1) = patient_root($2) and exists (select from patient_alias
                where is_same and (from_patient, to_patient) in (($1, $2), ($2, $1)))",
        )
        .bind(from)
        .bind(to)
        .fetch_one(&mut *tx)
        .await?;
        if !is_merged {
            return Err(UnmergeError::NotMerged);
        }
        let id = Uuid::now_v7();
        sqlx::query(
            "insert into unmerge_request (id, from_patient, to_patient, asked_by, asked_token)
             values ($1, $2, $3, $4, $5)",
        )
        .bind(id)
        .bind(from)
        .bind(to)
        .bind(&holder.person.name)
        .bind(holder.token)
        .execute(&mut *tx)
        .await?;
        let subject = Subject { patient: Some(*to), ..Subject::default() };
        let body = UnmergeAsked {
            request: id,
            from: *from,
            to: *to,
            token: holder.token,
            issued_by: holder.issued_by.clone(),
        };
        append(&mut tx, &Event::new(subject, body).by(holder.actor())).await?;
        commit(tx).await?;
        Ok(id)
    }

    /// Reverses a merge that another person asked to reverse.
    ///
    /// # Errors
    ///
    /// States what is wrong: the request, or the person who approves.
    pub async fn approve_unmerge(
        &self,
        request: Uuid,
        holder: &TokenHolder,
    ) -> Result<(), UnmergeError> {
        let mut tx = identity::begin_exclusive(&self.pool).await?;
        let row: Option<RequestRow> = sqlx::query_as(
            "select from_patient, to_patient, asked_by, asked_token from unmerge_request
             where id = $1 and approved_at is null for update",
        )
        .bind(request)
        .fetch_optional(&mut *tx)
        .await?;
        let row = row.ok_or(UnmergeError::NoRequest)?;
        let asked_token = row.asked_token.ok_or(UnmergeError::WithoutToken)?;
        if asked_token == holder.token || holder.person.may_be(&row.asked_by) {
            return Err(UnmergeError::SamePerson(row.asked_by));
        }
        sqlx::query(
            "update unmerge_request set approved_by = $2, approved_token = $3, approved_at = now()
             where id = $1",
        )
        .bind(request)
        .bind(&holder.person.name)
        .bind(holder.token)
        .execute(&mut *tx)
        .await?;
        let from = row.from_patient;
        let to = row.to_patient;
        // Auditors search for either of the two patients (HL7-35).
        let body = PatientsUnmerged {
            request,
            from,
            to,
            asked_by: row.asked_by,
            asked_token,
            token: holder.token,
            issued_by: holder.issued_by.clone(),
        };
        let unmerged = |patient| {
            let subject = Subject { patient: Some(patient), ..Subject::default() };
            Event::new(subject, body.clone()).by(holder.actor())
        };
        let event = append(&mut tx, &unmerged(to)).await?;
        append(&mut tx, &unmerged(from)).await?;
        let alias = Alias { from, to, is_same: false, asserted_at: Timestamp::now(), event };
        add_alias(&mut tx, &alias).await?;
        settle(&mut tx, from).await?;
        settle(&mut tx, to).await?;
        commit(tx).await?;
        Ok(())
    }

    /// The requests that nobody has approved yet, oldest first.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn unmerge_requests(&self) -> StoreResult<Vec<UnmergeRequestLine>> {
        let rows = sqlx::query_as(
            "select id, asked_by, to_char(asked_at at time zone 'UTC',
                'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as asked_at
             from unmerge_request where approved_at is null order by asked_at",
        );
        Ok(rows.fetch_all(&self.pool).await.map_err(Error::from)?)
    }
}

/// The patient of an identifier, which may be followed by `^` and its authority.
async fn named_patient(tx: &mut PgConnection, text: &str) -> Result<Uuid, UnmergeError> {
    let parts = text.split_once('^');
    let value = parts.map_or(text, |it| it.0);
    let found: Vec<Uuid> = sqlx::query_scalar(
        "select distinct patient from patient_identifier
         where value = $1 and ($2::text is null or issuer = $2)",
    )
    .bind(value)
    .bind(parts.map(|it| it.1))
    .fetch_all(tx)
    .await?;
    match found.as_slice() {
        [patient] => Ok(*patient),
        [] => Err(UnmergeError::Unknown(text.to_owned())),
        _ => Err(UnmergeError::Ambiguous(text.to_owned())),
    }
}
