//! What is held after a start in safe mode.

use std::process::ExitCode;

use crate::args::HoldCommand;
use crate::commands::ask::{failed, finish, person, show};
use crate::open::Opened;
use crate::output::Failure;

pub(crate) async fn hold(command: HoldCommand) -> Result<ExitCode, Failure> {
    match command {
        HoldCommand::List(listing) => {
            let opened = Opened::open(&listing.place).await?;
            let rows = opened.store.held().await;
            opened.close().await;
            let rows = rows.map_err(|error| failed(&error))?;
            show(&listing, &rows, &["held", "since"], |it| {
                vec![it.part.clone(), it.since.clone()]
            })?;
            Ok(ExitCode::SUCCESS)
        }
        HoldCommand::Release { part, place } => {
            let opened = Opened::open(&place).await?;
            let outcome = opened.store.release(&part, person()).await;
            finish(opened, outcome, "it goes on", "it was not held").await
        }
    }
}
