//! The engine as a child process with simulated peers, for tests of the whole program.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

pub mod api;
pub mod faults;
pub mod fuzzing;
pub mod generators;
pub mod measuring;
mod processes;
pub mod readiness;
pub mod script;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use dimse::{Remote, Timers};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use simulators::phantom::Phantom;
use simulators::{Ehr, Pacs};

use crate::faults::System;
pub use crate::readiness::{not_run, paper_models, python, reference, reference_and_python};

/// Deadline of [`eventually`]: the longest wait for any condition.
const CONDITION_TIME_MAX: Duration = Duration::from_secs(90);

/// The path of the program under test, which `cargo build --workspace` has built.
pub fn program() -> PathBuf {
    let program = target().join("isocenter");
    assert!(program.exists(), "build the workspace first: cargo build --workspace");
    program
}

/// The folder of built programs and plugins, such as `target/debug`.
///
/// A test runs in its subfolder `deps`; a program such as `faults` runs in the folder itself.
pub fn target() -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    let folder = executable.parent().unwrap();
    if folder.ends_with("deps") { folder.parent().unwrap() } else { folder }.to_owned()
}

/// The folder with a small model, questions, and the answers of the reference implementations.
pub fn model_set() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/citrus-v/tests/goldens/own")
}

/// The number that follows the option `name` on a command line, or `default` without the option.
/// Returns `None` if no number follows.
pub fn number_option(arguments: &[String], name: &str, default: u64) -> Option<u64> {
    match arguments.iter().position(|it| it == name) {
        None => Some(default),
        Some(index) => arguments.get(index + 1)?.parse().ok(),
    }
}

/// A study of three slices without an order. Each seed makes a study of its own.
pub fn study(seed: &str) -> Phantom {
    Phantom { seed: seed.to_owned(), accession: String::new(), slices: 3, ..Phantom::default() }
}

/// Polls `condition` until it returns a value. Panics after `CONDITION_TIME_MAX`.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(start.elapsed() < CONDITION_TIME_MAX, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A temporary folder that is removed with its content when the value is dropped.
pub struct Scratch(PathBuf);

impl Default for Scratch {
    fn default() -> Self {
        let folder = std::env::temp_dir().join(format!("isocenter-test-{}", uuid::Uuid::now_v7()));
        fs::create_dir_all(&folder).unwrap();
        // PostgreSQL does not run as root and must be able to enter the folder.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }
}

impl Scratch {
    /// The path of `name` in the folder. Nothing is created.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file into the folder, with the folders above the file, and returns its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The system empties its temporary folder, so files that cannot be removed may stay.
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A hospital: an engine, a PACS, an EHR, and a temporary folder for their files.
pub struct Hospital {
    /// The engine under test.
    pub engine: Engine,
    /// The PACS, which is destination `pacs` and a peer that may send.
    pub pacs: Pacs,
    /// The EHR, which is destination `ehr`.
    pub ehr: Ehr,
    /// The faulty system that the engine runs on, where a test asked for one.
    pub system: Option<System>,
    /// The folder with site file, log, data of the engine, and files of PACS and EHR.
    pub scratch: Scratch,
}

/// Options of a [`Hospital`]: in what its site file differs from the default.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one line of the site file")]
pub struct SiteOptions<'a> {
    /// Workflow files, name and text. An empty list stands for the workflows of the project.
    pub workflows: &'a [(&'a str, &'a str)],
    /// Whether the EHR receives results that nobody has signed.
    pub allow_unverified: bool,
    /// Whether the engine requests storage commitment from the PACS.
    pub commitment: bool,
    /// Whether PACS and EHR receive a report again when the identity of its patient changes.
    pub resend: bool,
    /// Whether HTTP requests from this machine need no token.
    pub trust_loopback: bool,
    /// Whether a test can fill the disk of the engine and change its clock.
    pub is_faulty_system: bool,
    /// Who issues patient identifiers: `identity` of the site file.
    pub identity: &'a str,
    /// More text for the end of the site file, which begins below `destinations:`.
    pub destinations: &'a str,
}

impl Default for SiteOptions<'_> {
    fn default() -> Self {
        Self {
            workflows: &[],
            allow_unverified: true,
            commitment: false,
            resend: false,
            trust_loopback: true,
            is_faulty_system: false,
            identity: "{ default_issuer: HOSP }",
            destinations: "",
        }
    }
}

impl Hospital {
    /// Opens a hospital with the default options and the workflows of the project.
    pub async fn open() -> Self {
        Self::with(SiteOptions::default()).await
    }

