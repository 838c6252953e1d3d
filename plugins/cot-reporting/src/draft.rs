//! Answers as parts of a report: sections, regions, and what does not fit together.

use std::collections::BTreeMap;

use domain::{
    Algorithm, Code, Finding, InferAnswer, NodeInput, NodeOutput, Presence, Region, Section,
};
use encoding::report_text::ReportText;

use crate::answer::cleaned;
use crate::ask::Seen;
use crate::claims::{Sides, claims, contradictions};
use crate::prompt;

/// Findings and impression.
pub(crate) fn report(answer: &str) -> Vec<Section> {
    let ReportText { findings: seen, impression } = ReportText::parse(&cleaned(answer));
    let mut sections = Vec::new();
    if !seen.is_empty() || impression.is_empty() {
        sections.push(findings(seen));
    }
    if !impression.is_empty() {
        let title = Code::new("19005-8", "LN", "Impression");
        sections.push(Section { title, text: impression });
    }
    sections
}

pub(crate) fn findings(text: String) -> Section {
    Section { title: Code::new("59776-5", "LN", "Procedure Findings"), text }
}

/// What answered, as results name it.
pub(crate) fn algorithm(said: &InferAnswer, version: &str) -> Algorithm {
    let mut parameters = BTreeMap::from([
        ("model".to_owned(), said.model.clone()),
        ("model_sha256".to_owned(), said.digest.clone()),
        ("prompt_version".to_owned(), prompt::VERSION.to_owned()),
    ]);
    if let Some(warning) = &said.warning {
        parameters.insert("warning".to_owned(), warning.clone());
    }
    let name = "Isocenter chain-of-thought reporting".to_owned();
    Algorithm { name, version: version.to_owned(), parameters }
}

/// The boxes that the answer cites, on the image they were cited of: the first. One that lies beside it is none
/// (PAP-04); each has its own label (PAP-07).
pub(crate) fn regions(said: &InferAnswer, seen: &[Seen], version: &str) -> Vec<Region> {
    let Some(first) = seen.first() else { return Vec::new() };
    let algorithm = algorithm(said, version);
    let region = |it: &domain::AnswerBox| {
        let [left, top, right, bottom] = it.on_picture?;
        let [columns, rows] = first.size;
        let corners = [left, top, right.min(columns), bottom.min(rows)];
        let is_box = corners[0] < corners[2] && corners[1] < corners[3];
        is_box.then(|| Region {
            label: cleaned(if it.label.is_empty() { "region" } else { &it.label }),
            series: first.series.clone(),
            instance: first.instance.clone(),
            sop_class: first.sop_class.clone(),
            size: first.size,
            corners,
            algorithm: algorithm.clone(),
        })
    };
    said.boxes.iter().filter_map(region).collect()
}

/// What has to be said with an answer: which model it was, and what is not as it should be.
pub(crate) fn comment(said: &InferAnswer, flags: &[String]) -> Section {
    let mut lines: Vec<String> = flags.iter().map(|it| format!("To be checked: {it}.")).collect();
    let unplaced = said.boxes.iter().filter(|it| it.on_picture.is_none());
    lines.extend(unplaced.map(|it| {
        let label = cleaned(if it.label.is_empty() { "region" } else { &it.label });
        format!("{label}: cited at a place that cannot be found on the image")
    }));
    if said.flaws.iter().any(|it| it == "Unmarked") {
        lines.push(
            "The model did not set thoughts and answer apart: both may stand here.".to_owned(),
        );
    }
    let digest = if said.digest.is_empty() { String::new() } else { format!(" {}", said.digest) };
    let warning = said.warning.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
    lines.push(format!("Drafted by model {}{digest}{warning}.", said.model));
    Section { title: Code::new("121106", "DCM", "Comment"), text: lines.join("\n") }
}

/// What in a drafted text does not fit what else is known: claims against findings of nodes before, sides
/// against the boxes that were cited, measurements against those that were measured.
pub(crate) fn flags(text: &str, input: &NodeInput, regions: &[Region]) -> Vec<String> {
    let drafted = claims(text);
    let mut flags = Vec::new();
    for output in input.earlier.values() {
        let known = claims(&prompt::written(output));
        flags.extend(contradictions(&drafted, &known, false).into_iter().map(|it| {
            format!("the text (first) and an earlier step (second) contradict each other: {it}")
        }));
        flags.extend(measures(text, output));
    }
    for it in regions {
        let named = Sides::of(&it.label);
        let [columns, _] = it.size;
        let middle = it.corners[0].midpoint(it.corners[2]);
        // Images of the chest are looked at as if the patient stood before us: the left is at the right.
        let shown = Sides { left: middle > columns / 2, right: middle < columns / 2 };
        if named.contradict(shown) {
            flags.push(format!("`{}` is marked on the other side of the image", it.label));
        }
    }
    flags
}

/// Numbers of millilitres in the text that are none of those measured.
fn measures(text: &str, output: &NodeOutput) -> Vec<String> {
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
    let said = pattern.captures_iter(text).filter_map(|it| it.get(1)?.as_str().parse().ok());
    let is_known = |it: &f64| measured.iter().any(|m| (m - it).abs() <= 0.05 * m.abs() + 0.5);
    let strange = said.filter(|it| !is_known(it));
    strange.map(|it: f64| format!("{it} mL in the text is none of the volumes measured")).collect()
}

/// Where the draft and the report that somebody signed say other things (PAP-15).
pub(crate) fn discrepancies(ours: &str, theirs: &str) -> Vec<Finding> {
    let all = contradictions(&claims(ours), &claims(theirs), true);
    let code = || Code::new("discrepancy", "99ISOCENTER", "Discrepancy between reports");
    if all.is_empty() {
        let text = "Draft (first) and signed report (second) agree in what was looked for.";
        let presence = Presence::Absent;
        return vec![Finding { code: code(), site: None, presence, text: text.to_owned() }];
    }
    let finding = |it: String| Finding {
        code: code(),
        site: None,
        presence: Presence::Possible,
        text: format!("Draft (first) and signed report (second) differ. {it}."),
    };
    all.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
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
        let told = flags("Large pneumothorax on the left.", &input, &[]);
        assert!(told.len() == 1 && told[0].contains("pneumothorax"), "{told:?}");
        assert!(flags("No pneumothorax.", &input, &[]).is_empty());
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
        let told = |label: &str, left| flags("", &NodeInput::default(), &[region(label, left)]);
        assert!(told("left lung", 70).is_empty() && told("lung", 10).is_empty());
        assert_eq!(told("left lung", 10).len(), 1);
        assert_eq!(told("right_lung", 70).len(), 1);
    }
}
