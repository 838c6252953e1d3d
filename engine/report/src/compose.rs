//! From findings to what is sent.

use std::collections::BTreeMap;

use contracts::{Output, OutputKind};
use domain::{Demographics, Order, PatientId, ResultSet, SopInstanceUid, derived_uid};
use imaging::Picture;
use uuid::Uuid;

use crate::pdf::PdfError;
use crate::recipient::Recipient;
use crate::status::Words;
use crate::templates::{TemplateError, Templates};
use crate::{
    encapsulated_pdf, fhir, gate, narrative_sr, overlay, presentation_state, rejection, seg, sr,
};

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
    /// What was sent.
    pub objects: Vec<SentObject>,
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
    /// Images that something is drawn into ([`overlay::key_images`]).
    pub pictures: &'a BTreeMap<SopInstanceUid, Picture>,
    /// What messages and pages are made with.
    pub templates: &'a Templates,
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

/// Writes what a delivery asks for, in the order to send it in: segmentations before the report
/// that refers to them (OUT-34).
///
/// # Errors
///
/// Says why nothing can be sent.
pub fn compose(what: &[OutputKind], writing: &Writing<'_>) -> Result<Vec<Output>, ReportError> {
    let mut kinds = what.to_vec();
    // A report refers to its segmentations: whoever gets it gets them (OUT-34).
    if kinds.contains(&OutputKind::Sr) || kinds.contains(&OutputKind::Narrative) {
        kinds.push(OutputKind::Seg);
    }
    if writing.words.is_void {
        if writing.about.before.is_none() {
            return Err(ReportError::NothingSent);
        }
        // What objects said stays in the archive; a note says that they are not to be used.
        let has_objects = kinds.iter().any(|it| it.is_dicom());
        kinds.retain(|it| !it.is_dicom());
        kinds.extend(has_objects.then_some(OutputKind::Rejection));
    }
    kinds.sort();
    kinds.dedup();
    let mut outputs = Vec::new();
    for kind in kinds {
        outputs.extend(written(kind, writing)?);
    }
    if outputs.is_empty() {
        return Err(ReportError::NothingToSend("anything it is to be sent as"));
    }
    let problems: Vec<String> = outputs.iter().flat_map(gate::problems).collect();
    if !problems.is_empty() {
        return Err(ReportError::Unsound(problems.join("; ")));
    }
    Ok(outputs)
}

fn written(kind: OutputKind, writing: &Writing<'_>) -> Result<Vec<Output>, ReportError> {
    let plain = |id: String, bytes: Vec<u8>| {
        let (series, sop_class) = (String::new(), String::new());
        Ok(vec![Output { kind, id, series, sop_class, bytes }])
    };
    match kind {
        OutputKind::Oru => {
            let id = control_id(writing, "oru");
            let message = writing.templates.oru(writing, &id)?;
            plain(id, message.into_bytes())
        }
        OutputKind::Mdm => {
            let id = control_id(writing, "mdm");
            let message = writing.templates.mdm(writing, &id)?;
            plain(id, message.into_bytes())
        }
        OutputKind::Fhir => plain(fhir::id(writing), json(&fhir::bundle(writing)?)?),
        OutputKind::Json => plain(writing.results.run.to_string(), json(writing.results)?),
        _ => {
            let study = writing.about.study.as_ref();
            objects(kind, writing, study.ok_or(ReportError::NothingToSend(kind.name()))?)
        }
    }
}

/// DICOM objects of a kind.
fn objects(
    kind: OutputKind,
    writing: &Writing<'_>,
    study: &StudyAbout,
) -> Result<Vec<Output>, ReportError> {
    let results = writing.results;
    let object = |(series, id): (String, String), class: &str, bytes: Vec<u8>| {
        let sop_class = class.to_owned();
        Output { kind, id, series, sop_class, bytes }
    };
    Ok(match kind {
        OutputKind::Seg => return segmentations(writing, study),
        OutputKind::Pr => {
            let groups = presentation_state::groups(writing).into_iter().enumerate();
            let state = |(index, group): (usize, presentation_state::Group<'_>)| {
                let bytes = presentation_state::encode(writing, study, index, &group)?;
                let uids = presentation_state::uids(writing, index);
                Ok(object(uids, presentation_state::SOP_CLASS, bytes))
            };
            groups.map(state).collect::<Result<_, ReportError>>()?
        }
        OutputKind::Sc => {
            let images = overlay::key_images(results, writing.masks).into_iter().enumerate();
            let picture = |(index, image): (usize, overlay::KeyImage)| {
                let bytes = overlay::encode(writing, study, index, &image)?;
                Ok(object(overlay::uids(writing, index), overlay::SOP_CLASS, bytes))
            };
            images.map(picture).collect::<Result<_, ReportError>>()?
        }
        OutputKind::Narrative => {
            let bytes = narrative_sr::encode(writing, study)?;
            vec![object(narrative_sr::uids(writing), narrative_sr::SOP_CLASS, bytes)]
        }
        OutputKind::Pdf => {
            let bytes = encapsulated_pdf::encode(writing, study)?;
            vec![object(encapsulated_pdf::uids(writing), encapsulated_pdf::SOP_CLASS, bytes)]
        }
        OutputKind::Rejection => {
            let bytes = rejection::encode(writing, study)?;
            vec![object(rejection::uids(writing), rejection::SOP_CLASS, bytes)]
        }
        _ => {
            let form = writing.recipient.segmentation;
            let bytes = sr::encode(results, writing.about, study, writing.words, form)?;
            vec![object(sr::uids(results), sr::SOP_CLASS, bytes)]
        }
    })
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, ReportError> {
    serde_json::to_vec_pretty(value).map_err(|error| ReportError::Unwritable(Box::new(error)))
}

/// MSH-10: the same on every try, another one for every destination; at most twenty characters.
fn control_id(writing: &Writing<'_>, kind: &str) -> String {
    let name = writing.results.name();
    let uid = derived_uid(&[&name, kind, &writing.recipient.destination]);
    let digits: Vec<char> = uid.chars().rev().take(20).collect();
    digits.into_iter().rev().collect()
}

fn segmentations(writing: &Writing<'_>, study: &StudyAbout) -> Result<Vec<Output>, ReportError> {
    let Writing { results, about, words, masks, recipient, .. } = writing;
    let form = recipient.segmentation;
    let mut outputs = Vec::new();
    for (index, it) in results.segmentations.iter().enumerate() {
        let bytes = seg::encode(results, index, it, about, study, masks, (*words, form))?;
        let (series, id) = seg::uids(results, index, form);
        let sop_class = form.sop_class().to_owned();
        outputs.push(Output { kind: OutputKind::Seg, id, series, sop_class, bytes });
    }
    Ok(outputs)
}
