//! Reads an object back and checks it by rules that know nothing of its encoder: attributes of type
//! 1 (PS3.3), lengths that fit, and the tree of a structured document.

use contracts::Output;
use dicom_core::header::Header as _;
use dicom_core::value::Value;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, OpenFileOptions};
use domain::{OutputKind, SopInstanceUid};

/// Attributes of type 1 that every object has.
const COMMON: [Tag; 9] = [
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

/// Attributes of type 1 that an object of a kind has beside [`COMMON`].
const fn required(kind: OutputKind) -> &'static [Tag] {
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
        // It follows no template of PS3.16.
        OutputKind::Reasoning => &[
            tags::COMPLETION_FLAG,
            tags::VERIFICATION_FLAG,
            tags::VALUE_TYPE,
            tags::CONCEPT_NAME_CODE_SEQUENCE,
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
        // An original image is sent as it was received; what is no object has no attributes.
        OutputKind::Images
        | OutputKind::Oru
        | OutputKind::Mdm
        | OutputKind::Fhir
        | OutputKind::Json => &[],
    }
}

/// The problems of an object. Empty, if it may be sent.
pub(crate) fn problems(output: &Output) -> Vec<String> {
    let Ok(file) = OpenFileOptions::new().from_reader(output.bytes.as_slice()) else {
        return vec!["it cannot be read back".to_owned()];
    };
    let mut problems = Vec::new();
    check_values(&file, &mut problems);
    for tag in COMMON.iter().chain(required(output.kind)) {
        if is_missing(&file, *tag) {
            problems.push(format!("{tag} is missing or empty"));
        }
    }
    problems.extend(uid_problem(&file, tags::SOP_INSTANCE_UID, &output.id));
    problems.extend(uid_problem(&file, tags::SERIES_INSTANCE_UID, &output.series));
    problems.extend(uid_problem(&file, tags::SOP_CLASS_UID, &output.sop_class));
    if file.meta().media_storage_sop_instance_uid().trim_end_matches('\0') != output.id {
        problems.push("the File Meta Information names another instance".to_owned());
    }
    match output.kind {
        OutputKind::Seg => {
            check_pixels(&file, &mut problems);
            check_frames(&file, &mut problems);
        }
        OutputKind::Sc => check_pixels(&file, &mut problems),
        OutputKind::Sr | OutputKind::Narrative | OutputKind::Reasoning | OutputKind::Rejection => {
            check_content(&file, &mut problems);
        }
        OutputKind::Pdf => check_pdf(&file, &mut problems),
        OutputKind::Images
        | OutputKind::Pr
        | OutputKind::Oru
        | OutputKind::Mdm
        | OutputKind::Fhir
        | OutputKind::Json => {}
    }
    problems
}

/// Every text fits into its VR, and has none of the characters that it excludes (PS3.5, 6.2).
fn check_values(object: &InMemDicomObject, problems: &mut Vec<String>) {
    for element in object {
        for item in element.items().unwrap_or_default() {
            check_values(item, problems);
        }
        let Some(length_max) = length_max(element.vr()) else { continue };
        let Value::Primitive(value) = element.value() else { continue };
        let tag = element.tag();
        for text in value.to_multi_str().iter() {
            let trimmed = text.trim_end_matches(['\0', ' ']);
            // The limit is one of each group of a name.
            let is_group_end = |it| element.vr() == VR::PN && it == '=';
            if trimmed.split(is_group_end).any(|it| it.chars().count() > length_max) {
                problems.push(format!("{tag} has more than {length_max} characters"));
            }
            if text.trim_end_matches('\0').contains(char::is_control) {
                problems.push(format!("{tag} has a control character"));
            }
        }
    }
}

/// Most characters of a value in one line; nothing for a VR with lines, or without a limit.
const fn length_max(vr: VR) -> Option<usize> {
    match vr {
        VR::DA => Some(8),
        VR::IS => Some(12),
        VR::AE | VR::CS | VR::DS | VR::SH | VR::TM => Some(16),
        VR::DT => Some(26),
        VR::LO | VR::PN | VR::UI => Some(64),
        _ => None,
    }
}

