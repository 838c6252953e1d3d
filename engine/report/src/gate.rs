//! What leaves has to be sound: every output is read back and checked before it is sent, by rules that know
//! nothing of the encoders (PS3.3 attributes of type 1, lengths that fit, the tree of a document; segments of
//! HL7; entries of a bundle). What fails goes to a person instead.

use contracts::Output;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, OpenFileOptions};
use domain::{OutputKind, SopInstanceUid};
use serde_json::Value;

/// Attributes that every object has, with a value.
const ALWAYS: [Tag; 9] = [
    tags::SOP_CLASS_UID,
    tags::SOP_INSTANCE_UID,
    tags::STUDY_INSTANCE_UID,
    tags::SERIES_INSTANCE_UID,
    tags::MODALITY,
    tags::MANUFACTURER,
    tags::DEVICE_SERIAL_NUMBER,
    tags::SOFTWARE_VERSIONS,
    tags::SPECIFIC_CHARACTER_SET,
];

/// What has to be in an object of a kind beside.
const fn needed(kind: OutputKind) -> &'static [Tag] {
    match kind {
        OutputKind::Seg => &[
            tags::SEGMENTATION_TYPE,
            tags::SEGMENT_SEQUENCE,
            tags::REFERENCED_SERIES_SEQUENCE,
            tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
            tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
            tags::DIMENSION_INDEX_SEQUENCE,
            tags::NUMBER_OF_FRAMES,
            tags::PIXEL_DATA,
        ],
        OutputKind::Sr | OutputKind::Narrative => &[
            tags::COMPLETION_FLAG,
            tags::VERIFICATION_FLAG,
            tags::VALUE_TYPE,
            tags::CONCEPT_NAME_CODE_SEQUENCE,
            tags::CONTENT_TEMPLATE_SEQUENCE,
            tags::CONTENT_SEQUENCE,
        ],
        OutputKind::Rejection => &[
            tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE,
            tags::CONCEPT_NAME_CODE_SEQUENCE,
            tags::CONTENT_SEQUENCE,
        ],
        OutputKind::Pr => &[
            tags::PRESENTATION_CREATION_DATE,
            tags::REFERENCED_SERIES_SEQUENCE,
            tags::DISPLAYED_AREA_SELECTION_SEQUENCE,
            tags::GRAPHIC_ANNOTATION_SEQUENCE,
            tags::GRAPHIC_LAYER_SEQUENCE,
            tags::PRESENTATION_LUT_SHAPE,
        ],
        OutputKind::Sc => &[
            tags::CONVERSION_TYPE,
            tags::BURNED_IN_ANNOTATION,
            tags::SOURCE_IMAGE_SEQUENCE,
            tags::PIXEL_DATA,
        ],
        OutputKind::Pdf => &[
            tags::BURNED_IN_ANNOTATION,
            tags::DOCUMENT_TITLE,
            tags::CONCEPT_NAME_CODE_SEQUENCE,
            tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT,
            tags::ENCAPSULATED_DOCUMENT,
        ],
        _ => &[],
    }
}

/// Everything that is wrong with an output. Nothing, if it may be sent.
pub(crate) fn problems(output: &Output) -> Vec<String> {
    let found = match output.kind {
        OutputKind::Oru => message(output, &["PID", "OBR", "OBX"]),
        OutputKind::Mdm => message(output, &["EVN", "PID", "PV1", "TXA"]),
        OutputKind::Fhir => bundle(output),
        // What was received is passed on as it is.
        OutputKind::Json | OutputKind::Images => Vec::new(),
        _ => object(output),
    };
    found.into_iter().map(|it| format!("{}: {it}", output.kind.name())).collect()
}

