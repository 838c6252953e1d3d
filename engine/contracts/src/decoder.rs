//! What decodes files of other systems, in a process that has neither keys nor a database.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use domain::Section;

/// An image as people see it, in red, green and blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedPicture {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `height * width * 3` bytes, row by row.
    pub rgb: Vec<u8>,
}

/// A segment of a DICOM Segmentation object that is tracked by a UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedSegment {
    /// Tracking UID (0062,0021).
    pub tracking_uid: String,
    /// Rows and columns of its masks.
    pub size: [u32; 2],
    /// One bit for each pixel (`encoding::bits`), by SOP Instance UID of the image.
    pub images: BTreeMap<String, Vec<u8>>,
}

/// A structured document of another system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceivedDocument {
    /// SOP Instance UIDs of the documents it follows (Predecessor Documents, PS3.3, C.17.2).
    pub predecessors: Vec<String>,
    /// Its containers with text.
    pub sections: Vec<Section>,
}

/// Why a file was not decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The file is at fault, and would be at every attempt: it cannot be decoded, or decoding it
    /// ended the decoder.
    #[error("{reason}")]
    Undecodable {
        /// What is wrong with it, for people.
        reason: String,
    },
    /// It took longer than any file may: the machine is under load, or the file keeps the decoder
    /// waiting. Another attempt may succeed, and attempts have to end.
    #[error("{reason}")]
    OutOfTime {
        /// How long it took, for people.
        reason: String,
    },
    /// The decoder is at fault: another attempt may succeed.
    #[error("the decoder does not work: {reason}")]
    Unavailable {
        /// What happened, for people.
        reason: String,
    },
}

/// Decodes files of other systems outside of the engine's process (SEC-24).
#[async_trait]
pub trait Decoder: Send + Sync {
    /// The image in a file.
    ///
    /// # Errors
    ///
    /// Fails with whether another attempt could succeed, as the other functions do.
    async fn picture(&self, file: &Path) -> Result<DecodedPicture, DecodeError>;

    /// The tracked segments of a Segmentation object.
    async fn segments(&self, file: &Path) -> Result<Vec<ReceivedSegment>, DecodeError>;

    /// The text of a structured document, and the documents that it follows.
    async fn document(&self, file: &Path) -> Result<ReceivedDocument, DecodeError>;

    /// The data set of a file that is deflated, up to its pixels.
    async fn inflated_header(&self, file: &Path) -> Result<Vec<u8>, DecodeError>;

    /// The whole data set of a file that is deflated.
    async fn inflated(&self, file: &Path) -> Result<Vec<u8>, DecodeError>;
}
