//! `isocenter plugin-host`: the confined child process of a plugin.

use std::path::PathBuf;
use std::process::ExitCode;

use ::plugin_host::Lent;
use clap::Args;

use crate::output::exit_code;

/// Runs as the process of a plugin. Started by the engine.
#[derive(Args)]
pub(crate) struct PluginHost {
    /// The library, or the folder of a program.
    library: PathBuf,
    /// The folder it gets its images in.
    #[arg(long)]
    inputs: PathBuf,
    /// The folder with the models of the site.
    #[arg(long)]
    models: Option<PathBuf>,
    /// The upper bound of its memory, in bytes.
    #[arg(long)]
    memory: u64,
    /// Run where the system cannot confine it, too.
    #[arg(long)]
    allow_unconfined: bool,
}

impl PluginHost {
    /// Runs until the engine closes the connection.
    pub(super) fn run(self) -> ExitCode {
        let Self { library, inputs, models, memory, allow_unconfined } = self;
        let lent = Lent { inputs: &inputs, models: models.as_deref() };
        let outcome = ::plugin_host::child::run(&library, lent, memory, allow_unconfined);
        exit_code(outcome.is_ok())
    }
}
