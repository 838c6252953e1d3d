//! Signatures of plugins: who has signed exactly these bytes, and whether the site trusts that key.
//!
//! A signature is a file `NAME.signed.json` beside the plugin, or in the site's folder of
//! signatures. It holds a manifest (name, version, SHA-256), an Ed25519 public key, and the
//! signature of the manifest by that key. Every outcome of a verification but success is a variant
//! of [`VerificationError`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::package::{Package, digest_of, stamp};

/// Which plugins a site loads.
#[derive(Clone, Debug)]
pub enum Trust {
    /// All plugins, signed or not. For trials and development.
    Anyone,
    /// Plugins that are signed with a trusted key.
    Signed {
        /// The trusted keys: the site's own, and those of makers it names.
        keys: Vec<VerifyingKey>,
        /// Names of plugins that work in a thread of the engine. A crash of such a plugin is a
        /// crash of the engine.
        inline: Vec<String>,
        /// Folder of the signatures that could not be written beside their plugins.
        signatures: PathBuf,
    },
}

impl Trust {
    /// Whether a plugin of this name works in a thread of the engine.
    pub(crate) fn is_inline(&self, plugin: &str) -> bool {
        matches!(self, Self::Signed { inline, .. } if inline.iter().any(|it| it == plugin))
    }

    /// State of the folder of signatures, which changes with each signature that is written there.
    pub(crate) fn stamp(&self) -> String {
        match self {
            Self::Anyone => String::new(),
            Self::Signed { signatures, .. } => stamp(signatures),
        }
    }
}

/// The statement that a signature is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the plugin.
    pub name: String,
    /// Version of the plugin.
    pub version: String,
    /// SHA-256 of the library, or of all files of the folder, in hex.
    pub sha256: String,
}

impl Manifest {
    /// The bytes that are signed.
    fn message(&self) -> Vec<u8> {
        let Self { name, version, sha256 } = self;
        format!("isocenter-plugin/v1\n{name}\n{version}\n{sha256}\n").into_bytes()
    }
}

/// The content of a signature file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SignedManifest {
    manifest: Manifest,
    /// The public key, in hex.
    key: String,
    /// The Ed25519 signature, in hex.
    signature: String,
}

/// Why the signature of a plugin does not satisfy the site's trust.
#[derive(Debug, thiserror::Error)]
pub enum VerificationError {
    /// There is no signature file.
    #[error("it is not signed: isocenter plugin sign, or start with --allow-unsigned")]
    Unsigned,
    /// The signature file cannot be read: whether the plugin is signed is not known.
    #[error("`{}`: the signature cannot be read", path.display())]
    Unreadable {
        /// The signature file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The signature file cannot be parsed.
    #[error("`{}` is no signature: {reason}", path.display())]
    Malformed {
        /// The signature file.
        path: PathBuf,
        /// The problem with its content.
        reason: String,
    },
    /// The signature is by a key that the site does not trust.
    #[error(
        "`{}`: signed with a key that this site does not trust: isocenter plugin sign, or name the \
         key under `plugin_keys`",
        path.display()
    )]
    Untrusted {
        /// The signature file.
        path: PathBuf,
    },
    /// The signature is not one of its manifest by its key: the file was tampered with.
    #[error("`{}`: the signature is not valid for its manifest", path.display())]
    InvalidSignature {
        /// The signature file.
        path: PathBuf,
    },
    /// The signature is valid for other bytes than those of the plugin: the plugin was changed.
    #[error("`{}`: the plugin was changed since it was signed: isocenter plugin sign", path.display())]
    Tampered {
        /// The signature file.
        path: PathBuf,
    },
}

