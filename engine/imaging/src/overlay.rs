//! What a model found, drawn on the picture it was found in.

use crate::picture::Picture;
use crate::rle::FlatMask;

/// Colours that are told apart, also by those who see few.
const COLOURS: [[u8; 3]; 6] =
    [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0]];

/// Thickness of a line, in pixels.
const LINE: u32 = 2;

/// A colour for the object of this number.
pub fn colour(index: usize) -> [u8; 3] {
    COLOURS.get(index % COLOURS.len()).copied().unwrap_or_default()
}

/// Mixes a colour into all pixels of a mask of the picture's size: half of each.
pub fn tint(picture: &mut Picture, mask: &FlatMask, colour: [u8; 3]) {
    for (pixel, is_in) in picture.rgb.chunks_exact_mut(3).zip(&mask.pixels) {
        if *is_in {
            for (value, colour) in pixel.iter_mut().zip(colour) {
                *value = value.midpoint(colour);
            }
        }
    }
}

/// Draws the outline of a box: left, top, right, bottom.
pub fn outline(picture: &mut Picture, [left, top, right, bottom]: [u32; 4], colour: [u8; 3]) {
    let (right, bottom) = (right.min(picture.width), bottom.min(picture.height));
    for row in top..bottom {
        for column in left..right {
            let is_edge = row < top + LINE
                || row + LINE >= bottom
                || column < left + LINE
                || column + LINE >= right;
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
        outline(&mut picture, [1, 1, 100, 100], [9, 9, 9]);
        let row = |it: usize| -> Vec<u8> {
            picture.rgb[it * 18..(it + 1) * 18].iter().step_by(3).copied().collect()
        };
        assert_eq!(row(0), [0; 6]);
        assert_eq!(row(1), [0, 9, 9, 9, 9, 9]);
        let pixels = (0..30).map(|it| it == 7).collect();
        let mut picture = Picture::new(6, 5, vec![100; 90]).unwrap();
        tint(&mut picture, &FlatMask { height: 5, width: 6, pixels }, [200, 0, 50]);
        assert_eq!(picture.rgb[21..24], [150, 50, 75]);
        assert_eq!(picture.rgb.iter().filter(|it| **it != 100).count(), 3);
    }
}
