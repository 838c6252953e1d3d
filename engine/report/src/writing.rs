//! Everything that something is written from, and why it may not be.

use std::collections::BTreeMap;

use domain::{Demographics, Order, OutputKind, PatientId, ResultSet, SopInstanceUid};
use imaging::Picture;
use uuid::Uuid;

use crate::fonts::{Fonts, PdfError};
use crate::recipient::Recipient;
use crate::status::Words;

/// What a report says beside its findings.
#[derive(Clone, Debug)]
pub struct About {
    /// The run.
    pub run: Uuid,
    /// By what the patient is known now (DIN-63).
    pub patient: PatientId,
    /// Who that is.
    pub demographics: Demographics,
    /// The study, if it is about one.
    pub study: Option<StudyAbout>,
    /// The orders it answers.
    pub orders: Vec<Order>,
    /// Us.
    pub engine: Engine,
    /// What the destination has of it, if it has anything.
    pub before: Option<Before>,
}

/// What a destination has of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Which state people had given it then; nought, if none.
    pub version: u32,
    /// Whether it is of this run, not of the one it replaces or adds to.
    pub is_own: bool,
    /// What was sent last.
    pub objects: Vec<SentObject>,
    /// All that was ever tried to send: of what was not acknowledged, some may have arrived.
    pub tried: Vec<SentObject>,
}

/// Something that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentObject {
    /// What it is.
    pub kind: OutputKind,
    /// SOP class, for a DICOM object.
    pub sop_class: String,
    /// Series Instance UID, for a DICOM object.
    pub series: String,
    /// SOP Instance UID or MSH-10.
    pub id: String,
}

/// A study, as its images describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StudyAbout {
    /// Study Instance UID.
    pub uid: String,
    /// Study Date.
    pub date: String,
    /// Study Time.
    pub time: String,
    /// Study ID.
    pub id: String,
    /// Study Description.
    pub description: String,
    /// Accession Number.
    pub accession: String,
}

/// How the engine names itself (OUT-19).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Its AE title.
    pub name: String,
    /// Who makes it.
    pub manufacturer: String,
    /// What it is.
    pub model: String,
    /// Which of them.
    pub serial: String,
    /// Which version.
    pub version: String,
}

/// Everything that something is written from, and for whom.
#[derive(Clone, Copy)]
pub struct Writing<'a> {
    /// What was found.
    pub results: &'a ResultSet,
    /// Whose it is and what about.
    pub about: &'a About,
    /// How far it may be trusted, in the words of each encoding.
    pub words: Words,
    /// Masks, by their digest.
    pub masks: &'a BTreeMap<String, Vec<u8>>,
    /// Images that something is drawn into.
    pub pictures: &'a BTreeMap<SopInstanceUid, Picture>,
    /// What pages and pictures are written with.
    pub fonts: &'a Fonts,
    /// Who gets it.
    pub recipient: &'a Recipient,
}

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// There is nothing of this kind in the findings.
    #[error("the run found nothing that can be sent as `{0}`")]
    NothingToSend(&'static str),
    /// What was taken back was never there.
    #[error("the result was taken back before it was sent")]
    NothingSent,
    /// A mask is not there, or not of the size of its volume.
    #[error("a mask is missing or of the wrong size")]
    MaskMissing,
    /// A label map has one number for each pixel.
    #[error("segments overlap, or are too many: they cannot be sent as a label map")]
    Overlapping,
    /// An image is not there, or cannot be shown.
    #[error("an image to draw into is missing")]
    ImageMissing,
    /// The library cannot write an object.
    #[error("an object cannot be written")]
    Unwritable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What was written is not what it should be.
    #[error("what was written is not sound, and is not sent: {0}")]
    Unsound(String),
    /// A template does not work out.
    #[error("a template cannot be filled in")]
    Template(#[from] TemplateError),
    /// No page can be made.
    #[error(transparent)]
    Pdf(#[from] PdfError),
}

/// Why a template is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file cannot be read.
    #[error("cannot read the template `{file}`")]
    Io {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no template, or does not work out.
    #[error("{0}")]
    Template(String),
}
