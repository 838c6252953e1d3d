//! Colour images: to red, green and blue, pixel by pixel, in eight bits (PS3.3, C.7.6.3.1.2 and
//! C.7.6.3.1.3).

use dicom_core::DataElement;
use dicom_core::value::{PixelFragmentSequence, Value};
use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject;

use crate::image_attributes::{SliceError, integer};
use crate::stored_values::{RLE_LOSSLESS, decoded_pixels};

/// A Photometric Interpretation (0028,0004) in three colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColourSpace {
    /// `RGB`.
    Rgb,
    /// `YBR_FULL`.
    YbrFull,
    /// `YBR_FULL_422`: two pixels share their chrominance.
    YbrFull422,
    /// `YBR_RCT` and `YBR_ICT`, which only JPEG 2000 has, and its decoder converts.
    OfJpeg2000,
}

impl ColourSpace {
    /// The colour space of this defined term; nothing for any other.
    pub(crate) fn of(term: &str) -> Option<Self> {
        match term {
            "RGB" => Some(Self::Rgb),
            "YBR_FULL" => Some(Self::YbrFull),
            "YBR_FULL_422" => Some(Self::YbrFull422),
            "YBR_RCT" | "YBR_ICT" => Some(Self::OfJpeg2000),
            _ => None,
        }
    }
}

/// Red, green and blue of an image of `pixel_count` pixels.
///
/// # Errors
///
/// Fails if its pixels cannot be decoded, or have other than 8 or 16 bits.
pub(crate) fn decode(
    object: &DefaultDicomObject,
    space: ColourSpace,
    pixel_count: usize,
) -> Result<Vec<u8>, SliceError> {
    let samples = integer(object, tags::SAMPLES_PER_PIXEL, "Samples per Pixel")?;
    if samples != 3 {
        return Err(SliceError::not_a_slice(format!("its colours have {samples} samples")));
    }
    let coding = Coding::of(object);
    let marked = if space == ColourSpace::Rgb { marked_as_rgb(object) } else { None };
    let decoded = decoded_pixels(marked.as_ref().unwrap_or(object))?;
    let samples = eight_bits(object, decoded.data())?;
    let needed = 3 * pixel_count;
    let shares_chrominance = space == ColourSpace::YbrFull422
        && coding == Coding::Native
        && samples.len() < needed
        && pixel_count.is_multiple_of(2);
    let mut colours = if shares_chrominance {
        unshared(samples.get(..2 * pixel_count).ok_or_else(|| too_short(samples.len(), needed))?)
    } else {
        let samples = samples.get(..needed).ok_or_else(|| too_short(samples.len(), needed))?;
        match coding {
            Coding::Native if is_by_plane(object) => by_pixel(samples, pixel_count),
            _ => samples.to_vec(),
        }
    };
    let is_ybr = matches!(space, ColourSpace::YbrFull | ColourSpace::YbrFull422);
    if is_ybr && coding != Coding::Converted {
        for pixel in colours.as_chunks_mut::<3>().0 {
            *pixel = rgb(*pixel);
        }
    }
    Ok(colours)
}

/// What the decoder has done to the samples of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// Nothing.
    Native,
    /// They are pixel by pixel, in the colour space of the file: RLE.
    Interleaved,
    /// They are pixel by pixel in red, green and blue: JPEG, JPEG 2000.
    Converted,
}

impl Coding {
    fn of(object: &DefaultDicomObject) -> Self {
        let transfer_syntax = object.meta().transfer_syntax().trim_end_matches(['\0', ' ']);
        match object.get(tags::PIXEL_DATA).map(DataElement::value) {
            Some(Value::PixelSequence(_)) if transfer_syntax == RLE_LOSSLESS => Self::Interleaved,
            Some(Value::PixelSequence(_)) => Self::Converted,
            _ => Self::Native,
        }
    }
}

/// JPEG Baseline and JPEG Extended.
const LOSSY_JPEG: [&str; 2] = ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"];

/// The marker by which a JPEG says that its colours are red, green and blue: the transform, its
/// last byte, is 0.
const RGB_MARKER: [u8; 16] = *b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0\0";

/// The same object with a JPEG that says so itself, if only its header says that its colours are
/// red, green and blue: decoders take a JPEG without a marker for luminance and chrominance.
fn marked_as_rgb(object: &DefaultDicomObject) -> Option<DefaultDicomObject> {
    let transfer_syntax = object.meta().transfer_syntax().trim_end_matches(['\0', ' ']);
    if !LOSSY_JPEG.contains(&transfer_syntax) {
        return None;
    }
    let pixels = object.get(tags::PIXEL_DATA)?;
    let Value::PixelSequence(sequence) = pixels.value() else { return None };
    let jpeg = sequence.fragments().concat();
    let (start, rest) = jpeg.split_first_chunk::<2>()?;
    if *start != [0xFF, 0xD8] || states_colours(rest)? {
        return None;
    }
    let marked = [start.as_slice(), &RGB_MARKER, rest].concat();
    let mut object = object.clone();
    let sequence = PixelFragmentSequence::new_fragments(vec![marked]);
    object.put(DataElement::new(tags::PIXEL_DATA, pixels.vr(), sequence));
    Some(object)
}

