//! Turns an answer of the model into parts of a report: sections, regions, and flags for
//! contradictions with what is known otherwise.

use claims::{Comparison, Sides, Unmatched, Vocabulary};
use domain::{
    Algorithm, AnswerFlaw, Code, Finding, InferResponse, NodeInput, NodeOutput, Presence, Region,
    Section,
};
use encoding::report_text::ReportText;

use plugin_toolkit::answer::{box_label, boxes_on_image};
use plugin_toolkit::model::ModelIdentity;
use plugin_toolkit::text::printable;

use crate::images::{ShownImage, ShownImages};
use crate::prompt;

/// Tolerance of a volume in the text, as a share of the measured one.
const VOLUME_TOLERANCE: f64 = 0.05;

/// Tolerance of a volume in the text, in mL, in addition to [`VOLUME_TOLERANCE`].
const VOLUME_TOLERANCE_ML: f64 = 0.5;

/// Findings and impression of a report that the model has written.
pub(crate) fn report_sections(answer: &str) -> Vec<Section> {
    let ReportText { findings, impression } = ReportText::parse(&printable(answer));
    let mut sections = Vec::new();
    if !findings.is_empty() || impression.is_empty() {
        sections.push(findings_section(findings));
    }
    if !impression.is_empty() {
        let title = Code::new("19005-8", "LN", "Impression");
        sections.push(Section { title, text: impression });
    }
    sections
}

/// A section of findings (LOINC 59776-5).
pub(crate) fn findings_section(text: String) -> Section {
    Section { title: Code::new("59776-5", "LN", "Procedure Findings"), text }
}

/// The model and the prompt, as the algorithm of a region or a reasoning.
pub(crate) fn algorithm(answer: &InferResponse, version: &str, prompt_version: &str) -> Algorithm {
    let mut parameters = ModelIdentity::of(answer).parameters();
    parameters.insert("prompt_version".to_owned(), prompt_version.to_owned());
    let name = "Isocenter chain-of-thought reporting".to_owned();
    Algorithm { name, version: version.to_owned(), parameters }
}

/// The boxes that the answer cites, as regions of the first image, which they refer to. A box that
/// does not lie on the image is dropped (PAP-04); each one has its own label (PAP-07).
pub(crate) fn regions(
    answer: &InferResponse,
    images: &[ShownImage],
    version: &str,
    prompt_version: &str,
) -> Vec<Region> {
    let Some(image) = images.first() else { return Vec::new() };
    let algorithm = algorithm(answer, version, prompt_version);
    let mut regions = Vec::new();
    for placed in boxes_on_image(answer, image.size) {
        regions.push(Region {
            label: placed.label,
            series: image.series.clone(),
            instance: image.instance.clone(),
            sop_class: image.sop_class.clone(),
            size: image.size,
            corners: placed.corners,
            algorithm: algorithm.clone(),
        });
    }
    regions
}

/// The comment that goes with an answer: the model it is from, what it was shown, and what a reader
/// has to check.
pub(crate) fn comment(
    answer: &InferResponse,
    prompt_version: &str,
    flags: &[String],
    shown: &ShownImages,
) -> Section {
    let mut lines: Vec<String> = flags.iter().map(|it| format!("To be checked: {it}.")).collect();
    for cited in answer.boxes.iter().filter(|it| it.on_picture.is_none()) {
        let label = box_label(&cited.label);
        lines.push(format!("{label}: cited at a place that cannot be found on the image"));
    }
    if answer.flaws.contains(&AnswerFlaw::Unmarked) {
        lines.push(
            "The model did not set thoughts and answer apart: both may stand here.".to_owned(),
        );
    }
    lines.push(ModelIdentity::of(answer).attribution("Drafted"));
    lines.push(format!("Prompt version: {prompt_version}."));
    lines.extend(shown.remarks());
    Section { title: Code::new("121106", "DCM", "Comment"), text: lines.join("\n") }
}

/// Contradictions between a drafted text and what is known otherwise: its claims against findings
/// of earlier nodes, its volumes against those that were measured, and the sides of labels against
/// their boxes.
pub(crate) fn flags(
    text: &str,
    input: &NodeInput,
    regions: &[Region],
    vocabulary: &Vocabulary,
) -> Vec<String> {
    let drafted = vocabulary.claims(text);
    let mut flags = Vec::new();
    for output in input.earlier.values() {
        let known = vocabulary.claims(&prompt::written_text(output));
        let comparison = Comparison::of(&drafted, &known, Unmatched::Ignored);
        flags.extend(comparison.differences.into_iter().map(|it| {
            format!("the text (first) and an earlier step (second) contradict each other: {it}")
        }));
        flags.extend(unknown_volumes(text, output));
    }
    for region in regions {
        if Sides::of(&region.label).contradict(side_of(region)) {
            flags.push(format!("`{}` is marked on the other side of the image", region.label));
        }
    }
    flags
}

/// The side of the patient that a box lies on. Images of the chest are shown as if the patient
/// faced the reader: the patient's left is on the right of the image.
const fn side_of(region: &Region) -> Sides {
    let [columns, _] = region.size;
    let [left, _, right, _] = region.corners;
    let middle = left.midpoint(right);
    Sides { left: middle > columns / 2, right: middle < columns / 2 }
}

