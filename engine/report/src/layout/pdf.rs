//! The narrative on pages: a tagged PDF/A-2a with its fonts embedded (ISO 19005-2; OUT-03, OUT-51).

use std::fmt::Debug;
use std::num::NonZeroU16;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use krilla::configure::{Archival, ConfigurationBuilder};
use krilla::geom::Point;
use krilla::metadata::{DateTime, Metadata};
use krilla::page::PageSettings;
use krilla::surface::Surface;
use krilla::tagging::{Artifact, ArtifactType, ContentTag, SpanTag, Tag, TagGroup, TagTree};
use krilla::text::TextDirection;
use krilla::{Document, SerializeSettings};

use crate::language::Language;
use crate::layout::fonts::{Fonts, PdfError};
use crate::layout::narrative::{Annex, Fact, Narrative, NarrativeSection};

/// Width of an A4 page, in points of 1/72 inch.
const WIDTH: f32 = 595.28;

/// Height of an A4 page, in points.
const HEIGHT: f32 = 841.89;

/// Margin on all sides, in points.
const MARGIN: f32 = 56.0;

/// Size of body text, in points.
const BODY: f32 = 10.5;

/// Size of header and footer, in points.
const SMALL: f32 = 8.5;

/// Distance of lines as a multiple of their size.
const LEADING: f32 = 1.4;

/// A line of text.
struct Line {
    text: String,
    /// Size of its letters, in points.
    size: f32,
    kind: LineKind,
}

/// What a line belongs to, for the tags of the document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineKind {
    /// First line of a heading of this level; 1 is the title.
    Heading(u16),
    /// First line of a paragraph.
    Paragraph,
    /// A further line of the heading or paragraph before it.
    Continued,
}

/// A line with the position of its baseline on the page, in points from the top.
struct PlacedLine {
    line: Line,
    y: f32,
}

/// Encodes a report as pages.
///
/// # Errors
///
/// Fails if there is no font, or the library cannot write what the standard requires.
pub fn encode(narrative: &Narrative, fonts: &Fonts) -> Result<Vec<u8>, PdfError> {
    if fonts.is_empty() {
        return Err(PdfError::NoFont);
    }
    let archival = ConfigurationBuilder::new().with_archival_validator(Archival::A2_A);
    let configuration = archival.finish().map_err(|error| unwritable(&error))?;
    let settings = SerializeSettings { configuration, ..SerializeSettings::default() };
    let mut document = Document::new_with(settings);
    let title = narrative.title.clone();
    let metadata = Metadata::new().title(title).language(narrative.language.tag().to_owned());
    let metadata = metadata.creator("Isocenter".to_owned());
    document.set_metadata(metadata.creation_date(date(narrative.concluded)));
    let mut pages = paged(lines(narrative, fonts));
    let report_pages = pages.len();
    if let Some(annex) = &narrative.annex {
        pages.extend(paged(annex_lines(annex, fonts)));
    }
    let count = pages.len();
    let mut tags = TagTree::new();
    let mut open: Option<TagGroup> = None;
    for (index, page) in pages.into_iter().enumerate() {
        let size = PageSettings::from_wh(WIDTH, HEIGHT);
        let mut sheet = document.start_page_with(size.ok_or(PdfError::NoFont)?);
        let mut surface = sheet.surface();
        let of_annex = narrative.annex.as_ref().filter(|_| index >= report_pages);
        let banner = of_annex.map_or(narrative.banner, |annex| annex.banner);
        let banner = fonts.printable_label(banner);
        edge(&mut surface, fonts, banner, MARGIN * 0.6, ArtifactType::Header);
        let foot = format!("{}   {}/{count}", narrative.colophon, index + 1);
        edge(&mut surface, fonts, &foot, HEIGHT - MARGIN * 0.5, ArtifactType::Footer);
        for PlacedLine { line, y } in page {
            let language = Language::of_text(&line.text).unwrap_or(narrative.language);
            let span = SpanTag::empty().with_lang(Some(language.tag()));
            let identifier = surface.start_tagged(ContentTag::Span(span));
            draw(&mut surface, fonts, &line, y);
            surface.end_tagged();
            if line.kind != LineKind::Continued {
                close_group(&mut tags, open.take());
            }
            open.get_or_insert_with(|| group(line.kind, &line.text)).push(identifier);
        }
        surface.finish();
        sheet.finish();
    }
    close_group(&mut tags, open);
    document.set_tag_tree(tags);
    document.finish().map_err(|error| unwritable(&error))
}

fn unwritable(error: &dyn Debug) -> PdfError {
    PdfError::Unwritable(format!("{error:?}"))
}

fn date(at: Timestamp) -> DateTime {
    let at = at.to_zoned(TimeZone::UTC);
    DateTime::new(at.year().unsigned_abs())
        .month(at.month().unsigned_abs())
        .day(at.day().unsigned_abs())
        .hour(at.hour().unsigned_abs())
        .minute(at.minute().unsigned_abs())
        .second(at.second().unsigned_abs())
        .utc_offset_hour(0)
}

/// Adds a group that is complete.
fn close_group(tags: &mut TagTree, group: Option<TagGroup>) {
    if let Some(group) = group {
        tags.push(group);
    }
}

