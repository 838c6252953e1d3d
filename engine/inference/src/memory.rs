//! Memory of this machine, of the container the process runs in, and of the process itself, as
//! Linux reports it under `/proc` and `/sys/fs/cgroup`.

/// The memory of the machine in bytes; none if it cannot be read.
pub fn total() -> Option<u64> {
    read_kilobytes("/proc/meminfo", "MemTotal:")
}

/// Bytes that can be allocated without swapping: of the machine, and of the container's limit if
/// there is one, whichever is less.
pub fn available() -> Option<u64> {
    let machine = read_kilobytes("/proc/meminfo", "MemAvailable:");
    [machine, container_available()].into_iter().flatten().min()
}

/// Bytes that the limit of the container leaves (cgroup v2).
fn container_available() -> Option<u64> {
    Some(read_cgroup("memory.max")?.saturating_sub(read_cgroup("memory.current")?))
}

fn read_cgroup(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?;
    text.trim().parse().ok()
}

/// Bytes of this process that are in memory (resident set size).
pub fn resident() -> Option<u64> {
    read_kilobytes("/proc/self/status", "VmRSS:")
}

/// Reads a line such as `VmRSS:   1234 kB`, in bytes.
fn read_kilobytes(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|it| it.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}
