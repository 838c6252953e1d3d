//! Pictures as the two halves of the network see them.

use candle_core::{Device, Result, Tensor};
use imaging::resize::{Filter, resized};
use imaging::{Picture, PictureError};

use crate::config::{SamConfig, VisionConfig};
use crate::positions::Grid;

/// Mean and deviation of the channels that the vision tower was trained on.
const VISION: [[f64; 3]; 2] =
    [[0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_58, 0.275_777_11]];

/// The same for SAM2.
const SAM: [[f64; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// How many pixels the vision tower is given of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelBounds {
    /// At least.
    pub min: u64,
    /// At most.
    pub max: u64,
}

impl Default for PixelBounds {
    /// What the release was trained with.
    fn default() -> Self {
        Self { min: 200_704, max: 1_003_520 }
    }
}

/// The picture in the size the vision tower gets it in.
///
/// # Errors
///
/// Fails if it is a line rather than a picture.
pub fn fitted(
    picture: &Picture,
    config: &VisionConfig,
    bounds: PixelBounds,
) -> std::result::Result<Picture, PictureError> {
    let factor = u32::try_from(config.factor()).unwrap_or(u32::MAX);
    let (height, width) = imaging::picture::smart_size(
        picture.height,
        picture.width,
        factor,
        bounds.min..=bounds.max,
    )?;
    Ok(resized(picture, width, height, Filter::Bicubic))
}

/// A fitted picture in patches, `[rows * columns, patch]`, block by block of what is merged; a patch is
/// channel by channel, frame by frame (a picture is all frames alike), row by row.
///
/// # Errors
///
/// Fails if the device does.
pub fn patches(fitted: &Picture, config: &VisionConfig, device: &Device) -> Result<(Tensor, Grid)> {
    let (side, merge) = (config.patch, config.merge);
    let (rows, columns) = (fitted.height as usize / side, fitted.width as usize / side);
    let stride = fitted.width as usize * 3;
    let mut values = Vec::with_capacity(rows * columns * config.patch_len());
    for block in 0..rows / merge * (columns / merge) {
        let (down, right) = (block / (columns / merge) * merge, block % (columns / merge) * merge);
        for inside in 0..merge * merge {
            let (top, left) = ((down + inside / merge) * side, (right + inside % merge) * side);
            for channel in 0..3 {
                let plane = (top..top + side).flat_map(|row| {
                    (left..left + side).map(move |column| row * stride + column * 3 + channel)
                });
                let plane: Vec<f32> = plane.map(|it| at(fitted, it, channel, &VISION)).collect();
                (0..config.frames).for_each(|_| values.extend_from_slice(&plane));
            }
        }
    }
    let patches = Tensor::from_vec(values, (rows * columns, config.patch_len()), device)?;
    Ok((patches, [1, rows, columns]))
}

/// A picture for SAM2: a square without regard to its shape, `[1, 3, S, S]`.
///
/// # Errors
///
/// Fails if the device does.
pub fn square(picture: &Picture, config: &SamConfig, device: &Device) -> Result<Tensor> {
    let side = u32::try_from(config.image).unwrap_or(u32::MAX);
    normalized(&resized(picture, side, side, Filter::Lanczos), device)
}

/// A picture in the numbers of SAM2, `[1, 3, H, W]`.
///
/// # Errors
///
/// Fails if the device does.
pub fn normalized(picture: &Picture, device: &Device) -> Result<Tensor> {
    let (height, width) = (picture.height as usize, picture.width as usize);
    let channel = |channel: usize| {
        (0..height * width).map(move |it| at(picture, it * 3 + channel, channel, &SAM))
    };
    Tensor::from_vec((0..3).flat_map(channel).collect(), (1, 3, height, width), device)
}

fn at(picture: &Picture, index: usize, channel: usize, [mean, deviation]: &[[f64; 3]; 2]) -> f32 {
    let of = |it: &[f64; 3]| it.get(channel).copied().unwrap_or(1.0);
    let value = f64::from(picture.rgb.get(index).copied().unwrap_or_default()) / 255.0;
    #[expect(clippy::cast_possible_truncation, reason = "the network computes in f32")]
    let value = ((value - of(mean)) / of(deviation)) as f32;
    value
}
