//! Scans and photographs of a page: position, noise and damage.

use fastrand::Rng;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, GrayImage, Luma};
use imageproc::filter::gaussian_blur_f32;
use imageproc::geometric_transformations::{
    Border, Interpolation, Projection, rotate90, rotate180, rotate270, warp_into,
};

/// Position of a page on the glass of a scanner or before a camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distortion {
    /// Upright and level.
    None,
    /// Rotated clockwise by this number of quarter turns.
    Quarters(u8),
    /// Rotated clockwise by this number of degrees, on white, as scanners produce.
    Lean(f32),
    /// Photographed from the side, on a dark table.
    Warp,
}

/// The page in this position, without noise.
pub fn turned(page: &GrayImage, distortion: Distortion, seed: u64) -> GrayImage {
    match distortion {
        Distortion::None => page.clone(),
        Distortion::Quarters(1) => rotate90(page),
        Distortion::Quarters(2) => rotate180(page),
        Distortion::Quarters(_) => rotate270(page),
        Distortion::Lean(degrees) => rotated(page, degrees),
        Distortion::Warp => warped(page, &mut Rng::with_seed(seed)),
    }
}

/// The page in this position, with grain and a little blur.
pub fn distorted(page: &GrayImage, distortion: Distortion, seed: u64) -> GrayImage {
    let mut rng = Rng::with_seed(seed ^ 0x5eed);
    let mut page = gaussian_blur_f32(&turned(page, distortion, seed), 0.6);
    for pixel in page.pixels_mut() {
        let grain = (rng.f32() + rng.f32() + rng.f32() - 1.5) * 14.0;
        let value = f32::from(pixel.0[0]).mul_add(0.93, 8.0) + grain;
        *pixel = Luma([byte(value)]);
    }
    page
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn byte(value: f32) -> u8 {
    value.clamp(0.0, 255.0) as u8
}

/// Encodes a page as JPEG with the quality that scanners use.
pub fn as_jpeg(page: &GrayImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 80);
    encoder.encode(page.as_raw(), page.width(), page.height(), ExtendedColorType::L8).unwrap();
    bytes
}

fn rotated(page: &GrayImage, degrees: f32) -> GrayImage {
    let width = page.width() as f32;
    let height = page.height() as f32;
    let (sine, cosine) = degrees.to_radians().sin_cos();
    let new_width = width * cosine + height * sine.abs();
    let new_height = width * sine.abs() + height * cosine;
    let projection = Projection::translate(new_width / 2.0, new_height / 2.0)
        * Projection::rotate(degrees.to_radians())
        * Projection::translate(-width / 2.0, -height / 2.0);
    let mut rotated = GrayImage::new(pixels(new_width), pixels(new_height));
    let white = Border::Constant(Luma([255]));
    warp_into(page, projection, Interpolation::Bicubic, white, &mut rotated);
    rotated
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sides of a picture")]
fn pixels(side: f32) -> u32 {
    side.ceil() as u32
}

/// Random positions of the corners of a page in a photograph, and the size of the photograph.
pub fn corners_of(width: u32, height: u32, rng: &mut Rng) -> ([(f32, f32); 4], (u32, u32)) {
    let w = width as f32;
    let h = height as f32;
    let mut offset = |max: f32| rng.f32() * max;
    let photo_width = w * 1.2;
    let photo_height = h * 1.2;
    let left = w * 0.05;
    let top = h * 0.05;
    let corners = [
        (left + offset(w * 0.07), top + offset(h * 0.05)),
        (photo_width - left - offset(w * 0.07), top + offset(h * 0.05)),
        (photo_width - left - offset(w * 0.05), photo_height - top - offset(h * 0.05)),
        (left + offset(w * 0.05), photo_height - top - offset(h * 0.05)),
    ];
    (corners, (pixels(photo_width), pixels(photo_height)))
}

fn warped(page: &GrayImage, rng: &mut Rng) -> GrayImage {
    let w = page.width() as f32;
    let h = page.height() as f32;
    let (corners, (photo_width, photo_height)) = corners_of(page.width(), page.height(), rng);
    let page_corners = [(0.0, 0.0), (w, 0.0), (w, h), (0.0, h)];
    let projection = Projection::from_control_points(page_corners, corners).unwrap();
    let mut photo = GrayImage::new(photo_width, photo_height);
    let table = Border::Constant(Luma([70]));
    warp_into(page, projection, Interpolation::Bicubic, table, &mut photo);
    photo
}

/// Damage of the paper, or a mistake of the person who photographed it (PAP-36).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A sixth of the page is cut off, through the text.
    Cropped,
    /// Out of focus.
    Blurred,
    /// The shadow of a hand over a corner.
    Shaded,
    /// Printed with little toner.
    Pale,
    /// Folded once.
    Folded,
    /// Photographed at low resolution.
    Coarse,
}

/// The picture of a page with this damage.
pub fn damaged(page: &GrayImage, damage: Damage) -> GrayImage {
    let (width, height) = page.dimensions();
    let w = width as f32;
    let h = height as f32;
    let each = |change: &dyn Fn(f32, f32, f32) -> f32| {
        GrayImage::from_fn(width, height, |x, y| {
            Luma([byte(change(x as f32, y as f32, f32::from(page.get_pixel(x, y).0[0])))])
        })
    };
    match damage {
        Damage::Cropped => {
            let cut = width / 6;
            image::imageops::crop_imm(page, cut, 0, width - cut, height).to_image()
        }
        Damage::Blurred => gaussian_blur_f32(page, 3.2),
        Damage::Shaded => each(&|x, y, value| {
            let depth = 1.0 - (x / w + y / h).clamp(0.0, 1.0);
            value * (1.0 - 0.55 * depth)
        }),
        Damage::Pale => each(&|_, _, value| 250.0 - (250.0 - value) * 0.18),
        Damage::Folded => each(&|_, y, value| {
            let distance = (y - 0.52 * h) / (0.003 * h);
            value - 45.0 * (-distance * distance).exp()
        }),
        Damage::Coarse => {
            let filter = image::imageops::FilterType::Triangle;
            image::imageops::resize(page, width * 2 / 5, height * 2 / 5, filter)
        }
    }
}
