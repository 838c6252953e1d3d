//! Straightens a picture of a page (PAP-30): cuts the page out of its background, turns it upright,
//! levels its lines, and scales its letters to one height.

use image::{GrayImage, Luma};
use imageproc::contours::{BorderType, find_contours};
use imageproc::contrast::otsu_level;
use imageproc::filter::gaussian_blur_f32;
use imageproc::geometric_transformations::{
    Border, Interpolation, Projection, rotate90, rotate180, warp_into,
};
use imageproc::geometry::{contour_area, convex_hull};
use imageproc::point::Point;
use plugin_api::NodeError;

use super::gray::{ink, resized};
use super::phrases::{Bounds, LETTER_HEIGHT, phrases};
use super::tesseract::Reader;

/// Longer side of the reduced picture in which edges and lines are searched, in pixels.
const SEARCH_SIDE: u32 = 1000;

/// Lower bound of the share of the picture that a page on a table covers.
const PAGE_SHARE_MIN: f64 = 0.2;

/// Lower bound of the share of the border of a picture that is table, for a page on a table.
const TABLE_SHARE_MIN: f64 = 0.3;

/// Upper bound of the angle of lines, in degrees.
const LEAN_MAX: f64 = 15.0;

/// Upper bound of the pixels of a page.
const PIXELS_MAX: f32 = 14e6;

/// The corners of a page: upper left, upper right, lower right, lower left.
pub(crate) type Corners = [(f32, f32); 4];

/// A straightened page, with the corrections that were applied.
pub(crate) struct Upright {
    /// The page: ink on white, without its rules.
    pub(crate) sheet: GrayImage,
    /// The page with its grey values.
    pub(crate) picture: GrayImage,
    /// Boxes around its phrases.
    pub(crate) phrases: Vec<Bounds>,
    /// Corners of the page in the picture; nothing if it fills the picture.
    pub(crate) corners: Option<Corners>,
    /// Number of rotations by 90 degrees, clockwise.
    pub(crate) quarters: u8,
    /// Angle of its lines before they were levelled, in degrees, clockwise.
    pub(crate) lean: f64,
    /// Factor by which it was scaled.
    pub(crate) scale: f32,
    /// Whether some of its text is Chinese.
    pub(crate) is_chinese: bool,
}

/// Straightens a picture of a page. `reader` decides between a page and the same page upside down.
pub(crate) fn upright(picture: &GrayImage, reader: &mut Reader) -> Result<Upright, NodeError> {
    let picture = &limited_to_pixels_max(picture);
    let corners = corners(picture);
    let page = corners.map_or_else(|| picture.clone(), |it| cut_out(picture, it));
    let mut lean = lean(&page);
    let mut page = level(&page, lean);
    // Lines from top to bottom become level by a rotation of the page.
    let quarters = u8::from(lines_stand(&page));
    if quarters == 1 {
        page = rotate90(&page);
        let rest = self::lean(&page);
        page = level(&page, rest);
        lean += rest;
    }
    let (page, scale) = sized(page);
    let (plain, bounds) = phrases(&page);
    let turned = rotate180(&plain);
    let (width, height) = plain.dimensions();
    let back = |[left, top, right, bottom]: &Bounds| {
        [width - right, height - bottom, width - left, height - top]
    };
    let probes = probes(&bounds);
    let turned_probes: Vec<Bounds> = probes.iter().map(back).collect();
    let here = reader.sense(&plain, &probes)?;
    let there = reader.sense(&turned, &turned_probes)?;
    Ok(if there.0 > here.0 {
        let phrases = bounds.iter().map(back).collect();
        let sheet = turned;
        let picture = rotate180(&page);
        let quarters = quarters + 2;
        let is_chinese = there.1;
        Upright { sheet, picture, phrases, corners, quarters, lean, scale, is_chinese }
    } else {
        let phrases = bounds;
        let is_chinese = here.1;
        Upright { sheet: plain, picture: page, phrases, corners, quarters, lean, scale, is_chinese }
    })
}

