//! Kinds of documents, and how well a document fits each: by titles and words, at word boundaries.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::layout::DocumentLine;
use crate::vocabulary::is_han;

/// Weight of a title in a heading of the first page, and anywhere else.
const TITLE_WEIGHT: u32 = 6;
const TITLE_WEIGHT_ELSEWHERE: u32 = 2;

/// How much more a word weighs in a heading.
const HEADING_FACTOR: u32 = 3;

/// Upper bound of the times that a word is counted.
const COUNT_MAX: u32 = 2;

/// Lower bound of the weight of what a kind is known by.
const EVIDENCE_MIN: u32 = 4;

/// A kind of document, as `kinds.yaml` or a site declares it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// Name of the kind.
    #[serde(rename = "kind")]
    pub(crate) name: String,
    /// What its heading says.
    #[serde(default)]
    titles: Vec<String>,
    /// Words that it has.
    #[serde(default)]
    words: Vec<WordEntry>,
    /// Names of its fields, each with its labels.
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, FieldEntry>,
    /// The fields that there may be several times.
    #[serde(default)]
    pub(crate) items: Option<ItemEntry>,
}

/// A word, with a weight of its own or not.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum WordEntry {
    Plain(String),
    Weighted { word: String, weight: u32 },
}

/// The labels of a field.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum FieldEntry {
    /// Of a field of one line.
    Labels(Vec<String>),
    /// With whether its value may be of several lines.
    Text {
        /// The labels.
        labels: Vec<String>,
        /// Whether its value may be of several lines.
        #[serde(default)]
        text: bool,
    },
}

/// The fields of an item: a drug of a prescription.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemEntry {
    /// The field that each item begins with.
    pub(crate) starts: String,
    /// All fields of an item.
    pub(crate) fields: Vec<String>,
}

impl WordEntry {
    fn word(&self) -> &str {
        match self {
            Self::Plain(word) | Self::Weighted { word, .. } => word,
        }
    }

    const fn weight(&self) -> u32 {
        match self {
            Self::Plain(_) => 1,
            Self::Weighted { weight, .. } => *weight,
        }
    }
}

impl FieldEntry {
    /// The labels.
    pub(crate) fn labels(&self) -> &[String] {
        match self {
            Self::Labels(labels) | Self::Text { labels, .. } => labels,
        }
    }

    /// Whether its value may be of several lines.
    pub(crate) const fn is_text(&self) -> bool {
        matches!(self, Self::Text { text: true, .. })
    }
}

impl Kind {
    /// Whether a field is one of an item.
    pub(crate) fn is_of_item(&self, field: &str) -> bool {
        self.items.as_ref().is_some_and(|it| it.fields.iter().any(|it| it == field))
    }

    /// Name and fields, as the model is told them.
    pub(crate) fn outline(&self) -> String {
        let names = self.fields.keys().map(String::as_str);
        let fields: Vec<&str> = names.clone().filter(|it| !self.is_of_item(it)).collect();
        let items: Vec<&str> = names.filter(|it| self.is_of_item(it)).collect();
        let items = match items.as_slice() {
            [] => String::new(),
            items => format!("; items: {}", items.join(", ")),
        };
        format!("{}: {}{items}", self.name, fields.join(", "))
    }

    /// Adds what a site says about the kind.
    fn add(&mut self, own: Self) {
        self.titles.extend(own.titles);
        self.words.extend(own.words);
        for (name, entry) in own.fields {
            let labels = entry.labels().to_vec();
            let known = self.fields.get(&name);
            let text = entry.is_text() || known.is_some_and(FieldEntry::is_text);
            let known = known.map(|it| it.labels().to_vec()).unwrap_or_default();
            self.fields.insert(name, FieldEntry::Text { labels: [known, labels].concat(), text });
        }
        self.items = own.items.or(self.items.take());
    }

