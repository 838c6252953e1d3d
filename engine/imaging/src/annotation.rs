//! Draws masks and boxes into a picture, for the eyes of a reader.

use crate::picture::Picture;
use crate::rle::FlatMask;

/// A palette that readers with a colour vision deficiency can distinguish (Okabe and Ito).
const COLOURS: [[u8; 3]; 6] =
    [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0]];

/// Thickness of the outline of a box, in pixels.
const LINE_WIDTH: u32 = 2;

/// The colour of the object of this number. Colours repeat after six objects.
pub fn colour(index: usize) -> [u8; 3] {
    COLOURS.get(index % COLOURS.len()).copied().unwrap_or_default()
}

/// Blends a colour into all pixels of a mask of the picture's size, at half opacity.
pub fn tint_mask(picture: &mut Picture, mask: &FlatMask, colour: [u8; 3]) {
    for (pixel, is_in) in picture.rgb.chunks_exact_mut(3).zip(&mask.pixels) {
        if *is_in {
            for (value, colour) in pixel.iter_mut().zip(colour) {
                *value = value.midpoint(colour);
            }
        }
    }
}

/// Draws the outline of a box: left, top, right, bottom, in pixels. What lies outside of the
/// picture is cut off.
pub fn draw_box(picture: &mut Picture, [left, top, right, bottom]: [u32; 4], colour: [u8; 3]) {
    let right = right.min(picture.width);
    let bottom = bottom.min(picture.height);
    for row in top..bottom {
        for column in left..right {
            let is_edge = row < top + LINE_WIDTH
                || row + LINE_WIDTH >= bottom
                || column < left + LINE_WIDTH
                || column + LINE_WIDTH >= right;
            let at = (row as usize * picture.width as usize + column as usize) * 3;
            if let (true, Some(pixel)) = (is_edge, picture.rgb.get_mut(at..at + 3)) {
                pixel.copy_from_slice(&colour);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_stays_inside() {
        let mut picture = Picture::new(6, 5, vec![0; 90]).unwrap();
        draw_box(&mut picture, [1, 1, 100, 100], [9, 9, 9]);
        let row = |it: usize| -> Vec<u8> {
            picture.rgb[it * 18..(it + 1) * 18].iter().step_by(3).copied().collect()
        };
        assert_eq!(row(0), [0; 6]);
        assert_eq!(row(1), [0, 9, 9, 9, 9, 9]);
        let pixels = (0..30).map(|it| it == 7).collect();
        let mut picture = Picture::new(6, 5, vec![100; 90]).unwrap();
        tint_mask(&mut picture, &FlatMask { height: 5, width: 6, pixels }, [200, 0, 50]);
        assert_eq!(picture.rgb[21..24], [150, 50, 75]);
        assert_eq!(picture.rgb.iter().filter(|it| **it != 100).count(), 3);
    }
}
