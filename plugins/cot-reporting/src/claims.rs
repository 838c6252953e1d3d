//! What a report claims: that something is there or is not, and on which side. By rules, so that no model
//! judges a model: what the rules do not know, they say nothing of.

use std::sync::LazyLock;

use domain::Presence;
use regex::Regex;

/// What is looked for in texts: its name, and how it is written.
const CONCEPTS: &[(&str, &str)] = &[
    ("pneumothorax", r"pneumothora(?:x|ces)|气胸"),
    ("pleural effusion", r"(?:pleural )?effusions?|胸腔积液|胸水"),
    ("consolidation", r"consolidations?|实变"),
    ("pneumonia", r"pneumonias?|肺炎"),
    ("atelectasis", r"atelecta(?:sis|ses)|肺不张"),
    ("nodule", r"nodules?|结节"),
    ("mass", r"\bmass(?:es)?\b|肿块"),
    ("fracture", r"fractures?|骨折"),
    ("cardiomegaly", r"cardiomegaly|enlarged heart|心影增大|心脏增大"),
    ("edema", r"o?edema|水肿"),
    ("emphysema", r"emphysema|肺气肿"),
];

/// Words that turn a claim round, where they come before it in its part of the sentence.
const NEGATION: &str = r"\b(?:no|not|without|absence of|free of|negative for|ruled? out|denies)\b|未见|无明显|没有|无|排除";

/// The same where they come right behind it.
const NEGATION_BEHIND: &str =
    r"^[^.,，。;]{0,20}\b(?:is|are|was|were)\s+(?:not|absent)\b|^\s*(?:absent|未见)";

/// Words that leave it open, also where they deny a denial.
const DOUBT: &str = r"\b(?:possible|possibly|probable|may|might|suspected|suspicious|questionable)\b|\b(?:cannot|can not|could not|not)\b[^.,;]{0,20}\b(?:ruled? out|excluded?)\b|可能|疑似|考虑|不能排除|不排除|不除外";

/// What sounds like a denial and is none.
const NO_CHANGE: &str = r"\bno\b[^.,;]{0,25}\bchanges?\b";

/// What ends the reach of a denial before it.
const TURN: &str = r"\bbut\b|\bhowever\b|\bwith\b|但";

/// What begins a new claim behind a comma, rather than going on with a list.
const ANEW: &str = r"\b(?:small|large|moderate|mild|severe|left|right|there (?:is|are))\b|左|右|双|少量|大量|可见|见";

/// A claim of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// What.
    pub(crate) concept: &'static str,
    /// Whether it is there.
    pub(crate) presence: Presence,
    /// Which sides it names.
    pub(crate) sides: Sides,
}

/// Sides of the patient that are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sides {
    pub(crate) left: bool,
    pub(crate) right: bool,
}

/// How sides are written.
static LEFT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)\bleft\b|_left\b|\bleft_|左").ok());
static RIGHT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)\bright\b|_right\b|\bright_|右").ok());
static BOTH: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)\bbilateral(?:ly)?\b|\bboth\b|双侧|两侧|双肺").ok());

impl Sides {
    /// The sides a text names.
    pub(crate) fn of(text: &str) -> Self {
        let has = |pattern: &LazyLock<Option<Regex>>| {
            pattern.as_ref().is_some_and(|it| it.is_match(text))
        };
        let both = has(&BOTH);
        Self { left: both || has(&LEFT), right: both || has(&RIGHT) }
    }

    /// Whether one names only the side that the other does not.
    pub(crate) const fn contradict(self, other: Self) -> bool {
        let only_left = self.left && !self.right;
        let only_right = self.right && !self.left;
        only_left && other.right && !other.left || only_right && other.left && !other.right
    }
}

static SENTENCES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"[.;\n。；!?]+(?:\s|$)|[。；\n]").ok());

/// Every claim of a text, sentence by sentence.
pub(crate) fn claims(text: &str) -> Vec<Claim> {
    let mut all = Vec::new();
    let Some(ends) = SENTENCES.as_ref() else { return all };
    for sentence in ends.split(text) {
        for (concept, pattern) in CONCEPTS {
            let Some(pattern) = regex_of(pattern) else { continue };
            for found in pattern.find_iter(sentence) {
                let before = sentence.get(..found.start()).unwrap_or_default();
                let behind = sentence.get(found.end()..).unwrap_or_default();
                let (near, clause) = (near(before), clause(before, found.as_str(), behind));
                let presence = presence(&near, &clause, behind);
                all.push(Claim { concept, presence, sides: Sides::of(&clause) });
            }
        }
    }
    all
}

