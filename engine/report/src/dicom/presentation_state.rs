//! Grayscale Softcopy Presentation State: boxes and their labels over the images they were marked on
//! (PS3.3, A.33.1; OUT-52). One object for each series and size of image.

use std::collections::BTreeMap;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::{Region, sop_class};

use crate::dicom::dataset::{DataSet, Object, ObjectHeader, ObjectUids, date, reference, time};
use crate::input::{ReportError, ReportInput, StudyDescription};

/// Series Number after the reports of the run.
const SERIES_NUMBER: u32 = 9004;

/// The graphic layer of all boxes.
const LAYER: &str = "AI";

/// Boxes on images of one series and one size.
struct Group<'a> {
    series: &'a str,
    /// Columns and rows of the images.
    size: [u32; 2],
    regions: Vec<&'a Region>,
}

/// The boxes of a run, by series and size of image.
fn groups<'a>(input: &ReportInput<'a>) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<(&str, [u32; 2]), Vec<&Region>> = BTreeMap::new();
    for region in &input.results.regions {
        groups.entry((region.series.as_str(), region.size)).or_default().push(region);
    }
    let groups = groups.into_iter();
    groups.map(|((series, size), regions)| Group { series, size, regions }).collect()
}

/// Encodes the states of a run.
///
/// # Errors
///
/// Fails if the library cannot encode an object.
pub(crate) fn encode(
    input: &ReportInput<'_>,
    study: &StudyDescription,
) -> Result<Vec<Object>, ReportError> {
    let groups = groups(input).into_iter().enumerate();
    groups.map(|(index, group)| encode_group(input, study, index, &group)).collect()
}

fn encode_group(
    input: &ReportInput<'_>,
    study: &StudyDescription,
    index: usize,
    group: &Group<'_>,
) -> Result<Object, ReportError> {
    let ReportInput { results, status, .. } = input;
    let header = ObjectHeader {
        sop_class: sop_class::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE,
        uids: ObjectUids::derive(results, "pr", index),
        modality: "PR",
        series_number: SERIES_NUMBER,
        series_description: &status.series_description("regions"),
        index,
    };
    let created = input.created_at();
    let creator = results.attested.as_ref().map(|it| it.by.dicom_name()).unwrap_or_default();
    let layer = DataSet::default()
        .text(tags::GRAPHIC_LAYER, VR::CS, LAYER)
        .text(tags::GRAPHIC_LAYER_ORDER, VR::IS, "1")
        .text(tags::GRAPHIC_LAYER_DESCRIPTION, VR::LO, "Regions the model cited");
    let series = DataSet::default()
        .text(tags::SERIES_INSTANCE_UID, VR::UI, group.series)
        .sequence(tags::REFERENCED_IMAGE_SEQUENCE, images(group));
    let banner = status.needs_banner.then_some(input.label());
    let set = header
        .data_set(input, study)
        .text(tags::LATERALITY, VR::CS, "")
        .text(tags::CONTENT_LABEL, VR::CS, "AI_REGIONS")
        .text(tags::CONTENT_DESCRIPTION, VR::LO, banner.unwrap_or_default())
        .text(tags::PRESENTATION_CREATION_DATE, VR::DA, &date(created))
        .text(tags::PRESENTATION_CREATION_TIME, VR::TM, &time(created))
        .text(tags::CONTENT_CREATOR_NAME, VR::PN, &creator)
        .sequence(tags::REFERENCED_SERIES_SEQUENCE, vec![series])
        .sequence(tags::DISPLAYED_AREA_SELECTION_SEQUENCE, vec![displayed_area(group)])
        .sequence(tags::GRAPHIC_ANNOTATION_SEQUENCE, annotations(group, banner))
        .sequence(tags::GRAPHIC_LAYER_SEQUENCE, vec![layer])
        .text(tags::PRESENTATION_LUT_SHAPE, VR::CS, "IDENTITY");
    header.object(&set)
}

/// The images of a group, each once.
fn images(group: &Group<'_>) -> Vec<DataSet> {
    let all: BTreeMap<&str, &str> =
        group.regions.iter().map(|it| (it.instance.as_str(), it.sop_class.as_str())).collect();
    all.into_iter().map(|(instance, class)| reference(class, instance)).collect()
}

/// The whole of each image. Corners are pixels here, the first being 1, 1 (PS3.3, C.10.4).
fn displayed_area(group: &Group<'_>) -> DataSet {
    let size = group.size.map(|side| i32::try_from(side).unwrap_or(i32::MAX));
    DataSet::default()
        .sequence(tags::REFERENCED_IMAGE_SEQUENCE, images(group))
        .signed(tags::DISPLAYED_AREA_TOP_LEFT_HAND_CORNER, &[1, 1])
        .signed(tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER, &size)
        .text(tags::PRESENTATION_SIZE_MODE, VR::CS, "SCALE TO FIT")
        .texts(tags::PRESENTATION_PIXEL_ASPECT_RATIO, VR::IS, &["1".to_owned(), "1".to_owned()])
}

/// A box and its label for each region; the banner once per image.
fn annotations(group: &Group<'_>, banner: Option<&str>) -> Vec<DataSet> {
    let mut by_image: BTreeMap<&str, Vec<&Region>> = BTreeMap::new();
    for region in &group.regions {
        by_image.entry(region.instance.as_str()).or_default().push(region);
    }
    by_image.into_iter().map(|(image, regions)| annotation(image, &regions, banner)).collect()
}

fn annotation(instance: &str, regions: &[&Region], banner: Option<&str>) -> DataSet {
    let class = regions.first().map(|it| it.sop_class.as_str()).unwrap_or_default();
    let mut texts = Vec::new();
    let mut boxes = Vec::new();
    for region in regions {
        let corners = region.corners.map(f64::from);
        let [left, top, ..] = corners;
        texts.push(text_object(&region.label, [left, top]));
        boxes.push(box_object(corners));
    }
    texts.extend(banner.map(|banner| text_object(banner, [0.0, 0.0])));
    DataSet::default()
        .sequence(tags::REFERENCED_IMAGE_SEQUENCE, vec![reference(class, instance)])
        .text(tags::GRAPHIC_LAYER, VR::CS, LAYER)
        .sequence(tags::TEXT_OBJECT_SEQUENCE, texts)
        .sequence(tags::GRAPHIC_OBJECT_SEQUENCE, boxes)
}

fn text_object(label: &str, at: [f64; 2]) -> DataSet {
    DataSet::default()
        .text(tags::ANCHOR_POINT_ANNOTATION_UNITS, VR::CS, "PIXEL")
        .text(tags::UNFORMATTED_TEXT_VALUE, VR::ST, label)
        .singles(tags::ANCHOR_POINT, &at)
        .text(tags::ANCHOR_POINT_VISIBILITY, VR::CS, "N")
}

fn box_object([left, top, right, bottom]: [f64; 4]) -> DataSet {
    let points = [left, top, right, top, right, bottom, left, bottom, left, top];
    DataSet::default()
        .text(tags::GRAPHIC_ANNOTATION_UNITS, VR::CS, "PIXEL")
        .short(tags::GRAPHIC_DIMENSIONS, 2)
        .short(tags::NUMBER_OF_GRAPHIC_POINTS, 5)
        .singles(tags::GRAPHIC_DATA, &points)
        .text(tags::GRAPHIC_TYPE, VR::CS, "POLYLINE")
        .text(tags::GRAPHIC_FILLED, VR::CS, "N")
}
