//! Pictures of eight bits per channel: photographs, scans, rendered slices.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder as _, ImageEncoder as _, ImageReader, Limits};

/// Upper bound of the sides of a decoded picture, in pixels.
const SIDE_MAX: u32 = 32_768;

/// Upper bound of the memory of a decoder, in bytes (SEC-24).
const DECODED_BYTES_MAX: u64 = 1 << 30;

/// Upper bound of the ratio of the sides of a picture.
const RATIO_MAX: u32 = 200;

/// A picture in red, green and blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `height * width * 3` bytes, row by row.
    pub rgb: Vec<u8>,
}

/// Why a picture cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// Not a PNG or JPEG, damaged, or beyond the limits.
    #[error("the picture cannot be read or written: {0}")]
    Undecodable(#[from] image::ImageError),
    /// The number of bytes does not match the size.
    #[error("a picture of {width} x {height} does not have {bytes} bytes")]
    Size {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// Number of bytes.
        bytes: usize,
    },
    /// The sides are too different, so that it is a line rather than a picture.
    #[error(
        "a picture of {width} x {height} is too narrow: one side may be {RATIO_MAX} times the other"
    )]
    TooNarrow {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
}

/// Width and height of a PNG or JPEG, by its header: no pixel is decoded.
///
/// # Errors
///
/// Fails if the bytes are neither, or beyond the limits.
pub fn size_of(bytes: &[u8]) -> Result<[u32; 2], PictureError> {
    let (width, height) = reader_of(bytes, decoder_limits())?.into_dimensions()?;
    Ok([width, height])
}

fn decoder_limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    limits
}

fn reader_of(bytes: &[u8], limits: Limits) -> Result<ImageReader<Cursor<&[u8]>>, PictureError> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| PictureError::Undecodable(image::ImageError::IoError(error)))?;
    reader.limits(limits);
    Ok(reader)
}

impl Picture {
    /// A picture of pixels, row by row.
    ///
    /// # Errors
    ///
    /// [`PictureError::Size`] if the number of bytes does not match the size, or is zero.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self, PictureError> {
        let expected = u64::from(width) * u64::from(height) * 3;
        if expected == 0 || rgb.len() as u64 != expected {
            return Err(PictureError::Size { width, height, bytes: rgb.len() });
        }
        Ok(Self { width, height, rgb })
    }

    /// Decodes a PNG or JPEG. Transparent pixels are drawn on white.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are neither, or beyond the limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, PictureError> {
        let mut room = decoder_limits();
        let decoder = reader_of(bytes, room.clone())?.into_decoder()?;
        // A decoder applies the limits to its own memory, and not to the picture.
        room.reserve(decoder.total_bytes())?;
        let has_alpha = decoder.color_type().has_alpha();
        let decoded = DynamicImage::from_decoder(decoder)?;
        let width = decoded.width();
        let height = decoded.height();
        if !has_alpha {
            return Self::new(width, height, decoded.into_rgb8().into_raw());
        }
        let rgba = decoded.into_rgba8();
        let rgb = rgba.pixels().flat_map(|it| {
            let [red, green, blue, alpha] = it.0;
            [red, green, blue].map(|it| on_white(it, alpha))
        });
        Self::new(width, height, rgb.collect())
    }
}

impl Picture {
    /// Encodes the picture as a PNG.
    ///
    /// # Errors
    ///
    /// Fails if the number of bytes does not match the size.
    pub fn to_png(&self) -> Result<Vec<u8>, PictureError> {
        let mut png = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new(&mut png);
        let width = self.width;
        let height = self.height;
        encoder.write_image(&self.rgb, width, height, image::ExtendedColorType::Rgb8)?;
        Ok(png)
    }
}

/// A channel drawn on white, in whole numbers as by `paste` of Pillow.
fn on_white(value: u8, alpha: u8) -> u8 {
    let value = u32::from(value);
    let alpha = u32::from(alpha);
    let sum = 255 * (255 - alpha) + value * alpha + 128;
    u8::try_from(((sum >> 8) + sum) >> 8).unwrap_or(u8::MAX)
}

/// Height and width as multiples of `factor`, close to the aspect ratio of the picture, and with a
/// number of pixels in a range: the size in which the vision encoder of Qwen2.5-VL gets a picture
/// (`smart_resize`).
///
/// # Errors
///
/// Fails if one side is more than 200 times the other.
pub fn smart_size(
    height: u32,
    width: u32,
    factor: u32,
    pixels: std::ops::RangeInclusive<u64>,
) -> Result<(u32, u32), PictureError> {
    let long = height.max(width);
    let short = height.min(width);
    if short == 0 || f64::from(long) / f64::from(short) > f64::from(RATIO_MAX) {
        return Err(PictureError::TooNarrow { width, height });
    }
    let h = f64::from(height);
    let w = f64::from(width);
    let f = f64::from(factor);
    let rounded = |it: f64| (it / f).round_ties_even().max(1.0);
    let rows = rounded(h);
    let columns = rounded(w);
    let area = rows * columns * f * f;
    let scaled = |bound: u64, round: fn(f64) -> f64| {
        let beta = (h * w / bound as f64).sqrt();
        (round(h / beta / f).max(1.0), round(w / beta / f).max(1.0))
    };
    let (rows, columns) = if area > *pixels.end() as f64 {
        scaled(*pixels.end(), f64::floor)
    } else if area < *pixels.start() as f64 {
        let beta = (*pixels.start() as f64 / (h * w)).sqrt();
        ((h * beta / f).ceil(), (w * beta / f).ceil())
    } else {
        (rows, columns)
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rounded positive number, no more than a side of a picture"
    )]
    let side = |it: f64| (it * f) as u32;
    Ok((side(rows), side(columns)))
}

