//! What the decoder's process is asked, and what it answers.
//!
//! The task is an argument of the process, and the file its standard input. Answers are frames of
//! [`crate::protocol`] on its standard output: [`Answer::Ready`], then one that ends the process.
//! What is long is the attachment of its answer.

use std::str::FromStr;

use domain::Section;
use serde::{Deserialize, Serialize};

/// What is to be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecoderTask {
    /// The picture of an image.
    Picture,
    /// The tracked segments of a Segmentation object.
    Segments,
    /// The text of a structured document.
    Document,
    /// A deflated data set up to its pixels.
    InflatedHeader,
    /// A deflated data set.
    Inflated,
}

impl DecoderTask {
    const ALL: [Self; 5] =
        [Self::Picture, Self::Segments, Self::Document, Self::InflatedHeader, Self::Inflated];

    /// The task as an argument.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Picture => "picture",
            Self::Segments => "segments",
            Self::Document => "document",
            Self::InflatedHeader => "inflated-header",
            Self::Inflated => "inflated",
        }
    }
}

/// An argument that is no task.
#[derive(Debug, thiserror::Error)]
#[error("no such task")]
pub struct UnknownTask;

impl FromStr for DecoderTask {
    type Err = UnknownTask;

    fn from_str(text: &str) -> Result<Self, UnknownTask> {
        Self::ALL.into_iter().find(|it| it.name() == text).ok_or(UnknownTask)
    }
}

/// An answer of the decoder's process.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The process is confined, and reads its file now.
    Ready,
    /// The process cannot be confined, and reads nothing.
    Unconfined {
        /// Why, for people.
        reason: String,
    },
    /// The file cannot be decoded.
    Undecodable {
        /// Why, for people.
        reason: String,
    },
    /// A picture. Its pixels are the attachment.
    Picture {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// Tracked segments. The masks of all are the attachment, one after the other.
    Segments {
        /// The segments.
        segments: Vec<SegmentAnswer>,
    },
    /// A structured document.
    Document {
        /// SOP Instance UIDs of the documents it follows.
        predecessors: Vec<String>,
        /// Its containers with text.
        sections: Vec<Section>,
    },
    /// A data set, inflated: the attachment.
    Inflated,
}

/// A segment without its masks.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentAnswer {
    pub(crate) tracking_uid: String,
    /// Rows and columns of its masks.
    pub(crate) size: [u32; 2],
    /// SOP Instance UIDs of the images that its masks lie on, in the order of the masks.
    pub(crate) images: Vec<String>,
}

impl SegmentAnswer {
    /// Length of one of its masks, in bytes.
    pub(crate) fn mask_bytes(&self) -> u64 {
        let [rows, columns] = self.size;
        (u64::from(rows) * u64::from(columns)).div_ceil(8)
    }
}
