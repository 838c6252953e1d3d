//! What a child process does: confines itself, loads one library, and works for the engine.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::{ArtifactRef, ErrorChain, NodeInput, SopInstanceUid};
use plugin_api::Request;
use plugin_api::abi::v1::Status;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::library::{Fault, HostServices, Plugin};
use crate::package::Program;
use crate::protocol::{Ask, JSON_BYTES_MAX, Say, read_frame, write_frame};
use crate::sandbox;

/// How often whoever waits for the model looks up whether the run was cancelled.
const LOOK_UP: Duration = Duration::from_millis(50);

/// Serves the engine over the socket that is standard input, until the engine closes it. Of the
/// engine's files it can read those below `archive`.
///
/// # Errors
///
/// Fails if the socket does: the engine is gone; or if the process cannot be confined.
pub fn run(library: &Path, archive: &Path, memory_bytes_max: u64) -> io::Result<()> {
    sandbox::confine(library, archive, memory_bytes_max)?;
    if library.is_dir() {
        return Err(become_program(library));
    }
    let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    converse(library, UnixStream::from(socket), true)
}

/// Loads `library` and serves the engine over `socket`, until the engine closes it. `is_alone` says
/// that the process is for this conversation only, so that the library may be told to stop.
///
/// # Errors
///
/// Fails if the socket does: the engine is gone.
pub(crate) fn converse(library: &Path, socket: UnixStream, is_alone: bool) -> io::Result<()> {
    let mut reader = socket;
    let writer = Arc::new(Mutex::new(reader.try_clone()?));
    let loaded = Plugin::load(library).and_then(|it| Ok((it, it.describe()?)));
    let (plugin, description) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            let reason = ErrorChain(&error).to_string();
            return say(&writer, &Say::Unusable { reason }, &[]);
        }
    };
    let (name, version) = (description.name, description.version);
    say(&writer, &Say::Ready { name, version }, &[])?;
    serve(plugin, &mut reader, &writer, is_alone)
}

/// Starts the program of a plugin in place of this one. It inherits the socket and the limits, and
/// gets an environment with nothing in it of the engine's.
fn become_program(folder: &Path) -> io::Error {
    let program = match Program::read(folder) {
        Ok(program) => program,
        Err(error) => return error,
    };
    let Some((name, arguments)) = program.command.split_first() else {
        return io::Error::other("plugin.json names no command");
    };
    Command::new(name)
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        // It may write no file, so it must not try.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .exec()
}