    /// The weight of all that a document has of this kind. Each place counts for the longest title or
    /// word only.
    fn weight(&self, lines: &[DocumentLine]) -> u32 {
        let titles = self.titles.iter().map(|it| (it.as_str(), None));
        let words = self.words.iter().map(|it| (it.word(), Some(it.weight())));
        let mut all: Vec<(&str, Option<u32>)> = titles.chain(words).collect();
        all.sort_by_key(|(word, _)| std::cmp::Reverse(word.chars().count()));
        let mut texts: Vec<String> = lines.iter().map(|it| it.text.clone()).collect();
        let mut sum = 0;
        let mut has_title = false;
        for (word, weight) in all {
            let mut in_headings = 0;
            let mut elsewhere = 0;
            for (line, text) in lines.iter().zip(&mut texts) {
                let count = take_word(text, word);
                if line.is_heading {
                    in_headings += count;
                } else {
                    elsewhere += count;
                }
            }
            sum += match weight {
                None if in_headings > 0 && !has_title => {
                    has_title = true;
                    TITLE_WEIGHT
                }
                None if in_headings + elsewhere > 0 => TITLE_WEIGHT_ELSEWHERE,
                None => 0,
                Some(weight) if in_headings > 0 => weight * HEADING_FACTOR,
                Some(weight) => weight * elsewhere.min(COUNT_MAX),
            };
        }
        sum
    }
}

/// The known kinds with those of a site.
pub(crate) fn with_own(mut known: Vec<Kind>, own: &[Kind]) -> Vec<Kind> {
    for kind in own {
        match known.iter_mut().find(|it| it.name == kind.name) {
            Some(known) => known.add(kind.clone()),
            None => known.push(kind.clone()),
        }
    }
    known
}

/// The kind of a document; nothing if the evidence is weak, or nearly as good for another kind.
pub(crate) fn kind_of<'a>(lines: &[DocumentLine], kinds: &'a [Kind]) -> Option<&'a Kind> {
    let mut weights: Vec<(u32, &Kind)> = kinds.iter().map(|it| (it.weight(lines), it)).collect();
    weights.sort_by_key(|it| std::cmp::Reverse(it.0));
    let (best, kind) = *weights.first()?;
    let second = weights.get(1).map_or(0, |it| it.0);
    (best >= EVIDENCE_MIN && best * 2 >= second * 3).then_some(kind)
}

/// Takes a word out of a text wherever it stands as a word, and returns how often it was there.
fn take_word(text: &mut String, word: &str) -> u32 {
    let capitals = word.chars().filter(char::is_ascii_uppercase).count();
    // `CT` is no word in small letters, and neither is `Sig` or `Rx`.
    let is_exact = capitals >= 2 || (word.chars().count() <= 3 && capitals > 0);
    let letters: Vec<char> = text.chars().collect();
    let lower = |it: char| it.to_lowercase().next().unwrap_or(it);
    let wanted: Vec<char> =
        if is_exact { word.chars().collect() } else { word.chars().map(lower).collect() };
    let mut found = 0;
    let mut kept = String::new();
    let mut at = 0;
    while let Some(letter) = letters.get(at) {
        let here = letters.get(at..at + wanted.len()).unwrap_or_default();
        let same = |(a, b): (&char, &char)| if is_exact { a == b } else { lower(*a) == *b };
        let is_here = here.len() == wanted.len() && !here.is_empty();
        if is_here && here.iter().zip(&wanted).all(same) && is_word(&letters, at, wanted.len()) {
            found += 1;
            kept.push(' ');
            at += wanted.len();
        } else {
            kept.push(*letter);
            at += 1;
        }
    }
    *text = kept;
    found
}

/// Whether letters are a word, and no part of one. Chinese has no gaps between words.
pub(crate) fn is_word(letters: &[char], at: usize, length: usize) -> bool {
    let is_part = |it: Option<&char>| it.is_some_and(|it| it.is_alphanumeric() && !is_han(*it));
    let first = letters.get(at);
    let last = letters.get((at + length).saturating_sub(1));
    let before = at.checked_sub(1).and_then(|it| letters.get(it));
    let after = letters.get(at + length);
    let goes_on_before = is_part(first) && is_part(before);
    let goes_on_after = is_part(last) && is_part(after);
    !goes_on_before && !goes_on_after
}
