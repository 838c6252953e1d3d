//! Finds the phrases of a page: the boxes around its text, without the rules between them.

use image::{GrayImage, Luma};
use imageproc::distance_transform::Norm;
use imageproc::filter::gaussian_blur_f32;
use imageproc::morphology::dilate;
use imageproc::region_labelling::{Connectivity, connected_components};

use super::gray::ink;
use crate::vocabulary::is_han;

/// Height to which letters are scaled, in pixels: about the one that Tesseract was trained with.
pub(crate) const LETTER_HEIGHT: f32 = 28.0;

/// Upper bound of a gap within a phrase, in heights of a capital: more than a space, less than a
/// column gap.
const GAP_MAX: f32 = 0.62;

/// Lower bound of the length of a rule, in heights of a capital.
const RULE_LENGTH_MIN: f32 = 4.0;

/// Upper bound of the thickness of a rule, in pixels.
const RULE_THICKNESS_MAX: u32 = 9;

/// Standard deviation of the blur against the grain of a page, in pixels.
const BLUR_SIGMA: f32 = 1.1;

/// A box: left, top, right and bottom, where right and bottom are excluded.
pub(crate) type Bounds = [u32; 4];

/// The page without its rules, and the boxes around its phrases.
pub(crate) fn phrases(sheet: &GrayImage) -> (GrayImage, Vec<Bounds>) {
    let soft = gaussian_blur_f32(sheet, BLUR_SIGMA);
    let mut ink = ink(&soft, 25, 18);
    for (x, y) in rules(&ink) {
        ink.put_pixel(x, y, Luma([0]));
    }
    let boxes = boxes(&smeared(&ink), &ink);
    (clean(&soft, &ink), merge_boxes(boxes))
}

/// The ink on white, without grain, shadows and rules.
fn clean(soft: &GrayImage, ink: &GrayImage) -> GrayImage {
    let near = dilate(ink, Norm::LInf, 2);
    GrayImage::from_fn(soft.width(), soft.height(), |x, y| {
        let value = if is_ink(&near, x, y) { soft.get_pixel(x, y).0[0] } else { u8::MAX };
        Luma([value])
    })
}

/// The pixels of rules: long straight lines of ink, without the letters that cross them.
fn rules(ink: &GrayImage) -> Vec<(u32, u32)> {
    let (width, height) = ink.dimensions();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some hundred pixels"
    )]
    let long = (RULE_LENGTH_MIN * LETTER_HEIGHT) as u32;
    let level = runs(height, width, long, |y, x| is_ink(ink, x, y)).into_iter();
    let upright = runs(width, height, long, |x, y| is_ink(ink, x, y)).into_iter();
    let mut found: Vec<(u32, u32)> = Vec::new();
    for (y, x) in level {
        let (from, to) = thickness(height, y, |it| is_ink(ink, x, it));
        if to - from <= RULE_THICKNESS_MAX {
            found.extend((from.saturating_sub(1)..(to + 1).min(height)).map(|it| (x, it)));
        }
    }
    for (x, y) in upright {
        let (from, to) = thickness(width, x, |it| is_ink(ink, it, y));
        if to - from <= RULE_THICKNESS_MAX {
            found.extend((from.saturating_sub(1)..(to + 1).min(width)).map(|it| (it, y)));
        }
    }
    found
}

fn is_ink(ink: &GrayImage, x: u32, y: u32) -> bool {
    ink.get_pixel_checked(x, y).is_some_and(|it| it.0[0] > 0)
}

/// The pixels of all runs of ink of `long` pixels or more, with breaks of up to two pixels.
fn runs(lines: u32, length: u32, long: u32, is_ink: impl Fn(u32, u32) -> bool) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    for line in 0..lines {
        let mut start: Option<u32> = None;
        let mut last = 0;
        for at in 0..=length + 3 {
            if at < length && is_ink(line, at) {
                start.get_or_insert(at);
                last = at;
            } else if let Some(from) = start.filter(|_| at > last + 2) {
                if last - from >= long {
                    found.extend((from..=last).map(|it| (line, it)));
                }
                start = None;
            }
        }
    }
    found
}

/// The first and last pixel (excluded) of the ink around a pixel of a line.
fn thickness(length: u32, at: u32, is_ink: impl Fn(u32) -> bool) -> (u32, u32) {
    let from = (0..at).rev().take_while(|it| is_ink(*it)).last().unwrap_or(at);
    let to = (at..length).take_while(|it| is_ink(*it)).last().unwrap_or(at);
    (from, to + 1)
}

