//! The report as pages in a DICOM object (PS3.3, A.45.1; OUT-51).

use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::Code;

use crate::dataset::{self, SeriesAbout, common, date_time, made_at};
use crate::narrative::{Narrative, kind};
use crate::pdf;
use crate::writing::{ReportError, StudyAbout, Writing};

/// Encapsulated PDF Storage.
pub(crate) const SOP_CLASS: &str = "1.2.840.10008.5.1.4.1.1.104.1";

/// Behind the reports of the run.
const SERIES_NUMBER: u32 = 9006;

/// Series and instance of the pages (DIN-64).
pub(crate) fn uids(writing: &Writing<'_>) -> (String, String) {
    dataset::uids(writing.results, "pdf", 0)
}

/// Writes the pages of a run.
///
/// # Errors
///
/// Fails if there is nothing to write with, or the library cannot write it.
pub(crate) fn encode(writing: &Writing<'_>, study: &StudyAbout) -> Result<Vec<u8>, ReportError> {
    let Writing { results, about, words, .. } = writing;
    let narrative = Narrative::of(results, about, *words);
    let mut pages = pdf::encode(&narrative, writing.fonts)?;
    let length = u32::try_from(pages.len()).map_err(|it| ReportError::Unwritable(Box::new(it)))?;
    pages.resize(pages.len().next_multiple_of(2), 0);
    let (series_uid, instance_uid) = uids(writing);
    let series = SeriesAbout {
        modality: "DOC",
        uid: &series_uid,
        number: SERIES_NUMBER,
        description: &words.series("report"),
        instance: 1,
    };
    let set = common(about, study, &series, (SOP_CLASS, &instance_uid), results);
    let title = kind(results, about);
    set.text(tags::CONVERSION_TYPE, VR::CS, "WSD")
        .text(tags::ACQUISITION_DATE_TIME, VR::DT, &date_time(made_at(results)))
        .text(tags::BURNED_IN_ANNOTATION, VR::CS, "YES")
        .text(tags::DOCUMENT_TITLE, VR::ST, &narrative.title)
        .code(tags::CONCEPT_NAME_CODE_SEQUENCE, &Code::new(title.0, "LN", title.1))
        .text(tags::VERIFICATION_FLAG, VR::CS, words.verification)
        .text(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, VR::LO, "application/pdf")
        .longs(tags::ENCAPSULATED_DOCUMENT_LENGTH, &[length])
        .bytes(tags::ENCAPSULATED_DOCUMENT, VR::OB, pages)
        .to_file(SOP_CLASS, &instance_uid)
}
