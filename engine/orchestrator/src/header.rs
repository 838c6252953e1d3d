//! Reads the header of a DICOM file, whether it is still in quarantine or stored in the archive.
//!
//! The parser (`encoding::dicom::header`) has limits on everything. No DICOM library sees a file
//! before this has accepted its header.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use contracts::Quarantined;
use encoding::dicom::file_meta;
use encoding::dicom::header::{Encoding, Header, HeaderError, read_encoded};

pub(crate) mod tags;

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderReadError {
    /// The disk failed: the same file may be read later.
    #[error("the file cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The file is not a DICOM file within the limits.
    #[error(transparent)]
    Malformed(HeaderError),
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
        Self::Unreadable(Box::new(error))
    }
}

/// Reads the header of a file in quarantine.
///
/// Mostly the first bytes, which are still in memory, hold all of it. The file is read only if
/// they do not, or if the data set is deflated, where nobody knows what they hold.
pub(crate) async fn of_quarantined(
    file: &Quarantined,
    transfer_syntax: &str,
) -> Result<Header, HeaderReadError> {
    let encoding = Encoding::of(transfer_syntax);
    if !encoding.is_deflated
        && let Ok(header) = read_encoded(Cursor::new(file.head.as_slice()), file.bytes, encoding)
    {
        return Ok(header);
    }
    let data_set = DataSet { start: file.meta_bytes, length: file.bytes, encoding };
    let path = file.path.clone();
    in_background(move || data_set.read_header(&path)).await
}

/// Reads the header of a file in the archive.
pub(crate) async fn of_stored(path: PathBuf) -> Result<Header, HeaderReadError> {
    in_background(move || read_stored(&path)).await
}

/// Reads the header of a file in the archive, on a thread that may wait for the disk.
pub(crate) fn read_stored(path: &Path) -> Result<Header, HeaderReadError> {
    DataSet::locate(path)?.read_header(path)
}

async fn in_background(
    read: impl FnOnce() -> Result<Header, HeaderReadError> + Send + 'static,
) -> Result<Header, HeaderReadError> {
    let outcome = tokio::task::spawn_blocking(read).await;
    outcome.unwrap_or_else(|error| Err(HeaderReadError::Unreadable(Box::new(error))))
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
