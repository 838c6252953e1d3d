//! Memory of this machine, as it says itself.

/// Bytes of memory; nothing, if the machine does not say.
pub fn total() -> Option<u64> {
    said("MemTotal:")
}

/// Bytes that can be had without anything else having to go.
pub fn available() -> Option<u64> {
    said("MemAvailable:")
}

fn said(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|it| it.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}
