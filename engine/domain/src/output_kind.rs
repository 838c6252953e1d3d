//! What a result can be written as: one list of kinds that workflow files, encoders, destinations and
//! the database share.
//!
//! Code that treats kinds differently matches on [`OutputKind`] or [`OutputFormat`] without a wildcard
//! arm, so that a new kind does not compile before every such place has decided about it.

use crate::{named_enum, sop_class};

named_enum! {
    /// One kind of output: what a result is written as. `ALL` is in the order in which a delivery
    /// sends the kinds: an object comes after the objects that it refers to (OUT-34).
    pub enum OutputKind {
        /// The original images, as they were received.
        Images = "images",
        /// DICOM Segmentation (PS3.3, A.51), or Label Map Segmentation.
        Seg = "seg",
        /// DICOM Comprehensive 3D SR with TID 1500: measurements.
        Sr = "sr",
        /// DICOM Enhanced SR with TID 2000: the report in prose.
        Narrative = "narrative",
        /// DICOM Enhanced SR: the reasoning of the model, as an annex to the reports. A delivery with
        /// `reasoning: true` has this kind beside those that it names; no workflow can name it.
        Reasoning = "reasoning",
        /// DICOM Grayscale Softcopy Presentation State: boxes over the images.
        Pr = "pr",
        /// DICOM Secondary Capture: copies of the images with the findings drawn in.
        Sc = "sc",
        /// DICOM Encapsulated PDF: the report as pages.
        Pdf = "pdf",
        /// DICOM Key Object Selection that rejects what was sent before (TID 2010). The engine adds it
        /// to a withdrawal; no workflow can request it.
        Rejection = "rejection",
        /// HL7 ORU^R01: observations.
        Oru = "oru",
        /// HL7 MDM: the report as a document.
        Mdm = "mdm",
        /// FHIR R4 transaction bundle.
        Fhir = "fhir",
        /// The result set of the engine itself, as JSON.
        Json = "json",
    }
}

/// The format of the bytes of an output, which several kinds share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// A DICOM file (PS3.10).
    Dicom,
    /// An HL7 version 2 message.
    Hl7,
    /// A FHIR bundle as JSON.
    Fhir,
    /// Other JSON.
    Json,
}

impl OutputFormat {
    /// The extension of a file with such an output, without the dot.
    pub const fn file_extension(self) -> &'static str {
        match self {
            Self::Dicom => "dcm",
            Self::Hl7 => "hl7",
            Self::Fhir | Self::Json => "json",
        }
    }
}

