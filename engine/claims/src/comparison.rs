//! Where two texts agree and differ, finding by finding.

use crate::claim::{Claim, Sides};

/// How a comparison treats findings that only one of the two texts mentions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// They are no difference.
    Ignored,
    /// They are listed if the text says that they are present.
    Listed,
}

/// The comparison of two texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The findings that both speak of, in the order of their names.
    pub compared: Vec<String>,
    /// What differs, each with the name of its finding.
    pub differences: Vec<String>,
}

impl Comparison {
    /// Compares what two texts claim of the patient at the time of the examination.
    pub fn of(first: &[Claim], second: &[Claim], unmatched: Unmatched) -> Self {
        let is_told = |it: &&Claim| {
            it.is_current() && (it.is_present() || it.presence == domain::Presence::Absent)
        };
        let mut concepts: Vec<&str> =
            first.iter().chain(second).filter(is_told).map(|it| it.concept.as_str()).collect();
        concepts.sort_unstable();
        concepts.dedup();
        let mut comparison = Self::default();
        for concept in concepts {
            let of_concept = |claims: &[Claim]| -> Vec<Claim> {
                claims.iter().filter(is_told).filter(|it| it.concept == concept).cloned().collect()
            };
            let compared = compare(&of_concept(first), &of_concept(second), unmatched);
            if compared.is_compared {
                comparison.compared.push(concept.to_owned());
            }
            comparison.differences.extend(compared.difference.map(|it| format!("{concept}: {it}")));
        }
        comparison
    }
}

/// The comparison of one finding.
struct Compared {
    is_compared: bool,
    difference: Option<String>,
}

fn compare(first: &[Claim], second: &[Claim], unmatched: Unmatched) -> Compared {
    let is_in_first = first.iter().any(Claim::is_present);
    let is_in_second = second.iter().any(Claim::is_present);
    if first.is_empty() || second.is_empty() || are_elsewhere(first, second) {
        // That one text calls everything normal is no difference by itself.
        let is_normality = first.iter().chain(second).any(|it| it.is_normality);
        let is_listed =
            unmatched == Unmatched::Listed && (is_in_first || is_in_second) && !is_normality;
        let difference = is_listed.then(|| match (is_in_first, is_in_second) {
            (true, true) => "at other sites in the first than in the second".to_owned(),
            (true, false) => "only the first speaks of it".to_owned(),
            _ => "only the second speaks of it".to_owned(),
        });
        return Compared { is_compared: false, difference };
    }
    let difference = if is_in_first == is_in_second {
        let is_opposite = sides_of_present(first).contradict(sides_of_present(second));
        (is_in_first && is_opposite).then(|| "on opposite sides".to_owned())
    } else {
        let in_first = presence_name(is_in_first);
        let in_second = presence_name(is_in_second);
        Some(format!("{in_first} for the first, {in_second} for the second"))
    };
    Compared { is_compared: true, difference }
}

/// Whether all claims of both texts name a site, and none of them the same: a nodule of the thyroid
/// is not compared with one of the lung.
fn are_elsewhere(first: &[Claim], second: &[Claim]) -> bool {
    first.iter().all(|one| {
        second
            .iter()
            .all(|other| one.site.is_some() && other.site.is_some() && one.site != other.site)
    })
}

const fn presence_name(is_present: bool) -> &'static str {
    if is_present { "there" } else { "not there" }
}

/// All sides on which a finding is present.
fn sides_of_present(claims: &[Claim]) -> Sides {
    let present = claims.iter().filter(|it| it.is_present());
    present.fold(Sides::default(), |sides, claim| sides.and(claim.sides))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::Vocabulary;

    fn between(first: &str, second: &str, unmatched: Unmatched) -> Comparison {
        let vocabulary = Vocabulary::standard();
        Comparison::of(&vocabulary.claims(first), &vocabulary.claims(second), unmatched)
    }

    fn differences(first: &str, second: &str) -> Vec<String> {
        between(first, second, Unmatched::Listed).differences
    }

    #[test]
    fn pap_15_what_contradicts_is_named_and_what_agrees_is_not() {
        assert_eq!(differences("Left effusion.", "Left pleural effusion, small."), [""; 0]);
        assert!(differences("Left effusion.", "Right effusion.")[0].contains("opposite sides"));
        assert!(differences("Bilateral effusions.", "Right effusion.").is_empty());
        assert!(differences("Pneumothorax.", "No pneumothorax.")[0].contains("not there"));
        assert!(differences("A nodule.", "Clear.")[0].contains("only the first"));
        assert!(between("A nodule.", "Clear.", Unmatched::Ignored).differences.is_empty());
    }

    #[test]
    fn pap_15_what_was_earlier_or_is_elsewhere_contradicts_nothing() {
        assert!(differences("No pneumonia.", "History of pneumonia. No pneumonia.").is_empty());
        assert!(differences("No effusion.", "The effusion has resolved.").is_empty());
        let thyroid = differences("Nodule in the thyroid.", "No nodule in the lung.");
        assert_eq!(thyroid, ["nodule: only the first speaks of it"]);
    }

    #[test]
    fn pap_15_only_what_both_speak_of_was_compared() {
        let comparison = between("Normal bowel gas.", "Clear lungs.", Unmatched::Listed);
        assert_eq!(comparison, Comparison::default());
        let comparison = between("No effusion. A mass.", "No effusion.", Unmatched::Listed);
        assert_eq!(comparison.compared, ["pleural effusion"]);
    }
}
