use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::OwnedSemaphorePermit;

use crate::child;
use crate::protocol::{Ask, Say, header, lengths};

/// Whoever has a plugin loaded and answers for it.
pub(crate) struct Worker {
    place: Place,
    socket: UnixStream,
    /// Who the plugin says it is.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
}

/// How long a child whose socket is closed has to end.
const END_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// Where a plugin works.
enum Place {
    /// In a process of its own.
    Child(Child),
    /// In a thread of the engine, which ends when the plugin returns and not before.
    Engine,
}

impl Drop for Worker {
    /// Ends the child with everything it started.
    fn drop(&mut self) {
        let Place::Child(child) = &self.place else { return };
        if let Some(group) = group(child) {
            // It may have ended already, and nothing of it be left.
            _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The group that a child leads, until somebody has asked how it ended.
fn group(child: &Child) -> Option<Pid> {
    child.id().and_then(|it| i32::try_from(it).ok()).and_then(Pid::from_raw)
}

/// Why a child is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    /// It cannot be started.
    #[error("the plugin's process cannot be started")]
    Start(#[source] io::Error),
    /// It ended.
    #[error("the plugin's process ended: {how}")]
    Ended {
        /// How.
        how: String,
    },
    /// It says what cannot be understood.
    #[error("the plugin's process talks nonsense")]
    Nonsense(#[source] io::Error),
    /// The library is not a plugin.
    #[error("{reason}")]
    Unusable {
        /// Why not.
        reason: String,
    },
}

impl Worker {
    /// Starts a child that loads `library`, and of the engine's files reads those below `archive`.
    pub(crate) async fn start(
        engine: &Path,
        library: &Path,
        archive: &Path,
        memory_bytes_max: u64,
    ) -> Result<Self, WorkerError> {
        let (ours, theirs) = StdStream::pair().map_err(WorkerError::Start)?;
        let child = Command::new(engine)
            .arg("plugin-host")
            .arg(library)
            .arg("--archive")
            .arg(archive)
            .args(["--memory", &memory_bytes_max.to_string()])
            .stdin(OwnedFd::from(theirs))
            // What a plugin prints may name a patient: it goes nowhere.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_clear()
            // A signal from the terminal is for the engine, which ends its children.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(WorkerError::Start)?;
        Self::ready(Place::Child(child), ours).await
    }

    /// Loads `library` into this process, and has it work in a thread that holds `place` to its end.
    pub(crate) async fn start_inline(
        library: &Path,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, WorkerError> {
        let (ours, theirs) = StdStream::pair().map_err(WorkerError::Start)?;
        let library = library.to_owned();
        let thread = std::thread::Builder::new().name("inline plugin".to_owned());
        let converse = move || {
            // What goes wrong with the socket, the other side sees.
            _ = child::converse(&library, theirs, false);
            drop(place);
        };
        thread.spawn(converse).map_err(WorkerError::Start)?;
        Self::ready(Place::Engine, ours).await
    }

    async fn ready(place: Place, ours: StdStream) -> Result<Self, WorkerError> {
        ours.set_nonblocking(true).map_err(WorkerError::Start)?;
        let socket = UnixStream::from_std(ours).map_err(WorkerError::Start)?;
        let (name, version) = (String::new(), String::new());
        let mut worker = Self { place, socket, name, version };
        match worker.hear().await?.0 {
            Say::Ready { name, version } => {
                worker.name = name;
                worker.version = version;
                Ok(worker)
            }
            Say::Unusable { reason } => Err(WorkerError::Unusable { reason }),
            _ => Err(nonsense()),
        }
    }

    pub(crate) async fn ask(&mut self, ask: &impl Serialize) -> Result<(), WorkerError> {
        let json = serde_json::to_vec(ask).map_err(|it| WorkerError::Nonsense(it.into()))?;
        let bytes = [header(&json, &[]).map_err(WorkerError::Nonsense)?.as_slice(), &json].concat();
        match self.socket.write_all(&bytes).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ended().await),
        }
    }

    /// Asks it to stop. If it is gone already, it has.
    pub(crate) async fn cancel(&mut self) {
        _ = self.ask(&Ask::Cancel).await;
    }

    /// What it says next, and what is attached.
    pub(crate) async fn hear(&mut self) -> Result<(Say, Vec<u8>), WorkerError> {
        let mut start = [0; 8];
        if self.socket.read_exact(&mut start).await.is_err() {
            return Err(self.ended().await);
        }
        let (json, blob) = lengths(start).map_err(WorkerError::Nonsense)?;
        let text = self.bytes(json).await?;
        let blob = self.bytes(blob).await?;
        let say = serde_json::from_slice(&text).map_err(|it| WorkerError::Nonsense(it.into()))?;
        Ok((say, blob))
    }

    /// Reads `length` bytes, taking memory as they come.
    async fn bytes(&mut self, length: u32) -> Result<Vec<u8>, WorkerError> {
        let mut bytes = Vec::new();
        let read = (&mut self.socket).take(length.into()).read_to_end(&mut bytes).await;
        if read.is_err() || bytes.len() != length as usize {
            return Err(self.ended().await);
        }
        Ok(bytes)
    }

    /// Whether a fault of the plugin stays with it.
    pub(crate) const fn is_child(&self) -> bool {
        matches!(self.place, Place::Child(_))
    }

    async fn ended(&mut self) -> WorkerError {
        let Place::Child(child) = &mut self.place else {
            return WorkerError::Ended { how: "its thread is gone".to_owned() };
        };
        if let Some(group) = group(child) {
            // What it started is ended before its number may be another's.
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            let is_running = || matches!(waitid(WaitId::Pid(group), look), Ok(None));
            let begin = std::time::Instant::now();
            while is_running() && begin.elapsed() < END_WAIT {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            if is_running() {
                return WorkerError::Ended { how: "its socket was closed".to_owned() };
            }
            _ = kill_process_group(group, Signal::KILL);
        }
        let wait = tokio::time::timeout(END_WAIT, child.wait());
        let how = match wait.await {
            Ok(Ok(status)) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (_, Some(signal)) => format!("signal {signal}"),
                _ => "nobody knows how".to_owned(),
            },
            _ => "its socket was closed".to_owned(),
        };
        WorkerError::Ended { how }
    }
}

pub(crate) fn nonsense() -> WorkerError {
    WorkerError::Nonsense(io::ErrorKind::InvalidData.into())
}
