//! The pieces of structured documents (PS3.3, C.17): content items, observers, references, and the
//! modules that every document has.

use std::collections::BTreeMap;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::{Assigner, Code, Order, OrderNumber, OutputKind, SopClassUid, SopInstanceUid};

use crate::dicom::dataset::{DataSet, ObjectUids, code_item, date_time, reference};
use crate::dicom::segmentation;
use crate::input::{Engine, ReportContext, ReportInput, SentObject, StudyDescription};
use crate::language::Language;

/// A code of PS3.16, Annex D.
pub(crate) fn dcm(value: &str, meaning: &str) -> Code {
    Code::new(value, "DCM", meaning)
}

/// Completion, verification, and the verifying observer (PS3.3, C.17.2).
pub(crate) fn document(set: DataSet, input: &ReportInput<'_>) -> DataSet {
    let status = input.status;
    let set = set
        .text(tags::COMPLETION_FLAG, VR::CS, status.completion)
        .text(tags::VERIFICATION_FLAG, VR::CS, status.verification)
        .text(tags::PRELIMINARY_FLAG, VR::CS, status.preliminary);
    let set = if status.is_partial {
        let description = "a step of the workflow failed";
        set.text(tags::COMPLETION_FLAG_DESCRIPTION, VR::LO, description)
    } else {
        set
    };
    let Some(attested) = &input.results.attested else { return set };
    if status.is_verified() {
        let observer = DataSet::default()
            .text(tags::VERIFYING_ORGANIZATION, VR::LO, &attested.by.organization)
            .text(tags::VERIFICATION_DATE_TIME, VR::DT, &date_time(attested.at))
            .text(tags::VERIFYING_OBSERVER_NAME, VR::PN, &attested.by.dicom_name())
            .sequence(tags::VERIFYING_OBSERVER_IDENTIFICATION_CODE_SEQUENCE, Vec::new());
        return set.sequence(tags::VERIFYING_OBSERVER_SEQUENCE, vec![observer]);
    }
    let author = DataSet::default()
        .text(tags::INSTITUTION_NAME, VR::LO, &attested.by.organization)
        .sequence(tags::PERSON_IDENTIFICATION_CODE_SEQUENCE, Vec::new())
        .text(tags::OBSERVER_TYPE, VR::CS, "PSN")
        .text(tags::PERSON_NAME, VR::PN, &attested.by.dicom_name());
    set.sequence(tags::AUTHOR_OBSERVER_SEQUENCE, vec![author])
}

/// The observers: the engine, and the person who has changed or signed the result (TID 1002).
pub(crate) fn observers(input: &ReportInput<'_>) -> Vec<DataSet> {
    let relationship = "HAS OBS CONTEXT";
    let observer_type = dcm("121005", "Observer Type");
    let mut items = device_observer(&input.context.engine);
    if let Some(attested) = &input.results.attested {
        let name = item(relationship, "PNAME", &dcm("121008", "Person Observer Name"));
        let organization = dcm("121009", "Person Observer's Organization Name");
        items.push(code(relationship, &observer_type, &dcm("121006", "Person")));
        items.push(name.text(tags::PERSON_NAME, VR::PN, &attested.by.dicom_name()));
        items.push(text(relationship, &organization, &attested.by.organization));
    }
    items
}

/// The engine as observer (TID 1004).
pub(crate) fn device_observer(engine: &Engine) -> Vec<DataSet> {
    let relationship = "HAS OBS CONTEXT";
    vec![
        code(relationship, &dcm("121005", "Observer Type"), &dcm("121007", "Device")),
        uid_reference(relationship, &dcm("121012", "Device Observer UID"), &engine.uid),
        text(relationship, &dcm("121013", "Device Observer Name"), &engine.name),
        text(relationship, &dcm("121014", "Device Observer Manufacturer"), &engine.manufacturer),
        text(relationship, &dcm("121015", "Device Observer Model Name"), &engine.model),
        text(relationship, &dcm("121016", "Device Observer Serial Number"), &engine.serial),
    ]
}

/// The language of an item and of those below it (TID 1204).
pub(crate) fn language(language: Language) -> DataSet {
    let name = dcm("121049", "Language of Content Item and Descendants");
    code("HAS CONCEPT MOD", &name, &language.code())
}

/// The label of a result that nobody has signed, in the language of the site.
pub(crate) fn label(name: &Code, input: &ReportInput<'_>) -> Option<DataSet> {
    let own = input.context.engine.language;
    let item = input.status.needs_banner.then(|| text("CONTAINS", name, input.label()))?;
    let is_other = own != input.language();
    Some(if is_other { item.sequence(tags::CONTENT_SEQUENCE, vec![language(own)]) } else { item })
}

