//! `isocenter hold`: parts of the engine that a start in safe mode holds.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use domain::HoldPart;

use super::Execute;
use crate::installation::{InstallationArgs, ListArgs};
use crate::operator::operator;
use crate::output::{Failure, decision, list};

/// Lists and releases what is held after a start in safe mode.
#[derive(Args)]
pub(crate) struct Hold {
    #[command(subcommand)]
    command: HoldCommand,
}

#[derive(Subcommand)]
enum HoldCommand {
    /// Lists the parts that are held.
    List(ListArgs),
    /// Releases a part: it continues where it stopped.
    Release {
        /// The part.
        #[arg(value_parser = parse_part)]
        part: HoldPart,
        #[command(flatten)]
        installation: InstallationArgs,
    },
}

/// The part with this name, or an error that lists all names.
fn parse_part(name: &str) -> Result<HoldPart, String> {
    HoldPart::parse(name).ok_or_else(|| {
        let names: Vec<&str> = HoldPart::ALL.iter().map(|it| it.name()).collect();
        format!("possible values: {}", names.join(", "))
    })
}

impl Execute for Hold {
    async fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            HoldCommand::List(ListArgs { installation, json, .. }) => {
                let held = installation.query(async |store| store.holds().await).await?;
                list(json, &held, &["held", "since"], |it| vec![it.part.clone(), it.since.clone()])
            }
            HoldCommand::Release { part, installation } => {
                let is_released =
                    installation.query(async |store| store.release(part, operator()).await).await?;
                Ok(decision(is_released, "it continues", "it was not held"))
            }
        }
    }
}
