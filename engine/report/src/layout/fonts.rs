//! The fonts of pages and pictures. A character is set in the first font that has it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use krilla::text::Font;
use skrifa::MetadataProvider as _;
use skrifa::instance::{LocationRef, Size};

use crate::status::BANNER;

/// Fonts of a Debian system: for most scripts, and for Chinese, Japanese and Korean.
const SYSTEM: [&str; 5] = [
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/usr/share/fonts/truetype/nanum/NanumGothic.ttf",
];

/// Why no page can be made.
#[derive(Debug, thiserror::Error)]
pub enum PdfError {
    /// No font is installed.
    #[error(
        "no font is there to write a PDF with: apt-get install fonts-dejavu-core \
         fonts-droid-fallback fonts-nanum, or name files under `fonts`"
    )]
    NoFont,
    /// A file is not a font.
    #[error("`{}` is not a font that can be used", path.display())]
    NotAFont {
        /// The file.
        path: PathBuf,
    },
    /// The library cannot encode the document.
    #[error("the PDF cannot be written: {0}")]
    Unwritable(String),
}

/// The fonts of a site, in the order in which they are searched for a character.
#[derive(Clone, Default)]
pub struct Fonts(Vec<Face>);

/// One font, parsed for pages, with its bytes for pictures.
#[derive(Clone)]
pub(crate) struct Face {
    pub(crate) font: Font,
    data: Arc<Vec<u8>>,
}

impl Face {
    fn reader(&self) -> Option<skrifa::FontRef<'_>> {
        skrifa::FontRef::from_index(&self.data, 0).ok()
    }

    fn has(&self, character: char) -> bool {
        self.reader().is_some_and(|it| it.charmap().map(character).is_some())
    }

    /// Width of a text on one line, in points, at this size.
    pub(crate) fn width(&self, text: &str, size: f32) -> f32 {
        let Some(reader) = self.reader() else { return 0.0 };
        let metrics = reader.glyph_metrics(Size::new(size), LocationRef::default());
        let charmap = reader.charmap();
        let glyphs = text.chars().map(|it| charmap.map(it).unwrap_or_default());
        glyphs.filter_map(|glyph| metrics.advance_width(glyph)).sum()
    }
}

impl Fonts {
    /// The fonts that a site names, or else those of the system, which may be none.
    ///
    /// # Errors
    ///
    /// Fails if a file that the site names is not a font.
    pub fn open(named: &[PathBuf]) -> Result<Self, PdfError> {
        if named.is_empty() {
            return Ok(Self(SYSTEM.iter().filter_map(|path| face(Path::new(path))).collect()));
        }
        let mut faces = Vec::new();
        for path in named {
            faces.push(face(path).ok_or_else(|| PdfError::NotAFont { path: path.clone() })?);
        }
        Ok(Self(faces))
    }

