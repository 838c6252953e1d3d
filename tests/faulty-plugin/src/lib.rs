//! A plugin that does wrong what it is told to do wrong.
#![expect(unsafe_code, clippy::panic, reason = "being wrong is what this plugin is for")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use domain::{NodeInput, NodeOutput};
use plugin_api::abi::v1::{Buffer, Bytes, HostTable, PluginTable, Status};
use plugin_api::{Context, NodeError, Plugin, cancel, check, describe, process, table};
use serde::Deserialize;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fault {
    Panic,
    Segfault,
    Hang,
    Leak,
    Garbage,
    Slow,
    Fork,
    Huge,
    Look,
    Ask,
}

/// What a workflow sets under `with:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    fault: Fault,
    /// What to look at, for `look`.
    #[serde(default)]
    paths: Vec<PathBuf>,
    /// What to ask the model, for `ask`, as JSON.
    #[serde(default)]
    question: String,
}

/// What this process can get at that is not its own, one line for each.
fn look(paths: &[PathBuf]) -> String {
    let parent = std::os::unix::process::parent_id();
    let mut lines = vec![format!("process {}", std::process::id())];
    let mut tell = |what: &str, could: bool| {
        lines.push(format!("{what}: {}", if could { "could" } else { "could not" }));
    };
    tell("internet", std::net::UdpSocket::bind("127.0.0.1:0").is_ok());
    tell("socket pair", std::os::unix::net::UnixStream::pair().is_ok());
    tell("named socket", std::os::unix::net::UnixDatagram::unbound().is_ok());
    // Signal 0 reaches for the engine and does nothing to it.
    let kill = std::process::Command::new("/bin/kill").args(["-0", &parent.to_string()]).status();
    tell("engine", kill.is_ok_and(|it| it.success()));
    let limits =
        std::process::Command::new("prlimit").args(["--pid", &parent.to_string()]).output();
    tell("limits", limits.is_ok_and(|it| it.status.success()));
    for path in paths {
        let rights = std::fs::metadata(path).map(|it| it.permissions());
        let set = rights.and_then(|it| std::fs::set_permissions(path, it));
        tell("rights", set.is_ok());
        tell("read", std::fs::read_dir(path).is_ok() || std::fs::read(path).is_ok());
        tell("write", std::fs::write(path.join("written"), "x").is_ok());
    }
    lines.join("\n")
}

/// The plugin.
pub struct Faulty;

impl Plugin for Faulty {
    const NAME: &'static str = "faulty";
    const VERSION: &'static str = "1.0.0";
    type Settings = Settings;

    fn process(
        context: &Context<'_>,
        settings: &Settings,
        _: NodeInput,
    ) -> Result<NodeOutput, NodeError> {
        match settings.fault {
            Fault::Panic => panic!("as I was told"),
            // SAFETY: there is none: this is the crash that was asked for.
            Fault::Segfault => unsafe { std::ptr::null_mut::<u8>().write_volatile(1) },
            Fault::Hang => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            Fault::Leak => {
                let mut kept: Vec<Vec<u8>> = Vec::new();
                loop {
                    kept.push(vec![1; 64 << 20]);
                }
            }
            Fault::Slow => {
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_secs(3) && !context.is_cancelled() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            Fault::Fork => {
                let mut child = std::process::Command::new("sleep");
                if child.arg("86399").spawn().is_err() {
                    return Err(NodeError::Unavailable("nothing can be started".to_owned()));
                }
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
            Fault::Huge => {
                let text = "x".repeat(80 << 20);
                let title = domain::Code::new("x", "99X", "x");
                let sections = vec![domain::Section { title, text }];
                return Ok(NodeOutput { sections, ..NodeOutput::default() });
            }
            Fault::Look => {
                let title = domain::Code::new("x", "99X", "x");
                let sections = vec![domain::Section { title, text: look(&settings.paths) }];
                return Ok(NodeOutput { sections, ..NodeOutput::default() });
            }
            Fault::Ask => {
                let answer = context.infer(settings.question.as_bytes());
                let answer = answer.map_err(|it| NodeError::Unavailable(it.to_string()))?;
                let title = domain::Code::new("x", "99X", "x");
                let text = String::from_utf8_lossy(&answer).into_owned();
                let sections = vec![domain::Section { title, text }];
                return Ok(NodeOutput { sections, ..NodeOutput::default() });
            }
            Fault::Garbage => {}
        }
        Ok(NodeOutput::default())
    }
}

/// Answers nonsense if it was told to, and else works as others do.
unsafe extern "C" fn process_or_babble(
    host: *const HostTable,
    request: Bytes,
    response: *mut Buffer,
) -> Status {
    // SAFETY: the caller lends the request for this call.
    let text = String::from_utf8_lossy(unsafe { request.as_slice() });
    if text.contains("\"garbage\"") {
        // SAFETY: the caller gives room for one buffer.
        unsafe { response.write(Buffer::from(b"\xff{ this is no output".to_vec())) };
        return Status::OK;
    }
    // SAFETY: the arguments are the caller's own.
    unsafe { process::<Faulty>(host, request, response) }
}

/// The table of this plugin.
// SAFETY: no other library of a process has a function of this name.
#[unsafe(no_mangle)]
pub extern "C" fn isocenter_plugin_v1() -> *const PluginTable {
    static TABLE: PluginTable =
        table(describe::<Faulty>, check::<Faulty>, process_or_babble, cancel);
    &raw const TABLE
}
