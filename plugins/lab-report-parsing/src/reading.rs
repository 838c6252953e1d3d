//! The readers of a paper: two recognitions of its text with rules, and the shared model (PAP-31).
//!
//! What two of them read alike is certain. Of a page with text of its own, the text is what the page
//! says, and is compared with the model only. Where the models of `ocr` are missing, the paper is
//! read without it, and a remark says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use domain::InferResponse;
use plugin_api::{Context, NodeError};
use plugin_toolkit::model::ModelIdentity;
use plugin_toolkit::picture::QuestionPicture;
use plugin_toolkit::prompt::Prompt;
use plugin_toolkit::question::Question;
use pp_ocr::PageReader;
use serde::{Deserialize, Deserializer};

use crate::agreement::{self, Agreement, compare};
use crate::doubt::Doubt;
use crate::page::print::{self, Missing};
use crate::page::{Page, has_recognised};
use crate::prompts::{PromptTask, Prompts};
use crate::rejection::Reason;
use crate::sources::Paper;
use crate::table::{self, Entry, ReadEntry, markdown, plausibility, wording};

/// A reader of papers. The first of those that have read a paper gives its rows, the others check
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reader {
    /// Text recognised by PP-OCR, and rules.
    Ocr,
    /// The text of a PDF, or text recognised by Tesseract, and rules.
    Letters,
    /// The shared model.
    Model,
}

impl Reader {
    /// The reader as the subject of a sentence about a picture of a page.
    const fn subject(self) -> &'static str {
        match self {
            Self::Ocr => "PP-OCR",
            Self::Letters => "Tesseract",
            Self::Model => "the model",
        }
    }
}

/// Reads the list of readers. None may be named twice: a reader always agrees with itself (PAP-31).
pub(crate) fn readers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Reader>, D::Error> {
    let readers = Vec::<Reader>::deserialize(from)?;
    let is_again =
        |(at, it): (usize, &Reader)| readers.iter().skip(at + 1).any(|other| other == it);
    if readers.is_empty() {
        return Err(serde::de::Error::custom("`readers` names nobody"));
    }
    if readers.iter().enumerate().any(is_again) {
        let problem = "`readers` names the same one twice: they have to be independent";
        return Err(serde::de::Error::custom(problem));
    }
    Ok(readers)
}

/// Upper bound of an answer about a page, in tokens.
const TOKENS_MAX: usize = 4096;

/// Upper bound of the longer side of a page that the model is shown, in pixels.
const SHOWN_SIDE_MAX: u32 = 1600;

/// The result of reading all papers of an input.
#[derive(Default)]
pub(crate) struct Reading {
    /// The rows of all papers.
    pub(crate) rows: Vec<ReadEntry>,
    /// Lines for the reader of the result.
    pub(crate) remarks: Vec<String>,
    /// Whether a person has to look.
    pub(crate) is_doubtful: bool,
    /// The model that has read; nothing if none has.
    model: Option<ModelIdentity>,
}

/// Reads all papers with all readers.
pub(crate) fn read(
    context: &Context<'_>,
    readers: &[Reader],
    prompts: &Prompts,
    papers: &[Paper],
) -> Result<Reading, NodeError> {
    let mut reading = Reading::default();
    for paper in papers {
        reading.remarks.push(format!("Read from {} ({} pages).", paper.name, paper.pages.len()));
        reading.remarks.extend(flaw_remarks(&paper.pages));
        reading.add_paper(context, readers, prompts, &paper.pages)?;
    }
    reading.rows = reading.rows.into_iter().map(checked).collect();
    reading.is_doubtful |= reading.rows.iter().any(|it| !it.doubt.is_empty());
    Ok(reading)
}

/// A row with a doubt if it cannot be right, whoever has read it.
pub(crate) fn checked(mut row: ReadEntry) -> ReadEntry {
    for doubt in all_doubts(&row.entry) {
        row.add_doubt(doubt.reason());
    }
    row
}

