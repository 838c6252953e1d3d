//! `isocenter trail`: what a person decides about the trail itself (AUD-03).

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use store::{AcceptedLoss, PgStore, Sealer, TrailFiles, fault_text};

use super::Execute;
use crate::holder::{HolderArgs, ReadToken, nobody};
use crate::installation::{Installation, InstallationArgs};
use crate::output::{Failure, line};

/// The longest reason that is recorded.
const REASON_LENGTH_MAX: usize = 1000;

/// Decides about a trail that is shorter than what was signed and counted.
#[derive(Args)]
pub(crate) struct Trail {
    #[command(subcommand)]
    command: TrailCommand,
}

#[derive(Subcommand)]
enum TrailCommand {
    /// Accepts that a part of the trail or of its files is lost, for example after an older
    /// database was restored. The decision is recorded; the numbers of what is lost are not used
    /// again.
    AcceptLoss {
        /// Why it is accepted. It is recorded in the trail as it is: name no patient.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        holder: HolderArgs,
        #[command(flatten)]
        installation: InstallationArgs,
    },
}

impl Execute for Trail {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let TrailCommand::AcceptLoss { reason, holder, installation } = self.command;
        let token = holder.read()?;
        let installation = installation.read()?;
        match accept(&installation, &token, checked(&reason)?).await? {
            None => line("nothing is lost: the trail is as long as was signed and counted"),
            Some(loss) => line(format_args!(
                "accepted: {}; {} numbers of batches and {} of events are left out",
                fault_text(loss.fault),
                loss.batches,
                loss.events
            )),
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn accept(
    installation: &Installation,
    token: &ReadToken,
    reason: &str,
) -> Result<Option<AcceptedLoss>, Failure> {
    let files = TrailFiles::of(&installation.data);
    let outcome = installation.with_store(async |store: &Arc<PgStore>| {
        let Some(holder) = token.holder(store).await? else { return Ok(None) };
        Sealer::new(Arc::clone(store), files).accept_loss(&holder, reason).await.map(Some)
    });
    let accepted = outcome.await?.map_err(|error| Failure::database(&error))?;
    accepted.ok_or_else(nobody)
}

/// A reason that says something, and fits.
fn checked(reason: &str) -> Result<&str, Failure> {
    let reason = reason.trim();
    if (1..=REASON_LENGTH_MAX).contains(&reason.chars().count()) {
        return Ok(reason);
    }
    Err(Failure::new(format!("a reason has 1 to {REASON_LENGTH_MAX} letters")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_not_accepted_without_a_reason() {
        for reason in ["", "   ", &"x".repeat(REASON_LENGTH_MAX + 1)] {
            assert!(checked(reason).is_err(), "{reason:?}");
        }
        assert_eq!(checked(" backup of Sunday ").unwrap(), "backup of Sunday");
    }
}
