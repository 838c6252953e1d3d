//! A plugin whose settings choose the fault it shows.
#![expect(unsafe_code, clippy::panic, reason = "faults are the purpose of this plugin")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{Algorithm, NodeInput, NodeOutput, Region};
use plugin_api::abi::v1::{Buffer, Bytes, HostTable, PluginTable, Status};
use plugin_api::{Context, NodeError, Plugin, cancel, check, describe, process, table};
use serde::Deserialize;

/// The faults, by the names that a workflow uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fault {
    Panic,
    Segfault,
    /// Sleeps without end.
    Hang,
    /// Allocates memory without end.
    Leak,
    /// Answers with bytes that are no output.
    Garbage,
    /// Works for three seconds, or until cancelled.
    Slow,
    /// Starts a child process that outlives the call.
    Fork,
    /// Returns an output that is larger than allowed.
    Huge,
    /// Tries the confinement: reports what the process can reach.
    Look,
    /// Tries to read images that are not those of the call, and to change those that are.
    Peek,
    /// Returns the answer of the model to a question from the settings.
    Ask,
    /// Points at every image without having decoded any.
    Point,
}

/// The settings of a node, `with:` in a workflow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    fault: Fault,
    /// Paths that `look` and `peek` try.
    #[serde(default)]
    paths: Vec<PathBuf>,
    /// The question of `ask`, as JSON.
    #[serde(default)]
    question: String,
    /// Columns and rows of the images that `point` points at.
    #[serde(default)]
    size: [u32; 2],
}

/// A region on every image of the study.
fn point(input: &NodeInput, size: [u32; 2]) -> Vec<Region> {
    let series = input.study.iter().flat_map(|it| &it.series);
    let images =
        series.flat_map(|it| it.instances.iter().map(move |image| (it.series.clone(), image)));
    images
        .map(|(series, image)| Region {
            label: "something".to_owned(),
            series,
            instance: image.instance.clone(),
            sop_class: image.sop_class.clone(),
            size,
            corners: [1, 1, 9, 9],
            algorithm: Algorithm {
                name: Faulty::NAME.to_owned(),
                version: Faulty::VERSION.to_owned(),
                parameters: BTreeMap::new(),
            },
        })
        .collect()
}

/// Tries to reach resources outside of the confinement. Returns a line for each attempt.
fn look(paths: &[PathBuf]) -> String {
    let parent = std::os::unix::process::parent_id();
    let mut lines = vec![format!("process {}", std::process::id())];
    let mut report = |what: &str, has_succeeded: bool| {
        lines.push(format!("{what}: {}", if has_succeeded { "could" } else { "could not" }));
    };
    report("internet", std::net::UdpSocket::bind("127.0.0.1:0").is_ok());
    report("socket pair", std::os::unix::net::UnixStream::pair().is_ok());
    report("named socket", std::os::unix::net::UnixDatagram::unbound().is_ok());
    // Signal 0 checks whether a signal could be sent to the engine, without sending one.
    let kill = std::process::Command::new("/bin/kill").args(["-0", &parent.to_string()]).status();
    report("engine", kill.is_ok_and(|it| it.success()));
    let limits =
        std::process::Command::new("prlimit").args(["--pid", &parent.to_string()]).output();
    report("limits", limits.is_ok_and(|it| it.status.success()));
    for path in paths {
        let permissions = fs::metadata(path).map(|it| it.permissions());
        let set = permissions.and_then(|it| fs::set_permissions(path, it));
        report("rights", set.is_ok());
        report("read", fs::read_dir(path).is_ok() || fs::read(path).is_ok());
        report("write", fs::write(path.join("written"), "x").is_ok());
    }
    lines.join("\n")
}

/// Paths that the calls before this one in this process could see.
static EARLIER: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The folder with the input of this process, as its command line names it.
fn input_folder() -> PathBuf {
    let line = fs::read("/proc/self/cmdline").unwrap_or_default();
    let mut words = line.split(|it| *it == 0).skip_while(|it| *it != b"--inputs").skip(1);
    PathBuf::from(OsStr::from_bytes(words.next().unwrap_or_default()))
}

fn can_read(path: &Path) -> bool {
    fs::read_dir(path).is_ok() || fs::read(path).is_ok()
}

/// Whether anything about a file can be changed.
fn can_change(path: &Path) -> bool {
    let beside = path.with_extension("changed");
    let now = std::time::SystemTime::now();
    let rights = fs::metadata(path).map(|it| it.permissions());
    [
        fs::write(path, "x"),
        File::options().append(true).open(path).map(drop),
        rights.and_then(|it| fs::set_permissions(path, it)),
        File::open(path).and_then(|it| it.set_modified(now)),
        fs::hard_link(path, &beside),
        fs::rename(path, &beside),
        fs::remove_file(path),
    ]
    .iter()
    .any(Result::is_ok)
}

