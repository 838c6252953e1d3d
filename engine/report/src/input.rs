//! What an output is encoded from, and why it may not be.

use std::collections::BTreeMap;

use domain::row_keys::ChangeRow;
use domain::{
    Demographics, LabRow, Order, OutputKind, PatientId, ResultSet, ReviewState, Segment,
    SopInstanceUid,
};
use imaging::Picture;
use jiff::Timestamp;
use uuid::Uuid;

use crate::language::Language;
use crate::layout::fonts::{Fonts, PdfError};
use crate::recipient::Recipient;
use crate::status::StatusCodes;

/// Code of a comment (DCM), such as a remark of a plugin on what it has not looked at.
pub(crate) const COMMENT: &str = "121106";

/// What a report states beside its findings.
#[derive(Clone, Debug)]
pub struct ReportContext {
    /// The run.
    pub run: Uuid,
    /// The present identifier of the patient (DIN-63).
    pub patient: PatientId,
    /// Name, birth date and sex of the patient.
    pub demographics: Demographics,
    /// The study, if the report is about one.
    pub study: Option<StudyDescription>,
    /// The orders that the report answers.
    pub orders: Vec<Order>,
    /// The equipment that made the report.
    pub engine: Engine,
    /// What the destination has of the result, if it has anything.
    pub previous: Option<PreviousDelivery>,
    /// What people have taken out of the draft.
    pub taken_out: TakenOut,
}

/// Rows of a draft that are not in its result any more: who has them is told that they do not hold
/// (HL7-53).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TakenOut {
    /// What became of findings.
    pub changes: Vec<ChangeRow>,
    /// Rows of a laboratory report.
    pub rows: Vec<LabRow>,
    /// Segments, whose measurements were rows.
    pub segments: Vec<Segment>,
}

/// What a destination has of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreviousDelivery {
    /// What people had made of the result that it has; `None` if it has a draft.
    pub state: Option<ReviewState>,
    /// Whether it was sent by the same run, not by the run that this one replaces or adds to.
    pub is_of_this_run: bool,
    /// What the last delivery sent.
    pub objects: Vec<SentObject>,
    /// Everything that any attempt sent: objects without an acknowledgement may have arrived.
    pub attempted: Vec<SentObject>,
}

/// An output that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentObject {
    /// What it is.
    pub kind: OutputKind,
    /// SOP Class UID, for a DICOM object. Empty for everything else.
    pub sop_class: String,
    /// Series Instance UID, for a DICOM object. Empty for everything else.
    pub series: String,
    /// SOP Instance UID, MSH-10, or the id of a bundle.
    pub id: String,
}

/// A study, as its images describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StudyDescription {
    /// Study Instance UID.
    pub uid: String,
    /// Study Date (DA).
    pub date: String,
    /// Study Time (TM).
    pub time: String,
    /// Study ID.
    pub id: String,
    /// Study Description.
    pub description: String,
    /// Accession Number.
    pub accession: String,
}

/// The equipment that makes objects: this engine (OUT-19).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// AE title of the engine.
    pub name: String,
    /// Manufacturer.
    pub manufacturer: String,
    /// Manufacturer's Model Name.
    pub model: String,
    /// Device Serial Number.
    pub serial: String,
    /// Device Observer UID.
    pub uid: String,
    /// Software Versions.
    pub version: String,
    /// The language of the site, which labels of unsigned results are in.
    pub language: Language,
}

/// Everything that the outputs of one delivery are encoded from.
#[derive(Clone, Copy)]
pub struct ReportInput<'a> {
    /// The findings.
    pub results: &'a ResultSet,
    /// Patient, study and orders.
    pub context: &'a ReportContext,
    /// How far the result may be trusted, in the codes of each encoding.
    pub status: StatusCodes,
    /// Masks, by the SHA-256 in their reference.
    pub masks: &'a BTreeMap<String, Vec<u8>>,
    /// The images that findings are drawn into.
    pub pictures: &'a BTreeMap<SopInstanceUid, Picture>,
    /// Images that cannot be decoded, each with the reason: nothing is drawn into them.
    pub undecodable: &'a BTreeMap<SopInstanceUid, String>,
    /// The fonts of pages and pictures.
    pub fonts: &'a Fonts,
    /// The destination, and what it prefers.
    pub recipient: &'a Recipient,
}

