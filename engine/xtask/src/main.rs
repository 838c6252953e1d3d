//! The commands of the project: `cargo demo` and `cargo verify`, which a newcomer needs; `cargo faults`,
//! which runs for long; and `cargo stage`, which packagers need.
//!
//! They find what they need, or install it with the distribution's package manager where they may
//! (root, or sudo without a password); else they print what to run, and stop.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its terminal")]

mod demo;
mod faults;
mod lints;
mod needs;
mod stage;
mod verify;
mod workspace;

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
        Some("stage") => stage::stage(&arguments.filter(|one| one != "--").collect::<Vec<_>>()),
        _ => Err("run `cargo demo`, `cargo verify`, `cargo faults` or `cargo stage`".to_owned()),
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

/// Cargo itself, as it was called. What `cargo run` tells this program of its own package is kept
/// from it: some build scripts look at it, and would build their crates anew.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// The build of the engine and of every plugin of the workspace.
pub(crate) fn engine_build(flags: &[&str]) -> Result<Command, String> {
    let mut build = cargo(&["build", "--package", "server"]);
    for package in workspace::plugin_packages()? {
        build.args(["--package", &package]);
    }
    build.args(flags);
    Ok(build)
}

/// Builds the engine and every plugin of the workspace. Cargo shows how far it is.
pub(crate) fn build_engine(flags: &[&str]) -> Outcome {
    run(&mut engine_build(flags)?)
}

/// Runs a build of cargo, and gives the crates that it compiled.
pub(crate) fn crates_compiled_by(build: &mut Command) -> Result<Vec<String>, String> {
    let output = build.current_dir(root()).env("CARGO_TERM_COLOR", "never").output();
    let output = output.map_err(|error| format!("cargo cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(text);
    }
    let compiled = text.lines().filter_map(|it| it.trim_start().strip_prefix("Compiling "));
    Ok(compiled.map(str::to_owned).collect())
}

/// What a program prints, or why it failed.
pub(crate) fn output_of(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command.current_dir(root()).output();
    let output = output.map_err(|error| format!("this cannot be run ({error}): {shown}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(format!("this failed ({}): {shown}\n{reason}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Prints what comes next.
pub(crate) fn heading(text: &str) {
    println!("\n=== {text}");
}
