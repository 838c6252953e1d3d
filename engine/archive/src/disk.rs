use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use contracts::{Archive, Incoming, Quarantined};
use domain::ArtifactRef;
use encoding::file_meta::{self, FileMeta, META_BYTES_MAX};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// An archive on a disk.
pub struct DiskArchive {
    quarantine: PathBuf,
    instances: PathBuf,
    artifacts: PathBuf,
}

impl DiskArchive {
    /// Opens the archive in `folder`, and empties its quarantine: nothing in there was acknowledged.
    ///
    /// # Errors
    ///
    /// Fails if the folders cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let quarantine = folder.join("quarantine");
        if quarantine.exists() {
            fs::remove_dir_all(&quarantine)?;
        }
        let archive = Self {
            quarantine,
            instances: folder.join("instances"),
            artifacts: folder.join("artifacts"),
        };
        make_folder(&archive.quarantine)?;
        for kept in [&archive.instances, &archive.artifacts] {
            // All at once and on the disk, so that a file's folder never goes with a loss of power.
            (0..=u8::MAX).try_for_each(|it| make_folder(&kept.join(format!("{it:02x}"))))?;
            File::open(kept)?.sync_all()?;
        }
        File::open(folder)?.sync_all()?;
        Ok(archive)
    }

    fn artifact_path(&self, sha256: &str) -> PathBuf {
        place(&self.artifacts, sha256, "bin")
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// `ab/abcdef….dcm`: few enough names per folder for any file system.
fn place(folder: &Path, sha256: &str, extension: &str) -> PathBuf {
    let prefix = sha256.get(..2).unwrap_or("00");
    folder.join(prefix).join(format!("{sha256}.{extension}"))
}

#[async_trait]
impl Archive for DiskArchive {
    fn begin(&self, meta: &FileMeta<'_>) -> io::Result<Box<dyn Incoming>> {
        let path = self.quarantine.join(Uuid::now_v7().to_string());
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path)?;
        let meta = meta.to_bytes();
        let meta_bytes = meta.len() as u64;
        let quarantined = Quarantined { path, meta_bytes, bytes: 0, sha256: String::new() };
        let mut file = io::BufWriter::with_capacity(256 * 1024, file);
        file.write_all(&meta)?;
        Ok(Box::new(Writer { file, hasher: Sha256::new(), quarantined }))
    }

    async fn keep(&self, file: Quarantined) -> io::Result<()> {
        let target = self.path_of(&file.sha256);
        on_disk_thread(move || {
            let folder = target.parent().unwrap_or(Path::new(".")).to_owned();
            if target.exists() {
                // Whoever put it there may not have come to this yet.
                return File::open(&folder)?.sync_all();
            }
            File::open(&file.path)?.sync_all()?;
            fs::rename(&file.path, &target)?;
            File::open(&folder)?.sync_all()
        })
        .await
    }

    fn path_of(&self, sha256: &str) -> PathBuf {
        place(&self.instances, sha256, "dcm")
    }

    async fn is_intact(&self, sha256: &str) -> io::Result<bool> {
        let (path, expected) = (self.path_of(sha256), sha256.to_owned());
        on_disk_thread(move || match File::open(path) {
            Ok(file) => Ok(data_set_digest(file)?.is_some_and(|it| it == expected)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        })
        .await
    }

    async fn keep_artifact(&self, bytes: Vec<u8>) -> io::Result<ArtifactRef> {
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let artifact = ArtifactRef { sha256, bytes: bytes.len() as u64 };
        let target = self.artifact_path(&artifact.sha256);
        let fresh = self.quarantine.join(Uuid::now_v7().to_string());
        on_disk_thread(move || {
            let folder = target.parent().unwrap_or(Path::new(".")).to_owned();
            if target.exists() {
                // Whoever put it there may not have come to this yet.
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

async fn on_disk_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
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

struct Writer {
    file: io::BufWriter<File>,
    hasher: Sha256,
    quarantined: Quarantined,
}

impl Incoming for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.quarantined.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn finish(self: Box<Self>) -> io::Result<Quarantined> {
        let Self { file, hasher, mut quarantined } = *self;
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        quarantined.sha256 = hex::encode(hasher.finalize());
        Ok(quarantined)
    }
}
