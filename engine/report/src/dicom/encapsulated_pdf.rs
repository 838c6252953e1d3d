//! Encapsulated PDF: the report as pages in a DICOM object (PS3.3, A.45.1; OUT-51).

use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::sop_class;

use crate::dicom::dataset::{Object, ObjectHeader, ObjectUids, date_time};
use crate::input::{ReportError, ReportInput, StudyDescription};
use crate::layout::narrative::{Narrative, ReportType};
use crate::layout::{pdf, reasoning};

/// Series Number after the reports of the run.
const SERIES_NUMBER: u32 = 9006;

/// Encodes the report of a run as pages.
///
/// # Errors
///
/// Fails if there is no font, or the library cannot encode the object.
pub(crate) fn encode(
    input: &ReportInput<'_>,
    study: &StudyDescription,
) -> Result<Vec<Object>, ReportError> {
    let ReportInput { results, status, .. } = input;
    let narrative = Narrative { annex: reasoning::annex(input), ..Narrative::new(input) };
    let mut pages = pdf::encode(&narrative, input.fonts)?;
    let length = u32::try_from(pages.len()).map_err(|it| ReportError::Unwritable(Box::new(it)))?;
    pages.resize(pages.len().next_multiple_of(2), 0);
    let header = ObjectHeader {
        sop_class: sop_class::ENCAPSULATED_PDF,
        uids: ObjectUids::derive(results, "pdf", 0),
        modality: "DOC",
        series_number: SERIES_NUMBER,
        series_description: &status.series_description("report"),
        index: 0,
    };
    let created = date_time(input.created_at());
    let set = header
        .data_set(input, study)
        .text(tags::CONVERSION_TYPE, VR::CS, "WSD")
        .text(tags::ACQUISITION_DATE_TIME, VR::DT, &created)
        .text(tags::BURNED_IN_ANNOTATION, VR::CS, "YES")
        .text(tags::DOCUMENT_TITLE, VR::ST, &narrative.title)
        .code(tags::CONCEPT_NAME_CODE_SEQUENCE, &ReportType::of(input).code())
        .text(tags::VERIFICATION_FLAG, VR::CS, status.verification)
        .text(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, VR::LO, "application/pdf")
        .longs(tags::ENCAPSULATED_DOCUMENT_LENGTH, &[length])
        .bytes(tags::ENCAPSULATED_DOCUMENT, VR::OB, pages);
    Ok(vec![header.object(&set)?])
}
