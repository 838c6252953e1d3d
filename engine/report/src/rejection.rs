//! The word that what was sent is not to be used: Key Object Selection as a rejection note (PS3.16, TID 2010;
//! OUT-02, row REJECTED/WITHDRAWN).

use dicom_core::VR;
use dicom_dictionary_std::tags;

use crate::content_tree::{dcm, item, objects, observers, of_study, requests, template, text};
use crate::dataset::{self, SeriesAbout, Set, common, reference};
use crate::status::VOID;
use crate::writing::{ReportError, SentObject, StudyAbout, Writing};

/// Key Object Selection Document Storage.
pub(crate) const SOP_CLASS: &str = "1.2.840.10008.5.1.4.1.1.88.59";

/// Behind everything else of the run.
const SERIES_NUMBER: u32 = 9009;

/// Series and instance of the note (DIN-64).
pub(crate) fn uids(writing: &Writing<'_>) -> (String, String) {
    // What is taken back is what this destination has.
    let kind = format!("rejection {}", writing.recipient.destination);
    dataset::uids(writing.results, &kind, 0)
}

/// Writes the note that takes back what a destination has.
///
/// # Errors
///
/// Fails if it has nothing, or the library cannot write it.
pub(crate) fn encode(writing: &Writing<'_>, study: &StudyAbout) -> Result<Vec<u8>, ReportError> {
    let Writing { results, about, .. } = writing;
    let sent: Vec<&SentObject> = about.before.iter().flat_map(|it| &it.tried).collect();
    let sent: Vec<&SentObject> =
        sent.into_iter().filter(|it| !it.series.is_empty() && it.sop_class != SOP_CLASS).collect();
    if sent.is_empty() {
        return Err(ReportError::NothingSent);
    }
    let (series_uid, instance_uid) = uids(writing);
    let series = SeriesAbout {
        modality: "KO",
        uid: &series_uid,
        number: SERIES_NUMBER,
        description: "AI: taken back",
        instance: 1,
    };
    let set = common(about, study, &series, (SOP_CLASS, &instance_uid), results)
        .sequence(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Vec::new());
    let set = requests(set, about, study);
    let mut items = observers(results, about);
    items.push(text("CONTAINS", &dcm("113012", "Key Object Description"), VOID));
    items.extend(sent.iter().map(|it| referred(it)));
    let evidence = vec![of_study(study, objects(&sent))];
    set.sequence(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, evidence)
        .text(tags::VALUE_TYPE, VR::CS, "CONTAINER")
        .code(
            tags::CONCEPT_NAME_CODE_SEQUENCE,
            &dcm("113037", "Rejected for Patient Safety Reasons"),
        )
        .text(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE")
        .sequence(tags::CONTENT_TEMPLATE_SEQUENCE, vec![template("2010")])
        .sequence(tags::CONTENT_SEQUENCE, items)
        .to_file(SOP_CLASS, &instance_uid)
}

fn referred(sent: &SentObject) -> Set {
    let is_image = sent.kind.has_pixels();
    let kind = if is_image { "IMAGE" } else { "COMPOSITE" };
    let set = item("CONTAINS", kind, &dcm("121181", "DICOM Object Catalog"));
    // TID 2010: what is referred to has no name of its own.
    set.without(tags::CONCEPT_NAME_CODE_SEQUENCE)
        .sequence(tags::REFERENCED_SOP_SEQUENCE, vec![reference(&sent.sop_class, &sent.id)])
}