#[cfg(test)]
mod tests {
    use encoding::model_answer::CitedBox;
    use proptest::prelude::*;

    use super::*;

    /// Bounds of pixels, as releases were trained, served and shown.
    const BOUNDS: [(u64, u64); 3] = [(200_704, 1_003_520), (3136, 65_535), (3136, 12_845_056)];

    proptest! {
        /// A size is of whole blocks and within its bounds, and the size of such a picture does not
        /// change.
        #[test]
        fn pap_04_a_size_is_of_whole_blocks_within_its_bounds_and_stays(
            height in 1_u32..4000,
            width in 1_u32..4000,
            bounds in 0_usize..3,
        ) {
            let (min, max) = BOUNDS[bounds];
            let found = smart_size(height, width, 28, min..=max);
            let long = height.max(width);
            let short = height.min(width);
            prop_assert_eq!(found.is_err(), f64::from(long) / f64::from(short) > 200.0);
            let Ok((rows, columns)) = found else { return Ok(()) };
            prop_assert!(rows > 0 && columns > 0 && rows % 28 == 0 && columns % 28 == 0);
            let pixels = u64::from(rows) * u64::from(columns);
            // A side cannot be shorter than a block, however many pixels that makes.
            prop_assert!(pixels <= max || rows == 28 || columns == 28, "{rows} x {columns}");
            prop_assert!(pixels >= min, "{rows} x {columns}");
            if pixels <= max {
                prop_assert_eq!(smart_size(rows, columns, 28, min..=max).ok(), Some((rows, columns)));
            }
        }

        /// A corner that is rounded to pixels of the resized picture and mapped back is off by at
        /// most half of such a pixel and one pixel of the original.
        #[test]
        fn pap_04_corners_come_back_to_where_they_were(
            height in 28_u32..2500,
            width in 28_u32..2500,
            bounds in 0_usize..3,
            corners in prop::array::uniform4(0.0_f64..1.0),
        ) {
            let (min, max) = BOUNDS[bounds];
            let (rows, columns) = smart_size(height, width, 28, min..=max).unwrap();
            let across = f64::from(width) / f64::from(columns);
            let down = f64::from(height) / f64::from(rows);
            let [a, b, c, d] = corners;
            let source = [a.min(c), b.min(d), a.max(c), b.max(d)];
            let size = [width, height, width, height].map(f64::from);
            let source: [f64; 4] = std::array::from_fn(|it| source[it] * size[it]);
            let scale = [across, down, across, down];
            let seen: [f64; 4] = std::array::from_fn(|it| (source[it] / scale[it]).round());
            let cited = CitedBox { label: String::new(), corners: seen, at: 0..0 };
            let Ok((back, is_cut)) = cited.on_source([columns, rows], [width, height]) else {
                prop_assert!(seen[0] >= seen[2] || seen[1] >= seen[3] || seen[0] >= f64::from(columns)
                    || seen[1] >= f64::from(rows));
                return Ok(());
            };
            prop_assert!(!is_cut);
            for it in 0..4 {
                let off = (f64::from(back[it]) - source[it]).abs();
                prop_assert!(off <= scale[it] / 2.0 + 1.0, "{off} of {}", scale[it]);
            }
        }
    }

    #[test]
    fn sec_24_the_size_of_a_picture_is_read_without_its_pixels() {
        let png = Picture::new(7, 5, vec![9; 105]).unwrap().to_png().unwrap();
        // Behind the header the pixels are damaged.
        let end = png.windows(4).position(|it| it == b"IDAT").unwrap() + 4;
        let mut damaged = png.clone();
        damaged[end..].fill(0xFF);
        assert_eq!(size_of(&damaged).unwrap(), [7, 5]);
        assert!(Picture::decode(&damaged).is_err());
        assert!(size_of(b"no picture").is_err());
    }

    /// The header of three kilobytes may state three gigabytes.
    #[test]
    fn a_small_file_of_a_huge_picture_is_refused_before_it_is_unpacked() {
        let mut png = Picture::new(1, 1, vec![0; 3]).unwrap().to_png().unwrap();
        // The header: 32768 by 32768, with its checksum (ISO/IEC 15948, 11.2.2).
        png[16..24].copy_from_slice(&[0, 0, 0x80, 0, 0, 0, 0x80, 0]);
        png[29..33].copy_from_slice(&[0x4b, 0x1e, 0x34, 0x28]);
        let outcome = Picture::decode(&png);
        let is_limit =
            matches!(outcome, Err(PictureError::Undecodable(image::ImageError::Limits(_))));
        assert!(is_limit, "{outcome:?}");
    }
}
