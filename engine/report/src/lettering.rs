//! Letters drawn into pictures.

use ab_glyph::{Font as _, FontRef, PxScale, ScaleFont as _, point};
use imaging::Picture;

use crate::fonts::{Fonts, PdfError};
use crate::writing::ReportError;

/// Letters are this part of the height of an image, and at least so many pixels.
const LETTER_SHARE: u32 = 28;
const LETTER_MIN: u32 = 12;

/// Writes lines from the upper left corner down, on black.
pub(crate) fn write(
    picture: &mut Picture,
    lines: &[(&str, [u8; 3])],
    fonts: &Fonts,
) -> Result<(), ReportError> {
    let fonts: Vec<FontRef<'_>> =
        fonts.files().filter_map(|it| FontRef::try_from_slice_and_index(it, 0).ok()).collect();
    if fonts.is_empty() {
        return Err(PdfError::NoFont.into());
    }
    let letter = (picture.height / LETTER_SHARE).max(LETTER_MIN);
    for (row, (line, colour)) in lines.iter().enumerate() {
        let top = u32::try_from(row).unwrap_or(u32::MAX).saturating_mul(letter + 2);
        if top + letter + 2 > picture.height {
            break;
        }
        write_line(picture, &fonts, (line, *colour), (top, letter));
    }
    Ok(())
}

fn write_line(
    picture: &mut Picture,
    fonts: &[FontRef<'_>],
    (line, colour): (&str, [u8; 3]),
    (top, letter): (u32, u32),
) {
    #[expect(clippy::cast_precision_loss, reason = "a side of a picture")]
    let (top_px, letter_px, width_px) = (top as f32, letter as f32, picture.width as f32);
    // A line that is too long is set in smaller letters: a banner is read as a whole.
    let faces: Vec<(char, &FontRef<'_>)> =
        line.chars().filter_map(|it| Some((it, face(fonts, it)?))).collect();
    let advance = |(it, face): &(char, &FontRef<'_>)| {
        let scaled = face.as_scaled(PxScale::from(letter_px));
        scaled.h_advance(scaled.glyph_id(*it))
    };
    let natural: f32 = faces.iter().map(advance).sum();
    let scale = letter_px * (width_px / natural.max(1.0)).min(1.0);
    let mut x = 0.0_f32;
    darken(picture, top, letter + 2, natural.min(width_px));
    for (character, font) in faces {
        let scaled = font.as_scaled(PxScale::from(scale));
        let baseline = top_px + scaled.ascent();
        let mut glyph = scaled.scaled_glyph(character);
        glyph.position = point(x, baseline);
        x += scaled.h_advance(glyph.id);
        let Some(outlined) = font.outline_glyph(glyph) else { continue };
        let bounds = outlined.px_bounds();
        outlined.draw(|column, row, coverage| {
            let place = |start: f32, offset: u32| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "what lies left of the picture is at its edge"
                )]
                let start = start.max(0.0) as u32;
                start + offset
            };
            let (column, row) = (place(bounds.min.x, column), place(bounds.min.y, row));
            mix(picture, column, row, colour, coverage);
        });
    }
}

/// The first font that has a letter, or else the first.
fn face<'a, 'b>(fonts: &'a [FontRef<'b>], letter: char) -> Option<&'a FontRef<'b>> {
    fonts.iter().find(|it| it.glyph_id(letter).0 != 0).or_else(|| fonts.first())
}

fn darken(picture: &mut Picture, top: u32, height: u32, width: f32) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number, no more than a side of a picture"
    )]
    let width = width.max(0.0) as u32;
    for row in top..(top + height).min(picture.height) {
        for column in 0..width.min(picture.width) {
            mix(picture, column, row, [0, 0, 0], 1.0);
        }
    }
}

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
