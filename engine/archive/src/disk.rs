//! The archive on a disk: one file for each data set and artifact, named by its SHA-256.
//!
//! Instances are DICOM files below `instances`, artifacts of plugins below `artifacts`.
//! `quarantine` holds what is arriving, and is emptied at every start: nothing in it was
//! acknowledged. `lent` holds links to the files that plugins work on, and is emptied then, too.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use contracts::{Archive, Incoming, Quarantined, Removable};
use domain::ArtifactRef;
use encoding::dicom::file_meta::{self, FileMeta, META_BYTES_MAX};
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::spool::Spool;

/// A file that was stored more recently is not removed.
const REMOVABLE_AGE_MIN: Duration = Duration::from_hours(1);

/// An archive on a local disk.
pub struct DiskArchive {
    pub(crate) quarantine: PathBuf,
    pub(crate) instances: PathBuf,
    artifacts: PathBuf,
    lent: PathBuf,
    /// Digests of data sets whose flush failed. The system reports that once: the next flush of the
    /// same file succeeds whether its bytes are on the disk or not, so they are written anew.
    unflushed: Mutex<HashSet<String>>,
}

impl DiskArchive {
    /// Opens the archive in `folder`, and empties its quarantine, in which nothing was
    /// acknowledged, and what was lent to plugins of an engine that ended.
    ///
    /// # Errors
    ///
    /// Fails if the folders cannot be created.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let archive = Self::beside(folder);
        for passing in [&archive.quarantine, &archive.lent] {
            if passing.exists() {
                fs::remove_dir_all(passing)?;
            }
        }
        make_folder(&archive.lent)?;
        // Created together and flushed, so that a loss of power never takes the folder of a file.
        archive.folders().try_for_each(|it| make_folder(&it))?;
        for root in [&archive.instances, &archive.artifacts] {
            File::open(root)?.sync_all()?;
        }
        File::open(folder)?.sync_all()?;
        Ok(archive)
    }

    /// The archive in `folder`, beside an engine that may be using it: its quarantine is left
    /// alone.
    pub fn beside(folder: &Path) -> Self {
        Self {
            quarantine: folder.join("quarantine"),
            instances: folder.join("instances"),
            artifacts: folder.join("artifacts"),
            lent: folder.join("lent"),
            unflushed: Mutex::default(),
        }
    }

    /// Every folder that files are written to.
    pub(crate) fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let stores = [&self.instances, &self.artifacts]
            .into_iter()
            .flat_map(|root| (0..=u8::MAX).map(move |prefix| root.join(format!("{prefix:02x}"))));
        std::iter::once(self.quarantine.clone()).chain(stores)
    }

    /// The folder for files that must no longer be used as what they were stored as.
    pub(crate) fn aside_folder(&self) -> PathBuf {
        self.instances.with_file_name("aside")
    }

    fn unflushed(&self) -> MutexGuard<'_, HashSet<String>> {
        self.unflushed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn instance_path(&self, sha256: &str) -> PathBuf {
        place(&self.instances, sha256, "dcm")
    }

    fn artifact_path(&self, sha256: &str) -> PathBuf {
        place(&self.artifacts, sha256, "bin")
    }

    /// Moves a file to its place, unless an intact one is there already, and flushes it. With
    /// `must_rewrite` the file that is there is replaced.
    async fn place_and_flush(&self, file: Quarantined, must_rewrite: bool) -> io::Result<()> {
        let target = self.instance_path(&file.sha256);
        let folder = target.parent().unwrap_or(Path::new(".")).to_owned();
        // Name and bytes are flushed concurrently. Until both are on the disk a loss of power may
        // leave a name without its bytes; so bytes that are there already are read before they
        // count.
        let name = on_disk_thread(move || {
            let is_there = !must_rewrite && touch(&target)?;
            let placed = if is_there && is_data_set(&target, &file.sha256)? {
                // The task that wrote it may not have flushed it yet.
                File::open(&target)?
            } else {
                let placed = File::open(&file.path)?;
                fs::rename(&file.path, &target)?;
                placed
            };
            let name = spawn_blocking(move || File::open(&folder)?.sync_all());
            placed.sync_all()?;
            Ok(name)
        });
        name.await?.await.map_err(io::Error::other)?
    }
}

pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// `ab/abcdef….dcm`: few enough names per folder for any file system.
fn place(folder: &Path, sha256: &str, extension: &str) -> PathBuf {
    let prefix = sha256.get(..2).unwrap_or("00");
    folder.join(prefix).join(format!("{sha256}.{extension}"))
}

#[async_trait]
impl Archive for DiskArchive {
    fn begin(&self, meta: &FileMeta<'_>) -> Box<dyn Incoming> {
        let path = self.quarantine.join(Uuid::now_v7().to_string());
        Box::new(Spool::new(path, &meta.to_bytes()))
    }

    async fn store(&self, file: Quarantined) -> io::Result<()> {
        let sha256 = file.sha256.clone();
        let is_unflushed = self.unflushed().contains(&sha256);
        let placed = self.place_and_flush(file, is_unflushed).await;
        match placed {
            Ok(()) if is_unflushed => _ = self.unflushed().remove(&sha256),
            Ok(()) => {}
            Err(_) => _ = self.unflushed().insert(sha256),
        }
        placed
    }

    fn lent(&self) -> &Path {
        &self.lent
    }

    fn path_of(&self, sha256: &str) -> PathBuf {
        self.instance_path(sha256)
    }

    async fn is_intact(&self, sha256: &str) -> io::Result<bool> {
        let path = self.path_of(sha256);
        let expected = sha256.to_owned();
        on_disk_thread(move || is_data_set(&path, &expected)).await
    }

    async fn remove(&self, file: Removable<'_>) -> io::Result<bool> {
        let path = match file {
            Removable::Instance(sha256) => self.path_of(sha256),
            Removable::Artifact(sha256) => self.artifact_path(sha256),
        };
        let aside = self.quarantine.join(Uuid::now_v7().to_string());
        on_disk_thread(move || removed(&path, &aside)).await
    }

    async fn store_artifact(&self, bytes: Vec<u8>) -> io::Result<ArtifactRef> {
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let artifact = ArtifactRef { sha256, bytes: bytes.len() as u64 };
        let target = self.artifact_path(&artifact.sha256);
        let fresh = self.quarantine.join(Uuid::now_v7().to_string());
        on_disk_thread(move || {
            let folder = target.parent().unwrap_or(Path::new(".")).to_owned();
            if touch(&target)? {
                // The task that wrote it may not have flushed it yet.
                return File::open(&folder)?.sync_all();
            }
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, &target)?;
            File::open(&folder)?.sync_all()
        })
        .await?;
        Ok(artifact)
    }

    async fn artifact(&self, artifact: &ArtifactRef) -> io::Result<Vec<u8>> {
        let path = self.artifact_path(&artifact.sha256);
        let bytes = on_disk_thread(move || fs::read(path)).await?;
        if hex::encode(Sha256::digest(&bytes)) != artifact.sha256 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an artifact was changed"));
        }
        Ok(bytes)
    }
}