/// The tag of a heading or paragraph.
fn group(kind: LineKind, text: &str) -> TagGroup {
    match kind {
        LineKind::Heading(level) => {
            let level = NonZeroU16::new(level).unwrap_or(NonZeroU16::MIN);
            TagGroup::new(Tag::Hn(level, Some(text.to_owned())))
        }
        LineKind::Paragraph | LineKind::Continued => TagGroup::new(Tag::P),
    }
}

/// Draws the header or footer of a page.
fn edge(surface: &mut Surface<'_>, fonts: &Fonts, text: &str, y: f32, kind: ArtifactType) {
    if text.is_empty() {
        return;
    }
    surface.start_tagged(ContentTag::Artifact(Artifact::with_kind(kind)));
    let line = Line { text: fonts.printable(text), size: SMALL, kind: LineKind::Paragraph };
    draw(surface, fonts, &line, y);
    surface.end_tagged();
}

/// Draws a line, each part in the font that has its letters.
fn draw(surface: &mut Surface<'_>, fonts: &Fonts, line: &Line, y: f32) {
    let mut x = MARGIN;
    for (face, text) in fonts.runs(&line.text) {
        let start = Point::from_xy(x, y);
        let font = face.font.clone();
        surface.draw_text(start, font, line.size, text, false, TextDirection::Auto);
        x += face.width(text, line.size);
    }
}

/// The lines of a report, wrapped to the width of a page.
fn lines(narrative: &Narrative, fonts: &Fonts) -> Vec<Line> {
    let mut lines = wrapped(&narrative.title, 16.0, LineKind::Heading(1), fonts);
    if !narrative.banner.is_empty() {
        let banner = fonts.printable_label(narrative.banner);
        lines.extend(wrapped(banner, 12.0, LineKind::Paragraph, fonts));
    }
    for Fact { name, value } in &narrative.facts {
        lines.extend(wrapped(&format!("{name}: {value}"), BODY, LineKind::Paragraph, fonts));
    }
    lines.extend(section_lines(&narrative.sections, fonts));
    lines
}

/// The lines of an annex, which begins on a page of its own.
fn annex_lines(annex: &Annex, fonts: &Fonts) -> Vec<Line> {
    let mut lines = wrapped(&annex.heading, 16.0, LineKind::Heading(1), fonts);
    let banner = fonts.printable_label(annex.banner);
    lines.extend(wrapped(banner, 12.0, LineKind::Paragraph, fonts));
    lines.extend(wrapped(&annex.notice, BODY, LineKind::Paragraph, fonts));
    lines.extend(section_lines(&annex.sections, fonts));
    lines
}

fn section_lines(sections: &[NarrativeSection], fonts: &Fonts) -> Vec<Line> {
    let mut lines = Vec::new();
    for section in sections {
        lines.extend(wrapped(&section.heading, 12.0, LineKind::Heading(2), fonts));
        for text in &section.lines {
            lines.extend(wrapped(text, BODY, LineKind::Paragraph, fonts));
        }
    }
    lines
}

/// A heading or paragraph as lines; all but the first continue it.
fn wrapped(text: &str, size: f32, kind: LineKind, fonts: &Fonts) -> Vec<Line> {
    let texts = fonts.wrapped(&fonts.printable(text), size, WIDTH - 2.0 * MARGIN).into_iter();
    let lines = texts.enumerate().map(|(index, text)| {
        let kind = if index == 0 { kind } else { LineKind::Continued };
        Line { text, size, kind }
    });
    lines.collect()
}

/// The lines of each page with their position. A heading never ends a page.
fn paged(lines: Vec<Line>) -> Vec<Vec<PlacedLine>> {
    let mut pages = Vec::new();
    let mut page = Vec::new();
    let mut y = MARGIN;
    for line in lines {
        let is_heading = matches!(line.kind, LineKind::Heading(_));
        let space_above = if is_heading { line.size } else { 0.0 };
        let needed = space_above + line.size * LEADING;
        let next_line = if is_heading { BODY * LEADING } else { 0.0 };
        if y + needed + next_line > HEIGHT - MARGIN && !page.is_empty() {
            pages.push(std::mem::take(&mut page));
            y = MARGIN;
        }
        y += needed;
        page.push(PlacedLine { line, y });
    }
    pages.push(page);
    pages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::narrative::NarrativeSection;

    fn narrative() -> Narrative {
        let lines = (0..200).map(|it| format!("line {it} 王小东 {}", "long ".repeat(it % 40)));
        Narrative {
            title: "Report".to_owned(),
            banner: "draft",
            language: Language::Chinese,
            facts: vec![Fact {
                name: "Patient",
                value: "DOE JANE\u{7}\u{e001}\u{feff}\u{12000}".to_owned(),
            }],
            sections: vec![NarrativeSection {
                heading: "Findings".to_owned(),
                lines: lines.collect(),
                is_list: true,
            }],
            colophon: "a machine \u{10ffff}\u{1}".to_owned(),
            concluded: Timestamp::UNIX_EPOCH,
            annex: None,
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
}
