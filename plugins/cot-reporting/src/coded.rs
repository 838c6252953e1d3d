//! The claims of a report as findings with code, presence and side (OUT-31).

use claims::{Claim, Sides, State};
use domain::{Finding, Presence};

/// What a text claims of the patient now: one finding for each thing, site and side. Of several
/// claims of the same the surest holds that it is there, since a report repeats in its impression
/// what it found; of those, the first that states what became of it.
pub(crate) fn coded_findings(claims: &[Claim]) -> Vec<Finding> {
    let mut kept: Vec<&Claim> = Vec::new();
    for claim in claims.iter().filter(|it| it.is_current() && !it.is_normality) {
        let same = kept.iter_mut().find(|it| {
            it.concept == claim.concept && it.sides == claim.sides && it.site == claim.site
        });
        match same {
            Some(known) if standing(claim) < standing(known) => *known = claim,
            Some(_) => {}
            None => kept.push(claim),
        }
    }
    kept.into_iter().map(finding).collect()
}

/// The claim with the lowest holds.
const fn standing(claim: &Claim) -> [u8; 2] {
    [rank(claim.presence), claim.state.is_none() as u8]
}

const fn rank(presence: Presence) -> u8 {
    match presence {
        Presence::Present => 0,
        Presence::Possible => 1,
        Presence::Absent => 2,
        Presence::Unknown => 3,
    }
}

fn finding(claim: &Claim) -> Finding {
    Finding {
        code: claim.code.clone(),
        site: None,
        laterality: claim.sides.laterality(),
        presence: claim.presence,
        change: claim.state.and_then(State::code),
        text: described(claim),
    }
}

/// A claim in words, such as "Left pleural effusion: present, increased."
fn described(claim: &Claim) -> String {
    let Sides { left, right } = claim.sides;
    let side = match (left, right) {
        (true, true) => "bilateral ",
        (true, false) => "left ",
        (false, true) => "right ",
        (false, false) => "",
    };
    let presence = match claim.presence {
        Presence::Present => "present",
        Presence::Absent => "absent",
        Presence::Possible => "possible",
        Presence::Unknown => "not assessed",
    };
    let state = claim.state.map(|it| format!(", {}", it.name())).unwrap_or_default();
    let text = format!("{side}{}: {presence}{state}.", claim.concept);
    let mut letters = text.chars();
    let first = letters.next().map(|it| it.to_uppercase().to_string()).unwrap_or_default();
    first + letters.as_str()
}

#[cfg(test)]
mod tests {
    use claims::Vocabulary;
    use domain::Laterality;

    use super::*;

    fn coded(text: &str) -> Vec<Finding> {
        coded_findings(&Vocabulary::standard().claims(text))
    }

    #[test]
    fn out_31_claims_of_a_text_are_findings_with_code_presence_and_side() {
        let text = "Small left pleural effusion, unchanged. No pneumothorax. Possible pneumonia. \
                    History of emphysema.\nImpression: Left pleural effusion.";
        let found = coded(text);
        let shown: Vec<_> = found
            .iter()
            .map(|it| (it.code.value.as_str(), it.presence, it.laterality, it.text.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                (
                    "RID34539",
                    Presence::Present,
                    Some(Laterality::Left),
                    "Left pleural effusion: present, unchanged."
                ),
                ("RID5352", Presence::Absent, None, "Pneumothorax: absent."),
                ("RID5350", Presence::Possible, None, "Pneumonia: possible."),
            ]
        );
        assert!(found.iter().all(|it| it.code.scheme == "RADLEX"));
        let changes: Vec<_> =
            found.iter().map(|it| it.change.as_ref().map(|it| it.value.as_str())).collect();
        assert_eq!(changes, [Some("260388006"), None, None]);
    }

    #[test]
    fn out_31_what_became_of_a_finding_is_a_code_also_if_only_the_impression_states_it() {
        for (text, expected) in [
            ("New right pneumothorax.", "7147002"),
            ("The effusion has increased.", "35105006"),
            ("Decreased consolidation.", "1250004"),
            ("The right pneumothorax is unchanged.", "260388006"),
            ("The nodule has resolved.", "723506003"),
            ("Right pneumothorax.\nImpression: Unchanged right pneumothorax.", "260388006"),
        ] {
            let found = coded(text);
            let [only] = found.as_slice() else { panic!("{text}: {found:?}") };
            let change = only.change.clone().unwrap();
            assert_eq!(
                (change.value.as_str(), change.scheme.as_str()),
                (expected, "SCT"),
                "{text}"
            );
        }
    }

    #[test]
    fn pap_15_what_is_written_of_a_claim_is_read_as_the_same_claim() {
        let text = "Large right pneumothorax. No effusion on the left. Pneumonia cannot be \
                    excluded. Fracture cannot be assessed. The nodule has resolved. \
                    Increased bilateral consolidation.";
        let read = Vocabulary::standard().claims(text);
        assert_eq!(read.len(), 6);
        for claim in read {
            let again = Vocabulary::standard().claims(&described(&claim));
            let [again] = again.try_into().unwrap();
            assert_eq!(
                (&again.concept, again.presence, again.sides),
                (&claim.concept, claim.presence, claim.sides)
            );
        }
    }
}
