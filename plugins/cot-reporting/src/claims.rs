//! The claims of a report: that a finding is present or absent, and on which side. By rules (in the
//! manner of `NegEx`), so that no model judges a model. Findings that the rules do not know give no
//! claims.

use std::sync::LazyLock;

use domain::Presence;
use regex::Regex;

/// A finding that the rules know.
struct Concept {
    name: &'static str,
    /// How it is written, in English and Chinese.
    pattern: &'static str,
}

const fn concept(name: &'static str, pattern: &'static str) -> Concept {
    Concept { name, pattern }
}

/// All findings that the rules know.
const CONCEPTS: [Concept; 11] = [
    concept("pneumothorax", r"pneumothora(?:x|ces)|气胸"),
    concept("pleural effusion", r"(?:pleural )?effusions?|胸腔积液|胸水"),
    concept("consolidation", r"consolidations?|实变"),
    concept("pneumonia", r"pneumonias?|肺炎"),
    concept("atelectasis", r"atelecta(?:sis|ses)|肺不张"),
    concept("nodule", r"nodules?|结节"),
    concept("mass", r"\bmass(?:es)?\b|肿块"),
    concept("fracture", r"fractures?|骨折"),
    concept("cardiomegaly", r"cardiomegaly|enlarged heart|心影增大|心脏增大"),
    concept("edema", r"o?edema|水肿"),
    concept("emphysema", r"emphysema|肺气肿"),
];

/// Words that negate a claim, if they come before it in its part of the sentence.
const NEGATION: &str = r"\b(?:no|not|without|absence of|free of|negative for|ruled? out|denies)\b|未见|无明显|没有|无|排除";

/// Words that negate a claim, if they come directly after it.
const NEGATION_AFTER: &str =
    r"^[^.,，。;]{0,20}\b(?:is|are|was|were)\s+(?:not|absent)\b|^\s*(?:absent|未见)";

/// Words that leave a claim open, also by negating a negation.
const UNCERTAINTY: &str = r"\b(?:possible|possibly|probable|may|might|suspected|suspicious|questionable)\b|\b(?:cannot|can not|could not|not)\b[^.,;]{0,20}\b(?:ruled? out|excluded?)\b|可能|疑似|考虑|不能排除|不排除|不除外";

/// Words that look like a negation and are none.
const NO_CHANGE: &str = r"\bno\b[^.,;]{0,25}\bchanges?\b";

/// Words that end the scope of a negation before them.
const SCOPE_END: &str = r"\bbut\b|\bhowever\b|\bwith\b|但";

/// Words after a comma that begin a new claim, rather than the next item of a list.
const NEW_CLAIM: &str = r"\b(?:small|large|moderate|mild|severe|left|right|there (?:is|are))\b|左|右|双|少量|大量|可见|见";

/// A claim of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Name of the finding.
    pub(crate) concept: &'static str,
    /// Whether the text says that it is present.
    pub(crate) presence: Presence,
    /// The sides that the text names for it.
    pub(crate) sides: Sides,
}

/// Sides of the patient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sides {
    pub(crate) left: bool,
    pub(crate) right: bool,
}

/// Words for the left side, also in labels with underscores.
static LEFT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)\bleft\b|_left\b|\bleft_|左").ok());
/// Words for the right side.
static RIGHT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)\bright\b|_right\b|\bright_|右").ok());
/// Words for both sides.
static BOTH: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)\bbilateral(?:ly)?\b|\bboth\b|双侧|两侧|双肺").ok());

impl Sides {
    /// The sides a text names.
    pub(crate) fn of(text: &str) -> Self {
        let is_both = is_match(&BOTH, text);
        Self { left: is_both || is_match(&LEFT, text), right: is_both || is_match(&RIGHT, text) }
    }

    /// Whether each of both names one side only, and these are opposite.
    pub(crate) const fn contradict(self, other: Self) -> bool {
        let only_left = self.left && !self.right;
        let only_right = self.right && !self.left;
        only_left && other.right && !other.left || only_right && other.left && !other.right
    }
}

