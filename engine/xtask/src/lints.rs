//! The lints and the documentation, checked beside the tests: these wait for timers and other
//! processes most of the time, and the compiler takes what is left of the processors.

use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::{Outcome, cargo, root};

/// The checks that the compiler makes beside the tests.
pub(crate) struct Lints {
    begin: SyncSender<()>,
    checks: JoinHandle<Outcome>,
}

impl Lints {
    /// Prepares the checks. They begin with [`Lints::begin`].
    pub(crate) fn prepare() -> Self {
        let (begin, begun) = sync_channel(1);
        Self { begin, checks: thread::spawn(move || check(&begun)) }
    }

    /// Begins the checks. Cargo lets one command at a time use the target folder, so that tests have
    /// to be built before.
    pub(crate) fn begin(&self) {
        // Only the first call is listened to.
        _ = self.begin.try_send(());
    }

    /// Waits for the checks, which begin now if they have not begun before.
    pub(crate) fn end(self) -> Outcome {
        self.begin();
        self.checks.join().map_err(|_| "the lints panicked".to_owned())?
    }
}

/// Runs the checks, one after the other.
fn check(begun: &Receiver<()>) -> Outcome {
    // Without a sender nobody wants to know any more.
    if begun.recv().is_err() {
        return Ok(());
    }
    let mut clippy = cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    quietly(&mut clippy)?;
    let mut documentation = cargo(&["doc", "--workspace", "--no-deps"]);
    quietly(documentation.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Runs a command of cargo with the lowest priority. What it prints is shown only if it fails, as
/// the tests print at the same time.
fn quietly(command: &mut Command) -> Outcome {
    let mut nice = Command::new("nice");
    nice.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => nice.env(name, value),
            None => nice.env_remove(name),
        };
    }
    let shown = format!("{command:?}").replace('"', "");
    let output = nice.current_dir(root()).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("this cannot be run ({error}): {shown}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{text}\nthis failed ({}): {shown}", output.status))
}
