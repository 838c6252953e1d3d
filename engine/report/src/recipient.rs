use serde::{Deserialize, Serialize};

use crate::seg::SegmentationForm;

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
