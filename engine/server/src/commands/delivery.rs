//! `isocenter delivery`: reports on their way to a destination.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use contracts::StoreError;
use store::PgStore;
use uuid::Uuid;

use super::Execute;
use crate::installation::{InstallationArgs, ListArgs};
use crate::operator::operator;
use crate::output::{Failure, decision, list};

/// Lists and repeats deliveries.
#[derive(Args)]
pub(crate) struct Delivery {
    #[command(subcommand)]
    command: DeliveryCommand,
}

#[derive(Subcommand)]
enum DeliveryCommand {
    /// Lists the newest deliveries.
    List {
        /// Only those that failed or were held back.
        #[arg(long)]
        failed: bool,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Sends deliveries again, under the same identifiers.
    Resend {
        /// The deliveries, by their keys in the list.
        #[arg(required_unless_present = "failed")]
        deliveries: Vec<Uuid>,
        /// All that failed.
        #[arg(long, conflicts_with = "deliveries")]
        failed: bool,
        /// With `--failed`: only those to this destination.
        #[arg(long, requires = "failed")]
        to: Option<String>,
        #[command(flatten)]
        installation: InstallationArgs,
    },
}

const HEADINGS: [&str; 7] = ["delivery", "run", "to", "what", "state", "tries", "reason"];

impl Execute for Delivery {
    async fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            DeliveryCommand::List { failed, list: ListArgs { installation, json, limit } } => {
                let deliveries =
                    installation.query(async |store| store.deliveries(failed, limit).await).await?;
                list(json, &deliveries, &HEADINGS, |it| {
                    vec![
                        it.id.to_string(),
                        it.run.to_string(),
                        it.destination.clone(),
                        it.what.to_string(),
                        it.state.clone(),
                        it.attempt.to_string(),
                        it.reason.clone(),
                    ]
                })
            }
            DeliveryCommand::Resend { deliveries, failed, to, installation } => {
                let count = installation
                    .query(async |store| {
                        if failed {
                            store.resend_failed(to.as_deref(), operator()).await
                        } else {
                            resend(store, &deliveries).await
                        }
                    })
                    .await?;
                let done = format!("{count} will be sent again");
                Ok(decision(count > 0, &done, "there is no such ended delivery"))
            }
        }
    }
}

/// Queues deliveries again, and returns how many of them had ended.
async fn resend(store: &Arc<PgStore>, deliveries: &[Uuid]) -> Result<usize, StoreError> {
    let mut count = 0;
    for delivery in deliveries {
        count += usize::from(store.resend(*delivery, operator()).await?);
    }
    Ok(count)
}
