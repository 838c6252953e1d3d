//! Reads laboratory reports and other documents: observations of messages, and papers.
//!
//! ```yaml
//! table: { plugin: lab-report-parsing }
//! paper: { plugin: lab-report-parsing, with: { readers: [letters, model], doubts: keep } }
//! ```
//!
//! | task | output |
//! |---|---|
//! | `table` (PAP-10) | a row with the paper's four columns for each result, and a finding for each abnormal one |
//! | `question` (PAP-11) | the result of one entry, `question` |
//! | `abnormal` (PAP-12) | the abnormal rows, and where the model's list of them differs from the computed one |
//! | `document` (PAP-13) | the kind of a document, and the fields of its kind (`kinds.yaml`) |
//!
//! Each observation of a message with a result is a row, with its specimen, time, sub-ID, status
//! and notes. One without a value, and a pointer to a document, is named in a remark, as is one
//! whose status says that it is no result (OBX-11 D, W, X, N, I, O). Where
//! it takes back what was reported before, its row has no value and says so; a message that only
//! withdraws what nobody reported is rejected. If there is no row, papers are read: files in a
//! message (PDF, PNG, JPEG; OBX of type ED), Encapsulated PDF, Secondary Capture and photographs. A page is cut out of its background, turned
//! upright and levelled (PAP-30), defects of its picture are reported (PAP-36), and two independent
//! `readers` read it (PAP-31): `letters`, the text of the PDF or text recognised by Tesseract, and
//! the shared `model`. Where they differ, the row is marked.
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
mod observation;
mod page;
mod reading;
mod rejection;
mod row;
mod sources;
mod table;
mod vocabulary;

use std::collections::BTreeMap;

use domain::{Code, LabRow, NodeInput, NodeOutput, Observation, Section};
use plugin_api::{Context, NodeError, Plugin, export_plugin};
use serde::Deserialize;

pub use doubt::Doubt;
pub use observation::Received;
pub use page::{Flaw, PagePosition, page_position};
pub use reading::{ReadRow, Reader, read_rows};

use crate::answers::normalized;
use crate::document::DocumentReading;
use crate::reading::Reading;
use crate::rejection::Reason;
use crate::row::{Fields, finding, row};
use crate::sources::{Paper, papers};
use crate::table::ReadEntry;

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
            return document(context, settings, &papers_of(context, &input)?);
        }
        let read = ReadInput::read(context, settings, &input)?;
        match settings.task {
            Task::Question => question(context, settings, read),
            Task::Abnormal => abnormal(context, settings, read),
            Task::Table | Task::Document => table(settings, read.laboratory, read.reading),
        }
    }
}

/// The rows of an input, and how they were read.
struct ReadInput {
    laboratory: Vec<LabRow>,
    /// Empty for rows of a message.
    reading: Reading,
    /// Empty for rows of a message.
    papers: Vec<Paper>,
}

impl ReadInput {
    /// Takes the observations of the message, or reads the papers if there are none.
    fn read(
        context: &Context<'_>,
        settings: &Settings,
        input: &NodeInput,
    ) -> Result<Self, NodeError> {
        let observations: Vec<&Observation> =
            input.document.iter().flat_map(|it| &it.observations).collect();
        let Received { rows, remarks } =
            input.document.as_ref().map(Received::of).unwrap_or_default();
        if !rows.is_empty() {
            let mut reading = Reading::default();
            reading.remarks.extend(remarks);
            return Ok(Self { laboratory: rows, reading, papers: Vec::new() });
        }
        let withdrawn = observations.iter().filter_map(|it| it.no_result());
        let withdrawn = withdrawn.filter(|it| it.is_withdrawal()).count();
        if withdrawn > 0 {
            let reason = format!("the message withdraws {withdrawn} results and has no other");
            return Err(NodeError::rejected(Reason::Withdrawn, reason));
        }
        let papers = papers_of(context, input)?;
        let mut reading = reading::read(context, &settings.readers, &papers)?;
        reading.remarks.extend(remarks);
        let laboratory: Vec<LabRow> = reading.rows.iter().map(lab_row).collect();
        if laboratory.is_empty() {
            let reason = "there is no result in the message or on its papers";
            return Err(NodeError::rejected(Reason::NoResults, reason));
        }
        Ok(Self { laboratory, reading, papers })
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

/// The row of an entry of a paper, with its doubts.
fn lab_row(read: &ReadEntry) -> LabRow {
    let table::Entry { name, result, reference, unit, flag, .. } = &read.entry;
    let row = row(&Fields { name, result, reference, unit, flag });
    let mut read = read.clone();
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
    read: ReadInput,
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
            results.push(answers::result_by_model(context, name, page)?);
        }
        if results.iter().all(|it| normalized(it) != normalized(&row.result)) {
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
            by_model.extend(answers::abnormal_by_model(context, page)?);
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
        document::read(context, &settings.readers, papers)?;
    let sections = documents.iter().map(|it| findings_section(it.to_text())).collect();
    let is_doubtful = !doubts.is_empty();
    let output = NodeOutput { sections, ..NodeOutput::default() };
    finish(settings, output, remarks, doubts, is_doubtful)
}

/// Reads the rows of a paper by its text or by recognition, without the model. Each row has name,
/// result, reference and unit.
///
/// # Errors
///
/// Fails if the file is of a type that is not read, or cannot be decoded, or if recognition is not
/// installed.
pub fn read(bytes: &[u8], media_type: &str) -> Result<Vec<[String; 4]>, NodeError> {
    let pages = page::of_file(bytes, media_type)?;
    let entries = table::entries(&pages).into_iter();
    Ok(entries.map(|it| [it.name, it.result, it.reference, it.unit]).collect())
}

export_plugin!(Table);
