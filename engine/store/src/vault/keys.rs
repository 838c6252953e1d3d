//! The keys of a site, as files outside of its database: one that signs the trail, one that
//! encrypts the keys of patients, and one that signs trusted plugins (AUD-02, AUD-06).

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, lchown};
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

/// The keys of a site, as files outside of its database (AUD-02, AUD-06).
pub struct Keys {
    folder: PathBuf,
    trail: SigningKey,
    pub(crate) payload: [u8; 32],
}

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file cannot be read or written.
    #[error("cannot use the key file `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A file does not hold a key.
    #[error("`{}` does not hold a key of 32 bytes in hex", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

impl Keys {
    /// Opens the keys in `folder`, and makes those that are missing.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read, written or understood. Nothing is overwritten.
    pub fn open(folder: &Path) -> Result<Self, KeysError> {
        fs::create_dir_all(folder)
            .map_err(|source| KeysError::Io { path: folder.to_owned(), source })?;
        let trail = SigningKey::from_bytes(&open_key(&folder.join("trail.key"))?);
        let public = hex::encode(trail.verifying_key().to_bytes());
        let path = folder.join("trail.pub");
        fs::write(&path, format!("{public}\n")).map_err(|source| KeysError::Io { path, source })?;
        let payload = open_key(&folder.join("payload.key"))?;
        hand_over(folder)?;
        Ok(Self { folder: folder.to_owned(), trail, payload })
    }

    /// Where the keys lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Signs for the trail.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.trail.sign(bytes).to_bytes()
    }

    /// What the trail's signatures are checked with.
    pub fn trail_public(&self) -> VerifyingKey {
        self.trail.verifying_key()
    }
}

/// The key with which a site signs the plugins it trusts; made if it is missing. Its public half
/// lies beside it, as `plugins.pub`.
///
/// # Errors
///
/// Fails if a file cannot be read, written or understood. Nothing is overwritten.
pub fn plugin_key(folder: &Path) -> Result<SigningKey, KeysError> {
    fs::create_dir_all(folder)
        .map_err(|source| KeysError::Io { path: folder.to_owned(), source })?;
    let key = SigningKey::from_bytes(&open_key(&folder.join("plugins.key"))?);
    let public = hex::encode(key.verifying_key().to_bytes());
    let path = folder.join("plugins.pub");
    fs::write(&path, format!("{public}\n")).map_err(|source| KeysError::Io { path, source })?;
    hand_over(folder)?;
    Ok(key)
}

/// Gives keys that root has made to the owner of the data folder: the engine has to read them.
fn hand_over(folder: &Path) -> Result<(), KeysError> {
    let io = |source| KeysError::Io { path: folder.to_owned(), source };
    let data = fs::metadata(folder.parent().unwrap_or(folder)).map_err(io)?;
    if !rustix::process::geteuid().is_root() || data.uid() == 0 {
        return Ok(());
    }
    let inside = fs::read_dir(folder).map_err(io)?.flatten().map(|it| it.path());
    for path in inside.chain([folder.to_owned()]) {
        // A temporary file may be gone again.
        if fs::symlink_metadata(&path).is_ok_and(|it| is_given_away(&it)) {
            lchown(&path, Some(data.uid()), Some(data.gid())).map_err(io)?;
        }
    }
    Ok(())
}

/// Whether root's file or folder may be given to another user. Not a link, nor a file with a second
/// name: either could be a file that is not ours to give.
fn is_given_away(metadata: &fs::Metadata) -> bool {
    metadata.uid() == 0 && (metadata.is_dir() || (metadata.is_file() && metadata.nlink() == 1))
}

/// Reads a secret of 32 bytes, or makes one that only its owner can read.
pub(crate) fn open_key(path: &Path) -> Result<[u8; 32], KeysError> {
    let io = |source| KeysError::Io { path: path.to_owned(), source };
    if !path.exists() {
        make_key(path).map_err(io)?;
    }
    let text = fs::read_to_string(path).map_err(io)?;
    let bytes = hex::decode(text.trim()).ok().and_then(|it| it.try_into().ok());
    bytes.ok_or_else(|| KeysError::NotAKey { path: path.to_owned() })
}

/// Makes a key. Its file is complete whenever it exists, and is flushed to disk before anything is
/// encrypted with it. If another process makes one at the same moment, the first one stays.
fn make_key(path: &Path) -> std::io::Result<()> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| std::io::Error::other(error.to_string()))?;
    let fresh = path.with_extension(format!("new.{}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(hex::encode(key).as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&fresh, path);
    fs::remove_file(&fresh)?;
    if let Err(error) = linked
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
