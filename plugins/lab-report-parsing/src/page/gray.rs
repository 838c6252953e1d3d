//! Operations on grey pictures: brightness, ink (local threshold), scaling.

use image::{GrayImage, Luma};
use imageproc::integral_image::{integral_image, sum_image_pixels};

/// A mask of ink: 255 for each pixel that is darker by `depth` than the mean of the square around
/// it, else 0.
pub(crate) fn ink(page: &GrayImage, radius: u32, depth: u64) -> GrayImage {
    let sums = integral_image::<_, u64>(page);
    let (width, height) = page.dimensions();
    GrayImage::from_fn(width, height, |x, y| {
        let left = x.saturating_sub(radius);
        let right = (x + radius).min(width - 1);
        let top = y.saturating_sub(radius);
        let bottom = (y + radius).min(height - 1);
        let count = u64::from(right - left + 1) * u64::from(bottom - top + 1);
        let [sum] = sum_image_pixels(&sums, left, top, right, bottom);
        let is_dark = u64::from(page.get_pixel(x, y).0[0]) + depth < sum / count;
        Luma([if is_dark { u8::MAX } else { 0 }])
    })
}

/// Scales a picture.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and small")]
pub(crate) fn resized(picture: &GrayImage, scale: f32) -> GrayImage {
    let side = |it: u32| ((it as f32 * scale).round() as u32).max(1);
    let width = side(picture.width());
    let height = side(picture.height());
    if (width, height) == picture.dimensions() {
        return picture.clone();
    }
    let filter = image::imageops::FilterType::CatmullRom;
    image::imageops::resize(picture, width, height, filter)
}

/// The brightness of a pixel that begins with red, green and blue (ITU-R BT.601, in whole numbers).
pub(crate) fn brightness(pixel: &[u8]) -> u8 {
    let [red, green, blue, ..] = *pixel else { return u8::MAX };
    let sum = u32::from(red) * 299 + u32::from(green) * 587 + u32::from(blue) * 114;
    u8::try_from(sum / 1000).unwrap_or(u8::MAX)
}