/// Whether one of the markers of a JPEG states its colour space: JFIF or Adobe. Nothing if its
/// markers cannot be read.
fn states_colours(mut segments: &[u8]) -> Option<bool> {
    loop {
        let ([lead, marker, high, low], _) = segments.split_first_chunk::<4>()?;
        if *lead != 0xFF {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let content = segments.get(4..2 + length)?;
        match marker {
            0xE0 if content.starts_with(b"JFIF") => return Some(true),
            0xEE if content.starts_with(b"Adobe") => return Some(true),
            // The first scan.
            0xDA => return Some(false),
            _ => segments = segments.get(2 + length..)?,
        }
    }
}

fn too_short(found: usize, needed: usize) -> SliceError {
    let reason = format!("the frame has {found} samples, and its rows and columns need {needed}");
    SliceError::Undecodable { reason }
}

/// Planar Configuration (0028,0006): whether all red samples come first, then all green ones.
fn is_by_plane(object: &DefaultDicomObject) -> bool {
    integer(object, tags::PLANAR_CONFIGURATION, "Planar Configuration").is_ok_and(|it| it == 1)
}

/// The samples of a frame in eight bits.
fn eight_bits(object: &DefaultDicomObject, data: &[u8]) -> Result<Vec<u8>, SliceError> {
    let allocated = integer(object, tags::BITS_ALLOCATED, "Bits Allocated")?;
    let stored = integer(object, tags::BITS_STORED, "Bits Stored")?;
    if !matches!(allocated, 8 | 16) || !(1..=allocated).contains(&stored) {
        let what = format!("its colours have {stored} of {allocated} bits");
        return Err(SliceError::NotASlice { what });
    }
    let sample_max = (1_u32 << stored) - 1;
    let level = |sample: u16| {
        let sample = u32::from(sample).min(sample_max);
        u8::try_from((sample * 255 + sample_max / 2) / sample_max).unwrap_or(u8::MAX)
    };
    if allocated == 16 {
        let words = data.as_chunks::<2>().0;
        return Ok(words.iter().map(|it| level(u16::from_ne_bytes(*it))).collect());
    }
    if stored == 8 {
        return Ok(data.to_vec());
    }
    Ok(data.iter().map(|it| level(u16::from(*it))).collect())
}

/// Samples pixel by pixel instead of plane by plane.
fn by_pixel(samples: &[u8], pixel_count: usize) -> Vec<u8> {
    let mut planes = samples.chunks(pixel_count.max(1));
    let mut plane = || planes.next().unwrap_or_default();
    let [first, second, third] = [plane(), plane(), plane()];
    let pixels = first.iter().zip(second).zip(third);
    pixels.flat_map(|((first, second), third)| [*first, *second, *third]).collect()
}

/// Pixels with a chrominance of their own, from pairs that share one: Y, Y, Cb, Cr.
fn unshared(samples: &[u8]) -> Vec<u8> {
    let pairs = samples.as_chunks::<4>().0.iter();
    pairs.flat_map(|[first, second, cb, cr]| [*first, *cb, *cr, *second, *cb, *cr]).collect()
}

/// Luminance and chrominance to red, green and blue.
fn rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let [y, cb, cr] = [f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0];
    let red = y + 1.402 * cr;
    let green = y - 0.344_136 * cb - 0.714_136 * cr;
    let blue = y + 1.772 * cb;
    [red, green, blue].map(|it| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let level = it.round().clamp(0.0, 255.0) as u8;
        level
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn din_80_luminance_and_chrominance_become_colours() {
        assert_eq!(rgb([77, 128, 128]), [77; 3]);
        assert_eq!(
            [[76, 85, 255], [150, 44, 21], [29, 255, 107]].map(rgb),
            [[254, 0, 0], [0, 255, 1], [0, 0, 254]]
        );
    }

    #[test]
    fn din_80_a_jpeg_states_its_colours_by_a_marker_or_not_at_all() {
        let scan = b"\xFF\xDA\0\x02".as_slice();
        let tables = b"\xFF\xDB\0\x03\x07".as_slice();
        let jfif = b"\xFF\xE0\0\x07JFIF\0".as_slice();
        assert_eq!(states_colours(&[tables, scan].concat()), Some(false));
        assert_eq!(states_colours(&[tables, &RGB_MARKER, scan].concat()), Some(true));
        assert_eq!(states_colours(&[jfif, tables, scan].concat()), Some(true));
        for broken in [tables, b"\xFF\xDB\xFF\xFF", b"\xFF\xDB\0\0", b"\0\0\0\0", b""] {
            assert_eq!(states_colours(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn din_80_planes_and_shared_chrominance_become_pixels() {
        assert_eq!(by_pixel(&[1, 2, 3, 4, 5, 6], 2), [1, 3, 5, 2, 4, 6]);
        assert_eq!(unshared(&[1, 2, 8, 9]), [1, 8, 9, 2, 8, 9]);
    }
}
