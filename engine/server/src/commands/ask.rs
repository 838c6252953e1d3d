//! Lists, single runs, and decisions.

use std::process::ExitCode;

use contracts::StoreError;
use domain::Actor;
use serde::Serialize;
use store::{DeliveryLine, RunDetail, RunLine};

use crate::args::{DeliveryCommand, Listing, RunCommand, TaskCommand};
use crate::open::Opened;
use crate::output::{Failure, json, line, table};

pub(crate) fn failed(error: &StoreError) -> Failure {
    Failure::from_error("the database does not answer", error)
}

/// Whoever sits at the terminal, as the system knows them.
pub(crate) fn person() -> Actor {
    let name = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|it| std::env::var(it).ok());
    let id = rustix::process::getuid().as_raw();
    Actor::person(&name.unwrap_or_else(|| format!("uid {id}")))
}

pub(crate) fn show<T: Serialize>(
    listing: &Listing,
    rows: &[T],
    headings: &[&str],
    cells: impl Fn(&T) -> Vec<String>,
) -> Result<(), Failure> {
    if listing.json {
        return json(&rows);
    }
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    table(headings, &rows);
    Ok(())
}

pub(crate) async fn studies(listing: &Listing) -> Result<(), Failure> {
    let opened = Opened::open(&listing.place).await?;
    let rows = opened.store.studies(listing.limit).await.map_err(|error| failed(&error))?;
    opened.close().await;
    let headings =
        ["last received", "accession", "patient", "modality", "instances", "runs", "study"];
    show(listing, &rows, &headings, |it| {
        vec![
            it.last_received.clone(),
            it.accession.clone(),
            it.patient.clone().unwrap_or_default(),
            it.modalities.clone(),
            it.instances.to_string(),
            it.runs.to_string(),
            it.study.clone(),
        ]
    })
}

pub(crate) async fn messages(listing: &Listing) -> Result<(), Failure> {
    let opened = Opened::open(&listing.place).await?;
    let rows = opened.store.messages(listing.limit).await.map_err(|error| failed(&error))?;
    opened.close().await;
    let headings = ["received", "sender", "type", "control id", "answer", "problem"];
    show(listing, &rows, &headings, |it| {
        vec![
            it.received_at.clone(),
            it.sender.clone(),
            it.message_type.clone(),
            it.control_id.clone(),
            it.code.clone(),
            it.problem.clone().unwrap_or_default(),
        ]
    })
}

pub(crate) async fn runs(listing: &Listing) -> Result<(), Failure> {
    let opened = Opened::open(&listing.place).await?;
    let rows = opened.store.runs(listing.limit).await.map_err(|error| failed(&error))?;
    opened.close().await;
    show(listing, &rows, &["started", "workflow", "status", "run", "reason"], |it: &RunLine| {
        vec![
            it.started_at.clone(),
            it.workflow.clone(),
            it.status.clone(),
            it.id.to_string(),
            it.reason.clone(),
        ]
    })
}

pub(crate) async fn run(command: RunCommand) -> Result<ExitCode, Failure> {
    match command {
        RunCommand::Show { run, listing } => {
            let opened = Opened::open(&listing.place).await?;
            let detail = opened.store.run(run).await.map_err(|error| failed(&error))?;
            opened.close().await;
            match detail {
                Some(detail) if listing.json => json(&detail)?,
                Some(detail) => show_run(&detail, ""),
                None => return Err(Failure::new(format!("there is no run {run}"))),
            }
            Ok(ExitCode::SUCCESS)
        }
        RunCommand::Cancel { run, place } => {
            let opened = Opened::open(&place).await?;
            let store = opened.store.as_ref();
            let outcome = orchestrator::cancel_run(store, run, person()).await;
            finish(opened, outcome, "the run is cancelled", "the run has ended already").await
        }
        RunCommand::Retry { run, place } => {
            let opened = Opened::open(&place).await?;
            let store = opened.store.as_ref();
            let outcome = orchestrator::retry_run(store, run, person()).await;
            finish(opened, outcome, "the run goes on", "nothing in the run has failed").await
        }
    }
}

pub(crate) async fn corrections(listing: &Listing) -> Result<(), Failure> {
    let opened = Opened::open(&listing.place).await?;
    let rows = opened.store.corrections(listing.limit, person()).await;
    opened.close().await;
    let rows = rows.map_err(|error| failed(&error))?;
    show(listing, &rows, &["run", "source", "origin", "at"], |it| {
        vec![it.run.to_string(), it.source.clone(), it.origin.clone(), it.at.clone()]
    })
}

