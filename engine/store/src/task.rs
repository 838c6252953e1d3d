use contracts::NewTask;
use domain::{Action, Event};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::event::append;

/// Gives something to a person.
pub(crate) async fn open(connection: &mut PgConnection, task: &NewTask) -> Result<()> {
    let id = Uuid::now_v7();
    sqlx::query("insert into task (id, kind, subject, reason) values ($1, $2, $3, $4)")
        .bind(id)
        .bind(&task.kind)
        .bind(serde_json::to_value(&task.subject)?)
        .bind(&task.reason)
        .execute(&mut *connection)
        .await?;
    let detail = json!({"task": id, "task_kind": task.kind});
    let event = Event::engine("task_opened", Action::C, task.subject.clone(), detail);
    append(connection, &event).await?;
    Ok(())
}
