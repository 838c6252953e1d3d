//! Tasks: what a person has to look at, and what they decided.

use contracts::{NewTask, StoreError};
use domain::event::{TaskDecided, TaskOpened};
use domain::{Actor, Event, TaskKind};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::{PgStore, commit};
use crate::error::{Error, Result};
use crate::trail::append::append;

impl PgStore {
    /// Records what a person decided about a task. False if the task is not open.
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
        let mut tx = self.begin().await?;
        let subject: Option<Value> = sqlx::query_scalar(
            "update task set decided_at = now(), decided_by = $2, decision = $3
             where id = $1 and decided_at is null returning subject",
        )
        .bind(task)
        .bind(&actor.id)
        .bind(decision)
        .fetch_optional(&mut *tx)
        .await
        .map_err(Error::from)?;
        let Some(subject) = subject else { return Ok(false) };
        let subject = serde_json::from_value(subject).map_err(Error::from)?;
        // The text of the decision may name a patient: it stays in the row.
        append(&mut tx, &Event::new(subject, TaskDecided { task }).by(actor)).await?;
        commit(tx).await?;
        Ok(true)
    }
}

/// Closes the open tasks of a kind whose cause is gone, except one with this reason.
pub(crate) async fn close(
    connection: &mut PgConnection,
    kind: TaskKind,
    except: &str,
    decision: &str,
) -> Result<()> {
    let closed: Vec<(Uuid, Value)> = sqlx::query_as(
        "update task set decided_at = now(), decided_by = $3, decision = $4
         where kind = $1 and decided_at is null and reason <> $2 returning id, subject",
    )
    .bind(kind.name())
    .bind(except)
    .bind(Actor::engine().id)
    .bind(decision)
    .fetch_all(&mut *connection)
    .await?;
    for (task, subject) in closed {
        let subject = serde_json::from_value(subject)?;
        append(connection, &Event::new(subject, TaskDecided { task })).await?;
    }
    Ok(())
}

/// Opens a task, and reports it.
pub(crate) async fn open(connection: &mut PgConnection, task: &NewTask) -> Result<()> {
    let id = Uuid::now_v7();
    sqlx::query("insert into task (id, kind, subject, reason) values ($1, $2, $3, $4)")
        .bind(id)
        .bind(task.kind.name())
        .bind(serde_json::to_value(&task.subject)?)
        .bind(&task.reason)
        .execute(&mut *connection)
        .await?;
    let body = TaskOpened { task: id, task_kind: task.kind };
    append(connection, &Event::new(task.subject.clone(), body)).await?;
    Ok(())
}

/// Opens a task, unless one with the same kind, subject and reason is open.
pub(crate) async fn open_once(connection: &mut PgConnection, task: &NewTask) -> Result<()> {
    let is_open: bool = sqlx::query_scalar(
        "select exists (select from task where decided_at is null and kind = $1 and subject = $2
            and reason = $3)",
    )
    .bind(task.kind.name())
    .bind(serde_json::to_value(&task.subject)?)
    .bind(&task.reason)
    .fetch_one(&mut *connection)
    .await?;
    if is_open { Ok(()) } else { open(connection, task).await }
}

/// Opens a task, unless one with the same kind and subject is open, whatever its reason.
pub(crate) async fn open_first(connection: &mut PgConnection, task: &NewTask) -> Result<()> {
    let is_open: bool = sqlx::query_scalar(
        "select exists (select from task where decided_at is null and kind = $1 and subject = $2)",
    )
    .bind(task.kind.name())
    .bind(serde_json::to_value(&task.subject)?)
    .fetch_one(&mut *connection)
    .await?;
    if is_open { Ok(()) } else { open(connection, task).await }
}
