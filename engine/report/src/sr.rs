//! Measurement report: Comprehensive 3D SR with TID 1500 (PS3.16; requirements OUT-30..34).

use contracts::SegmentationForm;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::{Algorithm, Code, Region, ResultSet, Segment, Segmentation};

use crate::content_tree::{
    code, container, dcm, document, evidence, item, language, observers, predecessors, procedure,
    requests, template, text, uid_reference,
};
use crate::dataset::{self, SeriesAbout, Set, common, parameters, reference};
use crate::seg;
use crate::status::{BANNER, Words};
use crate::writing::{About, ReportError, StudyAbout};

pub use domain::sop_class::COMPREHENSIVE_3D_SR as SOP_CLASS;

/// Behind the segmentations of the run.
const SERIES_NUMBER: u32 = 9002;

/// Series and instance of the report of a run, the same on every try (DIN-64).
pub fn uids(results: &ResultSet) -> (String, String) {
    dataset::uids(results, "sr", 0)
}

/// Writes the report of a run.
///
/// # Errors
///
/// Fails if the library cannot write it.
pub fn encode(
    results: &ResultSet,
    about: &About,
    study: &StudyAbout,
    words: Words,
    form: SegmentationForm,
) -> Result<Vec<u8>, ReportError> {
    let (series_uid, instance_uid) = uids(results);
    let series = SeriesAbout {
        modality: "SR",
        uid: &series_uid,
        number: SERIES_NUMBER,
        description: &words.series("measurements"),
        instance: 1,
    };
    let set = common(about, study, &series, (SOP_CLASS, &instance_uid), results)
        .sequence(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Vec::new())
        .sequence(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, Vec::new());
    let set = document(set, results, words);
    let set = evidence(set, results, study, form);
    let set = predecessors(set, about, study, SOP_CLASS);
    let set = requests(set, about, study);
    let set = set
        .text(tags::VALUE_TYPE, VR::CS, "CONTAINER")
        .code(tags::CONCEPT_NAME_CODE_SEQUENCE, &dcm("126000", "Imaging Measurement Report"))
        .text(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE")
        .sequence(tags::CONTENT_TEMPLATE_SEQUENCE, vec![template("1500")])
        .sequence(tags::CONTENT_SEQUENCE, content(results, about, words, form));
    set.to_file(SOP_CLASS, &instance_uid)
}

fn content(results: &ResultSet, about: &About, words: Words, form: SegmentationForm) -> Vec<Set> {
    let reported =
        procedure(about).unwrap_or_else(|| Code::new("18748-4", "LN", "Diagnostic imaging study"));
    let mut items = vec![language()];
    items.extend(observers(results, about));
    items.push(code("HAS CONCEPT MOD", &dcm("121058", "Procedure reported"), &reported));
    if words.needs_banner {
        items.push(text("CONTAINS", &dcm("121106", "Comment"), BANNER));
    }
    let groups = measurement_groups(results, form);
    if !groups.is_empty() {
        items.push(container(&dcm("126010", "Imaging Measurements"), groups));
    }
    let findings: Vec<Set> = results.findings.iter().map(finding).collect();
    if !findings.is_empty() {
        let name = Code::new("C0034375", "UMLS", "Qualitative Evaluations");
        items.push(container(&name, findings));
    }
    items
}

/// What was found or not found, in words (OUT-31).
fn finding(finding: &domain::Finding) -> Set {
    let presence = finding.presence.code();
    let said = format!("{} ({}): {}", finding.code.meaning, presence.meaning, finding.text);
    text("CONTAINS", &dcm("121071", "Finding"), &said)
}

fn measurement_groups(results: &ResultSet, form: SegmentationForm) -> Vec<Set> {
    let mut groups = Vec::new();
    for (index, segmentation) in results.segmentations.iter().enumerate() {
        let (_, uid) = seg::uids(results, index, form);
        for (at, segment) in segmentation.segments.iter().enumerate() {
            let number = u16::try_from(at + 1).unwrap_or(u16::MAX);
            let outlined = reference(form.sop_class(), &uid);
            // An image by itself has a frame for each segment, but for label maps. A frame or a segment is
            // named, not both.
            let is_framed =
                segmentation.geometry.space.is_none() && form != SegmentationForm::Labelmap;
            let outlined = if is_framed {
                outlined.text(tags::REFERENCED_FRAME_NUMBER, VR::IS, &number.to_string())
            } else {
                outlined.short(tags::REFERENCED_SEGMENT_NUMBER, number)
            };
            groups.push(measurement_group(results, segmentation, segment, outlined));
        }
    }
    let regions = results.regions.iter().enumerate();
    groups.extend(regions.map(|(at, it)| planar_group(results, it, at)));
    groups
}

/// By what a marked box is tracked in all encodings of a run.
pub(crate) fn region_name(region: &Region, at: usize) -> String {
    format!("region {} of {}", at + 1, region.instance)
}

/// TID 1410: a box on an image (OUT-30), with the words it was marked with (PAP-07).
fn planar_group(results: &ResultSet, region: &Region, at: usize) -> Set {
    let context = "HAS OBS CONTEXT";
    let name = region_name(region, at);
    let [left, top, right, bottom] = region.corners.map(f64::from);
    let points = [left, top, right, top, right, bottom, left, bottom, left, top];
    let image = reference(region.sop_class.as_str(), region.instance.as_str());
    let image = Set::default()
        .text(tags::RELATIONSHIP_TYPE, VR::CS, "SELECTED FROM")
        .text(tags::VALUE_TYPE, VR::CS, "IMAGE")
        .sequence(tags::REFERENCED_SOP_SEQUENCE, vec![image]);
    let outline = item("CONTAINS", "SCOORD", &dcm("111030", "Image Region"))
        .text(tags::GRAPHIC_TYPE, VR::CS, "POLYLINE")
        .singles(tags::GRAPHIC_DATA, &points)
        .sequence(tags::CONTENT_SEQUENCE, vec![image]);
    let mut items = vec![
        text(context, &dcm("112039", "Tracking Identifier"), &name),
        uid_reference(
            context,
            &dcm("112040", "Tracking Unique Identifier"),
            &results.tracking_uid(&name),
        ),
        // What a label means is not known: it is a code of our own (OUT-14).
        code(
            "CONTAINS",
            &dcm("121071", "Finding"),
            &Code::new("region", "99ISOCENTER", "Region the model cites"),
        ),
        text("CONTAINS", &dcm("121106", "Comment"), &region.label),
    ];
    items.extend(algorithm(&region.algorithm));
    items.push(outline);
    container(&dcm("125007", "Measurement Group"), items)
        .sequence(tags::CONTENT_TEMPLATE_SEQUENCE, vec![template("1410")])
}

/// TID 1411: measurements of a volume; TID 1410 of an image by itself (PS3.16).
fn measurement_group(
    results: &ResultSet,
    segmentation: &Segmentation,
    segment: &Segment,
    outlined: Set,
) -> Set {
    let context = "HAS OBS CONTEXT";
    let tracking = results.tracking_uid(&segment.tracking_id);
    let is_volume = segmentation.geometry.space.is_some();
    let (template_name, reference_name) = if is_volume {
        ("1411", dcm("121191", "Referenced Segment"))
    } else {
        ("1410", dcm("121214", "Referenced Segmentation Frame"))
    };
    let mut items = vec![
        text(context, &dcm("112039", "Tracking Identifier"), &segment.tracking_id),
        uid_reference(context, &dcm("112040", "Tracking Unique Identifier"), &tracking),
        code("CONTAINS", &dcm("121071", "Finding"), &segment.kind),
        item("CONTAINS", "IMAGE", &reference_name)
            .sequence(tags::REFERENCED_SOP_SEQUENCE, vec![outlined]),
        source(segmentation),
    ];
    items.extend(algorithm(&segmentation.algorithm));
    items.extend(segment.measurements.iter().map(measurement));
    container(&dcm("125007", "Measurement Group"), items)
        .sequence(tags::CONTENT_TEMPLATE_SEQUENCE, vec![template(template_name)])
}

/// TID 4019: who measured, and how.
/// What was outlined: the series, or the one image.
fn source(segmentation: &Segmentation) -> Set {
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

fn algorithm(algorithm: &Algorithm) -> Vec<Set> {
    let modifier = "HAS CONCEPT MOD";
    let mut items = vec![
        text(modifier, &dcm("111001", "Algorithm Name"), &algorithm.name),
        text(modifier, &dcm("111003", "Algorithm Version"), &algorithm.version),
    ];
    let parameter = dcm("111002", "Algorithm Parameters");
    items.extend(parameters(algorithm).iter().map(|it| text(modifier, &parameter, it)));
    items.push(code(modifier, &dcm("111000", "Algorithm Family"), &seg::algorithm_family()));
    items
}

fn measurement(measurement: &domain::Measurement) -> Set {
    let value = Set::default()
        .code(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, &measurement.unit)
        .float(tags::FLOATING_POINT_VALUE, measurement.value)
        .decimals(tags::NUMERIC_VALUE, &[measurement.value]);
    item("CONTAINS", "NUM", &measurement.code).sequence(tags::MEASURED_VALUE_SEQUENCE, vec![value])
}
