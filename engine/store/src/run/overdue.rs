//! Runs and nodes that have missed their deadline.

use contracts::NewTask;
use domain::event::SlaMissed;
use domain::{Event, Outcome, TaskKind};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::run::{record, task};
use crate::trail::append::append;

/// Reports every missed deadline once, and opens a task for it. Returns their number.
pub(crate) async fn report_in_tx(tx: &mut PgConnection) -> Result<u64> {
    let runs: Vec<Uuid> = sqlx::query_scalar(
        "update run set due_at = null where due_at < clock_timestamp() and ended_at is null
         returning id",
    )
    .fetch_all(&mut *tx)
    .await?;
    let nodes: Vec<(Uuid, String)> = sqlx::query_as(
        "update node set due_at = null where due_at < clock_timestamp()
            and state in ('waiting', 'ready', 'running', 'in_review') returning run, node",
    )
    .fetch_all(&mut *tx)
    .await?;
    for run in &runs {
        report_one(tx, *run, None).await?;
    }
    for (run, node) in &nodes {
        report_one(tx, *run, Some(node)).await?;
    }
    Ok((runs.len() + nodes.len()) as u64)
}

async fn report_one(tx: &mut PgConnection, run: Uuid, node: Option<&str>) -> Result<()> {
    let run = record::load(tx, run).await?;
    let workflow = &run.workflow.name;
    let (subject, what) = match node {
        Some(node) => (record::node_subject(&run, node), format!("node {node}")),
        None => (record::subject(&run), "the run".to_owned()),
    };
    let body = SlaMissed { workflow: workflow.clone() };
    append(tx, &Event::new(subject.clone(), body).ended(Outcome::MinorFailure)).await?;
    let reason = format!("workflow {workflow}: {what} should have ended by now");
    task::open(tx, &NewTask { kind: TaskKind::SlaMissed, subject, reason }).await
}
