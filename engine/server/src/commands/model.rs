//! `isocenter model`: the models of a site, imported, listed, shown, tried, timed and served.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use inference::ModelStore;

use super::Execute;
use crate::installation::InstallationArgs;
use crate::output::{Failure, json};

mod bench;
mod import;
mod list;
mod run;
mod serve;

/// Imports, lists and tries models.
#[derive(Args)]
pub(crate) struct Model {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Subcommand)]
enum ModelCommand {
    Import(import::Import),
    List(list::List),
    /// Shows a model's card, and verifies that its files are as they were imported.
    Show {
        /// The name of the model.
        name: String,
        #[command(flatten)]
        installation: InstallationArgs,
    },
    Run(run::Run),
    Bench(bench::Bench),
    Serve(serve::Serve),
}

impl Execute for Model {
    async fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            ModelCommand::Import(command) => command.execute().await,
            ModelCommand::List(command) => command.execute().await,
            ModelCommand::Show { name, installation } => {
                let card = store(&installation)?.verify(&name).map_err(|it| unusable(&it))?;
                json(&card)?;
                Ok(ExitCode::SUCCESS)
            }
            ModelCommand::Run(command) => command.execute().await,
            ModelCommand::Bench(command) => command.execute().await,
            ModelCommand::Serve(command) => command.execute().await,
        }
    }
}

/// How large the model sees pictures.
#[derive(Args)]
struct PixelArgs {
    /// The lower bound of pixels the model sees of a picture.
    #[arg(long, default_value_t = 200_704)]
    min_pixels: u64,
    /// The upper bound of pixels.
    #[arg(long, default_value_t = 1_003_520)]
    max_pixels: u64,
}

impl PixelArgs {
    /// The lower and the upper bound.
    const fn bounds(&self) -> [u64; 2] {
        [self.min_pixels, self.max_pixels]
    }
}

/// The models of an installation.
fn store(installation: &InstallationArgs) -> Result<ModelStore, Failure> {
    Ok(ModelStore::new(installation.read()?.data.join("models")))
}

fn unusable(error: &dyn std::error::Error) -> Failure {
    Failure::from_error("the model cannot be used", error)
}
