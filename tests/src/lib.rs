//! An engine in a process of its own, with simulated peers, for tests of the whole.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test, a panic is the way to say no"
)]

pub mod api;
pub mod faults;
pub mod fuzzing;
pub mod measuring;
pub mod paper;
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
pub use crate::readiness::{not_run, python, reference, reference_and_python};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(90);

/// The program under test, built by `cargo build`.
pub fn program() -> PathBuf {
    let program = target().join("isocenter");
    assert!(program.exists(), "build the workspace first: cargo build --workspace");
    program
}

/// The folder of built programs and plugins: that of this program, or above that of this test.
pub fn target() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let folder = here.parent().unwrap();
    if folder.ends_with("deps") { folder.parent().unwrap() } else { folder }.to_owned()
}

/// A small model with questions, and what the reference implementations answer.
pub fn model_set() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/citrus-v/tests/goldens/own")
}

/// The number that was said after a name at a command line, or what is meant without.
pub fn given(arguments: &[String], name: &str, otherwise: u64) -> Option<u64> {
    match arguments.iter().position(|it| it == name) {
        None => Some(otherwise),
        Some(at) => arguments.get(at + 1)?.parse().ok(),
    }
}

/// A study that nobody has ordered, of three slices; another for each seed.
pub fn study(seed: &str) -> Phantom {
    let (seed, accession) = (seed.to_owned(), String::new());
    Phantom { seed, accession, slices: 3, ..Phantom::default() }
}

/// Waits until `look` finds something.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A folder that is removed with everything in it.
pub struct Scratch(PathBuf);

impl Default for Scratch {
    fn default() -> Self {
        let folder = std::env::temp_dir().join(format!("isocenter-test-{}", uuid::Uuid::now_v7()));
        fs::create_dir_all(&folder).unwrap();
        // PostgreSQL, which is not root, has to pass through.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }
}

impl Scratch {
    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the temporary folder, which the system empties.
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A hospital: an engine, a PACS, an EHR, and a folder for all of them.
pub struct Hospital {
    /// The engine.
    pub engine: Engine,
    /// The PACS.
    pub pacs: Pacs,
    /// The EHR.
    pub ehr: Ehr,
    /// The system it runs on, as far as something is wrong with that.
    pub system: Option<System>,
    /// Where everything lies.
    pub scratch: Scratch,
}

/// How a hospital differs from the usual.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one line of the site file")]
pub struct Habits<'a> {
    /// Workflow files: name and text. None are those of the project.
    pub workflows: &'a [(&'a str, &'a str)],
    /// Whether the EHR takes unsigned results.
    pub allow_unverified: bool,
    /// Whether the PACS is to confirm storage commitment.
    pub commitment: bool,
    /// Whether PACS and EHR get anew what was sent under an identity that has changed.
    pub resend: bool,
    /// Whether everybody on this machine may come in.
    pub trust_loopback: bool,
    /// Whether the disk of the engine may become full, and its clock jump.
    pub is_faulty_system: bool,
    /// More lines under `destinations:` of the site file, and after them.
    pub destinations: &'a str,
}

impl Default for Habits<'_> {
    fn default() -> Self {
        Self {
            workflows: &[],
            allow_unverified: true,
            commitment: false,
            resend: false,
            trust_loopback: true,
            is_faulty_system: false,
            destinations: "",
        }
    }
}

impl Hospital {
    /// Opens a hospital with the workflows of the project.
    pub async fn open() -> Self {
        Self::with(Habits::default()).await
    }

    /// Opens a hospital with habits of its own.
    pub async fn with(habits: Habits<'_>) -> Self {
        let scratch = Scratch::default();
        let any = "127.0.0.1:0".parse().unwrap();
        let pacs = Pacs::open(&scratch.path("pacs"), "PACS".parse().unwrap(), any).await.unwrap();
        let ehr = Ehr::open(&scratch.path("ehr"), any).await.unwrap();
        let workflows = match habits.workflows {
            [] => root().join("workflows"),
            own => {
                for (name, text) in own {
                    scratch.write(&format!("workflows/{name}.yaml"), text);
                }
                scratch.path("workflows")
            }
        };
        let change = if habits.resend { "resend" } else { "nothing" };
        let site = format!(
            "data: {}\nworkflows: {}\nplugins: {}\nlog: json\n\
             dicom: {{ listen: \"127.0.0.1:0\", peers: [{{ ae_title: PACS, \
             networks: [127.0.0.0/8], address: \"{}\" }}] }}\n\
             hl7: {{ listen: \"127.0.0.1:0\", networks: [127.0.0.0/8] }}\n\
             http: {{ listen: \"127.0.0.1:0\" }}\ndisk: {{ warn: 100, refuse: 100 }}\n\
             destinations:\n  pacs: {{ dicom: {{ address: \"{}\", ae_title: PACS, commitment: {} }}, on_identity_change: {change} }}\n  \
             ehr: {{ mllp: {{ address: \"{}\", application: EHR, facility: HOSP }}, allow_unverified: {}, on_identity_change: {change} }}\n{}",
            scratch.path("data").display(),
            workflows.display(),
            target().display(),
            pacs.address(),
            pacs.address(),
            habits.commitment,
            ehr.address(),
            habits.allow_unverified,
            habits.destinations,
        );
        let config = scratch.write("isocenter.yaml", &site);
        let log = scratch.path("log");
        let mut arguments = vec!["--config", config.to_str().unwrap()];
        if habits.trust_loopback {
            arguments.push("--trust-loopback");
        }
        let system = habits.is_faulty_system.then(|| System::sound(&scratch.path("system")));
        let engine = Engine::start_on(system.as_ref(), &arguments, &log);
        Self { engine, pacs, ehr, system, scratch }
    }

