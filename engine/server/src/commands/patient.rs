//! `isocenter patient`: undoing the merge of two patients, by two people (HL7-37).

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use store::{PgStore, UnmergeError};
use uuid::Uuid;

use super::Execute;
use crate::holder::{HolderArgs, nobody};
use crate::installation::{InstallationArgs, ListArgs};
use crate::output::{Failure, line, list};

/// Undoes the merge of two patients. Two people have to agree, each with a token of their own.
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
        holder: HolderArgs,
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
        holder: HolderArgs,
        #[command(flatten)]
        installation: InstallationArgs,
    },
}

const HEADINGS: [&str; 3] = ["request", "asked by", "since"];

impl Execute for Patient {
    async fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            PatientCommand::Unmerge { source, survivor, holder, installation } => {
                let token = holder.read()?;
                let request = installation.with_store(async |store: &Arc<PgStore>| {
                    let Some(holder) = token.holder(store).await? else { return Ok(None) };
                    store.ask_unmerge(&source, &survivor, &holder).await.map(Some)
                });
                line(request.await?.map_err(|error| unchanged(&error))?.ok_or_else(nobody)?);
                line(
                    "a second person approves it with their own token: \
                     isocenter patient approve REQUEST --token FILE",
                );
                Ok(ExitCode::SUCCESS)
            }
            PatientCommand::Approve { request, holder, installation } => {
                let token = holder.read()?;
                let outcome = installation.with_store(async |store: &Arc<PgStore>| {
                    let Some(holder) = token.holder(store).await? else { return Ok(None) };
                    store.approve_unmerge(request, &holder).await.map(Some)
                });
                outcome.await?.map_err(|error| unchanged(&error))?.ok_or_else(nobody)?;
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
