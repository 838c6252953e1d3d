//! The pieces that all structured documents are made of (PS3.3, C.17): items, observers, references.

use std::collections::BTreeMap;

use contracts::SegmentationForm;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::{Code, ResultSet, derived_uid};

use crate::dataset::{Set, code_item, date_time, reference};
use crate::seg;
use crate::status::Words;
use crate::writing::{About, SentObject, StudyAbout};

pub(crate) fn dcm(value: &str, meaning: &str) -> Code {
    Code::new(value, "DCM", meaning)
}

/// Completion, verification, and who verified (PS3.3, C.17.2).
pub(crate) fn document(set: Set, results: &ResultSet, words: Words) -> Set {
    let set = set
        .text(tags::COMPLETION_FLAG, VR::CS, words.completion)
        .text(tags::VERIFICATION_FLAG, VR::CS, words.verification)
        .text(tags::PRELIMINARY_FLAG, VR::CS, words.preliminary);
    let set = if words.completion == "PARTIAL" {
        let why = "a step of the workflow failed";
        set.text(tags::COMPLETION_FLAG_DESCRIPTION, VR::LO, why)
    } else {
        set
    };
    let Some(attested) = &results.attested else { return set };
    if words.verification == "VERIFIED" {
        let observer = Set::default()
            .text(tags::VERIFYING_ORGANIZATION, VR::LO, &attested.by.organization)
            .text(tags::VERIFICATION_DATE_TIME, VR::DT, &date_time(attested.at))
            .text(tags::VERIFYING_OBSERVER_NAME, VR::PN, &attested.by.dicom_name())
            .sequence(tags::VERIFYING_OBSERVER_IDENTIFICATION_CODE_SEQUENCE, Vec::new());
        return set.sequence(tags::VERIFYING_OBSERVER_SEQUENCE, vec![observer]);
    }
    let author = Set::default()
        .text(tags::INSTITUTION_NAME, VR::LO, &attested.by.organization)
        .sequence(tags::PERSON_IDENTIFICATION_CODE_SEQUENCE, Vec::new())
        .text(tags::OBSERVER_TYPE, VR::CS, "PSN")
        .text(tags::PERSON_NAME, VR::PN, &attested.by.dicom_name());
    set.sequence(tags::AUTHOR_OBSERVER_SEQUENCE, vec![author])
}

/// Who observed: the engine, and a person, once one has changed or signed it (TID 1002).
pub(crate) fn observers(results: &ResultSet, about: &About) -> Vec<Set> {
    let engine = &about.engine;
    let context = "HAS OBS CONTEXT";
    let device_uid = derived_uid(&["device", &engine.serial]);
    let kind = dcm("121005", "Observer Type");
    let mut items = vec![
        code(context, &kind, &dcm("121007", "Device")),
        uid_reference(context, &dcm("121012", "Device Observer UID"), &device_uid),
        text(context, &dcm("121013", "Device Observer Name"), &engine.name),
        text(context, &dcm("121014", "Device Observer Manufacturer"), &engine.manufacturer),
        text(context, &dcm("121015", "Device Observer Model Name"), &engine.model),
        text(context, &dcm("121016", "Device Observer Serial Number"), &engine.serial),
    ];
    if let Some(attested) = &results.attested {
        let organization = dcm("121009", "Person Observer's Organization Name");
        items.push(code(context, &kind, &dcm("121006", "Person")));
        items.push(item(context, "PNAME", &dcm("121008", "Person Observer Name")).text(
            tags::PERSON_NAME,
            VR::PN,
            &attested.by.dicom_name(),
        ));
        items.push(text(context, &organization, &attested.by.organization));
    }
    items
}

/// The language of what follows.
pub(crate) fn language() -> Set {
    let english = Code::new("en-US", "RFC5646", "English (United States)");
    code("HAS CONCEPT MOD", &dcm("121049", "Language of Content Item and Descendants"), &english)
}

/// The procedure that was asked for, if it has a code.
pub(crate) fn procedure(about: &About) -> Option<Code> {
    let order = about.orders.first().filter(|it| {
        !it.procedure_code.is_empty() && !it.procedure_scheme.is_empty() && !it.procedure.is_empty()
    })?;
    Some(Code::new(&order.procedure_code, &order.procedure_scheme, &order.procedure))
}

