//! A dataset in a folder: `manifest.json`, a file of items for each part, and the pictures.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Component, Path, PathBuf};

use imaging::picture::size_of;
use sha2::{Digest as _, Sha256};

use crate::item::{Item, ItemMask};
use crate::manifest::{About, FORMAT, MANIFEST, Manifest, Split};

/// Why a dataset cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file cannot be read or written.
    #[error("`{}` cannot be read or written: {cause}", .path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The folder has content already.
    #[error("`{}` is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The manifest is damaged or of another version.
    #[error("the manifest is not of format {FORMAT}: {0}")]
    Manifest(String),
    /// A patient is in more than one part.
    #[error("patient `{0}` is in more than one part of the dataset")]
    SharedPatient(String),
    /// A path leads out of the folder of the dataset.
    #[error("`{0}` leads out of the dataset")]
    Outside(String),
    /// A file is not what the manifest says.
    #[error("`{0}` is not the file that the manifest names")]
    Changed(String),
    /// An item is malformed, or disagrees with its files.
    #[error("{file}, line {line}: {reason}")]
    Item {
        /// The file of items.
        file: &'static str,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A part has another number of items than the manifest says.
    #[error("{file} has {found} items, the manifest {expected}")]
    Items {
        /// The file of items.
        file: &'static str,
        /// Number of its items.
        found: usize,
        /// Number in the manifest.
        expected: usize,
    },
}

impl DatasetError {
    /// A failure of the disk at a file.
    pub fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Disk { path, cause }
    }
}

/// The SHA-256 of bytes, in hexadecimal digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The path of a file in the folder of a dataset.
fn inside(folder: &Path, name: &str) -> Result<PathBuf, DatasetError> {
    let mut parts = Path::new(name).components();
    let is_inside = !name.is_empty() && parts.all(|it| matches!(it, Component::Normal(_)));
    is_inside.then(|| folder.join(name)).ok_or_else(|| DatasetError::Outside(name.to_owned()))
}

/// Writes a dataset. Until [`DatasetWriter::finish`] has written the manifest, the folder is none.
pub struct DatasetWriter {
    folder: PathBuf,
    manifest: Manifest,
    lines: BTreeMap<Split, Lines>,
}

/// The file of items of a part, while it is written.
struct Lines {
    file: BufWriter<File>,
    hasher: Sha256,
}

impl DatasetWriter {
    /// Begins a dataset in a folder that is empty or does not exist.
    ///
    /// # Errors
    ///
    /// Fails if the folder is not empty or cannot be made.
    pub fn create(folder: &Path, about: About) -> Result<Self, DatasetError> {
        fs::create_dir_all(folder).map_err(DatasetError::disk(folder))?;
        let mut content = fs::read_dir(folder).map_err(DatasetError::disk(folder))?;
        if content.next().is_some() {
            return Err(DatasetError::NotEmpty(folder.to_owned()));
        }
        let patients = BTreeMap::new();
        let manifest = Manifest { format: FORMAT, about, patients, files: BTreeMap::new() };
        Ok(Self { folder: folder.to_owned(), manifest, lines: BTreeMap::new() })
    }

    /// Writes a file, and returns its path for items.
    ///
    /// # Errors
    ///
    /// Fails if the name leads out of the folder, or the file cannot be written.
    pub fn add_file(&mut self, name: &str, bytes: &[u8]) -> Result<String, DatasetError> {
        let path = inside(&self.folder, name)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(DatasetError::disk(parent))?;
        }
        fs::write(&path, bytes).map_err(DatasetError::disk(&path))?;
        self.manifest.files.insert(name.to_owned(), digest(bytes));
        Ok(name.to_owned())
    }

    /// Adds an item of a patient.
    ///
    /// # Errors
    ///
    /// Fails if the item is malformed or names files that were not added, or on the disk.
    pub fn add(&mut self, split: Split, patient: &str, item: &Item) -> Result<(), DatasetError> {
        let patients = self.manifest.patients.entry(split).or_default();
        let line = patients.len() + 1;
        let wrong = |reason: String| DatasetError::Item { file: split.file(), line, reason };
        item.check().map_err(|error| wrong(error.to_string()))?;
        if let Some(missing) = files_of(item).find(|it| !self.manifest.files.contains_key(*it)) {
            return Err(wrong(format!("`{missing}` is not in the dataset")));
        }
        let mut text = serde_json::to_string(item).map_err(|error| wrong(error.to_string()))?;
        text.push('\n');
        let path = self.folder.join(split.file());
        let lines = match self.lines.entry(split) {
            Entry::Occupied(lines) => lines.into_mut(),
            Entry::Vacant(place) => {
                let file = File::create(&path).map_err(DatasetError::disk(&path))?;
                place.insert(Lines { file: BufWriter::new(file), hasher: Sha256::new() })
            }
        };
        lines.hasher.update(&text);
        lines.file.write_all(text.as_bytes()).map_err(DatasetError::disk(&path))?;
        patients.push(patient.to_owned());
        Ok(())
    }

    /// Writes the manifest, by which the folder becomes a dataset.
    ///
    /// # Errors
    ///
    /// Fails if a patient is in more than one part, or on the disk.
    pub fn finish(mut self) -> Result<Dataset, DatasetError> {
        for (split, lines) in self.lines {
            let path = self.folder.join(split.file());
            let mut file = lines.file;
            file.flush().map_err(DatasetError::disk(&path))?;
            let digest = hex::encode(lines.hasher.finalize());
            self.manifest.files.insert(split.file().to_owned(), digest);
        }
        if let Some(patient) = self.manifest.shared_patient() {
            return Err(DatasetError::SharedPatient(patient.to_owned()));
        }
        let mut text = serde_json::to_string_pretty(&self.manifest)
            .map_err(|error| DatasetError::Manifest(error.to_string()))?;
        text.push('\n');
        let path = self.folder.join(MANIFEST);
        let draft = self.folder.join("manifest.draft");
        fs::write(&draft, &text).map_err(DatasetError::disk(&draft))?;
        fs::rename(&draft, &path).map_err(DatasetError::disk(&path))?;
        Ok(Dataset {
            folder: self.folder,
            digest: digest(text.as_bytes()),
            manifest: self.manifest,
        })
    }
}

