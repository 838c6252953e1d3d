//! What was found, drawn into copies of the images: Secondary Capture (PS3.3, A.8; OUT-50), for viewers that
//! know nothing else. The patient's name is not drawn.

use std::collections::BTreeMap;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use domain::{Code, Segmentation, SopInstanceUid};
use imaging::{FlatMask, Picture, annotation};

use crate::dataset::{self, SeriesAbout, code_item, common, reference};
use crate::lettering::write;
use crate::status::BANNER;
use crate::writing::{ReportError, StudyAbout, Writing};

/// Secondary Capture Image Storage.
pub const SOP_CLASS: &str = "1.2.840.10008.5.1.4.1.1.7";

/// Behind the reports of the run.
const SERIES_NUMBER: u32 = 9005;

/// An image that something is drawn into.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyImage {
    /// Which.
    pub instance: SopInstanceUid,
    /// What kind of object.
    pub sop_class: String,
}

/// The images that are worth a picture: of every segmentation the slice with most in it, and every image
/// with a region. `masks` are those of the segments, by their digest.
pub fn key_images(results: &domain::ResultSet, masks: &BTreeMap<String, Vec<u8>>) -> Vec<KeyImage> {
    let mut images = Vec::new();
    for it in &results.segmentations {
        let instance = fullest(it, masks).and_then(|slice| it.geometry.instances.get(slice));
        images.extend(instance.map(|instance| KeyImage {
            instance: instance.clone(),
            sop_class: it.geometry.sop_class.to_string(),
        }));
    }
    images.extend(
        results.regions.iter().map(|it| KeyImage {
            instance: it.instance.clone(),
            sop_class: it.sop_class.to_string(),
        }),
    );
    images.sort();
    images.dedup();
    images
}

fn fullest(segmentation: &Segmentation, masks: &BTreeMap<String, Vec<u8>>) -> Option<usize> {
    let pixels = segmentation.geometry.pixels();
    let count = |slice: usize| {
        let masks = segmentation.segments.iter().filter_map(|it| masks.get(&it.mask.sha256));
        let bits = |mask: &Vec<u8>| {
            let range = slice * pixels..(slice + 1) * pixels;
            range.filter(|at| encoding::bits::is_set(mask, *at)).count()
        };
        masks.map(bits).sum::<usize>()
    };
    let counts = (0..segmentation.geometry.slices()).map(|it| (count(it), std::cmp::Reverse(it)));
    counts.max().filter(|(most, _)| *most > 0).map(|(_, slice)| slice.0)
}

/// Series and instance of a picture (DIN-64).
pub(crate) fn uids(writing: &Writing<'_>, index: usize) -> (String, String) {
    dataset::uids(writing.results, "sc", index)
}

/// Writes the picture of an image with everything that was found in it.
///
/// # Errors
///
/// Fails if the image is not there, or the library cannot write it.
pub(crate) fn encode(
    writing: &Writing<'_>,
    study: &StudyAbout,
    index: usize,
    image: &KeyImage,
) -> Result<Vec<u8>, ReportError> {
    let Writing { results, about, words, .. } = writing;
    let mut picture =
        writing.pictures.get(&image.instance).cloned().ok_or(ReportError::ImageMissing)?;
    let legend = draw(&mut picture, writing, image)?;
    let banner = if words.needs_banner { BANNER } else { "Signed" };
    let lines: Vec<(&str, [u8; 3])> = std::iter::once((banner, [255, 255, 0]))
        .chain(legend.iter().map(|(name, colour)| (name.as_str(), *colour)))
        .collect();
    write(&mut picture, &lines, writing.fonts)?;
    let (series_uid, instance_uid) = uids(writing, index);
    let series = SeriesAbout {
        modality: "OT",
        uid: &series_uid,
        number: SERIES_NUMBER,
        description: &words.series("overlay"),
        instance: u32::try_from(index + 1).unwrap_or(u32::MAX),
    };
    let size = |it: u32| u16::try_from(it).unwrap_or(u16::MAX);
    let purpose = Code::new("121322", "DCM", "Source image for image processing operation");
    let source = reference(&image.sop_class, image.instance.as_str())
        .sequence(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, vec![code_item(&purpose)]);
    let mut pixels = picture.rgb;
    pixels.resize(pixels.len().next_multiple_of(2), 0);
    common(about, study, &series, (SOP_CLASS, &instance_uid), results)
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
        .short(tags::ROWS, size(picture.height))
        .short(tags::COLUMNS, size(picture.width))
        .short(tags::BITS_ALLOCATED, 8)
        .short(tags::BITS_STORED, 8)
        .short(tags::HIGH_BIT, 7)
        .short(tags::PIXEL_REPRESENTATION, 0)
        .bytes(tags::PIXEL_DATA, VR::OB, pixels)
        .to_file(SOP_CLASS, &instance_uid)
}

/// Draws masks and boxes, and says which colour is what.
fn draw(
    picture: &mut Picture,
    writing: &Writing<'_>,
    image: &KeyImage,
) -> Result<Vec<(String, [u8; 3])>, ReportError> {
    let mut legend = Vec::new();
    let (width, height) = (picture.width, picture.height);
    for it in &writing.results.segmentations {
        let slice = it.geometry.instances.iter().position(|it| *it == image.instance);
        let Some(slice) = slice else { continue };
        if (it.geometry.columns, it.geometry.rows) != (width, height) {
            return Err(ReportError::MaskMissing);
        }
        for segment in &it.segments {
            let mask = writing.masks.get(&segment.mask.sha256).ok_or(ReportError::MaskMissing)?;
            let pixels = it.geometry.pixels();
            let range = slice * pixels..(slice + 1) * pixels;
            let pixels = range.map(|at| encoding::bits::is_set(mask, at)).collect();
            let colour = annotation::colour(legend.len());
            annotation::tint_mask(picture, &FlatMask { height, width, pixels }, colour);
            legend.push((segment.label.clone(), colour));
        }
    }
    for it in writing.results.regions.iter().filter(|it| it.instance == image.instance) {
        let colour = annotation::colour(legend.len());
        annotation::draw_box(picture, it.corners, colour);
        legend.push((it.label.clone(), colour));
    }
    Ok(legend)
}
