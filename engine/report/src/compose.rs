//! From findings to what is sent.

use std::collections::BTreeMap;

use contracts::{Output, OutputKind};
use domain::{Demographics, Order, PatientId, ResultSet, derived_uid};
use uuid::Uuid;

use crate::oru::{MessageHeader, TemplateError, Templates};
use crate::pdf::PdfError;
use crate::status::{Words, words};
use crate::{seg, sr};

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

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The status allows no report.
    #[error("a result with this status cannot be sent")]
    Status,
    /// There is nothing of this kind in the findings.
    #[error("the run found nothing that can be sent as `{0}`")]
    NothingToSend(&'static str),
    /// A mask is not there, or not of the size of its volume.
    #[error("a mask is missing or of the wrong size")]
    MaskMissing,
    /// The library cannot write an object.
    #[error("an object cannot be written")]
    Unwritable(#[source] Box<dyn std::error::Error + Send + Sync>),
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
pub fn compose(
    what: &[OutputKind],
    results: &ResultSet,
    about: &About,
    masks: &BTreeMap<String, Vec<u8>>,
    templates: &Templates,
    header: &MessageHeader,
) -> Result<Vec<Output>, ReportError> {
    let mut words = words(results.status).ok_or(ReportError::Status)?;
    if results.is_correction() {
        // Table 0123: a correction to what the receiver has. The banner says that nobody signed it.
        words.hl7 = "C";
    }
    let mut kinds = what.to_vec();
    // A report refers to its segmentations: whoever gets it gets them (OUT-34).
    if kinds.contains(&OutputKind::Sr) {
        kinds.push(OutputKind::Seg);
    }
    kinds.sort();
    kinds.dedup();
    let mut outputs = Vec::new();
    for kind in kinds {
        match kind {
            OutputKind::Seg => outputs.extend(segmentations(results, about, masks, words)?),
            OutputKind::Sr => outputs.extend(report(results, about, words)?),
            OutputKind::Oru => {
                let id = control_id(results, header);
                let bytes = templates.oru(results, about, words, header, &id)?.into_bytes();
                outputs.push(Output { kind, id, sop_class: String::new(), bytes });
            }
            OutputKind::Json => {
                let bytes = serde_json::to_vec_pretty(results)
                    .map_err(|error| ReportError::Unwritable(Box::new(error)))?;
                let id = results.run.to_string();
                outputs.push(Output { kind, id, sop_class: String::new(), bytes });
            }
        }
    }
    if outputs.is_empty() {
        return Err(ReportError::NothingToSend("seg or sr"));
    }
    Ok(outputs)
}

/// MSH-10: the same on every try, another one for every destination; at most twenty characters.
fn control_id(results: &ResultSet, header: &MessageHeader) -> String {
    let uid = derived_uid(&[&results.name(), "oru", &header.destination]);
    let digits: Vec<char> = uid.chars().rev().take(20).collect();
    digits.into_iter().rev().collect()
}

fn segmentations(
    results: &ResultSet,
    about: &About,
    masks: &BTreeMap<String, Vec<u8>>,
    words: Words,
) -> Result<Vec<Output>, ReportError> {
    let study = about.study.as_ref().ok_or(ReportError::NothingToSend("seg"))?;
    let mut outputs = Vec::new();
    for (index, it) in results.segmentations.iter().enumerate() {
        let bytes = seg::encode(results, index, it, about, study, masks, words)?;
        let (_, id) = seg::uids(results, index);
        let sop_class = seg::SOP_CLASS.to_owned();
        outputs.push(Output { kind: OutputKind::Seg, id, sop_class, bytes });
    }
    Ok(outputs)
}

fn report(results: &ResultSet, about: &About, words: Words) -> Result<Vec<Output>, ReportError> {
    let study = about.study.as_ref().ok_or(ReportError::NothingToSend("sr"))?;
    let bytes = sr::encode(results, about, study, words)?;
    let (id, sop_class) = (sr::uid(results), sr::SOP_CLASS.to_owned());
    Ok(vec![Output { kind: OutputKind::Sr, id, sop_class, bytes }])
}
