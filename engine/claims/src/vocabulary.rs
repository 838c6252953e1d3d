//! Findings, cues and sites, and the reading of a text by them.

use std::sync::LazyLock;

use crate::claim::Claim;
use crate::concept::{Concept, ConceptEntry, VocabularyError};
use crate::cue::{CueKind, Direction};
use crate::lexicon::{Lexicon, Meaning};
use crate::phrase::{Number, Phrase};
use crate::reading::{Mention, Reading};
use crate::sentence::{sentences, tokens};

/// The findings that are known without a site's own.
const CONCEPTS: &str = include_str!("../data/concepts.tsv");

/// The cues, by language.
const CUES: [&str; 2] =
    [include_str!("../data/triggers.en.tsv"), include_str!("../data/triggers.zh.tsv")];

/// The sites of the body.
const SITES: &str = include_str!("../data/sites.tsv");

/// Findings, cues and sites.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    concepts: Vec<Concept>,
    sites: Vec<String>,
    lexicon: Lexicon,
}

static STANDARD: LazyLock<Vocabulary> = LazyLock::new(|| Vocabulary::built().0);

impl Vocabulary {
    /// The findings that are known without a site's own.
    pub fn standard() -> &'static Self {
        &STANDARD
    }

    /// The standard vocabulary, and what of its files cannot be read.
    fn built() -> (Self, Vec<VocabularyError>) {
        let mut vocabulary = Self::default();
        let mut problems = Vec::new();
        for line in CUES.iter().flat_map(|it| lines(it)) {
            problems.extend(vocabulary.add_cues(line).err());
        }
        for line in lines(SITES) {
            problems.extend(vocabulary.add_site(line).err());
        }
        for line in lines(CONCEPTS) {
            let added = ConceptEntry::parse(line).and_then(|it| vocabulary.add_concept(&it));
            problems.extend(added.err());
        }
        (vocabulary, problems)
    }

    /// This vocabulary with the findings that a site adds. An entry with the name of a known finding
    /// adds its phrases and sites to it.
    ///
    /// # Errors
    ///
    /// If an entry has no name, no phrase, or a phrase that cannot be read.
    pub fn extended(&self, entries: &[ConceptEntry]) -> Result<Self, VocabularyError> {
        let mut vocabulary = self.clone();
        for entry in entries {
            vocabulary.add_concept(entry)?;
        }
        Ok(vocabulary)
    }

    /// Number of findings that it knows.
    pub fn concept_count(&self) -> usize {
        self.concepts.len()
    }

    /// Names, labels of `CheXpert`, and codes of the findings that it knows.
    pub fn concepts(&self) -> impl Iterator<Item = (&str, &str, &domain::Code)> {
        self.concepts.iter().map(|it| (it.name.as_str(), it.label.as_str(), &it.code))
    }

    /// All claims of a text, sentence by sentence.
    pub fn claims(&self, text: &str) -> Vec<Claim> {
        let mut claims = Vec::new();
        let mut heading = None;
        for sentence in sentences(text) {
            let reading = Reading::of(&self.lexicon, tokens(sentence.text));
            if sentence.opens_line && (sentence.is_after_blank_line || reading.has_heading()) {
                heading = None;
            }
            let of_sentence = reading.mentions.iter();
            claims.extend(
                of_sentence.filter_map(|it| self.claim(&reading, it, heading, sentence.text)),
            );
            // A heading on a line of its own is that of the lines below it.
            if sentence.text.ends_with([':', '：']) {
                heading = reading.heading();
            }
        }
        claims
    }

    fn claim(
        &self,
        reading: &Reading,
        mention: &Mention,
        heading: Option<CueKind>,
        sentence: &str,
    ) -> Option<Claim> {
        let site = reading.site_of(mention).and_then(|it| self.sites.get(it));
        let mut candidates = mention.concepts.iter().filter_map(|it| self.concepts.get(*it));
        let concept =
            candidates.find(|it| !mention.is_general || it.is_of(site.map(String::as_str)))?;
        let verdict = reading.verdict(mention, heading);
        Some(Claim {
            concept: concept.name.clone(),
            code: concept.code.clone(),
            presence: verdict.presence,
            temporality: verdict.temporality,
            experiencer: verdict.experiencer,
            state: verdict.state,
            sides: reading.sides_of(mention),
            site: site.cloned(),
            is_normality: concept.is_normality(),
            sentence: sentence.to_owned(),
        })
    }

    fn add_concept(&mut self, entry: &ConceptEntry) -> Result<(), VocabularyError> {
        let phrases = entry.phrases()?;
        let known = self.concepts.iter().position(|it| it.name == entry.name);
        let number = known.unwrap_or(self.concepts.len());
        match self.concepts.get_mut(number) {
            Some(concept) => concept.extend(entry),
            None => self.concepts.push(Concept::of(entry)),
        }
        for it in phrases {
            let meaning = Meaning::Finding {
                concept: number,
                is_general: it.is_general,
                is_denial: it.is_denial,
            };
            self.lexicon.add(it.phrase, meaning);
        }
        Ok(())
    }

    fn add_cues(&mut self, line: &str) -> Result<(), VocabularyError> {
        let unreadable = || VocabularyError::Line(line.to_owned());
        let columns: Vec<&str> = line.split('\t').collect();
        let [kind, direction, phrases] = columns.as_slice() else { return Err(unreadable()) };
        let kind = CueKind::named(kind).ok_or_else(unreadable)?;
        let direction = Direction::named(direction).ok_or_else(unreadable)?;
        for phrase in phrases.split('|') {
            let phrase = Phrase::parse(phrase, Number::AsWritten).ok_or_else(unreadable)?;
            self.lexicon.add(phrase, Meaning::Cue(kind, direction));
        }
        Ok(())
    }

    fn add_site(&mut self, line: &str) -> Result<(), VocabularyError> {
        let unreadable = || VocabularyError::Line(line.to_owned());
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, en, zh] = columns.as_slice() else { return Err(unreadable()) };
        for phrase in en.split('|').chain(zh.split('|')) {
            let phrase = Phrase::parse(phrase, Number::AsWritten).ok_or_else(unreadable)?;
            self.lexicon.add(phrase, Meaning::Site(self.sites.len()));
        }
        self.sites.push((*name).to_owned());
        Ok(())
    }
}

