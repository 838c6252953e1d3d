//! `isocenter decoder`: the confined child process that decodes one file of another system.

use std::process::ExitCode;

use clap::Args;
use plugin_host::{DecoderTask, decoder_child};

use crate::output::exit_code;

/// Decodes the file on standard input. Started by the engine.
#[derive(Args)]
pub(crate) struct Decoder {
    /// What to decode.
    task: DecoderTask,
    /// The upper bound of its memory, in bytes.
    #[arg(long)]
    memory: u64,
    /// The upper bound of its processor time, in seconds.
    #[arg(long)]
    processor_seconds: u64,
}

impl Decoder {
    /// Runs until the file is decoded.
    pub(super) fn run(self) -> ExitCode {
        let Self { task, memory, processor_seconds } = self;
        exit_code(decoder_child::run(task, memory, processor_seconds).is_ok())
    }
}
