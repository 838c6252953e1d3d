//! Reads masks out of DICOM Segmentation objects of other systems (PS3.3, A.51): for each tracked
//! segment, its pixels on each image. Used for corrections that a reader sends back.

use std::borrow::Cow;
use std::collections::BTreeMap;

use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, InMemDicomObject};

use crate::image_attributes::{SliceError, integer, text};
use crate::object_reader;
use crate::sequence_items::{self, items};

/// Upper bound of the pixels of all frames together: a segment on a whole body.
const PIXELS_MAX: u64 = 2 << 30;

/// A segment that is tracked by a UID, with its masks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedSegment {
    /// Tracking UID (0062,0021).
    pub tracking_uid: String,
    /// Segment Label (0062,0005).
    pub label: String,
    /// Rows and columns of the masks.
    pub size: [u32; 2],
    /// One flag per pixel, by SOP Instance UID of the image.
    pub images: BTreeMap<String, Vec<bool>>,
}

/// Reads the tracked segments of a file. Frames without a reference to an image are left out, and
/// so are segments without a Tracking UID.
///
/// # Errors
///
/// Fails if the file cannot be parsed, if its pixels are compressed, or if their length does not
/// match.
pub fn read(file: &[u8]) -> Result<Vec<TrackedSegment>, SliceError> {
    let file = object_reader::read(file)?;
    let rows = integer(&file, tags::ROWS, "Rows")?;
    let columns = integer(&file, tags::COLUMNS, "Columns")?;
    let frames = items(&file, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    let data = FrameData::read(&file, u64::from(rows) * u64::from(columns), frames.len())?;
    let mut segments = declared_segments(&file, [rows, columns]);
    for (index, frame) in frames.iter().enumerate() {
        let Some(image) = source_image(frame) else { continue };
        let frame_segment = items(frame, tags::SEGMENT_IDENTIFICATION_SEQUENCE)
            .first()
            .map_or(0, |it| number(it, tags::REFERENCED_SEGMENT_NUMBER));
        for NumberedSegment { number, segment } in &mut segments {
            if !data.is_label_map && *number != frame_segment {
                continue;
            }
            let mask = segment
                .images
                .entry(image.clone())
                .or_insert_with(|| vec![false; data.pixels_per_frame]);
            for (at, flag) in mask.iter_mut().enumerate() {
                *flag |= data.is_set(index, at, *number);
            }
        }
    }
    Ok(segments.into_iter().map(|it| it.segment).collect())
}

/// A segment with its number in the object.
struct NumberedSegment {
    number: u32,
    segment: TrackedSegment,
}

/// The segments of an object that have a Tracking UID, without masks.
fn declared_segments(file: &InMemDicomObject, size: [u32; 2]) -> Vec<NumberedSegment> {
    let mut segments = Vec::new();
    for item in items(file, tags::SEGMENT_SEQUENCE) {
        let Some(tracking_uid) = sequence_items::text(item, tags::TRACKING_UID) else { continue };
        let label = sequence_items::text(item, tags::SEGMENT_LABEL).unwrap_or_default();
        let segment = TrackedSegment { tracking_uid, label, size, images: BTreeMap::new() };
        segments.push(NumberedSegment { number: number(item, tags::SEGMENT_NUMBER), segment });
    }
    segments
}

/// The pixels of all frames, as they are in the file.
struct FrameData<'a> {
    bytes: Cow<'a, [u8]>,
    /// Bits Allocated (0028,0100): 1 or 8.
    bits: u32,
    pixels_per_frame: usize,
    /// Segmentation Type (0062,0001) is LABELMAP: a pixel holds the number of its segment.
    is_label_map: bool,
}

impl<'a> FrameData<'a> {
    fn read(
        file: &'a DefaultDicomObject,
        pixels_per_frame: u64,
        frames: usize,
    ) -> Result<Self, SliceError> {
        let bits = integer(file, tags::BITS_ALLOCATED, "Bits Allocated")?;
        let pixels = pixels_per_frame.saturating_mul(frames as u64);
        if pixels_per_frame == 0 || pixels > PIXELS_MAX {
            return Err(SliceError::not_a_slice("its frames are beyond the limit"));
        }
        let bytes = file.element(tags::PIXEL_DATA).ok().and_then(|it| it.to_bytes().ok());
        let bytes =
            bytes.ok_or_else(|| SliceError::not_a_slice("its pixels are compressed or missing"))?;
        let bytes_expected = (pixels * u64::from(bits)).div_ceil(8);
        if !matches!(bits, 1 | 8) || (bytes.len() as u64) < bytes_expected {
            return Err(SliceError::not_a_slice("its pixels are fewer than it states"));
        }
        let pixels_per_frame = usize::try_from(pixels_per_frame)
            .map_err(|_| SliceError::not_a_slice("its frames are beyond the limit"))?;
        let is_label_map = text(file, tags::SEGMENTATION_TYPE).is_some_and(|it| it == "LABELMAP");
        Ok(Self { bytes, bits, pixels_per_frame, is_label_map })
    }

    /// Whether a pixel of a frame belongs to the segment of this number.
    fn is_set(&self, frame: usize, pixel: usize, segment: u32) -> bool {
        let at = frame * self.pixels_per_frame + pixel;
        if self.bits == 1 {
            return encoding::bits::is_set(&self.bytes, at);
        }
        self.bytes.get(at).is_some_and(|value| {
            // A fractional segment is set where its probability is more than one half.
            if self.is_label_map { u32::from(*value) == segment } else { *value > u8::MAX / 2 }
        })
    }
}

fn number(object: &InMemDicomObject, tag: dicom_core::Tag) -> u32 {
    object.element(tag).ok().and_then(|it| it.to_int().ok()).unwrap_or_default()
}

/// SOP Instance UID of the image that a frame was drawn on.
fn source_image(frame: &InMemDicomObject) -> Option<String> {
    let derivation = items(frame, tags::DERIVATION_IMAGE_SEQUENCE).first()?;
    let image = items(derivation, tags::SOURCE_IMAGE_SEQUENCE).first()?;
    sequence_items::text(image, tags::REFERENCED_SOP_INSTANCE_UID)
}
