//! What should have ended by now and has not.

use contracts::NewTask;
use domain::{Action, Event, Outcome, Subject, TaskKind};
use serde_json::json;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::error::Result;
use crate::run::record;
use crate::run::task;
use crate::trail::append::append;

impl PgStore {
    pub(crate) async fn tell_overdue_rows(&self) -> Result<u64> {
        let mut tx = self.pool.begin().await?;
        let runs: Vec<(Uuid, Option<String>)> = sqlx::query_as(
            "update run set due_at = null where due_at < clock_timestamp() and ended_at is null
             returning id, null::text",
        )
        .fetch_all(&mut *tx)
        .await?;
        let nodes: Vec<(Uuid, Option<String>)> = sqlx::query_as(
            "update node set due_at = null where due_at < clock_timestamp()
                and state in ('waiting', 'ready', 'running', 'in_review') returning run, node",
        )
        .fetch_all(&mut *tx)
        .await?;
        let all: Vec<_> = runs.into_iter().chain(nodes).collect();
        for (id, node) in &all {
            let record = record::load(&mut tx, *id, false).await?;
            let subject: Subject = record::subject(&record, node.as_deref().unwrap_or_default());
            let kind = "sla_missed";
            let detail = json!({"workflow": record.workflow.name});
            let event = Event::engine(kind, Action::E, subject.clone(), detail);
            append(&mut tx, &event.ended(Outcome::MinorFailure)).await?;
            let what =
                node.as_ref().map_or_else(|| "the run".to_owned(), |it| format!("node {it}"));
            let reason =
                format!("workflow {}: {what} should have ended by now", record.workflow.name);
            task::open(&mut tx, &NewTask { kind: TaskKind::SlaMissed, subject, reason }).await?;
        }
        tx.commit().await?;
        Ok(all.len() as u64)
    }
}
