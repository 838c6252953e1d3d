use serde::{Deserialize, Serialize};

/// Segmentation Storage.
const SEGMENTATION: &str = "1.2.840.10008.5.1.4.1.1.66.4";

/// Label Map Segmentation Storage.
const LABEL_MAP: &str = "1.2.840.10008.5.1.4.1.1.66.7";

/// As what a destination wants segmentations (OUT-10, OUT-12, OUT-13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentationForm {
    /// A bit a pixel, a frame for each segment and plane.
    #[default]
    Binary,
    /// A byte a pixel: how much of it belongs to the segment, here nothing or all.
    Fractional,
    /// A number a pixel: the segment it belongs to. Segments that overlap cannot be written so.
    Labelmap,
}

impl SegmentationForm {
    /// The SOP class of what it writes.
    pub const fn sop_class(self) -> &'static str {
        match self {
            Self::Binary | Self::Fractional => SEGMENTATION,
            Self::Labelmap => LABEL_MAP,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Binary => "BINARY",
            Self::Fractional => "FRACTIONAL",
            Self::Labelmap => "LABELMAP",
        }
    }
}

/// As what a message carries the report itself, beside its findings (HL7-60).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportForm {
    /// Not at all.
    #[default]
    None,
    /// As formatted text (`FT`).
    Text,
    /// As a PDF (`ED`).
    Pdf,
}

/// Whom something is from and to, and what they want it written as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Recipient {
    /// Name of the destination.
    pub destination: String,
    /// MSH-3.
    pub sending_application: String,
    /// MSH-4.
    pub sending_facility: String,
    /// MSH-5.
    pub receiving_application: String,
    /// MSH-6.
    pub receiving_facility: String,
    /// MSH-18.
    pub character_set: String,
    /// As what a message carries the report.
    pub report: ReportForm,
    /// As what masks are written.
    pub segmentation: SegmentationForm,
}
