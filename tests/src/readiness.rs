//! Preconditions of tests outside of the project, and what happens where one is missing.
//!
//! Three things may be missing: the folder of reference material (`ISOCENTER_REFERENCE`), the Python
//! interpreter with independent readers (`ISOCENTER_PYTHON`), and the published models that read
//! print (`ISOCENTER_PAPER_MODELS`), both of which `cargo verify` installs.
//! A test without its precondition never passes silently: under `cargo verify` the test is listed
//! as not run and not counted as passed; under plain `cargo test` it fails.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::thread;

/// The file in which tests list themselves as not run, one line each: `cargo verify` names it.
const NOT_RUN_LIST: &str = "ISOCENTER_NOT_RUN";

/// Lists the calling test as not run. The test must then return. Panics where no list is kept.
pub fn not_run(reason: &str) {
    let Some(list) = env::var_os(NOT_RUN_LIST) else {
        panic!("this test cannot run: {reason} (`cargo verify` lists such tests as not run)");
    };
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let mut list = OpenOptions::new().create(true).append(true).open(list).unwrap();
    list.write_all(format!("{name}: {reason}\n").as_bytes()).unwrap();
}

/// The folder of reference material. Without it the calling test is listed as not run.
pub fn reference() -> Option<PathBuf> {
    let folder = env::var_os("ISOCENTER_REFERENCE").map(PathBuf::from).filter(|it| it.exists());
    if folder.is_none() {
        not_run("ISOCENTER_REFERENCE names no folder of reference material");
    }
    folder
}

/// The interpreter with independent readers of DICOM, HL7, FHIR and PDF. Panics without it:
/// `cargo verify` installs it before any test runs.
pub fn python() -> PathBuf {
    let interpreter = env::var_os("ISOCENTER_PYTHON").map(PathBuf::from);
    let interpreter = interpreter.filter(|it| it.exists());
    interpreter.expect("ISOCENTER_PYTHON names the interpreter that `cargo verify` installs")
}

/// The wheel with the published models that read print. Without it the calling test is listed as
/// not run.
pub fn paper_models() -> Option<PathBuf> {
    let wheel = env::var_os("ISOCENTER_PAPER_MODELS").map(PathBuf::from).filter(|it| it.exists());
    if wheel.is_none() {
        not_run("ISOCENTER_PAPER_MODELS names no wheel with the models that read print");
    }
    wheel
}

/// The folder of reference material, and the interpreter with independent readers.
pub fn reference_and_python() -> Option<(PathBuf, PathBuf)> {
    reference().map(|folder| (folder, python()))
}