/// The procedure that was ordered, if the order has a code for it.
pub(crate) fn procedure(context: &ReportContext) -> Option<Code> {
    context.orders.first().and_then(procedure_of)
}

fn procedure_of(order: &Order) -> Option<Code> {
    let parts = [&order.procedure_code, &order.procedure_scheme, &order.procedure];
    let is_coded = parts.iter().all(|part| !part.is_empty());
    is_coded.then(|| Code::new(&order.procedure_code, &order.procedure_scheme, &order.procedure))
}

/// The documents of the same kind that this one follows (PS3.3, C.17.2: Predecessor Documents).
pub(crate) fn predecessors(
    set: DataSet,
    context: &ReportContext,
    study: &StudyDescription,
    kind: OutputKind,
) -> DataSet {
    let sent = context.previous.iter().flat_map(|previous| &previous.objects);
    let documents: Vec<&SentObject> = sent.filter(|it| it.kind == kind).collect();
    if documents.is_empty() {
        return set;
    }
    let documents = study_reference(study, sent_objects(&documents));
    set.sequence(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, vec![documents])
}

/// References to objects that were sent, series by series.
pub(crate) fn sent_objects(sent: &[&SentObject]) -> Vec<DataSet> {
    let mut series: BTreeMap<&str, Vec<DataSet>> = BTreeMap::new();
    for object in sent {
        series.entry(&object.series).or_default().push(reference(&object.sop_class, &object.id));
    }
    series.into_iter().map(|(uid, instances)| series_reference(uid, instances)).collect()
}

pub(crate) fn series_reference(uid: &str, instances: Vec<DataSet>) -> DataSet {
    DataSet::default().sequence(tags::REFERENCED_SOP_SEQUENCE, instances).text(
        tags::SERIES_INSTANCE_UID,
        VR::UI,
        uid,
    )
}

/// References to series of the study.
pub(crate) fn study_reference(study: &StudyDescription, series: Vec<DataSet>) -> DataSet {
    DataSet::default().sequence(tags::REFERENCED_SERIES_SEQUENCE, series).text(
        tags::STUDY_INSTANCE_UID,
        VR::UI,
        &study.uid,
    )
}

/// The template that the content follows (PS3.3, C.18.8).
pub(crate) fn template(identifier: &str) -> DataSet {
    DataSet::default().text(tags::MAPPING_RESOURCE, VR::CS, "DCMR").text(
        tags::TEMPLATE_IDENTIFIER,
        VR::CS,
        identifier,
    )
}

/// Every instance that the report refers to, once: the sources and the segmentations (OUT-34).
pub(crate) fn evidence(set: DataSet, input: &ReportInput<'_>, study: &StudyDescription) -> DataSet {
    let results = input.results;
    // SOP Instance UID and SOP Class UID, by Series Instance UID.
    let mut evidence: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for segmentation in &results.segmentations {
        let class = segmentation.geometry.sop_class.as_str();
        let instances = segmentation.geometry.instances.iter().map(|it| (it.as_str(), class));
        evidence.entry(segmentation.series.as_str()).or_default().extend(instances);
    }
    for region in &results.regions {
        let instances = evidence.entry(region.series.as_str()).or_default();
        instances.insert(region.instance.as_str(), region.sop_class.as_str());
    }
    let form = input.recipient.preferences.segmentation;
    let segmentations: Vec<ObjectUids> = (0..results.segmentations.len())
        .map(|index| segmentation::uids(results, index, form))
        .collect();
    for uids in &segmentations {
        evidence.entry(&uids.series).or_default().insert(&uids.instance, form.sop_class());
    }
    if evidence.is_empty() {
        return set;
    }
    let mut series = Vec::new();
    for (uid, instances) in evidence {
        let instances = instances.into_iter().map(|(instance, class)| reference(class, instance));
        series.push(series_reference(uid, instances.collect()));
    }
    let evidence = study_reference(study, series);
    set.sequence(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, vec![evidence])
}

/// The orders that the report answers (PS3.3, C.17.2).
pub(crate) fn requests(set: DataSet, context: &ReportContext, study: &StudyDescription) -> DataSet {
    if context.orders.is_empty() {
        return set;
    }
    let requests = context.orders.iter().map(|order| request(order, study)).collect();
    set.sequence(tags::REFERENCED_REQUEST_SEQUENCE, requests)
}

