//! Secondary Capture: copies of images with the findings drawn in (PS3.3, A.8; OUT-50), for viewers
//! that display nothing else. The name of the patient is not drawn.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::{Code, ResultSet, Segmentation, SopInstanceUid, sop_class};
use imaging::{FlatMask, Picture, annotation};

use crate::dicom::dataset::{Object, ObjectHeader, ObjectUids, code_item, reference};
use crate::input::{ReportError, ReportInput, StudyDescription};
use crate::layout::lettering::{Line, draw_lines};

/// Series Number after the reports of the run.
const SERIES_NUMBER: u32 = 9005;

/// The colour of the banner: yellow.
const BANNER_COLOUR: [u8; 3] = [255, 255, 0];

/// An image that findings are drawn into.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyImage {
    /// SOP Instance UID.
    pub instance: SopInstanceUid,
    /// SOP Class UID.
    pub sop_class: String,
}

/// The images to draw into: of every segmentation the slice with the most marked pixels, and every
/// image with a region. `masks` are those of the segments, by their SHA-256.
pub fn key_images(results: &ResultSet, masks: &BTreeMap<String, Vec<u8>>) -> Vec<KeyImage> {
    let mut images = Vec::new();
    for segmentation in &results.segmentations {
        let geometry = &segmentation.geometry;
        let slice = fullest_slice(segmentation, masks);
        let instance = slice.and_then(|slice| geometry.instances.get(slice));
        images.extend(instance.map(|instance| KeyImage {
            instance: instance.clone(),
            sop_class: geometry.sop_class.to_string(),
        }));
    }
    images.extend(results.regions.iter().map(|region| KeyImage {
        instance: region.instance.clone(),
        sop_class: region.sop_class.to_string(),
    }));
    images.sort();
    images.dedup();
    images
}

/// The slice with the most pixels in a segment, the first of several. `None`, if there is no pixel.
fn fullest_slice(segmentation: &Segmentation, masks: &BTreeMap<String, Vec<u8>>) -> Option<usize> {
    let counts = (0..segmentation.geometry.slices())
        .map(|slice| (marked_pixels(segmentation, masks, slice), Reverse(slice)));
    counts.max().filter(|(count, _)| *count > 0).map(|(_, slice)| slice.0)
}

/// The pixels of a slice that are in a segment, counted for each segment.
fn marked_pixels(
    segmentation: &Segmentation,
    masks: &BTreeMap<String, Vec<u8>>,
    slice: usize,
) -> usize {
    let pixels = segmentation.geometry.pixels();
    let masks = segmentation.segments.iter().filter_map(|it| masks.get(&it.mask.sha256));
    masks
        .map(|mask| {
            let range = slice * pixels..(slice + 1) * pixels;
            range.filter(|at| encoding::bits::is_set(mask, *at)).count()
        })
        .sum()
}

/// Whether every image to draw into can be decoded.
///
/// # Errors
///
/// Fails with the first that cannot.
pub(crate) fn check_decodable(input: &ReportInput<'_>) -> Result<(), ReportError> {
    let Some((instance, reason)) = input.undecodable.first_key_value() else { return Ok(()) };
    let instance = instance.to_string();
    Err(ReportError::ImageUndecodable { instance, reason: reason.clone() })
}

/// Encodes a capture of every key image of a run that can be decoded.
///
/// # Errors
///
/// Fails if an image is missing, or the library cannot encode an object.
pub(crate) fn encode(
    input: &ReportInput<'_>,
    study: &StudyDescription,
) -> Result<Vec<Object>, ReportError> {
    // The number of an image does not depend on whether others can be decoded.
    let images = key_images(input.results, input.masks).into_iter().enumerate();
    let decoded = images.filter(|(_, it)| !input.undecodable.contains_key(&it.instance));
    decoded.map(|(index, image)| encode_image(input, study, index, &image)).collect()
}

fn encode_image(
    input: &ReportInput<'_>,
    study: &StudyDescription,
    index: usize,
    image: &KeyImage,
) -> Result<Object, ReportError> {
    let picture = captured(input, image)?;
    let header = ObjectHeader {
        sop_class: sop_class::SECONDARY_CAPTURE,
        uids: ObjectUids::derive(input.results, "sc", index),
        modality: "OT",
        series_number: SERIES_NUMBER,
        series_description: &input.status.series_description("overlay"),
        index,
    };
    let purpose = Code::new("121322", "DCM", "Source image for image processing operation");
    let source = reference(&image.sop_class, image.instance.as_str())
        .sequence(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, vec![code_item(&purpose)]);
    let mut pixels = picture.rgb;
    pixels.resize(pixels.len().next_multiple_of(2), 0);
    let set = header
        .data_set(input, study)
        .text(tags::CONVERSION_TYPE, VR::CS, "WSD")
        .texts(tags::IMAGE_TYPE, VR::CS, &["DERIVED".to_owned(), "SECONDARY".to_owned()])
        .text(tags::DERIVATION_DESCRIPTION, VR::ST, "what was found, drawn into the image")
        .text(tags::BURNED_IN_ANNOTATION, VR::CS, "YES")
        .text(tags::PATIENT_ORIENTATION, VR::CS, "")
        .text(tags::LATERALITY, VR::CS, "")
        .sequence(tags::SOURCE_IMAGE_SEQUENCE, vec![source])
        .short(tags::SAMPLES_PER_PIXEL, 3)
        .text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB")
        .short(tags::PLANAR_CONFIGURATION, 0)
        .short(tags::ROWS, u16::try_from(picture.height).unwrap_or(u16::MAX))
        .short(tags::COLUMNS, u16::try_from(picture.width).unwrap_or(u16::MAX))
        .short(tags::BITS_ALLOCATED, 8)
        .short(tags::BITS_STORED, 8)
        .short(tags::HIGH_BIT, 7)
        .short(tags::PIXEL_REPRESENTATION, 0)
        .bytes(tags::PIXEL_DATA, VR::OB, pixels);
    header.object(&set)
}

