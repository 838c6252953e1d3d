//! `isocenter patient`: undoing the merge of two patients, by two people (HL7-37).

use std::process::ExitCode;

use clap::{Args, Subcommand};
use store::UnmergeError;
use uuid::Uuid;

use super::Execute;
use crate::installation::{InstallationArgs, ListArgs};
use crate::operator::operator;
use crate::output::{Failure, line, list};

/// Undoes the merge of two patients. Two people have to agree.
#[derive(Args)]
pub(crate) struct Patient {
    #[command(subcommand)]
    command: PatientCommand,
}

#[derive(Subcommand)]
enum PatientCommand {
    /// Requests that a merge be undone. Another person has to approve.
    Unmerge {
        /// The identifier that was merged away, MRG-1.
        source: String,
        /// The identifier that remained, PID-3.
        survivor: String,
        #[command(flatten)]
        installation: InstallationArgs,
    },
    /// Lists the requests that await a second person.
    Requests(ListArgs),
    /// Undoes a merge at the request of another person.
    Approve {
        /// The request, by its key in the list.
        request: Uuid,
        #[command(flatten)]
        installation: InstallationArgs,
    },
}

const HEADINGS: [&str; 3] = ["request", "asked by", "since"];

impl Execute for Patient {
    async fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            PatientCommand::Unmerge { source, survivor, installation } => {
                let request = installation
                    .with_store(async |store| {
                        store.ask_unmerge(&source, &survivor, operator()).await
                    })
                    .await?;
                line(request.map_err(|error| unchanged(&error))?);
                line("a second person approves it with: isocenter patient approve REQUEST");
                Ok(ExitCode::SUCCESS)
            }
            PatientCommand::Approve { request, installation } => {
                let outcome = installation
                    .with_store(async |store| store.approve_unmerge(request, operator()).await)
                    .await?;
                outcome.map_err(|error| unchanged(&error))?;
                line("the merge is undone; what was filed under it is being corrected");
                Ok(ExitCode::SUCCESS)
            }
            PatientCommand::Requests(ListArgs { installation, json, .. }) => {
                let requests =
                    installation.query(async |store| store.unmerge_requests().await).await?;
                list(json, &requests, &HEADINGS, |it| {
                    vec![it.id.to_string(), it.asked_by.clone(), it.asked_at.clone()]
                })
            }
        }
    }
}

fn unchanged(error: &UnmergeError) -> Failure {
    Failure::from_error("nothing was changed", error)
}
