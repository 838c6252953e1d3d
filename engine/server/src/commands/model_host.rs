//! `isocenter model-host`: the child process that holds the model and its device.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use inference::Compute;

use crate::output::exit_code;

/// Runs as the process of the model. Started by the engine.
#[derive(Args)]
pub(crate) struct ModelHost {
    /// The folder with the files of the checkpoint.
    checkpoint: PathBuf,
    /// Compute in eight bits.
    #[arg(long)]
    eight_bit: bool,
    /// The device to compute on.
    #[arg(long, default_value = "auto")]
    device: Compute,
}

impl ModelHost {
    /// Runs until the engine closes the connection.
    pub(super) fn run(self) -> ExitCode {
        exit_code(inference::host::run(&self.checkpoint, self.eight_bit, self.device).is_ok())
    }
}
