//! The engine's end of a worker: a process, or a thread of the engine, that has one plugin loaded.
//!
//! A worker is started, sends [`PluginMessage::Ready`], answers any number of requests, and ends
//! when the engine drops it. Dropping a worker with a process of its own kills that process and
//! every process it started.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::SopInstanceUid;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use crate::child::{Isolation, OPENMP_THREADS, load_and_serve};
use crate::inputs::InputFolder;
use crate::protocol::{FrameLengths, HEADER_BYTES, HostMessage, PluginMessage};

/// Time that a process has to exit after its socket was closed.
const EXIT_TIME_MAX: Duration = Duration::from_secs(2);

/// Interval at which an exiting process is polled.
const EXIT_POLL: Duration = Duration::from_millis(5);

/// A loaded plugin that answers requests over a socket.
pub(crate) struct Worker {
    place: Place,
    socket: UnixStream,
    /// The folder with the files of its call; none for a thread of the engine, which reads the
    /// archive.
    inputs: Option<Arc<InputFolder>>,
    /// Name of the plugin, by its own description.
    pub(crate) name: String,
    /// Version of the plugin, by its own description.
    pub(crate) version: String,
}

/// Where the plugin's code runs.
enum Place {
    /// In a process of its own.
    Child(Child),
    /// In a thread of the engine, which ends when the plugin returns and cannot be ended before.
    Engine,
}

/// A message of a plugin, with its attachment.
pub(crate) struct Received {
    pub(crate) message: PluginMessage,
    pub(crate) attachment: Vec<u8>,
}

