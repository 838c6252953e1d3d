//! Reads the pages of a PDF: their text if they have some, their picture otherwise.

use hayro::hayro_interpret::font::{Glyph, GlyphRun};
use hayro::hayro_interpret::hayro_cmap::BfString;
use hayro::hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps,
    InterpreterCache, InterpreterSettings, SoftMask, interpret_page,
};
use hayro::hayro_syntax::Pdf;
use hayro::hayro_syntax::object::dict::keys::ACTUAL_TEXT;
use hayro::hayro_syntax::object::{Dict, String as PdfString};
use hayro::hayro_syntax::page::Page;
use hayro::kurbo::{Affine, BezPath, Point, Rect, Vec2};
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::{PixmapSettings, RenderCache, RenderSettings, render};
use image::GrayImage;
use plugin_api::NodeError;

use super::gray::brightness;
use super::{PAGES_MAX, Word};
use crate::rejection::Reason;

/// Resolution of drawn pages, in pixels per point: 200 dots per inch.
const SCALE: f32 = 200.0 / 72.0;

/// Upper bound of the sides of a page, in points.
const SIDE_MAX: f32 = 4000.0;

/// Lower bound of the letters of a page with text: a page with fewer is a picture with a stamp on
/// it.
const LETTERS_MIN: usize = 40;

/// Upper bound of the gap within a word, as a share of the height of its letters.
const WORD_GAP_MAX: f32 = 0.2;

/// A page of a PDF.
pub(crate) enum Sheet {
    /// The words of its text, in points, and its picture.
    Letters(Vec<Word>, GrayImage),
    /// The picture of a page without usable text.
    Picture(GrayImage),
}

/// Reads the pages of a PDF, up to [`PAGES_MAX`].
pub(crate) fn sheets(bytes: &[u8]) -> Result<Vec<Sheet>, NodeError> {
    let unreadable = |reason: String| NodeError::rejected(Reason::PdfUnreadable, reason);
    let pdf = Pdf::new(bytes.to_vec()).map_err(|it| unreadable(format!("{it:?}")))?;
    let pages = pdf.pages();
    if pages.is_empty() {
        return Err(unreadable("it has no pages".to_owned()));
    }
    if pages.len() > PAGES_MAX {
        let reason = format!("{} pages; {PAGES_MAX} at most are read", pages.len());
        return Err(NodeError::rejected(Reason::TooManyPages, reason));
    }
    pages.iter().map(|page| sheet(&pdf, page)).collect()
}

fn sheet(pdf: &Pdf, page: &Page<'_>) -> Result<Sheet, NodeError> {
    let (width, height) = page.render_dimensions();
    if !(width >= 1.0 && height >= 1.0 && width <= SIDE_MAX && height <= SIDE_MAX) {
        let reason = format!("a page of {width} x {height} points");
        return Err(NodeError::rejected(Reason::PdfPageSize, reason));
    }
    let words = letters(pdf, page, [width, height]);
    let count: usize = words.iter().map(|it| it.text.chars().count()).sum();
    let unknown = words.iter().flat_map(|it| it.text.chars());
    let unknown = unknown.filter(|it| *it == char::REPLACEMENT_CHARACTER).count();
    let picture = picture(page)?;
    // A page with many letters of unknown characters is read by its picture, as a person would read
    // it.
    if count >= LETTERS_MIN && unknown * 50 <= count {
        return Ok(Sheet::Letters(words, picture));
    }
    Ok(Sheet::Picture(picture))
}

fn picture(page: &Page<'_>) -> Result<GrayImage, NodeError> {
    let scale = PixmapSettings { x_scale: SCALE, y_scale: SCALE, bg_color: WHITE };
    let cache = RenderCache::new();
    let drawn =
        render(page, &cache, &InterpreterSettings::default(), &RenderSettings::default(), &scale);
    let values = drawn.data_as_u8_slice().chunks_exact(4).map(brightness).collect();
    let gray = GrayImage::from_raw(drawn.width().into(), drawn.height().into(), values);
    gray.ok_or_else(|| NodeError::rejected(Reason::PdfUnreadable, "a page cannot be drawn"))
}

fn letters(pdf: &Pdf, page: &Page<'_>, [width, height]: [f32; 2]) -> Vec<Word> {
    let cache = InterpreterCache::new();
    let bounds = Rect::new(0.0, 0.0, f64::from(width), f64::from(height));
    let [a, b, c, d, e, f] = page.initial_transform(true).as_coeffs();
    let upright = Affine::new([a, b, c, d, e, f]);
    let settings = InterpreterSettings::default();
    let mut context = Context::new(upright, bounds, &cache, pdf.xref(), settings);
    let mut found = Letters { words: Vec::new(), is_open: false, replacements: Vec::new() };
    interpret_page(page, &mut context, &mut found);
    let is_there = |it: &Word| !it.text.trim().is_empty();
    found.words.into_iter().filter(is_there).flat_map(|it| split_at_gaps(&it)).collect()
}

/// Collects the words of a page. Letters that are drawn one after the other on one line, without a
/// gap, are one word.
struct Letters {
    words: Vec<Word>,
    is_open: bool,
    /// Replacement texts of the marked content that is open (ISO 32000-1, 14.9.4). Each one is used
    /// once.
    replacements: Vec<Option<String>>,
}