    /// The files of the fonts, in order.
    pub(crate) fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|it| it.data.as_slice())
    }

    /// Whether there is no font.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text with a box for every character that no font has, or that an archival document must not
    /// have (ISO 19005-2, 6.2.11.7): the report is sent, and the reader sees that something is missing.
    pub(crate) fn printable(&self, text: &str) -> String {
        text.chars().map(|character| self.printable_character(character)).collect()
    }

    fn printable_character(&self, character: char) -> char {
        let is_private = matches!(character, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'.. | '\u{feff}');
        if character.is_control() {
            ' '
        } else if !is_private && self.0.iter().any(|face| face.has(character)) {
            character
        } else {
            '\u{25a1}'
        }
    }

    /// A label in these fonts: in English, if they lack a letter of it. It must be readable.
    pub(crate) fn printable_label(&self, label: &'static str) -> &'static str {
        if self.printable(label) == label { label } else { BANNER }
    }

    /// A line in runs of one font each.
    pub(crate) fn runs<'a>(&self, line: &'a str) -> Vec<(&Face, &'a str)> {
        let mut runs: Vec<FontRun> = Vec::new();
        for (start, character) in line.char_indices() {
            let end = start + character.len_utf8();
            let face = self.0.iter().position(|it| it.has(character)).unwrap_or_default();
            match runs.last_mut() {
                Some(run) if run.face == face => run.range.end = end,
                _ => runs.push(FontRun { face, range: start..end }),
            }
        }
        let runs = runs.into_iter();
        runs.filter_map(|run| Some((self.0.get(run.face)?, line.get(run.range)?))).collect()
    }

    /// A text in lines of at most this width: broken at spaces, and anywhere between ideographs. A word
    /// that is longer than a line is broken at any letter.
    pub(crate) fn wrapped(&self, text: &str, size: f32, width_max: f32) -> Vec<String> {
        let mut lines = WrappedLines::default();
        for word in words(text) {
            let width = self.width(word, size);
            if width <= width_max {
                lines.push(word, width, width_max);
                continue;
            }
            lines.break_unless_fits(width, width_max);
            for (start, letter) in word.char_indices() {
                let letter = word.get(start..start + letter.len_utf8()).unwrap_or_default();
                lines.push(letter, self.width(letter, size), width_max);
            }
        }
        lines.finish()
    }

    fn width(&self, line: &str, size: f32) -> f32 {
        self.runs(line).iter().map(|(face, text)| face.width(text, size)).sum()
    }
}

/// A part of a line that is set in one font.
struct FontRun {
    /// Position of the font.
    face: usize,
    /// Bytes of the line.
    range: Range<usize>,
}

/// Lines that are filled word by word.
#[derive(Default)]
struct WrappedLines {
    lines: Vec<String>,
    line: String,
    /// Width of the present line.
    used: f32,
}

impl WrappedLines {
    fn break_unless_fits(&mut self, width: f32, width_max: f32) {
        if self.used + width > width_max && !self.line.is_empty() {
            self.lines.push(std::mem::take(&mut self.line));
            self.used = 0.0;
        }
    }

    fn push(&mut self, part: &str, width: f32, width_max: f32) {
        self.break_unless_fits(width, width_max);
        self.line.push_str(part);
        self.used += width;
    }

    fn finish(mut self) -> Vec<String> {
        self.lines.push(self.line);
        self.lines
    }
}

/// Reads a font. `None`, if the file is not one.
fn face(path: &Path) -> Option<Face> {
    let data = Arc::new(std::fs::read(path).ok()?);
    let bytes: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::<Vec<u8>>::clone(&data);
    let font = Font::new(bytes.into(), 0)?;
    Some(Face { font, data })
}

/// Whether a line may break before and after a character.
const fn is_ideograph(character: char) -> bool {
    character >= '\u{2E80}'
}

/// The words of a text, each with the spaces after it; an ideograph is a word of one letter.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let end = at + character.len_utf8();
        let next = characters.peek().map(|(_, it)| *it);
        let breaks = next.is_none_or(|next| {
            character == ' ' && next != ' ' || is_ideograph(character) || is_ideograph(next)
        });
        if breaks {
            words.extend(text.get(start..end));
            start = end;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_font_has_is_shown_as_missing() {
        let fonts = Fonts::open(&[]).unwrap();
        let text = "a\u{e001}b\u{feff}c\u{7}d\u{12000}\u{10ffff} 王";
        assert_eq!(fonts.printable(text), "a\u{25a1}b\u{25a1}c d\u{25a1}\u{25a1} 王");
    }

    #[test]
    fn lines_break_at_spaces_and_between_ideographs() {
        assert_eq!(words("two words  王小东"), ["two ", "words  ", "王", "小", "东"]);
        let fonts = Fonts::open(&[]).unwrap();
        let text = "word ".repeat(60) + &"王".repeat(100) + &"x".repeat(300);
        let lines = fonts.wrapped(&text, 10.5, 480.0);
        assert_eq!(lines.concat(), text);
        assert!(lines.iter().all(|it| fonts.width(it, 10.5) <= 480.0), "{lines:?}");
    }
}
