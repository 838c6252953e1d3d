//! `cargo verify`: everything that must hold before a change is kept.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::demo::verify_demo;
use crate::lints::Lints;
use crate::needs::{
    CJK_FONTS, DCMTK, DICOM3TOOLS, FONTS, HANGUL_FONTS, ORTHANC, POPPLER, POSTGRESQL, PYTHON_VENV,
    TESSERACT, TESSERACT_CHINESE, provide,
};
use crate::workspace::target_folder;
use crate::{Outcome, cargo, heading, root, run};

/// Independent readers of what the engine writes, and what makes inputs of the field cases, from the
/// Python package index.
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
    "reportlab",
    "cryptography",
    "pylibjpeg",
    "pylibjpeg-openjpeg",
];

/// Programs that do the same as a part of ours, to be compared with. Theirs is an environment of its
/// own: `medspaCy` needs an older `numpy` than the readers under Python 3.11.
const PEERS: &[&str] = &["medspacy==1.3.1"];

/// The release with the models of the second reader of print, from the Python package index. Nothing
/// of it is run: `isocenter model import` takes the models out.
const PAPER_MODELS: &str = "rapidocr==3.10.0";

/// Times of the steps, shown at the end.
struct Clock(Vec<(&'static str, f64)>);

impl Clock {
    fn step<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        heading(name);
        let begin = Instant::now();
        let outcome = work();
        self.0.push((name, begin.elapsed().as_secs_f64()));
        outcome
    }
}

/// How the tests ended.
struct TestCounts {
    /// Those that were really run and passed.
    passed: usize,
    /// Those that failed.
    failed: usize,
    /// Those that lacked what they need, each with its reason.
    not_run: Vec<String>,
}

/// Runs every step, and prints how long each took and how the tests ended.
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
    let counts = outcome?;
    for test in &counts.not_run {
        println!("not run: {test}");
    }
    println!(
        "\n{} passed, {} failed, {} skipped",
        counts.passed,
        counts.failed,
        counts.not_run.len()
    );
    if counts.failed > 0 { Err("tests failed".to_owned()) } else { Ok(()) }
}

/// The folder with reference material, if there is one.
fn reference() -> Option<PathBuf> {
    let named = PathBuf::from(std::env::var_os("ISOCENTER_REFERENCE")?);
    let path = if named.is_absolute() { named } else { root().join(named) };
    path.exists().then(|| path.canonicalize().unwrap_or(path))
}

/// Inputs and outputs of the network's reference: another set, if one is named.
fn goldens(reference: &Path) -> PathBuf {
    let named = std::env::var_os("ISOCENTER_GOLDENS").map(PathBuf::from);
    named.unwrap_or_else(|| reference.join("model/goldens/public"))
}

fn steps(clock: &mut Clock, reference: Option<&Path>) -> Result<TestCounts, String> {
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
    // Downloads beside the build.
    let readers = thread::spawn(|| {
        let python = install("readers", READERS)?;
        // Without the models, their tests are listed as not run.
        let paper_models = download(&python, "paper-models", PAPER_MODELS).ok();
        Ok::<_, String>(Readers { python, paper_models })
    });
    let peers = thread::spawn(|| install("peers", PEERS));
    // Benches are compiled by the lints only.
    clock.step("build", || {
        run(&mut cargo(&["build", "--workspace", "--lib", "--bins", "--tests"]))
    })?;
    clock.step("demonstration", verify_demo)?;
    let readers = clock.step("independent readers", || {
        let ended = readers.join();
        ended.map_err(|_| "the installation of the readers panicked".to_owned())?
    })?;
    // Without them, their comparisons are listed as not run.
    let peers = peers.join().ok().and_then(Result::ok);
    let list = target_folder().join("not-run");
    // Each run lists anew.
    _ = fs::remove_file(&list);
    let lints = Lints::prepare();
    let counts = clock.step("tests, with lints and documentation beside them", || {
        let mut test = cargo(&["test", "--workspace", "--no-fail-fast"]);
        test.env("ISOCENTER_PYTHON", &readers.python).env("ISOCENTER_NOT_RUN", &list);
        if let Some(peers) = &peers {
            test.env("ISOCENTER_PEERS", peers);
        }
        if let Some(models) = &readers.paper_models {
            test.env("ISOCENTER_PAPER_MODELS", models);
        }
        // As in the processes of plugins: tests that read pages run side by side.
        test.env("OMP_THREAD_LIMIT", "1");
        match reference {
            Some(reference) => test
                .env("ISOCENTER_GOLDENS", goldens(reference))
                .env("ISOCENTER_REFERENCE", reference),
            None => test.env_remove("ISOCENTER_REFERENCE"),
        };
        counted(&mut test, &list, &lints)
    })?;
    clock.step("lints and documentation, what was left of them", || lints.end())?;
    Ok(counts)
}

/// Installs packages in a virtual environment with this name. Returns its interpreter.
fn install(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let folder = target_folder().join(name);
    let python = folder.join("bin/python");
    let done = folder.join("installed");
    let wanted = packages.join("\n");
    if fs::read_to_string(&done).is_ok_and(|it| it == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    run(&mut pip)?;
    fs::write(&done, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

/// What reads outputs independently, and what a second reader of papers needs.
struct Readers {
    /// The interpreter of their environment.
    python: PathBuf,
    /// The published wheel with the models; nothing if it could not be downloaded.
    paper_models: Option<PathBuf>,
}

/// Downloads the wheel of a package into a folder with this name, and returns its path.
fn download(python: &Path, name: &str, package: &str) -> Result<PathBuf, String> {
    let folder = target_folder().join(name);
    let wheel = || {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        entries.map(|it| it.path()).find(|it| it.extension().is_some_and(|it| it == "whl"))
    };
    if wheel().is_none() {
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        run(pip.args(["--only-binary", ":all:", "--dest"]).arg(&folder).arg(package))?;
    }
    wheel().ok_or_else(|| format!("`{package}` has no wheel"))
}

/// Runs the tests, shows what they print, and counts them. A test that listed itself as not run
/// counts as such, and not as passed. The lints begin with the first line, when the tests are built.
fn counted(test: &mut Command, list: &Path, lints: &Lints) -> Result<TestCounts, String> {
    let spawned = test.current_dir(root()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| format!("the tests cannot be run: {error}"))?;
    let mut counts = TestCounts { passed: 0, failed: 0, not_run: Vec::new() };
    for line in child.stdout.take().into_iter().flat_map(|it| BufReader::new(it).lines()) {
        let line = line.map_err(|error| error.to_string())?;
        println!("{line}");
        lints.begin();
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["test", "result:", _, passed, "passed;", failed, "failed;", ..] = words.as_slice() {
            counts.passed += passed.parse::<usize>().unwrap_or_default();
            counts.failed += failed.parse::<usize>().unwrap_or_default();
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    let listed = fs::read_to_string(list).unwrap_or_default();
    counts.not_run = listed.lines().map(str::to_owned).collect();
    counts.not_run.sort();
    counts.not_run.dedup();
    counts.passed = counts.passed.saturating_sub(counts.not_run.len());
    if counts.passed == 0 || !status.success() && counts.failed == 0 {
        return Err("the tests could not be built or run".to_owned());
    }
    Ok(counts)
}
