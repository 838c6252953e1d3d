//! The workspace as cargo sees it: where it lies, which of its packages are plugins, and where what
//! was built from them is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{cargo, output_of, root};

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into)
}

/// The engine's program, as built with a profile whose folder is `profile`.
pub(crate) fn program(profile: &str) -> PathBuf {
    target_folder().join(profile).join("isocenter")
}

/// The packages below `plugins/`, sorted. Each is a folder with a manifest, named as its package.
pub(crate) fn plugin_packages() -> Result<Vec<String>, String> {
    let folder = root().join("plugins");
    let unreadable = |error: io::Error| format!("cannot list {}: {error}", folder.display());
    let mut packages = Vec::new();
    for entry in fs::read_dir(&folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.path().join("Cargo.toml").is_file() {
            packages.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    packages.sort();
    if packages.is_empty() {
        return Err(format!("{} holds no plugin", folder.display()));
    }
    Ok(packages)
}

/// Empties `folder`, and copies into it the library of every plugin of the workspace, as the last
/// build with this profile left it.
pub(crate) fn fill_plugin_folder(folder: &Path, profile: &Path) -> Result<(), String> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .map_err(|error| format!("cannot empty {}: {error}", folder.display()))?;
    }
    fs::create_dir_all(folder)
        .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    for package in plugin_packages()? {
        let library = format!("lib{}.so", package.replace('-', "_"));
        let built = target_folder().join(profile).join(&library);
        fs::copy(&built, folder.join(&library))
            .map_err(|error| format!("cannot copy {}: {error}", built.display()))?;
    }
    Ok(())
}

/// The number of crates that the engine and its plugins consist of, theirs and ours.
pub(crate) fn crates_to_build() -> Result<usize, String> {
    let mut tree = cargo(&["tree", "--edges", "normal,build", "--prefix", "none", "--quiet"]);
    tree.args(["--format", "{p}", "--package", "server"]);
    for package in plugin_packages()? {
        tree.args(["--package", &package]);
    }
    let text = output_of(&mut tree)?;
    let mut crates: Vec<&str> = text.lines().map(|it| it.trim_end_matches(" (*)")).collect();
    crates.sort_unstable();
    crates.dedup();
    Ok(crates.iter().filter(|it| !it.is_empty()).count())
}
