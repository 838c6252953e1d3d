//! Memory of this machine and of this process, as the system says it.

/// Bytes of memory; nothing, if the machine does not say.
pub fn total() -> Option<u64> {
    said("/proc/meminfo", "MemTotal:")
}

/// Bytes that can be had without anything else having to go: of the machine, and of the container that this is
/// in, if it is in one.
pub fn available() -> Option<u64> {
    let machine = said("/proc/meminfo", "MemAvailable:");
    [machine, container()].into_iter().flatten().min()
}

/// Bytes that a container's limit leaves (cgroup v2).
fn container() -> Option<u64> {
    let number = |name: &str| {
        let text = std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

/// Bytes that this process has in memory.
pub fn resident() -> Option<u64> {
    said("/proc/self/status", "VmRSS:")
}

fn said(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|it| it.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}
