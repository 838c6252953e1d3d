//! `cargo faults`: injects faults at random for as long as one likes.

use std::process::Command;

use crate::needs::{POSTGRESQL, provide};
use crate::workspace::target_folder;
use crate::{Outcome, cargo, run};

/// Builds everything, and runs the harness in `tests/src/faults` with these arguments.
pub(crate) fn faults(arguments: &[String]) -> Outcome {
    provide(&[POSTGRESQL])?;
    run(&mut cargo(&["build", "--quiet", "--workspace"]))?;
    run(Command::new(target_folder().join("debug/faults")).args(arguments))
}