fn is_match(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|it| it.is_match(text))
}

/// The end of a sentence.
static SENTENCE_END: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"[.;\n。；!?]+(?:\s|$)|[。；\n]").ok());

impl Claim {
    /// All claims of a text, sentence by sentence.
    pub(crate) fn all_of(text: &str) -> Vec<Self> {
        let mut claims = Vec::new();
        let Some(ends) = SENTENCE_END.as_ref() else { return claims };
        for sentence in ends.split(text) {
            for concept in &CONCEPTS {
                let Some(pattern) = regex_of(concept.pattern) else { continue };
                for found in pattern.find_iter(sentence) {
                    let before = sentence.get(..found.start()).unwrap_or_default();
                    let after = sentence.get(found.end()..).unwrap_or_default();
                    let clause = clause(before, found.as_str(), after);
                    let presence = presence(&negation_scope(before), &clause, after);
                    let sides = Sides::of(&clause);
                    claims.push(Self { concept: concept.name, presence, sides });
                }
            }
        }
        claims
    }

    fn is_present(&self) -> bool {
        self.presence != Presence::Absent
    }
}

fn regex_of(pattern: &str) -> Option<Regex> {
    Regex::new(&format!("(?i){pattern}")).ok()
}

fn is_in(pattern: &str, text: &str) -> bool {
    regex_of(pattern).is_some_and(|it| it.is_match(text))
}

/// The part of a sentence before a finding in which a negation applies to it: from a word that ends
/// the scope of negations, or from a comma after which a new claim begins.
fn negation_scope(before: &str) -> String {
    let last = regex_of(SCOPE_END).and_then(|it| it.split(before).last().map(str::to_owned));
    let scope = last.unwrap_or_else(|| before.to_owned());
    match scope.rsplit_once([',', '，', '、']) {
        Some((_, tail)) if is_in(NEW_CLAIM, tail) => tail.to_owned(),
        _ => scope,
    }
}

/// The part of a sentence between commas, in which a side applies to a finding.
fn clause(before: &str, found: &str, after: &str) -> String {
    let commas = [',', '，'];
    let head = before.rsplit(commas).next().unwrap_or_default();
    let tail = after.split(commas).next().unwrap_or_default();
    format!("{head}{found}{tail}")
}

fn presence(scope: &str, clause: &str, after: &str) -> Presence {
    let without = regex_of(NO_CHANGE).map(|it| it.replace_all(scope, "").into_owned());
    let scope = without.unwrap_or_else(|| scope.to_owned());
    if is_in(UNCERTAINTY, &scope) || is_in(UNCERTAINTY, clause) {
        Presence::Possible
    } else if is_in(NEGATION, &scope) || is_in(NEGATION_AFTER, after) {
        Presence::Absent
    } else {
        Presence::Present
    }
}

/// How a comparison treats findings that only one of the two texts mentions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmatched {
    /// They are no difference.
    Ignored,
    /// They are listed if the text says that they are present.
    Listed,
}

/// The contradictions between two texts: a finding is present in one and absent in the other, or on
/// opposite sides.
pub(crate) fn contradictions(first: &[Claim], second: &[Claim]) -> Vec<String> {
    compare(first, second, Unmatched::Ignored)
}

/// The differences between two texts: the contradictions, and present findings that only one of
/// them mentions.
pub(crate) fn differences(first: &[Claim], second: &[Claim]) -> Vec<String> {
    compare(first, second, Unmatched::Listed)
}

/// Compares two texts finding by finding, in the order of their names.
fn compare(first: &[Claim], second: &[Claim], unmatched: Unmatched) -> Vec<String> {
    let mut concepts: Vec<&str> = first.iter().chain(second).map(|it| it.concept).collect();
    concepts.sort_unstable();
    concepts.dedup();
    concepts
        .into_iter()
        .filter_map(|concept| {
            let first: Vec<&Claim> = first.iter().filter(|it| it.concept == concept).collect();
            let second: Vec<&Claim> = second.iter().filter(|it| it.concept == concept).collect();
            let difference = compare_concept(&first, &second, unmatched)?;
            Some(format!("{concept}: {difference}"))
        })
        .collect()
}

