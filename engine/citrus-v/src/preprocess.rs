//! Preprocessing of pictures for the two image encoders: resizing, normalization, patches.

use candle_core::{Device, Result, Tensor};
use imaging::resize::{Filter, resized};
use imaging::{Picture, PictureError};

use crate::config::{SamConfig, VisionConfig};
use crate::positions::Grid;

/// The normalization of colour channels: mean and standard deviation of the training images.
struct Normalization {
    mean: [f64; 3],
    deviation: [f64; 3],
}

/// The normalization of the vision encoder (that of CLIP).
const VISION_NORMALIZATION: Normalization = Normalization {
    mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
    deviation: [0.268_629_54, 0.261_302_58, 0.275_777_11],
};

/// The normalization of SAM 2 (that of ImageNet).
const SAM_NORMALIZATION: Normalization =
    Normalization { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };

/// Lower and upper bound on the pixels of a picture as the vision encoder receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelBounds {
    /// The lower bound: smaller pictures are enlarged.
    pub min: u64,
    /// The upper bound: larger pictures are reduced.
    pub max: u64,
}

impl Default for PixelBounds {
    /// The bounds that the release was trained with.
    fn default() -> Self {
        Self { min: 200_704, max: 1_003_520 }
    }
}

/// Resizes a picture for the vision encoder: its sides become multiples of 28 pixels, within bounds
/// on its area (`smart_resize` of the reference).
///
/// # Errors
///
/// Fails if the picture is too narrow.
pub fn smart_resize(
    picture: &Picture,
    config: &VisionConfig,
    bounds: PixelBounds,
) -> std::result::Result<Picture, PictureError> {
    let factor = u32::try_from(config.size_factor()).unwrap_or(u32::MAX);
    let (height, width) = imaging::picture::smart_size(
        picture.height,
        picture.width,
        factor,
        bounds.min..=bounds.max,
    )?;
    Ok(resized(picture, width, height, Filter::Bicubic))
}

/// The patches of a resized picture, `[rows * columns, patch_len]`.
///
/// The patches that are merged into one token follow each other. The values of a patch are in the
/// order of channel, frame (the picture is repeated), row and column.
///
/// # Errors
///
/// Fails if the device does.
pub fn to_patches(
    resized: &Picture,
    config: &VisionConfig,
    device: &Device,
) -> Result<(Tensor, Grid)> {
    let side = config.patch;
    let merge = config.merge;
    let rows = resized.height as usize / side;
    let columns = resized.width as usize / side;
    let blocks_per_row = columns / merge;
    let mut values = Vec::with_capacity(rows * columns * config.patch_len());
    for block in 0..rows / merge * blocks_per_row {
        for inside in 0..merge * merge {
            let row = block / blocks_per_row * merge + inside / merge;
            let column = block % blocks_per_row * merge + inside % merge;
            for channel in 0..3 {
                let plane = patch_plane(resized, side, row * side, column * side, channel);
                (0..config.temporal_patch).for_each(|_| values.extend_from_slice(&plane));
            }
        }
    }
    let patches = Tensor::from_vec(values, (rows * columns, config.patch_len()), device)?;
    Ok((patches, [1, rows, columns]))
}

/// One channel of the patch at this row and column of pixels.
fn patch_plane(
    resized: &Picture,
    side: usize,
    top: usize,
    left: usize,
    channel: usize,
) -> Vec<f32> {
    let stride = resized.width as usize * 3;
    let mut plane = Vec::with_capacity(side * side);
    for row in top..top + side {
        for column in left..left + side {
            let index = row * stride + column * 3 + channel;
            plane.push(normalized_value(resized, index, channel, &VISION_NORMALIZATION));
        }
    }
    plane
}

/// Resizes a picture to the square that SAM 2 receives, whatever its aspect ratio, and normalizes
/// it: `[1, 3, S, S]`.
///
/// # Errors
///
/// Fails if the device does.
pub fn sam_image(picture: &Picture, config: &SamConfig, device: &Device) -> Result<Tensor> {
    let side = u32::try_from(config.image).unwrap_or(u32::MAX);
    normalize_for_sam(&resized(picture, side, side, Filter::Lanczos), device)
}

/// Normalizes a picture for SAM 2, `[1, 3, H, W]`.
///
/// # Errors
///
/// Fails if the device does.
pub fn normalize_for_sam(picture: &Picture, device: &Device) -> Result<Tensor> {
    let height = picture.height as usize;
    let width = picture.width as usize;
    let mut values = Vec::with_capacity(3 * height * width);
    for channel in 0..3 {
        for pixel in 0..height * width {
            let index = pixel * 3 + channel;
            values.push(normalized_value(picture, index, channel, &SAM_NORMALIZATION));
        }
    }
    Tensor::from_vec(values, (1, 3, height, width), device)
}

/// The normalized value of a channel of a pixel.
fn normalized_value(
    picture: &Picture,
    index: usize,
    channel: usize,
    normalization: &Normalization,
) -> f32 {
    let mean = normalization.mean.get(channel).copied().unwrap_or(1.0);
    let deviation = normalization.deviation.get(channel).copied().unwrap_or(1.0);
    let value = f64::from(picture.rgb.get(index).copied().unwrap_or_default()) / 255.0;
    #[expect(clippy::cast_possible_truncation, reason = "the network computes in f32")]
    let value = ((value - mean) / deviation) as f32;
    value
}
