//! Holds: parts of the engine that do nothing until a person releases them.
//!
//! A start in safe mode holds every part, so that people can look before the engine works on.

use contracts::WorkKind;
use domain::event::{EngineHeld, EngineReleased};
use domain::{Actor, Event, HoldPart, Subject};
use serde::Serialize;

use crate::database::pg_store::{PgStore, commit};
use crate::database::wakeups::notify;
use crate::error::{Error, StoreResult};
use crate::trail::append::append;

/// A part on hold, in a list.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct HoldLine {
    /// The name of a [`HoldPart`].
    pub part: String,
    /// Since when.
    pub since: String,
}

impl PgStore {
    /// Puts every part on hold. Work that is claimed already ends; no more is claimed.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn hold_all(&self, by: &Actor) -> StoreResult<()> {
        let mut tx = self.begin().await?;
        let parts = HoldPart::ALL.to_vec();
        let names: Vec<&str> = parts.iter().map(|part| part.name()).collect();
        sqlx::query("insert into hold (part) select unnest($1::text[]) on conflict do nothing")
            .bind(names)
            .execute(&mut *tx)
            .await
            .map_err(Error::from)?;
        let event = Event::new(Subject::default(), EngineHeld { parts });
        append(&mut tx, &event.by(by.clone())).await?;
        Ok(commit(tx).await?)
    }

    /// Releases a part. False if it was not on hold.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn release(&self, part: HoldPart, by: Actor) -> StoreResult<bool> {
        let mut tx = self.begin().await?;
        let released = sqlx::query("delete from hold where part = $1")
            .bind(part.name())
            .execute(&mut *tx)
            .await
            .map_err(Error::from)?;
        if released.rows_affected() == 0 {
            return Ok(false);
        }
        let event = Event::new(Subject::default(), EngineReleased { part });
        append(&mut tx, &event.by(by)).await?;
        for kind in [WorkKind::Assembly, WorkKind::Node, WorkKind::Delivery] {
            notify(&mut tx, kind).await?;
        }
        commit(tx).await?;
        Ok(true)
    }

    /// The parts that are on hold.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn holds(&self) -> StoreResult<Vec<HoldLine>> {
        let query = "select part, to_char(since, 'YYYY-MM-DD HH24:MI:SSOF') as since from hold
            order by part";
        Ok(sqlx::query_as(query).fetch_all(&self.pool).await.map_err(Error::from)?)
    }

    /// Whether the intake is on hold. The query also shows whether the database answers.
    ///
    /// # Errors
    ///
    /// Fails if it does not.
    pub async fn is_intake_on_hold(&self) -> StoreResult<bool> {
        let query = sqlx::query_scalar("select exists (select from hold where part = $1)")
            .bind(HoldPart::Intake.name());
        Ok(query.fetch_one(&self.pool).await.map_err(Error::from)?)
    }
}
