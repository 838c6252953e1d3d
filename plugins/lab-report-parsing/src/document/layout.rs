//! The lines of a document of several pages: headings are told from text, and what is repeated on
//! every page is left out.

use encoding::laboratory::unit::folded_text;

use crate::page::{Page, Word};
use crate::table::lines::{Line, cells, lines, text};

/// Lines at the top of the first page that may be headings.
const HEADING_LINES: usize = 5;

/// Upper bound of the characters of a heading.
const HEADING_CHARACTERS_MAX: usize = 60;

/// Lower bound of the letters of a heading further down, in heights of those of the page.
const HEADING_HEIGHT_MIN: f32 = 1.3;

/// Upper bound of the lines at the top, and at the bottom, that may be those of every page.
const EDGE_LINES: usize = 6;

/// Lower bound of the width of a line that may go on in the next, as a share of that of the page.
const WRAPPED_WIDTH_MIN: f32 = 0.8;

/// A part of a line between two gaps.
#[derive(Clone, Debug)]
pub(crate) struct DocumentCell {
    /// The text.
    pub(crate) text: String,
    /// Left edge.
    pub(crate) left: f32,
    /// Right edge.
    pub(crate) right: f32,
}

/// A line of a document.
#[derive(Clone, Debug)]
pub(crate) struct DocumentLine {
    /// The text.
    pub(crate) text: String,
    /// Its parts, from left to right.
    pub(crate) cells: Vec<DocumentCell>,
    /// Whether it is a heading of the document.
    pub(crate) is_heading: bool,
    /// Whether the line before reaches the right margin, and this one stands close below it.
    pub(crate) may_continue: bool,
}

/// The lines of all pages.
pub(crate) fn document_lines(pages: &[Page]) -> Vec<DocumentLine> {
    let is_number = |it: &DocumentLine| {
        let letters = letters_of(&it.text);
        matches!(letters.as_str(), "page" | "pageof" | "第页" | "第页共页" | "共页第页")
    };
    let pages = pages.iter().enumerate().map(|(index, page)| {
        let lines = lines_of(page, index).into_iter();
        lines.filter(|it| !is_number(it)).collect()
    });
    without_repeated(pages.collect())
}

fn lines_of(page: &Page, index: usize) -> Vec<DocumentLine> {
    let lines = lines(&page.words);
    let right = page.words.iter().map(|it| it.right).fold(0.0, f32::max);
    let left = page.words.iter().map(|it| it.left).fold(f32::MAX, f32::min);
    let usual = usual_height(page);
    let cell = |words: &Line| DocumentCell {
        text: folded_text(&text(words)).trim().to_owned(),
        left: words.first().map_or(0.0, |it| it.left),
        right: words.last().map_or(0.0, |it| it.right),
    };
    // Right end and lower edge of the line before.
    let mut before: Option<[f32; 2]> = None;
    let mut all = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let whole = folded_text(&text(line));
        let height = line.iter().map(Word::height).fold(0.0, f32::max);
        let top = line.iter().map(|it| it.top).fold(f32::MAX, f32::min);
        let bottom = line.iter().map(|it| it.bottom).fold(0.0, f32::max);
        let is_short = whole.chars().count() <= HEADING_CHARACTERS_MAX;
        let is_large = height >= HEADING_HEIGHT_MIN * usual;
        let is_first = at < HEADING_LINES && !whole.contains(':');
        let is_close = |[end, bottom]: [f32; 2]| {
            end >= left + WRAPPED_WIDTH_MIN * (right - left) && top - bottom <= height
        };
        all.push(DocumentLine {
            cells: cells(line).iter().map(cell).collect(),
            is_heading: index == 0 && is_short && (is_first || is_large),
            may_continue: before.is_some_and(is_close),
            text: whole,
        });
        before = Some([line.last().map_or(0.0, |it| it.right), bottom]);
    }
    all
}

fn usual_height(page: &Page) -> f32 {
    let mut heights: Vec<f32> = page.words.iter().map(Word::height).collect();
    heights.sort_by(f32::total_cmp);
    heights.get(heights.len() / 2).copied().unwrap_or(1.0)
}

/// Joins pages, without the lines that all of them begin with but for those of the first, and
/// without those that all of them end with but for those of the last.
fn without_repeated(pages: Vec<Vec<DocumentLine>>) -> Vec<DocumentLine> {
    let keys: Vec<Vec<String>> =
        pages.iter().map(|it| it.iter().map(|it| letters_of(&it.text)).collect()).collect();
    let common = |from_end: bool| {
        let place = |page: &[String], at: usize| {
            let at = if from_end { page.len().checked_sub(at + 1) } else { Some(at) };
            at.and_then(|it| page.get(it).cloned()).filter(|it| !it.is_empty())
        };
        let is_common = |at: &usize| {
            let first = keys.first().and_then(|it| place(it, *at));
            first.is_some() && keys.iter().all(|it| place(it, *at) == first)
        };
        if keys.len() < 2 { 0 } else { (0..EDGE_LINES).take_while(is_common).count() }
    };
    let head = common(false);
    let foot = common(true);
    let last = pages.len().saturating_sub(1);
    let mut all = Vec::new();
    for (index, page) in pages.into_iter().enumerate() {
        let from = if index == 0 { 0 } else { head };
        let to = if index == last { page.len() } else { page.len().saturating_sub(foot) };
        let kept = page.into_iter().enumerate().filter(|(at, _)| (from..to).contains(at));
        all.extend(kept.map(|it| it.1));
    }
    all
}

/// The letters of a line, without its figures and marks.
fn letters_of(text: &str) -> String {
    text.chars().filter(|it| it.is_alphabetic()).flat_map(char::to_lowercase).collect()
}
