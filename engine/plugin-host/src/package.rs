//! Plugins as they lie on a disk: shared libraries, and folders with a program of their own. Finds
//! them, checks who signed them, and copies them under the name of their digest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// What a folder of a plugin is named after: `count-series.plugin`.
const FOLDER: &str = "plugin";

/// The file in it that says what to start.
const PROGRAM_FILE: &str = "plugin.json";

/// Most bytes of a plugin that is a folder.
const FOLDER_BYTES_MAX: u64 = 1 << 30;

/// Whose plugins are loaded.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Everybody's. For trials and for building.
    Anyone,
    /// Those signed with one of `keys`.
    Signed {
        /// Of the site, and of makers it names.
        keys: Vec<VerifyingKey>,
        /// Names of plugins that are trusted with the engine's own process. A crash of theirs is one
        /// of the engine.
        inline: Vec<String>,
        /// Where signatures lie that could not be written beside their plugins.
        signatures: PathBuf,
    },
}

impl Trust {
    /// Whether a plugin of this name may work in the engine's own process.
    pub(crate) fn is_inline(&self, plugin: &str) -> bool {
        matches!(self, Self::Signed { inline, .. } if inline.iter().any(|it| it == plugin))
    }

    /// Changes whenever a signature that lies apart is made.
    pub(crate) fn stamp(&self) -> String {
        match self {
            Self::Anyone => String::new(),
            Self::Signed { signatures, .. } => stamp(signatures),
        }
    }
}

/// What a signature of a plugin is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the plugin.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the library, or of all files of the folder, in hex.
    pub sha256: String,
}

/// A signature, in a file beside the plugin.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Signed {
    manifest: Manifest,
    key: String,
    signature: String,
}

/// How a plugin that is a program of its own is started (`plugin.json`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Program {
    /// The program and its arguments; it runs in the folder of the plugin.
    pub(crate) command: Vec<String>,
}

impl Program {
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(folder.join(PROGRAM_FILE))?;
        serde_json::from_str(&text).map_err(io::Error::other)
    }
}

/// A plugin that was copied to where it is loaded from.
pub(crate) struct Package {
    pub(crate) source: PathBuf,
    pub(crate) digest: String,
    pub(crate) copy: PathBuf,
}

impl Package {
    /// Copies a plugin under the name of its digest: one that is overwritten while it is mapped would
    /// take its process down.
    pub(crate) fn copied(source: &Path, store: &Path) -> io::Result<Self> {
        let files = files(source)?;
        let digest = digest(&files);
        let copy = place(store, &digest, source.is_dir());
        if !copy.exists() {
            let fresh = store.join(format!("{digest}.{}.part", Uuid::now_v7()));
            if source.is_dir() {
                for (name, bytes) in &files {
                    let path = fresh.join(name);
                    fs::create_dir_all(path.parent().unwrap_or(&fresh))?;
                    fs::write(path, bytes)?;
                }
            } else if let Some((_, bytes)) = files.first() {
                fs::write(&fresh, bytes)?;
            }
            match fs::rename(&fresh, &copy) {
                // Somebody else was faster.
                Err(_) if copy.exists() => {}
                other => other?,
            }
        }
        Ok(Self { source: source.to_owned(), digest, copy })
    }

    /// Who vouches for it, if somebody trusted does.
    pub(crate) fn vouched(&self, trust: &Trust) -> Result<Option<Manifest>, String> {
        let Trust::Signed { keys, signatures, .. } = trust else { return Ok(None) };
        let beside = signature_path(&self.source);
        let apart = apart(signatures, &self.digest);
        let path = if apart.exists() { apart } else { beside };
        let text = fs::read_to_string(&path).map_err(|_| {
            "it is not signed: isocenter plugin sign, or start with --allow-unsigned".to_owned()
        })?;
        let broken = |what: &str| format!("`{}`: {what}", path.display());
        let signed: Signed = serde_json::from_str(&text).map_err(|it| broken(&it.to_string()))?;
        let key = keys.iter().find(|it| hex::encode(it.to_bytes()) == signed.key);
        let key = key.ok_or_else(|| {
            broken(
                "signed with a key that this site does not trust: isocenter plugin sign, or name \
                 the key under `plugin_keys`",
            )
        })?;
        let bytes = hex::decode(&signed.signature).unwrap_or_default();
        let signature = Signature::from_slice(&bytes).map_err(|_| broken("no signature"))?;
        key.verify_strict(&message(&signed.manifest), &signature)
            .map_err(|_| broken("the signature does not hold"))?;
        if signed.manifest.sha256 != self.digest {
            return Err(broken(
                "the plugin was changed since it was signed: isocenter plugin sign",
            ));
        }
        Ok(Some(signed.manifest))
    }
}

/// Where a plugin of this digest lies in the store.
pub(crate) fn stored(store: &Path, digest: &str) -> PathBuf {
    let folder = place(store, digest, true);
    if folder.exists() { folder } else { place(store, digest, false) }
}

fn place(store: &Path, digest: &str, is_folder: bool) -> PathBuf {
    store.join(format!("{digest}.{}", if is_folder { FOLDER } else { "so" }))
}

/// The plugins in a folder, sorted by name: libraries, and folders with a `plugin.json`.
///
/// # Errors
///
/// Fails if the folder cannot be read.
pub fn plugins_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|it| it.path()).collect();
    found.retain(|it| {
        let extension = it.extension().unwrap_or_default();
        extension == "so" && it.is_file() || extension == FOLDER && it.join(PROGRAM_FILE).is_file()
    });
    found.sort();
    Ok(found)
}