fn compare_concept(first: &[&Claim], second: &[&Claim], unmatched: Unmatched) -> Option<String> {
    let is_in_first = first.iter().any(|it| it.is_present());
    let is_in_second = second.iter().any(|it| it.is_present());
    if first.is_empty() || second.is_empty() {
        let is_listed = unmatched == Unmatched::Listed && (is_in_first || is_in_second);
        let text = if first.is_empty() { "second" } else { "first" };
        return is_listed.then(|| format!("only the {text} speaks of it"));
    }
    if is_in_first != is_in_second {
        let first = presence_name(is_in_first);
        let second = presence_name(is_in_second);
        return Some(format!("{first} for the first, {second} for the second"));
    }
    let is_opposite = sides_of_present(first).contradict(sides_of_present(second));
    (is_in_first && is_opposite).then(|| "on opposite sides".to_owned())
}

const fn presence_name(is_present: bool) -> &'static str {
    if is_present { "there" } else { "not there" }
}

/// All sides on which a finding is present.
fn sides_of_present(claims: &[&Claim]) -> Sides {
    let present = claims.iter().filter(|it| it.is_present());
    present.fold(Sides::default(), |sides, claim| Sides {
        left: sides.left || claim.sides.left,
        right: sides.right || claim.sides.right,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(text: &str) -> Vec<(&'static str, Presence)> {
        Claim::all_of(text).into_iter().map(|it| (it.concept, it.presence)).collect()
    }

    #[test]
    fn pap_15_claims_know_denial_doubt_and_both_languages() {
        use Presence::{Absent, Possible, Present};
        for (text, expected) in [
            ("No pneumothorax.", vec![("pneumothorax", Absent)]),
            ("Small left pleural effusion.", vec![("pleural effusion", Present)]),
            ("Possible pneumonia in the right base.", vec![("pneumonia", Possible)]),
            ("No effusion but a nodule.", vec![("pleural effusion", Absent), ("nodule", Present)]),
            ("右肺见结节。未见气胸。", vec![("nodule", Present), ("pneumothorax", Absent)]),
            ("Lungs are clear.", vec![]),
            ("Cannot rule out pneumothorax.", vec![("pneumothorax", Possible)]),
            ("不能排除气胸", vec![("pneumothorax", Possible)]),
            ("No change in the large right pneumothorax.", vec![("pneumothorax", Present)]),
            ("未见骨折，左侧气胸", vec![("pneumothorax", Present), ("fracture", Absent)]),
            ("Pneumothorax is not seen.", vec![("pneumothorax", Absent)]),
            ("Massive effusion.", vec![("pleural effusion", Present)]),
            (
                "No left pneumothorax, small right pneumothorax.",
                vec![("pneumothorax", Absent), ("pneumothorax", Present)],
            ),
            (
                "No effusion, pneumothorax or consolidation.",
                vec![
                    ("pneumothorax", Absent),
                    ("pleural effusion", Absent),
                    ("consolidation", Absent),
                ],
            ),
        ] {
            assert_eq!(claimed(text), expected, "{text}");
        }
    }

    #[test]
    fn pap_15_what_contradicts_is_named_and_what_agrees_is_not() {
        let between = |a: &str, b: &str| differences(&Claim::all_of(a), &Claim::all_of(b));
        assert_eq!(between("Left effusion.", "Left pleural effusion, small."), [""; 0]);
        assert!(between("Left effusion.", "Right effusion.")[0].contains("opposite sides"));
        assert!(between("Bilateral effusions.", "Right effusion.").is_empty());
        assert!(between("Pneumothorax.", "No pneumothorax.")[0].contains("not there"));
        assert!(between("A nodule.", "Clear.")[0].contains("only the first"));
        assert!(contradictions(&Claim::all_of("A nodule."), &Claim::all_of("Clear.")).is_empty());
    }
}
