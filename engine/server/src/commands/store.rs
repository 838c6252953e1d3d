//! `isocenter store`: the tables of a database that the engine's own user may not create.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Execute;
use crate::output::{Failure, line};

/// Brings a database up to date.
#[derive(Args)]
pub(crate) struct Store {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Creates tables, guards and roles, as a user who owns the database.
    Prepare {
        /// The URL of the database, with the owner as its user.
        #[arg(long)]
        as_owner: String,
    },
}

impl Execute for Store {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let StoreCommand::Prepare { as_owner } = self.command;
        let options = as_owner
            .parse()
            .map_err(|error: sqlx::Error| Failure::from_error("the database URL", &error))?;
        ::store::prepare(options)
            .await
            .map_err(|error| Failure::from_error("cannot prepare the database", &error))?;
        line("the database is up to date");
        Ok(ExitCode::SUCCESS)
    }
}