/// Signs a plugin, in a file beside it, or in `signatures` if its folder is not ours to write to.
/// Gives where.
///
/// # Errors
///
/// Fails if the plugin cannot be read or the file not be written.
pub fn sign(
    source: &Path,
    (name, version): (&str, &str),
    key: &SigningKey,
    signatures: &Path,
) -> io::Result<PathBuf> {
    let sha256 = digest(&files(source)?);
    let elsewhere = apart(signatures, &sha256);
    let manifest = Manifest { name: name.to_owned(), version: version.to_owned(), sha256 };
    let signature = hex::encode(key.sign(&message(&manifest)).to_bytes());
    let key = hex::encode(key.verifying_key().to_bytes());
    let path = signature_path(source);
    let text = serde_json::to_string_pretty(&Signed { manifest, key, signature })? + "\n";
    match fs::write(&path, &text) {
        Err(error) if is_not_ours(&error) => {
            fs::create_dir_all(signatures)?;
            fs::write(&elsewhere, text)?;
            Ok(elsewhere)
        }
        written => written.map(|()| path),
    }
}

fn is_not_ours(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// The place of a signature that does not lie beside its plugin.
fn apart(signatures: &Path, digest: &str) -> PathBuf {
    signatures.join(format!("{digest}.signed.json"))
}

fn signature_path(source: &Path) -> PathBuf {
    let mut name = source.file_name().unwrap_or_default().to_owned();
    name.push(".signed.json");
    source.with_file_name(name)
}

/// What is signed: the same words in the same order for everybody.
fn message(manifest: &Manifest) -> Vec<u8> {
    let Manifest { name, version, sha256 } = manifest;
    format!("isocenter-plugin/v1\n{name}\n{version}\n{sha256}\n").into_bytes()
}

/// Changes whenever a file of a plugin or its signature does, without reading them.
pub(crate) fn stamp(source: &Path) -> String {
    let mut stamp = String::new();
    let mut paths = vec![source.to_owned(), signature_path(source)];
    while let Some(path) = paths.pop() {
        let about = fs::metadata(&path).and_then(|it| Ok((it.len(), it.modified()?)));
        stamp = format!("{stamp}{} {about:?}\n", path.display());
        if path.is_dir() && !path.ends_with("__pycache__") {
            paths.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|it| it.path()));
        }
    }
    stamp
}

/// The files of a plugin with their names: one without a name for a library.
fn files(source: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    if !source.is_dir() {
        return Ok(vec![(PathBuf::new(), fs::read(source)?)]);
    }
    let mut files = Vec::new();
    let (mut folders, mut bytes) = (vec![source.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            // What an interpreter leaves behind is no part of it.
            if path.is_dir() && !path.ends_with("__pycache__") {
                folders.push(path);
            } else if path.is_file() {
                bytes += fs::metadata(&path)?.len();
                if bytes > FOLDER_BYTES_MAX {
                    return Err(io::Error::other("the folder of the plugin is too large"));
                }
                let name = path.strip_prefix(source).map_err(io::Error::other)?.to_owned();
                files.push((name, fs::read(path)?));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Of a library: that of its bytes. Of a folder: that of all names and bytes.
fn digest(files: &[(PathBuf, Vec<u8>)]) -> String {
    if let [(name, bytes)] = files
        && name.as_os_str().is_empty()
    {
        return hex::encode(Sha256::digest(bytes));
    }
    let mut hasher = Sha256::new();
    for (name, bytes) in files {
        hasher.update(name.as_os_str().as_encoded_bytes());
        hasher.update([0]);
        hasher.update(Sha256::digest(bytes));
    }
    hex::encode(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("isocenter-package-{}", Uuid::now_v7()));
        fs::create_dir_all(folder.join("p.plugin")).unwrap();
        fs::write(folder.join("p.plugin/plugin.json"), "{\"command\": [\"x\"]}").unwrap();
        fs::write(folder.join("p.plugin/main.py"), "pass").unwrap();
        folder
    }

    #[test]
    fn a_plugin_is_vouched_for_only_as_it_was_signed_and_by_whom_the_site_trusts() {
        let folder = scratch();
        let source = folder.join("p.plugin");
        let [ours, theirs] = [[1; 32], [2; 32]].map(|it| SigningKey::from_bytes(&it));
        let trust = Trust::Signed {
            keys: vec![ours.verifying_key()],
            inline: Vec::new(),
            signatures: folder.join("apart"),
        };
        let copied = || Package::copied(&source, &folder).unwrap();
        assert!(copied().vouched(&trust).unwrap_err().contains("not signed"));
        sign(&source, ("p", "1"), &theirs, &folder).unwrap();
        assert!(copied().vouched(&trust).unwrap_err().contains("does not trust"));
        sign(&source, ("p", "1"), &ours, &folder).unwrap();
        assert_eq!(copied().vouched(&trust).unwrap().unwrap().name, "p");
        fs::write(source.join("main.py"), "pass # changed").unwrap();
        assert!(copied().vouched(&trust).unwrap_err().contains("changed since"));
        let path = signature_path(&source);
        let forged = fs::read_to_string(&path).unwrap().replace("\"p\"", "\"q\"");
        fs::write(path, forged).unwrap();
        assert!(copied().vouched(&trust).unwrap_err().contains("does not hold"));
        fs::remove_dir_all(folder).unwrap();
    }
}