impl ReportInput<'_> {
    /// When the result became what it is: when the last node had ended, or a person decided.
    pub(crate) fn created_at(&self) -> Timestamp {
        self.results.attested.as_ref().map_or(self.results.concluded, |attestation| attestation.at)
    }

    /// What every text states about the result, in the language of the site: that nobody has signed
    /// it, or that it was withdrawn. Empty, once a person has signed (OUT-03).
    pub(crate) const fn label(&self) -> &'static str {
        let language = self.context.engine.language;
        if self.status.is_withdrawn {
            language.withdrawal_notice()
        } else if self.status.needs_banner {
            language.label()
        } else {
            ""
        }
    }

    /// The language of what the result says. Comments of plugins are in the language of plugins.
    pub(crate) fn language(&self) -> Language {
        let results = self.results;
        let findings = results.findings.iter().map(|it| it.text.as_str());
        let sections = results.sections.iter().filter(|it| it.title.value != COMMENT);
        let sections = sections.map(|it| it.text.as_str());
        let regions = results.regions.iter().map(|it| it.label.as_str());
        let rows = results.laboratory.iter().map(|it| it.entry_name.as_str());
        let texts: Vec<&str> = findings.chain(sections).chain(regions).chain(rows).collect();
        Language::of_text(&texts.join("\n")).unwrap_or_default()
    }

    /// Whether it corrects a final result that the destination has: both are signed, and it takes the
    /// place of that one. A draft corrects nothing, however often it is sent (HL7-51).
    pub(crate) fn is_correction(&self) -> bool {
        let previous = self.context.previous.as_ref();
        let final_one = previous.filter(|it| it.state.is_some_and(ReviewState::is_signed));
        let replaces = self.results.amends.is_some_and(|it| it.is_replaced);
        self.status.is_verified() && final_one.is_some_and(|it| it.is_of_this_run || replaces)
    }
}

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The findings have nothing of this kind.
    #[error("the run found nothing that can be sent as `{0}`")]
    NothingToSend(&'static str),
    /// The result was withdrawn, and the destination never had it.
    #[error("the result was withdrawn before it was sent")]
    NothingSent,
    /// A mask is missing, or has another size than its volume.
    #[error("a mask is missing or of the wrong size")]
    MaskMissing,
    /// A label map has one number for each pixel.
    #[error("segments overlap, or are too many: they cannot be sent as a label map")]
    Overlapping,
    /// An image is missing, or cannot be displayed.
    #[error("an image to draw into is missing")]
    ImageMissing,
    /// The only images to draw into cannot be decoded.
    #[error("image {instance} cannot be drawn into: {reason}")]
    ImageUndecodable {
        /// SOP Instance UID of the first.
        instance: String,
        /// Why it cannot be decoded.
        reason: String,
    },
    /// An object cannot state the identity of the patient as it is.
    #[error(
        "{attribute} {problem}: no object can state it as it is, and none is sent with another"
    )]
    Identity {
        /// The attribute that cannot hold it.
        attribute: &'static str,
        /// What keeps it out.
        problem: &'static str,
    },
    /// The library cannot encode an object.
    #[error("an object cannot be written")]
    Unwritable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An output failed its validation: the problems that were found.
    #[error("an output is not valid and is not sent: {0}")]
    Invalid(String),
    /// A template cannot be filled in.
    #[error("a template cannot be filled in")]
    Template(#[from] TemplateError),
    /// No page can be made.
    #[error(transparent)]
    Pdf(#[from] PdfError),
}

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file cannot be read.
    #[error("cannot read the template `{file}`")]
    Io {
        /// The file.
        file: String,
        /// The failure of the system.
        source: std::io::Error,
    },
    /// The template does not parse, or names a value that does not exist.
    #[error("{0}")]
    Template(String),
}