impl Package {
    /// Verifies the signature of the plugin's bytes. Returns the signed manifest, or nothing if the
    /// site loads unsigned plugins.
    pub(crate) fn verify(&self, trust: &Trust) -> Result<Option<Manifest>, VerificationError> {
        let Trust::Signed { keys, signatures, .. } = trust else { return Ok(None) };
        let in_folder = read_signature(path_in_folder(signatures, &self.digest))?;
        let found = match in_folder {
            Some(found) => Some(found),
            None => read_signature(signature_path(&self.source))?,
        };
        let SignatureFile { path, text } = found.ok_or(VerificationError::Unsigned)?;
        let signed: SignedManifest = serde_json::from_str(&text).map_err(|error| {
            VerificationError::Malformed { path: path.clone(), reason: error.to_string() }
        })?;
        let Some(key) = keys.iter().find(|it| hex::encode(it.to_bytes()) == signed.key) else {
            return Err(VerificationError::Untrusted { path });
        };
        let bytes = hex::decode(&signed.signature).unwrap_or_default();
        let Ok(signature) = Signature::from_slice(&bytes) else {
            let reason = "`signature` is not 64 bytes in hex".to_owned();
            return Err(VerificationError::Malformed { path, reason });
        };
        if key.verify_strict(&signed.manifest.message(), &signature).is_err() {
            return Err(VerificationError::InvalidSignature { path });
        }
        if signed.manifest.sha256 != self.digest {
            return Err(VerificationError::Tampered { path });
        }
        Ok(Some(signed.manifest))
    }
}

/// A signature file as it was read.
struct SignatureFile {
    path: PathBuf,
    text: String,
}

/// Reads a signature file. Nothing, if there is none: a file that cannot be read is not one that is
/// missing.
fn read_signature(path: PathBuf) -> Result<Option<SignatureFile>, VerificationError> {
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(SignatureFile { path, text })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(VerificationError::Malformed { path, reason: error.to_string() })
        }
        Err(source) => Err(VerificationError::Unreadable { path, source }),
    }
}

/// Signs a plugin, as the plugin of this name and version. Writes the signature beside the plugin,
/// or to `signatures` if the plugin's folder cannot be written to, and returns its path.
///
/// # Errors
///
/// Fails if the plugin cannot be read, or if the signature cannot be written.
pub fn sign(
    source: &Path,
    name: &str,
    version: &str,
    key: &SigningKey,
    signatures: &Path,
) -> io::Result<PathBuf> {
    let sha256 = digest_of(source)?;
    let in_folder = path_in_folder(signatures, &sha256);
    let manifest = Manifest { name: name.to_owned(), version: version.to_owned(), sha256 };
    let signed = SignedManifest {
        signature: hex::encode(key.sign(&manifest.message()).to_bytes()),
        key: hex::encode(key.verifying_key().to_bytes()),
        manifest,
    };
    let text = serde_json::to_string_pretty(&signed)? + "\n";
    let beside = signature_path(source);
    match fs::write(&beside, &text) {
        Err(error) if is_not_writable(&error) => {
            fs::create_dir_all(signatures)?;
            fs::write(&in_folder, text)?;
            Ok(in_folder)
        }
        written => written.map(|()| beside),
    }
}