impl Letters {
    fn run(&mut self, run: &GlyphRun<'_, '_>, transform: Affine) {
        // A run that begins at the end of the previous one, within a word, continues that word.
        let mut is_first = true;
        for glyph in run.glyphs() {
            let replacement =
                self.replacements.iter_mut().rev().flatten().next().map(std::mem::take);
            let letter = match (replacement, glyph.as_unicode()) {
                (Some(it), _) | (None, Some(BfString::String(it))) => it,
                (None, Some(BfString::Char(it))) => it.to_string(),
                (None, None) => char::REPLACEMENT_CHARACTER.to_string(),
            };
            let units = match &**glyph {
                Glyph::Outline(it) => it.advance_width(),
                Glyph::Type3(it) => it.advance_width(),
            };
            let place = transform * glyph.transform();
            let across = f64::from(units.unwrap_or(500.0));
            let from = place * Point::ZERO;
            let to = place * Point::new(across, 0.0);
            // An em is 1000 units; letters reach at most a quarter of it below the base line.
            let em = (place * Point::new(0.0, 1000.0) - from).hypot();
            self.letter(&letter, from, to, em, is_first);
            is_first = false;
        }
    }

    fn letter(&mut self, letter: &str, from: Point, to: Point, em: f64, is_first: bool) {
        let level = (to - from).normalize();
        if !from.is_finite() || !to.is_finite() || level.dot(Vec2::new(1.0, 0.0)) < 0.9 {
            // Text that does not run from left to right, such as a stamp along the edge.
            self.is_open = false;
            return;
        }
        let [left, right, base, em] = [from.x, to.x, from.y, em].map(narrow);
        let top = base - 0.75 * em;
        let bottom = base + 0.25 * em;
        if let Some(last) = self.words.last_mut().filter(|_| self.is_open) {
            let gap = (left - last.right) / em.max(0.1);
            let is_level = (last.bottom - bottom).abs() < 0.2 * em;
            let goes_on = !is_first || !last.text.ends_with(' ');
            if is_level && gap.abs() < WORD_GAP_MAX && goes_on {
                last.text.push_str(letter);
                last.right = right;
                return;
            }
            // Letters that are positioned one by one: a gap is a space, unless it is one between
            // columns.
            if is_level && !is_first && (WORD_GAP_MAX..1.0).contains(&gap) {
                last.text.push(' ');
                last.text.push_str(letter);
                last.right = right;
                return;
            }
        }
        let text = letter.to_owned();
        self.words.push(Word { text, left, top, right, bottom, chinese: None });
        self.is_open = true;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "places on a page, in points")]
fn narrow(it: f64) -> f32 {
    it as f32
}

/// Decodes a text string (ISO 32000-1, 7.9.2.2): UTF-16 or UTF-8 after a byte order mark, and
/// otherwise `PDFDocEncoding`, which is Latin-1 for the characters that matter here.
fn decoded(bytes: &[u8]) -> String {
    match bytes {
        [0xfe, 0xff, rest @ ..] => {
            let units = rest.as_chunks::<2>().0.iter().map(|it| u16::from_be_bytes(*it));
            char::decode_utf16(units).map(|it| it.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => bytes.iter().map(|it| char::from(*it)).collect(),
    }
}

/// Splits a run of letters at two or more spaces, with which some tables are set.
fn split_at_gaps(word: &Word) -> Vec<Word> {
    let count = word.text.chars().count().max(1) as f32;
    let width = (word.right - word.left) / count;
    let mut parts: Vec<Word> = Vec::new();
    let mut start = 0;
    let mut text = String::new();
    for (index, letter) in word.text.chars().enumerate() {
        if text.ends_with("  ") && letter != ' ' {
            parts.extend(part_of(word, start, width, &text));
            text.clear();
        }
        if text.is_empty() {
            if letter == ' ' {
                continue;
            }
            start = index;
        }
        text.push(letter);
    }
    parts.extend(part_of(word, start, width, &text));
    parts
}

/// A part of a run that begins at the letter of this number, where each letter is `width` wide.
fn part_of(word: &Word, start: usize, width: f32, text: &str) -> Option<Word> {
    let text = text.trim_end();
    let left = word.left + start as f32 * width;
    let right = left + text.chars().count() as f32 * width;
    (!text.is_empty()).then(|| Word { text: text.to_owned(), left, right, ..word.clone() })
}

impl<'a> Device<'a> for Letters {
    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'a>, _: &DrawMode) {}
    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'a>>, _: BlendMode) {}
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, 'a>, props: DrawProps<'a>, mode: &DrawMode) {
        if !matches!(mode, DrawMode::Invisible) {
            self.run(run, props.transform);
        }
    }
    fn begin_marked_content(&mut self, _: &[u8], properties: Option<&Dict<'_>>) {
        let text = properties.and_then(|it| it.get::<PdfString<'_>>(ACTUAL_TEXT));
        self.replacements.push(text.map(|it| decoded(it.as_bytes())));
    }
    fn end_marked_content(&mut self) {
        self.replacements.pop();
    }
    fn draw_image(&mut self, _: Image<'a, '_>, _: ImageDrawProps<'a>) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}