    /// Opens a hospital with these options.
    pub async fn with(options: SiteOptions<'_>) -> Self {
        let scratch = Scratch::default();
        let any = "127.0.0.1:0".parse().unwrap();
        let pacs = Pacs::open(&scratch.path("pacs"), "PACS".parse().unwrap(), any).await.unwrap();
        let ehr = Ehr::open(&scratch.path("ehr"), any).await.unwrap();
        let workflows = match options.workflows {
            [] => shipped_workflows(&scratch),
            own => {
                for (name, text) in own {
                    scratch.write(&format!("workflows/{name}.yaml"), text);
                }
                scratch.path("workflows")
            }
        };
        let identity = options.identity;
        let change = if options.resend { "resend" } else { "nothing" };
        let site = format!(
            "data: {}\nworkflows: {}\nplugins: {}\nlog: json\n\
             dicom: {{ listen: \"127.0.0.1:0\", peers: [{{ ae_title: PACS, \
             networks: [127.0.0.0/8], address: \"{}\" }}] }}\n\
             hl7: {{ listen: \"127.0.0.1:0\", networks: [127.0.0.0/8] }}\n\
             http: {{ listen: \"127.0.0.1:0\" }}\ndisk: {{ warn: 100, refuse: 100 }}\n\
             identity: {identity}\n\
             destinations:\n  pacs: {{ dicom: {{ address: \"{}\", ae_title: PACS, commitment: {} }}, on_identity_change: {change} }}\n  \
             ehr: {{ mllp: {{ address: \"{}\", application: EHR, facility: HOSP }}, allow_unverified: {}, on_identity_change: {change} }}\n{}",
            scratch.path("data").display(),
            workflows.display(),
            target().display(),
            pacs.address(),
            pacs.address(),
            options.commitment,
            ehr.address(),
            options.allow_unverified,
            options.destinations,
        );
        let config = scratch.write("isocenter.yaml", &site);
        let log = scratch.path("log");
        let mut arguments = vec!["--config", config.to_str().unwrap()];
        if options.trust_loopback {
            arguments.push("--trust-loopback");
        }
        let system = options.is_faulty_system.then(|| System::sound(&scratch.path("system")));
        let engine = Engine::start_on(system.as_ref(), &arguments, &log);
        Self { engine, pacs, ehr, system, scratch }
    }

    /// Starts the engine again on the same data after it was killed.
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// Like [`Self::restart`], with more command line flags.
    pub fn restart_with(&mut self, flags: &[&str]) {
        let config = self.scratch.path("isocenter.yaml");
        let log = self.scratch.path("log");
        let usual = ["--config", config.to_str().unwrap(), "--trust-loopback"];
        let arguments = [&usual, flags].concat();
        self.engine = Engine::start_on(self.system.as_ref(), &arguments, &log);
    }