fn is_not_writable(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Path of a signature in the site's folder of signatures.
fn path_in_folder(signatures: &Path, digest: &str) -> PathBuf {
    signatures.join(format!("{digest}.signed.json"))
}

/// State of a plugin and of the signature beside it: see [`stamp`].
pub(crate) fn signed_stamp(source: &Path) -> String {
    stamp(source) + &stamp(&signature_path(source))
}

/// Path of a signature beside its plugin.
fn signature_path(source: &Path) -> PathBuf {
    let mut name = source.file_name().unwrap_or_default().to_owned();
    name.push(".signed.json");
    source.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::tests::Scratch;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    /// A site that trusts the key of seed 1.
    fn trust(scratch: &Scratch) -> Trust {
        Trust::Signed {
            keys: vec![key(1).verifying_key()],
            inline: vec!["inline".to_owned()],
            signatures: scratch.0.join("signatures"),
        }
    }

    fn sign_with(scratch: &Scratch, seed: u8) -> PathBuf {
        sign(&scratch.plugin(), "p", "1", &key(seed), &scratch.0.join("signatures")).unwrap()
    }

    fn verify(scratch: &Scratch) -> Result<Option<Manifest>, VerificationError> {
        Package::copy(&scratch.plugin(), &scratch.0).unwrap().verify(&trust(scratch))
    }

    #[test]
    fn a_plugin_without_a_signature_is_loaded_only_where_anyone_is_trusted() {
        let scratch = Scratch::new();
        assert!(matches!(verify(&scratch), Err(VerificationError::Unsigned)));
        let package = Package::copy(&scratch.plugin(), &scratch.0).unwrap();
        assert_eq!(package.verify(&Trust::Anyone).unwrap(), None);
    }

    #[test]
    fn sec_31_a_signature_that_cannot_be_read_is_not_told_as_missing() {
        let scratch = Scratch::new();
        // A folder can be opened and not be read as a file, even by root.
        fs::create_dir(signature_path(&scratch.plugin())).unwrap();
        let error = verify(&scratch).unwrap_err();
        assert!(matches!(error, VerificationError::Unreadable { .. }), "{error}");
        assert!(!error.to_string().contains("not signed"), "{error}");
    }

    #[test]
    fn a_trusted_signature_gives_the_signed_manifest() {
        let scratch = Scratch::new();
        let path = sign_with(&scratch, 1);
        assert_eq!(path, signature_path(&scratch.plugin()));
        let manifest = verify(&scratch).unwrap().unwrap();
        assert_eq!((manifest.name.as_str(), manifest.version.as_str()), ("p", "1"));
    }

    #[test]
    fn a_signature_by_another_key_is_untrusted() {
        let scratch = Scratch::new();
        sign_with(&scratch, 2);
        assert!(matches!(verify(&scratch), Err(VerificationError::Untrusted { .. })));
    }

    #[test]
    fn a_plugin_that_was_changed_is_tampered() {
        let scratch = Scratch::new();
        sign_with(&scratch, 1);
        fs::write(scratch.plugin().join("lib/main.py"), "pass # changed").unwrap();
        assert!(matches!(verify(&scratch), Err(VerificationError::Tampered { .. })));
    }

    #[test]
    fn a_manifest_that_was_changed_invalidates_its_signature() {
        let scratch = Scratch::new();
        let path = sign_with(&scratch, 1);
        let forged = fs::read_to_string(&path).unwrap().replace("\"p\"", "\"q\"");
        fs::write(path, forged).unwrap();
        assert!(matches!(verify(&scratch), Err(VerificationError::InvalidSignature { .. })));
    }

    #[test]
    fn a_manifest_of_another_plugin_cannot_be_given_a_trusted_key() {
        let scratch = Scratch::new();
        let path = sign_with(&scratch, 2);
        let forged = fs::read_to_string(&path).unwrap().replace(
            &hex::encode(key(2).verifying_key().to_bytes()),
            &hex::encode(key(1).verifying_key().to_bytes()),
        );
        fs::write(path, forged).unwrap();
        assert!(matches!(verify(&scratch), Err(VerificationError::InvalidSignature { .. })));
    }

    #[test]
    fn a_signature_file_of_something_else_is_malformed() {
        let scratch = Scratch::new();
        let path = sign_with(&scratch, 1);
        let text = fs::read_to_string(&path).unwrap();
        let mut short: SignedManifest = serde_json::from_str(&text).unwrap();
        short.signature.truncate(20);
        for wrong in ["{}".to_owned(), serde_json::to_string(&short).unwrap()] {
            fs::write(&path, &wrong).unwrap();
            let outcome = verify(&scratch);
            assert!(matches!(outcome, Err(VerificationError::Malformed { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_signature_in_the_sites_folder_comes_before_one_beside_the_plugin() {
        let scratch = Scratch::new();
        let beside = sign_with(&scratch, 1);
        let folder = scratch.0.join("signatures");
        fs::create_dir_all(&folder).unwrap();
        let digest = digest_of(&scratch.plugin()).unwrap();
        fs::rename(beside, path_in_folder(&folder, &digest)).unwrap();
        sign_with(&scratch, 2);
        assert_eq!(verify(&scratch).unwrap().unwrap().name, "p");
    }

    #[test]
    fn a_new_signature_changes_the_stamp_of_its_plugin() {
        let scratch = Scratch::new();
        let unsigned = signed_stamp(&scratch.plugin());
        sign_with(&scratch, 1);
        assert_ne!(signed_stamp(&scratch.plugin()), unsigned);
    }

    #[test]
    fn only_a_signed_plugin_can_be_inline() {
        let scratch = Scratch::new();
        assert!(trust(&scratch).is_inline("inline") && !trust(&scratch).is_inline("p"));
        assert!(!Trust::Anyone.is_inline("inline"));
    }
}
