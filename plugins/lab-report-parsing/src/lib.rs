//! Reads laboratory reports and other documents: observations of messages, and papers.
//!
//! ```yaml
//! table: { plugin: lab-report-parsing }
//! paper: { plugin: lab-report-parsing, with: { readers: [ocr, letters], doubts: keep } }
//! ```
//!
//! | task | output |
//! |---|---|
//! | `table` (PAP-10) | a row with the paper's four columns for each result, and a finding for each abnormal one |
//! | `question` (PAP-11) | the result of one entry, `question` |
//! | `abnormal` (PAP-12) | the abnormal rows, and where the model's list of them differs from the computed one |
//! | `document` (PAP-13) | the kind of a document, and the fields of its kind (`kinds.yaml`) |
//!
//! The kind of a document is told by titles and words with weights, at word boundaries, on all pages;
//! headings weigh more. Where the evidence is weak, or nearly as good for another kind, the document
//! is rejected (`kind_unknown`). Fields go on over lines and pages; several drugs are several items.
//! A site adds kinds, or words and labels of known ones, under `kinds`, in the form of `kinds.yaml`:
//!
//! ```yaml
//! kinds: [{ kind: referral, titles: [Referral letter], fields: { reason: [Reason] } }]
//! ```
//!
//! Each observation of a message with a result is a row, with its specimen, time, sub-ID, status
//! and notes. One without a value, and a pointer to a document, is named in a remark, as is one
//! whose status says that it is no result (OBX-11 D, W, X, N, I, O). Where
//! it takes back what was reported before, its row has no value and says so; a message that only
//! withdraws what nobody reported is rejected. If there is no row, papers are read: files in a
//! message (PDF, PNG, JPEG; OBX of type ED), Encapsulated PDF, Secondary Capture and photographs. A page is cut out of its background, turned
//! upright and levelled (PAP-30), defects of its picture are reported (PAP-36), and two independent
//! `readers` read it (PAP-31): `ocr`, text recognised by PP-OCR; `letters`, the text of the PDF or
//! text recognised by Tesseract; the shared `model`. A row that two of them read alike is certain;
//! otherwise each field that another reads differently is marked with what it reads. Of three, the
//! model is asked about papers on which the others differ. A page with text of its own needs no
//! recognition, so `ocr` reads pictures of pages only.
//!
//! `ocr` needs the models that `isocenter model import` takes from a published release. Without
//! them `letters` reads alone, or with the model, and a remark says so. An inline plugin finds them
//! if the engine's own environment names their folder (`ISOCENTER_MODELS`). The task `document` is
//! read by letters and model.
//!
//! The model is asked in the language of the page, by the prompts in `prompts/`: one for each task
//! and language, and a part for each kind of document. A site fixes the language, or replaces any:
//! `prompts: { language: zh, zh: { table: '...', kinds: { prescription: '...' } } }`. The comment of
//! a result names the version of each prompt, which changes with its text.
//!
//! Name, date of birth, sex and identifiers of the patient are read from each page, by the labels
//! of `patient.yaml`. The engine compares them with the patient whom the paper is filed under, and
//! rejects a paper of somebody else or of two patients. A site adds labels, and says which authority
//! stands behind the label of an identifier; without that, an identifier contradicts only another
//! one behind the same label:
//!
//! ```yaml
//! patient_labels:
//!   name: [Nombre]
//!   identifier: [{ words: [Clinic no], authority: HOSP }]
//! ```
//!
//! Of a reference that depends on sex or age (`M 13-17 F 12-15`), the range of the patient is used,
//! by what the page states or else the message; if that is not known, the row of a paper is doubted.
//! Numbers are read by the convention of their paper: `4,15` is 4.15, `1,234` is 1234 beside decimal
//! points and 1.234 beside decimal commas, and doubted beside neither. A note has what is printed.
//!
//! With `doubts: refuse`, the default, a paper with marked rows is rejected: a person has to look.
//! `keep` is for workflows in which a person reviews every result. Pages that only recognition or
//! only the model has read are always doubtful.
//!
//! Units are converted to UCUM notation where they are known; values are never converted. Whether a
//! row is abnormal is computed from result and reference (HL7-63); a row whose flag from the sender
//! says otherwise is marked as disagreeing. If nothing can be computed, the flag is that of the
//! sender; an empty one never means normal. A critical flag of the sender (HH, LL, AA) stays
//! whatever is computed.