fn object(output: &Output) -> Vec<String> {
    let read = OpenFileOptions::new().from_reader(output.bytes.as_slice());
    let Ok(file) = read else { return vec!["it cannot be read back".to_owned()] };
    let mut found = Vec::new();
    let all = ALWAYS.iter().chain(needed(output.kind));
    let missing = all.filter(|it| file.element(**it).map_or(true, |it| is_empty(it.value())));
    found.extend(missing.map(|it| format!("{it} is missing or empty")));
    let text = |tag| {
        let text = file.element(tag).ok().and_then(|it| it.to_str().ok());
        text.map(|it| it.trim_end_matches(['\0', ' ']).to_owned()).unwrap_or_default()
    };
    let names = [
        (tags::SOP_INSTANCE_UID, &output.id),
        (tags::SERIES_INSTANCE_UID, &output.series),
        (tags::SOP_CLASS_UID, &output.sop_class),
    ];
    for (tag, expected) in names {
        let said = text(tag);
        if said != *expected || said.parse::<SopInstanceUid>().is_err() {
            found.push(format!("{tag} is `{said}`"));
        }
    }
    if file.meta().media_storage_sop_instance_uid().trim_end_matches('\0') != output.id {
        found.push("the File Meta Information names another instance".to_owned());
    }
    if matches!(output.kind, OutputKind::Seg | OutputKind::Sc) {
        found.extend(pixels(&file, output.kind));
    }
    let is_document =
        matches!(output.kind, OutputKind::Sr | OutputKind::Narrative | OutputKind::Rejection);
    if is_document {
        document(&file, &mut found);
    }
    if output.kind == OutputKind::Pdf {
        let pages = file.element(tags::ENCAPSULATED_DOCUMENT).ok();
        let pages = pages.and_then(|it| it.to_bytes().ok()).unwrap_or_default();
        if !pages.starts_with(b"%PDF-") {
            found.push("the document is no PDF".to_owned());
        }
    }
    found
}

fn is_empty<I, P>(value: &dicom_core::value::Value<I, P>) -> bool {
    match value {
        dicom_core::value::Value::Primitive(value) => value.multiplicity() == 0,
        dicom_core::value::Value::Sequence(items) => items.items().is_empty(),
        dicom_core::value::Value::PixelSequence(_) => false,
    }
}

/// As many bits as rows, columns, frames and samples say; a group for each frame.
fn pixels(file: &InMemDicomObject, kind: OutputKind) -> Vec<String> {
    let number = |tag| file.element(tag).ok().and_then(|it| it.to_int::<u64>().ok());
    let frames = number(tags::NUMBER_OF_FRAMES).unwrap_or(1);
    let parts = [
        number(tags::ROWS),
        number(tags::COLUMNS),
        number(tags::SAMPLES_PER_PIXEL),
        number(tags::BITS_ALLOCATED),
    ];
    let mut found = Vec::new();
    let bits: u64 = parts.iter().map(|it| it.unwrap_or(0)).product::<u64>() * frames;
    let length = file.element(tags::PIXEL_DATA).ok().and_then(|it| it.to_bytes().ok());
    let length = length.map_or(0, |it| it.len() as u64);
    if bits == 0 || length != bits.div_ceil(8).next_multiple_of(2) {
        found.push(format!("{length} bytes of pixels for {bits} bits"));
    }
    let groups = file.element(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).ok();
    let groups = groups.and_then(|it| it.items().map(<[_]>::len)).unwrap_or_default() as u64;
    if kind == OutputKind::Seg && groups != frames {
        found.push(format!("{groups} functional groups for {frames} frames"));
    }
    found
}

/// Every item of a document has a type, a place in it, and the value its type asks for (PS3.3, C.17.3).
fn document(item: &InMemDicomObject, found: &mut Vec<String>) {
    let items = item.element(tags::CONTENT_SEQUENCE).ok();
    for item in items.and_then(|it| it.items()).unwrap_or_default() {
        let text = |tag| {
            item.element(tag).ok().and_then(|it| it.to_str().ok().map(|it| it.trim().to_owned()))
        };
        let kind = text(tags::VALUE_TYPE).unwrap_or_default();
        let value = match kind.as_str() {
            "CONTAINER" => tags::CONTINUITY_OF_CONTENT,
            "TEXT" => tags::TEXT_VALUE,
            "CODE" => tags::CONCEPT_CODE_SEQUENCE,
            "NUM" => tags::MEASURED_VALUE_SEQUENCE,
            "PNAME" => tags::PERSON_NAME,
            "UIDREF" => tags::UID,
            "SCOORD" => tags::GRAPHIC_DATA,
            "IMAGE" | "COMPOSITE" => tags::REFERENCED_SOP_SEQUENCE,
            _ => {
                found.push(format!("an item has the value type `{kind}`"));
                continue;
            }
        };
        if item.element(value).map_or(true, |it| is_empty(it.value())) {
            found.push(format!("a {kind} item has no {value}"));
        }
        if text(tags::RELATIONSHIP_TYPE).is_none_or(|it| it.is_empty()) {
            found.push(format!("a {kind} item has no place in the document"));
        }
        document(item, found);
    }
}

