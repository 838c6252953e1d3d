//! The entry of the crate: encodes the kinds of output that a delivery requests.

use std::collections::BTreeSet;

use contracts::Output;
use domain::{OutputKind, ResultSet, derived_uid};
use serde::Serialize;

use crate::dicom::dataset::Object;
use crate::dicom::{
    encapsulated_pdf, identity, measurement_report, narrative_report, presentation_state,
    reasoning_report, rejection_note, secondary_capture, segmentation,
};
use crate::fhir::bundle;
use crate::hl7::templates::Templates;
use crate::input::{ReportError, ReportInput, StudyDescription};
use crate::validation;

/// Encodes what a delivery requests, in the order in which it is sent: segmentations before the
/// report that refers to them (OUT-34).
///
/// # Errors
///
/// The error states why nothing can be sent.
pub fn compose(
    requested: &[OutputKind],
    input: &ReportInput<'_>,
    templates: &Templates,
) -> Result<Vec<Output>, ReportError> {
    // Encoders have the reasoning of a model only where the delivery asks for it (OUT-41).
    let mut results = input.results.clone();
    results.reasoning.retain(|_| requested.contains(&OutputKind::Reasoning));
    let input = &ReportInput { results: &results, ..*input };
    let mut outputs = Vec::new();
    for kind in kinds_to_send(requested, input)? {
        outputs.extend(encode(kind, input, templates)?);
    }
    if outputs.is_empty() {
        secondary_capture::check_decodable(input)?;
    }
    if outputs.is_empty() && has_sent_objects(input) && requested.iter().any(|it| it.is_dicom()) {
        // A person has removed all findings that were sent before.
        outputs = encode(OutputKind::Rejection, input, templates)?;
    }
    if outputs.is_empty() {
        return Err(ReportError::NothingToSend("anything it is to be sent as"));
    }
    let problems: Vec<String> = outputs.iter().flat_map(validation::problems).collect();
    if !problems.is_empty() {
        return Err(ReportError::Invalid(problems.join("; ")));
    }
    Ok(outputs)
}

/// The kinds that follow from those a delivery requests, in the order in which they are sent.
fn kinds_to_send(
    requested: &[OutputKind],
    input: &ReportInput<'_>,
) -> Result<BTreeSet<OutputKind>, ReportError> {
    let mut kinds: BTreeSet<OutputKind> = requested.iter().copied().collect();
    // A receiver of a report gets its segmentations too (OUT-34), and only then the reasoning as SR.
    if kinds.contains(&OutputKind::Sr) || kinds.contains(&OutputKind::Narrative) {
        kinds.insert(OutputKind::Seg);
    } else {
        kinds.remove(&OutputKind::Reasoning);
    }
    if !input.status.is_withdrawn {
        return Ok(kinds);
    }
    // The result of another run is not withdrawn with this one.
    if !input.context.previous.as_ref().is_some_and(|it| it.is_of_this_run) {
        return Err(ReportError::NothingSent);
    }
    // Objects stay in the archive of the receiver; a note states that they are not to be used.
    let has_objects = kinds.iter().any(|it| it.is_dicom() && *it != OutputKind::Images);
    kinds.retain(|it| !it.is_dicom());
    kinds.extend(has_objects.then_some(OutputKind::Rejection));
    Ok(kinds)
}

/// Whether the destination may have objects of this run.
fn has_sent_objects(input: &ReportInput<'_>) -> bool {
    let previous = input.context.previous.as_ref();
    previous.is_some_and(|it| it.is_of_this_run && !it.attempted.is_empty())
}