/// The ink with the gaps between the letters of a phrase filled.
fn smeared(ink: &GrayImage) -> GrayImage {
    let mut smeared = ink.clone();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some pixels")]
    let gap = (GAP_MAX * LETTER_HEIGHT) as u32;
    for y in 0..ink.height() {
        let mut last: Option<u32> = None;
        for x in 0..ink.width() {
            if !is_ink(ink, x, y) {
                continue;
            }
            if let Some(from) = last.filter(|it| x - it <= gap) {
                (from + 1..x).for_each(|it| smeared.put_pixel(it, y, Luma([u8::MAX])));
            }
            last = Some(x);
        }
    }
    smeared
}

/// Boxes around the connected parts of the filled ink. Grain, pictures and the edge of the page are
/// left out.
fn boxes(smeared: &GrayImage, ink: &GrayImage) -> Vec<Bounds> {
    let labels = connected_components(smeared, Connectivity::Eight, Luma([0]));
    let count = labels.pixels().map(|it| it.0[0]).max().unwrap_or(0);
    let mut found = vec![([u32::MAX, u32::MAX, 0, 0], 0_u32); count as usize + 1];
    for (x, y, label) in labels.enumerate_pixels() {
        if let Some(([left, top, right, bottom], dots)) = found.get_mut(label.0[0] as usize) {
            *left = x.min(*left);
            *top = y.min(*top);
            *right = (x + 1).max(*right);
            *bottom = (y + 1).max(*bottom);
            *dots += u32::from(is_ink(ink, x, y));
        }
    }
    let is_written = |(it, dots): &([u32; 4], u32)| {
        let [left, top, right, bottom] = *it;
        let wide = right.saturating_sub(left);
        let high = bottom.saturating_sub(top);
        // Not grain, and not a picture or the edge of the page.
        *dots >= 8 && wide.max(high) >= 4 && (high as f32) < 4.0 * LETTER_HEIGHT
    };
    found.into_iter().skip(1).filter(is_written).map(|(it, _)| it).collect()
}

/// Merges boxes that are parts of one phrase: points, dashes, strokes above each other.
fn merge_boxes(mut boxes: Vec<Bounds>) -> Vec<Bounds> {
    boxes.sort_by_key(|it| it[0]);
    let mut is_changed = true;
    while is_changed {
        is_changed = false;
        let mut merged: Vec<Bounds> = Vec::new();
        for it in boxes {
            match merged.iter_mut().find(|other| is_one_phrase(other, &it)) {
                Some(other) => {
                    *other = around(*other, it);
                    is_changed = true;
                }
                None => merged.push(it),
            }
        }
        boxes = merged;
    }
    // Remains of a rule, or dirt of the scanner, are lower than any single letter.
    boxes.retain(|[_, top, _, bottom]| (bottom - top) as f32 >= 0.4 * LETTER_HEIGHT);
    boxes
}

fn around(a: Bounds, b: Bounds) -> Bounds {
    [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]
}

fn is_dash([left, top, right, bottom]: &Bounds) -> bool {
    let wide = (right - left) as f32;
    let high = (bottom - top) as f32;
    high < 0.35 * LETTER_HEIGHT && (0.15 * LETTER_HEIGHT..1.5 * LETTER_HEIGHT).contains(&wide)
}

fn is_one_phrase(a: &Bounds, b: &Bounds) -> bool {
    let span = |from: u32, to: u32| to as f32 - from as f32;
    let [_, top, _, bottom] = around(*a, *b);
    let across = span(a[0].max(b[0]), a[2].min(b[2]));
    let down = span(a[1].max(b[1]), a[3].min(b[3]));
    let low_a = span(a[1], a[3]);
    let low_b = span(b[1], b[3]);
    let is_one_line = span(top, bottom) <= 1.5 * LETTER_HEIGHT;
    // A dash stands between spaces.
    let has_dash = [a, b].iter().any(|it| is_dash(it));
    let gap = if has_dash { 2.0 * GAP_MAX } else { GAP_MAX };
    let is_beside = across >= -gap * LETTER_HEIGHT && down >= 0.5 * low_a.min(low_b);
    let is_above =
        across >= 0.5 * span(a[0], a[2]).min(span(b[0], b[2])) && down >= -0.35 * LETTER_HEIGHT;
    is_one_line && (is_beside || is_above)
}

/// The parts of ink of a number: its digits, and its points.
struct Figures {
    digits: Vec<Bounds>,
    points: Vec<Bounds>,
}

