//! `cargo faults`: breaks things at random for as long as one likes.

use std::process::Command;

use crate::demo::target_folder;
use crate::needs::{POSTGRESQL, provide};
use crate::{Outcome, cargo, run};

/// Builds everything, and has the harness in `tests/src/faults` run with these arguments.
pub(crate) fn faults(arguments: &[String]) -> Outcome {
    provide(&[POSTGRESQL])?;
    run(&mut cargo(&["build", "--quiet", "--workspace"]))?;
    run(Command::new(target_folder().join("debug/faults")).args(arguments))
}
