//! What reports are written with: for a character the first font that has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use krilla::text::Font;
use skrifa::MetadataProvider as _;
use skrifa::instance::{LocationRef, Size};

/// Where Debian has fonts that are of use: for most scripts, and for Chinese, Japanese and Korean.
const USUAL: [&str; 5] = [
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/usr/share/fonts/truetype/nanum/NanumGothic.ttf",
];

/// Why no page can be made.
#[derive(Debug, thiserror::Error)]
pub enum PdfError {
    /// There is nothing to write with.
    #[error(
        "no font is there to write a PDF with: apt-get install fonts-dejavu-core \
         fonts-droid-fallback fonts-nanum, or name files under `fonts`"
    )]
    NoFont,
    /// A file is none.
    #[error("`{}` is not a font that can be used", path.display())]
    NotAFont {
        /// The file.
        path: PathBuf,
    },
    /// The library does not write it.
    #[error("the PDF cannot be written: {0}")]
    Unwritable(String),
}

/// What pages are written with. For a character the first font that has it.
#[derive(Clone, Default)]
pub struct Fonts(Vec<Face>);

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

    /// Width of a text on one line, in points.
    pub(crate) fn width(&self, text: &str, size: f32) -> f32 {
        let Some(reader) = self.reader() else { return 0.0 };
        let metrics = reader.glyph_metrics(Size::new(size), LocationRef::default());
        let charmap = reader.charmap();
        let advance = |it| metrics.advance_width(charmap.map(it).unwrap_or_default());
        text.chars().filter_map(advance).sum()
    }
}

impl Fonts {
    /// The fonts a site names, or else those of the system. May be none at all.
    ///
    /// # Errors
    ///
    /// Fails if a file that is named is no font.
    pub fn open(named: &[PathBuf]) -> Result<Self, PdfError> {
        let usual: Vec<PathBuf> = USUAL.iter().map(PathBuf::from).collect();
        let (paths, all) = if named.is_empty() { (usual.as_slice(), false) } else { (named, true) };
        let mut faces = Vec::new();
        for path in paths {
            match face(path) {
                Some(face) => faces.push(face),
                None if all => return Err(PdfError::NotAFont { path: path.clone() }),
                None => {}
            }
        }
        Ok(Self(faces))
    }

    /// The files of the fonts, in order.
    pub(crate) fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|it| it.data.as_slice())
    }

    /// Whether there is nothing to write with.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text with a box for what no font has, and for what an archival document must not have
    /// (ISO 19005-2, 6.2.11.7): the report goes out, and the reader sees that something is missing.
    pub(crate) fn printable(&self, text: &str) -> String {
        let is_free = |it| matches!(it, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'.. | '\u{feff}');
        let is_written = |it: char| !is_free(it) && self.0.iter().any(|face| face.has(it));
        let shown = |it: char| match it {
            _ if it.is_control() => ' ',
            _ if is_written(it) => it,
            _ => '\u{25a1}',
        };
        text.chars().map(shown).collect()
    }

    /// A line in pieces of one font each.
    pub(crate) fn pieces<'a>(&self, line: &'a str) -> Vec<(&Face, &'a str)> {
        let mut pieces: Vec<(usize, usize, usize)> = Vec::new();
        for (start, character) in line.char_indices() {
            let end = start + character.len_utf8();
            let found = self.0.iter().position(|it| it.has(character)).unwrap_or_default();
            match pieces.last_mut() {
                Some(last) if last.0 == found => last.2 = end,
                _ => pieces.push((found, start, end)),
            }
        }
        let piece = |(face, start, end): (usize, usize, usize)| {
            Some((self.0.get(face)?, line.get(start..end)?))
        };
        pieces.into_iter().filter_map(piece).collect()
    }

    fn width(&self, line: &str, size: f32) -> f32 {
        self.pieces(line).iter().map(|(face, text)| face.width(text, size)).sum()
    }

    /// A text in lines that fit: broken at spaces, and anywhere between ideographs.
    pub(crate) fn wrapped(&self, text: &str, size: f32, room: f32) -> Vec<String> {
        let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0.0);
        for word in words(text) {
            let width = self.width(word, size);
            if used + width > room && !line.is_empty() {
                lines.push(std::mem::take(&mut line));
                used = 0.0;
            }
            // One that is longer than a line goes letter by letter.
            let parts: Vec<&str> = if width > room {
                word.char_indices()
                    .filter_map(|(at, it)| word.get(at..at + it.len_utf8()))
                    .collect()
            } else {
                vec![word]
            };
            for part in parts {
                let width = self.width(part, size);
                if used + width > room && !line.is_empty() {
                    lines.push(std::mem::take(&mut line));
                    used = 0.0;
                }
                line.push_str(part);
                used += width;
            }
        }
        lines.push(line);
        lines
    }
}

fn face(path: &Path) -> Option<Face> {
    let data = Arc::new(std::fs::read(path).ok()?);
    let bytes: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::<Vec<u8>>::clone(&data);
    let font = Font::new(bytes.into(), 0)?;
    Some(Face { font, data })
}

/// Words with the spaces after them; ideographs are words of one letter.
fn words(text: &str) -> Vec<&str> {
    let is_ideograph = |it: char| it >= '\u{2E80}';
    let (mut words, mut start) = (Vec::new(), 0);
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