/// Tries to reach images of others. Returns a line for each attempt.
fn peek(context: &Context<'_>, input: &NodeInput, paths: &[PathBuf]) -> String {
    let could = |it: bool| if it { "could" } else { "could not" };
    let series = input.study.iter().flat_map(|it| &it.series);
    let instances = series.flat_map(|it| &it.instances);
    let own: Vec<&[u8]> =
        instances.filter_map(|it| context.read_instance(&it.instance).ok()).collect();
    let folder = input_folder();
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let visible: Vec<PathBuf> = entries.map(|it| it.path()).collect();
    let is_own = |path: &PathBuf| fs::read(path).is_ok_and(|it| own.contains(&it.as_slice()));
    let foreign = visible.iter().filter(|it| !is_own(it)).count();
    let mut earlier = EARLIER.lock().unwrap_or_else(PoisonError::into_inner);
    let again = earlier.iter().any(|it| can_read(it));
    let before = earlier.len();
    earlier.clone_from(&visible);
    let changed = visible.iter().any(|it| can_change(it));
    let mut lines = vec![
        format!("own {}, visible {}, foreign {foreign}", own.len(), visible.len()),
        format!("of {before} before: {}", could(again)),
        format!("change: {}", could(changed)),
        format!("siblings: {}", could(folder.parent().is_none_or(can_read))),
        format!("processes: {}", could(can_read(Path::new("/proc")))),
    ];
    let engine = format!("/proc/{}", std::os::unix::process::parent_id());
    let engine = ["cmdline", "environ", "maps"].map(|it| Path::new(&engine).join(it));
    lines.push(format!("engine: {}", could(engine.iter().any(|it| can_read(it)))));
    lines.extend(paths.iter().map(|it| format!("path: {}", could(can_read(it)))));
    lines.join("\n")
}

/// The plugin `faulty`.
pub struct Faulty;

impl Plugin for Faulty {
    const NAME: &'static str = "faulty";
    const VERSION: &'static str = "1.0.0";
    type Settings = Settings;

    fn process(
        context: &Context<'_>,
        settings: &Settings,
        input: NodeInput,
    ) -> Result<NodeOutput, NodeError> {
        match settings.fault {
            Fault::Panic => panic!("as I was told"),
            // SAFETY: the write is unsound on purpose; this is the crash that the settings request.
            Fault::Segfault => unsafe { std::ptr::null_mut::<u8>().write_volatile(1) },
            Fault::Hang => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            Fault::Leak => {
                let mut leaked: Vec<Vec<u8>> = Vec::new();
                loop {
                    leaked.push(vec![1; 64 << 20]);
                }
            }
            Fault::Slow => {
                let start = Instant::now();
                while start.elapsed() < Duration::from_secs(3) && !context.is_cancelled() {
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
            Fault::Peek => {
                let title = domain::Code::new("x", "99X", "x");
                let text = peek(context, &input, &settings.paths);
                let sections = vec![domain::Section { title, text }];
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
            Fault::Point => {
                let regions = point(&input, settings.size);
                return Ok(NodeOutput { regions, ..NodeOutput::default() });
            }
            Fault::Garbage => {}
        }
        Ok(NodeOutput::default())
    }
}

/// Responds with bytes that are no output if the fault is `garbage`, and otherwise processes the
/// request as every plugin does.
unsafe extern "C" fn process_or_garbage(
    host: *const HostTable,
    request: Bytes,
    response: *mut Buffer,
) -> Status {
    // SAFETY: the caller lends the request for this call.
    let text = String::from_utf8_lossy(unsafe { request.as_slice() });
    if text.contains("\"garbage\"") {
        // SAFETY: the caller provides space for one buffer.
        unsafe { response.write(Buffer::from(b"\xff{ this is no output".to_vec())) };
        return Status::OK;
    }
    // SAFETY: the arguments are those of the caller.
    unsafe { process::<Faulty>(host, request, response) }
}

/// The table of this plugin.
// SAFETY: no other library of a process has a function of this name.
#[unsafe(no_mangle)]
pub extern "C" fn isocenter_plugin_v1() -> *const PluginTable {
    static TABLE: PluginTable =
        table(describe::<Faulty>, check::<Faulty>, process_or_garbage, cancel);
    &raw const TABLE
}
