//! Plugins on disk: shared libraries, and folders that hold a program. Finds them, computes their
//! digest, and copies them to a store under the name of that digest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Extension of a plugin that is a folder: `count-series.plugin`.
const FOLDER_EXTENSION: &str = "plugin";

/// Extension of a plugin that is a shared library.
const LIBRARY_EXTENSION: &str = "so";

/// The file in a plugin's folder that names the command to start.
const PROGRAM_FILE: &str = "plugin.json";

/// A folder of compiled files that the Python interpreter leaves behind; no part of a plugin.
const PYTHON_CACHE: &str = "__pycache__";

/// Upper bound of the files of a plugin's folder together, in bytes.
const FOLDER_BYTES_MAX: u64 = 1 << 30;

/// The content of `plugin.json`: how a plugin that is a folder is started.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Program {
    /// The program and its arguments. It is started in the folder of the plugin.
    pub(crate) command: Vec<String>,
}

impl Program {
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(folder.join(PROGRAM_FILE))?;
        serde_json::from_str(&text).map_err(io::Error::other)
    }
}

/// A plugin that was copied to the store from which it is loaded.
pub(crate) struct Package {
    /// The library or folder it was copied from.
    pub(crate) source: PathBuf,
    /// SHA-256 over all its bytes, in hex: see [`digest_of`].
    pub(crate) digest: String,
    /// The library or folder in the store.
    pub(crate) copy: PathBuf,
}

impl Package {
    /// Copies a plugin to the store, under the name of its digest.
    // A library that is overwritten while a process maps it takes that process down, so none is
    // loaded from where a person installs it.
    pub(crate) fn copy(source: &Path, store: &Path) -> io::Result<Self> {
        let files = read_files(source)?;
        let digest = digest(&files);
        let copy = path_in_store(store, &digest, source.is_dir());
        if !copy.exists() {
            let partial = store.join(format!("{digest}.{}.part", Uuid::now_v7()));
            if source.is_dir() {
                for file in &files {
                    let path = partial.join(&file.name);
                    fs::create_dir_all(path.parent().unwrap_or(&partial))?;
                    fs::write(path, &file.bytes)?;
                }
            } else if let Some(file) = files.first() {
                fs::write(&partial, &file.bytes)?;
            }
            match fs::rename(&partial, &copy) {
                // Another process has copied the same plugin at the same time.
                Err(_) if copy.exists() => {}
                other => other?,
            }
        }
        Ok(Self { source: source.to_owned(), digest, copy })
    }
}

/// Path of the plugin of this digest in the store.
pub(crate) fn stored(store: &Path, digest: &str) -> PathBuf {
    let folder = path_in_store(store, digest, true);
    if folder.exists() { folder } else { path_in_store(store, digest, false) }
}

fn path_in_store(store: &Path, digest: &str, is_folder: bool) -> PathBuf {
    let extension = if is_folder { FOLDER_EXTENSION } else { LIBRARY_EXTENSION };
    store.join(format!("{digest}.{extension}"))
}

/// Finds the plugins in a folder, sorted by name: libraries, and folders with a `plugin.json`.
///
/// # Errors
///
/// Fails if the folder cannot be read.
pub fn plugins_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?;
    let mut plugins: Vec<PathBuf> = entries.flatten().map(|it| it.path()).collect();
    plugins.retain(|path| {
        let extension = path.extension().unwrap_or_default();
        extension == LIBRARY_EXTENSION && path.is_file()
            || extension == FOLDER_EXTENSION && path.join(PROGRAM_FILE).is_file()
    });
    plugins.sort();
    Ok(plugins)
}

/// Summarises the state of a file, or of all files of a folder, by length and modification time,
/// without reading them. A different stamp means that something has changed.
pub(crate) fn stamp(path: &Path) -> String {
    let mut stamp = String::new();
    let mut paths = vec![path.to_owned()];
    while let Some(path) = paths.pop() {
        let metadata = fs::metadata(&path).and_then(|it| Ok((it.len(), it.modified()?)));
        stamp = format!("{stamp}{} {metadata:?}\n", path.display());
        if path.is_dir() && !path.ends_with(PYTHON_CACHE) {
            paths.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|it| it.path()));
        }
    }
    stamp
}

/// A file of a plugin.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct PackageFile {
    /// Path within the plugin's folder; empty for a library.
    name: PathBuf,
    bytes: Vec<u8>,
}

/// SHA-256 of a plugin, in hex: of the bytes of a library, or of all names and bytes of a folder.
///
/// # Errors
///
/// Fails if a file cannot be read, or if a folder is too large.
pub(crate) fn digest_of(source: &Path) -> io::Result<String> {
    Ok(digest(&read_files(source)?))
}

/// Reads the files of a plugin, in the order of their names.
fn read_files(source: &Path) -> io::Result<Vec<PackageFile>> {
    if !source.is_dir() {
        return Ok(vec![PackageFile { name: PathBuf::new(), bytes: fs::read(source)? }]);
    }
    let mut files = Vec::new();
    let mut bytes_total = 0;
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with(PYTHON_CACHE) {
                folders.push(path);
            } else if path.is_file() {
                bytes_total += fs::metadata(&path)?.len();
                if bytes_total > FOLDER_BYTES_MAX {
                    return Err(io::Error::other("the folder of the plugin is too large"));
                }
                let name = path.strip_prefix(source).map_err(io::Error::other)?.to_owned();
                files.push(PackageFile { name, bytes: fs::read(path)? });
            }
        }
    }
    files.sort();
    Ok(files)
}

