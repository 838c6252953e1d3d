//! The two readers of a paper: its letters (as they are, or recognised) and the shared model.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{InferAnswer, InferRequest, Priority, Role, Sampling, Utterance};
use image::GrayImage;
use imaging::Picture;
use plugin_api::{Context, NodeError};
use serde::{Deserialize, Deserializer};

use crate::agree::agreed;
use crate::page::Page;
use crate::sources::Paper;
use crate::table::{self, Entry, markdown, wording};

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reader {
    /// Letters of a PDF, or recognised ones, and rules.
    Letters,
    /// The shared model.
    Model,
}

/// Readers, each once: one that agrees with itself says nothing (PAP-31).
pub(crate) fn readers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Reader>, D::Error> {
    let readers = Vec::<Reader>::deserialize(from)?;
    let wrong = |it: &str| Err(serde::de::Error::custom(it));
    match readers.as_slice() {
        [] => wrong("`readers` names nobody"),
        [a, b] if a == b => {
            wrong("`readers` names the same one twice: they have to be independent")
        }
        [_] | [_, _] => Ok(readers),
        _ => wrong("`readers` are `letters`, `model`, or both"),
    }
}

/// Most tokens of a table.
const TOKENS_MAX: usize = 4096;

/// A page as the model is shown it: pixels on its longer side at most.
const SHOWN_SIDE_MAX: u32 = 1600;

/// What the readers say of papers.
#[derive(Default)]
pub(crate) struct Reading {
    /// Rows, each with why it is doubtful, or nothing.
    pub(crate) rows: Vec<(Entry, String)>,
    /// What a person has to know, line by line.
    pub(crate) remarks: Vec<String>,
    /// Whether a person has to look.
    pub(crate) is_doubtful: bool,
}

/// Has the readers read all papers.
pub(crate) fn read(
    context: &Context<'_>,
    readers: &[Reader],
    papers: &[Paper],
) -> Result<Reading, NodeError> {
    let mut reading = Reading::default();
    for paper in papers {
        let letters = table::entries(&paper.pages);
        let is_recognised = paper.pages.iter().any(|it| it.is_recognised);
        reading.remarks.push(format!("Read from {} ({} pages).", paper.name, paper.pages.len()));
        reading.remarks.extend(flaws(&paper.pages));
        let by_model = if readers.contains(&Reader::Model) {
            Some(model_entries(context, &paper.pages, &mut reading.remarks)?)
        } else {
            None
        };
        match by_model {
            Some(model) if readers.contains(&Reader::Letters) => {
                let agreement = agreed(letters, &model);
                let words = |it: &Entry| format!("{} = {} {}", it.name, it.result, it.unit);
                let others = agreement.others.iter().map(words);
                reading
                    .remarks
                    .extend(others.map(|it| format!("To be checked: only the model reads {it}.")));
                reading.is_doubtful |= !agreement.others.is_empty();
                reading.rows.extend(agreement.rows);
            }
            Some(model) => reading.add_alone(model, "the model"),
            // Letters of a PDF are what it says; recognised ones are one opinion.
            None if is_recognised => reading.add_alone(letters, "recognition"),
            None => reading.rows.extend(letters.into_iter().map(|it| (it, String::new()))),
        }
    }
    for (entry, doubt) in &mut reading.rows {
        if let Some(why) = wording::implausible(entry) {
            *doubt = if doubt.is_empty() { why.to_owned() } else { format!("{doubt}; {why}") };
        }
    }
    reading.is_doubtful |= reading.rows.iter().any(|(_, doubt)| !doubt.is_empty());
    Ok(reading)
}

impl Reading {
    /// Takes in what only one reader has read.
    fn add_alone(&mut self, entries: Vec<Entry>, who: &str) {
        self.remarks.push(format!("To be checked: read by {who} alone."));
        self.is_doubtful = true;
        self.rows.extend(entries.into_iter().map(|it| (it, String::new())));
    }
}

/// What is wrong with the pictures of pages (PAP-36).
pub(crate) fn flaws(pages: &[Page]) -> Vec<String> {
    let each = pages.iter().enumerate();
    let lines = each.flat_map(|(at, page)| {
        page.flaws.iter().map(move |it| format!("Page {}: {}.", at + 1, it.words()))
    });
    lines.collect()
}

fn model_entries(
    context: &Context<'_>,
    pages: &[Page],
    remarks: &mut Vec<String>,
) -> Result<Vec<Entry>, NodeError> {
    let mut entries = Vec::new();
    for page in pages {
        let said = asked(context, include_str!("../prompts/table.txt"), page)?;
        let read = markdown::entries(&said.answer).ok_or_else(|| {
            NodeError::rejected("answer_unreadable", "the model's answer has no table of results")
        })?;
        entries.extend(read.into_iter().map(|it| wording::settled(it, false)));
        if remarks.iter().all(|it| !it.starts_with("Read by model")) {
            remarks.push(credit(&said));
        }
    }
    Ok(entries)
}

/// Which model has read.
pub(crate) fn credit(said: &InferAnswer) -> String {
    let digest = if said.digest.is_empty() { String::new() } else { format!(" {}", said.digest) };
    let warning = said.warning.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
    format!("Read by model {}{digest}{warning}.", said.model)
}

/// What the model says of a page.
pub(crate) fn asked(
    context: &Context<'_>,
    prompt: &str,
    page: &Page,
) -> Result<InferAnswer, NodeError> {
    let picture = page.picture.as_ref().ok_or_else(|| {
        NodeError::rejected("no_picture", "a page has no picture that the model could be shown")
    })?;
    let unusable = |it: imaging::PictureError| {
        NodeError::rejected("picture_unusable", domain::ErrorChain(&it).to_string())
    };
    let shown = shown(picture).map_err(unusable)?;
    let png = BASE64_STANDARD.encode(shown.to_png().map_err(unusable)?);
    let text = prompt.trim().to_owned();
    context.ask_whole(&InferRequest {
        priority: Priority::Routine,
        deadline_ms: None,
        messages: vec![Utterance { role: Role::User, text, pictures: 1 }],
        pictures: vec![png],
        mask_pictures: Vec::new(),
        pixels: None,
        sampling: Sampling { tokens_max: TOKENS_MAX, ..Sampling::default() },
    })
}

fn shown(gray: &GrayImage) -> Result<Picture, imaging::PictureError> {
    let (width, height) = gray.dimensions();
    let longer = width.max(height);
    let side = |it: u32| (it * SHOWN_SIDE_MAX / longer.max(SHOWN_SIDE_MAX)).max(1);
    let filter = image::imageops::FilterType::Triangle;
    let gray = image::imageops::resize(gray, side(width), side(height), filter);
    let rgb = gray.as_raw().iter().flat_map(|it| [*it; 3]).collect();
    Picture::new(gray.width(), gray.height(), rgb)
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