/// Some phrases of a few words, from all over the page.
fn probes(bounds: &[Bounds]) -> Vec<Bounds> {
    const PROBES: usize = 12;
    let width = |it: &Bounds| (it[2] - it[0]) as f32 / LETTER_HEIGHT;
    let mut fit: Vec<Bounds> =
        bounds.iter().filter(|it| (2.5..16.0).contains(&width(it))).copied().collect();
    fit.sort_by(|a, b| width(b).total_cmp(&width(a)));
    fit.truncate(PROBES);
    fit
}

/// Scales a picture down to the upper bound of pixels.
fn limited_to_pixels_max(picture: &GrayImage) -> GrayImage {
    let pixels = picture.width() as f32 * picture.height() as f32;
    resized(picture, (PIXELS_MAX / pixels).sqrt().min(1.0))
}

/// The corners of a bright page on a darker table; nothing if there is no table around it.
fn corners(picture: &GrayImage) -> Option<Corners> {
    let (small, scale) = shrunk(picture);
    let small = gaussian_blur_f32(&small, 2.0);
    let level = otsu_level(&small);
    let (width, height) = small.dimensions();
    let is_page = |it: &Luma<u8>| it.0[0] > level;
    let edge = (0..width)
        .flat_map(|x| [(x, 0), (x, height - 1)])
        .chain((0..height).flat_map(|y| [(0, y), (width - 1, y)]));
    let mut table = 0_u32;
    let mut all = 0_u32;
    for (x, y) in edge {
        table += u32::from(!is_page(small.get_pixel(x, y)));
        all += 1;
    }
    if f64::from(table) < TABLE_SHARE_MIN * f64::from(all) {
        return None;
    }
    let mask = GrayImage::from_fn(width, height, |x, y| {
        Luma([if is_page(small.get_pixel(x, y)) { u8::MAX } else { 0 }])
    });
    let outlines = find_contours::<i32>(&mask);
    let outer = outlines.into_iter().filter(|it| it.border_type == BorderType::Outer);
    let largest =
        outer.max_by(|a, b| contour_area(&a.points).total_cmp(&contour_area(&b.points)))?;
    let area = contour_area(&largest.points);
    if area < PAGE_SHARE_MIN * f64::from(width) * f64::from(height) {
        return None;
    }
    let hull = convex_hull(largest.points.clone());
    let rough = largest_quadrilateral(&hull)?;
    let fine = fitted(&largest.points, rough)?;
    // A bright patch of another shape than a page does not fill its corners.
    let is_filled = area > 0.9 * quad_area(fine);
    // A shadow has no edge.
    (is_filled && has_edges(&small, fine))
        .then(|| fine.map(|(x, y)| ((x + 0.5) * scale, (y + 0.5) * scale)))
}

fn shrunk(picture: &GrayImage) -> (GrayImage, f32) {
    let (width, height) = picture.dimensions();
    let scale = (width.max(height) as f32 / SEARCH_SIDE as f32).max(1.0);
    (resized(picture, 1.0 / scale), scale)
}

/// The largest quadrilateral with its corners on a hull: corners are removed where the least area
/// is lost.
fn largest_quadrilateral(hull: &[Point<i32>]) -> Option<Corners> {
    let mut corners: Vec<(f32, f32)> = hull.iter().map(|it| (it.x as f32, it.y as f32)).collect();
    while corners.len() > 4 {
        let count = corners.len();
        let at = |it: usize| corners.get(it % count).copied().unwrap_or_default();
        let lost = |it: usize| triangle(at(it + count - 1), at(it), at(it + 1));
        let least = (0..count).min_by(|a, b| lost(*a).total_cmp(&lost(*b)))?;
        corners.remove(least);
    }
    let corners: Corners = corners.try_into().ok()?;
    Some(in_order(corners))
}

