//! Measurement report: Comprehensive 3D SR with TID 1500 (PS3.16; requirements OUT-30..34).

use contracts::SegmentationForm;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::{
    Algorithm, Code, Finding, Measurement, Region, ResultSet, Segment, Segmentation, sop_class,
};

use crate::dicom::content_tree::{
    code, container, dcm, document, evidence, item, language, observers, predecessors, procedure,
    requests, template, text, uid_reference,
};
use crate::dicom::dataset::{DataSet, Object, ObjectHeader, ObjectUids, parameters, reference};
use crate::dicom::segmentation;
use crate::input::{ReportError, ReportInput, StudyDescription};
use crate::layout::narrative::ReportType;
use crate::status::BANNER;

/// Series Number after the segmentations of the run.
const SERIES_NUMBER: u32 = 9002;

/// Code of a comment (DCM), such as a remark of a plugin on what it has not looked at.
const COMMENT: &str = "121106";

/// Encodes the measurements of a run: the prose of a report but for comments is in another object.
///
/// # Errors
///
/// Fails if the library cannot encode the object.
pub(crate) fn encode(
    input: &ReportInput<'_>,
    study: &StudyDescription,
) -> Result<Vec<Object>, ReportError> {
    let header = ObjectHeader {
        sop_class: sop_class::COMPREHENSIVE_3D_SR,
        uids: ObjectUids::derive(input.results, "sr", 0),
        modality: "SR",
        series_number: SERIES_NUMBER,
        series_description: &input.status.series_description("measurements"),
        index: 0,
    };
    let set = header
        .data_set(input, study)
        .sequence(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Vec::new())
        .sequence(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, Vec::new());
    let set = document(set, input);
    let set = evidence(set, input, study);
    let set = predecessors(set, input.context, study, header.sop_class);
    let set = requests(set, input.context, study);
    let set = set
        .text(tags::VALUE_TYPE, VR::CS, "CONTAINER")
        .code(tags::CONCEPT_NAME_CODE_SEQUENCE, &dcm("126000", "Imaging Measurement Report"))
        .text(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE")
        .sequence(tags::CONTENT_TEMPLATE_SEQUENCE, vec![template("1500")])
        .sequence(tags::CONTENT_SEQUENCE, content(input));
    Ok(vec![header.object(&set)?])
}

fn content(input: &ReportInput<'_>) -> Vec<DataSet> {
    let reported = procedure(input.context).unwrap_or_else(|| ReportType::Imaging.code());
    let mut items = vec![language()];
    items.extend(observers(input));
    items.push(code("HAS CONCEPT MOD", &dcm("121058", "Procedure reported"), &reported));
    if input.status.needs_banner {
        items.push(text("CONTAINS", &dcm(COMMENT, "Comment"), BANNER));
    }
    let remarks = input.results.sections.iter().filter(|it| it.title.value == COMMENT);
    items.extend(remarks.map(|it| text("CONTAINS", &it.title, &it.text)));
    let groups = measurement_groups(input.results, input.recipient.preferences.segmentation);
    if !groups.is_empty() {
        items.push(container(&dcm("126010", "Imaging Measurements"), groups));
    }
    let findings: Vec<DataSet> = input.results.findings.iter().map(finding).collect();
    if !findings.is_empty() {
        let name = Code::new("C0034375", "UMLS", "Qualitative Evaluations");
        items.push(container(&name, findings));
    }
    items
}

/// A finding, present or absent, in prose (OUT-31).
fn finding(finding: &Finding) -> DataSet {
    let presence = finding.presence.code();
    let value = format!("{} ({}): {}", finding.code.meaning, presence.meaning, finding.text);
    text("CONTAINS", &dcm("121071", "Finding"), &value)
}

fn measurement_groups(results: &ResultSet, form: SegmentationForm) -> Vec<DataSet> {
    let mut groups = Vec::new();
    for (index, segmentation) in results.segmentations.iter().enumerate() {
        let uids = segmentation::uids(results, index, form);
        for (position, segment) in segmentation.segments.iter().enumerate() {
            let segment_reference = segment_reference(segmentation, &uids, position, form);
            groups.push(measurement_group(results, segmentation, segment, segment_reference));
        }
    }
    let regions = results.regions.iter().enumerate();
    groups.extend(regions.map(|(position, region)| planar_group(results, region, position)));
    groups
}

/// A reference to a segment of a segmentation. A single image has one frame for each segment, except
/// in a label map: a frame or a segment is named, never both.
fn segment_reference(
    segmentation: &Segmentation,
    uids: &ObjectUids,
    position: usize,
    form: SegmentationForm,
) -> DataSet {
    let number = u16::try_from(position + 1).unwrap_or(u16::MAX);
    let reference = reference(form.sop_class(), &uids.instance);
    let has_frames = match form {
        SegmentationForm::Binary | SegmentationForm::Fractional => true,
        SegmentationForm::Labelmap => false,
    };
    if has_frames && segmentation.geometry.space.is_none() {
        reference.text(tags::REFERENCED_FRAME_NUMBER, VR::IS, &number.to_string())
    } else {
        reference.short(tags::REFERENCED_SEGMENT_NUMBER, number)
    }
}

/// Tracking Identifier of a marked box in all encodings of a run.
fn region_tracking_id(region: &Region, position: usize) -> String {
    format!("region {} of {}", position + 1, region.instance)
}

/// A box on an image (TID 1410; OUT-30), with the label it was marked with (PAP-07).
fn planar_group(results: &ResultSet, region: &Region, position: usize) -> DataSet {
    let relationship = "HAS OBS CONTEXT";
    let tracking_id = region_tracking_id(region, position);
    let [left, top, right, bottom] = region.corners.map(f64::from);
    let points = [left, top, right, top, right, bottom, left, bottom, left, top];
    let image = reference(region.sop_class.as_str(), region.instance.as_str());
    let image = DataSet::default()
        .text(tags::RELATIONSHIP_TYPE, VR::CS, "SELECTED FROM")
        .text(tags::VALUE_TYPE, VR::CS, "IMAGE")
        .sequence(tags::REFERENCED_SOP_SEQUENCE, vec![image]);
    let outline = item("CONTAINS", "SCOORD", &dcm("111030", "Image Region"))
        .text(tags::GRAPHIC_TYPE, VR::CS, "POLYLINE")
        .singles(tags::GRAPHIC_DATA, &points)
        .sequence(tags::CONTENT_SEQUENCE, vec![image]);
    let tracking_uid = results.tracking_uid(&tracking_id);
    let mut items = vec![
        text(relationship, &dcm("112039", "Tracking Identifier"), &tracking_id),
        uid_reference(relationship, &dcm("112040", "Tracking Unique Identifier"), &tracking_uid),
        // The meaning of a label is not known: the code is a private one (OUT-14).
        code(
            "CONTAINS",
            &dcm("121071", "Finding"),
            &Code::new("region", "99ISOCENTER", "Region the model cites"),
        ),
        text("CONTAINS", &dcm(COMMENT, "Comment"), &region.label),
    ];
    items.extend(algorithm(&region.algorithm));
    items.push(outline);
    container(&dcm("125007", "Measurement Group"), items)
        .sequence(tags::CONTENT_TEMPLATE_SEQUENCE, vec![template("1410")])
}

/// Measurements of a segment: TID 1411 for a volume, TID 1410 for a single image (PS3.16).
fn measurement_group(
    results: &ResultSet,
    segmentation: &Segmentation,
    segment: &Segment,
    segment_reference: DataSet,
) -> DataSet {
    let relationship = "HAS OBS CONTEXT";
    let tracking_uid = results.tracking_uid(&segment.tracking_id);
    let is_volume = segmentation.geometry.space.is_some();
    let (template_name, reference_name) = if is_volume {
        ("1411", dcm("121191", "Referenced Segment"))
    } else {
        ("1410", dcm("121214", "Referenced Segmentation Frame"))
    };
    let mut items = vec![
        text(relationship, &dcm("112039", "Tracking Identifier"), &segment.tracking_id),
        uid_reference(relationship, &dcm("112040", "Tracking Unique Identifier"), &tracking_uid),
        code("CONTAINS", &dcm("121071", "Finding"), &segment.kind),
        item("CONTAINS", "IMAGE", &reference_name)
            .sequence(tags::REFERENCED_SOP_SEQUENCE, vec![segment_reference]),
        source(segmentation),
    ];
    items.extend(algorithm(&segmentation.algorithm));
    items.extend(segment.measurements.iter().map(measurement));
    container(&dcm("125007", "Measurement Group"), items)
        .sequence(tags::CONTENT_TEMPLATE_SEQUENCE, vec![template(template_name)])
}

/// The source of a segmentation: the series, or the single image.
fn source(segmentation: &Segmentation) -> DataSet {
    let geometry = &segmentation.geometry;
    let image = geometry.instances.first().filter(|_| geometry.space.is_none());
    match image {
        Some(instance) => {
            let image = reference(geometry.sop_class.as_str(), instance.as_str());
            item("CONTAINS", "IMAGE", &dcm("121233", "Source image for segmentation"))
                .sequence(tags::REFERENCED_SOP_SEQUENCE, vec![image])
        }
        None => uid_reference(
            "CONTAINS",
            &dcm("121232", "Source series for segmentation"),
            segmentation.series.as_str(),
        ),
    }
}

/// The algorithm that measured, with its parameters (TID 4019).
fn algorithm(algorithm: &Algorithm) -> Vec<DataSet> {
    let relationship = "HAS CONCEPT MOD";
    let family = segmentation::algorithm_family();
    let mut items = vec![
        text(relationship, &dcm("111001", "Algorithm Name"), &algorithm.name),
        text(relationship, &dcm("111003", "Algorithm Version"), &algorithm.version),
    ];
    let parameter = dcm("111002", "Algorithm Parameters");
    items.extend(parameters(algorithm).iter().map(|it| text(relationship, &parameter, it)));
    items.push(code(relationship, &dcm("111000", "Algorithm Family"), &family));
    items
}

fn measurement(measurement: &Measurement) -> DataSet {
    let value = DataSet::default()
        .code(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, &measurement.unit)
        .float(tags::FLOATING_POINT_VALUE, measurement.value)
        .decimals(tags::NUMERIC_VALUE, &[measurement.value]);
    item("CONTAINS", "NUM", &measurement.code).sequence(tags::MEASURED_VALUE_SEQUENCE, vec![value])
}
