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
    ("mass", r"mass(?:es)?|肿块"),
    ("fracture", r"fractures?|骨折"),
    ("cardiomegaly", r"cardiomegaly|enlarged heart|心影增大|心脏增大"),
    ("edema", r"o?edema|水肿"),
    ("emphysema", r"emphysema|肺气肿"),
];

/// Words that turn a claim round, where they come before it in its sentence.
const NEGATION: &str = r"\b(?:no|not|without|absence of|free of|negative for|rules? out|denies)\b|未见|无明显|没有|无|排除";

/// Words that leave it open.
const DOUBT: &str = r"\b(?:possible|possibly|probable|may|might|suspected|suspicious|cannot be excluded|questionable)\b|可能|疑似|考虑|不除外";

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
            let Ok(pattern) = Regex::new(&format!("(?i){pattern}")) else { continue };
            let Some(found) = pattern.find(sentence) else { continue };
            let before = sentence.get(..found.start()).unwrap_or_default();
            let presence = presence(sentence, before);
            all.push(Claim { concept, presence, sides: Sides::of(sentence) });
        }
    }
    all
}

fn presence(sentence: &str, before: &str) -> Presence {
    let is_in = |words: &str, text: &str| {
        Regex::new(&format!("(?i){words}")).is_ok_and(|it| it.is_match(text))
    };
    // "But" ends what is denied before it.
    let reach = Regex::new(r"(?i)\bbut\b|\bhowever\b|但").ok();
    let near = reach.and_then(|it| it.split(before).last().map(str::to_owned));
    let near = near.unwrap_or_else(|| before.to_owned());
    if is_in(NEGATION, &near) {
        Presence::Absent
    } else if is_in(DOUBT, sentence) {
        Presence::Possible
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
