//! Appending events to the trail, within the transaction of the operation they report (AUD-05).

use async_trait::async_trait;
use contracts::TrailStore;
use domain::Event;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::{PgStore, commit};
use crate::error::{Result, StoreResult, inconsistent};

#[async_trait]
impl TrailStore for PgStore {
    async fn append_events(&self, events: Vec<Event>) -> StoreResult<()> {
        let mut tx = self.begin().await?;
        append_all(&mut tx, &events).await?;
        Ok(commit(tx).await?)
    }
}

/// Appends an event and returns its key.
pub(crate) async fn append(connection: &mut PgConnection, event: &Event) -> Result<Uuid> {
    let id = Uuid::now_v7();
    append_with_id(connection, id, event).await?;
    Ok(id)
}

/// Appends an event under a key that the caller has chosen.
pub(crate) async fn append_with_id(
    connection: &mut PgConnection,
    id: Uuid,
    event: &Event,
) -> Result<()> {
    let body = body_of(event)?;
    sqlx::query("select audit.append($1, $2)").bind(id).bind(body).execute(connection).await?;
    Ok(())
}

/// Appends several events in order, with one statement.
pub(crate) async fn append_all(connection: &mut PgConnection, events: &[Event]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = events.iter().map(|_| Uuid::now_v7()).collect();
    let bodies = events.iter().map(body_of).collect::<Result<Vec<_>>>()?;
    sqlx::query("select audit.append($1::uuid[], $2::jsonb[])")
        .bind(&ids)
        .bind(&bodies)
        .execute(connection)
        .await?;
    Ok(())
}

/// The body of an event as it is stored and hashed: every field that is set.
///
/// # Errors
///
/// Fails if the body has no canonical form (RFC 8785): such an event could never be sealed.
pub(crate) fn body_of(event: &Event) -> Result<serde_json::Value> {
    let mut body = serde_json::to_value(event)?;
    remove_nulls(&mut body);
    encoding::canonical_json::canonical(&body).map_err(|error| inconsistent(error.to_string()))?;
    Ok(body)
}

fn remove_nulls(value: &mut serde_json::Value) {
    if let serde_json::Value::Object(map) = value {
        map.retain(|_, field| !field.is_null());
        map.values_mut().for_each(remove_nulls);
    }
}