fn digest(files: &[PackageFile]) -> String {
    if let [file] = files
        && file.name.as_os_str().is_empty()
    {
        return hex::encode(Sha256::digest(&file.bytes));
    }
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(file.name.as_os_str().as_encoded_bytes());
        hasher.update([0]);
        hasher.update(Sha256::digest(&file.bytes));
    }
    hex::encode(hasher.finalize())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A folder of its own for a test, with a plugin `p.plugin` in it.
    pub(crate) struct Scratch(pub(crate) PathBuf);

    impl Scratch {
        pub(crate) fn new() -> Self {
            let folder = std::env::temp_dir().join(format!("isocenter-{}", Uuid::now_v7()));
            fs::create_dir_all(folder.join("p.plugin/lib")).unwrap();
            fs::write(folder.join("p.plugin/plugin.json"), r#"{"command": ["x", "y"]}"#).unwrap();
            fs::write(folder.join("p.plugin/lib/main.py"), "pass").unwrap();
            Self(folder)
        }

        pub(crate) fn plugin(&self) -> PathBuf {
            self.0.join("p.plugin")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn only_libraries_and_folders_with_a_command_are_plugins() {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.0.join("empty.plugin")).unwrap();
        fs::create_dir_all(scratch.0.join("folder.so")).unwrap();
        for name in ["a.so", "notes.txt", "so"] {
            fs::write(scratch.0.join(name), "x").unwrap();
        }
        let names: Vec<String> = plugins_in(&scratch.0)
            .unwrap()
            .iter()
            .map(|it| it.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["a.so", "p.plugin"]);
    }

    #[test]
    fn the_digest_covers_every_name_and_byte_but_what_an_interpreter_leaves_behind() {
        let scratch = Scratch::new();
        let first = digest_of(&scratch.plugin()).unwrap();
        fs::create_dir_all(scratch.plugin().join("__pycache__")).unwrap();
        fs::write(scratch.plugin().join("__pycache__/main.pyc"), "x").unwrap();
        assert_eq!(digest_of(&scratch.plugin()).unwrap(), first);
        fs::rename(scratch.plugin().join("lib/main.py"), scratch.plugin().join("main.py")).unwrap();
        let renamed = digest_of(&scratch.plugin()).unwrap();
        assert_ne!(renamed, first);
        fs::write(scratch.plugin().join("main.py"), "pasS").unwrap();
        assert_ne!(digest_of(&scratch.plugin()).unwrap(), renamed);
    }

    #[test]
    fn the_digest_of_a_library_is_that_of_its_bytes() {
        let scratch = Scratch::new();
        let library = scratch.0.join("a.so");
        fs::write(&library, "abc").unwrap();
        // FIPS 180-2, B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest_of(&library).unwrap(), expected);
    }

    #[test]
    fn a_copy_stays_as_it_was_when_the_plugin_is_replaced() {
        let scratch = Scratch::new();
        let store = scratch.0.join("store");
        fs::create_dir_all(&store).unwrap();
        let first = Package::copy(&scratch.plugin(), &store).unwrap();
        fs::write(scratch.plugin().join("lib/main.py"), "changed").unwrap();
        let second = Package::copy(&scratch.plugin(), &store).unwrap();
        assert_ne!(first.copy, second.copy);
        assert_eq!(fs::read(first.copy.join("lib/main.py")).unwrap(), b"pass");
        assert_eq!(stored(&store, &first.digest), first.copy);
        // A second copy of the same plugin is the first one, and nothing partial is left.
        let third = Package::copy(&scratch.plugin(), &store).unwrap();
        assert_eq!(third.copy, second.copy);
        assert_eq!(fs::read_dir(&store).unwrap().count(), 2);
    }

    #[test]
    fn a_stored_library_is_found_by_its_digest() {
        let scratch = Scratch::new();
        let library = scratch.0.join("a.so");
        fs::write(&library, "abc").unwrap();
        let package = Package::copy(&library, &scratch.0).unwrap();
        assert!(package.copy.ends_with(format!("{}.so", package.digest)));
        assert_eq!(stored(&scratch.0, &package.digest), package.copy);
    }

    #[test]
    fn a_changed_or_new_file_changes_the_stamp() {
        let scratch = Scratch::new();
        let first = stamp(&scratch.plugin());
        assert_eq!(stamp(&scratch.plugin()), first);
        fs::write(scratch.plugin().join("lib/main.py"), "longer than before").unwrap();
        let second = stamp(&scratch.plugin());
        assert_ne!(second, first);
        assert_ne!(stamp(&scratch.0.join("absent")), stamp(&scratch.plugin()));
        fs::write(scratch.plugin().join("new.py"), "").unwrap();
        assert_ne!(stamp(&scratch.plugin()), second);
    }

    #[test]
    fn a_program_file_names_a_command_and_nothing_else() {
        let scratch = Scratch::new();
        assert_eq!(Program::read(&scratch.plugin()).unwrap().command, ["x", "y"]);
        let path = scratch.plugin().join(PROGRAM_FILE);
        for wrong in ["", "{}", r#"{"command": "x"}"#, r#"{"command": ["x"], "user": "root"}"#] {
            fs::write(&path, wrong).unwrap();
            assert!(Program::read(&scratch.plugin()).is_err(), "{wrong}");
        }
    }
}
