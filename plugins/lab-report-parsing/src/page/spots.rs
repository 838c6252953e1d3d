//! Places of a page where its words are not to be relied on: words over each other, words at the
//! edge of the picture, ink that no word covers.

use std::collections::BTreeSet;

use image::{GrayImage, Luma};
use imageproc::region_labelling::{Connectivity, connected_components};

use super::Word;
use super::gray::ink;
use super::phrases::LETTER_HEIGHT;
use crate::doubt::Doubt;

/// A place on a page: left, top, right, bottom.
pub(crate) type Place = [f32; 4];

/// A place that is doubtful.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spot {
    /// The place.
    pub(crate) place: Place,
    /// Why.
    pub(crate) doubt: Doubt,
}

impl Spot {
    /// The middle from left to right.
    pub(crate) fn across(&self) -> f32 {
        f32::midpoint(self.place[0], self.place[2])
    }

    /// The middle from top to bottom.
    pub(crate) fn down(&self) -> f32 {
        f32::midpoint(self.place[1], self.place[3])
    }
}

/// Lower bound of the width that words over each other share, in heights of the lower one.
const OVERLAP_WIDTH: f32 = 0.3;

/// Lower bound of the height that words over each other share, as a share of the lower one.
const OVERLAP_HEIGHT: f32 = 0.5;

/// Upper bound of the distance of a word to its copy, in heights. Bold letters are printed twice.
const COPY_DISTANCE: f32 = 0.15;

/// The length that two spans share; negative if there is a gap between them.
fn shared(a: [f32; 2], b: [f32; 2]) -> f32 {
    a[1].min(b[1]) - a[0].max(b[0])
}

/// Texts that are printed over each other, by their places. Words of one phrase are one text:
/// recognition is not certain where one ends.
pub(crate) fn overlapping(places: &[Place]) -> Vec<Spot> {
    let is_over = |a: &Place, b: &Place| {
        let height = (a[3] - a[1]).min(b[3] - b[1]).max(1.0);
        shared([a[0], a[2]], [b[0], b[2]]) > OVERLAP_WIDTH * height
            && shared([a[1], a[3]], [b[1], b[3]]) > OVERLAP_HEIGHT * height
    };
    let mut spots = Vec::new();
    for (at, a) in places.iter().enumerate() {
        for b in places.iter().skip(at + 1).filter(|it| is_over(a, it)) {
            spots.extend([a, b].map(|it| Spot { place: *it, doubt: Doubt::Overlapping }));
        }
    }
    spots
}

/// The words without those that are printed a second time for bold letters.
pub(crate) fn without_copies(words: Vec<Word>) -> Vec<Word> {
    let mut kept: Vec<Word> = Vec::new();
    for word in words {
        let distance = COPY_DISTANCE * word.height();
        let is_copy = |it: &Word| {
            it.text == word.text
                && (it.left - word.left).abs() < distance
                && (it.top - word.top).abs() < distance
        };
        if !kept.iter().any(is_copy) {
            kept.push(word);
        }
    }
    kept
}

/// Words that reach the edge of their sheet, or nearly: a letter may be missing.
pub(crate) fn at_edge(words: &[Word], sheet: &GrayImage) -> Vec<Spot> {
    const MARGIN: f32 = 0.75 * LETTER_HEIGHT;
    let width = sheet.width() as f32;
    let height = sheet.height() as f32;
    let is_near = |it: &&Word| {
        it.left < MARGIN
            || it.top < MARGIN
            || it.right + MARGIN > width
            || it.bottom + MARGIN > height
    };
    words
        .iter()
        .filter(is_near)
        .map(|it| Spot { place: it.place(), doubt: Doubt::AtEdge })
        .collect()
}

/// How far ink may be from the box of the word that it belongs to, in pixels: across and down.
const SLACK: [f32; 2] = [12.0, 5.0];

/// Lower bound of the pixels of ink that was not read. Less is dirt.
const INK_MIN: u32 = 16;

/// Lower bound of the thickness of such ink, in pixels. What is thinner is the rest of a rule.
const THICKNESS_MIN: u32 = 4;

/// Side of the squares in which large ink, such as that of a stamp, is told.
const SQUARE: u32 = 14;

/// The ink of a sheet that no word covers.
pub(crate) fn unread_ink(sheet: &GrayImage, words: &[Word]) -> Vec<Spot> {
    let mut rest = ink(sheet, 25, 18);
    for word in words {
        for (x, y) in pixels_of(word, sheet) {
            rest.put_pixel(x, y, Luma([0]));
        }
    }
    let labels = connected_components(&rest, Connectivity::Eight, Luma([0]));
    let count = labels.pixels().map(|it| it.0[0]).max().unwrap_or(0);
    let mut parts = vec![Part::default(); count as usize + 1];
    for (x, y, label) in labels.enumerate_pixels().filter(|it| it.2.0[0] > 0) {
        if let Some(part) = parts.get_mut(label.0[0] as usize) {
            part.add(x, y);
        }
    }
    parts.iter().filter(|it| it.pixels >= INK_MIN).flat_map(Part::spots).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "places of a picture")]
