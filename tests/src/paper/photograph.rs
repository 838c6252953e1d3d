//! What happens to paper between the printer and the reader.

use fastrand::Rng;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, GrayImage, Luma};
use imageproc::filter::gaussian_blur_f32;
use imageproc::geometric_transformations::{
    Border, Interpolation, Projection, rotate90, rotate180, rotate270, warp_into,
};

/// How a page was put on the glass, or held before the camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distortion {
    /// As it should be.
    None,
    /// On its side or head: so many quarters, clockwise.
    Quarters(u8),
    /// Turned by some degrees, clockwise; white around it, as scanners leave it.
    Lean(f32),
    /// Photographed from aside, on a dark table.
    Warp,
}

/// A page as it lies.
pub fn turned(page: &GrayImage, distortion: Distortion, seed: u64) -> GrayImage {
    match distortion {
        Distortion::None => page.clone(),
        Distortion::Quarters(1) => rotate90(page),
        Distortion::Quarters(2) => rotate180(page),
        Distortion::Quarters(_) => rotate270(page),
        Distortion::Lean(degrees) => leaned(page, degrees),
        Distortion::Warp => warped(page, &mut Rng::with_seed(seed)),
    }
}

/// The picture of a page as it lies, with grain and a little blur.
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

/// As a JPEG of a scanner.
pub fn as_jpeg(page: &GrayImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 80);
    encoder.encode(page.as_raw(), page.width(), page.height(), ExtendedColorType::L8).unwrap();
    bytes
}

fn leaned(page: &GrayImage, degrees: f32) -> GrayImage {
    let (width, height) = (page.width() as f32, page.height() as f32);
    let (sine, cosine) = degrees.to_radians().sin_cos();
    let (wide, high) = (width * cosine + height * sine.abs(), width * sine.abs() + height * cosine);
    let turn = Projection::translate(wide / 2.0, high / 2.0)
        * Projection::rotate(degrees.to_radians())
        * Projection::translate(-width / 2.0, -height / 2.0);
    let mut turned = GrayImage::new(side(wide), side(high));
    warp_into(page, turn, Interpolation::Bicubic, Border::Constant(Luma([255])), &mut turned);
    turned
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sides of a picture")]
fn side(it: f32) -> u32 {
    it.ceil() as u32
}

/// Where the corners of a page of this size come to lie when it is photographed, and the size of the picture.
pub fn corners_of(width: u32, height: u32, rng: &mut Rng) -> ([(f32, f32); 4], (u32, u32)) {
    let (w, h) = (width as f32, height as f32);
    let mut off = |most: f32| rng.f32() * most;
    let (wide, high) = (w * 1.2, h * 1.2);
    let (left, top) = (w * 0.05, h * 0.05);
    let corners = [
        (left + off(w * 0.07), top + off(h * 0.05)),
        (wide - left - off(w * 0.07), top + off(h * 0.05)),
        (wide - left - off(w * 0.05), high - top - off(h * 0.05)),
        (left + off(w * 0.05), high - top - off(h * 0.05)),
    ];
    (corners, (side(wide), side(high)))
}

fn warped(page: &GrayImage, rng: &mut Rng) -> GrayImage {
    let (w, h) = (page.width() as f32, page.height() as f32);
    let (corners, (wide, high)) = corners_of(page.width(), page.height(), rng);
    let from = [(0.0, 0.0), (w, 0.0), (w, h), (0.0, h)];
    let projection = Projection::from_control_points(from, corners).unwrap();
    let mut taken = GrayImage::new(wide, high);
    warp_into(page, projection, Interpolation::Bicubic, Border::Constant(Luma([70])), &mut taken);
    taken
}

/// Something that goes wrong with paper or camera (PAP-36).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A sixth of the page is cut off, through what is written.
    Cropped,
    /// Out of focus.
    Blurred,
    /// A hand's shadow over a corner.
    Shaded,
    /// Hardly any toner.
    Pale,
    /// Folded once.
    Folded,
    /// Taken with few dots.
    Coarse,
}

/// A picture of a page, damaged.
pub fn damaged(page: &GrayImage, damage: Damage) -> GrayImage {
    let (width, height) = page.dimensions();
    let (w, h) = (width as f32, height as f32);
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
            let off = (y - 0.52 * h) / (0.003 * h);
            value - 45.0 * (-off * off).exp()
        }),
        Damage::Coarse => {
            let filter = image::imageops::FilterType::Triangle;
            image::imageops::resize(page, width * 2 / 5, height * 2 / 5, filter)
        }
    }
}
