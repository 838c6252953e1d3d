//! Where a page is darker than what is around it.

use image::{GrayImage, Luma};
use imageproc::integral_image::{integral_image, sum_image_pixels};

/// 255 where a pixel is darker than the mean of the square around it by `depth`, 0 elsewhere.
pub(crate) fn ink(page: &GrayImage, radius: u32, depth: u64) -> GrayImage {
    let sums = integral_image::<_, u64>(page);
    let (width, height) = page.dimensions();
    GrayImage::from_fn(width, height, |x, y| {
        let (left, right) = (x.saturating_sub(radius), (x + radius).min(width - 1));
        let (top, bottom) = (y.saturating_sub(radius), (y + radius).min(height - 1));
        let count = u64::from(right - left + 1) * u64::from(bottom - top + 1);
        let [sum] = sum_image_pixels(&sums, left, top, right, bottom);
        let is_dark = u64::from(page.get_pixel(x, y).0[0]) + depth < sum / count;
        Luma([if is_dark { u8::MAX } else { 0 }])
    })
}