impl Drop for Worker {
    /// Kills the process and every process it started.
    fn drop(&mut self) {
        let Place::Child(child) = &self.place else { return };
        if let Some(group) = process_group(child) {
            // The group may have ended already.
            _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The process group that a child leads; nothing once its exit status was collected, as its number
/// may belong to another process then.
pub(crate) fn process_group(child: &Child) -> Option<Pid> {
    child.id().and_then(|it| i32::try_from(it).ok()).and_then(Pid::from_raw)
}

/// Why a worker cannot be used, or not any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    /// The process or thread cannot be started.
    #[error("the plugin's process cannot be started")]
    Start(#[source] io::Error),
    /// The process or thread ended.
    #[error("the plugin's process ended: {0}")]
    Ended(Exit),
    /// The plugin sent bytes or a message that the protocol does not allow.
    #[error("the plugin's process does not follow the protocol")]
    Protocol(#[source] io::Error),
    /// The library is not a plugin.
    #[error("{reason}")]
    NotAPlugin {
        /// The reason by the plugin's process.
        reason: String,
    },
    /// The library was not loaded within its time.
    #[error("it does not load in time")]
    LoadTimeout,
    /// The engine is shutting down.
    #[error("the engine is shutting down")]
    ShuttingDown,
}

impl WorkerError {
    /// The error of a message that is not expected in this state.
    pub(crate) fn unexpected_message() -> Self {
        Self::Protocol(io::ErrorKind::InvalidData.into())
    }
}

/// How a worker ended, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exit {
    /// The process exited with this code.
    #[error("exit code {0}")]
    Code(i32),
    /// A signal ended the process.
    #[error("signal {0}")]
    Signal(i32),
    /// The socket was closed, and the process runs on.
    #[error("its socket was closed")]
    SocketClosed,
    /// The thread of an inline plugin ended.
    #[error("its thread ended")]
    Thread,
    /// The system reports neither a code nor a signal.
    #[error("for an unknown reason")]
    Unknown,
}

/// What a process of a plugin is started with.
pub(crate) struct ProcessStart<'a> {
    /// The program of the engine.
    pub(crate) engine: &'a Path,
    /// The plugin.
    pub(crate) library: &'a Path,
    /// The folder with the models of the site, which the plugin may read.
    pub(crate) models: Option<&'a Path>,
    /// Upper bound of its memory, in bytes.
    pub(crate) memory_bytes_max: u64,
    /// Whether it loads the plugin where it cannot be confined.
    pub(crate) allow_unconfined: bool,
}

impl Worker {
    /// Starts a process that loads a plugin, and that can read the engine's files in `inputs` and
    /// the models only: where it cannot be confined to them, it loads nothing unless that is
    /// allowed.
    pub(crate) async fn start(
        start: ProcessStart<'_>,
        inputs: InputFolder,
    ) -> Result<Self, WorkerError> {
        let (ours, theirs) = StdStream::pair().map_err(WorkerError::Start)?;
        let mut command = Command::new(start.engine);
        command
            .arg("plugin-host")
            .arg(start.library)
            .arg("--inputs")
            .arg(inputs.path())
            .args(["--memory", &start.memory_bytes_max.to_string()])
            .args(start.allow_unconfined.then_some("--allow-unconfined"))
            .stdin(OwnedFd::from(theirs))
            // The output of a plugin may identify a patient: it is discarded.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_clear()
            .env("OMP_THREAD_LIMIT", OPENMP_THREADS)
            // Without it, a network in a plugin makes a thread for each core, beside those it uses.
            .env("RTEN_NUM_THREADS", "1")
            // A signal of the terminal is for the engine, which then ends its children.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(models) = start.models {
            command.arg("--models").arg(models).env(page_models::FOLDER_VARIABLE, models);
        }
        let child = command.spawn().map_err(WorkerError::Start)?;
        let mut worker = Self::await_ready(Place::Child(child), ours).await?;
        worker.inputs = Some(Arc::new(inputs));
        Ok(worker)
    }

    /// Loads `library` into this process, in a thread that holds `permit` until it ends.
    pub(crate) async fn start_inline(
        library: &Path,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, WorkerError> {
        let (ours, theirs) = StdStream::pair().map_err(WorkerError::Start)?;
        let library = library.to_owned();
        let thread = std::thread::Builder::new().name("inline plugin".to_owned());
        let serve = move || {
            // An error of the socket is seen at the engine's end.
            _ = load_and_serve(&library, theirs, Isolation::Inline);
            drop(permit);
        };
        thread.spawn(serve).map_err(WorkerError::Start)?;
        Self::await_ready(Place::Engine, ours).await
    }

    async fn await_ready(place: Place, ours: StdStream) -> Result<Self, WorkerError> {
        ours.set_nonblocking(true).map_err(WorkerError::Start)?;
        let socket = UnixStream::from_std(ours).map_err(WorkerError::Start)?;
        let mut worker =
            Self { place, socket, inputs: None, name: String::new(), version: String::new() };
        match worker.receive().await?.message {
            PluginMessage::Ready { name, version } => {
                worker.name = name;
                worker.version = version;
                Ok(worker)
            }
            PluginMessage::Unusable { reason } => Err(WorkerError::NotAPlugin { reason }),
            _ => Err(WorkerError::unexpected_message()),
        }
    }

    /// Lends the worker the files of a call. Returns the paths by which it reaches them.
    pub(crate) async fn lend(
        &self,
        files: BTreeMap<SopInstanceUid, PathBuf>,
    ) -> io::Result<BTreeMap<SopInstanceUid, PathBuf>> {
        match &self.inputs {
            Some(folder) if !files.is_empty() => {
                let folder = Arc::clone(folder);
                spawn_blocking(move || folder.lend(files)).await.map_err(io::Error::other)?
            }
            _ => Ok(files),
        }
    }

    /// Takes the files of a call away from the worker.
    pub(crate) async fn take_back(&self) -> io::Result<()> {
        let Some(folder) = self.inputs.clone() else { return Ok(()) };
        spawn_blocking(move || folder.take_back()).await.map_err(io::Error::other)?
    }

    /// Sends a message to the plugin.
    pub(crate) async fn send(&mut self, message: &impl Serialize) -> Result<(), WorkerError> {
        let json = serde_json::to_vec(message).map_err(|it| WorkerError::Protocol(it.into()))?;
        let lengths = FrameLengths::of(&json, &[]).map_err(WorkerError::Protocol)?;
        let frame = [lengths.encode().as_slice(), &json].concat();
        match self.socket.write_all(&frame).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.exit_error().await),
        }
    }

    /// Requests the running call to end. A worker that ended already needs no request.
    pub(crate) async fn cancel(&mut self) {
        _ = self.send(&HostMessage::Cancel).await;
    }

    /// Receives the next message of the plugin.
    pub(crate) async fn receive(&mut self) -> Result<Received, WorkerError> {
        let mut header = [0; HEADER_BYTES];
        if self.socket.read_exact(&mut header).await.is_err() {
            return Err(self.exit_error().await);
        }
        let lengths = FrameLengths::decode(header).map_err(WorkerError::Protocol)?;
        let json = self.read_bytes(lengths.json).await?;
        let attachment = self.read_bytes(lengths.attachment).await?;
        let message =
            serde_json::from_slice(&json).map_err(|it| WorkerError::Protocol(it.into()))?;
        Ok(Received { message, attachment })
    }

    /// Reads `length` bytes. Memory is allocated as they arrive, and not by the length in the
    /// header.
    async fn read_bytes(&mut self, length: u32) -> Result<Vec<u8>, WorkerError> {
        let mut bytes = Vec::new();
        let read = (&mut self.socket).take(length.into()).read_to_end(&mut bytes).await;
        if read.is_err() || bytes.len() != length as usize {
            return Err(self.exit_error().await);
        }
        Ok(bytes)
    }