mod agreement;
mod answers;
mod document;
mod doubt;
mod measuring;
mod observation;
mod page;
mod patient;
mod prompts;
mod reading;
mod rejection;
mod row;
mod sources;
mod table;
mod vocabulary;

use std::collections::BTreeMap;

use domain::{
    Abnormality, Code, LabRow, NodeInput, NodeOutput, Observation, OnDoubt, PatientFacts, Section,
    StatedPatient,
};
use encoding::laboratory::patient_range::{PatientRange, range_for};
use plugin_api::{Context, NodeError, Plugin, export_plugin};
use serde::{Deserialize, Deserializer};

pub use document::kind::Kind;
pub use doubt::Doubt;
pub use measuring::{ReadRow, RowReader, TwoReadings, read, read_twice};
pub use observation::Received;
pub use page::{Flaw, PagePosition, page_position};
pub use patient::labels::PatientLabels;
pub use prompts::{Language, Prompts};
pub use reading::Reader;

use crate::answers::is_same_value;
use crate::document::DocumentReading;
use crate::patient::PagePatient;
use crate::prompts::PromptTask;
use crate::reading::Reading;
use crate::rejection::Reason;
use crate::row::{Fields, finding, row};
use crate::sources::{Paper, papers};
use crate::table::numbers::{self, Convention};
use crate::table::{Entry, ReadEntry, plausibility};

/// The plugin.
pub struct Table;

/// The settings of a node, under `with:` of a workflow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The task.
    #[serde(default)]
    pub task: Task,
    /// Name of the entry that the task `question` is about.
    #[serde(default)]
    pub question: Option<String>,
    /// The readers of papers.
    #[serde(default = "both", deserialize_with = "reading::readers")]
    pub readers: Vec<Reader>,
    /// The treatment of doubtful readings.
    #[serde(default)]
    pub doubts: Doubts,
    /// The language of prompts, and the prompts that the site replaces.
    #[serde(default)]
    pub prompts: Prompts,
    /// Kinds of documents that the site adds, or words and labels of known ones.
    #[serde(default)]
    pub kinds: Vec<Kind>,
    /// The labels by which pages name their patient: under this key, those that the site adds.
    #[serde(default = "standard_labels", deserialize_with = "patient_labels")]
    pub patient_labels: PatientLabels,
}

fn standard_labels() -> PatientLabels {
    PatientLabels::standard().clone()
}

/// The standard labels and those that a site adds.
fn patient_labels<'de, D: Deserializer<'de>>(from: D) -> Result<PatientLabels, D::Error> {
    Ok(PatientLabels::standard().extended(PatientLabels::deserialize(from)?))
}

/// The task of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// A table of all results.
    #[default]
    Table,
    /// The result of one entry.
    Question,
    /// The abnormal results.
    Abnormal,
    /// A document of any kind.
    Document,
}

/// The treatment of doubtful readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doubts {
    /// The input is rejected.
    #[default]
    Refuse,
    /// Doubts are marked, for the person who reviews.
    Keep,
}

fn both() -> Vec<Reader> {
    vec![Reader::Letters, Reader::Model]
}

impl Plugin for Table {
    const NAME: &'static str = "lab-report-parsing";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    type Settings = Settings;

    fn process(
        context: &Context<'_>,
        settings: &Settings,
        input: NodeInput,
    ) -> Result<NodeOutput, NodeError> {
        if settings.task == Task::Document {
            let papers = papers_of(context, &input)?;
            let patients = settings.patients_of(&papers);
            let output = document(context, settings, &papers)?;
            return Ok(NodeOutput { stated_patients: stated(patients), ..output });
        }
        let mut read = ReadInput::read(context, settings, &input)?;
        let stated_patients = stated(std::mem::take(&mut read.patients));
        let output = match settings.task {
            Task::Question => question(context, settings, read),
            Task::Abnormal => abnormal(context, settings, read),
            Task::Table | Task::Document => table(settings, read.laboratory, read.reading),
        };
        Ok(NodeOutput { stated_patients, ..output? })
    }
}