/// One thread listens, so that a cancellation is heard while the other works.
fn serve(
    plugin: Plugin,
    reader: &mut UnixStream,
    writer: &Arc<Mutex<UnixStream>>,
    is_alone: bool,
) -> io::Result<()> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = sync_channel::<Ask>(1);
    // One place more than questions at once: an answer that came too late lies there unread.
    let (inferred, answered) = sync_channel::<Inferred>(2);
    let (heard, answers) = (Arc::clone(&cancelled), Arc::clone(writer));
    let worker = std::thread::Builder::new().stack_size(16 << 20).spawn(move || {
        while let Ok(ask) = receiver.recv() {
            heard.store(false, Ordering::Relaxed);
            work(plugin, ask, &heard, &answers, &answered)?;
        }
        Ok(())
    })?;
    loop {
        match read_frame::<Ask>(reader) {
            Ok(Ask::Cancel) => {
                cancelled.store(true, Ordering::Relaxed);
                if is_alone {
                    plugin.cancel();
                }
            }
            Ok(Ask::Inferred { status, body }) => {
                if inferred.send((status, body)).is_err() {
                    break;
                }
            }
            Ok(ask) => {
                if sender.send(ask).is_err() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    drop((sender, inferred));
    worker.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

fn work(
    plugin: Plugin,
    ask: Ask,
    cancelled: &Arc<AtomicBool>,
    writer: &Arc<Mutex<UnixStream>>,
    answered: &Receiver<Inferred>,
) -> io::Result<()> {
    match ask {
        Ask::Cancel | Ask::Inferred { .. } => Ok(()),
        Ask::Check { settings } => {
            let problem = plugin.check(settings.to_string().as_bytes());
            say(writer, &Say::Checked { problem }, &[])
        }
        Ask::Process { settings, input, files } => {
            let services = Services::new(&input, files, cancelled, (writer, answered));
            let (status, body) = process(plugin, settings, *input, &services);
            // Half of what a frame takes: as JSON a text grows.
            let is_too_long = body.len() > (JSON_BYTES_MAX / 2) as usize;
            let (status, body) = if is_too_long {
                (Status::UNAVAILABLE, b"the plugin's answer is too long".to_vec())
            } else {
                (status, body)
            };
            let body = String::from_utf8_lossy(&body).into_owned();
            say(writer, &Say::Done { status: status.0, body }, &[])
        }
    }
}

fn process(
    plugin: Plugin,
    settings: Value,
    input: NodeInput,
    services: &Services<'_>,
) -> (Status, Vec<u8>) {
    match serde_json::to_vec(&Request { settings, input }) {
        Ok(request) => plugin.process(services, &request),
        Err(error) => (Status::UNAVAILABLE, error.to_string().into_bytes()),
    }
}

fn say(writer: &Mutex<UnixStream>, what: &Say, blob: &[u8]) -> io::Result<()> {
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    write_frame(&mut *writer, what, blob)?;
    writer.flush()
}

/// What the model answered: a status of the contract, and answer or reason.
type Inferred = (u32, String);

/// Geometry of a volume, as JSON, and its values.
type Decoded = (Vec<u8>, Vec<f32>);

/// What was read for a call, kept until it ends.
struct Services<'a> {
    series: BTreeMap<String, Vec<SopInstanceUid>>,
    files: BTreeMap<String, (PathBuf, OnceCell<Vec<u8>>)>,
    volumes: BTreeMap<String, OnceCell<Decoded>>,
    cancelled: &'a AtomicBool,
    writer: &'a Mutex<UnixStream>,
    answered: &'a Receiver<Inferred>,
    kept: RefCell<u64>,
}

impl<'a> Services<'a> {
    fn new(
        input: &NodeInput,
        files: BTreeMap<SopInstanceUid, PathBuf>,
        cancelled: &'a AtomicBool,
        (writer, answered): (&'a Mutex<UnixStream>, &'a Receiver<Inferred>),
    ) -> Self {
        let all = input.study.iter().flat_map(|it| &it.series);
        let series: BTreeMap<String, Vec<SopInstanceUid>> = all
            .map(|it| {
                let instances = it.instances.iter().map(|it| it.instance.clone());
                (it.series.to_string(), instances.collect())
            })
            .collect();
        let volumes = series.keys().map(|it| (it.clone(), OnceCell::new())).collect();
        let file = |(uid, path): (SopInstanceUid, _)| (uid.to_string(), (path, OnceCell::new()));
        let files = files.into_iter().map(file).collect();
        Self { series, files, volumes, cancelled, writer, answered, kept: RefCell::new(0) }
    }

    fn stacked(&self, series: &str) -> Result<Decoded, Fault> {
        let rejected =
            |error: &dyn std::error::Error| Fault::Rejected(ErrorChain(error).to_string());
        let instances = self.series.get(series);
        let instances = instances.ok_or_else(|| Fault::Rejected("no such series".to_owned()))?;
        let mut slices = Vec::new();
        for instance in instances {
            let path = self.files.get(instance.as_str()).map(|it| &it.0);
            let path = path.ok_or_else(|| Fault::Rejected("no such instance".to_owned()))?;
            slices.push(imaging::slice::read(path).map_err(|error| rejected(&error))?);
        }
        let volume = imaging::volume::stack(slices).map_err(|error| rejected(&error))?;
        let geometry = serde_json::to_vec(&volume.geometry)
            .map_err(|error| Fault::Unavailable(error.to_string()))?;
        Ok((geometry, volume.values))
    }
}

impl HostServices for Services<'_> {
    fn log(&self, level: u32, message: &str) {
        let message: String = message.chars().take(4096).collect();
        // If the engine is gone, so is whoever could read it.
        _ = say(self.writer, &Say::Log { level, message }, &[]);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn instance(&self, uid: &str) -> Result<&[u8], Fault> {
        let (path, content) =
            self.files.get(uid).ok_or_else(|| Fault::Rejected("no such instance".to_owned()))?;
        if content.get().is_none() {
            let read = std::fs::read(path);
            let read = read.map_err(|error| Fault::Unavailable(error.to_string()))?;
            return Ok(content.get_or_init(|| read));
        }
        Ok(content.get().map(Vec::as_slice).unwrap_or_default())
    }

    fn volume(&self, series: &str) -> Result<(&[u8], &[f32]), Fault> {
        let cell = self.volumes.get(series);
        let cell = cell.ok_or_else(|| Fault::Rejected("no such series".to_owned()))?;
        if let Some((geometry, values)) = cell.get() {
            return Ok((geometry, values));
        }
        let volume = self.stacked(series)?;
        let (geometry, values) = cell.get_or_init(|| volume);
        Ok((geometry, values))
    }

    fn put_artifact(&self, content: &[u8]) -> Result<Vec<u8>, Fault> {
        let length = content.len() as u64;
        *self.kept.borrow_mut() += length;
        let sha256 = hex::encode(Sha256::digest(content));
        say(self.writer, &Say::Artifact, content)
            .map_err(|error| Fault::Unavailable(error.to_string()))?;
        let reference = ArtifactRef { sha256, bytes: length };
        serde_json::to_vec(&reference).map_err(|error| Fault::Unavailable(error.to_string()))
    }

    fn infer(&self, request: &[u8]) -> Result<Vec<u8>, Fault> {
        // What a question that was cancelled left behind is no answer to this one.
        while self.answered.try_recv().is_ok() {}
        say(self.writer, &Say::Infer, request)
            .map_err(|error| Fault::Unavailable(error.to_string()))?;
        loop {
            match self.answered.recv_timeout(LOOK_UP) {
                Ok((status, body)) if Status(status) == Status::OK => return Ok(body.into_bytes()),
                Ok((status, reason)) if Status(status) == Status::REJECTED => {
                    return Err(Fault::Rejected(reason));
                }
                Ok((_, reason)) => return Err(Fault::Unavailable(reason)),
                Err(RecvTimeoutError::Timeout) if self.is_cancelled() => {
                    return Err(Fault::Unavailable("the run was cancelled".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Fault::Unavailable("the engine is gone".to_owned()));
                }
            }
        }
    }
}