impl Figures {
    fn of(sheet: &GrayImage, [left, top, right, bottom]: Bounds) -> Self {
        const DARK: u8 = 215;
        let part = image::imageops::crop_imm(sheet, left, top, right - left, bottom - top);
        let part = part.to_image();
        let dark = GrayImage::from_fn(part.width(), part.height(), |x, y| {
            Luma([if part.get_pixel(x, y).0[0] < DARK { u8::MAX } else { 0 }])
        });
        let mut parts = boxes(&dark, &dark);
        parts.sort_by_key(|it| it[0]);
        let high = part.height() as f32;
        let is_digit = |it: &Bounds| (it[3] - it[1]) as f32 > 0.6 * high;
        let is_point = |it: &Bounds| {
            let wide = (it[2] - it[0]) as f32;
            let tall = (it[3] - it[1]) as f32;
            wide < 0.35 * high && tall < 0.35 * high && it[1] as f32 > 0.6 * high
        };
        let digits = parts.iter().filter(|it| is_digit(it)).copied().collect();
        let points = parts.iter().filter(|it| is_point(it)).copied().collect();
        Self { digits, points }
    }
}

/// Whether the picture of a number shows more digits or points than were read. Digits may touch
/// each other, so that fewer say nothing.
pub(crate) fn has_unread_figure(sheet: &GrayImage, bounds: Bounds, text: &str) -> bool {
    let Figures { digits, points } = Figures::of(sheet, bounds);
    let is_point = |it: &char| matches!(it, '.' | ',' | ':' | ';');
    let is_dash = |it: &char| matches!(it, '-' | '~' | '–' | '—');
    let read = text.chars().filter(is_point).count();
    points.len() > read
        || digits.len() > text.chars().filter(|it| !is_point(it) && !is_dash(it)).count()
}

/// Whether a phrase of Chinese characters is much wider than what was read of it.
pub(crate) fn is_wider_than([left, top, right, bottom]: Bounds, text: &str) -> bool {
    const SHARE: f32 = 1.5;
    let width = |it: char| if is_han(it) { 1.15 } else { 0.7 };
    let read: f32 = text.chars().map(width).sum();
    (right - left) as f32 > SHARE * read * (bottom - top) as f32
}

/// A number with the decimal point that its picture shows: recognition loses points more often than
/// anything else, and no error is worse. Nothing if the picture shows no point.
pub(crate) fn with_decimal_point(sheet: &GrayImage, bounds: Bounds, text: &str) -> Option<String> {
    if text.len() < 2 || !text.chars().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let Figures { digits, points } = Figures::of(sheet, bounds);
    let [point] = points.as_slice() else { return None };
    if digits.len() != text.len() {
        return None;
    }
    let before = digits.iter().filter(|it| it[0] < point[0]).count();
    let (whole, rest) = text.split_at_checked(before)?;
    let is_inside = !whole.is_empty() && !rest.is_empty();
    is_inside.then(|| format!("{whole}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sheet with these blocks of ink: left, top, right, bottom.
    fn sheet(blocks: &[Bounds]) -> GrayImage {
        let is_ink = |x: u32, y: u32| {
            let holds = |it: &Bounds| (it[0]..it[2]).contains(&x) && (it[1]..it[3]).contains(&y);
            blocks.iter().any(holds)
        };
        GrayImage::from_fn(100, 40, |x, y| Luma([if is_ink(x, y) { 0 } else { 255 }]))
    }

    #[test]
    fn pap_36_a_figure_or_point_that_was_not_read_is_seen() {
        // `0.93`
        let blocks = [[2, 5, 16, 33], [20, 28, 25, 33], [29, 5, 43, 33], [47, 5, 61, 33]];
        let sheet = sheet(&blocks);
        let bounds = [2, 5, 61, 33];
        for text in ["93", "093", "0.9", "9.3"] {
            assert!(has_unread_figure(&sheet, bounds, text), "{text}");
        }
        for text in ["0.93", "<0.93"] {
            assert!(!has_unread_figure(&sheet, bounds, text), "{text}");
        }
        assert_eq!(with_decimal_point(&sheet, bounds, "093").as_deref(), Some("0.93"));
    }

    #[test]
    fn pap_36_a_name_of_which_half_was_read_is_seen() {
        let bounds = [0, 0, 28 * 8, 28];
        assert!(is_wider_than(bounds, "中性"));
        assert!(!is_wider_than(bounds, "中性粒细胞百分比"));
    }
}
