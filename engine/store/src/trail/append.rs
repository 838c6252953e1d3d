use domain::Event;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Result, inconsistent};

/// Adds an event to the trail, within the transaction of what it tells of (AUD-05).
pub(crate) async fn append(connection: &mut PgConnection, event: &Event) -> Result<Uuid> {
    let body = body_of(event)?;
    let id = Uuid::now_v7();
    sqlx::query("select audit.append($1, $2)").bind(id).bind(body).execute(connection).await?;
    Ok(id)
}

/// The same for several, in order.
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

/// What of an event is hashed: everything that is set.
pub(crate) fn body_of(event: &Event) -> Result<serde_json::Value> {
    let mut body = serde_json::to_value(event)?;
    remove_nulls(&mut body);
    // What has no canonical form could never be sealed.
    encoding::jcs::canonical(&body).map_err(|it| inconsistent(it.to_string()))?;
    Ok(body)
}

fn remove_nulls(value: &mut serde_json::Value) {
    if let serde_json::Value::Object(map) = value {
        map.retain(|_, it| !it.is_null());
        map.values_mut().for_each(remove_nulls);
    }
}