/// Whether an attribute is absent or has no value.
fn is_missing(object: &InMemDicomObject, tag: Tag) -> bool {
    object.element(tag).map_or(true, |element| match element.value() {
        Value::Primitive(value) => value.multiplicity() == 0,
        Value::Sequence(items) => items.items().is_empty(),
        Value::PixelSequence(_) => false,
    })
}

/// The text of an attribute without its padding.
fn text(object: &InMemDicomObject, tag: Tag) -> String {
    let text = object.element(tag).ok().and_then(|element| element.to_str().ok());
    text.map(|it| it.trim_end_matches(['\0', ' ']).to_owned()).unwrap_or_default()
}

fn number(object: &InMemDicomObject, tag: Tag) -> Option<u64> {
    object.element(tag).ok().and_then(|element| element.to_int().ok())
}

/// A UID is one, and the one under which the output is recorded.
fn uid_problem(object: &InMemDicomObject, tag: Tag, expected: &str) -> Option<String> {
    let uid = text(object, tag);
    let is_sound = uid == expected && uid.parse::<SopInstanceUid>().is_ok();
    (!is_sound).then(|| format!("{tag} is `{uid}`"))
}

/// Pixel Data has the length that rows, columns, samples, bits and frames give.
fn check_pixels(object: &InMemDicomObject, problems: &mut Vec<String>) {
    let factors = [tags::ROWS, tags::COLUMNS, tags::SAMPLES_PER_PIXEL, tags::BITS_ALLOCATED];
    let frames = number(object, tags::NUMBER_OF_FRAMES).unwrap_or(1);
    let frame_bits: u64 = factors.iter().map(|tag| number(object, *tag).unwrap_or(0)).product();
    let bits = frame_bits * frames;
    let pixels = object.element(tags::PIXEL_DATA).ok().and_then(|it| it.to_bytes().ok());
    let length = pixels.map_or(0, |it| it.len() as u64);
    if bits == 0 || length != bits.div_ceil(8).next_multiple_of(2) {
        problems.push(format!("{length} bytes of pixels for {bits} bits"));
    }
}

/// Every frame has its functional groups.
fn check_frames(object: &InMemDicomObject, problems: &mut Vec<String>) {
    let frames = number(object, tags::NUMBER_OF_FRAMES).unwrap_or(1);
    let groups = object.element(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).ok();
    let groups = groups.and_then(|it| it.items()).map_or(0, <[_]>::len) as u64;
    if groups != frames {
        problems.push(format!("{groups} functional groups for {frames} frames"));
    }
}

fn check_pdf(object: &InMemDicomObject, problems: &mut Vec<String>) {
    let document = object.element(tags::ENCAPSULATED_DOCUMENT).ok();
    let pages = document.and_then(|it| it.to_bytes().ok()).unwrap_or_default();
    if !pages.starts_with(b"%PDF-") {
        problems.push("the document is no PDF".to_owned());
    }
}

/// Every content item has a value type, a relationship, and the value that its type requires
/// (PS3.3, C.17.3).
fn check_content(item: &InMemDicomObject, problems: &mut Vec<String>) {
    let items = item.element(tags::CONTENT_SEQUENCE).ok();
    for item in items.and_then(|it| it.items()).unwrap_or_default() {
        let value_type = text(item, tags::VALUE_TYPE);
        let Some(value) = value_attribute(&value_type) else {
            problems.push(format!("an item has the value type `{value_type}`"));
            continue;
        };
        if is_missing(item, value) {
            problems.push(format!("a {value_type} item has no {value}"));
        }
        if text(item, tags::RELATIONSHIP_TYPE).is_empty() {
            problems.push(format!("a {value_type} item has no place in the document"));
        }
        check_content(item, problems);
    }
}

/// The attribute with the value of an item of this type. `None` for a type that is not written.
fn value_attribute(value_type: &str) -> Option<Tag> {
    Some(match value_type {
        "CONTAINER" => tags::CONTINUITY_OF_CONTENT,
        "TEXT" => tags::TEXT_VALUE,
        "CODE" => tags::CONCEPT_CODE_SEQUENCE,
        "NUM" => tags::MEASURED_VALUE_SEQUENCE,
        "PNAME" => tags::PERSON_NAME,
        "UIDREF" => tags::UID,
        "SCOORD" => tags::GRAPHIC_DATA,
        "IMAGE" | "COMPOSITE" => tags::REFERENCED_SOP_SEQUENCE,
        _ => return None,
    })
}