/// Volumes in the text that are none of those that an earlier node has measured.
fn unknown_volumes(text: &str, output: &NodeOutput) -> Vec<String> {
    let measured: Vec<f64> = output
        .segmentations
        .iter()
        .flat_map(|it| &it.segments)
        .flat_map(|it| &it.measurements)
        .filter(|it| it.unit.value == "mL")
        .map(|it| it.value)
        .collect();
    if measured.is_empty() {
        return Vec::new();
    }
    let Ok(pattern) = regex::Regex::new(r"(?i)(\d+(?:\.\d+)?)\s*(?:ml|cc|毫升)") else {
        return Vec::new();
    };
    let written = pattern.captures_iter(text).filter_map(|it| it.get(1)?.as_str().parse().ok());
    written
        .filter(|volume| !measured.iter().any(|it| is_same_volume(*volume, *it)))
        .map(|volume: f64| format!("{volume} mL in the text is none of the volumes measured"))
        .collect()
}

fn is_same_volume(written: f64, measured: f64) -> bool {
    (measured - written).abs() <= VOLUME_TOLERANCE * measured.abs() + VOLUME_TOLERANCE_ML
}

/// Where the draft and the report that a person has signed agree and differ (PAP-15).
pub(crate) fn agreement(draft: &str, signed: &str, vocabulary: &Vocabulary) -> Comparison {
    Comparison::of(&vocabulary.claims(draft), &vocabulary.claims(signed), Unmatched::Listed)
}

/// A comparison as findings: each difference, or that there is none. Where no finding is in both
/// texts, nothing was compared, and that is no agreement.
pub(crate) fn discrepancies(comparison: &Comparison) -> Vec<Finding> {
    if comparison.differences.is_empty() && comparison.compared.is_empty() {
        let text = "Nothing was compared: draft (first) and signed report (second) speak of no \
                    finding in common.";
        return vec![discrepancy(Presence::Unknown, text.to_owned())];
    }
    if comparison.differences.is_empty() {
        let text = format!(
            "Draft (first) and signed report (second) agree in: {}.",
            comparison.compared.join(", ")
        );
        return vec![discrepancy(Presence::Absent, text)];
    }
    let found = comparison.differences.iter().map(|it| {
        let text = format!("Draft (first) and signed report (second) differ. {it}.");
        discrepancy(Presence::Possible, text)
    });
    found.collect()
}

fn discrepancy(presence: Presence, text: String) -> Finding {
    let code = Code::new("discrepancy", "99ISOCENTER", "Discrepancy between reports");
    Finding { code, site: None, laterality: None, presence, change: None, text }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn pap_15_a_text_that_contradicts_findings_or_measures_is_flagged() {
        let earlier: NodeOutput = serde_json::from_value(serde_json::json!({
            "findings": [{"code": {"value": "1", "scheme": "X", "meaning": "x"}, "site": null,
                "presence": "absent", "text": "No pneumothorax found."}],
            "segmentations": [],
        }))
        .unwrap();
        let input = NodeInput {
            earlier: BTreeMap::from([("before".to_owned(), earlier)]),
            ..NodeInput::default()
        };
        let standard = Vocabulary::standard();
        let found = flags("Large pneumothorax on the left.", &input, &[], standard);
        assert!(found.len() == 1 && found[0].contains("pneumothorax"), "{found:?}");
        assert!(flags("No pneumothorax.", &input, &[], standard).is_empty());
    }

    #[test]
    fn pap_15_no_agreement_is_claimed_where_nothing_was_compared() {
        let found = |draft: &str, signed: &str| {
            let found = discrepancies(&agreement(draft, signed, Vocabulary::standard()));
            let [only] = found.try_into().unwrap();
            only
        };
        let nothing = found("The tip is in place.", "Good alignment.");
        assert_eq!(nothing.presence, Presence::Unknown, "{}", nothing.text);
        let one_sided = found("No effusion.", "Good alignment.");
        assert_eq!(one_sided.presence, Presence::Unknown, "{}", one_sided.text);
        let agreed = found("No effusion. No mass.", "Effusion is absent.");
        assert_eq!(agreed.presence, Presence::Absent);
        assert!(agreed.text.ends_with("agree in: pleural effusion."), "{}", agreed.text);
        let earlier = found("No pneumothorax.", "The pneumothorax has resolved.");
        assert_eq!(earlier.presence, Presence::Absent, "{}", earlier.text);
        let different = found("Right pneumothorax.", "The right pneumothorax has resolved.");
        assert_eq!(different.presence, Presence::Possible, "{}", different.text);
    }

    #[test]
    fn pap_15_a_side_that_is_marked_on_the_other_is_flagged() {
        let region = |label: &str, left: u32| Region {
            label: label.to_owned(),
            series: "1.2".parse().unwrap(),
            instance: "1.3".parse().unwrap(),
            sop_class: "1.4".parse().unwrap(),
            size: [100, 100],
            corners: [left, 0, left + 20, 50],
            algorithm: Algorithm {
                name: String::new(),
                version: String::new(),
                parameters: BTreeMap::new(),
            },
        };
        let flagged = |label: &str, left| {
            let regions = [region(label, left)];
            flags("", &NodeInput::default(), &regions, Vocabulary::standard())
        };
        assert!(flagged("left lung", 70).is_empty() && flagged("lung", 10).is_empty());
        assert_eq!(flagged("left lung", 10).len(), 1);
        assert_eq!(flagged("right_lung", 70).len(), 1);
    }
}