/// Compares the rows of the first reader with those of a second one.
pub(crate) fn compared(first: Vec<Entry>, reader: Reader, second: &[Entry]) -> Agreement {
    compare(first, agreement::Reading { reader: reader.subject(), entries: second })
}

/// Why a row may be wrong, by how it was read and by what it says.
pub(crate) fn all_doubts(entry: &Entry) -> BTreeSet<Doubt> {
    let mut doubts = entry.doubts.clone();
    doubts.extend(plausibility::implausible(entry));
    doubts
}

impl Reading {
    /// Reads the pages of one paper with all readers.
    fn add_paper(
        &mut self,
        context: &Context<'_>,
        readers: &[Reader],
        prompts: &Prompts,
        pages: &[Page],
    ) -> Result<(), NodeError> {
        let Some(ocr) = self.ocr_for(readers, pages) else {
            return self.add_without_ocr(context, readers, prompts, pages);
        };
        let by_ocr = table::entries(&print::pages(&ocr, pages, Some(context))?);
        let has_model = readers.contains(&Reader::Model);
        if readers.contains(&Reader::Letters) {
            let mut agreement = compared(by_ocr, Reader::Letters, &table::entries(pages));
            // A third reader takes minutes: it is asked about papers on which two differ.
            if has_model && agreement.has_doubts() {
                agreement.confirm(&self.read_by_model(context, prompts, pages)?);
            }
            self.add_compared(agreement, Reader::Letters);
        } else if has_model {
            let by_model = self.read_by_model(context, prompts, pages)?;
            self.add_compared(compared(by_ocr, Reader::Model, &by_model), Reader::Model);
        } else {
            self.add_by_one_reader(by_ocr, Reader::Ocr.subject());
        }
        Ok(())
    }

    /// The reader `ocr`, if it is wanted, there, and has something to read. A remark names it, or
    /// says why it does not read.
    fn ocr_for(&mut self, readers: &[Reader], pages: &[Page]) -> Option<Arc<PageReader>> {
        if !readers.contains(&Reader::Ocr) || !has_recognised(pages) {
            return None;
        }
        let found = print::shared();
        self.remarks.push(match &found {
            Ok(_) => format!("Read by {} ({}).", page_models::TITLE, page_models::RELEASE),
            Err(missing) => missing_remark(*missing),
        });
        found.ok()
    }

    /// Reads a paper by letters, by the model, or by both. Letters stand in for `ocr`.
    fn add_without_ocr(
        &mut self,
        context: &Context<'_>,
        readers: &[Reader],
        prompts: &Prompts,
        pages: &[Page],
    ) -> Result<(), NodeError> {
        let has_letters = readers.iter().any(|it| matches!(it, Reader::Ocr | Reader::Letters));
        let by_letters = has_letters.then(|| table::entries(pages));
        let has_model = readers.contains(&Reader::Model);
        let by_model =
            has_model.then(|| self.read_by_model(context, prompts, pages)).transpose()?;
        match (by_letters, by_model) {
            (Some(letters), Some(model)) => {
                self.add_compared(compared(letters, Reader::Model, &model), Reader::Model);
            }
            (None, Some(model)) => self.add_by_one_reader(model, Reader::Model.subject()),
            // The text of a PDF is what the paper says; recognised text is one opinion.
            (Some(letters), None) if has_recognised(pages) => {
                self.add_by_one_reader(letters, "recognition");
            }
            (letters, None) => {
                self.rows.extend(letters.into_iter().flatten().map(ReadEntry::certain));
            }
        }
        Ok(())
    }

    /// Adds rows that only one reader has read.
    fn add_by_one_reader(&mut self, entries: Vec<Entry>, reader: &str) {
        self.remarks.push(format!("To be checked: read by {reader} alone."));
        self.is_doubtful = true;
        self.rows.extend(entries.into_iter().map(ReadEntry::certain));
    }

