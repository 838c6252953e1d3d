//! Measurement report: Comprehensive 3D SR with TID 1500 (PS3.16; requirements OUT-30..34).

use contracts::SegmentationForm;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::{
    Algorithm, Code, Finding, Laterality, Measurement, OutputKind, Region, ResultSet, Segment,
    Segmentation, sop_class,
};

use crate::dicom::content_tree::{
    BoxPlace, code, container, dcm, document, evidence, item, label, language, observers, outline,
    predecessors, procedure, requests, template, text, uid_reference,
};
use crate::dicom::dataset::{DataSet, Object, ObjectHeader, ObjectUids, parameters, reference};
use crate::dicom::segmentation;
use crate::input::{COMMENT, ReportError, ReportInput, StudyDescription};
use crate::layout::narrative::ReportType;

/// Series Number after the segmentations of the run.
const SERIES_NUMBER: u32 = 9002;

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
    let set = predecessors(set, input.context, study, OutputKind::Sr);
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
    let mut items = vec![language(input.language())];
    items.extend(observers(input));
    items.push(code("HAS CONCEPT MOD", &dcm("121058", "Procedure reported"), &reported));
    items.extend(label(&dcm(COMMENT, "Comment"), input));
    let remarks = input.results.sections.iter().filter(|it| it.title.value == COMMENT);
    items.extend(remarks.map(|it| text("CONTAINS", &it.title, &it.text)));
    let mut groups = measurement_groups(input.results, input.recipient.preferences.segmentation);
    let findings = input.results.findings.iter().enumerate();
    groups.extend(findings.map(|(position, it)| finding_group(input.results, it, position)));
    if !groups.is_empty() {
        items.push(container(&dcm("126010", "Imaging Measurements"), groups));
    }
    items
}

/// A finding that was looked for (TID 1501; OUT-31): what, whether it is present, what became of it,
/// where and on which side, all in codes, with the prose as a comment.
fn finding_group(results: &ResultSet, finding: &Finding, position: usize) -> DataSet {
    let relationship = "HAS OBS CONTEXT";
    let tracking_id = format!("finding {}", position + 1);
    let tracking_uid = results.tracking_uid(&tracking_id);
    let side = finding.laterality.map(laterality);
    let found = code("CONTAINS", &dcm("121071", "Finding"), &finding_code(finding));
    let mut items = vec![
        text(relationship, &dcm("112039", "Tracking Identifier"), &tracking_id),
        uid_reference(relationship, &dcm("112040", "Tracking Unique Identifier"), &tracking_uid),
    ];
    // The side modifies the site; without a site, what was found.
    match &finding.site {
        Some(site) => {
            items.push(found);
            items.push(modified(finding_site(site), side));
        }
        None => items.push(modified(found, side)),
    }
    let presence = Code::new("705057003", "SCT", "Presence");
    items.push(code("CONTAINS", &presence, &finding.presence.code()));
    let change = finding.change.iter();
    items.extend(change.map(|it| code("CONTAINS", &Finding::change_name(), it)));
    if !finding.text.trim().is_empty() {
        items.push(text("CONTAINS", &dcm(COMMENT, "Comment"), &finding.text));
    }
    container(&dcm("125007", "Measurement Group"), items)
        .sequence(tags::CONTENT_TEMPLATE_SEQUENCE, vec![template("1501")])
}

fn finding_site(site: &Code) -> DataSet {
    code("HAS CONCEPT MOD", &Code::new("363698007", "SCT", "Finding Site"), site)
}

fn laterality(side: Laterality) -> DataSet {
    code("HAS CONCEPT MOD", &Code::new("272741003", "SCT", "Laterality"), &side.code())
}

/// The site of a segment of one side: the structure itself, with the side.
fn segment_site(segment: &Segment) -> Option<DataSet> {
    let side = segment.laterality?;
    Some(modified(finding_site(&segment.kind), Some(laterality(side))))
}

/// The code of a finding; a private one, where the plugin knows none (OUT-14).
fn finding_code(finding: &Finding) -> Code {
    let Code { value, scheme, meaning } = &finding.code;
    if !value.is_empty() && !scheme.is_empty() && !meaning.is_empty() {
        return finding.code.clone();
    }
    Code::new("finding", "99ISOCENTER", if meaning.is_empty() { "Finding" } else { meaning })
}