fn triangle(a: (f32, f32), b: (f32, f32), c: (f32, f32)) -> f32 {
    ((b.0 - a.0) * (c.1 - a.1) - (c.0 - a.0) * (b.1 - a.1)).abs() / 2.0
}

/// Orders corners clockwise, from the one nearest to the upper left of the picture.
fn in_order(mut corners: Corners) -> Corners {
    let centre =
        corners.iter().fold((0.0, 0.0), |sum, it| (sum.0 + it.0 / 4.0, sum.1 + it.1 / 4.0));
    let angle = |it: &(f32, f32)| (it.1 - centre.1).atan2(it.0 - centre.0);
    corners.sort_by(|a, b| angle(a).total_cmp(&angle(b)));
    let sum = |it: &(f32, f32)| it.0 + it.1;
    let first = (0..4).min_by(|a, b| {
        let [a, b] = [*a, *b].map(|it| corners.get(it).map_or(f32::MAX, sum));
        a.total_cmp(&b)
    });
    corners.rotate_left(first.unwrap_or(0));
    corners
}

/// Whether at least three sides are steps from dark to bright.
fn has_edges(small: &GrayImage, corners: Corners) -> bool {
    const STEP_MIN: f32 = 20.0;
    const REACH: f32 = 5.0;
    let [a, b, c, d] = corners;
    let value = |(x, y): (f32, f32)| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        let pixel = (x >= 0.0 && y >= 0.0).then(|| small.get_pixel_checked(x as u32, y as u32));
        pixel.flatten().map(|it| f32::from(it.0[0]))
    };
    let step = |(from, to): ((f32, f32), (f32, f32))| {
        let dx = to.0 - from.0;
        let dy = to.1 - from.1;
        let length = dx.hypot(dy).max(1.0);
        // Corners are clockwise, so the inside is on the right of each side.
        let x = -dy / length * REACH;
        let y = dx / length * REACH;
        let steps = (2_u8..=18).filter_map(|it| {
            let share = f32::from(it) / 20.0;
            let px = from.0 + dx * share;
            let py = from.1 + dy * share;
            Some(value((px + x, py + y))? - value((px - x, py - y))?)
        });
        let mut steps: Vec<f32> = steps.collect();
        steps.sort_by(f32::total_cmp);
        steps.get(steps.len() / 2).copied().unwrap_or(0.0)
    };
    let sides = [(a, b), (b, c), (c, d), (d, a)];
    sides.into_iter().filter(|it| step(*it) >= STEP_MIN).count() >= 3
}

fn quad_area([a, b, c, d]: Corners) -> f64 {
    f64::from(triangle(a, b, c) + triangle(a, c, d))
}

/// The corners as intersections of lines that are fitted to the points of each side.
fn fitted(outline: &[Point<i32>], rough: Corners) -> Option<Corners> {
    let [a, b, c, d] = rough;
    let sides = [(a, b), (b, c), (c, d), (d, a)].map(|(from, to)| side(outline, from, to));
    let [top, right, bottom, left] = sides;
    Some([meet(left?, top?)?, meet(top?, right?)?, meet(right?, bottom?)?, meet(bottom?, left?)?])
}

/// A line: a point on it and its direction.
type Line = ((f32, f32), (f32, f32));