    /// Adds rows that two readers have read, and remarks on those that only the second has.
    fn add_compared(&mut self, agreement: Agreement, second: Reader) {
        for entry in &agreement.only_in_second {
            let Entry { name, result, unit, .. } = entry;
            let reader = second.subject();
            self.remarks
                .push(format!("To be checked: only {reader} reads {name} = {result} {unit}."));
        }
        self.is_doubtful |= !agreement.only_in_second.is_empty();
        self.rows.extend(agreement.rows);
    }

    /// Names the version of a prompt, once.
    pub(crate) fn add_version(&mut self, prompt: &Prompt) {
        let version = version_remark(prompt);
        if !self.remarks.contains(&version) {
            self.remarks.push(version);
        }
    }

    /// Has the model read all pages of a paper.
    fn read_by_model(
        &mut self,
        context: &Context<'_>,
        prompts: &Prompts,
        pages: &[Page],
    ) -> Result<Vec<Entry>, NodeError> {
        let mut entries = Vec::new();
        for page in pages {
            let prompt = prompts.of(PromptTask::Table, page);
            let answer = ask_about_page(context, &prompt.text, page)?;
            let rows = markdown::entries(&answer.answer).ok_or_else(|| {
                let reason = "the model's answer has no table of results";
                NodeError::rejected(Reason::AnswerWithoutTable, reason)
            })?;
            entries.extend(rows.into_iter().map(|it| wording::corrected(it, false)));
            self.add_version(&prompt);
            if self.model.is_none() {
                let model = ModelIdentity::of(&answer);
                self.remarks.push(model.attribution("Read"));
                self.model = Some(model);
            }
        }
        Ok(entries)
    }
}

/// Says that the reader `ocr` has not read, and why.
fn missing_remark(missing: Missing) -> String {
    format!("Read without {}: {}.", Reader::Ocr.subject(), missing.reason())
}

/// A line for each defect of the pictures of pages (PAP-36).
pub(crate) fn flaw_remarks(pages: &[Page]) -> Vec<String> {
    let mut remarks = Vec::new();
    for (index, page) in pages.iter().enumerate() {
        for flaw in &page.flaws {
            remarks.push(format!("Page {}: {}.", index + 1, flaw.description()));
        }
    }
    remarks
}

/// A line that names the version of a prompt.
pub(crate) fn version_remark(prompt: &Prompt) -> String {
    format!("Prompt version: {}.", prompt.version())
}

/// Asks the model about a page.
pub(crate) fn ask_about_page(
    context: &Context<'_>,
    prompt: &str,
    page: &Page,
) -> Result<InferResponse, NodeError> {
    let picture = page.picture.as_ref().ok_or_else(|| {
        let reason = "a page has no picture that the model could be shown";
        NodeError::rejected(Reason::NoPicture, reason)
    })?;
    let picture = QuestionPicture::from_page(picture, SHOWN_SIDE_MAX).map_err(|error| {
        NodeError::rejected(Reason::PictureUnusable, domain::ErrorChain(&error).to_string())
    })?;
    let pictures = [picture];
    Question::new(prompt.trim(), &pictures).tokens_max(TOKENS_MAX).ask_parsed(context)
}

#[cfg(test)]
mod tests {
    use crate::Settings;

    /// PAP-31: what reads a page twice with one reader agrees with itself.
    #[test]
    fn pap_31_the_same_reader_twice_is_refused() {
        let settings = |text: &str| serde_json::from_str::<Settings>(text);
        assert!(settings("{}").unwrap().readers.len() == 2);
        assert!(settings(r#"{"readers": ["letters"]}"#).is_ok());
        let problem = |text: &str| settings(text).err().unwrap().to_string();
        assert!(problem(r#"{"readers": ["model", "model"]}"#).contains("independent"));
        assert!(problem(r#"{"readers": []}"#).contains("nobody"));
        assert!(problem(r#"{"readers": ["model", "ocr", "model"]}"#).contains("independent"));
        assert_eq!(
            settings(r#"{"readers": ["ocr", "letters", "model"]}"#).unwrap().readers.len(),
            3
        );
        assert!(problem(r#"{"readers": ["tesseract"]}"#).contains("tesseract"));
    }
}
