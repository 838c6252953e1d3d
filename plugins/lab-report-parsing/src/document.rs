//! Medical documents of any kind (PAP-13): finds the kind of a document, and the fields of that
//! kind.

use std::collections::BTreeMap;

use domain::InferResponse;
use encoding::laboratory::unit::folded_text;
use plugin_api::{Context, NodeError};
use plugin_toolkit::answer::parse_json;
use plugin_toolkit::model::ModelIdentity;
use serde::Deserialize;

use crate::answers::normalized;
use crate::page::Page;
use crate::reading::{Reader, ask_about_page, flaw_remarks};
use crate::rejection::Reason;
use crate::sources::Paper;
use crate::table::lines::{Line, lines, text};

/// A kind of document, as `kinds.yaml` declares it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kind {
    /// Name of the kind.
    #[serde(rename = "kind")]
    name: String,
    /// Words by which a document of this kind is recognised.
    words: Vec<String>,
    /// Names of the fields, each with the labels that precede its value.
    fields: BTreeMap<String, Vec<String>>,
}

/// A document that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Document {
    /// Name of its kind; empty if it is of none.
    #[serde(default)]
    pub(crate) kind: String,
    /// Values of its fields, by name.
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, String>,
}

/// The kinds of `kinds.yaml`.
pub(crate) fn kinds() -> Result<Vec<Kind>, NodeError> {
    serde_saphyr::from_str(include_str!("kinds.yaml"))
        .map_err(|error| NodeError::rejected(Reason::KindsUnreadable, error.to_string()))
}

impl Document {
    /// Reads a document by its text: the kind whose words are found most often, and the values
    /// after the labels of its fields. The first of several kinds wins.
    pub(crate) fn by_letters(pages: &[Page], kinds: &[Kind]) -> Self {
        let lines: Vec<Line> = pages.iter().flat_map(|it| lines(&it.words)).collect();
        let texts: Vec<String> = lines.iter().map(|it| folded_text(&text(it))).collect();
        let all = texts.join("\n").to_lowercase();
        let best = kinds.iter().rev().max_by_key(|it| it.word_count(&all));
        let Some(kind) = best.filter(|it| it.word_count(&all) > 0) else {
            return Self::default();
        };
        let mut fields = BTreeMap::new();
        for (name, labels) in &kind.fields {
            if let Some(value) = texts.iter().find_map(|line| kind.value_in(line, labels)) {
                fields.insert(name.clone(), value);
            }
        }
        Self { kind: kind.name.clone(), fields }
    }

    /// The document as text, one field per line.
    pub(crate) fn to_text(&self) -> String {
        let mut lines = vec![format!("kind: {}", self.kind)];
        lines.extend(self.fields.iter().map(|(name, value)| format!("{name}: {value}")));
        lines.join("\n")
    }
}

/// A range of bytes in a line.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

impl Kind {
    /// How often the words of the kind are found in a text in lower case.
    fn word_count(&self, text: &str) -> usize {
        self.words.iter().map(|it| text.matches(&it.to_lowercase()).count()).sum()
    }

    /// The value after one of the labels and a colon, up to the next label of the kind.
    fn value_in(&self, line: &str, labels: &[String]) -> Option<String> {
        let lower = line.to_lowercase();
        let label = labels.iter().find_map(|it| label_span(&lower, it))?;
        let rest = line.get(label.end..)?.trim_start().strip_prefix(':')?;
        let others = self.fields.values().flatten().filter_map(|it| label_span(&lower, it));
        let end = others.map(|it| it.start).filter(|it| *it > label.end).min();
        let value = line.get(line.len() - rest.len()..end.unwrap_or(line.len()))?.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }
}

/// The first place of a label that a colon follows, in a line in lower case.
fn label_span(line: &str, label: &str) -> Option<Span> {
    let label = label.to_lowercase();
    line.match_indices(&label)
        .map(|(start, _)| Span { start, end: start + label.len() })
        .find(|it| line.get(it.end..).unwrap_or_default().trim_start().starts_with(':'))
}

/// The differences between two readings of a document.
pub(crate) fn differences(by_letters: &Document, by_model: &Document) -> Vec<String> {
    if by_letters.kind != by_model.kind {
        let kind = if by_model.kind.is_empty() { "nothing it knows" } else { &by_model.kind };
        return vec![format!("the model takes it for {kind}")];
    }
    let mut differences = Vec::new();
    for name in by_letters.fields.keys().chain(by_model.fields.keys()) {
        let letters = by_letters.fields.get(name);
        let model = by_model.fields.get(name);
        if letters.map(|it| normalized(it)) != model.map(|it| normalized(it)) {
            let value = model.map_or("not there", String::as_str);
            differences.push(format!("{name}: the model reads {value}"));
        }
    }
    differences.dedup();
    differences
}