/// The documents of the same kind that this one follows (PS3.3, C.17.2: Predecessor Documents).
pub(crate) fn predecessors(set: Set, about: &About, study: &StudyAbout, class: &str) -> Set {
    let before: Vec<&SentObject> =
        about.before.iter().flat_map(|it| &it.objects).filter(|it| it.sop_class == class).collect();
    if before.is_empty() {
        return set;
    }
    set.sequence(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, vec![of_study(study, objects(&before))])
}

/// Series by series what was sent.
pub(crate) fn objects(sent: &[&SentObject]) -> Vec<Set> {
    let mut series: BTreeMap<&str, Vec<Set>> = BTreeMap::new();
    for it in sent {
        series.entry(&it.series).or_default().push(reference(&it.sop_class, &it.id));
    }
    series.into_iter().map(|(uid, instances)| of_series(uid, instances)).collect()
}

fn of_series(uid: &str, instances: Vec<Set>) -> Set {
    Set::default().sequence(tags::REFERENCED_SOP_SEQUENCE, instances).text(
        tags::SERIES_INSTANCE_UID,
        VR::UI,
        uid,
    )
}

pub(crate) fn of_study(study: &StudyAbout, series: Vec<Set>) -> Set {
    Set::default().sequence(tags::REFERENCED_SERIES_SEQUENCE, series).text(
        tags::STUDY_INSTANCE_UID,
        VR::UI,
        &study.uid,
    )
}

pub(crate) fn template(identifier: &str) -> Set {
    Set::default().text(tags::MAPPING_RESOURCE, VR::CS, "DCMR").text(
        tags::TEMPLATE_IDENTIFIER,
        VR::CS,
        identifier,
    )
}

/// Every instance the report refers to, once: the sources and the segmentations (OUT-34).
pub(crate) fn evidence(
    set: Set,
    results: &ResultSet,
    study: &StudyAbout,
    form: SegmentationForm,
) -> Set {
    let mut evidence: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for it in &results.segmentations {
        let class = it.geometry.sop_class.as_str();
        let instances = it.geometry.instances.iter().map(|it| (it.as_str(), class));
        evidence.entry(it.series.as_str()).or_default().extend(instances);
    }
    for it in &results.regions {
        let instances = evidence.entry(it.series.as_str()).or_default();
        instances.insert(it.instance.as_str(), it.sop_class.as_str());
    }
    let outlines: Vec<(String, String)> =
        (0..results.segmentations.len()).map(|it| seg::uids(results, it, form)).collect();
    for (series, instance) in &outlines {
        evidence.entry(series).or_default().insert(instance, form.sop_class());
    }
    let item = |(uid, instances): (&str, BTreeMap<&str, &str>)| {
        of_series(uid, instances.into_iter().map(|(it, class)| reference(class, it)).collect())
    };
    let series: Vec<Set> = evidence.into_iter().map(item).collect();
    if series.is_empty() {
        return set;
    }
    let name = tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE;
    set.sequence(name, vec![of_study(study, series)])
}

/// The orders the report answers (PS3.3, C.17.2).
pub(crate) fn requests(set: Set, about: &About, study: &StudyAbout) -> Set {
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
pub(crate) fn item(relationship: &str, value_type: &str, name: &Code) -> Set {
    Set::default()
        .text(tags::RELATIONSHIP_TYPE, VR::CS, relationship)
        .text(tags::VALUE_TYPE, VR::CS, value_type)
        .code(tags::CONCEPT_NAME_CODE_SEQUENCE, name)
}

pub(crate) fn text(relationship: &str, name: &Code, value: &str) -> Set {
    item(relationship, "TEXT", name).text(tags::TEXT_VALUE, VR::UT, value)
}

pub(crate) fn code(relationship: &str, name: &Code, value: &Code) -> Set {
    item(relationship, "CODE", name).code(tags::CONCEPT_CODE_SEQUENCE, value)
}

pub(crate) fn uid_reference(relationship: &str, name: &Code, value: &str) -> Set {
    item(relationship, "UIDREF", name).text(tags::UID, VR::UI, value)
}

pub(crate) fn container(name: &Code, items: Vec<Set>) -> Set {
    item("CONTAINS", "CONTAINER", name)
        .text(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE")
        .sequence(tags::CONTENT_SEQUENCE, items)
}
