//! `cargo demo`: builds the engine and its plugins, and shows them at work.

use std::path::Path;
use std::process::Command;

use crate::needs::{POSTGRESQL, provide};
use crate::workspace::{crates_to_build, fill_plugin_folder, program, target_folder};
use crate::{Outcome, build_engine, heading, root, run};

/// Builds, fills a folder with the plugins that were built, and runs the demonstration on it.
pub(crate) fn demo(arguments: &[String]) -> Outcome {
    heading("1 of 3: what has to be installed");
    provide(&[POSTGRESQL])?;
    let count = crates_to_build()?;
    heading(&format!(
        "2 of 3: building the engine and its plugins, {count} crates; the first time takes minutes"
    ));
    build_engine(&[])?;
    heading("3 of 3: the demonstration");
    show(arguments)
}

/// Runs the demonstration with the plugins of the workspace, and nothing else that lies in the
/// target folder: what tests or an earlier build left there cannot help.
fn show(arguments: &[String]) -> Outcome {
    let plugins = target_folder().join("demo/plugins");
    fill_plugin_folder(&plugins, Path::new("debug"))?;
    let mut demo = Command::new(program("debug"));
    demo.arg("demo").arg("--workflows").arg(root().join("workflows"));
    demo.arg("--plugins").arg(&plugins).args(arguments);
    run(&mut demo)
}

/// The demonstration as a step of `cargo verify`: fails if it would build anything anew, since
/// `cargo demo` and `cargo verify` must share every crate, version and feature.
pub(crate) fn verify_demo() -> Outcome {
    let compiled = crate::crates_compiled_by(&mut crate::engine_build(&[])?)?;
    if !compiled.is_empty() {
        let list = compiled.join(", ");
        return Err(format!(
            "`cargo demo` would build these again after the workspace was built, as their \
             features differ: {list}"
        ));
    }
    show(&["--once".to_owned()])
}
