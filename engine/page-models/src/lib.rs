//! The published models that read print on pages (PAP-31): which files of which release, their
//! digests, their licence, and where a site has them.
//!
//! The engine imports them (`isocenter model import`), plugins read them. Neither takes a file
//! with another digest. The models themselves are run by the crate `pp-ocr`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The name of the models among those of a site.
pub const NAME: &str = "pp-ocrv6-small";

/// What people call them.
pub const TITLE: &str = "PP-OCRv6 small";

/// The release that has the files.
pub const RELEASE: &str = "rapidocr 3.10.0";

/// Where the release is published.
pub const SOURCE: &str = "https://pypi.org/project/rapidocr/3.10.0/";

/// The licence of the models.
pub const LICENCE: &str = "Apache-2.0";

/// Whose work the models are.
pub const ATTRIBUTION: &str = "The models are copyright Baidu and the PaddleOCR authors, converted \
    to ONNX and packaged by the RapidOCR authors (MODEL_LICENSES.md)";

/// The environment variable that tells a plugin the folder with the models of the site.
pub const FOLDER_VARIABLE: &str = "ISOCENTER_MODELS";

/// A file of the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedFile {
    /// Its name.
    pub name: &'static str,
    /// Its folder in the release.
    pub folder: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: &'static str,
}

/// The model that finds text on a page.
pub const DETECTOR: PublishedFile = PublishedFile {
    name: "PP-OCRv6_det_small.onnx",
    folder: "rapidocr/models",
    bytes: 9_929_594,
    sha256: "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
};

/// The model that reads a line of text.
pub const RECOGNISER: PublishedFile = PublishedFile {
    name: "PP-OCRv6_rec_small.onnx",
    folder: "rapidocr/models",
    bytes: 21_234_383,
    sha256: "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
};

/// All files that a site needs, with the texts that their licence demands.
pub const FILES: [PublishedFile; 4] = [
    DETECTOR,
    RECOGNISER,
    PublishedFile {
        name: "LICENSE",
        folder: "rapidocr-3.10.0.dist-info/licenses",
        bytes: 11_422,
        sha256: "3e0af25fdd06aa9586ae97adb00ea927ebe5a3805ac77d2d3a81ce5f55693333",
    },
    PublishedFile {
        name: "MODEL_LICENSES.md",
        folder: "rapidocr-3.10.0.dist-info/licenses",
        bytes: 8_398,
        sha256: "c5fd0e8603d3df743355b546121e6fe0f4ef8ff455c5a85c1681fd3ae520e153",
    },
];

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is no such file.
    #[error("`{}` is missing", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// It is another one.
    #[error("`{file}` is not the one of {RELEASE}: its SHA-256 is another")]
    Other {
        /// The name of the file.
        file: &'static str,
    },
}

impl PublishedFile {
    /// The path of the file in its release.
    pub fn path_in_release(&self) -> String {
        format!("{}/{}", self.folder, self.name)
    }

    /// Reads the file from `source`, which is read no further than it is long.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read, or is another one. `path` is named as its place.
    pub fn read_from(&self, source: impl io::Read, path: &Path) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::new();
        let read = source.take(self.bytes + 1).read_to_end(&mut bytes);
        read.map_err(|source| FileError::Unreadable { path: path.to_owned(), source })?;
        if hex::encode(Sha256::digest(&bytes)) == self.sha256 {
            Ok(bytes)
        } else {
            Err(FileError::Other { file: self.name })
        }
    }

    /// Reads the file in a folder.
    ///
    /// # Errors
    ///
    /// Fails if it is missing, cannot be read, or is another one.
    pub fn read_in(&self, folder: &Path) -> Result<Vec<u8>, FileError> {
        let path = folder.join(self.name);
        match File::open(&path) {
            Ok(file) => self.read_from(file, &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(FileError::Missing { path })
            }
            Err(source) => Err(FileError::Unreadable { path, source }),
        }
    }
}

/// The folder with the files, below the folder with all models of a site.
pub fn folder_in(models: &Path) -> PathBuf {
    models.join(NAME).join("checkpoint")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pap_31_a_file_with_another_digest_is_not_taken() {
        let file = PublishedFile {
            name: "empty",
            folder: "",
            bytes: 0,
            sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        };
        let path = Path::new("here");
        assert_eq!(file.read_from(&b""[..], path).unwrap(), b"");
        let longer = file.read_from(&b"x"[..], path);
        assert!(matches!(longer, Err(FileError::Other { file: "empty" })), "{longer:?}");
        let missing = file.read_in(Path::new("/nowhere"));
        assert!(matches!(missing, Err(FileError::Missing { .. })), "{missing:?}");
    }
}