impl Settings {
    /// The patients whom the pages of papers name.
    fn patients_of(&self, papers: &[Paper]) -> Vec<PagePatient> {
        let on_doubt = match self.doubts {
            Doubts::Refuse => OnDoubt::Reject,
            Doubts::Keep => OnDoubt::Mark,
        };
        patient::of_papers(papers, &self.patient_labels, on_doubt)
    }
}

fn stated(patients: Vec<PagePatient>) -> Vec<StatedPatient> {
    patients.into_iter().map(|it| it.stated).collect()
}

/// The rows of an input, and how they were read.
struct ReadInput {
    laboratory: Vec<LabRow>,
    /// Empty for rows of a message.
    reading: Reading,
    /// Empty for rows of a message.
    papers: Vec<Paper>,
    /// The patients whom the papers name.
    patients: Vec<PagePatient>,
}

impl ReadInput {
    /// Takes the observations of the message, or reads the papers if there are none.
    fn read(
        context: &Context<'_>,
        settings: &Settings,
        input: &NodeInput,
    ) -> Result<Self, NodeError> {
        let of_study = input.study.as_ref().map(|it| it.patient.clone());
        let known = of_study.unwrap_or_else(|| input.patient.clone());
        let observations: Vec<&Observation> =
            input.document.iter().flat_map(|it| &it.observations).collect();
        let Received { rows, remarks } =
            input.document.as_ref().map(|it| Received::of(it, &known)).unwrap_or_default();
        if !rows.is_empty() {
            let mut reading = Reading::default();
            reading.remarks.extend(remarks);
            let papers = Vec::new();
            let patients = Vec::new();
            return Ok(Self { laboratory: rows, reading, papers, patients });
        }
        let withdrawn = observations.iter().filter_map(|it| it.no_result());
        let withdrawn = withdrawn.filter(|it| it.is_withdrawal()).count();
        if withdrawn > 0 {
            let reason = format!("the message withdraws {withdrawn} results and has no other");
            return Err(NodeError::rejected(Reason::Withdrawn, reason));
        }
        let papers = papers_of(context, input)?;
        let mut reading = reading::read(context, &settings.readers, &settings.prompts, &papers)?;
        reading.remarks.extend(remarks);
        let patients = settings.patients_of(&papers);
        let patient = patient::facts(&patients, &known);
        let laboratory = lab_rows(&reading.rows, &patient);
        if laboratory.is_empty() {
            let reason = "there is no result in the message or on its papers";
            return Err(NodeError::rejected(Reason::NoResults, reason));
        }
        Ok(Self { laboratory, reading, papers, patients })
    }

    /// Whether the model has read papers, and can be asked about them.
    fn has_model(&self, settings: &Settings) -> bool {
        settings.readers.contains(&Reader::Model) && !self.papers.is_empty()
    }
}

/// The papers of an input. Fails if there are none.
fn papers_of(context: &Context<'_>, input: &NodeInput) -> Result<Vec<Paper>, NodeError> {
    let papers = papers(context, input)?;
    if papers.is_empty() {
        let reason = "there is neither a result nor a paper to read";
        return Err(NodeError::rejected(Reason::NoDocument, reason));
    }
    Ok(papers)
}

/// The rows of the entries of a paper. Their numbers are read by one convention.
fn lab_rows(read: &[ReadEntry], patient: &PatientFacts) -> Vec<LabRow> {
    let cells = read.iter().flat_map(|it| [&it.entry.result, &it.entry.reference]);
    let convention = numbers::convention(cells.map(String::as_str));
    read.iter().map(|it| lab_row(it, convention, patient)).collect()
}

