//! Defects of a picture of a page that make it hard to read (PAP-36).

use image::GrayImage;
use imageproc::filter::gaussian_blur_f32;

use super::gray::ink;
use super::straighten::{Corners, Upright};

/// A defect of a picture of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// Part of the page is not on the picture.
    Cropped,
    /// Letters have no sharp edges.
    Blurred,
    /// The page is rotated by a quarter or more, or leans by more than two degrees.
    Turned,
    /// The page was photographed from the side.
    Warped,
    /// A crease runs across the page.
    Folded,
    /// A part of the page is much darker than the rest.
    Shaded,
    /// Ink and paper are nearly of one grey.
    Pale,
    /// Letters are of few dots.
    Coarse,
}

impl Flaw {
    /// A description for people.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Cropped => "part of the page is missing",
            Self::Blurred => "the page is blurred",
            Self::Turned => "the page was turned",
            Self::Warped => "the page was taken from the side",
            Self::Folded => "the page has a crease",
            Self::Shaded => "there is a shadow on the page",
            Self::Pale => "the print is pale",
            Self::Coarse => "the picture has few dots",
        }
    }
}

/// Number of squares per side of a page, in which its brightness is compared.
const SQUARES: u32 = 12;

/// The page that is examined: cut out and upright, with a mask of its ink.
struct Look<'a> {
    page: &'a GrayImage,
    ink: GrayImage,
    size: (u32, u32),
}

/// All defects of a picture of a page.
pub(crate) fn flaws(picture: &GrayImage, upright: &Upright) -> Vec<Flaw> {
    let page = &upright.picture;
    let soft = gaussian_blur_f32(page, 1.1);
    let look = Look { page, ink: ink(&soft, 25, 10), size: page.dimensions() };
    let checks = [
        (Flaw::Cropped, is_cropped(picture, upright)),
        (Flaw::Blurred, sharpness(&look).is_some_and(|it| it < SHARP_MIN)),
        (Flaw::Turned, upright.quarters != 0 || upright.lean.abs() > 2.0),
        (Flaw::Warped, upright.corners.is_some_and(is_warped)),
        (Flaw::Folded, has_crease(&look)),
        (Flaw::Shaded, is_shaded(&look)),
        (Flaw::Pale, contrast(&look).is_some_and(|it| it < CONTRAST_MIN)),
        (Flaw::Coarse, upright.scale > COARSE),
    ];
    checks.into_iter().filter(|(_, is_so)| *is_so).map(|(it, _)| it).collect()
}

/// Lower bound of the contrast of neighbouring pixels at an edge of a sharp letter, as a share of
/// the difference between ink and paper.
const SHARP_MIN: f32 = 0.16;

/// Lower bound of the difference between ink and paper, of 255.
const CONTRAST_MIN: f32 = 60.0;

/// Upper bound of the factor by which letters are enlarged for recognition, beyond which they have
/// few dots.
const COARSE: f32 = 2.4;

/// Whether text reaches the edge of the picture, or a corner of the page lies outside of it.
fn is_cropped(picture: &GrayImage, upright: &Upright) -> bool {
    let width = picture.width() as f32;
    let height = picture.height() as f32;
    let is_outside = |(x, y): &(f32, f32)| {
        *x < -0.01 * width || *y < -0.01 * height || *x > 1.01 * width || *y > 1.01 * height
    };
    if let Some(corners) = upright.corners {
        return corners.iter().any(is_outside);
    }
    let (width, height) = upright.sheet.dimensions();
    let margin = width.min(height) / 200 + 2;
    let is_at_edge = |[left, top, right, bottom]: &&[u32; 4]| {
        *left < margin || *top < margin || *right + margin > width || *bottom + margin > height
    };
    upright.phrases.iter().filter(is_at_edge).count() >= 3
}

fn is_warped([a, b, c, d]: Corners) -> bool {
    let length = |p: (f32, f32), q: (f32, f32)| (p.0 - q.0).hypot(p.1 - q.1);
    let differ = |p: f32, q: f32| (p - q).abs() > 0.03 * p.max(q);
    differ(length(a, b), length(d, c)) || differ(length(a, d), length(b, c))
}

/// The median of some values; nothing if there are none.
fn median(mut values: Vec<u8>) -> Option<f32> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| f32::from(*values.select_nth_unstable(middle).1))
}

