//! The plugin's process: confines itself, loads one library, and serves the engine over a socket.
//!
//! The engine starts itself as `isocenter plugin-host LIBRARY` with a socket as standard input.
//! After `sandbox::confine`, the process either becomes the program of a plugin that is a folder,
//! or loads a library and works in two threads: one receives messages, so that a cancellation
//! arrives during a call; the other calls the plugin. An inline plugin is served in the same way by
//! threads of the engine.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use domain::{ErrorChain, NodeInput};
use plugin_api::Request;
use plugin_api::abi::v1::Status;
use serde_json::Value;

use crate::library::{Plugin, Response};
use crate::message_writer::MessageWriter;
use crate::package::Program;
use crate::protocol::{HostMessage, JSON_BYTES_MAX, PluginMessage, read_frame};
use crate::sandbox::{self, Lent};
use crate::services::{ModelResponse, Services};

/// Stack of the thread that calls the plugin, in bytes.
const STACK_BYTES: usize = 16 << 20;

/// Threads of OpenMP in a plugin's process (`OMP_THREAD_LIMIT`). The engine runs plugins side by side:
/// with more threads than processors OpenMP waits in busy loops. Tesseract reads a page in a third of
/// the processor time with one thread.
pub(crate) const OPENMP_THREADS: &str = "1";

/// Upper bound of a plugin's response, in bytes: half of a frame, since a text grows as JSON.
const RESPONSE_BYTES_MAX: usize = (JSON_BYTES_MAX / 2) as usize;

/// Confines this process and serves the engine over the socket that is standard input, until the
/// engine closes the socket. Of the engine's files the process can read those in `lent`. A
/// process that cannot be confined loads nothing, unless `allow_unconfined`, and tells the engine
/// why.
///
/// # Errors
///
/// Fails if the socket fails, as the engine has ended then.
pub fn run(
    library: &Path,
    lent: Lent<'_>,
    memory_bytes_max: u64,
    allow_unconfined: bool,
) -> io::Result<()> {
    let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let confined = if allow_unconfined {
        sandbox::confine_as_far_as_possible(library, lent, memory_bytes_max)
    } else {
        sandbox::confine(library, lent, memory_bytes_max)
    };
    if let Err(error) = confined {
        let reason = format!("its process cannot be confined: {}", ErrorChain(&error));
        let writer = MessageWriter::new(UnixStream::from(socket));
        return writer.send(&PluginMessage::Unusable { reason });
    }
    if library.is_dir() {
        return Err(exec_program(library));
    }
    load_and_serve(library, UnixStream::from(socket), Isolation::OwnProcess)
}

/// Whether a plugin shares its process with the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// The process serves this plugin only.
    OwnProcess,
    /// The plugin works in a thread of the engine. Its flag for cancellation is shared by all
    /// calls, so it is never set.
    Inline,
}

/// Loads `library` and serves the engine over `socket`, until the engine closes the socket.
///
/// # Errors
///
/// Fails if the socket fails, as the engine has ended then.
pub(crate) fn load_and_serve(
    library: &Path,
    socket: UnixStream,
    isolation: Isolation,
) -> io::Result<()> {
    let mut reader = socket;
    let writer = MessageWriter::new(reader.try_clone()?);
    let loaded = Plugin::load(library).and_then(|plugin| Ok((plugin, plugin.describe()?)));
    let (plugin, description) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            let reason = ErrorChain(&error).to_string();
            return writer.send(&PluginMessage::Unusable { reason });
        }
    };
    let name = description.name;
    let version = description.version;
    writer.send(&PluginMessage::Ready { name, version })?;
    serve(plugin, &mut reader, &writer, isolation)
}

/// Replaces this process by the program of a plugin. The program inherits the socket and the
/// limits, and an environment that holds nothing of the engine's. Returns only if that fails.
fn exec_program(folder: &Path) -> io::Error {
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
        .env("OMP_THREAD_LIMIT", OPENMP_THREADS)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        // The sandbox lets it write no file.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .exec()
}

/// Receives messages until the engine closes the socket, and passes requests on to a second thread.
fn serve(
    plugin: Plugin,
    reader: &mut UnixStream,
    writer: &MessageWriter,
    isolation: Isolation,
) -> io::Result<()> {
    let is_cancelled = Arc::new(AtomicBool::new(false));
    let (requests, pending_requests) = sync_channel::<HostMessage>(1);
    // One place more than questions in flight: the answer to a cancelled question stays here
    // unread.
    let (model_responses, pending_responses) = sync_channel::<ModelResponse>(2);
    let worker = {
        let is_cancelled = Arc::clone(&is_cancelled);
        let writer = writer.clone();
        std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            while let Ok(request) = pending_requests.recv() {
                is_cancelled.store(false, Ordering::Relaxed);
                answer_request(plugin, request, &is_cancelled, &writer, &pending_responses)?;
            }
            Ok(())
        })?
    };
    while let Ok(message) = read_frame::<HostMessage>(reader) {
        let is_worker_alive = match message {
            HostMessage::Cancel => {
                is_cancelled.store(true, Ordering::Relaxed);
                if isolation == Isolation::OwnProcess {
                    plugin.cancel();
                }
                true
            }
            HostMessage::Inferred { status, body } => {
                model_responses.send(ModelResponse { status: Status(status), body }).is_ok()
            }
            request @ (HostMessage::Check { .. } | HostMessage::Process { .. }) => {
                requests.send(request).is_ok()
            }
        };
        if !is_worker_alive {
            break;
        }
    }
    // Closed channels end the worker.
    drop((requests, model_responses));
    worker.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

fn answer_request(
    plugin: Plugin,
    request: HostMessage,
    is_cancelled: &AtomicBool,
    writer: &MessageWriter,
    model_responses: &Receiver<ModelResponse>,
) -> io::Result<()> {
    match request {
        HostMessage::Cancel | HostMessage::Inferred { .. } => Ok(()),
        HostMessage::Check { settings } => {
            let problem = plugin.check(settings.to_string().as_bytes());
            writer.send(&PluginMessage::Checked { problem })
        }
        HostMessage::Process { settings, input, files } => {
            let services = Services::new(&input, files, is_cancelled, writer, model_responses);
            let response = process(plugin, settings, *input, &services);
            let body = String::from_utf8_lossy(&response.body).into_owned();
            writer.send(&PluginMessage::Done { status: response.status.0, body })
        }
    }
}

fn process(plugin: Plugin, settings: Value, input: NodeInput, services: &Services<'_>) -> Response {
    let request = match serde_json::to_vec(&Request { settings, input }) {
        Ok(request) => request,
        Err(error) => {
            let body = error.to_string().into_bytes();
            return Response { status: Status::UNAVAILABLE, body };
        }
    };
    let response = plugin.process(services, &request);
    if response.body.len() > RESPONSE_BYTES_MAX {
        let body = b"the plugin's answer is too long".to_vec();
        return Response { status: Status::UNAVAILABLE, body };
    }
    response
}
