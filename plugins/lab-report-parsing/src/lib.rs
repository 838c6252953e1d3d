//! Reads laboratory reports and other documents: what came as observations of a message, and what is on paper.
//!
//! ```yaml
//! table: { plugin: lab-report-parsing }
//! paper: { plugin: lab-report-parsing, with: { readers: [letters, model], doubts: keep } }
//! ```
//!
//! | task | what comes of it |
//! |---|---|
//! | `table` (PAP-10) | a row with the paper's four columns for each result, and what is not as usual |
//! | `question` (PAP-11) | the result of one entry, `question` |
//! | `abnormal` (PAP-12) | the rows that are not as usual, and where the model's list of them differs from what is computed |
//! | `document` (PAP-13) | the kind of a document, and the fields of its kind (`kinds.yaml`) |
//!
//! Each numeric, structured or textual observation of an ORU message with a result is a row. Where there is none,
//! papers are read: files in a message (PDF, PNG, JPEG; OBX of type ED), Encapsulated PDF, Secondary Capture and
//! photographs. A page is cut out of its surroundings, turned upright and levelled (PAP-30), what is wrong with
//! its picture is said (PAP-36), and two `readers` read it without knowing of one another (PAP-31): `letters`,
//! those of the PDF or as Tesseract recognises them, and the shared `model`. What they do not agree about is
//! marked on its row. With `doubts: refuse`, as long as nothing else is said, such a paper is rejected: a person
//! has to look; `keep` is for workflows in which a person reviews all there is. Pages that recognition alone, or
//! the model alone, has read are always doubtful.
//!
//! Units are brought to UCUM where they are known, values are never converted. Whether a row is abnormal is
//! computed anew from result and reference (HL7-63); where the sender's flag says otherwise the row is marked as
//! disagreeing. Where nothing can be computed the flag stays empty: it never means normal.

mod agree;
mod answers;
mod general;
mod page;
mod reading;
mod received;
mod row;
mod sources;
mod table;
mod vocabulary;

use domain::{Code, LabRow, NodeInput, NodeOutput, Section};
use plugin_api::{Context, NodeError, Plugin, export_plugin};
use serde::Deserialize;

pub use page::{Flaw, Held, held};
pub use reading::Reader;

use crate::reading::Reading;
use crate::row::{Fields, finding, row};
use crate::sources::{Paper, papers};

/// Makes tables of reports.
pub struct Table;

/// What a workflow sets under `with:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What is to be done.
    #[serde(default)]
    pub task: Task,
    /// The entry that a `question` is about.
    #[serde(default)]
    pub question: Option<String>,
    /// Who reads what is on paper.
    #[serde(default = "both", deserialize_with = "reading::readers")]
    pub readers: Vec<Reader>,
    /// What is done about what is not sure.
    #[serde(default)]
    pub doubts: Doubts,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// A table of all results.
    #[default]
    Table,
    /// One of them.
    Question,
    /// Those that are not as usual.
    Abnormal,
    /// A document of any kind.
    Document,
}

/// What is done about what is not sure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doubts {
    /// The paper is rejected.
    #[default]
    Refuse,
    /// They are marked, for the person who reviews.
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
        let observations = input.document.iter().flat_map(|it| &it.observations);
        let received: Vec<LabRow> = observations.filter_map(received::received).collect();
        let (laboratory, reading, papers) = if received.is_empty() {
            let papers = papers_of(context, &input)?;
            let reading = reading::read(context, &settings.readers, &papers)?;
            (reading.rows.iter().map(read_row).collect(), reading, papers)
        } else {
            (received, Reading::default(), Vec::new())
        };
        if laboratory.is_empty() {
            let reason = "there is no result in the message or on its papers";
            return Err(NodeError::rejected("no_results", reason));
        }
        match settings.task {
            Task::Question => question(context, settings, &laboratory, reading, &papers),
            Task::Abnormal => abnormal(context, settings, laboratory, reading, &papers),
            Task::Table | Task::Document => table(settings, laboratory, reading),
        }
    }
}

/// The papers of an input, if there are any.
fn papers_of(context: &Context<'_>, input: &NodeInput) -> Result<Vec<Paper>, NodeError> {
    let papers = papers(context, input)?;
    if papers.is_empty() {
        let reason = "there is neither a result nor a paper to read";
        return Err(NodeError::rejected("no_document", reason));
    }
    Ok(papers)
}

fn read_row((entry, doubt): &(table::Entry, String)) -> LabRow {
    let table::Entry { name, result, reference, unit, flag } = entry;
    let row = row(&Fields { name, result, reference, unit, flag });
    let mut doubt = doubt.clone();
    if row.disagrees {
        let more = format!("the paper marks it {flag}");
        doubt = if doubt.is_empty() { more } else { format!("{doubt}; {more}") };
    }
    LabRow { doubt, ..row }
}

