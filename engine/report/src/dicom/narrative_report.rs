//! Report in prose: Enhanced SR with TID 2000 (PS3.16; requirements OUT-40, OUT-41).

use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::{Code, OutputKind, sop_class};

use crate::dicom::content_tree::{
    container, dcm, document, evidence, label, language, observers, predecessors, requests,
    template, text,
};
use crate::dicom::dataset::{DataSet, Object, ObjectHeader, ObjectUids};
use crate::input::{ReportError, ReportInput, StudyDescription};
use crate::layout::narrative::{IMPRESSION, Narrative, ReportType};

/// Series Number after the measurements of the run.
const SERIES_NUMBER: u32 = 9003;

/// Encodes the report of a run.
///
/// # Errors
///
/// Fails if the library cannot encode the object.
pub(crate) fn encode(
    input: &ReportInput<'_>,
    study: &StudyDescription,
) -> Result<Vec<Object>, ReportError> {
    let header = ObjectHeader {
        sop_class: sop_class::ENHANCED_SR,
        uids: ObjectUids::derive(input.results, "narrative", 0),
        modality: "SR",
        series_number: SERIES_NUMBER,
        series_description: &input.status.series_description("report"),
        index: 0,
    };
    let set = header
        .data_set(input, study)
        .sequence(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Vec::new())
        .sequence(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, Vec::new());
    let set = document(set, input);
    let set = evidence(set, input, study);
    let set = predecessors(set, input.context, study, OutputKind::Narrative);
    let set = requests(set, input.context, study);
    let mut items = vec![language(input.language())];
    items.extend(observers(input));
    items.extend(containers(input));
    let set = set
        .text(tags::VALUE_TYPE, VR::CS, "CONTAINER")
        .code(tags::CONCEPT_NAME_CODE_SEQUENCE, &ReportType::Imaging.code())
        .text(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE")
        .sequence(tags::CONTENT_TEMPLATE_SEQUENCE, vec![template("2000")])
        .sequence(tags::CONTENT_SEQUENCE, items);
    Ok(vec![header.object(&set)?])
}

/// A section of the report: a container with text items of one name.
struct ReportSection {
    title: Code,
    item_name: Code,
    texts: Vec<String>,
}

/// The request, the findings, and what they mean, each in a container. The first text of all is the
/// banner (OUT-03).
fn containers(input: &ReportInput<'_>) -> Vec<DataSet> {
    let mut containers = Vec::new();
    for section in sections(input) {
        let name = &section.item_name;
        let banner = label(name, input).filter(|_| containers.is_empty());
        let texts = section.texts.iter().map(|it| text("CONTAINS", name, it));
        containers.push(container(&section.title, banner.into_iter().chain(texts).collect()));
    }
    containers
}

/// The sections that have text.
fn sections(input: &ReportInput<'_>) -> Vec<ReportSection> {
    let finding = dcm("121071", "Finding");
    let orders = input.context.orders.iter();
    let requested = orders.flat_map(|it| [&it.procedure, &it.reason]).cloned().collect();
    let mut sections = vec![
        ReportSection {
            title: Code::new("55115-0", "LN", "Request"),
            item_name: dcm("121060", "History"),
            texts: requested,
        },
        ReportSection {
            title: Code::new("59776-5", "LN", "Findings"),
            item_name: finding.clone(),
            texts: Narrative::new(input).list_lines(),
        },
    ];
    sections.extend(input.results.sections.iter().map(|section| {
        let is_impression = section.title.value == IMPRESSION;
        ReportSection {
            title: section.title.clone(),
            item_name: if is_impression { dcm("121073", "Impression") } else { finding.clone() },
            texts: vec![section.text.clone()],
        }
    }));
    for section in &mut sections {
        section.texts.retain(|text| !text.trim().is_empty());
    }
    sections.retain(|section| !section.texts.is_empty());
    sections
}