/// The row of an entry of a paper, with its doubts. Its numbers are read by the convention of the
/// paper; what is printed otherwise is in a note.
fn lab_row(read: &ReadEntry, convention: Convention, patient: &PatientFacts) -> LabRow {
    let mut read = read.clone();
    let result = numbers::plain(&read.entry.result, convention);
    let reference = numbers::plain(&read.entry.reference, convention);
    let is_rewritten = result.text != read.entry.result || reference.text != read.entry.reference;
    let plain = Entry { result: result.text, reference: reference.text, ..read.entry.clone() };
    let Entry { name, result: value, reference: range, unit, flag, .. } = &plain;
    let mut row = row(&Fields { name, result: value, reference: range, unit, flag }, patient);
    if result.is_doubtful || reference.is_doubtful {
        row.abnormality = Abnormality::Unknown;
        row.disagrees = false;
        read.add_doubt("whether its comma or point is a decimal sign is not certain");
    }
    if is_rewritten {
        let Entry { result, reference, .. } = &read.entry;
        let note = match reference.as_str() {
            "" => format!("Printed on the page: {result}."),
            reference => format!("Printed on the page: {result}, reference {reference}."),
        };
        row.circumstances.notes.push(note);
        let doubts = plausibility::implausible(&plain);
        if let Some(doubt) = doubts.first().filter(|_| read.doubt.is_empty()) {
            read.add_doubt(doubt.reason());
        }
    }
    if range_for(range, patient) == PatientRange::Unknown {
        read.add_doubt("its reference depends on sex or age, which are not known well enough");
    }
    if row.disagrees {
        read.add_doubt(&format!("the paper marks it {flag}"));
    }
    LabRow { doubt: read.doubt, ..row }
}

/// Adds remarks and doubts to an output as a comment, or rejects a doubtful one by the settings.
fn finish(
    settings: &Settings,
    mut output: NodeOutput,
    remarks: Vec<String>,
    doubts: Vec<String>,
    is_doubtful: bool,
) -> Result<NodeOutput, NodeError> {
    if is_doubtful && settings.doubts == Doubts::Refuse {
        // More people read reasons than results, so no text of the paper is in them.
        let reason = "the readers do not agree, or only one has read";
        return Err(NodeError::rejected(Reason::Doubtful, reason));
    }
    let doubts = doubts.into_iter().map(|it| format!("To be checked: {it}."));
    let lines: Vec<String> = doubts.chain(remarks).collect();
    if !lines.is_empty() {
        let title = Code::new("121106", "DCM", "Comment");
        output.sections.push(Section { title, text: lines.join("\n") });
    }
    Ok(output)
}

fn findings_section(text: String) -> Section {
    Section { title: Code::new("59776-5", "LN", "Procedure Findings"), text }
}

fn table(
    settings: &Settings,
    laboratory: Vec<LabRow>,
    reading: Reading,
) -> Result<NodeOutput, NodeError> {
    let doubtful = laboratory.iter().filter(|it| !it.doubt.is_empty());
    let doubts: Vec<String> =
        doubtful.map(|it| format!("{}: {}", it.entry_name, it.doubt)).collect();
    let is_doubtful = reading.is_doubtful || !doubts.is_empty();
    let findings = laboratory.iter().filter_map(finding).collect();
    let output = NodeOutput { laboratory, findings, ..NodeOutput::default() };
    finish(settings, output, reading.remarks, doubts, is_doubtful)
}

fn question(
    context: &Context<'_>,
    settings: &Settings,
    mut read: ReadInput,
) -> Result<NodeOutput, NodeError> {
    let Some(name) = &settings.question else {
        let reason = "`task: question` needs a `question`";
        return Err(NodeError::rejected(Reason::NoQuestion, reason));
    };
    let rows = answers::rows_named(&read.laboratory, name);
    let [row] = rows.as_slice() else {
        let reason = format!("{} entries have this name", rows.len());
        return Err(NodeError::rejected(Reason::NoSuchEntry, reason));
    };
    let mut doubts = Vec::new();
    if read.has_model(settings) {
        let mut results = Vec::new();
        for page in read.papers.iter().flat_map(|it| &it.pages) {
            let prompt = settings.prompts.of(PromptTask::Question, page);
            read.reading.add_version(&prompt);
            results.push(answers::result_by_model(context, &settings.prompts, name, page)?);
        }
        if !results.iter().any(|it| is_same_value(it, &row.result)) {
            doubts.push(format!("the model answers {}", results.join(", ")));
        }
    }
    if !row.doubt.is_empty() {
        doubts.push(row.doubt.clone());
    }
    let text = match row.withdrawn {
        Some(reason) => format!("{}: {}", row.entry_name, reason.reason()),
        None => format!("{}: {} {}", row.entry_name, row.result, row.unit),
    };
    let sections = vec![findings_section(text.trim_end().to_owned())];
    let is_doubtful = !doubts.is_empty();
    let output = NodeOutput { sections, ..NodeOutput::default() };
    finish(settings, output, read.reading.remarks, doubts, is_doubtful)
}