/// A header, the segments a type needs, and nothing that is no segment.
fn message(output: &Output, needed: &[&str]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(&output.bytes) else {
        return vec!["it is no text".to_owned()];
    };
    let segments: Vec<&str> = text.split('\r').filter(|it| !it.is_empty()).collect();
    let name = |it: &str| it.split('|').next().unwrap_or_default().to_owned();
    let has = |wanted: &str| segments.iter().any(|it| name(it) == wanted);
    let mut found: Vec<String> =
        needed.iter().filter(|it| !has(it)).map(|it| format!("there is no {it}")).collect();
    let header = segments.first().copied().unwrap_or_default();
    let field = |at: usize| header.split('|').nth(at).unwrap_or_default();
    if !header.starts_with("MSH|^~\\&|") || field(9) != output.id || field(11).is_empty() {
        found.push("the MSH is not what it should be".to_owned());
    }
    let is_segment = |it: &&str| {
        let name = name(it);
        name.len() == 3 && name.chars().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
    };
    let odd = segments.iter().filter(|it| !is_segment(it)).count();
    if odd > 0 {
        found.push(format!("{odd} lines are no segments"));
    }
    let controls = |it: char| it.is_control() && it != '\r';
    if text.contains(controls) {
        found.push("there are control characters in it".to_owned());
    }
    found
}

/// A transaction, each entry with a resource and what to do with it; every reference within it leads somewhere.
fn bundle(output: &Output) -> Vec<String> {
    let Ok(bundle) = serde_json::from_slice::<Value>(&output.bytes) else {
        return vec!["it is no JSON".to_owned()];
    };
    let mut found = Vec::new();
    let text = |value: &Value, at: &str| {
        value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    if text(&bundle, "/resourceType") != "Bundle" || text(&bundle, "/type") != "transaction" {
        found.push("it is no transaction".to_owned());
    }
    let entries = bundle.get("entry").and_then(Value::as_array).cloned().unwrap_or_default();
    let urls: Vec<String> = entries.iter().map(|it| text(it, "/fullUrl")).collect();
    let mut references = Vec::new();
    for entry in &entries {
        let kind = text(entry, "/resource/resourceType");
        let is_whole = !kind.is_empty()
            && !text(entry, "/request/method").is_empty()
            && text(entry, "/request/url").starts_with(&kind);
        if !is_whole {
            found.push(format!("an entry of `{kind}` says not what to do with it"));
        }
        if kind != "Provenance" && text(entry, "/resource/status").is_empty() {
            found.push(format!("a {kind} has no status"));
        }
        collect(entry, &mut references);
    }
    let lost = references.iter().filter(|it| it.starts_with("urn:uuid:") && !urls.contains(it));
    found.extend(lost.map(|it| format!("{it} leads nowhere")));
    if !entries.iter().any(|it| text(it, "/resource/resourceType") == "DiagnosticReport") {
        found.push("there is no DiagnosticReport".to_owned());
    }
    found
}

/// Every `reference` in a value.
fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(parts) => {
            let reference = parts.get("reference").and_then(Value::as_str);
            references.extend(reference.map(str::to_owned));
            parts.values().for_each(|it| collect(it, references));
        }
        Value::Array(items) => items.iter().for_each(|it| collect(it, references)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(kind: OutputKind, text: &str) -> Output {
        let (id, bytes) = ("1".to_owned(), text.as_bytes().to_vec());
        Output { kind, id, series: String::new(), sop_class: String::new(), bytes, stored: None }
    }

    #[test]
    fn what_is_no_message_is_named() {
        let good = "MSH|^~\\&|A|B|C|D|1||ORU^R01|1|P|2.5.1\rPID|1\rOBR|1\rOBX|1\r";
        let told = |text: &str| problems(&output(OutputKind::Oru, text)).join("; ");
        assert_eq!(told(good), "");
        assert!(told(&good.replace("PID|1\r", "")).contains("no PID"));
        assert!(told(&good.replace("|1|P|", "|2|P|")).contains("MSH"));
        assert!(told(&good.replace("OBX|1", "OBX|1\rrest of a text")).contains("no segments"));
        assert!(told(&good.replace("OBR|1", "OBR|\u{1c}1")).contains("control"));
    }

    #[test]
    fn what_is_no_bundle_or_object_is_named() {
        let told = |kind, text: &str| problems(&output(kind, text)).join("; ");
        let lost = r#"{"resourceType": "Bundle", "type": "transaction", "entry": [{"fullUrl": "urn:uuid:1",
            "resource": {"resourceType": "DiagnosticReport", "result": [{"reference": "urn:uuid:2"}]},
            "request": {"method": "PUT", "url": "DiagnosticReport?x"}}]}"#;
        let said = told(OutputKind::Fhir, lost);
        assert!(said.contains("urn:uuid:2 leads nowhere") && said.contains("no status"), "{said}");
        assert!(told(OutputKind::Seg, "DICM").contains("cannot be read back"));
    }
}
