//! Masks out of segmentation objects that others made (PS3.3, A.51): which pixels of which image belong to
//! what is tracked by which UID.

use std::collections::BTreeMap;
use std::path::Path;

use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, OpenFileOptions};

use crate::items::{items, word};
use crate::slice::{SliceError, integer, text};

/// Most pixels of all frames together: a segment on a whole body.
const PIXELS_MAX: u64 = 2 << 30;

/// What somebody outlined, image by image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Tracking UID (0062,0021).
    pub tracking_uid: String,
    /// Segment Label.
    pub label: String,
    /// Rows and columns of its images.
    pub size: [u32; 2],
    /// A flag a pixel, by SOP Instance UID of the image.
    pub images: BTreeMap<String, Vec<bool>>,
}

/// The tracked segments of a file. Frames that do not say of which image they are, are left out.
///
/// # Errors
///
/// Says what is wrong with the file: compressed, or other lengths than it says.
pub fn read(path: &Path) -> Result<Vec<Returned>, SliceError> {
    let file = OpenFileOptions::new()
        .open_file(path)
        .map_err(|error| SliceError::Unreadable(Box::new(error)))?;
    let (rows, columns) =
        (integer(&file, tags::ROWS, "Rows")?, integer(&file, tags::COLUMNS, "Columns")?);
    let bits = integer(&file, tags::BITS_ALLOCATED, "Bits Allocated")?;
    let frames = items(&file, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    let pixels = u64::from(rows) * u64::from(columns);
    let not = |what: &str| SliceError::NotASlice { what: what.to_owned() };
    if pixels == 0 || pixels.saturating_mul(frames.len() as u64) > PIXELS_MAX {
        return Err(not("its frames are beyond the limit"));
    }
    let data = file.element(tags::PIXEL_DATA).ok().and_then(|it| it.to_bytes().ok());
    let data = data.ok_or_else(|| not("its pixels are compressed or missing"))?;
    let expected = (pixels * frames.len() as u64 * u64::from(bits)).div_ceil(8);
    if !matches!(bits, 1 | 8) || (data.len() as u64) < expected {
        return Err(not("its pixels are not as many as it says"));
    }
    let is_labels = text(&file, tags::SEGMENTATION_TYPE).is_some_and(|it| it == "LABELMAP");
    let mut all: Vec<(u32, Returned)> = Vec::new();
    for it in items(&file, tags::SEGMENT_SEQUENCE) {
        let Some(tracking_uid) = word(it, tags::TRACKING_UID) else { continue };
        let label = word(it, tags::SEGMENT_LABEL).unwrap_or_default();
        let number = number(it, tags::SEGMENT_NUMBER);
        let size = [rows, columns];
        all.push((number, Returned { tracking_uid, label, size, images: BTreeMap::new() }));
    }
    let pixels = usize::try_from(pixels).map_err(|_| not("its frames are beyond the limit"))?;
    for (index, frame) in frames.iter().enumerate() {
        let Some(image) = source(frame) else { continue };
        let of = items(frame, tags::SEGMENT_IDENTIFICATION_SEQUENCE)
            .first()
            .map_or(0, |it| number(it, tags::REFERENCED_SEGMENT_NUMBER));
        for (number, segment) in &mut all {
            if !is_labels && *number != of {
                continue;
            }
            let is_set = |at: usize| match bits {
                1 => encoding::bits::is_set(&data, index * pixels + at),
                _ => data.get(index * pixels + at).is_some_and(|it| {
                    if is_labels { u32::from(*it) == *number } else { *it > u8::MAX / 2 }
                }),
            };
            let kept = segment.images.entry(image.clone()).or_insert_with(|| vec![false; pixels]);
            for (at, flag) in kept.iter_mut().enumerate() {
                *flag |= is_set(at);
            }
        }
    }
    Ok(all.into_iter().map(|(_, it)| it).collect())
}

fn number(object: &InMemDicomObject, tag: dicom_core::Tag) -> u32 {
    object.element(tag).ok().and_then(|it| it.to_int().ok()).unwrap_or_default()
}

/// The image a frame was drawn on.
fn source(frame: &InMemDicomObject) -> Option<String> {
    let derivation = items(frame, tags::DERIVATION_IMAGE_SEQUENCE).first()?;
    let image = items(derivation, tags::SOURCE_IMAGE_SEQUENCE).first()?;
    word(image, tags::REFERENCED_SOP_INSTANCE_UID)
}
