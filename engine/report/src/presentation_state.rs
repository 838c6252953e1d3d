//! Boxes and their labels over the images they were drawn on: Grayscale Softcopy Presentation State (PS3.3,
//! A.33.1; OUT-52). One for each series and size of image.

use std::collections::BTreeMap;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::Region;

use crate::dataset::{self, SeriesAbout, Set, common, date, made_at, reference, time};
use crate::status::BANNER;
use crate::writing::{ReportError, StudyAbout, Writing};

/// Grayscale Softcopy Presentation State Storage.
pub(crate) const SOP_CLASS: &str = "1.2.840.10008.5.1.4.1.1.11.1";

/// Behind the reports of the run.
const SERIES_NUMBER: u32 = 9004;

/// What all boxes are drawn in.
const LAYER: &str = "AI";

/// Boxes on images of one series and one size.
pub(crate) struct Group<'a> {
    series: &'a str,
    size: [u32; 2],
    regions: Vec<&'a Region>,
}

/// The boxes of a run, by series and size of image.
pub(crate) fn groups<'a>(writing: &Writing<'a>) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<(&str, [u32; 2]), Vec<&Region>> = BTreeMap::new();
    for it in &writing.results.regions {
        groups.entry((it.series.as_str(), it.size)).or_default().push(it);
    }
    let group = |((series, size), regions)| Group { series, size, regions };
    groups.into_iter().map(group).collect()
}

/// Series and instance of a state (DIN-64).
pub(crate) fn uids(writing: &Writing<'_>, index: usize) -> (String, String) {
    dataset::uids(writing.results, "pr", index)
}

/// Writes the state of a group.
///
/// # Errors
///
/// Fails if the library cannot write it.
pub(crate) fn encode(
    writing: &Writing<'_>,
    study: &StudyAbout,
    index: usize,
    group: &Group<'_>,
) -> Result<Vec<u8>, ReportError> {
    let Writing { results, about, words, .. } = writing;
    let (series_uid, instance_uid) = uids(writing, index);
    let series = SeriesAbout {
        modality: "PR",
        uid: &series_uid,
        number: SERIES_NUMBER,
        description: &words.series("regions"),
        instance: u32::try_from(index + 1).unwrap_or(u32::MAX),
    };
    let at = made_at(results);
    let creator = results.attested.as_ref().map(|it| it.by.dicom_name()).unwrap_or_default();
    let layer = Set::default()
        .text(tags::GRAPHIC_LAYER, VR::CS, LAYER)
        .text(tags::GRAPHIC_LAYER_ORDER, VR::IS, "1")
        .text(tags::GRAPHIC_LAYER_DESCRIPTION, VR::LO, "Regions the model cited");
    let of_series = Set::default()
        .text(tags::SERIES_INSTANCE_UID, VR::UI, group.series)
        .sequence(tags::REFERENCED_IMAGE_SEQUENCE, images(group));
    let banner = words.needs_banner.then_some(BANNER);
    common(about, study, &series, (SOP_CLASS, &instance_uid), results)
        .text(tags::LATERALITY, VR::CS, "")
        .text(tags::CONTENT_LABEL, VR::CS, "AI_REGIONS")
        .text(tags::CONTENT_DESCRIPTION, VR::LO, banner.unwrap_or_default())
        .text(tags::PRESENTATION_CREATION_DATE, VR::DA, &date(at))
        .text(tags::PRESENTATION_CREATION_TIME, VR::TM, &time(at))
        .text(tags::CONTENT_CREATOR_NAME, VR::PN, &creator)
        .sequence(tags::REFERENCED_SERIES_SEQUENCE, vec![of_series])
        .sequence(tags::DISPLAYED_AREA_SELECTION_SEQUENCE, vec![whole(group)])
        .sequence(tags::GRAPHIC_ANNOTATION_SEQUENCE, annotations(group, banner))
        .sequence(tags::GRAPHIC_LAYER_SEQUENCE, vec![layer])
        .text(tags::PRESENTATION_LUT_SHAPE, VR::CS, "IDENTITY")
        .to_file(SOP_CLASS, &instance_uid)
}

/// The images of a group, each once.
fn images(group: &Group<'_>) -> Vec<Set> {
    let all: BTreeMap<&str, &str> =
        group.regions.iter().map(|it| (it.instance.as_str(), it.sop_class.as_str())).collect();
    all.into_iter().map(|(instance, class)| reference(class, instance)).collect()
}

/// All of each image. Corners here are pixels, the first being 1, 1.
fn whole(group: &Group<'_>) -> Set {
    let corner = |it: u32| i32::try_from(it).unwrap_or(i32::MAX);
    Set::default()
        .sequence(tags::REFERENCED_IMAGE_SEQUENCE, images(group))
        .signed(tags::DISPLAYED_AREA_TOP_LEFT_HAND_CORNER, &[1, 1])
        .signed(tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER, &group.size.map(corner))
        .text(tags::PRESENTATION_SIZE_MODE, VR::CS, "SCALE TO FIT")
        .texts(tags::PRESENTATION_PIXEL_ASPECT_RATIO, VR::IS, &["1".to_owned(), "1".to_owned()])
}

/// A box and its label for each region; the banner once an image.
fn annotations(group: &Group<'_>, banner: Option<&str>) -> Vec<Set> {
    let mut by_image: BTreeMap<&str, Vec<&Region>> = BTreeMap::new();
    for it in &group.regions {
        by_image.entry(it.instance.as_str()).or_default().push(it);
    }
    let annotation = |(instance, regions): (&str, Vec<&Region>)| {
        let class = regions.first().map(|it| it.sop_class.as_str()).unwrap_or_default();
        let corners = |it: &&Region| it.corners.map(f64::from);
        let mut texts: Vec<Set> = regions
            .iter()
            .map(|it| {
                let [left, top, ..] = corners(it);
                written(&it.label, [left, top])
            })
            .collect();
        texts.extend(banner.map(|it| written(it, [0.0, 0.0])));
        let boxes = regions.iter().map(|it| boxed(corners(it))).collect();
        Set::default()
            .sequence(tags::REFERENCED_IMAGE_SEQUENCE, vec![reference(class, instance)])
            .text(tags::GRAPHIC_LAYER, VR::CS, LAYER)
            .sequence(tags::TEXT_OBJECT_SEQUENCE, texts)
            .sequence(tags::GRAPHIC_OBJECT_SEQUENCE, boxes)
    };
    by_image.into_iter().map(annotation).collect()
}

fn written(label: &str, at: [f64; 2]) -> Set {
    Set::default()
        .text(tags::ANCHOR_POINT_ANNOTATION_UNITS, VR::CS, "PIXEL")
        .text(tags::UNFORMATTED_TEXT_VALUE, VR::ST, label)
        .singles(tags::ANCHOR_POINT, &at)
        .text(tags::ANCHOR_POINT_VISIBILITY, VR::CS, "N")
}

fn boxed([left, top, right, bottom]: [f64; 4]) -> Set {
    let points = [left, top, right, top, right, bottom, left, bottom, left, top];
    Set::default()
        .text(tags::GRAPHIC_ANNOTATION_UNITS, VR::CS, "PIXEL")
        .short(tags::GRAPHIC_DIMENSIONS, 2)
        .short(tags::NUMBER_OF_GRAPHIC_POINTS, 5)
        .singles(tags::GRAPHIC_DATA, &points)
        .text(tags::GRAPHIC_TYPE, VR::CS, "POLYLINE")
        .text(tags::GRAPHIC_FILLED, VR::CS, "N")
}
