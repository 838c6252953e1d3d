//! The two readers of a paper: recognition of its text with rules, and the shared model (PAP-31).

use domain::InferResponse;
use plugin_api::{Context, NodeError};
use plugin_toolkit::model::ModelIdentity;
use plugin_toolkit::picture::QuestionPicture;
use plugin_toolkit::prompt::Prompt;
use plugin_toolkit::question::Question;
use serde::{Deserialize, Deserializer};

use crate::agreement::compare;
use crate::page::Page;
use crate::prompts::{PromptTask, Prompts};
use crate::rejection::Reason;
use crate::sources::Paper;
use crate::table::{self, Entry, ReadEntry, markdown, wording};

/// A reader of papers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reader {
    /// The text of a PDF, or recognised text, and rules.
    Letters,
    /// The shared model.
    Model,
}

/// Reads the list of readers. None may be named twice: a reader always agrees with itself (PAP-31).
pub(crate) fn readers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Reader>, D::Error> {
    let readers = Vec::<Reader>::deserialize(from)?;
    let problem = match readers.as_slice() {
        [] => "`readers` names nobody",
        [a, b] if a == b => "`readers` names the same one twice: they have to be independent",
        [_] | [_, _] => return Ok(readers),
        _ => "`readers` are `letters`, `model`, or both",
    };
    Err(serde::de::Error::custom(problem))
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
        let by_letters = table::entries(&paper.pages);
        let is_recognised = paper.pages.iter().any(|it| it.is_recognised);
        reading.remarks.push(format!("Read from {} ({} pages).", paper.name, paper.pages.len()));
        reading.remarks.extend(flaw_remarks(&paper.pages));
        let by_model = if readers.contains(&Reader::Model) {
            Some(reading.read_by_model(context, prompts, &paper.pages)?)
        } else {
            None
        };
        match by_model {
            Some(by_model) if readers.contains(&Reader::Letters) => {
                reading.add_compared(by_letters, &by_model);
            }
            Some(by_model) => reading.add_by_one_reader(by_model, "the model"),
            // The text of a PDF is what the paper says; recognised text is one opinion.
            None if is_recognised => reading.add_by_one_reader(by_letters, "recognition"),
            None => reading.rows.extend(by_letters.into_iter().map(ReadEntry::certain)),
        }
    }
    for row in &mut reading.rows {
        if let Some(reason) = wording::implausible(&row.entry) {
            row.add_doubt(reason);
        }
    }
    reading.is_doubtful |= reading.rows.iter().any(|it| !it.doubt.is_empty());
    Ok(reading)
}

impl Reading {
    /// Adds rows that only one reader has read.
    fn add_by_one_reader(&mut self, entries: Vec<Entry>, reader: &str) {
        self.remarks.push(format!("To be checked: read by {reader} alone."));
        self.is_doubtful = true;
        self.rows.extend(entries.into_iter().map(ReadEntry::certain));
    }

    /// Adds rows that both readers have read, and remarks on those that only the model has.
    fn add_compared(&mut self, by_letters: Vec<Entry>, by_model: &[Entry]) {
        let agreement = compare(by_letters, by_model);
        for entry in &agreement.only_in_second {
            let Entry { name, result, unit, .. } = entry;
            self.remarks
                .push(format!("To be checked: only the model reads {name} = {result} {unit}."));
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
        assert!(problem(r#"{"readers": ["model", "letters", "model"]}"#).contains("both"));
    }
}
