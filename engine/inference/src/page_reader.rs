//! Imports the published models that read print on pages (PAP-31), from their release as it is
//! published (a wheel, which is a ZIP archive) or as it was extracted. Only files with the pinned
//! digests are taken.

use std::fs::{self, File};
use std::path::Path;

use page_models::{FILES, FileError, PublishedFile};
use sha2::{Digest as _, Sha256};
use zip::ZipArchive;
use zip::result::ZipError;

use crate::model_store::{
    ModelCard, ModelKind, ModelStore, StoreError, digest_of_files, io_error, write_card,
};

/// The memory that reading a page takes, in bytes, as measured.
const MEMORY_BYTES: u64 = 400_000_000;

/// Why the models that read print cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file is missing, or is not the published one.
    #[error(transparent)]
    File(#[from] FileError),
    /// The release is no ZIP archive, or lacks a file.
    #[error("`{file}` cannot be taken out of the release")]
    Archive {
        /// The file that was looked for.
        file: &'static str,
        /// The reason.
        source: ZipError,
    },
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a path is a release with models that read print: a wheel, or a folder with the detector.
pub fn is_release(from: &Path) -> bool {
    let detector = page_models::DETECTOR;
    from.extension().is_some_and(|it| it == "whl")
        || from.join(detector.name).exists()
        || from.join(detector.path_in_release()).exists()
}

/// Imports the models from a release into a store, and returns their card. What the store has
/// already is replaced, by the same files.
///
/// # Errors
///
/// Returns the file that is missing, is not the published one, or cannot be written.
pub fn import(store: &ModelStore, from: &Path) -> Result<ModelCard, ImportError> {
    let files: Vec<(PublishedFile, Vec<u8>)> = if from.is_dir() {
        let read = |it: PublishedFile| Ok((it, read_extracted(it, from)?));
        FILES.into_iter().map(read).collect::<Result<_, ImportError>>()?
    } else {
        let file = File::open(from).map_err(io_error(from))?;
        let mut archive = ZipArchive::new(file)
            .map_err(|source| ImportError::Archive { file: page_models::DETECTOR.name, source })?;
        let read = |it: PublishedFile| {
            let entry = archive.by_name(&it.path_in_release());
            let entry = entry.map_err(|source| ImportError::Archive { file: it.name, source })?;
            Ok((it, it.read_from(entry, from)?))
        };
        FILES.into_iter().map(read).collect::<Result<_, ImportError>>()?
    };
    let card = card(&files);
    let folder = store.checkpoint(page_models::NAME);
    let model = folder.parent().unwrap_or(&folder);
    let partial = model.with_file_name(format!(".{}.part", page_models::NAME));
    remove(&partial)?;
    let to = partial.join(folder.file_name().unwrap_or_default());
    fs::create_dir_all(&to).map_err(io_error(&to))?;
    for (file, bytes) in &files {
        let path = to.join(file.name);
        fs::write(&path, bytes).map_err(io_error(&path))?;
    }
    write_card(&partial, &card)?;
    remove(model)?;
    fs::rename(&partial, model).map_err(io_error(model))?;
    Ok(card)
}

/// Reads a file of an extracted release: in its folder there, or beside the others.
fn read_extracted(file: PublishedFile, from: &Path) -> Result<Vec<u8>, FileError> {
    let folder = from.join(file.folder);
    if folder.join(file.name).exists() { file.read_in(&folder) } else { file.read_in(from) }
}

fn remove(folder: &Path) -> Result<(), StoreError> {
    if folder.exists() { fs::remove_dir_all(folder).map_err(io_error(folder)) } else { Ok(()) }
}

fn card(files: &[(PublishedFile, Vec<u8>)]) -> ModelCard {
    let digest = |it: &Vec<u8>| hex::encode(Sha256::digest(it));
    let digests = files.iter().map(|(it, bytes)| (it.name.to_owned(), digest(bytes))).collect();
    ModelCard {
        name: page_models::NAME.to_owned(),
        kind: ModelKind::PageReader,
        digest: digest_of_files(&digests),
        files: digests,
        bytes: files.iter().map(|(it, _)| it.bytes).sum(),
        cpu_memory_bytes: MEMORY_BYTES,
        number_types: vec!["F32".to_owned()],
        source: format!("{} ({})", page_models::SOURCE, page_models::RELEASE),
        licence: page_models::LICENCE.to_owned(),
        attribution: page_models::ATTRIBUTION.to_owned(),
        ..ModelCard::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pap_31_only_the_published_files_are_imported() {
        let folder = std::env::temp_dir().join(format!("page-reader-{}", std::process::id()));
        let release = folder.join("release");
        fs::create_dir_all(&release).unwrap();
        let store = ModelStore::new(folder.join("models"));
        assert!(!is_release(&release));
        let missing = import(&store, &release).unwrap_err().to_string();
        assert!(missing.contains("PP-OCRv6_det_small.onnx` is missing"), "{missing}");
        for file in FILES {
            fs::write(release.join(file.name), "another").unwrap();
        }
        assert!(is_release(&release));
        let other = import(&store, &release).unwrap_err().to_string();
        assert!(other.contains("is not the one of rapidocr 3.10.0"), "{other}");
        let wheel = folder.join("x.whl");
        fs::write(&wheel, "no archive").unwrap();
        assert!(is_release(&wheel));
        assert!(matches!(import(&store, &wheel), Err(ImportError::Archive { .. })));
        assert_eq!(store.list().unwrap(), []);
        let folder_of_plugins = page_models::folder_in(&folder.join("models"));
        assert_eq!(store.checkpoint(page_models::NAME), folder_of_plugins);
        fs::remove_dir_all(&folder).unwrap();
    }
}
