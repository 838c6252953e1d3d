//! A report as pages: tagged PDF/A-2a with its fonts inside (ISO 19005-2; OUT-03, OUT-51).

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

use crate::fonts::{Fonts, PdfError};
use crate::narrative::Narrative;

/// A4 and its margins, in points of 1/72 inch.
const WIDTH: f32 = 595.28;
const HEIGHT: f32 = 841.89;
const MARGIN: f32 = 56.0;

/// Sizes of letters, and what a line takes in proportion.
const BODY: f32 = 10.5;
const SMALL: f32 = 8.5;
const LEADING: f32 = 1.4;

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
        for (index, text) in fonts
            .wrapped(&fonts.printable(text), size, WIDTH - 2.0 * MARGIN)
            .into_iter()
            .enumerate()
        {
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
}
