//! Measurement report: Comprehensive 3D SR with TID 1500 (PS3.16; requirements OUT-30..34).

use std::collections::BTreeMap;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::{Code, Presence, ResultSet, Segment, Segmentation, derived_uid};

use crate::compose::{About, ReportError, StudyAbout};
use crate::dataset::{SeriesAbout, Set, code_item, common, parameters, reference};
use crate::seg;
use crate::status::{BANNER, Words};

/// Comprehensive 3D SR Storage.
pub const SOP_CLASS: &str = "1.2.840.10008.5.1.4.1.1.88.34";

/// Behind the segmentations of the run.
const SERIES_NUMBER: u32 = 9002;

fn dcm(value: &str, meaning: &str) -> Code {
    Code::new(value, "DCM", meaning)
}

/// The name of the report of a run, the same on every try (DIN-64).
pub fn uid(results: &ResultSet) -> String {
    uids_of(&results.name()).1
}

/// Series and instance of the report of this name.
fn uids_of(name: &str) -> (String, String) {
    (derived_uid(&[name, "sr", "series"]), derived_uid(&[name, "sr", "0"]))
}

/// Writes the report of a run.
///
/// # Errors
///
/// Fails if the library cannot write it.
pub fn encode(
    results: &ResultSet,
    about: &About,
    study: &StudyAbout,
    words: Words,
) -> Result<Vec<u8>, ReportError> {
    let instance_uid = uid(results);
    let prefix = if words.needs_banner { "AI: " } else { "" };
    let series = SeriesAbout {
        modality: "SR",
        uid: &uids_of(&results.name()).0,
        number: SERIES_NUMBER,
        description: &format!("{prefix}measurements"),
        instance: 1,
    };
    let set = common(about, study, &series, (SOP_CLASS, &instance_uid), results.concluded)
        .sequence(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Vec::new())
        .sequence(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, Vec::new())
        .text(tags::COMPLETION_FLAG, VR::CS, words.completion)
        .text(tags::VERIFICATION_FLAG, VR::CS, words.verification)
        .text(tags::PRELIMINARY_FLAG, VR::CS, words.preliminary);
    let set = if words.completion == "PARTIAL" {
        let why = "a step of the workflow failed";
        set.text(tags::COMPLETION_FLAG_DESCRIPTION, VR::LO, why)
    } else {
        set
    };
    let set = evidence(set, results, study);
    let set = predecessor(set, results, study);
    let set = requests(set, about, study);
    let set = set
        .text(tags::VALUE_TYPE, VR::CS, "CONTAINER")
        .code(tags::CONCEPT_NAME_CODE_SEQUENCE, &dcm("126000", "Imaging Measurement Report"))
        .text(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE")
        .sequence(tags::CONTENT_TEMPLATE_SEQUENCE, vec![template("1500")])
        .sequence(tags::CONTENT_SEQUENCE, content(results, about, words));
    set.to_file(SOP_CLASS, &instance_uid)
}

/// The report this one follows (PS3.3, C.17.2: Predecessor Documents).
fn predecessor(set: Set, results: &ResultSet, study: &StudyAbout) -> Set {
    let Some(name) = results.predecessor() else { return set };
    let (series, instance) = uids_of(&name);
    let series = Set::default()
        .sequence(tags::REFERENCED_SOP_SEQUENCE, vec![reference(SOP_CLASS, &instance)])
        .text(tags::SERIES_INSTANCE_UID, VR::UI, &series);
    let study = Set::default().sequence(tags::REFERENCED_SERIES_SEQUENCE, vec![series]).text(
        tags::STUDY_INSTANCE_UID,
        VR::UI,
        &study.uid,
    );
    set.sequence(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, vec![study])
}

fn template(identifier: &str) -> Set {
    Set::default().text(tags::MAPPING_RESOURCE, VR::CS, "DCMR").text(
        tags::TEMPLATE_IDENTIFIER,
        VR::CS,
        identifier,
    )
}

/// Every instance the report refers to, once: the sources and the segmentations (OUT-34).
fn evidence(set: Set, results: &ResultSet, study: &StudyAbout) -> Set {
    let mut evidence: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for it in &results.segmentations {
        let class = it.geometry.sop_class.as_str();
        let instances = it.geometry.instances.iter().map(|it| (it.as_str(), class));
        evidence.entry(it.series.as_str()).or_default().extend(instances);
    }
    let outlines: Vec<(String, String)> =
        (0..results.segmentations.len()).map(|it| seg::uids(results, it)).collect();
    for (series, instance) in &outlines {
        evidence.entry(series).or_default().insert(instance, seg::SOP_CLASS);
    }
    let item = |(uid, instances): (&str, BTreeMap<&str, &str>)| {
        let instances = instances.into_iter().map(|(it, class)| reference(class, it));
        Set::default().sequence(tags::REFERENCED_SOP_SEQUENCE, instances.collect()).text(
            tags::SERIES_INSTANCE_UID,
            VR::UI,
            uid,
        )
    };
    let series: Vec<Set> = evidence.into_iter().map(item).collect();
    if series.is_empty() {
        return set;
    }
    let study = Set::default().sequence(tags::REFERENCED_SERIES_SEQUENCE, series).text(
        tags::STUDY_INSTANCE_UID,
        VR::UI,
        &study.uid,
    );
    set.sequence(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, vec![study])
}

/// The orders the report answers (PS3.3, C.17.2).
fn requests(set: Set, about: &About, study: &StudyAbout) -> Set {
    if about.orders.is_empty() {
        return set;
    }
    let request = |order: &domain::Order| {
        let accession =
            if order.key.accession.is_empty() { &study.accession } else { &order.key.accession };
        let item = Set::default()
            .identifier(tags::ACCESSION_NUMBER, accession)
            .sequence(tags::REFERENCED_STUDY_SEQUENCE, Vec::new())
            .text(tags::STUDY_INSTANCE_UID, VR::UI, &study.uid)
            .text(tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, &order.procedure)
            .identifier(tags::REQUESTED_PROCEDURE_ID, &order.key.requested_procedure)
            .text(tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, &order.key.placer)
            .text(tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, &order.key.filler);
        let has_code = [&order.procedure_code, &order.procedure, &order.procedure_scheme]
            .iter()
            .all(|it| !it.is_empty());
        let codes = if has_code {
            let (value, scheme) = (&order.procedure_code, &order.procedure_scheme);
            vec![code_item(&Code::new(value, scheme, &order.procedure))]
        } else {
            Vec::new()
        };
        item.sequence(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, codes)
    };
    set.sequence(tags::REFERENCED_REQUEST_SEQUENCE, about.orders.iter().map(request).collect())
}

/// One item of the content tree (PS3.3, C.17.3).
fn item(relationship: &str, value_type: &str, name: &Code) -> Set {
    Set::default()
        .text(tags::RELATIONSHIP_TYPE, VR::CS, relationship)
        .text(tags::VALUE_TYPE, VR::CS, value_type)
        .code(tags::CONCEPT_NAME_CODE_SEQUENCE, name)
}

fn text(relationship: &str, name: &Code, value: &str) -> Set {
    item(relationship, "TEXT", name).text(tags::TEXT_VALUE, VR::UT, value)
}

fn code(relationship: &str, name: &Code, value: &Code) -> Set {
    item(relationship, "CODE", name).code(tags::CONCEPT_CODE_SEQUENCE, value)
}

fn uid_reference(relationship: &str, name: &Code, value: &str) -> Set {
    item(relationship, "UIDREF", name).text(tags::UID, VR::UI, value)
}

fn container(name: &Code, items: Vec<Set>) -> Set {
    item("CONTAINS", "CONTAINER", name)
        .text(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE")
        .sequence(tags::CONTENT_SEQUENCE, items)
}

fn content(results: &ResultSet, about: &About, words: Words) -> Vec<Set> {
    let engine = &about.engine;
    let context = "HAS OBS CONTEXT";
    let english = Code::new("en-US", "RFC5646", "English (United States)");
    let language = dcm("121049", "Language of Content Item and Descendants");
    let device_uid = derived_uid(&["device", &engine.serial]);
    let reported = about.orders.first().filter(|it| {
        !it.procedure_code.is_empty() && !it.procedure_scheme.is_empty() && !it.procedure.is_empty()
    });
    let procedure = reported.map_or_else(
        || Code::new("25045-6", "LN", "CT unspecified body region"),
        |it| Code::new(&it.procedure_code, &it.procedure_scheme, &it.procedure),
    );
    let mut items = vec![
        code("HAS CONCEPT MOD", &language, &english),
        code(context, &dcm("121005", "Observer Type"), &dcm("121007", "Device")),
        uid_reference(context, &dcm("121012", "Device Observer UID"), &device_uid),
        text(context, &dcm("121013", "Device Observer Name"), &engine.name),
        text(context, &dcm("121014", "Device Observer Manufacturer"), &engine.manufacturer),
        text(context, &dcm("121015", "Device Observer Model Name"), &engine.model),
        text(context, &dcm("121016", "Device Observer Serial Number"), &engine.serial),
        code("HAS CONCEPT MOD", &dcm("121058", "Procedure reported"), &procedure),
    ];
    if words.needs_banner {
        items.push(text("CONTAINS", &dcm("121106", "Comment"), BANNER));
    }
    let groups = measurement_groups(results);
    if !groups.is_empty() {
        items.push(container(&dcm("126010", "Imaging Measurements"), groups));
    }
    let findings: Vec<Set> = results.findings.iter().map(finding).collect();
    if !findings.is_empty() {
        let name = Code::new("C0034375", "UMLS", "Qualitative Evaluations");
        items.push(container(&name, findings));
    }
    items
}

/// What was found or not found, in words (OUT-31).
fn finding(finding: &domain::Finding) -> Set {
    let presence = match finding.presence {
        Presence::Present => Code::new("52101004", "SCT", "Present"),
        Presence::Absent => Code::new("272519000", "SCT", "Absent"),
        Presence::Possible => Code::new("371930009", "SCT", "Possible"),
        Presence::Unknown => Code::new("261665006", "SCT", "Unknown"),
    };
    let said = format!("{} ({}): {}", finding.code.meaning, presence.meaning, finding.text);
    text("CONTAINS", &dcm("121071", "Finding"), &said)
}

fn measurement_groups(results: &ResultSet) -> Vec<Set> {
    let mut groups = Vec::new();
    for (index, segmentation) in results.segmentations.iter().enumerate() {
        let (_, uid) = seg::uids(results, index);
        for (at, segment) in segmentation.segments.iter().enumerate() {
            groups.push(measurement_group(segmentation, segment, at, &uid));
        }
    }
    groups
}

/// TID 1411: measurements of a volume (PS3.16).
fn measurement_group(
    segmentation: &Segmentation,
    segment: &Segment,
    at: usize,
    segmentation_uid: &str,
) -> Set {
    let context = "HAS OBS CONTEXT";
    let tracking = seg::tracking_uid(segmentation_uid, at);
    let number = u16::try_from(at + 1).unwrap_or(u16::MAX);
    let referenced =
        reference(seg::SOP_CLASS, segmentation_uid).short(tags::REFERENCED_SEGMENT_NUMBER, number);
    let mut items = vec![
        text(context, &dcm("112039", "Tracking Identifier"), &segment.tracking_id),
        uid_reference(context, &dcm("112040", "Tracking Unique Identifier"), &tracking),
        code("CONTAINS", &dcm("121071", "Finding"), &segment.kind),
        item("CONTAINS", "IMAGE", &dcm("121191", "Referenced Segment"))
            .sequence(tags::REFERENCED_SOP_SEQUENCE, vec![referenced]),
        uid_reference(
            "CONTAINS",
            &dcm("121232", "Source series for segmentation"),
            segmentation.series.as_str(),
        ),
    ];
    items.extend(algorithm(segmentation));
    items.extend(segment.measurements.iter().map(measurement));
    container(&dcm("125007", "Measurement Group"), items)
        .sequence(tags::CONTENT_TEMPLATE_SEQUENCE, vec![template("1411")])
}

/// TID 4019: who measured, and how.
fn algorithm(segmentation: &Segmentation) -> Vec<Set> {
    let modifier = "HAS CONCEPT MOD";
    let algorithm = &segmentation.algorithm;
    let mut items = vec![
        text(modifier, &dcm("111001", "Algorithm Name"), &algorithm.name),
        text(modifier, &dcm("111003", "Algorithm Version"), &algorithm.version),
    ];
    let parameter = dcm("111002", "Algorithm Parameters");
    items.extend(parameters(algorithm).iter().map(|it| text(modifier, &parameter, it)));
    items.push(code(modifier, &dcm("111000", "Algorithm Family"), &seg::algorithm_family()));
    items
}

fn measurement(measurement: &domain::Measurement) -> Set {
    let value = Set::default()
        .code(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, &measurement.unit)
        .float(tags::FLOATING_POINT_VALUE, measurement.value)
        .decimals(tags::NUMERIC_VALUE, &[measurement.value]);
    item("CONTAINS", "NUM", &measurement.code).sequence(tags::MEASURED_VALUE_SEQUENCE, vec![value])
}