/// The files that an item names.
fn files_of(item: &Item) -> impl Iterator<Item = &str> {
    let masks = item.masks.iter().filter_map(|it| match it {
        ItemMask::File(path) => Some(path.as_str()),
        ItemMask::Runs(_) => None,
    });
    item.images.iter().map(String::as_str).chain(masks)
}

/// A dataset in a folder.
#[derive(Debug)]
pub struct Dataset {
    folder: PathBuf,
    manifest: Manifest,
    digest: String,
}

impl Dataset {
    /// Opens a dataset. Its files are not read; see [`Dataset::verify`].
    ///
    /// # Errors
    ///
    /// Fails if the manifest cannot be read, or if a patient is in more than one part.
    pub fn open(folder: &Path) -> Result<Self, DatasetError> {
        let path = folder.join(MANIFEST);
        let bytes = fs::read(&path).map_err(DatasetError::disk(&path))?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| DatasetError::Manifest(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(DatasetError::Manifest(format!("it is of format {}", manifest.format)));
        }
        if let Some(patient) = manifest.shared_patient() {
            return Err(DatasetError::SharedPatient(patient.to_owned()));
        }
        Ok(Self { folder: folder.to_owned(), digest: digest(&bytes), manifest })
    }

    /// What the dataset is made of.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The SHA-256 of the manifest, which names the digests of all files.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The path of a picture or mask of an item.
    ///
    /// # Errors
    ///
    /// Fails if the name leads out of the folder.
    pub fn path(&self, name: &str) -> Result<PathBuf, DatasetError> {
        inside(&self.folder, name)
    }

    /// The items of a part, in order.
    ///
    /// # Errors
    ///
    /// Fails at the first line that is no item, or if there are more or fewer of them than patients.
    pub fn items(&self, split: Split) -> Result<Vec<Item>, DatasetError> {
        let expected = self.manifest.patients.get(&split).map_or(0, Vec::len);
        if expected == 0 {
            return Ok(Vec::new());
        }
        let file = split.file();
        let path = self.folder.join(file);
        let reader = BufReader::new(File::open(&path).map_err(DatasetError::disk(&path))?);
        let mut items = Vec::with_capacity(expected);
        for (line, text) in (1..).zip(reader.lines()) {
            let text = text.map_err(DatasetError::disk(&path))?;
            let item = serde_json::from_str(&text);
            let wrong = |error: serde_json::Error| error.to_string();
            items.push(item.map_err(wrong).map_err(|reason| DatasetError::Item {
                file,
                line,
                reason,
            })?);
        }
        let found = items.len();
        if found != expected {
            return Err(DatasetError::Items { file, found, expected });
        }
        Ok(items)
    }

    /// Reads everything: digests of all files, every item, and whether each mask is of the size of
    /// its picture.
    ///
    /// # Errors
    ///
    /// Fails with the first thing that is not as the manifest or the item says.
    pub fn verify(&self) -> Result<(), DatasetError> {
        let mut sizes = BTreeMap::new();
        for (name, expected) in &self.manifest.files {
            let path = inside(&self.folder, name)?;
            let bytes = fs::read(&path).map_err(DatasetError::disk(&path))?;
            if digest(&bytes) != *expected {
                return Err(DatasetError::Changed(name.clone()));
            }
            if let Ok(size) = size_of(&bytes) {
                sizes.insert(name.as_str(), size);
            }
        }
        for split in Split::ALL {
            for (line, item) in (1..).zip(self.items(split)?) {
                disagreement(&item, &sizes).map_or(Ok(()), |reason| {
                    Err(DatasetError::Item { file: split.file(), line, reason })
                })?;
            }
        }
        Ok(())
    }
}

/// In what an item disagrees with its files, if in anything.
fn disagreement(item: &Item, sizes: &BTreeMap<&str, [u32; 2]>) -> Option<String> {
    if let Some(missing) = files_of(item).find(|it| !sizes.contains_key(it)) {
        return Some(format!("`{missing}` is no picture of the dataset"));
    }
    for mask in &item.masks {
        let picture = item.images.get(mask.image_id())?;
        let [width, height] = *sizes.get(picture.as_str())?;
        let of_mask = match mask {
            ItemMask::File(name) => *sizes.get(name.as_str())?,
            ItemMask::Runs(runs) => match runs.mask() {
                Ok(mask) => [mask.width, mask.height],
                Err(error) => return Some(error.to_string()),
            },
        };
        if of_mask != [width, height] {
            let [across, down] = of_mask;
            return Some(format!(
                "a mask of {across} x {down} on `{picture}`, which is {width} x {height}"
            ));
        }
    }
    None
}

#[cfg(test)]
pub(crate) mod tests;
