//! `cargo verify`: everything that must hold before a change is kept.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::demo::target_folder;
use crate::needs::{
    CJK_FONTS, DCMTK, DICOM3TOOLS, FONTS, HANGUL_FONTS, ORTHANC, POPPLER, POSTGRESQL, PYTHON_VENV,
    TESSERACT, TESSERACT_CHINESE, provide,
};
use crate::{Outcome, cargo, heading, root, run};

/// Independent readers of what the engine writes, from the Python package index.
const READERS: &[&str] = &[
    "pydicom==3.0.2",
    "highdicom==0.28.2",
    "pynetdicom==3.0.4",
    "pypdf",
    "hl7apy",
    "hl7",
    "fhir.resources",
    "numpy",
    "scipy",
];

/// Times of the steps, shown at the end.
struct Clock(Vec<(&'static str, f64)>);

impl Clock {
    fn step(&mut self, name: &'static str, work: impl FnOnce() -> Outcome) -> Outcome {
        heading(name);
        let begin = Instant::now();
        let outcome = work();
        self.0.push((name, begin.elapsed().as_secs_f64()));
        outcome
    }
}

pub(crate) fn verify() -> Outcome {
    let mut clock = Clock(Vec::new());
    let reference = reference();
    let outcome = steps(&mut clock, reference.as_deref());
    println!();
    for (name, seconds) in &clock.0 {
        println!("{seconds:7.1} s  {name}");
    }
    if reference.is_none() {
        println!("ISOCENTER_REFERENCE is not set: only the project's own material was used");
    }
    outcome
}

/// The folder with reference material, if there is one.
fn reference() -> Option<PathBuf> {
    let said = PathBuf::from(std::env::var_os("ISOCENTER_REFERENCE")?);
    let path = if said.is_absolute() { said } else { root().join(said) };
    path.exists().then(|| path.canonicalize().unwrap_or(path))
}

/// Inputs and outputs of the network's reference: another set, if one is named.
fn goldens(reference: &Path) -> PathBuf {
    let said = std::env::var_os("ISOCENTER_GOLDENS").map(PathBuf::from);
    said.unwrap_or_else(|| reference.join("model/goldens/public"))
}

fn steps(clock: &mut Clock, reference: Option<&Path>) -> Outcome {
    clock.step("format", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
    clock.step("what has to be installed", || {
        provide(&[
            POSTGRESQL,
            DCMTK,
            ORTHANC,
            DICOM3TOOLS,
            POPPLER,
            PYTHON_VENV,
            FONTS,
            CJK_FONTS,
            HANGUL_FONTS,
            TESSERACT,
            TESSERACT_CHINESE,
        ])
    })?;
    clock.step("build", || run(&mut cargo(&["build", "--workspace", "--all-targets"])))?;
    clock.step("lints", || {
        run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    clock.step("documentation", || {
        let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
        run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    let readers = install_readers(clock)?;
    clock.step("tests", || {
        let mut test = cargo(&["test", "--workspace", "--no-fail-fast"]);
        test.env("ISOCENTER_PYTHON", &readers);
        match reference {
            Some(reference) => test
                .env("ISOCENTER_GOLDENS", goldens(reference))
                .env("ISOCENTER_REFERENCE", reference),
            None => test.env_remove("ISOCENTER_REFERENCE"),
        };
        counted(&mut test)
    })
}

fn install_readers(clock: &mut Clock) -> Result<PathBuf, String> {
    let folder = target_folder().join("readers");
    let python = folder.join("bin/python");
    clock.step("independent readers", || {
        let done = folder.join("installed");
        let wanted = READERS.join("\n");
        if std::fs::read_to_string(&done).is_ok_and(|it| it == wanted) {
            return Ok(());
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(READERS);
        run(&mut pip)?;
        std::fs::write(&done, wanted).map_err(|error| error.to_string())
    })?;
    Ok(python)
}

/// Runs the tests, shows what they print, and says how many there were.
fn counted(test: &mut Command) -> Outcome {
    use std::io::{BufRead as _, BufReader};
    let spawned = test.current_dir(root()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| format!("the tests cannot be run: {error}"))?;
    let (mut passed, mut failed) = (0, 0);
    for line in child.stdout.take().into_iter().flat_map(|it| BufReader::new(it).lines()) {
        let line = line.map_err(|error| error.to_string())?;
        println!("{line}");
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["test", "result:", _, count, "passed;", bad, "failed;", ..] = words.as_slice() {
            passed += count.parse::<u64>().unwrap_or_default();
            failed += bad.parse::<u64>().unwrap_or_default();
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    println!("\n{passed} passed, {failed} failed");
    if status.success() && failed == 0 && passed > 0 {
        return Ok(());
    }
    Err("tests failed".to_owned())
}
