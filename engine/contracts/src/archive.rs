//! The archive: files by the SHA-256 of their content.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use domain::ArtifactRef;
use encoding::dicom::file_meta::FileMeta;

/// A file that is being received. It is not part of the archive yet. Dropping it removes it.
#[async_trait]
pub trait Incoming: Send {
    /// Writes the next bytes of the data set. Waits if the disk is behind.
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

/// A file that has been received and not been checked. Dropping it removes it.
#[derive(Debug)]
pub struct Quarantined {
    /// Path of the file.
    pub path: PathBuf,
    /// Bytes before the data set.
    pub meta_bytes: u64,
    /// Length of the data set in bytes.
    pub bytes: u64,
    /// SHA-256 of the data set, in hex.
    pub sha256: String,
    /// The first bytes of the data set: most headers are parsed without reading the file again.
    pub head: Vec<u8>,
}

impl Drop for Quarantined {
    fn drop(&mut self) {
        // Once it is in the archive there is nothing left to remove.
        _ = std::fs::remove_file(&self.path);
    }
}

/// A file that can be removed, by its SHA-256 in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removable<'a> {
    /// An instance.
    Instance(&'a str),
    /// An artifact that a plugin made.
    Artifact(&'a str),
}

/// Stores instances and artifacts by their content.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Begins to receive a data set.
    fn begin(&self, meta: &FileMeta<'_>) -> Box<dyn Incoming>;

    /// Moves a file into the archive. Once it returns, the file survives a loss of power.
    ///
    /// # Errors
    ///
    /// Fails if the disk does, or is full.
    async fn store(&self, file: Quarantined) -> io::Result<()>;

    /// The folder for files that are lent to plugins, on the file system of the instances.
    fn lent(&self) -> &Path;

    /// Path of the file with this data set.
    fn path_of(&self, sha256: &str) -> PathBuf;

    /// Whether the file with this data set is there and unchanged: reads all of it (DIN-33).
    ///
    /// # Errors
    ///
    /// Fails if the disk does.
    async fn is_intact(&self, sha256: &str) -> io::Result<bool>;

    /// Removes an instance or an artifact for good. False if there is none, or if it was stored
    /// again within the last hour.
    ///
    /// # Errors
    ///
    /// Fails if the disk does.
    async fn remove(&self, file: Removable<'_>) -> io::Result<bool>;

    /// Stores an artifact that a plugin made. It is durable once this returns.
    ///
    /// # Errors
    ///
    /// Fails if the disk does, or is full.
    async fn store_artifact(&self, bytes: Vec<u8>) -> io::Result<ArtifactRef>;

    /// Reads an artifact, and checks that it is unchanged.
    ///
    /// # Errors
    ///
    /// Fails if it is missing or was changed.
    async fn artifact(&self, artifact: &ArtifactRef) -> io::Result<Vec<u8>>;
}
