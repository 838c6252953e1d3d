//! Pages for measuring: every layout in every condition of paper, each with its rows and which of
//! them a person can still read.

use std::path::Path;

use ab_glyph::{Font as _, FontVec, PxScale, ScaleFont as _, point};
use fastrand::Rng;
use image::{GrayImage, Luma};
use imageproc::filter::gaussian_blur_f32;
use imageproc::geometric_transformations::{Border, Interpolation, Projection, warp};

use super::catalogue::choice;
use super::photograph::{Damage, Distortion, as_jpeg, damaged, distorted};
use super::{About, CHINESE, HEIGHT, Layout, PaperRow, Sheet, Text, WIDTH, composed, scanned};

/// What was done to a page before it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// A good scan.
    Clean,
    /// On its side or upside down.
    Turned,
    /// At an angle of up to eight degrees.
    Leaning,
    /// Photographed from the side.
    Warped,
    /// Scanned with 100 dots per inch.
    Coarse,
    /// Folded once.
    Folded,
    /// A little out of focus.
    Soft,
    /// A stamp over some rows.
    Stamped,
    /// Another text over some rows, on a scan.
    Overprinted,
    /// Another text over some rows, in a PDF with text.
    OverprintedText,
    /// Out of focus.
    Blurred,
    /// Printed with little toner.
    Pale,
    /// A part of the page is missing.
    Cut,
    /// Grains and specks.
    Noisy,
}

impl Condition {
    /// Conditions in which a person can read every row.
    pub const MILD: [Self; 7] = [
        Self::Clean,
        Self::Turned,
        Self::Leaning,
        Self::Warped,
        Self::Coarse,
        Self::Folded,
        Self::Soft,
    ];

    /// Conditions in which readers make mistakes.
    pub const DAMAGED: [Self; 7] = [
        Self::Stamped,
        Self::Overprinted,
        Self::OverprintedText,
        Self::Blurred,
        Self::Pale,
        Self::Cut,
        Self::Noisy,
    ];
}

/// A row of a page, and whether a person can read all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleRow {
    /// What was printed.
    pub row: PaperRow,
    /// Whether nothing of it is cut off or covered.
    pub is_readable: bool,
}

/// A page as a file, with what was printed on it.
pub struct Sample {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its media type.
    pub media_type: &'static str,
    /// The rows of its table.
    pub rows: Vec<SampleRow>,
}

/// The page of a seed in this layout and condition. `folder` is for files in between.
pub fn sample(seed: u64, layout: Layout, condition: Condition, folder: &Path) -> Sample {
    let mut rng = Rng::with_seed(seed ^ 0x0dd5_eed5);
    let (mut sheet, rows) = composed(&mut rng, layout, &About::default());
    let mut readable = vec![true; rows.len()];
    if matches!(condition, Condition::Overprinted | Condition::OverprintedText) {
        readable = overprint(&mut sheet, &mut rng, rows.len());
    }
    let pdf = sheet.pdf();
    let (bytes, media_type) = if condition == Condition::OverprintedText {
        (pdf, "application/pdf")
    } else {
        let dots = if condition == Condition::Coarse { 100 } else { 200 };
        let mut page = scanned(&pdf, dots, folder);
        if condition == Condition::Stamped {
            readable = stamp(&mut page, &sheet, &mut rng, rows.len());
        } else if condition == Condition::Cut {
            readable = cut(&mut page, &sheet, &mut rng, rows.len());
        }
        (as_jpeg(&exposed(&page, condition, seed, &mut rng)), "image/jpeg")
    };
    let with_truth = |(row, is_readable)| SampleRow { row, is_readable };
    Sample { bytes, media_type, rows: rows.into_iter().zip(readable).map(with_truth).collect() }
}

/// The page as it was photographed or scanned.
fn exposed(page: &GrayImage, condition: Condition, seed: u64, rng: &mut Rng) -> GrayImage {
    let position = match condition {
        Condition::Turned => Distortion::Quarters(rng.u8(1..4)),
        Condition::Leaning => Distortion::Lean((rng.f32() - 0.5) * 16.0),
        Condition::Warped => Distortion::Warp,
        _ => Distortion::None,
    };
    let page = distorted(page, position, seed);
    match condition {
        Condition::Folded => damaged(&page, Damage::Folded),
        Condition::Soft => gaussian_blur_f32(&page, 0.8 + rng.f32() * 0.4),
        Condition::Blurred => gaussian_blur_f32(&page, 1.7 + rng.f32() * 0.7),
        Condition::Pale => pale(&page, 0.12 + rng.f32() * 0.14),
        Condition::Noisy => noisy(&page, rng),
        _ => page,
    }
}