/// The lines of a data file that are no comments.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|it| !it.is_empty() && !it.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use domain::{Code, Presence};

    use crate::claim::{State, Temporality};

    use super::*;

    fn claimed(text: &str) -> Vec<(String, Presence, Option<State>)> {
        let claims = Vocabulary::standard().claims(text);
        claims.into_iter().map(|it| (it.concept, it.presence, it.state)).collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &[(&str, Presence, Option<State>)]) {
        let found = claimed(text);
        let found: Vec<_> = found.iter().map(|it| (it.0.as_str(), it.1, it.2)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn every_line_of_the_data_files_can_be_read() {
        assert_eq!(Vocabulary::built().1, []);
    }

    #[test]
    fn pap_15_the_fourteen_labels_of_chexpert_are_there_and_no_code_is_given_twice() {
        let vocabulary = Vocabulary::standard();
        let labels: BTreeSet<&str> =
            vocabulary.concepts().map(|it| it.1).filter(|it| !it.is_empty()).collect();
        assert_eq!(labels.len(), 14, "{labels:?}");
        let codes: BTreeSet<&str> = vocabulary.concepts().map(|it| it.2.value.as_str()).collect();
        assert_eq!(codes.len(), vocabulary.concept_count());
        assert!(codes.iter().all(|it| it.len() <= 16), "{codes:?}");
    }

    #[test]
    fn pap_15_the_sentences_of_the_field_come_out_right() {
        use Presence::{Absent, Present};
        let unchanged = Some(State::Unchanged);
        let resolved = Some(State::Resolved);
        check("The right pneumothorax is not changed.", &[("pneumothorax", Present, unchanged)]);
        check("no fever and has consolidation", &[("consolidation", Present, None)]);
        check("Knee joint effusion.", &[("joint effusion", Present, None)]);
        check("The nodule has resolved.", &[("nodule", Absent, resolved)]);
        check("右乳见无痛性肿块。", &[("mass", Present, None)]);
        check("无明显变化的左侧胸腔积液。", &[("pleural effusion", Present, unchanged)]);
    }

    #[test]
    fn pap_15_what_was_seen_earlier_and_is_not_seen_now_has_resolved() {
        let resolved = Some(State::Resolved);
        check(
            "The previously noted nodule is not visualized.",
            &[("nodule", Presence::Absent, resolved)],
        );
        check("The nodule is not visualized.", &[("nodule", Presence::Absent, None)]);
    }

    #[test]
    fn pap_15_in_chinese_the_site_that_a_sentence_begins_with_is_that_of_its_parts() {
        check(
            "腹腔内未见游离气体，未见积液。",
            &[("pneumoperitoneum", Presence::Absent, None), ("ascites", Presence::Absent, None)],
        );
    }

    #[test]
    fn pap_15_a_heading_on_its_own_line_is_that_of_the_lines_below() {
        let text = "INDICATION:\nPneumonia.\n\nFINDINGS:\nNo effusion.";
        let claims = Vocabulary::standard().claims(text);
        let times: Vec<_> = claims.iter().map(|it| (it.concept.as_str(), it.temporality)).collect();
        assert_eq!(
            times,
            [("pneumonia", Temporality::Hypothetical), ("pleural effusion", Temporality::Current)]
        );
    }

    #[test]
    fn pap_15_sides_are_those_of_the_finding_and_not_of_its_neighbour() {
        let text = "Small left effusion and right pneumothorax. Nodule in the right lung.";
        let claims = Vocabulary::standard().claims(text);
        let sides: Vec<_> = claims.iter().map(|it| (it.sides.left, it.sides.right)).collect();
        assert_eq!(sides, [(true, false), (false, true), (false, true)]);
    }

    #[test]
    fn pap_15_a_site_adds_findings_and_words() {
        let own = [
            ConceptEntry {
                name: "situs inversus".to_owned(),
                en: vec!["situs inversus".to_owned()],
                code: Some(Code::new("1", "99SITE", "Situs inversus")),
                ..ConceptEntry::default()
            },
            ConceptEntry {
                name: "pneumothorax".to_owned(),
                en: vec!["pneumo".to_owned()],
                ..ConceptEntry::default()
            },
        ];
        let vocabulary = Vocabulary::standard().extended(&own).unwrap();
        let claims = vocabulary.claims("No situs inversus. Left pneumo.");
        let names: Vec<_> = claims.iter().map(|it| (it.concept.as_str(), it.presence)).collect();
        let expected = [("situs inversus", Presence::Absent), ("pneumothorax", Presence::Present)];
        assert_eq!(names, expected);
        assert_eq!(claims[0].code.scheme, "99SITE");
        let nameless = ConceptEntry { en: vec!["x".to_owned()], ..ConceptEntry::default() };
        let refused = Vocabulary::standard().extended(&[nameless]).unwrap_err();
        assert_eq!(refused, VocabularyError::Nameless);
    }
}
