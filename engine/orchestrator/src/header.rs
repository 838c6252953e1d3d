//! Reads the header of a DICOM file, whether it is still in quarantine or stored in the archive.
//!
//! The parser (`encoding::dicom::header`) has limits on everything. No DICOM library sees a file
//! before this has accepted its header. What is deflated is inflated by the decoder.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use contracts::{DecodeError, Decoder, Quarantined};
use encoding::dicom::file_meta;
use encoding::dicom::header::{Encoding, Header, HeaderError, read_encoded};

pub(crate) mod tags;

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderReadError {
    /// The disk failed: the same file may be read later.
    #[error("the file cannot be read")]
    Unreadable(#[source] io::Error),
    /// The file is not a DICOM file within the limits.
    #[error(transparent)]
    Malformed(HeaderError),
    /// The data set cannot be inflated, or is not a data set within the limits once it is.
    #[error("the deflated data set cannot be read: {reason}")]
    NotInflated {
        /// Why, for people.
        reason: String,
    },
    /// The decoder does not work: the same file may be inflated later.
    #[error("the decoder does not work: {reason}")]
    NoDecoder {
        /// What happened, for people.
        reason: String,
    },
    /// The file does not begin as the archive writes files (PS3.10, 7.1).
    #[error("the file has no file meta information")]
    NoFileMeta,
}

impl From<HeaderError> for HeaderReadError {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::Io(error) => error.into(),
            other => Self::Malformed(other),
        }
    }
}

impl From<io::Error> for HeaderReadError {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

impl From<DecodeError> for HeaderReadError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Undecodable { reason } => Self::NotInflated { reason },
            DecodeError::Unavailable { reason } | DecodeError::OutOfTime { reason } => {
                Self::NoDecoder { reason }
            }
        }
    }
}

/// Reads the header of a file in quarantine.
///
/// Mostly the first bytes, which are still in memory, hold all of it. The file is read only if
/// they do not, or if the data set is deflated.
pub(crate) async fn of_quarantined(
    file: &Quarantined,
    transfer_syntax: &str,
    decoder: &dyn Decoder,
) -> Result<Header, HeaderReadError> {
    let encoding = Encoding::of(transfer_syntax);
    if encoding.is_deflated {
        return of_deflated(&file.path, decoder).await;
    }
    if let Ok(header) = read_encoded(Cursor::new(file.head.as_slice()), file.bytes, encoding) {
        return Ok(header);
    }
    let data_set = DataSet { start: file.meta_bytes, length: file.bytes, encoding };
    let path = file.path.clone();
    in_background(move || data_set.read_header(&path)).await
}

/// Reads the header of a file in the archive.
pub(crate) async fn of_stored(
    path: PathBuf,
    decoder: &dyn Decoder,
) -> Result<Header, HeaderReadError> {
    let stored = path.clone();
    let header = in_background(move || DataSet::locate(&stored)?.read_header(&stored)).await;
    if matches!(header, Err(HeaderReadError::Malformed(HeaderError::Deflated))) {
        return of_deflated(&path, decoder).await;
    }
    header
}

/// Reads the header of a file whose data set is deflated.
async fn of_deflated(path: &Path, decoder: &dyn Decoder) -> Result<Header, HeaderReadError> {
    let plain = decoder.inflated_header(path).await?;
    let length = plain.len() as u64;
    Ok(read_encoded(Cursor::new(plain), length, Encoding::INFLATED)?)
}

async fn in_background(
    read: impl FnOnce() -> Result<Header, HeaderReadError> + Send + 'static,
) -> Result<Header, HeaderReadError> {
    let outcome = tokio::task::spawn_blocking(read).await;
    outcome.unwrap_or_else(|error| Err(HeaderReadError::Unreadable(io::Error::other(error))))
}

/// Where the data set of a file lies, and how it is encoded.
#[derive(Clone, Copy)]
struct DataSet {
    /// Bytes before the data set.
    start: u64,
    /// Length of the data set in bytes.
    length: u64,
    encoding: Encoding,
}

impl DataSet {
    /// Finds the data set of a file by its file meta information.
    fn locate(path: &Path) -> Result<Self, HeaderReadError> {
        let file = File::open(path)?;
        let file_length = file.metadata()?.len();
        let mut beginning = Vec::new();
        file.take(file_meta::META_BYTES_MAX).read_to_end(&mut beginning)?;
        let (start, transfer_syntax) =
            file_meta::split(&beginning).ok_or(HeaderReadError::NoFileMeta)?;
        let start = start as u64;
        let length = file_length.checked_sub(start).ok_or(HeaderReadError::NoFileMeta)?;
        Ok(Self { start, length, encoding: Encoding::of(&transfer_syntax) })
    }

    fn read_header(self, path: &Path) -> Result<Header, HeaderReadError> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.start))?;
        Ok(read_encoded(BufReader::new(file), self.length, self.encoding)?)
    }
}
