//! The reasoning of the model: an Enhanced SR in a series of its own (OUT-41).
//!
//! A container for each reasoning, in it one for each step, in it the words of the step and a
//! container for each place that it cites: a label and an outline on its image. A box that is also
//! among the regions of the result has their tracking UID. It is never verified, also where a person
//! has signed the result: nobody signs the reasoning.

use std::collections::BTreeMap;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::{Code, OutputKind, Reasoning, ReasoningBox, ReasoningStep, ResultSet, sop_class};

use crate::dicom::content_tree::{
    BoxPlace, container, dcm, device_observer, language, outline, predecessors, requests,
    series_reference, study_reference, text, uid_reference,
};
use crate::dicom::dataset::{DataSet, Object, ObjectHeader, ObjectUids, reference};
use crate::dicom::measurement_report::{algorithm, region_tracking_id};
use crate::input::{COMMENT, ReportError, ReportInput, StudyDescription};
use crate::language::Language;
use crate::layout::reasoning::{HEADING, NOTICE, left_out, step_text};

/// Series Number after the pages of the run.
const SERIES_NUMBER: u32 = 9007;

/// Encodes the reasoning of a run; nothing, if there is none or the delivery does not ask for it.
///
/// # Errors
///
/// Fails if the library cannot encode the object.
pub(crate) fn encode(
    input: &ReportInput<'_>,
    study: &StudyDescription,
) -> Result<Vec<Object>, ReportError> {
    let results = input.results;
    if results.reasoning.is_empty() {
        return Ok(Vec::new());
    }
    let header = ObjectHeader {
        sop_class: sop_class::ENHANCED_SR,
        uids: ObjectUids::derive(results, "reasoning", 0),
        modality: "SR",
        series_number: SERIES_NUMBER,
        series_description: "AI: reasoning of the model",
        index: 0,
    };
    let set = header
        .data_set(input, study)
        .sequence(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Vec::new())
        .sequence(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, Vec::new())
        .text(tags::COMPLETION_FLAG, VR::CS, "COMPLETE")
        .text(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED")
        .text(tags::PRELIMINARY_FLAG, VR::CS, "PRELIMINARY");
    let set = evidence(set, &results.reasoning, study);
    let set = predecessors(set, input.context, study, OutputKind::Reasoning);
    let set = requests(set, input.context, study)
        .text(tags::VALUE_TYPE, VR::CS, "CONTAINER")
        .code(tags::CONCEPT_NAME_CODE_SEQUENCE, &own("reasoning", "Reasoning of the model"))
        .text(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE")
        .sequence(tags::CONTENT_SEQUENCE, content(input));
    Ok(vec![header.object(&set)?])
}

fn content(input: &ReportInput<'_>) -> Vec<DataSet> {
    let comment = dcm(COMMENT, "Comment");
    let mut items = vec![language(language_of(&input.results.reasoning))];
    items.extend(device_observer(&input.context.engine));
    items.push(text("CONTAINS", &comment, input.context.engine.language.label()));
    items.push(text("CONTAINS", &comment, NOTICE));
    items.extend(input.results.reasoning.iter().map(|it| trace(input.results, it)));
    items
}

/// The language that the model thinks in.
fn language_of(reasoning: &[Reasoning]) -> Language {
    let steps = reasoning.iter().flat_map(|it| &it.steps);
    let texts: Vec<&str> = steps.map(|it| it.text.as_str()).collect();
    Language::of_text(&texts.join("\n")).unwrap_or_default()
}

/// A reasoning: its algorithm, and its steps in order.
fn trace(results: &ResultSet, reasoning: &Reasoning) -> DataSet {
    let mut items = algorithm(&reasoning.algorithm);
    items.extend(reasoning.steps.iter().map(|it| step(results, it)));
    let remark = left_out(reasoning);
    items.extend(remark.map(|it| text("CONTAINS", &dcm(COMMENT, "Comment"), &it)));
    container(&own("reasoning-trace", HEADING), items)
}

fn step(results: &ResultSet, step: &ReasoningStep) -> DataSet {
    let words = own("reasoning-words", "Words of the model");
    let mut items = vec![text("CONTAINS", &words, &step_text(step))];
    items.extend(step.boxes.iter().map(|it| cited_place(results, it)));
    container(&own("reasoning-step", "Reasoning step"), items)
}

/// A place that a step cites.
fn cited_place(results: &ResultSet, cited: &ReasoningBox) -> DataSet {
    let relationship = "HAS OBS CONTEXT";
    let mut items = Vec::new();
    if let Some(tracking_id) = tracking_id(results, cited) {
        let uid = results.tracking_uid(&tracking_id);
        let name = dcm("112039", "Tracking Identifier");
        items.push(text(relationship, &name, &tracking_id));
        let name = dcm("112040", "Tracking Unique Identifier");
        items.push(uid_reference(relationship, &name, &uid));
    }
    items.push(text("CONTAINS", &dcm("125309", "Short label"), &cited.label));
    items.push(outline(&BoxPlace {
        sop_class: &cited.sop_class,
        instance: &cited.instance,
        frame: cited.frame,
        corners: cited.corners,
    }));
    container(&own("reasoning-place", "Place that the step cites"), items)
}

/// The Tracking Identifier of the region of the result that a step cites.
fn tracking_id(results: &ResultSet, cited: &ReasoningBox) -> Option<String> {
    let position = results.regions.iter().position(|region| {
        region.instance == cited.instance
            && region.corners == cited.corners
            && region.label == cited.label
    })?;
    Some(region_tracking_id(results.regions.get(position)?, position))
}

/// Every image that a step refers to, once (OUT-34).
fn evidence(set: DataSet, reasoning: &[Reasoning], study: &StudyDescription) -> DataSet {
    let mut evidence: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    let steps = reasoning.iter().flat_map(|it| &it.steps);
    for cited in steps.flat_map(|it| &it.boxes) {
        let instances = evidence.entry(cited.series.as_str()).or_default();
        instances.insert(cited.instance.as_str(), cited.sop_class.as_str());
    }
    if evidence.is_empty() {
        return set;
    }
    let series = evidence.into_iter().map(|(uid, instances)| {
        let instances = instances.into_iter().map(|(instance, class)| reference(class, instance));
        series_reference(uid, instances.collect())
    });
    let evidence = study_reference(study, series.collect());
    set.sequence(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, vec![evidence])
}

/// A concept that no scheme has.
fn own(value: &str, meaning: &str) -> Code {
    Code::new(value, "99ISOCENTER", meaning)
}

#[cfg(test)]
mod tests {
    use contracts::Output;
    use dicom_object::InMemDicomObject;
    use domain::ResultStatus;
    use serde_json::Value;

    use super::*;
    use crate::fixture::{Fixture, items, read, texts, value};
    use crate::status::BANNER;

    fn asked(fixture: &Fixture, kinds: &[OutputKind]) -> Vec<Output> {
        let kinds: Vec<OutputKind> = kinds.iter().copied().chain([OutputKind::Reasoning]).collect();
        fixture.compose(&kinds).unwrap()
    }

    fn names(outputs: &[Output]) -> Vec<&'static str> {
        outputs.iter().map(|it| it.kind.name()).collect()
    }

    fn containers(item: &InMemDicomObject) -> Vec<&InMemDicomObject> {
        let found = items(item, tags::CONTENT_SEQUENCE).iter();
        found.filter(|it| value(it, tags::VALUE_TYPE) == "CONTAINER").collect()
    }

    #[test]
    fn out_41_the_steps_are_an_sr_in_order_with_outlines_on_their_images() {
        let fixture = Fixture::new().reasoned();
        let outputs = asked(&fixture, &[OutputKind::Sr]);
        assert_eq!(names(&outputs), ["seg", "sr", "reasoning"]);
        let object = read(&outputs[2]);
        assert_eq!(
            texts(&object)[4..],
            [
                BANNER,
                NOTICE,
                "threshold",
                "1",
                "threshold_hu=200",
                "Ribs are intact.",
                "There is a lesion.",
                "region 1 of 1.2.3.2",
                "a lesion",
                "A shadow [3 more characters were left out]",
                "shadow",
                "[2 more steps were left out]",
            ]
        );
        let traces = containers(&object);
        let steps = containers(traces[0]);
        assert_eq!(steps.len(), 3);
        let place = containers(steps[1])[0];
        let [.., outline] = items(place, tags::CONTENT_SEQUENCE) else { panic!() };
        let corners = outline.element(tags::GRAPHIC_DATA).unwrap().to_multi_float32().unwrap();
        assert_eq!(corners, [1.0, 0.0, 3.0, 0.0, 3.0, 2.0, 1.0, 2.0, 1.0, 0.0]);
        let image = &items(outline, tags::CONTENT_SEQUENCE)[0];
        let image = &items(image, tags::REFERENCED_SOP_SEQUENCE)[0];
        assert_eq!(value(image, tags::REFERENCED_SOP_INSTANCE_UID), "1.2.3.2");
        assert!(image.element(tags::REFERENCED_FRAME_NUMBER).is_err());
        let in_frames = containers(steps[2])[0];
        let [.., outline] = items(in_frames, tags::CONTENT_SEQUENCE) else { panic!() };
        let image = &items(outline, tags::CONTENT_SEQUENCE)[0];
        let image = &items(image, tags::REFERENCED_SOP_SEQUENCE)[0];
        assert_eq!(value(image, tags::REFERENCED_FRAME_NUMBER), "7");
    }

    #[test]
    fn out_41_a_place_has_the_tracking_uid_of_the_region_that_it_is() {
        let fixture = Fixture::new().reasoned();
        let object = read(&asked(&fixture, &[OutputKind::Narrative])[2]);
        let trace = containers(&object)[0];
        let of_step = |index: usize| -> Vec<String> {
            let place = containers(containers(trace)[index])[0];
            let found = items(place, tags::CONTENT_SEQUENCE).iter();
            let found = found.filter(|it| value(it, tags::VALUE_TYPE) == "UIDREF");
            found.map(|it| value(it, tags::UID)).collect()
        };
        assert_eq!(of_step(1), [fixture.results.tracking_uid("region 1 of 1.2.3.2")]);
        assert!(of_step(2).is_empty(), "a place that is no region of the result");
    }

    #[test]
    fn out_41_a_signature_does_not_verify_the_reasoning() {
        let fixture = Fixture::with_status(ResultStatus::Signed).reasoned();
        let outputs = asked(&fixture, &[OutputKind::Narrative]);
        let [_, narrative, reasoning] = outputs.as_slice() else { panic!() };
        let [narrative, reasoning] = [narrative, reasoning].map(read);
        assert_eq!(value(&narrative, tags::VERIFICATION_FLAG), "VERIFIED");
        assert_eq!(value(&reasoning, tags::VERIFICATION_FLAG), "UNVERIFIED");
        assert!(reasoning.element(tags::VERIFYING_OBSERVER_SEQUENCE).is_err());
        assert!(value(&reasoning, tags::SERIES_DESCRIPTION).starts_with("AI:"));
        assert!(texts(&reasoning).contains(&BANNER.to_owned()));
    }

    #[test]
    fn out_41_no_output_has_the_reasoning_unless_the_delivery_asks_for_it() {
        let fixture = Fixture::new().reasoned();
        let without = Fixture::new();
        for kind in OutputKind::requestable() {
            let plain = fixture.compose(&[kind]).unwrap();
            assert_eq!(plain, without.compose(&[kind]).unwrap(), "{}", kind.name());
        }
        // Messages and bundles have it in no case.
        for kind in [OutputKind::Oru, OutputKind::Mdm, OutputKind::Fhir] {
            assert_eq!(asked(&fixture, &[kind]), without.compose(&[kind]).unwrap());
        }
    }

    #[test]
    fn out_41_pages_and_json_have_it_where_the_delivery_asks_for_it() {
        let fixture = Fixture::new().reasoned();
        let plain = fixture.compose(&[OutputKind::Pdf]).unwrap();
        let annexed = asked(&fixture, &[OutputKind::Pdf]);
        assert_eq!(names(&annexed), ["pdf"], "no SR beside pages");
        assert!(annexed[0].bytes.len() > plain[0].bytes.len());

        let json = asked(&fixture, &[OutputKind::Json]);
        let json: Value = serde_json::from_slice(&json[0].bytes).unwrap();
        assert_eq!(json["reasoning"][0]["steps"].as_array().unwrap().len(), 3);
        let sent = asked(&fixture, &[OutputKind::Json]);
        let withdrawn =
            Fixture::with_status(ResultStatus::Withdrawn).reasoned().sent_before(&sent, true);
        let outputs = asked(&withdrawn, &[OutputKind::Json]);
        assert_eq!(names(&outputs), ["json"]);
        let json: Value = serde_json::from_slice(&outputs[0].bytes).unwrap();
        assert!(json.get("reasoning").is_none(), "{json}");
    }
}
