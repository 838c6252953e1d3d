//! Text drawn into pictures, on a dark ground.

use ab_glyph::{Font as _, FontRef, OutlinedGlyph, PxScale, ScaleFont as _, point};
use imaging::Picture;

use crate::input::ReportError;
use crate::layout::fonts::{Fonts, PdfError};

/// The height of letters is this part of the height of a picture.
const LETTER_SHARE: u32 = 28;

/// Smallest height of letters, in pixels.
const LETTER_MIN: u32 = 12;

/// A line of text with its colour (red, green, blue).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) colour: [u8; 3],
}

/// Draws lines from the upper left corner down, as many as fit.
///
/// # Errors
///
/// Fails if there is no font.
pub(crate) fn draw_lines(
    picture: &mut Picture,
    lines: &[Line],
    fonts: &Fonts,
) -> Result<(), ReportError> {
    let fonts: Vec<FontRef<'_>> =
        fonts.files().filter_map(|it| FontRef::try_from_slice_and_index(it, 0).ok()).collect();
    if fonts.is_empty() {
        return Err(PdfError::NoFont.into());
    }
    let height = (picture.height / LETTER_SHARE).max(LETTER_MIN);
    for (row, line) in lines.iter().enumerate() {
        let top = u32::try_from(row).unwrap_or(u32::MAX).saturating_mul(height + 2);
        if top + height + 2 > picture.height {
            break;
        }
        draw_line(picture, &fonts, line, top, height);
    }
    Ok(())
}

/// Draws one line with letters of this height, its top at `top`, in pixels.
fn draw_line(picture: &mut Picture, fonts: &[FontRef<'_>], line: &Line, top: u32, height: u32) {
    #[expect(clippy::cast_precision_loss, reason = "a side of a picture")]
    let [top_px, height_px, width_px] = [top, height, picture.width].map(|side| side as f32);
    // A line that is too long is set in smaller letters: a banner is read as a whole.
    let letters: Vec<(char, &FontRef<'_>)> =
        line.text.chars().filter_map(|it| Some((it, face(fonts, it)?))).collect();
    let natural_width: f32 = letters.iter().map(|(it, face)| advance(face, *it, height_px)).sum();
    let scale = height_px * (width_px / natural_width.max(1.0)).min(1.0);
    darken(picture, top, height + 2, natural_width.min(width_px));
    let mut x = 0.0_f32;
    for (letter, font) in letters {
        let scaled = font.as_scaled(PxScale::from(scale));
        let mut glyph = scaled.scaled_glyph(letter);
        glyph.position = point(x, top_px + scaled.ascent());
        x += scaled.h_advance(glyph.id);
        if let Some(outlined) = font.outline_glyph(glyph) {
            draw_glyph(picture, &outlined, line.colour);
        }
    }
}

/// The width of a letter at this height, in pixels.
fn advance(font: &FontRef<'_>, letter: char, height: f32) -> f32 {
    let scaled = font.as_scaled(PxScale::from(height));
    scaled.h_advance(scaled.glyph_id(letter))
}

fn draw_glyph(picture: &mut Picture, glyph: &OutlinedGlyph, colour: [u8; 3]) {
    let bounds = glyph.px_bounds();
    let left = first_pixel(bounds.min.x);
    let top = first_pixel(bounds.min.y);
    glyph.draw(|column, row, coverage| mix(picture, left + column, top + row, colour, coverage));
}

/// The pixel at a coordinate. What lies outside of the picture is moved to its edge.
fn first_pixel(coordinate: f32) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number, no more than a side of a picture"
    )]
    let pixel = coordinate.max(0.0) as u32;
    pixel
}

/// The first font that has a letter, or else the first.
fn face<'a, 'b>(fonts: &'a [FontRef<'b>], letter: char) -> Option<&'a FontRef<'b>> {
    fonts.iter().find(|it| it.glyph_id(letter).0 != 0).or_else(|| fonts.first())
}

/// Blackens the upper left part of a picture below `top`.
fn darken(picture: &mut Picture, top: u32, height: u32, width: f32) {
    let width = first_pixel(width);
    for row in top..(top + height).min(picture.height) {
        for column in 0..width.min(picture.width) {
            mix(picture, column, row, [0, 0, 0], 1.0);
        }
    }
}

/// Mixes a colour into a pixel, by this share.
fn mix(picture: &mut Picture, column: u32, row: u32, colour: [u8; 3], share: f32) {
    if column >= picture.width || row >= picture.height {
        return;
    }
    let at = (row as usize * picture.width as usize + column as usize) * 3;
    let Some(pixel) = picture.rgb.get_mut(at..at + 3) else { return };
    for (value, colour) in pixel.iter_mut().zip(colour) {
        let mixed = f32::from(*value) * (1.0 - share) + f32::from(colour) * share;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between two bytes"
        )]
        let mixed = mixed.round().clamp(0.0, 255.0) as u8;
        *value = mixed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32) -> Picture {
        Picture { width, height, rgb: vec![100; (width * height * 3) as usize] }
    }

    fn line(text: &str) -> Line {
        Line { text: text.to_owned(), colour: [255, 255, 0] }
    }

    /// Rows of the picture in which a pixel differs from its ground.
    fn changed_rows(picture: &Picture) -> Vec<usize> {
        let rows = picture.rgb.chunks(picture.width as usize * 3).enumerate();
        rows.filter(|(_, row)| row.iter().any(|it| *it != 100)).map(|(at, _)| at).collect()
    }

    #[test]
    fn lines_are_drawn_from_the_top_as_many_as_fit() {
        let mut drawn = picture(200, 30);
        let fonts = Fonts::open(&[]).unwrap();
        draw_lines(&mut drawn, &[line("one"), line("two"), line("three")], &fonts).unwrap();
        assert_eq!(changed_rows(&drawn), (0..28).collect::<Vec<_>>());
    }

    #[test]
    fn a_long_banner_is_scaled_to_the_width() {
        let fonts = Fonts::open(&[]).unwrap();
        let mut drawn = picture(200, 40);
        draw_lines(&mut drawn, &[line("AI-generated - not verified by a physician")], &fonts)
            .unwrap();
        let yellow = drawn.rgb.chunks(3).filter(|it| it[0] > 120 && it[2] < 60).count();
        assert!(yellow > 20, "{yellow} pixels of the banner are readable");
    }

    #[test]
    fn without_a_font_nothing_is_drawn() {
        let mut drawn = picture(64, 40);
        assert!(draw_lines(&mut drawn, &[line("one")], &Fonts::default()).is_err());
        assert_eq!(changed_rows(&drawn), Vec::<usize>::new());
    }
}