fn pale(page: &GrayImage, depth: f32) -> GrayImage {
    let mut page = page.clone();
    for pixel in page.pixels_mut() {
        *pixel = Luma([byte(250.0 - (250.0 - f32::from(pixel.0[0])) * depth)]);
    }
    page
}

fn noisy(page: &GrayImage, rng: &mut Rng) -> GrayImage {
    let mut page = page.clone();
    let grain = 20.0 + rng.f32() * 40.0;
    let specks = rng.f32() * 0.02;
    for pixel in page.pixels_mut() {
        let noise = (rng.f32() + rng.f32() + rng.f32() - 1.5) * grain;
        let value = match rng.f32() {
            it if it < specks / 2.0 => 0.0,
            it if it < specks => 255.0,
            _ => f32::from(pixel.0[0]) + noise,
        };
        *pixel = Luma([byte(value)]);
    }
    page
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn byte(value: f32) -> u8 {
    value.clamp(0.0, 255.0) as u8
}

fn meet(a: &[f32; 4], b: &[f32; 4]) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

/// Prints other texts over some rows. Returns which rows have none of it on their letters.
fn overprint(sheet: &mut Sheet, rng: &mut Rng, count: usize) -> Vec<bool> {
    let mut over = Vec::new();
    for _ in 0..rng.usize(2..5) {
        let places = sheet.places(rng.usize(..count));
        let Some([left, _, _, bottom]) = places.get(rng.usize(..places.len())).copied() else {
            continue;
        };
        let number = rng.u32(100_000..999_999);
        let content = match rng.u8(..4) {
            0 => format!("Duplicate of report {number}"),
            1 => format!("{}.{} mmol/L  3.1-6.0", rng.u8(1..90), rng.u8(10..99)),
            2 => format!("{}.{}", rng.u8(..20), rng.u8(1..99)),
            _ => format!("See also order {number}, ward 7"),
        };
        let x = left + (rng.f32() - 0.5) * 30.0;
        let y = bottom - 0.22 * sheet.size + (rng.f32() - 0.5) * 6.0;
        let size = sheet.size;
        over.push(Text { x, y, size, is_bold: false, content, row: None });
    }
    let boxes: Vec<[f32; 4]> = over.iter().map(|it| sheet.place(it)).collect();
    sheet.texts.extend(over);
    let is_free =
        |row| sheet.places(row).iter().all(|it| !boxes.iter().any(|other| meet(it, other)));
    (0..count).map(is_free).collect()
}

/// Cuts a part of the page off. Returns which rows are whole.
fn cut(page: &mut GrayImage, sheet: &Sheet, rng: &mut Rng, count: usize) -> Vec<bool> {
    let all: Vec<[f32; 4]> = (0..count).flat_map(|it| sheet.places(it)).collect();
    let edge = |of: fn(f32, f32) -> f32, at: usize| {
        all.iter().filter_map(|it| it.get(at)).copied().reduce(of).unwrap_or(0.0)
    };
    let left = edge(f32::min, 0);
    let top = edge(f32::min, 1);
    let right = edge(f32::max, 2);
    let bottom = edge(f32::max, 3);
    // The part that stays, in points.
    let mut rest = [0.0, 0.0, WIDTH, HEIGHT];
    match rng.u8(..4) {
        0 => rest[0] = left + (right - left) * rng.f32() * 0.3,
        1 | 2 => rest[2] = right - (right - left) * rng.f32() * 0.3,
        _ => rest[3] = bottom - (bottom - top) * rng.f32() * 0.5,
    }
    let scale = page.width() as f32 / WIDTH;
    let [x, y, to_x, to_y] = rest.map(|it| pixels(it * scale));
    let wide = to_x.min(page.width()) - x;
    let high = to_y.min(page.height()) - y;
    *page = image::imageops::crop_imm(page, x, y, wide, high).to_image();
    let is_inside = |it: &[f32; 4]| {
        it[0] >= rest[0] && it[1] >= rest[1] && it[2] <= rest[2] && it[3] <= rest[3]
    };
    (0..count).map(|row| sheet.places(row).iter().all(is_inside)).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sides of a picture")]
fn pixels(side: f32) -> u32 {
    side.max(0.0) as u32
}

/// Grey value of the ink of a stamp from which black letters below it can be read.
const LIGHT: f32 = 140.0;

/// Lower bound of the pixels of a stamp that cover something of a row.
const COVERING: usize = 12;

/// Stamps some rows. Returns which of them can be read.
fn stamp(page: &mut GrayImage, sheet: &Sheet, rng: &mut Rng, count: usize) -> Vec<bool> {
    let grey = 60.0 + rng.f32() * 130.0;
    let (width, height) = page.dimensions();
    let scale = width as f32 / WIDTH;
    let places = sheet.places(rng.usize(..count));
    let [left, top, right, bottom] = places.get(rng.usize(..places.len())).copied().unwrap();
    let x = f32::midpoint(left, right) * scale;
    let y = f32::midpoint(top, bottom) * scale;
    let angle = ((rng.f32() - 0.5) * 40.0).to_radians();
    let mark = mark(rng);
    let shift = Projection::translate(x, y)
        * Projection::rotate(angle)
        * Projection::translate(-(mark.width() as f32) / 2.0, -(mark.height() as f32) / 2.0);
    let mut canvas = GrayImage::new(width, height);
    image::imageops::replace(&mut canvas, &mark, 0, 0);
    let canvas = warp(&canvas, shift, Interpolation::Bilinear, Border::Constant(Luma([0])));
    for (pixel, ink) in page.pixels_mut().zip(canvas.pixels()) {
        let share = f32::from(ink.0[0]) / 255.0;
        pixel.0[0] = pixel.0[0].min(byte(255.0 - (255.0 - grey) * share));
    }
    let covered = |place: &[f32; 4]| {
        let [left, top, right, bottom] = place.map(|it| pixels(it * scale));
        let across = left..right.min(width);
        let all = (top..bottom.min(height)).flat_map(|y| across.clone().map(move |x| (x, y)));
        all.filter(|(x, y)| canvas.get_pixel(*x, *y).0[0] > 128).count()
    };
    let is_free = |row| sheet.places(row).iter().all(|it| covered(it) < COVERING);
    (0..count).map(|row| grey >= LIGHT || is_free(row)).collect()
}

/// The ink of a stamp on black: words in a frame or in a ring.
fn mark(rng: &mut Rng) -> GrayImage {
    let bytes = std::fs::read(Path::new("/usr/share/fonts/truetype").join(CHINESE)).unwrap();
    let font = FontVec::try_from_vec(bytes).unwrap();
    let word = choice(rng, &["RECEIVED", "COPY", "检验专用章", "14 JAN 2026", "已审核"]);
    let font = font.into_scaled(PxScale::from(34.0 + rng.f32() * 34.0));
    let text_width: f32 = word.chars().map(|it| font.h_advance(font.glyph_id(it))).sum();
    let is_ring = rng.bool();
    let (wide, high) = if is_ring {
        (text_width * 1.25, text_width * 1.05)
    } else {
        (text_width + 40.0, font.height() + 30.0)
    };
    let mut mark = GrayImage::new(pixels(wide), pixels(high));
    let mut x = (wide - text_width) / 2.0;
    let base = f32::midpoint(high, font.ascent()) * 0.96;
    for letter in word.chars() {
        let glyph = font.glyph_id(letter).with_scale_and_position(font.scale(), point(x, base));
        x += font.h_advance(font.glyph_id(letter));
        let Some(outline) = font.outline_glyph(glyph) else { continue };
        let bounds = outline.px_bounds();
        outline.draw(|dx, dy, share| {
            let place = (pixels(bounds.min.x) + dx, pixels(bounds.min.y) + dy);
            if let Some(pixel) = mark.get_pixel_mut_checked(place.0, place.1) {
                pixel.0[0] = pixel.0[0].max(byte(share * 255.0));
            }
        });
    }
    let line = 3.0 + rng.f32() * 3.0;
    for (x, y, pixel) in mark.enumerate_pixels_mut() {
        let across = x as f32;
        let down = y as f32;
        let from_edge = if is_ring {
            (1.0 - (across / wide * 2.0 - 1.0).hypot(down / high * 2.0 - 1.0)) * high / 2.0
        } else {
            across.min(down).min(wide - 1.0 - across).min(high - 1.0 - down)
        };
        if (0.0..line).contains(&from_edge) {
            pixel.0[0] = 255;
        }
    }
    mark
}