/// The output, or a rejection where a person has to look and nobody will.
fn settled(
    settings: &Settings,
    output: NodeOutput,
    (remarks, doubts): (Vec<String>, Vec<String>),
    is_doubtful: bool,
) -> Result<NodeOutput, NodeError> {
    if is_doubtful && settings.doubts == Doubts::Refuse {
        // Reasons are read by more people than results: no word of the paper is in them.
        let reason = "the readers do not agree, or only one has read";
        return Err(NodeError::rejected("doubtful", reason));
    }
    let doubts = doubts.into_iter().map(|it| format!("To be checked: {it}."));
    let lines: Vec<String> = doubts.chain(remarks).collect();
    let mut output = output;
    if !lines.is_empty() {
        let title = Code::new("121106", "DCM", "Comment");
        output.sections.push(Section { title, text: lines.join("\n") });
    }
    Ok(output)
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
    settled(settings, output, (reading.remarks, doubts), is_doubtful)
}

fn question(
    context: &Context<'_>,
    settings: &Settings,
    laboratory: &[LabRow],
    reading: Reading,
    papers: &[Paper],
) -> Result<NodeOutput, NodeError> {
    let Some(asked) = &settings.question else {
        return Err(NodeError::rejected("no_question", "`task: question` needs a `question`"));
    };
    let rows = answers::about(laboratory, asked);
    let [row] = rows.as_slice() else {
        let reason = format!("{} entries have this name", rows.len());
        return Err(NodeError::rejected("no_such_entry", reason));
    };
    let mut doubts = Vec::new();
    if settings.readers.contains(&Reader::Model) && !papers.is_empty() {
        let pages = papers.iter().flat_map(|it| &it.pages);
        let said: Result<Vec<String>, NodeError> =
            pages.map(|it| answers::simple(context, asked, it)).collect();
        let said = said?;
        if !said.iter().any(|it| answers::plain(it) == answers::plain(&row.result)) {
            doubts.push(format!("the model answers {}", said.join(", ")));
        }
    }
    doubts.extend((!row.doubt.is_empty()).then(|| row.doubt.clone()));
    let text = format!("{}: {} {}", row.entry_name, row.result, row.unit).trim_end().to_owned();
    let title = Code::new("59776-5", "LN", "Procedure Findings");
    let sections = vec![Section { title, text }];
    let is_doubtful = !doubts.is_empty();
    let output = NodeOutput { sections, ..NodeOutput::default() };
    settled(settings, output, (reading.remarks, doubts), is_doubtful)
}

fn abnormal(
    context: &Context<'_>,
    settings: &Settings,
    laboratory: Vec<LabRow>,
    mut reading: Reading,
    papers: &[Paper],
) -> Result<NodeOutput, NodeError> {
    if settings.readers.contains(&Reader::Model) && !papers.is_empty() {
        let mut said = std::collections::BTreeMap::new();
        for page in papers.iter().flat_map(|it| &it.pages) {
            said.extend(answers::complex(context, page)?);
        }
        let differences = answers::differences(&laboratory, &said);
        reading.is_doubtful |= !differences.is_empty();
        let lines = differences.into_iter().map(|it| format!("To be checked: {it}."));
        reading.remarks.splice(0..0, lines);
    }
    let kept = laboratory.into_iter().filter(|it| it.abnormality.is_abnormal());
    table(settings, kept.collect(), reading)
}

fn document(
    context: &Context<'_>,
    settings: &Settings,
    papers: &[Paper],
) -> Result<NodeOutput, NodeError> {
    let general::Read { documents, remarks, doubts } =
        general::read(context, &settings.readers, papers)?;
    let title = Code::new("59776-5", "LN", "Procedure Findings");
    let section =
        |it: &general::Document| Section { title: title.clone(), text: general::words(it) };
    let sections = documents.iter().map(section).collect();
    let is_doubtful = !doubts.is_empty();
    let output = NodeOutput { sections, ..NodeOutput::default() };
    settled(settings, output, (remarks, doubts), is_doubtful)
}

/// Reads the rows of a paper, by its letters or by recognition, without the model.
///
/// # Errors
///
/// Says why it cannot be read.
pub fn read(bytes: &[u8], media_type: &str) -> Result<Vec<[String; 4]>, NodeError> {
    let pages = page::of_file(bytes, media_type)?;
    let rows = table::entries(&pages).into_iter();
    Ok(rows.map(|it| [it.name, it.result, it.reference, it.unit]).collect())
}

export_plugin!(Table);
