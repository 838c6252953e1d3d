//! Outputs: what a delivery sends, and the forms in which a destination wants them written.

use domain::{OutputKind, sop_class};
use serde::{Deserialize, Serialize};

/// Something to send: one object, one message, or one bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// What it is.
    pub kind: OutputKind,
    /// SOP Instance UID, MSH-10, or the id of the bundle: the same on every attempt.
    pub id: String,
    /// Series Instance UID, for a DICOM object. Empty for everything else.
    #[serde(default)]
    pub series: String,
    /// SOP Class UID, for a DICOM object. Empty for everything else.
    pub sop_class: String,
    /// A DICOM file, the text of a message in UTF-8, or JSON.
    pub bytes: Vec<u8>,
    /// SHA-256 of the data set in the archive, for an image as it was received: its bytes are read
    /// when it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<String>,
}

/// How a destination wants segmentations encoded (OUT-10, OUT-12, OUT-13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentationForm {
    /// One bit per pixel, one frame for each segment and plane.
    #[default]
    Binary,
    /// One byte per pixel: the share of the pixel that belongs to the segment, here none or all.
    Fractional,
    /// One number per pixel: the segment that the pixel belongs to. Segments that overlap cannot be
    /// encoded in this form.
    Labelmap,
}

impl SegmentationForm {
    /// SOP Class UID of a segmentation in this form.
    pub const fn sop_class(self) -> &'static str {
        match self {
            Self::Binary | Self::Fractional => sop_class::SEGMENTATION,
            Self::Labelmap => sop_class::LABEL_MAP_SEGMENTATION,
        }
    }

    /// Segmentation Type (0062,0001).
    pub const fn segmentation_type(self) -> &'static str {
        match self {
            Self::Binary => "BINARY",
            Self::Fractional => "FRACTIONAL",
            Self::Labelmap => "LABELMAP",
        }
    }
}

/// How a message carries the report itself, beside its findings (HL7-60).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportForm {
    /// The message carries findings only.
    #[default]
    None,
    /// As formatted text (`FT`).
    Text,
    /// As a PDF (`ED`).
    Pdf,
}

/// How one destination wants its outputs written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preferences {
    /// MSH-5 of messages: the receiving application.
    pub application: String,
    /// MSH-6 of messages: the receiving facility.
    pub facility: String,
    /// MSH-18 of messages (table 0211).
    pub character_set: String,
    /// How messages carry the report itself.
    pub report: ReportForm,
    /// How segmentations are encoded.
    pub segmentation: SegmentationForm,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            application: String::new(),
            facility: String::new(),
            character_set: "UNICODE UTF-8".to_owned(),
            report: ReportForm::default(),
            segmentation: SegmentationForm::default(),
        }
    }
}
