//! Parts of the engine that do nothing until a person releases them.

use contracts::StoreError;
use domain::{Action, Actor, Event, Subject};
use serde::Serialize;
use serde_json::json;

use crate::database::pg_store::PgStore;
use crate::database::wakeups::announce;
use crate::error::{Error, Result};
use crate::trail::append::append;

/// What can be held: taking in, deciding about studies and messages and working on nodes, sending.
pub const PARTS: [&str; 3] = ["intake", "workflows", "deliveries"];

/// A part that is held.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct HeldLine {
    /// One of [`PARTS`].
    pub part: String,
    /// Since when.
    pub since: String,
}

impl PgStore {
    /// Holds every part. What is being worked on ends; nothing more is begun.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn hold_all(&self, by: &Actor) -> std::result::Result<(), StoreError> {
        Ok(self.hold_rows(by).await?)
    }

    async fn hold_rows(&self, by: &Actor) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        for part in PARTS {
            sqlx::query("insert into hold (part) values ($1) on conflict do nothing")
                .bind(part)
                .execute(&mut *tx)
                .await?;
        }
        let detail = json!({"parts": PARTS});
        let event = Event::engine("engine_held", Action::U, Subject::default(), detail);
        append(&mut tx, &event.by(by.clone())).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Releases a part. False if it was not held.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn release(&self, part: &str, by: Actor) -> std::result::Result<bool, StoreError> {
        Ok(self.release_row(part, by).await?)
    }

    async fn release_row(&self, part: &str, by: Actor) -> Result<bool> {
        let mut tx = self.pool.begin().await?;
        let released = sqlx::query("delete from hold where part = $1").bind(part);
        if released.execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(false);
        }
        let detail = json!({"part": part});
        let event = Event::engine("engine_released", Action::U, Subject::default(), detail);
        append(&mut tx, &event.by(by)).await?;
        for kind in ["assembly", "node", "delivery"] {
            announce(&mut tx, kind).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// The parts that are held.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn held(&self) -> std::result::Result<Vec<HeldLine>, StoreError> {
        let query = "select part, to_char(since, 'YYYY-MM-DD HH24:MI:SSOF') as since from hold
            order by part";
        Ok(sqlx::query_as(query).fetch_all(&self.pool).await.map_err(Error::from)?)
    }

    /// Whether nothing may come in. Asking also tells whether the database answers.
    ///
    /// # Errors
    ///
    /// Fails if it does not.
    pub async fn is_intake_held(&self) -> std::result::Result<bool, StoreError> {
        let query = "select exists (select from hold where part = 'intake')";
        Ok(sqlx::query_scalar(query).fetch_one(&self.pool).await.map_err(Error::from)?)
    }
}
