//! Medical documents of any kind (PAP-13): finds the kind of a document, and the fields of that
//! kind.
//!
//! - [`kind`]: the kinds of `kinds.yaml` and of the site, and how well a document fits each;
//! - [`layout`]: the lines of all pages; [`fields`]: the values behind labels, and items.

pub(crate) mod fields;
pub(crate) mod kind;
mod layout;

use std::collections::BTreeSet;

use plugin_api::{Context, NodeError};
use plugin_toolkit::answer::parse_json;
use plugin_toolkit::model::ModelIdentity;
use serde::Deserialize;

use self::fields::{Fields, FoundFields};
use self::kind::{FieldEntry, Kind, kind_of, with_own};
use self::layout::document_lines;
use crate::answers::normalized;
use crate::page::Page;
use crate::prompts::Prompts;
use crate::reading::{Reader, ask_about_page, flaw_remarks, version_remark};
use crate::rejection::Reason;
use crate::sources::Paper;

/// A document that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Document {
    /// Name of its kind; empty if it is of none.
    #[serde(default)]
    pub(crate) kind: String,
    /// Values of its fields, by name.
    #[serde(default)]
    pub(crate) fields: Fields,
    /// The fields of its items, such as the drugs of a prescription.
    #[serde(default)]
    pub(crate) items: Vec<Fields>,
}

/// The kinds of `kinds.yaml`, and those of a site.
pub(crate) fn kinds(own: &[Kind]) -> Result<Vec<Kind>, NodeError> {
    let known = serde_saphyr::from_str(include_str!("kinds.yaml"))
        .map_err(|error| NodeError::rejected(Reason::KindsUnreadable, error.to_string()))?;
    Ok(with_own(known, own))
}

impl Document {
    /// Reads a document by its text: the kind that its titles and words tell, and the values behind
    /// the labels of its fields, on all pages.
    pub(crate) fn by_letters(pages: &[Page], kinds: &[Kind]) -> Self {
        let lines = document_lines(pages);
        let Some(kind) = kind_of(&lines, kinds) else { return Self::default() };
        let FoundFields { fields, items } = fields::fields(&lines, kind);
        let items = items.into_iter().filter(|it| !it.is_empty()).collect();
        Self { kind: kind.name.clone(), fields, items }
    }

    /// The document as text, one field per line.
    pub(crate) fn to_text(&self) -> String {
        let mut lines = vec![format!("kind: {}", self.kind)];
        lines.extend(self.fields.iter().map(|(name, value)| format!("{name}: {value}")));
        for (item, number) in self.items.iter().zip(1..) {
            lines.extend(item.iter().map(|(name, value)| format!("{number}. {name}: {value}")));
        }
        lines.join("\n")
    }

    /// Adds what the model reads on the next page.
    fn add_page(&mut self, page: Self, kinds: &[Kind]) {
        if self.kind.is_empty() {
            self.kind = page.kind;
        }
        let kind = kinds.iter().find(|it| it.name == self.kind);
        for (name, value) in page.fields {
            if value.is_empty() {
                continue;
            }
            let is_text = kind.and_then(|it| it.fields.get(&name)).is_some_and(FieldEntry::is_text);
            match self.fields.get_mut(&name) {
                Some(known) if is_text => {
                    known.push(' ');
                    known.push_str(&value);
                }
                Some(_) => {}
                None => {
                    self.fields.insert(name, value);
                }
            }
        }
        self.items.extend(page.items.into_iter().filter(|it| !it.is_empty()));
    }

    /// The same document with the fields of a single item among its items, where the model has
    /// written them among the others.
    fn with_items_apart(mut self, kinds: &[Kind]) -> Self {
        let Some(kind) = kinds.iter().find(|it| it.name == self.kind) else { return self };
        if self.items.is_empty() {
            let (item, fields): (Fields, Fields) =
                self.fields.into_iter().partition(|(name, _)| kind.is_of_item(name));
            self.fields = fields;
            self.items.extend((!item.is_empty()).then_some(item));
        }
        self
    }
}

/// The differences between two readings of a document.
pub(crate) fn differences(by_letters: &Document, by_model: &Document) -> Vec<String> {
    if by_letters.kind != by_model.kind {
        let kind = if by_model.kind.is_empty() { "nothing it knows" } else { &by_model.kind };
        return vec![format!("the model takes it for {kind}")];
    }
    let mut differences = field_differences(&by_letters.fields, &by_model.fields, "");
    if by_letters.items.len() != by_model.items.len() {
        let count = by_model.items.len();
        differences.push(format!("the model reads {count} items"));
        return differences;
    }
    for ((letters, model), number) in by_letters.items.iter().zip(&by_model.items).zip(1..) {
        differences.extend(field_differences(letters, model, &format!("{number}. ")));
    }
    differences
}

fn field_differences(by_letters: &Fields, by_model: &Fields, prefix: &str) -> Vec<String> {
    let names: BTreeSet<&String> = by_letters.keys().chain(by_model.keys()).collect();
    let mut differences = Vec::new();
    for name in names {
        let letters = by_letters.get(name);
        let model = by_model.get(name);
        if letters.map(|it| normalized(it)) != model.map(|it| normalized(it)) {
            let value = model.map_or("not there", String::as_str);
            differences.push(format!("{prefix}{name}: the model reads {value}"));
        }
    }
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
    own_kinds: &[Kind],
    prompts: &Prompts,
    papers: &[Paper],
) -> Result<DocumentReading, NodeError> {
    let kinds = kinds(own_kinds)?;
    let mut reading = DocumentReading::default();
    for paper in papers {
        let by_letters = Document::by_letters(&paper.pages, &kinds);
        reading.remarks.extend(flaw_remarks(&paper.pages));
        let document = if readers.contains(&Reader::Model) {
            let by_model = reading.ask(context, prompts, &paper.pages, &kinds)?;
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
            let reason = format!("{} is of no kind that is known, or of several", paper.name);
            return Err(NodeError::rejected(Reason::KindUnknown, reason));
        }
        reading.documents.push(document);
    }
    Ok(reading)
}

impl DocumentReading {
    /// Asks the model for the kind and the fields of a document, page by page.
    fn ask(
        &mut self,
        context: &Context<'_>,
        prompts: &Prompts,
        pages: &[Page],
        kinds: &[Kind],
    ) -> Result<Document, NodeError> {
        if pages.is_empty() {
            return Err(NodeError::rejected(Reason::NoPage, "it has no pages"));
        }
        let mut document = Document::default();
        for (index, page) in pages.iter().enumerate() {
            let prompt = prompts.of_document(kinds, page);
            let answer = ask_about_page(context, &prompt.text, page)?;
            let by_model: Document = parse_json(&answer.answer)?;
            if index == 0 {
                self.remarks.push(ModelIdentity::of(&answer).attribution("Read"));
                self.remarks.push(version_remark(&prompt));
            } else if by_model.kind != document.kind && !by_model.kind.is_empty() {
                self.doubts.push(format!("the model takes page {} for another kind", index + 1));
            }
            document.add_page(by_model, kinds);
        }
        Ok(document.with_items_apart(kinds))
    }
}

#[cfg(test)]
mod tests;
