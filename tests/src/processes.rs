//! Processes of others: whose children they are, and how they are stopped.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process, as the kernel tells of it.
struct Process {
    id: i32,
    parent: i32,
}

fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|it| it.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: i32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // Its name stands in brackets and may hold anything: state and parent follow the last one.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some(Process { id, parent })
    })
    .collect()
}

/// The children of a process.
fn children(parent: i32) -> Vec<i32> {
    all().into_iter().filter(|it| it.parent == parent).map(|it| it.id).collect()
}

/// The children of an engine that run plugins.
pub(crate) fn plugin_hosts(engine: i32) -> Vec<i32> {
    let is_host = |id: &i32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.split(|it| *it == 0).nth(1) == Some(b"plugin-host")
    };
    children(engine).into_iter().filter(is_host).collect()
}

/// A process and its children.
pub(crate) fn family(id: i32) -> Vec<i32> {
    [vec![id], children(id)].concat()
}

/// Sends a signal to those that are still there.
pub(crate) fn signal(ids: &[i32], signal: Signal) {
    for id in ids.iter().filter_map(|it| Pid::from_raw(*it)) {
        // It may have ended meanwhile.
        _ = kill_process(id, signal);
    }
}
