//! Tokens: what authenticates a person in review. Only their digests are stored.

use domain::event::{TokenCreated, TokenRevoked};
use domain::{Actor, Event, Person, Subject, TokenHolder};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::database::pg_store::{PgStore, commit};
use crate::error::{Error, StoreResult};
use crate::trail::append::append;

/// A token in a list.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct TokenLine {
    /// The key of the token.
    pub id: Uuid,
    /// Name of the person.
    pub name: String,
    /// The organization they sign for.
    pub organization: String,
    /// Their role, which decides what they may review.
    pub role: String,
    /// The account that created it.
    pub issued_by: String,
    /// When it expires, in UTC (RFC 3339).
    pub expires_at: String,
    /// The name of a `TokenState`.
    pub state: String,
}

#[derive(sqlx::FromRow)]
struct HolderRow {
    id: Uuid,
    name: String,
    organization: String,
    role: String,
    created_by: String,
}

impl PgStore {
    /// The person whose valid token has this digest (SHA-256).
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn token_holder(&self, digest: &[u8; 32]) -> StoreResult<Option<TokenHolder>> {
        let row: Option<HolderRow> = sqlx::query_as(
            "select id, name, organization, role, created_by from token
             where hash = $1 and revoked_at is null and expires_at > clock_timestamp()",
        )
        .bind(digest.as_slice())
        .fetch_optional(&self.pool)
        .await
        .map_err(Error::from)?;
        Ok(row.map(|it| TokenHolder {
            token: it.id,
            person: Person { name: it.name, organization: it.organization, role: it.role },
            issued_by: it.created_by,
        }))
    }

    /// Gives a person access: stores the digest (SHA-256) of their token. Returns its key.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn create_token(
        &self,
        person: &Person,
        digest: &[u8; 32],
        expires: Timestamp,
        actor: Actor,
    ) -> StoreResult<Uuid> {
        let mut tx = self.begin().await?;
        let id = Uuid::now_v7();
        sqlx::query(
            "insert into token (id, name, organization, role, hash, created_by, expires_at)
             values ($1, $2, $3, $4, $5, $6, at_micros($7))",
        )
        .bind(id)
        .bind(&person.name)
        .bind(&person.organization)
        .bind(&person.role)
        .bind(digest.as_slice())
        .bind(&actor.id)
        .bind(expires.as_microsecond())
        .execute(&mut *tx)
        .await
        .map_err(Error::from)?;
        let body = TokenCreated { token: id, name: person.name.clone(), role: person.role.clone() };
        append(&mut tx, &Event::new(Subject::default(), body).by(actor)).await?;
        commit(tx).await?;
        Ok(id)
    }

    /// All tokens, the newest first.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn tokens(&self, limit: i64) -> StoreResult<Vec<TokenLine>> {
        let rows = sqlx::query_as(
            "select id, name, organization, role, created_by as issued_by,
                to_char(expires_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as expires_at,
                case when revoked_at is not null then 'revoked'
                    when expires_at < clock_timestamp() then 'expired' else 'valid' end as state
             from token order by created_at desc limit $1",
        );
        Ok(rows.bind(limit).fetch_all(&self.pool).await.map_err(Error::from)?)
    }

    /// Revokes a token. False if there is no such token, or it was revoked before.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn revoke_token(&self, token: Uuid, actor: Actor) -> StoreResult<bool> {
        let mut tx = self.begin().await?;
        let revoked = sqlx::query(
            "update token set revoked_at = clock_timestamp() where id = $1 and revoked_at is null",
        )
        .bind(token)
        .execute(&mut *tx)
        .await
        .map_err(Error::from)?;
        if revoked.rows_affected() == 0 {
            return Ok(false);
        }
        append(&mut tx, &Event::new(Subject::default(), TokenRevoked { token }).by(actor)).await?;
        commit(tx).await?;
        Ok(true)
    }
}
