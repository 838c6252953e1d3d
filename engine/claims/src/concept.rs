//! The findings that are recognised: the lines of `data/concepts.tsv`, and those that a site adds.
//!
//! | column | content |
//! |---|---|
//! | name | of the finding, in English |
//! | label | the one of the fourteen labels of `CheXpert` that it belongs to |
//! | `RadLex` | its identifier, where it is that of the very same thing |
//! | sites | sites of the body that its general words may be of; `any`; `none` if they may stand alone |
//! | English, Chinese | phrases, separated by a bar |
//!
//! A phrase that begins with `~` is a general word: it is of the finding whose sites fit to what is
//! named beside it. One that begins with `-` denies the finding by itself ("heart size is normal").

use domain::Code;
use serde::Deserialize;

use crate::phrase::{Number, Phrase};

/// The coding scheme of `RadLex`.
const RADLEX: &str = "RADLEX";

/// The coding scheme of findings without a code of their own.
const LOCAL: &str = "99ISOCENTER";

/// Maximum number of letters of a code value (VR SH).
const CODE_LETTERS_MAX: usize = 16;

/// Name of the label for a report without any finding.
const NORMALITY: &str = "No Finding";

/// The site that stands for each of them.
const ANY_SITE: &str = "any";

/// The site that stands for none being named.
const NO_SITE: &str = "none";

/// Why a vocabulary cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyError {
    /// A finding has no name.
    #[error("a finding of `concepts` has no name")]
    Nameless,
    /// A finding has no phrase.
    #[error("the finding `{0}` of `concepts` has no phrase in `en` or `zh`")]
    WithoutPhrase(String),
    /// A phrase cannot be read.
    #[error("the phrase `{phrase}` of the finding `{concept}` does not begin with a word")]
    Phrase {
        /// Name of the finding.
        concept: String,
        /// The phrase.
        phrase: String,
    },
    /// A line of a data file has a wrong number of columns or an unknown word.
    #[error("the line `{0}` cannot be read")]
    Line(String),
}

/// A finding that a site adds, or phrases that it adds to a known one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConceptEntry {
    /// Name of the finding.
    pub name: String,
    /// Its code, if it has one.
    #[serde(default)]
    pub code: Option<Code>,
    /// Its label of the fourteen of `CheXpert`, if it belongs to one.
    #[serde(default)]
    pub label: String,
    /// Sites of the body that its general words may be of.
    #[serde(default)]
    pub sites: Vec<String>,
    /// Phrases in English.
    #[serde(default)]
    pub en: Vec<String>,
    /// Phrases in Chinese.
    #[serde(default)]
    pub zh: Vec<String>,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Concept {
    pub(crate) name: String,
    pub(crate) code: Code,
    pub(crate) label: String,
    sites: Vec<String>,
}

impl Concept {
    pub(crate) fn of(entry: &ConceptEntry) -> Self {
        let slug: String = entry.name.replace(' ', "-").chars().take(CODE_LETTERS_MAX).collect();
        Self {
            name: entry.name.clone(),
            code: entry.code.clone().unwrap_or_else(|| Code::new(&slug, LOCAL, &entry.name)),
            label: entry.label.clone(),
            sites: entry.sites.clone(),
        }
    }

    /// Adds what a site says of a finding that is known already.
    pub(crate) fn extend(&mut self, entry: &ConceptEntry) {
        if let Some(code) = &entry.code {
            self.code = code.clone();
        }
        if !entry.label.is_empty() {
            self.label.clone_from(&entry.label);
        }
        self.sites.extend(entry.sites.iter().cloned());
    }

    /// Whether a general word for it may be of a site.
    pub(crate) fn is_of(&self, site: Option<&str>) -> bool {
        let wanted = site.unwrap_or(NO_SITE);
        self.sites.iter().any(|it| it == ANY_SITE || it == wanted)
    }

    /// Whether it is the claim that nothing abnormal was found.
    pub(crate) fn is_normality(&self) -> bool {
        self.label == NORMALITY
    }
}

/// A phrase of a finding, and how it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConceptPhrase {
    pub(crate) phrase: Phrase,
    /// Whether it is a general word, whose site decides.
    pub(crate) is_general: bool,
    /// Whether it denies the finding by itself.
    pub(crate) is_denial: bool,
}

impl ConceptEntry {
    /// Reads a line of the data file.
    pub(crate) fn parse(line: &str) -> Result<Self, VocabularyError> {
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, label, radlex, sites, en, zh] = columns.as_slice() else {
            return Err(VocabularyError::Line(line.to_owned()));
        };
        let list = |text: &str, separator: char| {
            let parts = text.split(separator).filter(|it| !it.is_empty());
            parts.map(str::to_owned).collect()
        };
        Ok(Self {
            name: (*name).to_owned(),
            code: (!radlex.is_empty()).then(|| Code::new(radlex, RADLEX, name)),
            label: (*label).to_owned(),
            sites: list(sites, ','),
            en: list(en, '|'),
            zh: list(zh, '|'),
        })
    }

    /// Its phrases.
    pub(crate) fn phrases(&self) -> Result<Vec<ConceptPhrase>, VocabularyError> {
        if self.name.trim().is_empty() {
            return Err(VocabularyError::Nameless);
        }
        if self.en.is_empty() && self.zh.is_empty() {
            return Err(VocabularyError::WithoutPhrase(self.name.clone()));
        }
        self.en.iter().chain(&self.zh).map(|it| self.phrase(it)).collect()
    }

    fn phrase(&self, text: &str) -> Result<ConceptPhrase, VocabularyError> {
        let general = text.strip_prefix('~');
        let denial = text.strip_prefix('-');
        let plain = general.or(denial).unwrap_or(text);
        let phrase = Phrase::parse(plain, Number::Any).ok_or_else(|| VocabularyError::Phrase {
            concept: self.name.clone(),
            phrase: text.to_owned(),
        })?;
        Ok(ConceptPhrase { phrase, is_general: general.is_some(), is_denial: denial.is_some() })
    }
}