/// Sets the modification time of a file to now, which protects it from [`removed`]. False if there
/// is no such file.
fn touch(path: &Path) -> io::Result<bool> {
    match File::options().append(true).open(path) {
        Ok(file) => {
            file.set_modified(SystemTime::now())?;
            // It may have been moved away before it was touched.
            Ok(path.exists())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a file, unless it was stored again recently. It is moved away before its age is read: a
/// task that stores it now either finds it gone and writes it, or has touched it and it is moved
/// back.
fn removed(path: &Path, aside: &Path) -> io::Result<bool> {
    let is_new = |path: &Path| {
        let age = fs::metadata(path)?.modified()?.elapsed();
        io::Result::Ok(age.unwrap_or_default() < REMOVABLE_AGE_MIN)
    };
    match is_new(path) {
        Ok(false) => fs::rename(path, aside)?,
        Ok(true) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    }
    if is_new(aside)? {
        fs::rename(aside, path)?;
        return Ok(false);
    }
    fs::remove_file(aside)?;
    Ok(true)
}

async fn on_disk_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Whether the file exists and contains the data set with this digest: reads all of it.
pub(crate) fn is_data_set(path: &Path, expected: &str) -> io::Result<bool> {
    match File::open(path) {
        Ok(file) => Ok(data_set_digest(file)?.is_some_and(|it| it == expected)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// SHA-256 of what follows the File Meta Information, or nothing if there is none.
fn data_set_digest(mut file: File) -> io::Result<Option<String>> {
    let mut start = Vec::new();
    (&mut file).take(META_BYTES_MAX).read_to_end(&mut start)?;
    let Some((at, _)) = file_meta::split(&start) else { return Ok(None) };
    let mut hasher = Sha256::new();
    hasher.update(start.get(at..).unwrap_or_default());
    io::copy(&mut file, &mut hasher)?;
    Ok(Some(hex::encode(hasher.finalize())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn folder() -> PathBuf {
        std::env::temp_dir().join(format!("isocenter-archive-{}", Uuid::now_v7()))
    }

    async fn kept(archive: &DiskArchive) -> String {
        let meta = FileMeta {
            sop_class: "1.2.840.10008.5.1.4.1.1.2",
            sop_instance: "2.25.1",
            transfer_syntax: "1.2.840.10008.1.2.1",
            sending_ae: "CT1",
            receiving_ae: "",
        };
        let mut file = archive.begin(&meta);
        file.write(b"what an image is made of").await.unwrap();
        let file = file.finish().await.unwrap();
        let sha256 = file.sha256.clone();
        archive.store(file).await.unwrap();
        sha256
    }

    #[tokio::test]
    async fn din_20_what_could_not_be_flushed_once_is_written_anew_and_not_taken_for_kept() {
        let folder = folder();
        let archive = DiskArchive::open(&folder).unwrap();
        let sha256 = kept(&archive).await;
        let inode = || fs::metadata(archive.path_of(&sha256)).unwrap().ino();
        let first = inode();
        assert_eq!(kept(&archive).await, sha256);
        assert_eq!(inode(), first);

        archive.unflushed.lock().unwrap().insert(sha256.clone());
        assert_eq!(kept(&archive).await, sha256);
        assert_ne!(inode(), first);
        assert!(archive.unflushed.lock().unwrap().is_empty());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn sec_31_what_was_lent_to_plugins_of_an_engine_that_ended_is_removed() {
        let folder = folder();
        let archive = DiskArchive::open(&folder).unwrap();
        let left = archive.lent().join("worker");
        fs::create_dir(&left).unwrap();
        let image = archive.instance_path(&"0".repeat(64));
        fs::write(&image, "image").unwrap();
        fs::hard_link(&image, left.join("0.dcm")).unwrap();
        let again = DiskArchive::open(&folder).unwrap();
        assert_eq!(fs::read_dir(again.lent()).unwrap().count(), 0);
        assert_eq!(fs::read(image).unwrap(), b"image");
        fs::remove_dir_all(folder).unwrap();
    }

    fn age(path: &Path, by: Duration) {
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - by).unwrap();
    }

    #[tokio::test]
    async fn din_33_what_is_kept_again_is_not_removed_for_an_hour() {
        let folder = folder();
        let archive = DiskArchive::open(&folder).unwrap();
        let sha256 = kept(&archive).await;
        let path = archive.path_of(&sha256);
        assert!(!archive.remove(Removable::Instance(&sha256)).await.unwrap());

        age(&path, Duration::from_hours(2));
        assert_eq!(kept(&archive).await, sha256);
        assert!(!archive.remove(Removable::Instance(&sha256)).await.unwrap());
        assert!(archive.is_intact(&sha256).await.unwrap());

        age(&path, Duration::from_hours(2));
        assert!(archive.remove(Removable::Instance(&sha256)).await.unwrap());
        assert!(!path.exists() && !archive.is_intact(&sha256).await.unwrap());
        assert!(archive.remove(Removable::Instance(&sha256)).await.unwrap());
        fs::remove_dir_all(folder).unwrap();
    }
}