    /// Whether the plugin has a process of its own.
    pub(crate) const fn is_child(&self) -> bool {
        matches!(self.place, Place::Child(_))
    }

    /// The error of a worker whose socket failed. Waits a moment for the exit status of its
    /// process.
    async fn exit_error(&mut self) -> WorkerError {
        let exit = match &mut self.place {
            Place::Engine => Exit::Thread,
            Place::Child(child) => exit_of(child).await,
        };
        WorkerError::Ended(exit)
    }
}

/// Waits for the exit of a process whose socket was closed, and for no longer than
/// [`EXIT_TIME_MAX`].
pub(crate) async fn exit_of(child: &mut Child) -> Exit {
    if let Some(group) = process_group(child) {
        // The exit status must not be collected before the group is killed: from then on its number
        // may belong to another process.
        let start = Instant::now();
        while is_running(group) && start.elapsed() < EXIT_TIME_MAX {
            tokio::time::sleep(EXIT_POLL).await;
        }
        if is_running(group) {
            return Exit::SocketClosed;
        }
        _ = kill_process_group(group, Signal::KILL);
    }
    match tokio::time::timeout(EXIT_TIME_MAX, child.wait()).await {
        Ok(Ok(status)) => match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (_, Some(signal)) => Exit::Signal(signal),
            _ => Exit::Unknown,
        },
        _ => Exit::SocketClosed,
    }
}

/// Whether a process has not exited yet. Its exit status stays uncollected.
fn is_running(process: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::Pid(process), options), Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker of a shell script that holds the other end of its socket as standard input.
    async fn script(text: &str) -> Result<Worker, WorkerError> {
        let (ours, theirs) = StdStream::pair().unwrap();
        let child = Command::new("/bin/sh")
            .args(["-c", text])
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Worker::await_ready(Place::Child(child), ours).await
    }

    /// A shell command that sends a frame of a message of up to 255 bytes.
    fn send(json: &str) -> String {
        let length = json.len();
        format!("printf '\\{length:o}\\0\\0\\0\\0\\0\\0\\0%s' '{json}' >&0;")
    }

    const READY: &str = r#"{"type":"ready","name":"p","version":"1"}"#;

    #[tokio::test]
    async fn a_worker_is_ready_once_it_describes_itself() {
        let worker = script(&format!("{} sleep 9", send(READY))).await.unwrap();
        assert_eq!((worker.name.as_str(), worker.version.as_str()), ("p", "1"));
        assert!(worker.is_child());
    }

    #[tokio::test]
    async fn a_process_that_exits_is_reported_with_its_code_or_signal() {
        let code = script("exit 7").await.err().unwrap();
        assert!(matches!(code, WorkerError::Ended(Exit::Code(7))), "{code}");
        let signal = script("kill -9 $$").await.err().unwrap();
        assert!(matches!(signal, WorkerError::Ended(Exit::Signal(9))), "{signal}");
    }

    #[tokio::test]
    async fn a_library_that_is_no_plugin_is_reported_with_its_reason() {
        let message = r#"{"type":"unusable","reason":"no symbol"}"#;
        let error = script(&send(message)).await.err().unwrap();
        assert!(matches!(error, WorkerError::NotAPlugin { reason } if reason == "no symbol"));
    }

    #[tokio::test]
    async fn a_message_out_of_turn_or_of_no_type_is_a_breach_of_the_protocol() {
        for message in [r#"{"type":"artifact"}"#, r#"{"type":"shout"}"#, "no JSON"] {
            let error = script(&format!("{} sleep 9", send(message))).await.err().unwrap();
            assert!(matches!(error, WorkerError::Protocol(_)), "{message}: {error}");
        }
    }

    #[tokio::test]
    async fn sec_24_a_frame_beyond_the_bounds_is_a_breach_of_the_protocol() {
        let error = script("printf '\\377\\377\\377\\377\\0\\0\\0\\0' >&0; sleep 9").await;
        assert!(matches!(error.err().unwrap(), WorkerError::Protocol(_)));
    }

    #[tokio::test]
    async fn dropping_a_worker_kills_the_processes_it_started() {
        let file = std::env::temp_dir().join(format!("isocenter-{}", uuid::Uuid::now_v7()));
        let started = format!("(sleep 0.5; echo > {}) & {} wait", file.display(), send(READY));
        let worker = script(&started).await.unwrap();
        drop(worker);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!file.exists(), "a process of the dropped worker went on");
    }
}