/// Encodes one kind. A new kind does not compile before it has an arm here.
fn encode(
    kind: OutputKind,
    input: &ReportInput<'_>,
    templates: &Templates,
) -> Result<Vec<Output>, ReportError> {
    match kind {
        OutputKind::Images => Ok(images(input)),
        OutputKind::Seg => objects(kind, input, segmentation::encode),
        OutputKind::Sr => objects(kind, input, measurement_report::encode),
        OutputKind::Narrative => objects(kind, input, narrative_report::encode),
        OutputKind::Reasoning => objects(kind, input, reasoning_report::encode),
        OutputKind::Pr => objects(kind, input, presentation_state::encode),
        OutputKind::Sc => objects(kind, input, secondary_capture::encode),
        OutputKind::Pdf => objects(kind, input, encapsulated_pdf::encode),
        OutputKind::Rejection => objects(kind, input, rejection_note::encode),
        OutputKind::Oru => {
            let id = control_id(kind, input);
            let message = templates.oru(input, &id)?;
            Ok(vec![document(kind, id, message.into_bytes())])
        }
        OutputKind::Mdm => {
            let id = control_id(kind, input);
            let message = templates.mdm(input, &id)?;
            Ok(vec![document(kind, id, message.into_bytes())])
        }
        OutputKind::Fhir => {
            let bundle = json(&bundle::encode(input)?)?;
            Ok(vec![document(kind, bundle::id(input), bundle)])
        }
        OutputKind::Json => {
            let results = json(&disclosed(input))?;
            Ok(vec![document(kind, input.results.run.to_string(), results)])
        }
    }
}