/// An item with another that modifies it.
fn modified(item: DataSet, modifier: Option<DataSet>) -> DataSet {
    match modifier {
        Some(modifier) => item.sequence(tags::CONTENT_SEQUENCE, vec![modifier]),
        None => item,
    }
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
pub(crate) fn region_tracking_id(region: &Region, position: usize) -> String {
    format!("region {} of {}", position + 1, region.instance)
}

/// A box on an image (TID 1410; OUT-30), with the label it was marked with (PAP-07).
fn planar_group(results: &ResultSet, region: &Region, position: usize) -> DataSet {
    let relationship = "HAS OBS CONTEXT";
    let tracking_id = region_tracking_id(region, position);
    let place = BoxPlace {
        sop_class: &region.sop_class,
        instance: &region.instance,
        frame: None,
        corners: region.corners,
    };
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
    items.push(outline(&place));
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
    ];
    items.extend(segment_site(segment));
    items.extend([
        item("CONTAINS", "IMAGE", &reference_name)
            .sequence(tags::REFERENCED_SOP_SEQUENCE, vec![segment_reference]),
        source(segmentation),
    ]);
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
pub(crate) fn algorithm(algorithm: &Algorithm) -> Vec<DataSet> {
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

#[cfg(test)]
mod tests {
    use dicom_core::Tag;
    use dicom_object::InMemDicomObject;
    use domain::Presence;

    use crate::fixture::{Fixture, items, read, texts, value};

    use super::*;

    fn code_of(item: &InMemDicomObject, sequence: Tag) -> String {
        value(&items(item, sequence)[0], tags::CODE_VALUE)
    }

    /// The CODE items below an item, as `name=value`, those that modify another after it.
    fn codes(item: &InMemDicomObject) -> Vec<String> {
        let mut found = Vec::new();
        for item in items(item, tags::CONTENT_SEQUENCE) {
            if value(item, tags::VALUE_TYPE) == "CODE" {
                let name = code_of(item, tags::CONCEPT_NAME_CODE_SEQUENCE);
                found.push(format!("{name}={}", code_of(item, tags::CONCEPT_CODE_SEQUENCE)));
            }
            found.extend(codes(item));
        }
        found
    }

    /// The codes of the group of the only finding, and its texts.
    fn group(fixture: &Fixture) -> (Vec<String>, Vec<String>) {
        let mut outputs = fixture.compose(&[OutputKind::Sr]).unwrap();
        outputs.retain(|it| it.kind == OutputKind::Sr);
        let object = read(&outputs[0]);
        let measurements = items(&object, tags::CONTENT_SEQUENCE).last().unwrap();
        let group = items(measurements, tags::CONTENT_SEQUENCE).last().unwrap();
        assert_eq!(
            value(&items(group, tags::CONTENT_TEMPLATE_SEQUENCE)[0], tags::TEMPLATE_IDENTIFIER),
            "1501"
        );
        (codes(group), texts(group))
    }

    #[test]
    fn out_31_presence_negation_and_side_of_a_finding_are_codes() {
        let mut fixture = Fixture::new();
        for (presence, expected) in [
            (Presence::Present, "52101004"),
            (Presence::Absent, "272519000"),
            (Presence::Possible, "371930009"),
            (Presence::Unknown, "373068000"),
        ] {
            fixture.results.findings[0].presence = presence;
            let (codes, texts) = group(&fixture);
            let expected =
                ["121071=72704001", "363698007=272673000", &format!("705057003={expected}")];
            assert_eq!(codes, expected);
            assert_eq!(texts.last().unwrap(), "No fracture.", "the prose as it is");
        }
        for (laterality, expected) in [
            (Laterality::Left, "7771000"),
            (Laterality::Right, "24028007"),
            (Laterality::Bilateral, "51440002"),
        ] {
            fixture.results.findings[0].laterality = Some(laterality);
            assert_eq!(group(&fixture).0[2], format!("272741003={expected}"));
        }
    }

    #[test]
    fn out_14_the_side_of_a_segment_is_coded_in_the_segmentation_and_in_the_report() {
        let mut fixture = Fixture::new();
        let segments = &mut fixture.results.segmentations[0].segments;
        segments[0].laterality = Some(Laterality::Left);
        let outputs = fixture.compose(&[OutputKind::Seg, OutputKind::Sr]).unwrap();
        let found = |kind: OutputKind| read(outputs.iter().find(|it| it.kind == kind).unwrap());
        let seg = found(OutputKind::Seg);
        let sides: Vec<Vec<String>> = items(&seg, tags::SEGMENT_SEQUENCE)
            .iter()
            .map(|segment| {
                let kind = &items(segment, tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE)[0];
                let modifiers = items(kind, tags::SEGMENTED_PROPERTY_TYPE_MODIFIER_CODE_SEQUENCE);
                modifiers.iter().map(|it| value(it, tags::CODE_VALUE)).collect()
            })
            .collect();
        assert_eq!(sides, [vec!["7771000".to_owned()], Vec::new()]);
        let sr = found(OutputKind::Sr);
        let measurements = items(&sr, tags::CONTENT_SEQUENCE).last().unwrap();
        let groups = items(measurements, tags::CONTENT_SEQUENCE);
        assert_eq!(
            codes(&groups[0])[..3],
            ["121071=272673000", "363698007=272673000", "272741003=7771000"]
        );
        assert!(!codes(&groups[1]).iter().any(|it| it.starts_with("272741003")));
    }

    #[test]
    fn out_31_without_a_site_the_side_is_one_of_the_finding() {
        let mut fixture = Fixture::new();
        fixture.results.findings[0].site = None;
        fixture.results.findings[0].laterality = Some(Laterality::Left);
        let expected = ["121071=72704001", "272741003=7771000", "705057003=272519000"];
        assert_eq!(group(&fixture).0, expected);
    }

    #[test]
    fn out_31_what_became_of_a_finding_is_a_code() {
        let mut fixture = Fixture::new();
        fixture.results.findings[0].change =
            Some(Code::new("260388006", "SCT", "No status change"));
        let expected = [
            "121071=72704001",
            "363698007=272673000",
            "705057003=272519000",
            "288533004=260388006",
        ];
        assert_eq!(group(&fixture).0, expected);
    }

    #[test]
    fn out_14_a_finding_without_a_code_has_a_private_one() {
        let mut fixture = Fixture::new();
        fixture.results.findings[0].code = Code::new("", "", "shadow");
        assert_eq!(group(&fixture).0[0], "121071=finding");
    }
}
