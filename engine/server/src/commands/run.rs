//! `isocenter run`: one run with everything in it, cancelled or tried again.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;
use store::RunDetail;
use uuid::Uuid;

use super::Execute;
use crate::installation::{InstallationArgs, ListArgs};
use crate::operator::operator;
use crate::output::{Failure, decision, json, line};

/// Shows or changes one run.
#[derive(Args)]
pub(crate) struct Run {
    #[command(subcommand)]
    command: RunCommand,
}

#[derive(Subcommand)]
enum RunCommand {
    /// Shows a run with its nodes, deliveries and findings.
    Show {
        /// The run, by its key in `isocenter runs`.
        run: Uuid,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Cancels a run: no further node is started, nothing more is sent.
    Cancel {
        /// The run, by its key in `isocenter runs`.
        run: Uuid,
        #[command(flatten)]
        installation: InstallationArgs,
    },
    /// Tries the failed nodes and deliveries of a run again.
    Retry {
        /// The run, by its key in `isocenter runs`.
        run: Uuid,
        #[command(flatten)]
        installation: InstallationArgs,
    },
}

impl Execute for Run {
    async fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            RunCommand::Show { run, list } => show(run, list).await,
            RunCommand::Cancel { run, installation } => {
                let is_cancelled = installation
                    .query(async |store| {
                        orchestrator::cancel_run(store.as_ref(), run, operator()).await
                    })
                    .await?;
                Ok(decision(is_cancelled, "the run is cancelled", "the run has ended already"))
            }
            RunCommand::Retry { run, installation } => {
                let is_retried = installation
                    .query(async |store| {
                        orchestrator::retry_run(store.as_ref(), run, operator()).await
                    })
                    .await?;
                Ok(decision(is_retried, "the run goes on", "nothing in the run has failed"))
            }
        }
    }
}

async fn show(run: Uuid, list: ListArgs) -> Result<ExitCode, Failure> {
    let detail = list.installation.query(async |store| store.run(run).await).await?;
    let detail = detail.ok_or_else(|| {
        Failure::new(format!("there is no run {run}"))
            .with_hint("`isocenter runs` lists the newest runs")
    })?;
    if list.json {
        json(&detail)?;
    } else {
        show_run(&detail, "");
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows a run with everything in it, each line after `indent`.
pub(super) fn show_run(detail: &RunDetail, indent: &str) {
    let run = &detail.run;
    line(format_args!("{indent}run {} of {}: {}", run.id, run.workflow, run.status));
    line(format_args!("{indent}  started {}: {}", run.started_at, run.reason));
    for node in &detail.nodes {
        line(format_args!(
            "{indent}  node {} ({}), try {}: {}{}",
            node.node,
            node.plugin.as_deref().unwrap_or("-"),
            node.attempt,
            node.state,
            because(&node.reason),
        ));
    }
    for delivery in &detail.deliveries {
        line(format_args!(
            "{indent}  to {} {}, try {}: {}{}",
            delivery.destination,
            delivery.what,
            delivery.attempt,
            delivery.state,
            because(&delivery.reason),
        ));
    }
    for (node, output) in &detail.outputs {
        for conclusion in conclusions(output) {
            line(format_args!("{indent}  {node} {conclusion}"));
        }
    }
}

/// A reason as the end of a line, if there is one.
fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

/// What a node's output concludes: findings, and rows of a laboratory report.
fn conclusions(output: &Value) -> Vec<String> {
    let findings = elements(output, "findings").map(|it| format!("found: {}", text(it, "text")));
    let rows = elements(output, "laboratory").map(|it| {
        format!(
            "read: {} | {} | {} | {} | {}",
            text(it, "entry_name"),
            text(it, "result"),
            text(it, "reference"),
            text(it, "unit"),
            text(it, "abnormality"),
        )
    });
    findings.chain(rows).collect()
}

fn elements<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn findings_and_laboratory_rows_are_what_a_node_concludes() {
        let output = json!({
            "findings": [{"text": "bone: 12.1 mL"}],
            "laboratory": [{"entry_name": "CRP", "result": "98", "unit": "mg/L"}],
        });
        assert_eq!(conclusions(&output), ["found: bone: 12.1 mL", "read: CRP | 98 |  | mg/L | "]);
    }

    #[test]
    fn an_output_without_conclusions_shows_nothing() {
        assert_eq!(conclusions(&json!({"findings": []})), Vec::<String>::new());
        assert_eq!(conclusions(&json!(null)), Vec::<String>::new());
    }
}
