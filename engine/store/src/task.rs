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

/// Gives something to a person, unless the same waits already.
pub(crate) async fn open_once(connection: &mut PgConnection, task: &NewTask) -> Result<()> {
    let subject = serde_json::to_value(&task.subject)?;
    let (is_open,): (bool,) = sqlx::query_as(
        "select exists (select from task where decided_at is null and kind = $1 and subject = $2
            and reason = $3)",
    )
    .bind(&task.kind)
    .bind(&subject)
    .bind(&task.reason)
    .fetch_one(&mut *connection)
    .await?;
    if is_open { Ok(()) } else { open(connection, task).await }
}
