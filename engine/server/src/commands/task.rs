//! `isocenter task`: decisions that only a person can make.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::Execute;
use crate::installation::{InstallationArgs, ListArgs};
use crate::operator::operator;
use crate::output::{Failure, decision, list};

/// Lists and decides what waits for a person.
#[derive(Args)]
pub(crate) struct Task {
    #[command(subcommand)]
    command: TaskCommand,
}

#[derive(Subcommand)]
enum TaskCommand {
    /// Lists open tasks, the oldest first.
    List(ListArgs),
    /// Records a decision, and closes the task.
    Decide {
        /// The task, by its key in the list.
        task: Uuid,
        /// The decision, in your own words.
        decision: String,
        #[command(flatten)]
        installation: InstallationArgs,
    },
}

const HEADINGS: [&str; 4] = ["since", "kind", "task", "reason"];

impl Execute for Task {
    async fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            TaskCommand::List(ListArgs { installation, json, limit }) => {
                let tasks = installation.query(async |store| store.tasks(limit).await).await?;
                list(json, &tasks, &HEADINGS, |it| {
                    vec![
                        it.opened_at.clone(),
                        it.kind.clone(),
                        it.id.to_string(),
                        it.reason.clone(),
                    ]
                })
            }
            TaskCommand::Decide { task, decision: text, installation } => {
                let is_decided = installation
                    .query(async |store| store.decide_task(task, &text, operator()).await)
                    .await?;
                Ok(decision(is_decided, "the decision is recorded", "there is no such open task"))
            }
        }
    }
}
