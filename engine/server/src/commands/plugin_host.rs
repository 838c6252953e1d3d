//! `isocenter plugin-host`: the confined child process of a plugin.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::output::exit_code;

/// Runs as the process of a plugin. Started by the engine.
#[derive(Args)]
pub(crate) struct PluginHost {
    /// The library, or the folder of a program.
    library: PathBuf,
    /// The folder it may read images from.
    #[arg(long)]
    archive: PathBuf,
    /// The upper bound of its memory, in bytes.
    #[arg(long)]
    memory: u64,
}

impl PluginHost {
    /// Runs until the engine closes the connection.
    pub(super) fn run(self) -> ExitCode {
        exit_code(::plugin_host::child::run(&self.library, &self.archive, self.memory).is_ok())
    }
}
