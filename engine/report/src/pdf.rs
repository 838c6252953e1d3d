//! A report as pages: tagged PDF/A-2a with its fonts inside (ISO 19005-2; OUT-03, OUT-51).

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use krilla::configure::{Archival, ConfigurationBuilder};
use krilla::geom::Point;
use krilla::metadata::{DateTime, Metadata};
use krilla::page::PageSettings;
use krilla::surface::Surface;
use krilla::tagging::{Artifact, ArtifactType, ContentTag, SpanTag, Tag, TagGroup, TagTree};
use krilla::text::{Font, TextDirection};
use krilla::{Document, SerializeSettings};
use skrifa::MetadataProvider as _;
use skrifa::instance::{LocationRef, Size};

use crate::narrative::Narrative;

/// A4 and its margins, in points of 1/72 inch.
const WIDTH: f32 = 595.28;
const HEIGHT: f32 = 841.89;
const MARGIN: f32 = 56.0;

/// Sizes of letters, and what a line takes in proportion.
const BODY: f32 = 10.5;
const SMALL: f32 = 8.5;
const LEADING: f32 = 1.4;

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
struct Face {
    font: Font,
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
    fn width(&self, text: &str, size: f32) -> f32 {
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
    fn printable(&self, text: &str) -> String {
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
    fn pieces<'a>(&self, line: &'a str) -> Vec<(&Face, &'a str)> {
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
    fn wrapped(&self, text: &str, size: f32) -> Vec<String> {
        let room = WIDTH - 2.0 * MARGIN;
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

/// What is on a page, line by line.
struct Line {
    text: String,
    size: f32,
    /// First line of a heading (1 is the title) or a paragraph, or one that goes on.
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Heading(u16),
    Paragraph,
    Continued,
}

/// Writes a report.
///
/// # Errors
///
/// Fails if there is no font, or the library does not write what the standard asks for.
pub fn encode(narrative: &Narrative, fonts: &Fonts) -> Result<Vec<u8>, PdfError> {
    if fonts.is_empty() {
        return Err(PdfError::NoFont);
    }
    let unwritable = |it: &dyn std::fmt::Debug| PdfError::Unwritable(format!("{it:?}"));
    let archival = ConfigurationBuilder::new().with_archival_validator(Archival::A2_A);
    let configuration = archival.finish().map_err(|it| unwritable(&it))?;
    let settings = SerializeSettings { configuration, ..SerializeSettings::default() };
    let mut document = Document::new_with(settings);
    let title = narrative.title.clone();
    let metadata = Metadata::new().title(title).language("en".to_owned());
    let metadata = metadata.creator("Isocenter".to_owned());
    document.set_metadata(metadata.creation_date(date(narrative.concluded)));
    let pages = paged(lines(narrative, fonts));
    let (count, mut tags) = (pages.len(), TagTree::new());
    let mut open: Option<TagGroup> = None;
    for (index, page) in pages.into_iter().enumerate() {
        let size = PageSettings::from_wh(WIDTH, HEIGHT);
        let mut sheet = document.start_page_with(size.ok_or(PdfError::NoFont)?);
        let mut surface = sheet.surface();
        edge(&mut surface, fonts, narrative.banner, MARGIN * 0.6, ArtifactType::Header);
        let foot = format!("{}   {}/{count}", narrative.colophon, index + 1);
        edge(&mut surface, fonts, &foot, HEIGHT - MARGIN * 0.5, ArtifactType::Footer);
        for (line, y) in page {
            let span = SpanTag::empty().with_lang(Some("en"));
            let identifier = surface.start_tagged(ContentTag::Span(span));
            draw(&mut surface, fonts, &line, y);
            surface.end_tagged();
            if line.kind != Kind::Continued {
                tags_push(&mut tags, open.take());
            }
            open.get_or_insert_with(|| group(line.kind, &line.text)).push(identifier);
        }
        surface.finish();
        sheet.finish();
    }
    tags_push(&mut tags, open);
    document.set_tag_tree(tags);
    document.finish().map_err(|it| unwritable(&it))
}

fn date(at: Timestamp) -> DateTime {
    let at = at.to_zoned(TimeZone::UTC);
    let small = |it: i8| it.unsigned_abs();
    DateTime::new(at.year().unsigned_abs())
        .month(small(at.month()))
        .day(small(at.day()))
        .hour(small(at.hour()))
        .minute(small(at.minute()))
        .second(small(at.second()))
        .utc_offset_hour(0)
}

fn tags_push(tags: &mut TagTree, group: Option<TagGroup>) {
    if let Some(group) = group {
        tags.push(group);
    }
}

fn group(kind: Kind, text: &str) -> TagGroup {
    match kind {
        Kind::Heading(level) => {
            let level = NonZeroU16::new(level).unwrap_or(NonZeroU16::MIN);
            TagGroup::new(Tag::Hn(level, Some(text.to_owned())))
        }
        Kind::Paragraph | Kind::Continued => TagGroup::new(Tag::P),
    }
}

/// What stands at the top or bottom of every page.
fn edge(surface: &mut Surface<'_>, fonts: &Fonts, text: &str, y: f32, kind: ArtifactType) {
    if text.is_empty() {
        return;
    }
    surface.start_tagged(ContentTag::Artifact(Artifact::with_kind(kind)));
    let line = Line { text: fonts.printable(text), size: SMALL, kind: Kind::Paragraph };
    draw(surface, fonts, &line, y);
    surface.end_tagged();
}

fn draw(surface: &mut Surface<'_>, fonts: &Fonts, line: &Line, y: f32) {
    let mut x = MARGIN;
    for (face, text) in fonts.pieces(&line.text) {
        let (at, font) = (Point::from_xy(x, y), face.font.clone());
        surface.draw_text(at, font, line.size, text, false, TextDirection::Auto);
        x += face.width(text, line.size);
    }
}

fn lines(narrative: &Narrative, fonts: &Fonts) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut add = |text: &str, size: f32, kind: Kind| {
        for (index, text) in fonts.wrapped(&fonts.printable(text), size).into_iter().enumerate() {
            let kind = if index == 0 { kind } else { Kind::Continued };
            lines.push(Line { text, size, kind });
        }
    };
    add(&narrative.title, 16.0, Kind::Heading(1));
    if !narrative.banner.is_empty() {
        add(narrative.banner, 12.0, Kind::Paragraph);
    }
    for (name, value) in &narrative.facts {
        add(&format!("{name}: {value}"), BODY, Kind::Paragraph);
    }
    for (heading, content) in &narrative.sections {
        add(heading, 12.0, Kind::Heading(2));
        for text in content {
            add(text, BODY, Kind::Paragraph);
        }
    }
    lines
}

/// The lines of each page with where they stand. A heading never ends a page.
fn paged(lines: Vec<Line>) -> Vec<Vec<(Line, f32)>> {
    let (mut pages, mut page, mut y) = (Vec::new(), Vec::new(), MARGIN);
    for line in lines {
        let is_heading = matches!(line.kind, Kind::Heading(_));
        let above = if is_heading { line.size } else { 0.0 };
        let needed = above + line.size * LEADING;
        let behind = if is_heading { BODY * LEADING } else { 0.0 };
        if y + needed + behind > HEIGHT - MARGIN && !page.is_empty() {
            pages.push(std::mem::take(&mut page));
            y = MARGIN;
        }
        y += needed;
        page.push((line, y));
    }
    pages.push(page);
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrative() -> Narrative {
        let lines = (0..200).map(|it| format!("line {it} 王小东 {}", "long ".repeat(it % 40)));
        Narrative {
            title: "Report".to_owned(),
            banner: "draft",
            facts: vec![("Patient", "DOE JANE\u{7}\u{e001}\u{feff}\u{12000}".to_owned())],
            sections: vec![("Findings".to_owned(), lines.collect())],
            colophon: "a machine \u{10ffff}\u{1}".to_owned(),
            concluded: Timestamp::UNIX_EPOCH,
        }
    }

    /// DIN-64: what is sent again is the same, byte by byte.
    #[test]
    fn the_same_report_is_the_same_bytes() {
        let fonts = Fonts::open(&[]).unwrap();
        let [one, two] = [(); 2].map(|()| encode(&narrative(), &fonts).unwrap());
        assert!(one.starts_with(b"%PDF-") && one == two);
    }

    #[test]
    fn without_a_font_it_says_what_to_install() {
        let text = encode(&narrative(), &Fonts::default()).unwrap_err().to_string();
        assert!(text.contains("apt-get install fonts-dejavu-core"), "{text}");
        let none = Fonts::open(&["/etc/hostname".into()]).err().unwrap().to_string();
        assert!(none.contains("not a font"), "{none}");
    }

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
        let lines = fonts.wrapped(&text, BODY);
        assert_eq!(lines.concat(), text);
        let room = WIDTH - 2.0 * MARGIN;
        assert!(lines.iter().all(|it| fonts.width(it, BODY) <= room), "{lines:?}");
    }
}
