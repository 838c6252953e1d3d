//! Finds the programs of PostgreSQL: `initdb` and `postgres`, of version 15 or newer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Oldest PostgreSQL the engine works with.
const MAJOR_MIN: u32 = 15;

/// Where the programs of PostgreSQL lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// The folder with `initdb` and `postgres`.
    pub folder: PathBuf,
    /// Their major version.
    pub major: u32,
}

/// Looks for PostgreSQL: only in the folder that was specified, or else in `PGBIN`, where Debian
/// puts it (the newest first), and in `PATH`.
pub fn find_binaries(folder: Option<&Path>) -> Option<Binaries> {
    if let Some(folder) = folder {
        return inspect(folder.to_owned());
    }
    let mut folders: Vec<PathBuf> = env::var_os("PGBIN").map(PathBuf::from).into_iter().collect();
    let mut packaged: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|it| Some((it.file_name().to_str()?.parse().ok()?, it.path().join("bin"))))
        .collect();
    packaged.sort();
    folders.extend(packaged.into_iter().rev().map(|(_, folder)| folder));
    folders.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    folders.into_iter().find_map(inspect)
}

fn inspect(folder: PathBuf) -> Option<Binaries> {
    if !folder.join("initdb").exists() {
        return None;
    }
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version =
        text.split_whitespace().find(|it| it.starts_with(|c: char| c.is_ascii_digit()))?;
    let major = version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    (major >= MAJOR_MIN).then_some(Binaries { folder, major })
}
