//! `isocenter doctor`: examines the installation, and repairs it.

use std::process::ExitCode;

use clap::Args;
use upkeep::repair::{Depth, ExaminedInstallation, RepairError};

use super::Execute;
use crate::database::Opener;
use crate::installation::ListArgs;
use crate::operator::operator;
use crate::output::{Failure, exit_code, list};

/// Examines database, files, keys and trail for damage. The exit code is 1 if any is left.
#[derive(Args)]
pub(crate) struct Doctor {
    /// Repair what can be repaired without loss, take the rest out of use, and record both.
    #[arg(long)]
    repair: bool,
    /// Read the bytes of all images and messages.
    #[arg(long)]
    read_all: bool,
    #[command(flatten)]
    list: ListArgs,
}

const HEADINGS: [&str; 3] = ["", "check", "found"];

impl Execute for Doctor {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let installation = self.list.installation.read()?;
        let database = installation.open_database(Opener::Command).await?;
        let examined = ExaminedInstallation {
            store: &database.store,
            owner: &database.owner,
            data: &installation.data,
        };
        let depth = if self.read_all { Depth::Full } else { Depth::Quick };
        let outcome = examine(&examined, depth, self.repair).await;
        database.close().await;
        let checks = outcome.map_err(|error| match error {
            RepairError::Store(error) => Failure::database(&error),
            RepairError::Disk(error) => {
                Failure::from_error("the archive cannot be examined", &error)
            }
        })?;
        list(self.list.json, &checks, &HEADINGS, |it| {
            let mark = if it.is_good { "ok" } else { "!!" };
            vec![mark.to_owned(), it.name.to_owned(), it.found.clone()]
        })?;
        Ok(exit_code(checks.iter().all(|it| it.is_good)))
    }
}

async fn examine(
    installation: &ExaminedInstallation<'_>,
    depth: Depth,
    is_to_repair: bool,
) -> Result<Vec<store::Check>, RepairError> {
    installation.store.ping().await?;
    if is_to_repair {
        installation.repair(depth, &operator()).await
    } else {
        installation.examine(depth).await
    }
}