/// The difference between the median of ink and that of paper, of 255; nothing without ink.
fn contrast(look: &Look<'_>) -> Option<f32> {
    let of = |is_ink: bool| {
        let places = look.ink.enumerate_pixels().filter(|(.., it)| (it.0[0] > 0) == is_ink);
        places.step_by(7).map(|(x, y, _)| look.page.get_pixel(x, y).0[0]).collect::<Vec<u8>>()
    };
    let mut ink = of(true);
    if ink.is_empty() {
        return None;
    }
    // Only the darkest third: the rest are edges of letters.
    ink.sort_unstable();
    ink.truncate((ink.len() / 3).max(1));
    Some(median(of(false))? - median(ink)?)
}

/// The gradient of the steepest edges between paper and ink, as a share of the contrast.
fn sharpness(look: &Look<'_>) -> Option<f32> {
    let contrast = contrast(look)?.max(1.0);
    let soft = gaussian_blur_f32(look.page, 0.7);
    let (width, height) = look.size;
    let mut steps: Vec<u8> = Vec::new();
    for (x, y, it) in look.ink.enumerate_pixels() {
        if it.0[0] == 0 || x == 0 || y == 0 || x + 1 >= width || y + 1 >= height {
            continue;
        }
        let value = |x: u32, y: u32| soft.get_pixel(x, y).0[0];
        let across = value(x + 1, y).abs_diff(value(x - 1, y));
        let down = value(x, y + 1).abs_diff(value(x, y - 1));
        steps.push(across.max(down));
    }
    steps.sort_unstable();
    let steep = steps.get(steps.len() * 17 / 20)?;
    Some(f32::from(*steep) / 2.0 / contrast)
}

/// The median brightness of the paper in each square of the page.
fn squares(look: &Look<'_>) -> Vec<f32> {
    let (width, height) = look.size;
    let square = |index: u32| {
        let column = index % SQUARES;
        let row = index / SQUARES;
        let xs = width * column / SQUARES..width * (column + 1) / SQUARES;
        let ys = height * row / SQUARES..height * (row + 1) / SQUARES;
        let places = ys.step_by(5).flat_map(|y| xs.clone().step_by(5).map(move |x| (x, y)));
        let paper = places.filter(|(x, y)| look.ink.get_pixel(*x, *y).0[0] == 0);
        median(paper.map(|(x, y)| look.page.get_pixel(x, y).0[0]).collect())
    };
    (0..SQUARES * SQUARES).filter_map(square).collect()
}

fn is_shaded(look: &Look<'_>) -> bool {
    let mut squares = squares(look);
    squares.sort_by(f32::total_cmp);
    let at = |share: usize| squares.get(squares.len() * share / 100).copied();
    match (at(5), at(90)) {
        (Some(dark), Some(bright)) => dark < 0.8 * bright,
        _ => false,
    }
}

/// Whether the paper is darker or brighter along a line from edge to edge than on both sides of it.
fn has_crease(look: &Look<'_>) -> bool {
    let (width, height) = look.size;
    let paper = |x: u32, y: u32| {
        (look.ink.get_pixel(x, y).0[0] == 0).then(|| f32::from(look.page.get_pixel(x, y).0[0]))
    };
    has_line_of_crease(width, height, paper)
        || has_line_of_crease(height, width, |along, at| paper(at, along))
}

/// Number of parts of a line in which a crease is searched. It must be found in nearly all of them.
const PARTS: u32 = 10;

fn has_line_of_crease(length: u32, lines: u32, paper: impl Fn(u32, u32) -> Option<f32>) -> bool {
    let reach = (lines / 60).max(4);
    let part_mean = |part: u32, at: u32| {
        let range = length * part / PARTS..length * (part + 1) / PARTS;
        let (sum, count) = range
            .step_by(3)
            .filter_map(|it| paper(it, at))
            .fold((0.0, 0.0), |sum, it| (sum.0 + it, sum.1 + 1.0));
        if count > 0.0 { sum / count } else { f32::NAN }
    };
    let means: Vec<Vec<f32>> =
        (0..lines).map(|at| (0..PARTS).map(|part| part_mean(part, at)).collect()).collect();
    let at = |line: u32, part: usize| {
        means.get(line as usize).and_then(|it| it.get(part)).copied().unwrap_or(f32::NAN)
    };
    (reach..lines.saturating_sub(reach)).any(|line| {
        let step = |part: usize| {
            let beside = f32::midpoint(at(line - reach, part), at(line + reach, part));
            at(line, part) - beside
        };
        // The parts at the margins are without text.
        let steps: Vec<f32> = (0..PARTS as usize).map(step).collect();
        let dark = steps.iter().filter(|it| **it < -CREASE).count();
        let bright = steps.iter().filter(|it| **it > CREASE).count();
        dark.max(bright) + 1 >= steps.len()
    })
}

/// Lower bound of the difference in brightness between a crease and the paper beside it, of 255.
const CREASE: f32 = 9.0;
