//! Process trees from `/proc`, and signals to their members.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process and its parent, from `/proc/ID/stat`.
struct Process {
    id: i32,
    parent: i32,
}

fn all_processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|it| it.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: i32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name of the process is in parentheses and may contain any character, so the state
        // and the parent are what follows the last parenthesis.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some(Process { id, parent })
    })
    .collect()
}

fn children(parent: i32) -> Vec<i32> {
    all_processes().into_iter().filter(|it| it.parent == parent).map(|it| it.id).collect()
}

/// The plugin hosts of an engine: the children that run plugins.
pub(crate) fn plugin_hosts(engine: i32) -> Vec<i32> {
    let is_host = |id: &i32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.split(|it| *it == 0).nth(1) == Some(b"plugin-host")
    };
    children(engine).into_iter().filter(is_host).collect()
}

/// A process and its direct children.
pub(crate) fn family(id: i32) -> Vec<i32> {
    [vec![id], children(id)].concat()
}

/// Sends a signal to each process that still exists.
pub(crate) fn signal(ids: &[i32], signal: Signal) {
    for id in ids.iter().filter_map(|it| Pid::from_raw(*it)) {
        // The process may have ended.
        _ = kill_process(id, signal);
    }
}