    /// Runs a command of the engine with `--json` and returns its parsed output.
    pub fn ask(&self, arguments: &[&str]) -> Value {
        let output = self.command(&[arguments, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(&text).unwrap_or_else(|_| {
            panic!("{arguments:?} answered {text}{}", String::from_utf8_lossy(&output.stderr))
        })
    }

    /// Runs a command of the engine on the data of this hospital.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let config = self.scratch.path("isocenter.yaml");
        let mut command = Command::new(program());
        command.args(arguments).arg("--config").arg(config);
        command.output().unwrap()
    }

    /// Runs a statement in the private database as one of its users. Returns whether the statement
    /// succeeded, and the error output.
    pub fn sql(&self, user: &str, statement: &str) -> (bool, String) {
        let data = self.scratch.path("data");
        let key = data.join(format!("keys/database-{user}.key"));
        let mut command = Command::new("psql");
        command.arg("-h").arg(data.join("pg/run")).args(["-U", &format!("isocenter_{user}")]);
        command.args(["-d", "postgres", "-v", "ON_ERROR_STOP=1", "-c", statement]);
        let output = command.env("PGPASSWORD", fs::read_to_string(key).unwrap()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The engine as modality `CT1` sees it.
    pub fn modality(&self) -> Remote {
        remote(&self.engine.dicom, "CT1")
    }

    /// Sends a study as the modality, on one association.
    pub async fn send(&self, phantom: &Phantom) {
        let files = phantom.files();
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        self.modality().store(&files).await.unwrap();
    }

    /// Sends a message and returns MSA-1 of the acknowledgement.
    pub async fn send_message(&self, message: &str) -> String {
        simulators::send_order(&self.engine.mllp, message).await.unwrap()
    }

    /// Waits until at least `count` runs exist and every run and delivery has ended. Returns the
    /// runs.
    pub async fn ended_runs(&self, count: usize) -> Vec<Value> {
        eventually("the runs to end", async || {
            let runs = self.ask(&["runs"]);
            let runs = runs.as_array().unwrap().clone();
            let have_ended = runs.iter().all(|it| it["status"] != "running");
            if runs.len() < count || !have_ended {
                return None;
            }
            let deliveries = self.ask(&["delivery", "list"]);
            let is_open = |it: &Value| it["state"] == "queued" || it["state"] == "sending";
            (!deliveries.as_array().unwrap().iter().any(is_open)).then_some(runs)
        })
        .await
    }

    /// The measurements of the first segment of bone that a run found.
    pub fn measurements_of(&self, run: &Value) -> Value {
        let shown = self.ask(&["run", "show", run["id"].as_str().unwrap()]);
        shown["outputs"]["bone"]["segmentations"][0]["segments"][0]["measurements"].clone()
    }

    /// The whole log of the engine, of all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.path("log")).unwrap_or_default()
    }
}

impl Drop for Hospital {
    fn drop(&mut self) {
        self.engine.kill();
        kill_database(&self.scratch.path("data"));
    }
}

/// The engine at `address`, as a peer with AE title `calling` calls it.
pub fn remote(address: &str, calling: &str) -> Remote {
    Remote {
        address: address.to_owned(),
        called: "ISOCENTER".parse().unwrap(),
        calling: calling.parse().unwrap(),
        timers: Timers::default(),
    }
}

/// Kills the postmaster of a data folder, whose children then end. Returns whether it was running.
pub fn kill_database(data: &Path) -> bool {
    database_pid(data).is_some_and(|it| kill_process(it, Signal::KILL).is_ok())
}

/// The postmaster of a data folder: the parent of all processes of the private database.
pub fn database_pid(data: &Path) -> Option<Pid> {
    let lock = fs::read_to_string(data.join("pg/data/postmaster.pid")).unwrap_or_default();
    lock.lines().next().and_then(|it| it.trim().parse().ok()).and_then(Pid::from_raw)
}

/// The files in a folder and in the folders below it. Files that are created or removed during the
/// call may be missing.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path());
    entries.flat_map(|it| if it.is_dir() { files(&it) } else { vec![it] }).collect()
}

/// A folder with copies of the project's workflows that wait less for more of a study.
pub fn shipped_workflows(scratch: &Scratch) -> PathBuf {
    let folder = scratch.path("workflows");
    simulators::copy_with_short_wait(&root().join("workflows"), &folder).unwrap();
    folder
}

/// The root folder of the project.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// `isocenter serve` as a child process.
pub struct Engine {
    child: Child,
    /// Address of the DICOM listener.
    pub dicom: String,
    /// Address of the HL7 listener.
    pub mllp: String,
    /// Address of the HTTP listener.
    pub http: String,
}

impl Engine {
    /// Starts the engine and waits until its listeners are open.
    pub fn start(arguments: &[&str], log: &Path) -> Self {
        Self::start_on(None, arguments, log)
    }

    /// Like [`Self::start`], on a system that may be faulty.
    fn start_on(system: Option<&System>, arguments: &[&str], log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(program());
        command
            .args(["serve", "--allow-unsigned"])
            .args(arguments)
            // Engines of several tests share the processors: threads of candle that wait for each
            // other in busy loops would take them from all others.
            .env("RAYON_NUM_THREADS", "1")
            .stdout(Stdio::piped())
            .stderr(log);
        if let Some(system) = system {
            system.apply_to(&mut command);
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready "), "the engine did not start: {line}");
        Self {
            child,
            dicom: listener_address(&line, "dicom="),
            mllp: listener_address(&line, "mllp="),
            http: listener_address(&line, "http="),
        }
    }

    /// Kills the engine without a chance to shut down.
    pub fn kill(&mut self) {
        // The engine may have ended already.
        _ = self.child.kill();
        self.child.wait().expect("a child can be waited for");
    }

    /// The process id of the engine.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM and waits until the engine has ended.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

/// The address after `name` in the line `ready dicom=ADDRESS mllp=ADDRESS http=ADDRESS`.
fn listener_address(line: &str, name: &str) -> String {
    line.split_whitespace().find_map(|it| it.strip_prefix(name)).unwrap().to_owned()
}