/// Says how a decision went. Exit code 1 if there was nothing to decide.
pub(crate) async fn finish(
    opened: Opened,
    outcome: Result<bool, StoreError>,
    done: &str,
    not: &str,
) -> Result<ExitCode, Failure> {
    opened.close().await;
    let is_done = outcome.map_err(|error| failed(&error))?;
    line(if is_done { done } else { not });
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows a run with everything in it.
pub(crate) fn show_run(detail: &RunDetail, indent: &str) {
    let run = &detail.run;
    line(format_args!("{indent}run {} of {}: {}", run.id, run.workflow, run.status));
    line(format_args!("{indent}  started {}: {}", run.started_at, run.reason));
    for node in &detail.nodes {
        let plugin = node.plugin.as_deref().unwrap_or("-");
        let why = if node.reason.is_empty() { String::new() } else { format!(": {}", node.reason) };
        let (name, state, tries) = (&node.node, &node.state, node.attempt);
        line(format_args!("{indent}  node {name} ({plugin}), try {tries}: {state}{why}"));
    }
    for delivery in &detail.deliveries {
        let DeliveryLine { destination, what, state, attempt, reason, .. } = delivery;
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        line(format_args!("{indent}  to {destination} {what}, try {attempt}: {state}{why}"));
    }
    for (node, output) in &detail.outputs {
        for finding in output.get("findings").and_then(|it| it.as_array()).into_iter().flatten() {
            let text = finding.get("text").and_then(|it| it.as_str()).unwrap_or_default();
            line(format_args!("{indent}  {node} found: {text}"));
        }
        for row in output.get("laboratory").and_then(|it| it.as_array()).into_iter().flatten() {
            let cell = |name: &str| row.get(name).and_then(|it| it.as_str()).unwrap_or_default();
            let (name, result, unit) = (cell("entry_name"), cell("result"), cell("unit"));
            let (reference, flag) = (cell("reference"), cell("abnormality"));
            line(format_args!(
                "{indent}  {node} read: {name} | {result} | {reference} | {unit} | {flag}"
            ));
        }
    }
}

pub(crate) async fn delivery(command: DeliveryCommand) -> Result<ExitCode, Failure> {
    match command {
        DeliveryCommand::List { failed: only_failed, listing } => {
            let opened = Opened::open(&listing.place).await?;
            let rows = opened.store.deliveries(only_failed, listing.limit).await;
            opened.close().await;
            let rows = rows.map_err(|error| failed(&error))?;
            let headings = ["delivery", "run", "to", "what", "state", "tries", "reason"];
            show(&listing, &rows, &headings, |it| {
                vec![
                    it.id.to_string(),
                    it.run.to_string(),
                    it.destination.clone(),
                    it.what.to_string(),
                    it.state.clone(),
                    it.attempt.to_string(),
                    it.reason.clone(),
                ]
            })?;
            Ok(ExitCode::SUCCESS)
        }
        DeliveryCommand::Resend { deliveries, failed: all_failed, to, place } => {
            if deliveries.is_empty() && !all_failed {
                return Err(Failure::new("name deliveries (isocenter delivery list), or --failed"));
            }
            let opened = Opened::open(&place).await?;
            let outcome = if all_failed {
                opened.store.resend_failed(to.as_deref(), person()).await
            } else {
                resend(&opened, &deliveries).await
            };
            let count = outcome.as_ref().map_or(0, |it| *it);
            let outcome = outcome.map(|it| it > 0);
            let done = format!("{count} will be sent again");
            finish(opened, outcome, &done, "there is no such ended delivery").await
        }
    }
}

async fn resend(opened: &Opened, deliveries: &[uuid::Uuid]) -> Result<usize, StoreError> {
    let mut count = 0;
    for delivery in deliveries {
        count += usize::from(opened.store.resend(*delivery, person()).await?);
    }
    Ok(count)
}

pub(crate) async fn task(command: TaskCommand) -> Result<ExitCode, Failure> {
    match command {
        TaskCommand::List(listing) => {
            let opened = Opened::open(&listing.place).await?;
            let rows = opened.store.tasks(listing.limit).await;
            opened.close().await;
            let rows = rows.map_err(|error| failed(&error))?;
            show(&listing, &rows, &["since", "kind", "task", "reason"], |it| {
                vec![it.opened_at.clone(), it.kind.clone(), it.id.to_string(), it.reason.clone()]
            })?;
            Ok(ExitCode::SUCCESS)
        }
        TaskCommand::Decide { task, decision, place } => {
            let opened = Opened::open(&place).await?;
            let outcome = opened.store.decide_task(task, &decision, person()).await;
            finish(opened, outcome, "it is on record", "there is no such open task").await
        }
    }
}
