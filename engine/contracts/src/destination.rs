use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// What a report is encoded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// The images themselves, as they were received.
    Images,
    /// DICOM Segmentation.
    Seg,
    /// DICOM Comprehensive 3D SR, TID 1500: measurements.
    Sr,
    /// DICOM Enhanced SR, TID 2000: the report in words.
    Narrative,
    /// DICOM Grayscale Softcopy Presentation State: regions over the images.
    Pr,
    /// DICOM Secondary Capture: what was found, drawn into copies of the images.
    Sc,
    /// DICOM Encapsulated PDF: the report as pages.
    Pdf,
    /// DICOM Key Object Selection: that what was sent is not to be used. Nobody asks for it.
    Rejection,
    /// HL7 ORU^R01.
    Oru,
    /// HL7 MDM: the report as a document.
    Mdm,
    /// FHIR R4 transaction bundle.
    Fhir,
    /// The result set itself.
    Json,
}

impl OutputKind {
    /// All that a workflow can ask for.
    pub const ALL: [Self; 11] = [
        Self::Images,
        Self::Seg,
        Self::Sr,
        Self::Narrative,
        Self::Pr,
        Self::Sc,
        Self::Pdf,
        Self::Oru,
        Self::Mdm,
        Self::Fhir,
        Self::Json,
    ];

    /// As workflow files and file names spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Seg => "seg",
            Self::Sr => "sr",
            Self::Narrative => "narrative",
            Self::Pr => "pr",
            Self::Sc => "sc",
            Self::Pdf => "pdf",
            Self::Rejection => "rejection",
            Self::Oru => "oru",
            Self::Mdm => "mdm",
            Self::Fhir => "fhir",
            Self::Json => "json",
        }
    }

    /// Whether it is a DICOM object.
    pub const fn is_dicom(self) -> bool {
        !self.is_for_ehr() && !matches!(self, Self::Json)
    }

    /// Whether it is a DICOM object with pixels.
    pub const fn is_image(self) -> bool {
        matches!(self, Self::Seg | Self::Sc)
    }

    /// Whether it is for those who treat: nobody unsigned gets there by default (HL7-52).
    pub const fn is_for_ehr(self) -> bool {
        matches!(self, Self::Oru | Self::Mdm | Self::Fhir)
    }
}

/// Something to send: one object or one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// What it is.
    pub kind: OutputKind,
    /// SOP Instance UID or MSH-10: the same on every try.
    pub id: String,
    /// Series Instance UID, for a DICOM object.
    #[serde(default)]
    pub series: String,
    /// SOP class, for a DICOM object.
    pub sop_class: String,
    /// A DICOM file, the text of a message in UTF-8, or JSON.
    pub bytes: Vec<u8>,
    /// SHA-256 of the data set in the archive, for an image as it was received: its bytes are read when it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<String>,
}

/// What kind of system a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationKind {
    /// Takes DICOM objects.
    Dicom,
    /// Takes HL7 messages.
    Mllp,
    /// Takes FHIR bundles.
    Fhir,
    /// Takes files of any kind.
    Folder,
}

/// How far something got that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is where it should be.
    Acknowledged,
    /// It was taken, and its safety is still to be confirmed (DIN-34).
    Promised,
}

/// Why something did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It may on another try.
    #[error("{0}")]
    Retryable(String),
    /// It was read and not applied; it may be on another try, and not for ever (HL7 `AE`).
    #[error("{0}")]
    NotApplied(String),
    /// It will not, unless somebody changes something.
    #[error("{0}")]
    Refused(String),
}

/// Where reports go.
#[async_trait]
pub trait Destination: Send + Sync {
    /// What it takes.
    fn kind(&self) -> DestinationKind;

    /// Sends, in order, and waits for each to be acknowledged. `run` names the run for people,
    /// `transaction` a request for storage commitment, should there be one.
    ///
    /// # Errors
    ///
    /// Says whether another try could help. Some of it may have arrived: it is sent again under
    /// the same names.
    async fn send(
        &self,
        run: &str,
        transaction: &str,
        outputs: &[Output],
    ) -> Result<Sent, SendError>;

    /// Sends one of several, which do not fit into memory together; `number` is its place among them, from nought.
    ///
    /// # Errors
    ///
    /// As for [`Self::send`].
    async fn send_part(
        &self,
        run: &str,
        transaction: &str,
        output: &Output,
        _number: usize,
    ) -> Result<Sent, SendError> {
        self.send(run, transaction, std::slice::from_ref(output)).await
    }
}
