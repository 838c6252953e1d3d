use contracts::StoreError;
use domain::{Action, Actor, Event, Person, Subject};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::error::Error;
use crate::trail::append::append;

/// A token, as it is listed.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct TokenLine {
    /// Its key.
    pub id: Uuid,
    /// Whose.
    pub name: String,
    /// For whom they sign.
    pub organization: String,
    /// What they are.
    pub role: String,
    /// Until when it is good.
    pub expires_at: String,
    /// `valid`, `expired` or `revoked`.
    pub state: String,
}

impl PgStore {
    /// Lets somebody in: keeps the digest of their token.
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
    ) -> Result<Uuid, StoreError> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
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
        let detail = json!({"token": id, "name": person.name, "role": person.role});
        let event = Event::engine("token_created", Action::C, Subject::default(), detail);
        append(&mut tx, &event.by(actor)).await?;
        tx.commit().await.map_err(Error::from)?;
        Ok(id)
    }

    /// All tokens, the newest first.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn tokens(&self, limit: i64) -> Result<Vec<TokenLine>, StoreError> {
        let rows = sqlx::query_as(
            "select id, name, organization, role,
                to_char(expires_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as expires_at,
                case when revoked_at is not null then 'revoked'
                    when expires_at < clock_timestamp() then 'expired' else 'valid' end as state
             from token order by created_at desc limit $1",
        );
        Ok(rows.bind(limit).fetch_all(&self.pool).await.map_err(Error::from)?)
    }

    /// Lets somebody in no more. False if nobody was.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn revoke_token(&self, token: Uuid, actor: Actor) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
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
        let detail = json!({"token": token});
        let event = Event::engine("token_revoked", Action::D, Subject::default(), detail);
        append(&mut tx, &event.by(actor)).await?;
        tx.commit().await.map_err(Error::from)?;
        Ok(true)
    }
}