fn regex_of(text: &str) -> Option<Regex> {
    Regex::new(&format!("(?i){text}")).ok()
}

fn is_in(words: &str, text: &str) -> bool {
    regex_of(words).is_some_and(|it| it.is_match(text))
}

/// As far back as a denial reaches: to a word that turns the sentence, or to a comma behind which something new
/// is said.
fn near(before: &str) -> String {
    let last = regex_of(TURN).and_then(|it| it.split(before).last().map(str::to_owned));
    let near = last.unwrap_or_else(|| before.to_owned());
    match near.rsplit_once([',', '，', '、']) {
        Some((_, tail)) if is_in(ANEW, tail) => tail.to_owned(),
        _ => near,
    }
}

/// The part of the sentence between commas, for the side it names.
fn clause(before: &str, found: &str, behind: &str) -> String {
    let commas = [',', '，'];
    let head = before.rsplit(commas).next().unwrap_or_default();
    let tail = behind.split(commas).next().unwrap_or_default();
    format!("{head}{found}{tail}")
}

fn presence(near: &str, clause: &str, behind: &str) -> Presence {
    let without = regex_of(NO_CHANGE).map(|it| it.replace_all(near, "").into_owned());
    let near = without.unwrap_or_else(|| near.to_owned());
    if is_in(DOUBT, &near) || is_in(DOUBT, clause) {
        Presence::Possible
    } else if is_in(NEGATION, &near) || is_in(NEGATION_BEHIND, behind) {
        Presence::Absent
    } else {
        Presence::Present
    }
}

/// Where two texts contradict each other: one says it is there and the other that it is not, or they name
/// opposite sides. What only one of them speaks of is listed where `is_all` says so.
pub(crate) fn contradictions(one: &[Claim], other: &[Claim], is_all: bool) -> Vec<String> {
    let mut all = Vec::new();
    let is_there = |it: &Claim| it.presence != Presence::Absent;
    let mut concepts: Vec<&str> = one.iter().chain(other).map(|it| it.concept).collect();
    concepts.sort_unstable();
    concepts.dedup();
    for concept in concepts {
        let of = |claims: &[Claim]| -> Vec<Claim> {
            claims.iter().filter(|it| it.concept == concept).cloned().collect()
        };
        let (a, b) = (of(one), of(other));
        if a.is_empty() || b.is_empty() {
            let present = a.iter().chain(&b).any(is_there);
            if is_all && present {
                let who = if a.is_empty() { "second" } else { "first" };
                all.push(format!("{concept}: only the {who} speaks of it"));
            }
            continue;
        }
        let (there, there_too) = (a.iter().any(is_there), b.iter().any(is_there));
        if there != there_too {
            let word = |it: bool| if it { "there" } else { "not there" };
            let (first, second) = (word(there), word(there_too));
            all.push(format!("{concept}: {first} for the first, {second} for the second"));
            continue;
        }
        let sides = |claims: &[Claim]| {
            let present = claims.iter().filter(|it| is_there(it));
            present.fold(Sides::default(), |sum, it| Sides {
                left: sum.left || it.sides.left,
                right: sum.right || it.sides.right,
            })
        };
        if there && sides(&a).contradict(sides(&b)) {
            all.push(format!("{concept}: on opposite sides"));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<(&'static str, Presence)> {
        claims(text).into_iter().map(|it| (it.concept, it.presence)).collect()
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
            assert_eq!(told(text), expected, "{text}");
        }
    }

    #[test]
    fn pap_15_what_contradicts_is_named_and_what_agrees_is_not() {
        let between = |a: &str, b: &str| contradictions(&claims(a), &claims(b), true);
        assert_eq!(between("Left effusion.", "Left pleural effusion, small."), [""; 0]);
        assert!(between("Left effusion.", "Right effusion.")[0].contains("opposite sides"));
        assert!(between("Bilateral effusions.", "Right effusion.").is_empty());
        assert!(between("Pneumothorax.", "No pneumothorax.")[0].contains("not there"));
        assert!(between("A nodule.", "Clear.")[0].contains("only the first"));
        assert!(contradictions(&claims("A nodule."), &claims("Clear."), false).is_empty());
    }
}
