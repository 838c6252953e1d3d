use contracts::{NewTask, StoreError};
use domain::{Action, Actor, Event};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::error::{Error, Result};
use crate::trail::append::append;

impl PgStore {
    /// Puts on record what a person decided about a task. False if it is not open.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn decide_task(
        &self,
        task: Uuid,
        decision: &str,
        actor: Actor,
    ) -> std::result::Result<bool, StoreError> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        let row: Option<(Value,)> = sqlx::query_as(
            "update task set decided_at = now(), decided_by = $2, decision = $3
             where id = $1 and decided_at is null returning subject",
        )
        .bind(task)
        .bind(&actor.id)
        .bind(decision)
        .fetch_optional(&mut *tx)
        .await
        .map_err(Error::from)?;
        let Some((subject,)) = row else { return Ok(false) };
        let subject = serde_json::from_value(subject).map_err(Error::from)?;
        // What a person writes may name a patient: it stays in the row.
        let detail = json!({"task": task});
        let event = Event::engine("task_decided", Action::U, subject, detail).by(actor);
        append(&mut tx, &event).await?;
        tx.commit().await.map_err(Error::from)?;
        Ok(true)
    }
}

/// Gives something to a person.
pub(crate) async fn open(connection: &mut PgConnection, task: &NewTask) -> Result<()> {
    let id = Uuid::now_v7();
    sqlx::query("insert into task (id, kind, subject, reason) values ($1, $2, $3, $4)")
        .bind(id)
        .bind(task.kind.name())
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
    .bind(task.kind.name())
    .bind(&subject)
    .bind(&task.reason)
    .fetch_one(&mut *connection)
    .await?;
    if is_open { Ok(()) } else { open(connection, task).await }
}