/// The line through the points near a side, without its ends.
fn side(outline: &[Point<i32>], from: (f32, f32), to: (f32, f32)) -> Option<Line> {
    let dx = to.0 - from.0;
    let dy = to.1 - from.1;
    let length = dx.hypot(dy);
    if length < 8.0 {
        return None;
    }
    let near = outline.iter().filter_map(|it| {
        let x = it.x as f32 - from.0;
        let y = it.y as f32 - from.1;
        let along = (x * dx + y * dy) / length / length;
        let off = (x * dy - y * dx).abs() / length;
        ((0.08..0.92).contains(&along) && off < 0.02 * length).then_some((it.x as f32, it.y as f32))
    });
    let points: Vec<(f32, f32)> = near.collect();
    let count = points.len() as f32;
    if count < 8.0 {
        return None;
    }
    let sum = points.iter().fold((0.0, 0.0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    let centre = (sum.0 / count, sum.1 / count);
    let mut xx = 0.0;
    let mut xy = 0.0;
    let mut yy = 0.0;
    for (x, y) in &points {
        let x = x - centre.0;
        let y = y - centre.1;
        xx += x * x;
        xy += x * y;
        yy += y * y;
    }
    // The direction of the largest variance of the points.
    let angle = 0.5 * (2.0 * xy).atan2(xx - yy);
    Some((centre, (angle.cos(), angle.sin())))
}

fn meet((p, u): Line, (q, v): Line) -> Option<(f32, f32)> {
    let cross = u.0 * v.1 - u.1 * v.0;
    if cross.abs() < 0.1 {
        return None;
    }
    let along = ((q.0 - p.0) * v.1 - (q.1 - p.1) * v.0) / cross;
    Some((p.0 + along * u.0, p.1 + along * u.1))
}

/// Cuts out the page and maps it to a rectangle.
fn cut_out(picture: &GrayImage, corners: Corners) -> GrayImage {
    let [a, b, c, d] = corners;
    let length = |from: (f32, f32), to: (f32, f32)| (to.0 - from.0).hypot(to.1 - from.1);
    let width = length(a, b).max(length(d, c)).round();
    let height = length(a, d).max(length(b, c)).round();
    // Slightly less than the page: its edge is a shadow.
    let inset = 0.004 * width.min(height);
    let to = [
        (-inset, -inset),
        (width + inset, -inset),
        (width + inset, height + inset),
        (-inset, height + inset),
    ];
    let Some(projection) = Projection::from_control_points(corners, to) else {
        return picture.clone();
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sides of a picture"
    )]
    let mut page = GrayImage::new((width as u32).max(1), (height as u32).max(1));
    let white = Border::Constant(Luma([u8::MAX]));
    warp_into(picture, projection, Interpolation::Bicubic, white, &mut page);
    page
}

/// The positions of ink relative to the centre of the reduced picture, up to some ten thousand, and
/// half the diagonal of the picture.
fn places(page: &GrayImage) -> (Vec<(f64, f64)>, f64) {
    const PLACES_MAX: usize = 60_000;
    let (small, _) = shrunk(page);
    let dark = ink(&small, 12, 12);
    let (width, height) = dark.dimensions();
    let middle_x = f64::from(width) / 2.0;
    let middle_y = f64::from(height) / 2.0;
    let is_inside = |x: u32, y: u32| {
        let margin = (width.min(height) / 50).max(2);
        (margin..width - margin.min(width)).contains(&x)
            && (margin..height - margin.min(height)).contains(&y)
    };
    let places = dark.enumerate_pixels().filter(|(x, y, it)| it.0[0] > 0 && is_inside(*x, *y));
    let places: Vec<(f64, f64)> =
        places.map(|(x, y, _)| (f64::from(x) - middle_x, f64::from(y) - middle_y)).collect();
    let step = places.len().div_ceil(PLACES_MAX).max(1);
    (places.into_iter().step_by(step).collect(), middle_x.hypot(middle_y))
}

/// How sharply ink is concentrated in lines at an angle of `degrees`: the variation of its
/// projection profile.
fn sharpness(ink: &[(f64, f64)], reach: f64, degrees: f64) -> f64 {
    let (sine, cosine) = degrees.to_radians().sin_cos();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not below zero")]
    let bin = |(x, y): &(f64, f64)| (y * cosine - x * sine + reach + 1.0).max(0.0) as usize;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "half a diagonal")]
    let mut rows = vec![0.0_f64; (2.0 * reach) as usize + 4];
    for place in ink {
        if let Some(row) = rows.get_mut(bin(place)) {
            *row += 1.0;
        }
    }
    rows.windows(2).map(|it| if let [a, b] = it { (a - b).powi(2) } else { 0.0 }).sum()
}

