//! The two commands, `cargo demo` and `cargo verify`, and a long one: `cargo faults`.
//!
//! They find what they need, or install it with the distribution's package manager where they may
//! (root, or sudo without a password); else they say exactly what to run, and stop.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its terminal")]

mod demo;
mod faults;
mod needs;
mod verify;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Why a command stopped, for people.
pub(crate) type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let outcome = match arguments.next().as_deref() {
        // `cargo demo -- --once`, as with `cargo run`, is the same as `cargo demo --once`.
        Some("demo") => demo::demo(&arguments.filter(|one| one != "--").collect::<Vec<_>>()),
        Some("verify") => verify::verify(),
        Some("faults") => faults::faults(&arguments.collect::<Vec<_>>()),
        _ => Err("say `cargo demo`, `cargo verify` or `cargo faults`".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("\n{reason}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the project.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Runs a program in the root of the project, and fails if it does.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let shown = format!("{command:?}").replace('"', "");
    match command.current_dir(root()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("this failed ({status}): {shown}")),
        Err(error) => Err(format!("this cannot be run ({error}): {shown}")),
    }
}

/// Cargo itself, as it was called.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// Says what comes next.
pub(crate) fn heading(text: &str) {
    println!("\n=== {text}");
}
