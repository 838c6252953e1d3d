//! Rejection note: a Key Object Selection which states that objects sent before are not to be used
//! (PS3.16, TID 2010; OUT-02, row REJECTED/WITHDRAWN).

use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::sop_class;

use crate::dicom::content_tree::{
    dcm, item, observers, requests, sent_objects, study_reference, template, text,
};
use crate::dicom::dataset::{DataSet, Object, ObjectHeader, ObjectUids, reference};
use crate::input::{ReportError, ReportInput, SentObject, StudyDescription};

/// Series Number after all other series of the run.
const SERIES_NUMBER: u32 = 9009;

/// Encodes the note that rejects what a destination has.
///
/// # Errors
///
/// Fails if the destination has nothing, or the library cannot encode the object.
pub(crate) fn encode(
    input: &ReportInput<'_>,
    study: &StudyDescription,
) -> Result<Vec<Object>, ReportError> {
    let rejected = rejected(input);
    if rejected.is_empty() {
        return Err(ReportError::NothingSent);
    }
    // The note lists what this one destination has.
    let series = format!("rejection {}", input.recipient.destination);
    let header = ObjectHeader {
        sop_class: sop_class::KEY_OBJECT_SELECTION,
        uids: ObjectUids::derive(input.results, &series, 0),
        modality: "KO",
        series_number: SERIES_NUMBER,
        series_description: "AI: taken back",
        index: 0,
    };
    let set = header
        .data_set(input, study)
        .sequence(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Vec::new());
    let set = requests(set, input.context, study);
    let mut items = observers(input);
    let description = dcm("113012", "Key Object Description");
    items.push(text("CONTAINS", &description, input.label()));
    items.extend(rejected.iter().map(|object| object_reference(object)));
    let evidence = study_reference(study, sent_objects(&rejected));
    let title = dcm("113037", "Rejected for Patient Safety Reasons");
    let set = set
        .sequence(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, vec![evidence])
        .text(tags::VALUE_TYPE, VR::CS, "CONTAINER")
        .code(tags::CONCEPT_NAME_CODE_SEQUENCE, &title)
        .text(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE")
        .sequence(tags::CONTENT_TEMPLATE_SEQUENCE, vec![template("2010")])
        .sequence(tags::CONTENT_SEQUENCE, items);
    Ok(vec![header.object(&set)?])
}

/// The DICOM objects that may have arrived, except earlier notes.
fn rejected<'a>(input: &ReportInput<'a>) -> Vec<&'a SentObject> {
    let attempted = input.context.previous.iter().flat_map(|previous| &previous.attempted);
    attempted
        .filter(|it| !it.series.is_empty() && it.sop_class != sop_class::KEY_OBJECT_SELECTION)
        .collect()
}

/// An item that refers to an object. TID 2010 gives it no concept name.
fn object_reference(object: &SentObject) -> DataSet {
    let value_type = if object.kind.has_pixels() { "IMAGE" } else { "COMPOSITE" };
    let item = item("CONTAINS", value_type, &dcm("121181", "DICOM Object Catalog"));
    item.without(tags::CONCEPT_NAME_CODE_SEQUENCE)
        .sequence(tags::REFERENCED_SOP_SEQUENCE, vec![reference(&object.sop_class, &object.id)])
}
