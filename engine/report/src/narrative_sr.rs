//! The report in words: Enhanced SR with TID 2000 (PS3.16; requirements OUT-40, OUT-41).

use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::Code;

use crate::content_tree::{
    container, dcm, document, evidence, language, observers, predecessors, requests, template, text,
};
use crate::dataset::{self, SeriesAbout, Set, common};
use crate::narrative::Narrative;
use crate::status::BANNER;
use crate::writing::{ReportError, StudyAbout, Writing};

/// Enhanced SR Storage.
pub(crate) const SOP_CLASS: &str = "1.2.840.10008.5.1.4.1.1.88.22";

/// Behind the measurements of the run.
const SERIES_NUMBER: u32 = 9003;

/// Series and instance of the report of a run (DIN-64).
pub(crate) fn uids(writing: &Writing<'_>) -> (String, String) {
    dataset::uids(writing.results, "narrative", 0)
}

/// Writes the report of a run.
///
/// # Errors
///
/// Fails if the library cannot write it.
pub(crate) fn encode(writing: &Writing<'_>, study: &StudyAbout) -> Result<Vec<u8>, ReportError> {
    let Writing { results, about, words, .. } = writing;
    let (series_uid, instance_uid) = uids(writing);
    let series = SeriesAbout {
        modality: "SR",
        uid: &series_uid,
        number: SERIES_NUMBER,
        description: &words.series("report"),
        instance: 1,
    };
    let set = common(about, study, &series, (SOP_CLASS, &instance_uid), results)
        .sequence(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Vec::new())
        .sequence(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, Vec::new());
    let set = document(set, results, *words);
    let set = evidence(set, results, study, writing.recipient.preferences.segmentation);
    let set = predecessors(set, about, study, SOP_CLASS);
    let set = requests(set, about, study);
    let title = Code::new("18748-4", "LN", "Diagnostic imaging study");
    let mut items = vec![language()];
    items.extend(observers(results, about));
    items.extend(sections(writing));
    set.text(tags::VALUE_TYPE, VR::CS, "CONTAINER")
        .code(tags::CONCEPT_NAME_CODE_SEQUENCE, &title)
        .text(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE")
        .sequence(tags::CONTENT_TEMPLATE_SEQUENCE, vec![template("2000")])
        .sequence(tags::CONTENT_SEQUENCE, items)
        .to_file(SOP_CLASS, &instance_uid)
}

/// What was asked for, what was found, and what it means; the banner is the first text of all (OUT-03).
fn sections(writing: &Writing<'_>) -> Vec<Set> {
    let Writing { results, about, words, .. } = writing;
    let mut sections: Vec<(Code, Code, Vec<String>)> = Vec::new();
    let asked: Vec<String> =
        about.orders.iter().flat_map(|it| [&it.procedure, &it.reason]).cloned().collect();
    let asked: Vec<String> = asked.into_iter().filter(|it| !it.is_empty()).collect();
    let request = Code::new("55115-0", "LN", "Request");
    sections.push((request, dcm("121060", "History"), asked));
    let finding = dcm("121071", "Finding");
    let listed = Narrative::of(results, about, *words).listed();
    sections.push((Code::new("59776-5", "LN", "Findings"), finding.clone(), listed));
    for it in &results.sections {
        let name = match it.title.value.as_str() {
            "19005-8" => dcm("121073", "Impression"),
            _ => finding.clone(),
        };
        sections.push((it.title.clone(), name, vec![it.text.clone()]));
    }
    for (_, _, texts) in &mut sections {
        texts.retain(|it| !it.trim().is_empty());
    }
    sections.retain(|(_, _, texts)| !texts.is_empty());
    let mut is_first = words.needs_banner;
    let mut written = Vec::new();
    for (title, name, texts) in sections {
        let banner = std::mem::take(&mut is_first).then(|| BANNER.to_owned());
        let texts = banner.into_iter().chain(texts);
        let texts = texts.map(|it| text("CONTAINS", &name, &it)).collect();
        written.push(container(&title, texts));
    }
    written
}
