//! `isocenter destination`: how destinations fare, pausing them, and trying whether they answer.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Execute;
use crate::config::{Config, DestinationConfig};
use crate::installation::{InstallationArgs, ListArgs};
use crate::operator::operator;
use crate::output::{Failure, decision, line, list};
use crate::site::own_ae_title;

/// Lists, pauses and tries destinations.
#[derive(Args)]
pub(crate) struct Destination {
    #[command(subcommand)]
    command: DestinationCommand,
}

#[derive(Subcommand)]
enum DestinationCommand {
    /// Lists all, with what is queued for them.
    List(ListArgs),
    /// Sends nothing more to one until it is resumed. What is queued for it waits.
    Pause {
        /// The name of the destination.
        name: String,
        #[command(flatten)]
        installation: InstallationArgs,
    },
    /// Resumes sending to one, at once.
    Resume {
        /// The name of the destination.
        name: String,
        #[command(flatten)]
        installation: InstallationArgs,
    },
    /// Tries whether one answers: with C-ECHO, a test message (processing id T), or a file.
    Test {
        /// The name of the destination.
        name: String,
        #[command(flatten)]
        installation: InstallationArgs,
    },
}

const HEADINGS: [&str; 6] =
    ["destination", "state", "waiting", "failed", "last accepted", "last failed with"];

impl Execute for Destination {
    async fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            DestinationCommand::List(ListArgs { installation, json, .. }) => {
                let destinations =
                    installation.query(async |store| store.destinations().await).await?;
                list(json, &destinations, &HEADINGS, |it| {
                    vec![
                        it.name.clone(),
                        it.state.clone(),
                        it.waiting.to_string(),
                        it.failed.to_string(),
                        it.last_ok.clone().unwrap_or_default(),
                        it.last_error.clone(),
                    ]
                })
            }
            DestinationCommand::Pause { name, installation } => {
                let is_paused = set_paused(&name, true, &installation).await?;
                Ok(decision(is_paused, "nothing more is sent to it", "it was paused already"))
            }
            DestinationCommand::Resume { name, installation } => {
                let is_resumed = set_paused(&name, false, &installation).await?;
                Ok(decision(is_resumed, "sending is resumed", "it was not paused"))
            }
            DestinationCommand::Test { name, installation } => {
                test(&name, &installation).await?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Pauses or resumes a destination of the site file. Returns whether that changed anything.
async fn set_paused(
    name: &str,
    is_paused: bool,
    arguments: &InstallationArgs,
) -> Result<bool, Failure> {
    let installation = arguments.read()?;
    find(&installation.config, name)?;
    installation
        .query(async |store| store.pause_destination(name, is_paused, operator()).await)
        .await
}

fn find<'a>(config: &'a Config, name: &str) -> Result<&'a DestinationConfig, Failure> {
    let names: Vec<&str> = config.destinations.keys().map(String::as_str).collect();
    config.destinations.get(name).ok_or_else(|| {
        Failure::new(format!(
            "there is no destination `{name}` in the site file; there are: {}",
            names.join(", ")
        ))
    })
}

/// Tries whether a destination answers.
async fn test(name: &str, arguments: &InstallationArgs) -> Result<(), Failure> {
    let config = arguments.read()?.config;
    let destination = find(&config, name)?.kind.open(&own_ae_title(&config)?);
    let destination = destination.map_err(|error| Failure::from_error(name, error.as_ref()))?;
    let answer = destination.probe().await.map_err(|error| Failure::from_error(name, &error))?;
    if let Some(answer) = answer {
        line(format_args!("{name}: {answer}"));
    }
    Ok(())
}