/// The angle of the lines of a page, clockwise from horizontal or vertical, in degrees.
pub(crate) fn lean(page: &GrayImage) -> f64 {
    let (ink, reach) = places(page);
    let stood: Vec<(f64, f64)> = ink.iter().map(|(x, y)| (-y, *x)).collect();
    let best = |ink: &[(f64, f64)], around: f64, reach_degrees: f64, step: f64| {
        let count = (reach_degrees / step).round();
        #[expect(clippy::cast_possible_truncation, reason = "some hundred steps")]
        let steps = -(count as i32)..=(count as i32);
        let tried = steps.map(|it| {
            let degrees = around + f64::from(it) * step;
            (degrees, sharpness(ink, reach, degrees))
        });
        tried.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0.0, 0.0))
    };
    let level = best(&ink, 0.0, LEAN_MAX, 0.5);
    let stands = best(&stood, 0.0, LEAN_MAX, 0.5);
    let (ink, rough) = if stands.1 > level.1 { (stood, stands.0) } else { (ink, level.0) };
    let (fine, _) = best(&ink, rough, 0.5, 0.1);
    best(&ink, fine, 0.1, 0.02).0
}

/// Whether lines run from top to bottom, on a page that is level.
fn lines_stand(page: &GrayImage) -> bool {
    let (ink, reach) = places(page);
    let stood: Vec<(f64, f64)> = ink.iter().map(|(x, y)| (-y, *x)).collect();
    sharpness(&stood, reach, 0.0) > sharpness(&ink, reach, 0.0)
}

fn level(page: &GrayImage, lean: f64) -> GrayImage {
    if lean.abs() < 0.05 {
        return page.clone();
    }
    #[expect(clippy::cast_possible_truncation, reason = "an angle")]
    let angle = -lean.to_radians() as f32;
    let width = page.width() as f32;
    let height = page.height() as f32;
    let sine = angle.sin().abs();
    let cosine = angle.cos();
    let wide = width * cosine + height * sine;
    let high = width * sine + height * cosine;
    let turn = Projection::translate(wide / 2.0, high / 2.0)
        * Projection::rotate(angle)
        * Projection::translate(-width / 2.0, -height / 2.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sides of a picture"
    )]
    let mut turned = GrayImage::new(wide.ceil() as u32, high.ceil() as u32);
    let white = Border::Constant(Luma([u8::MAX]));
    warp_into(page, turn, Interpolation::Bicubic, white, &mut turned);
    turned
}

/// Scales the page so that its letters have the height at which they are read best.
fn sized(page: GrayImage) -> (GrayImage, f32) {
    let Some(height) = letter_height(&page) else { return (page, 1.0) };
    let pixels = page.width() as f32 * page.height() as f32;
    let scale = (LETTER_HEIGHT / height).clamp(0.5, 4.0).min((PIXELS_MAX / pixels).sqrt());
    if (scale - 1.0).abs() < 0.05 { (page, 1.0) } else { (resized(&page, scale), scale) }
}

/// The height of capitals; nothing if there are no letters.
fn letter_height(page: &GrayImage) -> Option<f32> {
    // The blur removes the grain of paper and of JPEG.
    let dark = ink(&gaussian_blur_f32(page, 0.8), 15, 30);
    let outlines = find_contours::<i32>(&dark);
    let heights =
        outlines.iter().filter(|it| it.border_type == BorderType::Outer).filter_map(|it| {
            let ys = || it.points.iter().map(|it| it.y);
            let xs = || it.points.iter().map(|it| it.x);
            let high = ys().max()? - ys().min()? + 1;
            let wide = xs().max()? - xs().min()? + 1;
            ((6..200).contains(&high) && wide < 3 * high && high < 6 * wide).then_some(high)
        });
    let mut heights: Vec<i32> = heights.collect();
    heights.sort_unstable();
    // Two thirds of the letters are lower case; the rest are capitals and digits.
    let capital = heights.get(heights.len() * 7 / 10)?;
    Some(*capital as f32 * 1.15)
}