fn abnormal(
    context: &Context<'_>,
    settings: &Settings,
    mut read: ReadInput,
) -> Result<NodeOutput, NodeError> {
    if read.has_model(settings) {
        let mut by_model = BTreeMap::new();
        for page in read.papers.iter().flat_map(|it| &it.pages) {
            let prompt = settings.prompts.of(PromptTask::Abnormal, page);
            read.reading.add_version(&prompt);
            by_model.extend(answers::abnormal_by_model(context, &settings.prompts, page)?);
        }
        let differences = answers::differences(&read.laboratory, &by_model);
        read.reading.is_doubtful |= !differences.is_empty();
        let lines = differences.into_iter().map(|it| format!("To be checked: {it}."));
        read.reading.remarks.splice(0..0, lines);
    }
    let is_told = |row: &LabRow| row.is_marked() || row.withdrawn.is_some();
    let told = read.laboratory.into_iter().filter(is_told);
    table(settings, told.collect(), read.reading)
}

fn document(
    context: &Context<'_>,
    settings: &Settings,
    papers: &[Paper],
) -> Result<NodeOutput, NodeError> {
    let DocumentReading { documents, remarks, doubts } =
        document::read(context, &settings.readers, &settings.kinds, &settings.prompts, papers)?;
    let sections = documents.iter().map(|it| findings_section(it.to_text())).collect();
    let is_doubtful = !doubts.is_empty();
    let output = NodeOutput { sections, ..NodeOutput::default() };
    finish(settings, output, remarks, doubts, is_doubtful)
}

export_plugin!(Table);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(result: &str, reference: &str) -> ReadEntry {
        ReadEntry::certain(Entry {
            name: "Haemoglobin".to_owned(),
            result: result.to_owned(),
            reference: reference.to_owned(),
            unit: "g/dL".to_owned(),
            ..Entry::default()
        })
    }

    fn row_of(result: &str, reference: &str, convention: Convention, sex: &str) -> LabRow {
        let patient = PatientFacts { sex: sex.to_owned(), age: String::new() };
        lab_row(&read(result, reference), convention, &patient)
    }

    #[test]
    fn pap_10_a_row_with_decimal_commas_has_points_and_a_note_of_what_is_printed() {
        let row = row_of("11,5", "12,0-15,0", Convention::Comma, "");
        assert_eq!([row.result.as_str(), row.reference.as_str()], ["11.5", "12.0-15.0"]);
        assert_eq!((row.abnormality, row.doubt.as_str()), (Abnormality::Low, ""));
        let printed = "Printed on the page: 11,5, reference 12,0-15,0.";
        assert_eq!(row.circumstances.notes, [printed]);
        // The comma was lost.
        let row = row_of("115", "12,0-15,0", Convention::Comma, "");
        assert_eq!(row.doubt, "it has no decimal point, its reference has");
        let row = row_of("1,234", "1,000-2,000", Convention::Open, "");
        assert_eq!(row.abnormality, Abnormality::Unknown);
        assert!(!row.doubt.is_empty());
        let row = row_of("13.5", "12-15", Convention::Point, "");
        assert!(row.circumstances.notes.is_empty() && row.doubt.is_empty(), "{row:?}");
    }

    #[test]
    fn hl7_62_a_row_of_a_paper_whose_range_is_not_known_is_doubted() {
        for reference in ["M 13-17 F 12-15", "男 13-17 女 12-15"] {
            let woman = row_of("12.5", reference, Convention::Point, "F");
            assert_eq!((woman.abnormality, woman.doubt.as_str()), (Abnormality::Normal, ""));
            let man = row_of("12.5", reference, Convention::Point, "M");
            assert_eq!((man.abnormality, man.doubt.as_str()), (Abnormality::Low, ""));
            let unknown = row_of("12.5", reference, Convention::Point, "");
            assert_eq!(unknown.abnormality, Abnormality::Unknown);
            assert!(unknown.doubt.contains("sex or age"), "{}", unknown.doubt);
            assert_eq!(unknown.reference, reference);
        }
    }
}