    /// Starts the engine again after it was killed.
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// The same, with more to say to it.
    pub fn restart_with(&mut self, flags: &[&str]) {
        let config = self.scratch.path("isocenter.yaml");
        let log = self.scratch.path("log");
        let usual = ["--config", config.to_str().unwrap(), "--trust-loopback"];
        let arguments = [&usual, flags].concat();
        self.engine = Engine::start_on(self.system.as_ref(), &arguments, &log);
    }

    /// Asks the engine's command line something, and gives its answer read as JSON.
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

    /// The same, as somebody with an account of their own.
    pub fn command_as(&self, user: &str, arguments: &[&str]) -> Output {
        let config = self.scratch.path("isocenter.yaml");
        let mut command = Command::new(program());
        command.args(arguments).arg("--config").arg(config);
        command.env_remove("SUDO_USER").env("USER", user).output().unwrap()
    }

    /// Whether the private database took a statement from one of its users, and what it said.
    pub fn sql(&self, user: &str, statement: &str) -> (bool, String) {
        let data = self.scratch.path("data");
        let key = data.join(format!("keys/database-{user}.key"));
        let mut command = Command::new("psql");
        command.arg("-h").arg(data.join("pg/run")).args(["-U", &format!("isocenter_{user}")]);
        command.args(["-d", "postgres", "-v", "ON_ERROR_STOP=1", "-c", statement]);
        let output = command.env("PGPASSWORD", fs::read_to_string(key).unwrap()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The modality.
    pub fn modality(&self) -> Remote {
        remote(&self.engine.dicom, "CT1")
    }

    /// Has the modality send a study.
    pub async fn send(&self, phantom: &Phantom) {
        let files = phantom.files();
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        self.modality().store(&files).await.unwrap();
    }

    /// Sends a message and gives MSA-1 of the answer.
    pub async fn send_message(&self, message: &str) -> String {
        simulators::send_order(&self.engine.mllp, message).await.unwrap()
    }

    /// Waits until every run and delivery has ended, at least `count` of them. Gives the runs.
    pub async fn ended_runs(&self, count: usize) -> Vec<Value> {
        eventually("the runs to end", async || {
            let runs = self.ask(&["runs"]);
            let runs = runs.as_array().unwrap().clone();
            let is_over = runs.iter().all(|it| it["status"] != "running");
            if runs.len() < count || !is_over {
                return None;
            }
            let deliveries = self.ask(&["delivery", "list"]);
            let is_open = |it: &Value| it["state"] == "queued" || it["state"] == "sending";
            (!deliveries.as_array().unwrap().iter().any(is_open)).then_some(runs)
        })
        .await
    }

    /// Everything the engine wrote to its log.
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

/// A peer of the engine at `address`.
pub fn remote(address: &str, calling: &str) -> Remote {
    Remote {
        address: address.to_owned(),
        called: "ISOCENTER".parse().unwrap(),
        calling: calling.parse().unwrap(),
        timers: Timers::default(),
    }
}

/// Kills the private database of a data folder, with everything it started.
pub fn kill_database(data: &Path) -> bool {
    database_pid(data).is_some_and(|it| kill_process(it, Signal::KILL).is_ok())
}

/// The process of the private database of a data folder, from which all others of it stem.
pub fn database_pid(data: &Path) -> Option<Pid> {
    let lock = fs::read_to_string(data.join("pg/data/postmaster.pid")).unwrap_or_default();
    lock.lines().next().and_then(|it| it.trim().parse().ok()).and_then(Pid::from_raw)
}

/// The files in a folder and in those below it. What comes and goes meanwhile may be missing.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path());
    entries.flat_map(|it| if it.is_dir() { files(&it) } else { vec![it] }).collect()
}

/// The root of the project.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// `isocenter serve` in a process of its own.
pub struct Engine {
    child: Child,
    /// Where it listens for DICOM.
    pub dicom: String,
    /// Where it listens for HL7.
    pub mllp: String,
    /// Where it answers for its health.
    pub http: String,
}

impl Engine {
    /// Starts it and waits until its doors are open.
    pub fn start(arguments: &[&str], log: &Path) -> Self {
        Self::start_on(None, arguments, log)
    }

    /// The same on a system of which something may be wrong.
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
            system.surround(&mut command);
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready "), "the engine did not start: {line}");
        let door = |name: &str| {
            let found = line.split_whitespace().find_map(|it| it.strip_prefix(name));
            found.unwrap().trim_start_matches('=').to_owned()
        };
        Self { child, dicom: door("dicom"), mllp: door("mllp"), http: door("http") }
    }

    /// Kills it without a word.
    pub fn kill(&mut self) {
        // It may be dead already.
        _ = self.child.kill();
        self.child.wait().expect("a child can be waited for");
    }

    /// Its number among the processes.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}
