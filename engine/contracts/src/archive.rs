use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use domain::ArtifactRef;
use encoding::file_meta::FileMeta;

/// A file that is being received. It is not part of the archive yet. Dropping it gives it up.
#[async_trait]
pub trait Incoming: Send {
    /// Takes the next bytes of the data set. Waits if the disk is behind.
    ///
    /// # Errors
    ///
    /// Fails if the disk does, or is full.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Ends the data set.
    ///
    /// # Errors
    ///
    /// Fails if the disk does, or is full.
    async fn finish(self: Box<Self>) -> io::Result<Quarantined>;
}

/// A file that has been received and not been looked at. Dropping it removes it.
#[derive(Debug)]
pub struct Quarantined {
    /// Where it lies.
    pub path: PathBuf,
    /// How many bytes come before the data set.
    pub meta_bytes: u64,
    /// Length of the data set.
    pub bytes: u64,
    /// SHA-256 of the data set, in hex.
    pub sha256: String,
    /// The first bytes of the data set, so that what most headers say need not be read again.
    pub head: Vec<u8>,
}

impl Drop for Quarantined {
    fn drop(&mut self) {
        // Once it is in the archive there is nothing left to remove.
        _ = std::fs::remove_file(&self.path);
    }
}

/// Something that can be removed, by its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removable<'a> {
    /// An instance.
    Instance(&'a str),
    /// What a plugin made.
    Artifact(&'a str),
}

/// Where bytes lie, by their content.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Begins to receive a data set.
    fn begin(&self, meta: &FileMeta<'_>) -> Box<dyn Incoming>;

    /// Takes a file over. Once it returns, the file would survive a loss of power.
    ///
    /// # Errors
    ///
    /// Fails if the disk does, or is full.
    async fn keep(&self, file: Quarantined) -> io::Result<()>;

    /// The folder with the files of all instances.
    fn instances(&self) -> &Path;

    /// Where the file with this data set lies.
    fn path_of(&self, sha256: &str) -> PathBuf;

    /// Whether the file with this data set is there and unchanged: reads all of it (DIN-33).
    ///
    /// # Errors
    ///
    /// Fails if the disk does.
    async fn is_intact(&self, sha256: &str) -> io::Result<bool>;

    /// Removes an instance or an artifact for good. False if it is not there, or somebody has kept
    /// it again within the last hour.
    ///
    /// # Errors
    ///
    /// Fails if the disk does.
    async fn remove(&self, file: Removable<'_>) -> io::Result<bool>;

    /// Keeps what a plugin made. Durable once it returns.
    ///
    /// # Errors
    ///
    /// Fails if the disk does, or is full.
    async fn keep_artifact(&self, bytes: Vec<u8>) -> io::Result<ArtifactRef>;

    /// Reads what a plugin made, and checks that it is unchanged.
    ///
    /// # Errors
    ///
    /// Fails if it is not there, or not what it was.
    async fn artifact(&self, artifact: &ArtifactRef) -> io::Result<Vec<u8>>;
}
