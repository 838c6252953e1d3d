//! The program: `isocenter serve` and everything that asks it or helps it.
//!
//! Read [`args`] for what can be said, [`config`] and [`site`] for the site file, [`run`] for
//! the engine from its start to its end with [`doors`], [`activation`], [`reload`] and
//! [`surroundings`], [`open`] for how commands come to the database, and `commands` for the
//! rest.

mod activation;
mod args;
mod commands;
mod config;
mod doors;
mod http;
mod model_at_work;
mod open;
mod output;
mod reload;
mod run;
mod site;
mod surroundings;
mod telemetry;
mod workflows;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Arguments, Command};
use crate::output::Failure;

/// Messages and headers are many small texts, made on one thread and dropped on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A plugin's process is no engine: it needs no runtime, and must not have one.
    if let Command::PluginHost { library, archive, memory } = &arguments.command {
        return match plugin_host::child::run(library, archive, *memory) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    if let Command::ModelHost { checkpoint, eight_bit, device } = &arguments.command {
        return match inference::host::run(checkpoint, *eight_bit, *device) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(commands::run(arguments));
            // Blocking reads of a disk may still go on; nobody waits for them.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::from_error("cannot start", &error)),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            ExitCode::FAILURE
        }
    }
}