fn request(order: &Order, study: &StudyDescription) -> DataSet {
    let key = &order.key;
    let accession = if key.accession.is_empty() { &study.accession } else { &key.accession };
    let codes = procedure_of(order).iter().map(code_item).collect();
    let set = [
        (tags::ORDER_PLACER_IDENTIFIER_SEQUENCE, &key.placer),
        (tags::ORDER_FILLER_IDENTIFIER_SEQUENCE, &key.filler),
    ]
    .into_iter()
    .filter_map(|(sequence, number)| Some((sequence, designator(number)?)))
    .fold(DataSet::default(), |set, (sequence, item)| set.sequence(sequence, vec![item]));
    set.identifier(tags::ACCESSION_NUMBER, accession)
        .sequence(tags::REFERENCED_STUDY_SEQUENCE, Vec::new())
        .text(tags::STUDY_INSTANCE_UID, VR::UI, &study.uid)
        .text(tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, &order.procedure)
        .identifier(tags::REQUESTED_PROCEDURE_ID, &key.requested_procedure)
        .text(tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, &key.placer.number)
        .text(tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, &key.filler.number)
        .sequence(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, codes)
}

/// The authority that an order number names (`HL7v2 Hierarchic Designator`; PS3.3, 10.17).
fn designator(number: &OrderNumber) -> Option<DataSet> {
    let Assigner::Authority { namespace, universal_id, universal_id_type } = &number.assigner
    else {
        return None;
    };
    let mut item = DataSet::default();
    if !namespace.is_empty() {
        item = item.text(tags::LOCAL_NAMESPACE_ENTITY_ID, VR::UT, namespace);
    }
    if !universal_id.is_empty() {
        item = item.text(tags::UNIVERSAL_ENTITY_ID, VR::UT, universal_id).text(
            tags::UNIVERSAL_ENTITY_ID_TYPE,
            VR::CS,
            universal_id_type,
        );
    }
    Some(item)
}

/// One item of the content tree (PS3.3, C.17.3).
pub(crate) fn item(relationship: &str, value_type: &str, name: &Code) -> DataSet {
    DataSet::default()
        .text(tags::RELATIONSHIP_TYPE, VR::CS, relationship)
        .text(tags::VALUE_TYPE, VR::CS, value_type)
        .code(tags::CONCEPT_NAME_CODE_SEQUENCE, name)
}

/// A box on an image: its outline, with the image it is selected from (OUT-30).
pub(crate) fn outline(place: &BoxPlace<'_>) -> DataSet {
    let [left, top, right, bottom] = place.corners.map(f64::from);
    let points = [left, top, right, top, right, bottom, left, bottom, left, top];
    let image = reference(place.sop_class.as_str(), place.instance.as_str());
    let image = match place.frame {
        Some(frame) => image.text(tags::REFERENCED_FRAME_NUMBER, VR::IS, &frame.to_string()),
        None => image,
    };
    let image = DataSet::default()
        .text(tags::RELATIONSHIP_TYPE, VR::CS, "SELECTED FROM")
        .text(tags::VALUE_TYPE, VR::CS, "IMAGE")
        .sequence(tags::REFERENCED_SOP_SEQUENCE, vec![image]);
    item("CONTAINS", "SCOORD", &dcm("111030", "Image Region"))
        .text(tags::GRAPHIC_TYPE, VR::CS, "POLYLINE")
        .singles(tags::GRAPHIC_DATA, &points)
        .sequence(tags::CONTENT_SEQUENCE, vec![image])
}

/// Where a box is.
pub(crate) struct BoxPlace<'a> {
    pub(crate) sop_class: &'a SopClassUid,
    pub(crate) instance: &'a SopInstanceUid,
    /// The frame, from 1, of an image of several.
    pub(crate) frame: Option<u32>,
    /// Left, top, right, bottom.
    pub(crate) corners: [u32; 4],
}

/// A TEXT item.
pub(crate) fn text(relationship: &str, name: &Code, value: &str) -> DataSet {
    item(relationship, "TEXT", name).text(tags::TEXT_VALUE, VR::UT, value)
}

/// A CODE item.
pub(crate) fn code(relationship: &str, name: &Code, value: &Code) -> DataSet {
    item(relationship, "CODE", name).code(tags::CONCEPT_CODE_SEQUENCE, value)
}

/// A UIDREF item.
pub(crate) fn uid_reference(relationship: &str, name: &Code, value: &str) -> DataSet {
    item(relationship, "UIDREF", name).text(tags::UID, VR::UI, value)
}

/// A CONTAINER item with these items in it.
pub(crate) fn container(name: &Code, items: Vec<DataSet>) -> DataSet {
    item("CONTAINS", "CONTAINER", name)
        .text(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE")
        .sequence(tags::CONTENT_SEQUENCE, items)
}