/// An encoder of DICOM objects about a study.
type ObjectEncoder = fn(&ReportInput<'_>, &StudyDescription) -> Result<Vec<Object>, ReportError>;

fn objects(
    kind: OutputKind,
    input: &ReportInput<'_>,
    encode: ObjectEncoder,
) -> Result<Vec<Output>, ReportError> {
    let study = input.context.study.as_ref().ok_or(ReportError::NothingToSend(kind.name()))?;
    // A withdrawal goes out in any case: what it rejects was sent under this identity.
    if kind != OutputKind::Rejection {
        identity::check(input.context)?;
    }
    let objects = encode(input, study)?;
    Ok(objects.into_iter().map(|object| object.into_output(kind)).collect())
}

/// A message or another output that is no DICOM object.
fn document(kind: OutputKind, id: String, bytes: Vec<u8>) -> Output {
    Output { kind, id, series: String::new(), sop_class: String::new(), bytes, stored: None }
}

/// The images of the run, by their digest in the archive.
fn images(input: &ReportInput<'_>) -> Vec<Output> {
    let images = input.results.inputs.iter();
    images
        .map(|image| Output {
            stored: Some(image.sha256.clone()),
            ..document(OutputKind::Images, image.instance.to_string(), Vec::new())
        })
        .collect()
}

/// The result set as JSON discloses it: of a withdrawn result only that there was one.
fn disclosed(input: &ReportInput<'_>) -> ResultSet {
    let mut results = input.results.clone();
    if input.status.is_withdrawn {
        results.findings.clear();
        results.segmentations.clear();
        results.regions.clear();
        results.laboratory.clear();
        results.sections.clear();
        results.reasoning.clear();
    }
    results
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, ReportError> {
    serde_json::to_vec_pretty(value).map_err(|error| ReportError::Unwritable(Box::new(error)))
}

/// MSH-10: the same on every attempt, another one for every destination; at most twenty characters.
fn control_id(kind: OutputKind, input: &ReportInput<'_>) -> String {
    let name = input.results.name();
    let uid = derived_uid(&[&name, kind.name(), &input.recipient.destination]);
    let start = uid.len().saturating_sub(20);
    uid.chars().skip(start).collect()
}

#[cfg(test)]
mod tests {
    use contracts::{ReportForm, SegmentationForm};
    use dicom_dictionary_std::tags;
    use domain::{Code, PatientId, ResultStatus, ReviewState, Section, sop_class};
    use serde_json::Value;

    use super::*;
    use crate::fixture::{Fixture, items, read, texts, value};
    use crate::status::{BANNER, WITHDRAWAL_NOTICE};

    fn kinds(outputs: &[Output]) -> Vec<&'static str> {
        outputs.iter().map(|output| output.kind.name()).collect()
    }

    #[track_caller]
    fn one(fixture: &Fixture, kind: OutputKind) -> Output {
        let mut outputs = fixture.compose(&[kind]).unwrap();
        outputs.retain(|output| output.kind == kind);
        assert_eq!(outputs.len(), 1, "{}", kind.name());
        outputs.remove(0)
    }

    fn message(fixture: &Fixture, kind: OutputKind) -> String {
        String::from_utf8(one(fixture, kind).bytes).unwrap()
    }

    /// The fields of the first segment of a name; MSH-1 is field 1.
    fn field(message: &str, segment: &str, number: usize) -> String {
        let parsed = hl7_parser::Message::parse(message).unwrap();
        let field = parsed.segment(segment).and_then(|it| it.field(number));
        field.map(|it| it.raw_value().to_owned()).unwrap_or_default()
    }

    #[test]
    fn din_64_every_kind_is_the_same_on_every_attempt() {
        let fixture = Fixture::new();
        for kind in OutputKind::requestable() {
            let [first, second] = [(); 2].map(|()| fixture.compose(&[kind]).unwrap());
            assert!(first == second && !first.is_empty(), "{}", kind.name());
        }
    }

    #[test]
    fn every_object_has_the_sop_class_that_its_kind_declares() {
        for kind in OutputKind::requestable().filter(|it| it.is_dicom()) {
            for output in Fixture::new().compose(&[kind]).unwrap() {
                if output.kind != OutputKind::Images {
                    let declared = output.kind.sop_classes();
                    assert!(declared.contains(&output.sop_class.as_str()), "{}", output.sop_class);
                }
            }
        }
    }

    #[test]
    fn out_34_a_report_is_sent_after_its_segmentations() {
        let fixture = Fixture::new();
        assert_eq!(kinds(&fixture.compose(&[OutputKind::Sr]).unwrap()), ["seg", "sr"]);
        let all = fixture.compose(&[OutputKind::Oru, OutputKind::Narrative]).unwrap();
        assert_eq!(kinds(&all), ["seg", "narrative", "oru"]);
    }

    #[test]
    fn din_60_an_issuer_that_is_an_oid_is_sent_as_oid() {
        let mut fixture = Fixture::new();
        fixture.context.patient = PatientId::new("4711", "1.2.3.111").unwrap();

        let message = String::from_utf8(one(&fixture, OutputKind::Oru).bytes).unwrap();
        assert!(message.contains("\rPID|1||4711^^^&1.2.3.111&ISO^MR|"), "{message}");

        let object = read(&one(&fixture, OutputKind::Seg));
        assert!(object.element(tags::ISSUER_OF_PATIENT_ID).is_err());
        let [qualifiers] = items(&object, tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE) else {
            panic!("no qualifiers")
        };
        assert_eq!(value(qualifiers, tags::UNIVERSAL_ENTITY_ID), "1.2.3.111");
        assert_eq!(value(qualifiers, tags::UNIVERSAL_ENTITY_ID_TYPE), "ISO");

        let bundle = String::from_utf8(one(&fixture, OutputKind::Fhir).bytes).unwrap();
        assert!(bundle.contains("\"system\": \"urn:oid:1.2.3.111\""), "{bundle}");

        fixture.context.patient = PatientId::new("4711", "HOSP").unwrap();
        let message = String::from_utf8(one(&fixture, OutputKind::Oru).bytes).unwrap();
        assert!(message.contains("\rPID|1||4711^^^HOSP^MR|"), "{message}");
        let object = read(&one(&fixture, OutputKind::Seg));
        assert_eq!(value(&object, tags::ISSUER_OF_PATIENT_ID), "HOSP");
    }

    #[test]
    fn images_are_named_by_their_digest_and_not_copied() {
        let images = Fixture::new().compose(&[OutputKind::Images]).unwrap();
        assert_eq!(images.len(), 2);
        assert_eq!(images[0].stored.as_deref(), Some("a".repeat(64).as_str()));
        assert!(images.iter().all(|it| it.bytes.is_empty()));
    }

    #[test]
    fn out_10_a_segmentation_has_a_frame_for_each_plane_with_pixels() {
        let object = read(&one(&Fixture::new(), OutputKind::Seg));
        assert_eq!(value(&object, tags::NUMBER_OF_FRAMES), "2");
        assert_eq!(value(&object, tags::SEGMENTATION_TYPE), "BINARY");
        assert_eq!(items(&object, tags::SEGMENT_SEQUENCE).len(), 2);
        let pixels = object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap();
        assert_eq!(*pixels, [0b0000_0011, 0b1000_0000]);
    }

    #[test]
    fn out_12_a_label_map_has_the_number_of_the_segment_in_each_pixel() {
        let mut fixture = Fixture::new();
        fixture.recipient.preferences.segmentation = SegmentationForm::Labelmap;
        let output = one(&fixture, OutputKind::Seg);
        assert_eq!(output.sop_class, sop_class::LABEL_MAP_SEGMENTATION);
        let object = read(&output);
        let pixels = object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap();
        assert_eq!(*pixels, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        // The background is described too.
        assert_eq!(items(&object, tags::SEGMENT_SEQUENCE).len(), 3);
    }

    #[test]
    fn out_12_segments_that_overlap_are_refused_as_label_map() {
        let mut fixture = Fixture::new();
        fixture.recipient.preferences.segmentation = SegmentationForm::Labelmap;
        fixture.masks.insert("right".to_owned(), vec![0b0000_0001, 0]);
        let refused = fixture.compose(&[OutputKind::Seg]).unwrap_err();
        assert!(matches!(refused, ReportError::Overlapping), "{refused}");
    }

    #[test]
    fn out_13_a_fractional_segmentation_has_a_byte_for_each_pixel() {
        let mut fixture = Fixture::new();
        fixture.recipient.preferences.segmentation = SegmentationForm::Fractional;
        let object = read(&one(&fixture, OutputKind::Seg));
        let pixels = object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap();
        assert_eq!(pixels.len(), 16);
        assert_eq!(pixels.iter().map(|it| usize::from(*it == 255)).sum::<usize>(), 3);
    }

    #[test]
    fn a_mask_that_is_missing_or_too_short_is_refused() {
        let mut fixture = Fixture::new();
        fixture.masks.insert("left".to_owned(), vec![0]);
        assert!(matches!(fixture.compose(&[OutputKind::Seg]), Err(ReportError::MaskMissing)));
        fixture.masks.remove("left");
        assert!(matches!(fixture.compose(&[OutputKind::Seg]), Err(ReportError::MaskMissing)));
    }

    #[test]
    fn out_30_measurements_and_boxes_are_groups_of_the_measurement_report() {
        let object = read(&one(&Fixture::new(), OutputKind::Sr));
        assert_eq!(value(&object, tags::COMPLETION_FLAG), "COMPLETE");
        assert_eq!(value(&object, tags::VERIFICATION_FLAG), "UNVERIFIED");
        let texts = texts(&object);
        assert!(texts.contains(&BANNER.to_owned()), "{texts:?}");
        assert!(texts.contains(&"a lesion".to_owned()), "{texts:?}");
        assert!(texts.contains(&"No fracture.".to_owned()), "{texts:?}");
        assert_eq!(items(&object, tags::REFERENCED_REQUEST_SEQUENCE).len(), 1);
    }

    #[test]
    fn out_30_a_comment_on_what_was_not_measured_is_in_the_measurement_report() {
        let mut fixture = Fixture::new();
        let title = Code::new("121106", "DCM", "Comment");
        let comment = "Not looked at: series 1.2: Enhanced CT, several frames: not outlined yet.";
        fixture.results.sections.push(Section { title, text: comment.to_owned() });
        let texts = texts(&read(&one(&fixture, OutputKind::Sr)));
        assert_eq!(texts.iter().filter(|it| *it == comment).count(), 1, "{texts:?}");
        assert!(!texts.contains(&"Nothing acute.".to_owned()), "{texts:?}");
    }

    #[test]
    fn out_03_the_first_text_of_the_narrative_is_the_banner_until_it_is_signed() {
        let first = |fixture: &Fixture| {
            let object = read(&one(fixture, OutputKind::Narrative));
            let mut items = items(&object, tags::CONTENT_SEQUENCE).iter();
            let container = items.find(|it| value(it, tags::VALUE_TYPE) == "CONTAINER");
            texts(container.unwrap()).remove(0)
        };
        assert_eq!(first(&Fixture::new()), BANNER);
        assert_eq!(first(&Fixture::with_status(ResultStatus::Signed)), "CT Pelvis");
    }

    #[test]
    fn out_52_a_box_is_drawn_over_its_image_with_label_and_banner() {
        let object = read(&one(&Fixture::new(), OutputKind::Pr));
        let annotation = &items(&object, tags::GRAPHIC_ANNOTATION_SEQUENCE)[0];
        assert_eq!(items(annotation, tags::GRAPHIC_OBJECT_SEQUENCE).len(), 1);
        let labels: Vec<String> = items(annotation, tags::TEXT_OBJECT_SEQUENCE)
            .iter()
            .map(|it| value(it, tags::UNFORMATTED_TEXT_VALUE))
            .collect();
        assert_eq!(labels, ["a lesion", BANNER]);
    }

    #[test]
    fn out_50_a_capture_is_made_of_each_image_with_findings() {
        let outputs = Fixture::new().compose(&[OutputKind::Sc]).unwrap();
        assert_eq!(outputs.len(), 2, "the fullest slice, and the image with the box");
        let object = read(&outputs[0]);
        assert_eq!(value(&object, tags::BURNED_IN_ANNOTATION), "YES");
        let pixels = object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap();
        assert!(pixels.chunks(3).any(|it| it != [100, 100, 100]), "the mask is drawn");
    }

    #[test]
    fn out_51_the_encapsulated_document_is_a_pdf_with_its_title() {
        let object = read(&one(&Fixture::new(), OutputKind::Pdf));
        assert_eq!(value(&object, tags::DOCUMENT_TITLE), "Diagnostic imaging study");
        let document = object.element(tags::ENCAPSULATED_DOCUMENT).unwrap();
        assert!(document.to_bytes().unwrap().starts_with(b"%PDF-"));
    }

    #[test]
    fn hl7_51_an_oru_has_the_statuses_of_its_result() {
        let draft = message(&Fixture::new(), OutputKind::Oru);
        assert_eq!([field(&draft, "OBR", 25), field(&draft, "OBX", 11)], ["R", "R"]);
        assert!(draft.contains(BANNER));
        let signed = message(&Fixture::with_status(ResultStatus::Signed), OutputKind::Oru);
        assert_eq!([field(&signed, "OBR", 25), field(&signed, "OBX", 11)], ["F", "F"]);
        assert!(!signed.contains(BANNER));
    }

    /// OBR-25, OBX-11 and the statuses of FHIR of a result.
    fn statuses(fixture: &Fixture) -> [String; 4] {
        let oru = message(fixture, OutputKind::Oru);
        let bundle: Value = serde_json::from_slice(&one(fixture, OutputKind::Fhir).bytes).unwrap();
        let status = |kind: &str| {
            let mut entries = bundle["entry"].as_array().unwrap().iter();
            let found = entries.find(|it| it["resource"]["resourceType"] == kind).unwrap();
            found["resource"]["status"].as_str().unwrap().to_owned()
        };
        let fhir = [status("DiagnosticReport"), status("Observation")];
        let [report, observation] = fhir;
        [field(&oru, "OBR", 25), field(&oru, "OBX", 11), report, observation]
    }

    #[test]
    fn hl7_51_a_draft_is_preliminary_however_often_it_is_sent_and_whatever_it_replaces() {
        use ResultStatus::{AiDraft, AiPartial, HumanEdited};
        let sent = Fixture::new().compose(&[OutputKind::Oru, OutputKind::Sr]).unwrap();
        for status in [AiDraft, AiPartial, HumanEdited] {
            let draft = || Fixture::with_status(status);
            let first = statuses(&draft());
            for again in [
                draft().sent_before(&sent, true),
                draft().sent_before(&sent, true).sent_as(ReviewState::Signed),
                draft().replacing().sent_before(&sent, false),
                draft().replacing().sent_before(&sent, false).sent_as(ReviewState::Signed),
            ] {
                assert_eq!(statuses(&again), first, "{status:?}");
                let object = read(&one(&again, OutputKind::Sr));
                assert_eq!(value(&object, tags::PRELIMINARY_FLAG), "PRELIMINARY");
                assert_eq!(value(&object, tags::VERIFICATION_FLAG), "UNVERIFIED");
                let mdm = message(&again, OutputKind::Mdm);
                assert!(["DO", "IN"].contains(&field(&mdm, "TXA", 17).as_str()), "{mdm}");
                assert_eq!(field(&mdm, "TXA", 19), "UN");
            }
        }
    }

    #[test]
    fn hl7_51_a_signed_result_in_the_place_of_a_final_one_is_a_correction() {
        let sent = Fixture::new().compose(&[OutputKind::Oru]).unwrap();
        let signed = || Fixture::with_status(ResultStatus::Signed);
        let first = ["F", "F", "final", "final"];
        let correction = ["C", "C", "corrected", "corrected"];
        // A draft was no final result.
        assert_eq!(statuses(&signed().sent_before(&sent, true)), first);
        let again = signed().sent_before(&sent, true).sent_as(ReviewState::Signed);
        assert_eq!(statuses(&again), correction);
        let of_later_run = signed().replacing().sent_before(&sent, false);
        assert_eq!(statuses(&of_later_run.sent_as(ReviewState::Amended)), correction);
        // Another run that adds to it is a result of its own.
        let addition = signed().sent_before(&sent, false).sent_as(ReviewState::Signed);
        assert_eq!(statuses(&addition), first);
        // Of a withdrawn result nothing is left to correct.
        let after = signed().sent_before(&sent, true).sent_as(ReviewState::Withdrawn);
        assert_eq!(statuses(&after), first);
    }

    #[test]
    fn din_52_an_addition_does_not_replace_the_report_under_the_number_of_the_order() {
        let whole = message(&Fixture::new(), OutputKind::Oru);
        assert_eq!(field(&whole, "OBR", 3), "F1^RIS");
        let mut addition = Fixture::new().replacing();
        addition.results.amends.as_mut().unwrap().is_replaced = false;
        let added = message(&addition, OutputKind::Oru);
        assert_eq!(field(&added, "OBR", 3), crate::hl7::view::own_filler(&addition.results));
        assert_eq!([field(&added, "OBR", 2), field(&added, "OBR", 18)], ["P1^EHR", "ACC1"]);
    }

    #[test]
    fn hl7_60_the_report_is_in_a_message_in_the_form_that_the_destination_prefers() {
        let mut fixture = Fixture::new();
        assert!(!message(&fixture, OutputKind::Oru).contains("18748-4^Diagnostic"));
        fixture.recipient.preferences.report = ReportForm::Text;
        let text = message(&fixture, OutputKind::Oru);
        assert!(text.contains("|FT|18748-4^Diagnostic imaging study^LN|"), "{text}");
        fixture.recipient.preferences.report = ReportForm::Pdf;
        let pdf = message(&fixture, OutputKind::Oru);
        assert!(pdf.contains("^application^pdf^Base64^JVBERi"), "{}", pdf.len());
    }

    #[test]
    fn hl7_64_a_table_never_goes_out_under_the_numbers_of_the_laboratory() {
        let table = message(&Fixture::new().laboratory(), OutputKind::Oru);
        assert_eq!(field(&table, "OBR", 2), "", "the placer number of the order");
        assert!(!field(&table, "OBR", 3).starts_with("F1"), "{table}");
        assert_eq!(field(&table, "OBR", 4), "11502-2^Laboratory report^LN");
        assert!(table.contains("|NM|2345-7^Glucose^LN|1|7.8|mmol/L|3.9-6.1|H|"), "{table}");
    }

    #[test]
    fn a_control_id_is_of_its_destination_and_fits_msh_10() {
        let mut fixture = Fixture::new();
        let first = one(&fixture, OutputKind::Oru).id;
        fixture.recipient.destination = "ehr".to_owned();
        let second = one(&fixture, OutputKind::Oru).id;
        assert!(first != second && first.len() <= 20 && second.len() <= 20, "{first} {second}");
        assert_ne!(one(&fixture, OutputKind::Mdm).id, second);
    }

    #[test]
    fn a_document_message_has_the_event_of_what_happened() {
        let event = |fixture: &Fixture| field(&message(fixture, OutputKind::Mdm), "MSH", 9);
        assert_eq!(event(&Fixture::new()), "MDM^T02^MDM_T02");
        let sent = Fixture::new().compose(&[OutputKind::Mdm]).unwrap();
        assert_eq!(event(&Fixture::new().sent_before(&sent, true)), "MDM^T08^MDM_T02");
        let mut replaced = Fixture::with_status(ResultStatus::Amended).sent_before(&sent, true);
        let attested = replaced.results.attested.as_mut().unwrap();
        attested.document = 1;
        attested.replaces = Some(0);
        assert_eq!(event(&replaced), "MDM^T10^MDM_T02");
        let number = field(&message(&replaced, OutputKind::Mdm), "TXA", 12);
        assert!(number.ends_with(".1^ISOCENTER"), "{number}");
        let withdrawn = Fixture::with_status(ResultStatus::Withdrawn).sent_before(&sent, true);
        assert_eq!(event(&withdrawn), "MDM^T11^MDM_T01");
    }

    #[test]
    fn out_71_a_bundle_states_whether_a_machine_asserts_it() {
        let bundle = |fixture: &Fixture| -> Value {
            serde_json::from_slice(&one(fixture, OutputKind::Fhir).bytes).unwrap()
        };
        let report = |bundle: &Value| {
            let mut entries = bundle["entry"].as_array().unwrap().iter();
            let report = entries.find(|it| it["resource"]["resourceType"] == "DiagnosticReport");
            report.unwrap()["resource"].clone()
        };
        let draft = report(&bundle(&Fixture::new()));
        assert_eq!(draft["status"], "preliminary");
        assert_eq!(draft["meta"]["security"][0]["code"], "AIAST");
        assert_eq!(draft["result"].as_array().unwrap().len(), 3);
        assert!(draft["conclusion"].as_str().unwrap().starts_with(BANNER));
        let signed = report(&bundle(&Fixture::with_status(ResultStatus::Signed)));
        assert_eq!(signed["status"], "final");
        assert_eq!(signed["meta"]["security"][0]["code"], "CLINAST_AIRPT");
        assert_eq!(signed["conclusion"], "Nothing acute.");
    }

    #[test]
    fn out_02_a_withdrawn_result_is_a_note_an_empty_message_and_an_empty_set() {
        let requested = [OutputKind::Sr, OutputKind::Oru, OutputKind::Json];
        let sent = Fixture::new().compose(&requested).unwrap();
        let withdrawn = Fixture::with_status(ResultStatus::Withdrawn).sent_before(&sent, true);
        let outputs = withdrawn.compose(&requested).unwrap();
        assert_eq!(kinds(&outputs), ["rejection", "oru", "json"]);
        let note = read(&outputs[0]);
        assert!(texts(&note).contains(&WITHDRAWAL_NOTICE.to_owned()));
        let oru = String::from_utf8(outputs[1].bytes.clone()).unwrap();
        assert_eq!([field(&oru, "OBR", 25), field(&oru, "OBX", 11)], ["X", "W"]);
        assert!(!oru.contains("No fracture"), "{oru}");
        let json: Value = serde_json::from_slice(&outputs[2].bytes).unwrap();
        assert_eq!(json["findings"].as_array().unwrap().len(), 0);
    }

    #[test]
    fn what_a_destination_never_had_is_not_withdrawn_there() {
        let withdrawn = Fixture::with_status(ResultStatus::Withdrawn);
        assert!(matches!(withdrawn.compose(&[OutputKind::Oru]), Err(ReportError::NothingSent)));
        let sent = Fixture::new().compose(&[OutputKind::Sr]).unwrap();
        let of_another_run =
            Fixture::with_status(ResultStatus::Withdrawn).sent_before(&sent, false);
        let refused = of_another_run.compose(&[OutputKind::Sr]);
        assert!(matches!(refused, Err(ReportError::NothingSent)));
    }

    #[test]
    fn findings_that_a_person_has_removed_are_rejected_at_the_destination() {
        let sent = Fixture::new().compose(&[OutputKind::Pr]).unwrap();
        let mut edited = Fixture::with_status(ResultStatus::HumanEdited).sent_before(&sent, true);
        edited.results.regions.clear();
        assert_eq!(kinds(&edited.compose(&[OutputKind::Pr]).unwrap()), ["rejection"]);
    }

    #[test]
    fn without_a_study_no_object_is_encoded() {
        let mut fixture = Fixture::new();
        fixture.context.study = None;
        let refused = fixture.compose(&[OutputKind::Sr]);
        assert!(matches!(refused, Err(ReportError::NothingToSend(_))));
        assert!(fixture.compose(&[OutputKind::Oru]).is_ok());
    }

    #[test]
    fn out_41_a_report_names_the_one_it_follows() {
        let sent = Fixture::new().compose(&[OutputKind::Narrative]).unwrap();
        let mut next = Fixture::new().sent_before(&sent, true);
        next.results.revision = 1;
        let object = read(&one(&next, OutputKind::Narrative));
        let predecessors = items(&object, tags::PREDECESSOR_DOCUMENTS_SEQUENCE);
        let series = &items(&predecessors[0], tags::REFERENCED_SERIES_SEQUENCE)[0];
        let instance = &items(series, tags::REFERENCED_SOP_SEQUENCE)[0];
        let narrative = sent.iter().find(|it| it.kind == OutputKind::Narrative).unwrap();
        assert_eq!(value(instance, tags::REFERENCED_SOP_INSTANCE_UID), narrative.id);
    }
}
