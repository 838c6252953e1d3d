//! `cargo demo`: builds the engine and its plugins, and shows them at work.

use crate::needs::{POSTGRESQL, provide};
use crate::{Outcome, cargo, heading, root, run};

/// What the demonstration is built from.
const PACKAGES: &[&str] = &["server", "segmentation", "lab-report-parsing"];

pub(crate) fn demo(arguments: &[String]) -> Outcome {
    provide(&[POSTGRESQL])?;
    heading("building the engine and its plugins (the first time takes some minutes)");
    let mut build = cargo(&["build"]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    run(&mut build)?;
    let program = target_folder().join("debug/isocenter");
    let mut demo = std::process::Command::new(program);
    demo.args(["demo", "--workflows"]).arg(root().join("workflows")).args(arguments);
    run(&mut demo)
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into)
}
