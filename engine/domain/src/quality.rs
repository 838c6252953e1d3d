//! What can be wrong with an instance or a message that is stored nevertheless.

use crate::named_enum;

named_enum! {
    /// A fault of an instance's header, or a contradiction to its study or series.
    pub enum QualityFlag {
        /// Specific Character Set (0008,0005) names a set that the engine does not know.
        CharsetUnknown = "charset_unknown",
        /// Specific Character Set (0008,0005) is misspelt, and leaves no doubt which one is meant.
        CharsetMisspelt = "charset_misspelt",
        /// An element has `??`, spaces or zeros for a value representation.
        VrUnknown = "vr_unknown",
        /// Zeros follow the last element.
        TrailingZeros = "trailing_zeros",
        /// Elements of group 0000 or 0002 are in the data set. They are passed over.
        ForeignGroup = "foreign_group",
        /// There is no Patient ID (0010,0020).
        PatientIdMissing = "patient_id_missing",
        /// Patient ID (0010,0020) cannot be decoded: it identifies nobody (DIN-74).
        PatientIdUndecodable = "patient_id_undecodable",
        /// The issuer of the Patient ID, (0010,0021) or (0010,0024), cannot be decoded: the Patient
        /// ID identifies nobody, since the default issuer would make it another patient's (DIN-60).
        PatientIssuerUndecodable = "patient_issuer_undecodable",
        /// Patient's Name (0010,0010) cannot be decoded.
        PatientNameUndecodable = "patient_name_undecodable",
        /// Accession Number (0008,0050) cannot be decoded.
        AccessionUndecodable = "accession_undecodable",
        /// Accession Number (0008,0050) has more than sixteen characters: objects of the engine leave
        /// it empty, since a cut one would be that of another order (HL7-41).
        AccessionTooLong = "accession_too_long",
        /// The SOP Instance UID is malformed.
        InstanceUidMalformed = "identity_sop_instance_uid_malformed",
        /// The Series Instance UID is malformed.
        SeriesUidMalformed = "identity_series_uid_malformed",
        /// The Study Instance UID is malformed.
        StudyUidMalformed = "identity_study_uid_malformed",
        /// The patient is another one than that of the study.
        PatientDiffersFromStudy = "identity_patient_differs_from_study",
        /// The series is known as part of another study.
        SeriesOfAnotherStudy = "identity_series_of_another_study",
        /// The modality is another one than that of the series.
        ModalityDiffersFromSeries = "identity_modality_differs_from_series",
        /// The frame of reference is another one than that of the series.
        FrameOfReferenceDiffersFromSeries = "identity_frame_of_reference_differs_from_series",
    }
}

impl QualityFlag {
    /// Whether it is uncertain what or whom the instance belongs to: it is stored and used by
    /// nothing (DIN-61).
    pub const fn is_identity_conflict(self) -> bool {
        self.conflict().is_some()
    }

    /// What makes it uncertain what or whom the instance belongs to, for its sender; nothing, if
    /// this does not.
    pub const fn conflict(self) -> Option<&'static str> {
        match self {
            Self::CharsetUnknown
            | Self::CharsetMisspelt
            | Self::VrUnknown
            | Self::TrailingZeros
            | Self::ForeignGroup
            | Self::PatientIdMissing
            | Self::PatientIdUndecodable
            | Self::PatientIssuerUndecodable
            | Self::PatientNameUndecodable
            | Self::AccessionUndecodable
            | Self::AccessionTooLong => None,
            Self::InstanceUidMalformed => Some("SOP Instance UID is malformed"),
            Self::SeriesUidMalformed => Some("Series Instance UID is malformed"),
            Self::StudyUidMalformed => Some("Study Instance UID is malformed"),
            Self::PatientDiffersFromStudy => Some("patient is not that of its study"),
            Self::SeriesOfAnotherStudy => Some("series is known in another study"),
            Self::ModalityDiffersFromSeries => Some("modality is not that of its series"),
            Self::FrameOfReferenceDiffersFromSeries => {
                Some("frame of reference is not that of its series")
            }
        }
    }
}

named_enum! {
    /// What is unusual about a message that is stored and not refused for it.
    pub enum MessageFlag {
        /// MSH-18 names the character set otherwise than table 0211, in a way that leaves no doubt.
        CharsetNameUnusual = "charset_name_unusual",
        /// There are bytes that the character set does not have.
        TextUndecodable = "text_undecodable",
        /// The name of a patient (PID-5) cannot be decoded: what is known of it stays.
        NameUndecodable = "name_undecodable",
        /// MSH-9 names no trigger event.
        EventMissing = "event_missing",
        /// MSH-15 or MSH-16 has a value that is not in table 0155: it is read as `AL`.
        AcknowledgementConditionUnknown = "acknowledgement_condition_unknown",
        /// A file (OBX-5) is of another type than its sender states: its bytes are right.
        DocumentTypeDiffers = "document_type_differs",
        /// A file is encoded otherwise than its sender states, or states nothing: its bytes are
        /// right.
        DocumentEncodingDiffers = "document_encoding_differs",
        /// An observation of text is a file: its text is no value.
        DocumentAsText = "document_as_text",
        /// A file came in several observations, and was put together.
        DocumentInPieces = "document_in_pieces",
        /// A file cannot be decoded.
        DocumentUnreadable = "document_unreadable",
        /// A document is elsewhere (OBX-2 `RP`), and was not fetched.
        DocumentByPointer = "document_by_pointer",
        /// The accession number of an order has more characters than images can carry: by it, no
        /// images are found unless the site says how they carry it, and objects of the engine leave
        /// it empty (HL7-41).
        AccessionTooLong = "accession_too_long",
        /// Messages with its processing id (MSH-11) change nothing here: training, debugging.
        WithoutEffect = "without_effect",
    }
}