impl OutputKind {
    /// The kinds that a workflow file can name under `what`.
    pub fn requestable() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|kind| kind.is_requestable())
    }

    /// Whether a workflow file can request this kind. The others are added by the engine.
    pub const fn is_requestable(self) -> bool {
        match self {
            Self::Images
            | Self::Seg
            | Self::Sr
            | Self::Narrative
            | Self::Pr
            | Self::Sc
            | Self::Pdf
            | Self::Oru
            | Self::Mdm
            | Self::Fhir
            | Self::Json => true,
            Self::Reasoning | Self::Rejection => false,
        }
    }

    /// Whether an output of this kind has the reasoning of the model beside it or in it, where a
    /// delivery asks for that. Messages and bundles never have (OUT-41).
    pub const fn may_have_reasoning(self) -> bool {
        match self {
            Self::Sr | Self::Narrative | Self::Reasoning | Self::Pdf | Self::Json => true,
            Self::Images
            | Self::Seg
            | Self::Pr
            | Self::Sc
            | Self::Rejection
            | Self::Oru
            | Self::Mdm
            | Self::Fhir => false,
        }
    }

    /// The format of the bytes of this kind.
    pub const fn format(self) -> OutputFormat {
        match self {
            Self::Images
            | Self::Seg
            | Self::Sr
            | Self::Narrative
            | Self::Reasoning
            | Self::Pr
            | Self::Sc
            | Self::Pdf
            | Self::Rejection => OutputFormat::Dicom,
            Self::Oru | Self::Mdm => OutputFormat::Hl7,
            Self::Fhir => OutputFormat::Fhir,
            Self::Json => OutputFormat::Json,
        }
    }

    /// SOP Class UIDs of the objects that are written as this kind. Empty for what is no DICOM object,
    /// and for [`Self::Images`], which keep the SOP class they came with.
    pub const fn sop_classes(self) -> &'static [&'static str] {
        match self {
            Self::Seg => &[sop_class::SEGMENTATION, sop_class::LABEL_MAP_SEGMENTATION],
            Self::Sr => &[sop_class::COMPREHENSIVE_3D_SR],
            Self::Narrative | Self::Reasoning => &[sop_class::ENHANCED_SR],
            Self::Pr => &[sop_class::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE],
            Self::Sc => &[sop_class::SECONDARY_CAPTURE],
            Self::Pdf => &[sop_class::ENCAPSULATED_PDF],
            Self::Rejection => &[sop_class::KEY_OBJECT_SELECTION],
            Self::Images | Self::Oru | Self::Mdm | Self::Fhir | Self::Json => &[],
        }
    }

    /// Types of the HL7 messages that are written as this kind: MSH-9.1 and MSH-9.2. Empty for what
    /// is no HL7 message.
    pub const fn hl7_messages(self) -> &'static [&'static str] {
        match self {
            Self::Oru => &["ORU^R01"],
            // New, edited before it was signed, replaced, cancelled (HL7 v2.5.1, 9.5).
            Self::Mdm => &["MDM^T02", "MDM^T08", "MDM^T10", "MDM^T11"],
            Self::Images
            | Self::Seg
            | Self::Sr
            | Self::Narrative
            | Self::Reasoning
            | Self::Pr
            | Self::Sc
            | Self::Pdf
            | Self::Rejection
            | Self::Fhir
            | Self::Json => &[],
        }
    }

    /// Whether this kind is sent as DICOM objects.
    pub const fn is_dicom(self) -> bool {
        matches!(self.format(), OutputFormat::Dicom)
    }

    /// Whether the engine writes objects of this kind with Pixel Data of their own.
    pub const fn has_pixels(self) -> bool {
        match self {
            Self::Seg | Self::Sc => true,
            Self::Images
            | Self::Sr
            | Self::Narrative
            | Self::Reasoning
            | Self::Pr
            | Self::Pdf
            | Self::Rejection
            | Self::Oru
            | Self::Mdm
            | Self::Fhir
            | Self::Json => false,
        }
    }

    /// Whether the receiver shows this kind to clinicians: an unsigned result is not sent there
    /// unless the site allows it (HL7-52).
    pub const fn is_for_ehr(self) -> bool {
        match self.format() {
            OutputFormat::Hl7 | OutputFormat::Fhir => true,
            OutputFormat::Dicom | OutputFormat::Json => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_as_its_kind() {
        for kind in OutputKind::ALL {
            assert_eq!(OutputKind::parse(kind.name()), Some(*kind));
            let stored = serde_json::to_value(kind).unwrap();
            assert_eq!(stored, kind.name(), "the database stores the name");
        }
        assert_eq!(OutputKind::parse("fax"), None);
        assert_eq!(OutputKind::parse("SEG"), None);
    }

    #[test]
    fn out_34_segmentations_are_sent_before_the_reports_that_refer_to_them() {
        assert!(OutputKind::ALL.is_sorted());
        assert!(OutputKind::Seg < OutputKind::Sr && OutputKind::Seg < OutputKind::Narrative);
    }

    #[test]
    fn a_workflow_can_name_every_kind_but_rejection_note_and_reasoning() {
        let requestable: Vec<OutputKind> = OutputKind::requestable().collect();
        assert_eq!(requestable.len() + 2, OutputKind::ALL.len());
        assert!(!requestable.contains(&OutputKind::Rejection));
        assert!(!requestable.contains(&OutputKind::Reasoning));
    }

    #[test]
    fn every_object_that_the_engine_writes_has_a_sop_class_and_nothing_else_has() {
        for kind in OutputKind::ALL {
            let is_written_object = kind.is_dicom() && *kind != OutputKind::Images;
            assert_eq!(!kind.sop_classes().is_empty(), is_written_object, "{}", kind.name());
        }
    }

    #[test]
    fn out_41_no_kind_for_clinicians_has_the_reasoning_of_the_model() {
        assert!(OutputKind::ALL.iter().all(|it| !(it.is_for_ehr() && it.may_have_reasoning())));
    }

    #[test]
    fn hl7_52_messages_and_bundles_are_shown_to_clinicians() {
        let for_ehr: Vec<&str> = OutputKind::ALL
            .iter()
            .filter(|kind| kind.is_for_ehr())
            .map(|kind| kind.name())
            .collect();
        assert_eq!(for_ehr, ["oru", "mdm", "fhir"]);
    }
}
