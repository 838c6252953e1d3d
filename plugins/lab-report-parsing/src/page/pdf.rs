//! Pages of a PDF: their letters where they have some, their picture where they have none.

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

/// What pictures of pages are drawn with, in pixels a point: 200 dots per inch.
const SCALE: f32 = 200.0 / 72.0;

/// Longest side of a page that is drawn, in points.
const SIDE_MAX: f32 = 4000.0;

/// A page with fewer letters is a picture with a stamp on it.
const LETTERS_MIN: usize = 40;

/// Pieces that are nearer than this share of their height are one word.
const NEAR: f32 = 0.2;

/// One page.
pub(crate) enum Sheet {
    /// Its letters, in points, and what it shows.
    Letters(Vec<Word>, GrayImage),
    /// What it shows.
    Picture(GrayImage),
}

/// The pages of a PDF, `PAGES_MAX` at most.
pub(crate) fn sheets(bytes: &[u8]) -> Result<Vec<Sheet>, NodeError> {
    let unreadable = |it: String| NodeError::rejected("pdf_unreadable", it);
    let pdf = Pdf::new(bytes.to_vec()).map_err(|it| unreadable(format!("{it:?}")))?;
    let pages = pdf.pages();
    if pages.is_empty() {
        return Err(unreadable("it has no pages".to_owned()));
    }
    if pages.len() > PAGES_MAX {
        let reason = format!("{} pages; {PAGES_MAX} at most are read", pages.len());
        return Err(NodeError::rejected("too_many_pages", reason));
    }
    pages.iter().map(|page| sheet(&pdf, page)).collect()
}

fn sheet(pdf: &Pdf, page: &Page<'_>) -> Result<Sheet, NodeError> {
    let (width, height) = page.render_dimensions();
    if !(width >= 1.0 && height >= 1.0 && width <= SIDE_MAX && height <= SIDE_MAX) {
        let reason = format!("a page of {width} x {height} points");
        return Err(NodeError::rejected("pdf_page_size", reason));
    }
    let words = letters(pdf, page, [width, height]);
    let count: usize = words.iter().map(|it| it.text.chars().count()).sum();
    let unknown = words.iter().flat_map(|it| it.text.chars());
    let unknown = unknown.filter(|it| *it == char::REPLACEMENT_CHARACTER).count();
    let picture = picture(page)?;
    // Letters that nobody can name are looked at, as a person would.
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
    let (width, height) = (u32::from(drawn.width()), u32::from(drawn.height()));
    let gray = GrayImage::from_raw(width, height, values);
    gray.ok_or_else(|| NodeError::rejected("pdf_unreadable", "a page cannot be drawn"))
}

fn letters(pdf: &Pdf, page: &Page<'_>, [width, height]: [f32; 2]) -> Vec<Word> {
    let cache = InterpreterCache::new();
    let bounds = Rect::new(0.0, 0.0, f64::from(width), f64::from(height));
    let [a, b, c, d, e, f] = page.initial_transform(true).as_coeffs();
    let upright = Affine::new([a, b, c, d, e, f]);
    let settings = InterpreterSettings::default();
    let mut context = Context::new(upright, bounds, &cache, pdf.xref(), settings);
    let mut found = Letters { words: Vec::new(), is_open: false, stands_for: Vec::new() };
    interpret_page(page, &mut context, &mut found);
    let is_there = |it: &Word| !it.text.trim().is_empty();
    found.words.into_iter().filter(is_there).flat_map(|it| parts(&it)).collect()
}

/// Gathers letters. What is drawn one after the other on one line, without a gap, is one word.
struct Letters {
    words: Vec<Word>,
    is_open: bool,
    /// What the content that is open stands for, if it says so (ISO 32000-1, 14.9.4). It is said once.
    stands_for: Vec<Option<String>>,
}

impl Letters {
    fn run(&mut self, run: &GlyphRun<'_, '_>, transform: Affine) {
        // A run that begins where the one before ended, in the middle of a word, goes on with it.
        let mut is_first = true;
        for glyph in run.glyphs() {
            let said = self.stands_for.iter_mut().rev().flatten().next().map(std::mem::take);
            let letter = match (said, glyph.as_unicode()) {
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
            // An em is 1000 units; letters stand a quarter of it below their line at most.
            let em = (place * Point::new(0.0, 1000.0) - from).hypot();
            self.letter(&letter, from, to, em, is_first);
            is_first = false;
        }
    }

    fn letter(&mut self, letter: &str, from: Point, to: Point, em: f64, is_first: bool) {
        let level = (to - from).normalize();
        if !from.is_finite() || !to.is_finite() || level.dot(Vec2::new(1.0, 0.0)) < 0.9 {
            // Letters that stand upright in no direction of reading: stamps along the edge.
            self.is_open = false;
            return;
        }
        let [left, right, base, em] = [from.x, to.x, from.y, em].map(narrow);
        let (top, bottom) = (base - 0.75 * em, base + 0.25 * em);
        if let Some(last) = self.words.last_mut().filter(|_| self.is_open) {
            let gap = (left - last.right) / em.max(0.1);
            let is_level = (last.bottom - bottom).abs() < 0.2 * em;
            let goes_on = !is_first || !last.text.ends_with(' ');
            if is_level && gap.abs() < NEAR && goes_on {
                last.text.push_str(letter);
                last.right = right;
                return;
            }
            // Positioned letter by letter: a gap is a blank, unless it is that of a column.
            if is_level && !is_first && (NEAR..1.0).contains(&gap) {
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

/// A text string (ISO 32000-1, 7.9.2.2): UTF-16 or UTF-8 after its mark, or else `PDFDocEncoding`, which is
/// Latin for what is read here.
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

/// A run of letters taken apart at wide gaps: tables are set in blanks, too.
fn parts(word: &Word) -> Vec<Word> {
    let count = word.text.chars().count().max(1) as f32;
    let width = (word.right - word.left) / count;
    let mut parts: Vec<Word> = Vec::new();
    let (mut start, mut text) = (0_usize, String::new());
    let mut close = |start: usize, text: &mut String| {
        let trimmed = text.trim_end();
        if !trimmed.is_empty() {
            let left = word.left + start as f32 * width;
            let right = left + trimmed.chars().count() as f32 * width;
            parts.push(Word { text: trimmed.to_owned(), left, right, ..word.clone() });
        }
        text.clear();
    };
    for (index, letter) in word.text.chars().enumerate() {
        if text.ends_with("  ") && letter != ' ' {
            close(start, &mut text);
        }
        if text.is_empty() {
            if letter == ' ' {
                continue;
            }
            start = index;
        }
        text.push(letter);
    }
    close(start, &mut text);
    parts
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
        self.stands_for.push(text.map(|it| decoded(it.as_bytes())));
    }
    fn end_marked_content(&mut self) {
        self.stands_for.pop();
    }
    fn draw_image(&mut self, _: Image<'a, '_>, _: ImageDrawProps<'a>) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}