/// The result of reading all papers of an input as documents.
#[derive(Default)]
pub(crate) struct DocumentReading {
    /// The documents, one per paper.
    pub(crate) documents: Vec<Document>,
    /// Lines for the reader of the result.
    pub(crate) remarks: Vec<String>,
    /// Reasons why a person has to look.
    pub(crate) doubts: Vec<String>,
}

/// Reads all papers with all readers.
pub(crate) fn read(
    context: &Context<'_>,
    readers: &[Reader],
    papers: &[Paper],
) -> Result<DocumentReading, NodeError> {
    let kinds = kinds()?;
    let mut reading = DocumentReading::default();
    for paper in papers {
        let by_letters = Document::by_letters(&paper.pages, &kinds);
        reading.remarks.extend(flaw_remarks(&paper.pages));
        let document = if readers.contains(&Reader::Model) {
            let answer = ask_for_document(context, &paper.pages, &kinds)?;
            let by_model: Document = parse_json(&answer.answer)?;
            reading.remarks.push(ModelIdentity::of(&answer).attribution("Read"));
            if readers.contains(&Reader::Letters) {
                reading.doubts.extend(differences(&by_letters, &by_model));
                by_letters
            } else {
                reading.doubts.push("read by the model alone".to_owned());
                by_model
            }
        } else {
            if paper.pages.iter().any(|it| it.is_recognised) {
                reading.doubts.push("read by recognition alone".to_owned());
            }
            by_letters
        };
        if document.kind.is_empty() {
            let reason = format!("{} is of no kind that is known", paper.name);
            return Err(NodeError::rejected(Reason::KindUnknown, reason));
        }
        reading.documents.push(document);
    }
    Ok(reading)
}

/// Asks the model for the kind and the fields of a document, by its first page.
fn ask_for_document(
    context: &Context<'_>,
    pages: &[Page],
    kinds: &[Kind],
) -> Result<InferResponse, NodeError> {
    let mut prompt = vec![include_str!("../prompts/document.txt").trim().to_owned()];
    for kind in kinds {
        let fields: Vec<&str> = kind.fields.keys().map(String::as_str).collect();
        prompt.push(format!("- {}: {}", kind.name, fields.join(", ")));
    }
    let first =
        pages.first().ok_or_else(|| NodeError::rejected(Reason::NoPage, "it has no pages"))?;
    ask_about_page(context, &prompt.join("\n"), first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Word;

    fn page(lines: &[&str]) -> Page {
        let word = |(at, text): (usize, &&str)| {
            let top = at as f32 * 20.0;
            let text = (*text).to_owned();
            Word { text, left: 10.0, top, right: 400.0, bottom: top + 10.0, chinese: None }
        };
        Page { words: lines.iter().enumerate().map(word).collect(), ..Page::default() }
    }

    #[test]
    fn pap_13_a_prescription_is_known_and_its_fields_are_found() {
        let pages = [page(&[
            "市第一医院 处方笺",
            "临床诊断：肺部感染",
            "药品名称: 阿莫西林胶囊   规格: 0.25g   单位: 盒",
            "数量：2   用法用量：口服 一日三次 每次0.5g",
        ])];
        let found = Document::by_letters(&pages, &kinds().unwrap());
        assert_eq!(found.kind, "prescription");
        let expected = [
            ("diagnosis", "肺部感染"),
            ("directions", "口服 一日三次 每次0.5g"),
            ("drug", "阿莫西林胶囊"),
            ("quantity", "2"),
            ("specification", "0.25g"),
            ("unit", "盒"),
        ];
        let expected = expected.map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(found.fields, BTreeMap::from(expected));
        let model = Document { kind: "prescription".to_owned(), fields: found.fields.clone() };
        assert_eq!(differences(&found, &model), Vec::<String>::new());
        let mut other = model.clone();
        other.fields.insert("quantity".to_owned(), "20".to_owned());
        assert_eq!(differences(&found, &other), ["quantity: the model reads 20"]);
        let kind = "imaging_report".to_owned();
        let other = Document { kind, ..Document::default() };
        assert_eq!(differences(&found, &other), ["the model takes it for imaging_report"]);
    }

    #[test]
    fn pap_13_other_kinds_are_told_apart_in_both_languages() {
        let kind = |lines: &[&str]| Document::by_letters(&[page(lines)], &kinds().unwrap()).kind;
        assert_eq!(
            kind(&["Radiology report", "Findings: clear", "Impression: normal"]),
            "imaging_report"
        );
        assert_eq!(kind(&["出院小结", "入院诊断：肺炎", "出院诊断：肺炎"]), "discharge_summary");
        assert_eq!(
            kind(&["Laboratory report", "Test Result Reference range"]),
            "laboratory_report"
        );
        assert_eq!(kind(&["Dear colleague"]), "");
    }
}