fn pixels_of(word: &Word, sheet: &GrayImage) -> impl Iterator<Item = (u32, u32)> + use<> {
    let from = |it: f32, slack: f32| (it - slack).max(0.0) as u32;
    let to = |it: f32, slack: f32, end: u32| ((it + slack).max(0.0) as u32).min(end);
    let across = from(word.left, SLACK[0])..to(word.right, SLACK[0], sheet.width());
    let down = from(word.top, SLACK[1])..to(word.bottom, SLACK[1], sheet.height());
    down.flat_map(move |y| across.clone().map(move |x| (x, y)))
}

/// A connected part of ink, by the squares that it touches.
#[derive(Clone, Default)]
struct Part {
    pixels: u32,
    /// Left, top, right, bottom; the last two are excluded.
    bounds: Option<[u32; 4]>,
    squares: BTreeSet<(u32, u32)>,
}

impl Part {
    fn add(&mut self, x: u32, y: u32) {
        self.pixels += 1;
        let [left, top, right, bottom] = self.bounds.unwrap_or([x, y, x + 1, y + 1]);
        self.bounds = Some([left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1)]);
        self.squares.insert((x / SQUARE, y / SQUARE));
    }

    fn spots(&self) -> Vec<Spot> {
        let spot =
            |place: [u32; 4]| Spot { place: place.map(|it| it as f32), doubt: Doubt::UnreadInk };
        let Some([left, top, right, bottom]) = self.bounds else { return Vec::new() };
        if (right - left).min(bottom - top) < THICKNESS_MIN {
            return Vec::new();
        }
        let is_small = ((right - left).max(bottom - top) as f32) < 2.0 * LETTER_HEIGHT;
        if is_small {
            return vec![spot([left, top, right, bottom])];
        }
        let square = |(x, y): &(u32, u32)| {
            spot([x * SQUARE, y * SQUARE, (x + 1) * SQUARE, (y + 1) * SQUARE])
        };
        self.squares.iter().map(square).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str, left: f32, right: f32) -> Word {
        let text = text.to_owned();
        Word { text, left, top: 100.0, right, bottom: 128.0, chinese: None }
    }

    fn places(words: &[Word]) -> Vec<Place> {
        words.iter().map(Word::place).collect()
    }

    #[test]
    fn pap_36_words_over_each_other_are_found_and_bold_words_are_one() {
        let words =
            [word("5.1", 100.0, 150.0), word("7.42", 120.0, 180.0), word("g/L", 300.0, 340.0)];
        let found: Vec<f32> = overlapping(&places(&words)).iter().map(|it| it.place[0]).collect();
        assert_eq!(found, [100.0, 120.0]);
        let line_below = Word { top: 126.0, bottom: 154.0, ..word("6.0", 100.0, 150.0) };
        assert_eq!(overlapping(&places(&[word("5.1", 100.0, 150.0), line_below])), []);
        let bold = vec![word("5.1", 100.0, 150.0), word("5.1", 100.6, 150.6)];
        assert_eq!(without_copies(bold), [word("5.1", 100.0, 150.0)]);
    }

    #[test]
    fn pap_36_ink_that_no_word_covers_is_found() {
        let mut sheet = GrayImage::from_pixel(400, 200, Luma([255]));
        // A lost `0.` before the word, a letter below the word, and a speck.
        let blocks =
            [[60, 102, 76, 126], [80, 122, 85, 127], [110, 104, 140, 126], [300, 50, 303, 53]];
        for [left, top, right, bottom] in blocks {
            for (x, y) in (top..bottom).flat_map(|y| (left..right).map(move |x| (x, y))) {
                sheet.put_pixel(x, y, Luma([0]));
            }
        }
        let spots = unread_ink(&sheet, &[word("93", 110.0, 140.0)]);
        let lefts: Vec<f32> = spots.iter().map(|it| it.place[0]).collect();
        assert_eq!(lefts, [60.0, 80.0]);
        assert_eq!(unread_ink(&sheet, &[word("0.93", 60.0, 140.0)]), []);
    }

    #[test]
    fn pap_36_words_at_the_edge_of_a_picture_are_found() {
        let words =
            [word("lobin", 3.0, 60.0), word("140", 200.0, 240.0), word("3.5-9", 340.0, 395.0)];
        let found: Vec<f32> =
            at_edge(&words, &GrayImage::new(400, 800)).iter().map(|it| it.place[0]).collect();
        assert_eq!(found, [3.0, 340.0]);
    }
}
