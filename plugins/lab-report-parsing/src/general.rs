//! Medical documents of any kind (PAP-13): of which one is, and the fields of its kind.

use std::collections::BTreeMap;

use domain::InferAnswer;
use encoding::unit::folded_text;
use plugin_api::{Context, NodeError};
use serde::Deserialize;

use crate::answers::{json, plain};
use crate::page::Page;
use crate::reading::{Reader, asked, credit, flaws};
use crate::sources::Paper;
use crate::table::lines::{Line, lines, text};

/// A kind of document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kind {
    /// Its name.
    #[serde(rename = "kind")]
    name: String,
    /// Words that it is known by.
    words: Vec<String>,
    /// Its fields, and the labels they stand behind.
    fields: BTreeMap<String, Vec<String>>,
}

/// What a document is, and says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Document {
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, String>,
}

/// The kinds that are known.
pub(crate) fn kinds() -> Result<Vec<Kind>, NodeError> {
    serde_saphyr::from_str(include_str!("kinds.yaml"))
        .map_err(|error| NodeError::rejected("kinds_unreadable", error.to_string()))
}

/// What the letters of pages say.
pub(crate) fn by_letters(pages: &[Page], kinds: &[Kind]) -> Document {
    let lines: Vec<Line> = pages.iter().flat_map(|it| lines(&it.words)).collect();
    let texts: Vec<String> = lines.iter().map(|it| folded_text(&text(it))).collect();
    let all = texts.join("\n").to_lowercase();
    let count = |kind: &&Kind| {
        kind.words.iter().map(|it| all.matches(&it.to_lowercase()).count()).sum::<usize>()
    };
    // The first of those that are known best.
    let best = kinds.iter().rev().max_by_key(count).filter(|it| count(it) > 0);
    let Some(kind) = best else { return Document::default() };
    let fields = kind.fields.iter().filter_map(|(name, labels)| {
        let value = texts.iter().find_map(|line| value(line, labels, kind))?;
        Some((name.clone(), value))
    });
    Document { kind: kind.name.clone(), fields: fields.collect() }
}

/// What stands behind a label and its colon, up to the next label of the kind.
fn value(line: &str, labels: &[String], kind: &Kind) -> Option<String> {
    let lower = line.to_lowercase();
    let place = |label: &String| {
        let label = label.to_lowercase();
        let at = lower.match_indices(&label).find(|(at, _)| {
            let behind = lower.get(at + label.len()..).unwrap_or_default().trim_start();
            behind.starts_with(':')
        })?;
        Some((at.0, at.0 + label.len()))
    };
    let (_, end) = labels.iter().find_map(place)?;
    let rest = line.get(end..)?.trim_start().strip_prefix(':')?;
    let next = kind.fields.values().flatten().filter_map(place).map(|(start, _)| start);
    let until = next.filter(|it| *it > end).min().unwrap_or(line.len());
    let taken = line.get(line.len() - rest.len()..until)?.trim();
    (!taken.is_empty()).then(|| taken.to_owned())
}

/// Where two readings of a document differ.
pub(crate) fn differences(letters: &Document, model: &Document) -> Vec<String> {
    if letters.kind != model.kind {
        let other = if model.kind.is_empty() { "nothing it knows" } else { &model.kind };
        return vec![format!("the model takes it for {other}")];
    }
    let names = letters.fields.keys().chain(model.fields.keys());
    let mut differences: Vec<String> = names
        .filter_map(|name| {
            let [ours, theirs] = [letters, model].map(|it| it.fields.get(name));
            let is_same = ours.map(|it| plain(it)) == theirs.map(|it| plain(it));
            let theirs = theirs.map_or("not there", String::as_str);
            (!is_same).then(|| format!("{name}: the model reads {theirs}"))
        })
        .collect();
    differences.dedup();
    differences
}

/// What came of reading papers.
#[derive(Default)]
pub(crate) struct Read {
    /// What they are, and say.
    pub(crate) documents: Vec<Document>,
    /// What a person has to know.
    pub(crate) remarks: Vec<String>,
    /// What is not sure.
    pub(crate) doubts: Vec<String>,
}

/// Reads papers of any kind.
pub(crate) fn read(
    context: &Context<'_>,
    readers: &[Reader],
    papers: &[Paper],
) -> Result<Read, NodeError> {
    let kinds = kinds()?;
    let Read { mut documents, mut remarks, mut doubts } = Read::default();
    for paper in papers {
        let letters = by_letters(&paper.pages, &kinds);
        remarks.extend(flaws(&paper.pages));
        let document = if readers.contains(&Reader::Model) {
            let (model, said) = by_model(context, &paper.pages, &kinds)?;
            remarks.push(credit(&said));
            if readers.contains(&Reader::Letters) {
                doubts.extend(differences(&letters, &model));
                letters
            } else {
                doubts.push("read by the model alone".to_owned());
                model
            }
        } else {
            if paper.pages.iter().any(|it| it.is_recognised) {
                doubts.push("read by recognition alone".to_owned());
            }
            letters
        };
        if document.kind.is_empty() {
            let reason = format!("{} is of no kind that is known", paper.name);
            return Err(NodeError::rejected("kind_unknown", reason));
        }
        documents.push(document);
    }
    Ok(Read { documents, remarks, doubts })
}

fn by_model(
    context: &Context<'_>,
    pages: &[Page],
    kinds: &[Kind],
) -> Result<(Document, InferAnswer), NodeError> {
    let listed = kinds.iter().map(|it| {
        let fields: Vec<&str> = it.fields.keys().map(String::as_str).collect();
        format!("- {}: {}", it.name, fields.join(", "))
    });
    let listed: Vec<String> = listed.collect();
    let prompt =
        format!("{}\n{}", include_str!("../prompts/document.txt").trim(), listed.join("\n"));
    let first = pages.first().ok_or_else(|| NodeError::rejected("no_page", "it has no pages"))?;
    let said = asked(context, &prompt, first)?;
    Ok((json(&said.answer)?, said))
}

/// A document in words.
pub(crate) fn words(document: &Document) -> String {
    let fields = document.fields.iter().map(|(name, value)| format!("{name}: {value}"));
    let lines: Vec<String> =
        std::iter::once(format!("kind: {}", document.kind)).chain(fields).collect();
    lines.join("\n")
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
        let found = by_letters(&pages, &kinds().unwrap());
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
        let kind = |lines: &[&str]| by_letters(&[page(lines)], &kinds().unwrap()).kind;
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
