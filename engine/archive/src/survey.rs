//! Compares the files on the disk with the instances that should be there, and repairs what
//! concerns the disk only.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use encoding::dicom::file_meta::{self, META_BYTES_MAX};
use uuid::Uuid;

use crate::DiskArchive;
use crate::disk::{is_data_set, make_folder};

/// Minimum age of a file that counts: a younger one may still be arriving.
const AGE_MIN: Duration = Duration::from_hours(1);

/// Differences between the files of an archive and its instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Instances without a file, by the SHA-256 of their data set.
    pub missing: Vec<String>,
    /// Instances whose file has another length.
    pub torn: Vec<String>,
    /// Instances whose file has other bytes.
    pub altered: Vec<String>,
    /// Files that belong to no instance.
    pub orphans: Vec<PathBuf>,
    /// Files in quarantine: what was being received when the engine ended.
    pub leftovers: Vec<PathBuf>,
    /// Folders that do not exist.
    pub folders: Vec<PathBuf>,
}

impl DiskArchive {
    /// Compares the disk with the instances that should be there, given by the SHA-256 of their
    /// data set, with its length in bytes. Reads all bytes if `reads_all`.
    ///
    /// # Errors
    ///
    /// Fails if the disk cannot be read.
    pub fn survey(&self, expected: &BTreeMap<String, u64>, reads_all: bool) -> io::Result<Survey> {
        let mut survey = Survey::default();
        for (sha256, bytes) in expected {
            let path = self.instance_path(sha256);
            match data_set_bytes(&path) {
                Ok(found) if found != Some(*bytes) => survey.torn.push(sha256.clone()),
                Ok(_) if reads_all && !is_data_set(&path, sha256)? => {
                    survey.altered.push(sha256.clone());
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    survey.missing.push(sha256.clone());
                }
                Err(error) => return Err(error),
            }
        }
        for folder in self.folders() {
            if !folder.exists() {
                survey.folders.push(folder);
                continue;
            }
            let is_of_instances = folder.starts_with(&self.instances);
            let is_quarantine = folder == self.quarantine;
            for path in settled_files(&folder)? {
                let name = path.file_stem().and_then(|it| it.to_str()).unwrap_or_default();
                if is_quarantine {
                    survey.leftovers.push(path);
                } else if is_of_instances && !expected.contains_key(name) {
                    survey.orphans.push(path);
                }
            }
        }
        Ok(survey)
    }

    /// Moves the file of an instance out of the archive, if there is one, so that it is no longer
    /// used.
    ///
    /// # Errors
    ///
    /// Fails if the disk cannot be written.
    pub fn set_aside(&self, sha256: &str) -> io::Result<()> {
        self.set_file_aside(&self.instance_path(sha256))
    }

    /// Repairs the findings of a survey that concern the disk only: files of no instance are moved
    /// out of the archive, files that were never acknowledged are removed, folders are created.
    ///
    /// # Errors
    ///
    /// Fails if the disk cannot be written.
    pub fn mend(&self, survey: &Survey) -> io::Result<()> {
        survey.folders.iter().try_for_each(|it| make_folder(it))?;
        survey.leftovers.iter().try_for_each(fs::remove_file)?;
        survey.orphans.iter().try_for_each(|it| self.set_file_aside(it))
    }

    fn set_file_aside(&self, path: &Path) -> io::Result<()> {
        let folder = self.aside_folder();
        make_folder(&folder)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match fs::rename(path, folder.join(format!("{}-{name}", Uuid::now_v7()))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// The files of a folder that are old enough to count.
fn settled_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // It may have been removed meanwhile.
        let Ok(about) = fs::metadata(&path) else { continue };
        if about.is_file() && about.modified()?.elapsed().unwrap_or_default() > AGE_MIN {
            found.push(path);
        }
    }
    Ok(found)
}

/// Length of the data set of a file, or nothing if the engine has not written it.
fn data_set_bytes(path: &Path) -> io::Result<Option<u64>> {
    let file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    let mut start = Vec::new();
    file.take(META_BYTES_MAX).read_to_end(&mut start)?;
    Ok(file_meta::split(&start).and_then(|(at, _)| length.checked_sub(at as u64)))
}