/// The image with the findings, their legend and the banner.
fn captured(input: &ReportInput<'_>, image: &KeyImage) -> Result<Picture, ReportError> {
    let picture = input.pictures.get(&image.instance);
    let mut picture = picture.cloned().ok_or(ReportError::ImageMissing)?;
    let legend = draw_findings(&mut picture, input, image)?;
    let label = input.fonts.printable_label(input.label());
    let banner = if label.is_empty() { "Signed" } else { label };
    let mut lines = vec![Line { text: banner.to_owned(), colour: BANNER_COLOUR }];
    lines.extend(legend);
    draw_lines(&mut picture, &lines, input.fonts)?;
    Ok(picture)
}

/// Draws masks and boxes. Returns the legend: the label of each in its colour.
fn draw_findings(
    picture: &mut Picture,
    input: &ReportInput<'_>,
    image: &KeyImage,
) -> Result<Vec<Line>, ReportError> {
    let mut legend = Vec::new();
    let Picture { width, height, .. } = *picture;
    for segmentation in &input.results.segmentations {
        let geometry = &segmentation.geometry;
        let slice = geometry.instances.iter().position(|it| *it == image.instance);
        let Some(slice) = slice else { continue };
        if (geometry.columns, geometry.rows) != (width, height) {
            return Err(ReportError::MaskMissing);
        }
        for segment in &segmentation.segments {
            let mask = input.masks.get(&segment.mask.sha256).ok_or(ReportError::MaskMissing)?;
            let count = geometry.pixels();
            let range = slice * count..(slice + 1) * count;
            let pixels: Vec<bool> = range.map(|at| encoding::bits::is_set(mask, at)).collect();
            // The legend has what is seen: of many lesions, few are on one slice.
            if !pixels.contains(&true) {
                continue;
            }
            let colour = annotation::colour(legend.len());
            annotation::tint_mask(picture, &FlatMask { height, width, pixels }, colour);
            legend.push(Line { text: segment.label.clone(), colour });
        }
    }
    for region in input.results.regions.iter().filter(|it| it.instance == image.instance) {
        let colour = annotation::colour(legend.len());
        annotation::draw_box(picture, region.corners, colour);
        legend.push(Line { text: region.label.clone(), colour });
    }
    Ok(legend)
}

#[cfg(test)]
mod tests {
    use domain::OutputKind;

    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn an_image_to_draw_into_that_is_missing_is_refused() {
        let mut fixture = Fixture::new();
        fixture.pictures.clear();
        assert!(matches!(fixture.compose(&[OutputKind::Sc]), Err(ReportError::ImageMissing)));
    }

    #[test]
    fn sec_24_an_image_that_cannot_be_decoded_is_left_out_and_the_rest_is_as_before() {
        let mut fixture = Fixture::new();
        let all = fixture.compose(&[OutputKind::Seg, OutputKind::Sc]).unwrap();
        let instances: Vec<SopInstanceUid> = fixture.pictures.keys().cloned().collect();
        for (index, instance) in instances.iter().enumerate() {
            let mut fixture = fixture.clone();
            fixture.pictures.remove(instance);
            fixture.undecodable.insert(instance.clone(), "it is a bomb".to_owned());
            let mut expected = all.clone();
            let captures = expected.iter().position(|it| it.kind == OutputKind::Sc).unwrap();
            expected.remove(captures + index);
            assert_eq!(fixture.compose(&[OutputKind::Seg, OutputKind::Sc]).unwrap(), expected);
        }
        for instance in instances {
            fixture.undecodable.insert(instance, "it is a bomb".to_owned());
        }
        let kinds: Vec<OutputKind> = fixture
            .compose(&[OutputKind::Seg, OutputKind::Sc])
            .unwrap()
            .iter()
            .map(|it| it.kind)
            .collect();
        assert!(!kinds.contains(&OutputKind::Sc) && !kinds.is_empty());
        let error = fixture.compose(&[OutputKind::Sc]).unwrap_err();
        assert!(error.to_string().ends_with("cannot be drawn into: it is a bomb"), "{error}");
    }
}
