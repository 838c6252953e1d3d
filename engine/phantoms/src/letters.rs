//! Letters burned into the corners of radiographs: side markers and how the picture was taken.

use crate::random::Random;

/// Columns and rows of a letter.
const COLUMNS: u32 = 5;
const ROWS: u32 = 7;

/// The letters that are known: for each its rows from above, each of five bits.
const LETTERS: [(char, [u8; 7]); 14] = [
    ('A', [0x0E, 0x11, 0x11, 0x1F, 0x11, 0x11, 0x11]),
    ('B', [0x1E, 0x11, 0x11, 0x1E, 0x11, 0x11, 0x1E]),
    ('C', [0x0E, 0x11, 0x10, 0x10, 0x10, 0x11, 0x0E]),
    ('D', [0x1E, 0x11, 0x11, 0x11, 0x11, 0x11, 0x1E]),
    ('E', [0x1F, 0x10, 0x10, 0x1E, 0x10, 0x10, 0x1F]),
    ('I', [0x0E, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0E]),
    ('L', [0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1F]),
    ('N', [0x11, 0x19, 0x15, 0x13, 0x11, 0x11, 0x11]),
    ('P', [0x1E, 0x11, 0x11, 0x1E, 0x10, 0x10, 0x10]),
    ('R', [0x1E, 0x11, 0x11, 0x1E, 0x14, 0x12, 0x11]),
    ('S', [0x0F, 0x10, 0x10, 0x0E, 0x01, 0x01, 0x1E]),
    ('T', [0x1F, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04]),
    ('U', [0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0E]),
    ('O', [0x0E, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0E]),
];

/// What stands in the corner without the side marker.
const REMARKS: [&str; 6] = ["PA", "AP", "ERECT", "SUPINE", "PORTABLE", ""];

/// Burns a side marker and a remark into a square picture. The marker is true: it stands on the side
/// that it names.
pub(crate) fn burn(grey: &mut [u8], size: u32, random: &mut Random) {
    let dot = (size / 128).max(1);
    let margin = dot * 3;
    let value = if random.chance(80) { 255 } else { 200 };
    let is_right = random.chance(60);
    let far = |letters: u32| size.saturating_sub(margin + letters * (COLUMNS + 1) * dot);
    let top = margin + dot * u32::try_from(random.below(8)).unwrap_or_default();
    let mut burn_at = |text: &str, left: u32, top: u32| {
        for (letter, sign) in (0..).zip(text.chars()) {
            let left = left + letter * (COLUMNS + 1) * dot;
            for [column, row] in dots_of(sign) {
                let corner = [left + column * dot, top + row * dot];
                fill(grey, size, corner, dot, value);
            }
        }
    };
    if random.chance(75) {
        let marker = if is_right { "R" } else { "L" };
        burn_at(marker, if is_right { margin } else { far(1) }, top);
    }
    let remark = random.choice(&REMARKS).copied().unwrap_or_default();
    let letters = u32::try_from(remark.len()).unwrap_or_default();
    let left = if is_right { far(letters) } else { margin };
    let foot = size.saturating_sub(margin + ROWS * dot);
    burn_at(remark, left, if random.chance(50) { margin } else { foot });
}

/// The columns and rows that a letter fills.
fn dots_of(sign: char) -> impl Iterator<Item = [u32; 2]> {
    let known = LETTERS.iter().find(|it| it.0 == sign);
    let rows = known.map_or([0; 7], |it| it.1);
    (0..ROWS).zip(rows).flat_map(|(row, bits)| {
        let is_set = move |column: &u32| bits >> (COLUMNS - 1 - column) & 1 == 1;
        (0..COLUMNS).filter(is_set).map(move |column| [column, row])
    })
}

/// Fills a small square.
fn fill(grey: &mut [u8], size: u32, corner: [u32; 2], side: u32, value: u8) {
    let [left, top] = corner;
    for row in top..(top + side).min(size) {
        for column in left..(left + side).min(size) {
            let at = usize::try_from(row * size + column).unwrap_or(usize::MAX);
            if let Some(pixel) = grey.get_mut(at) {
                *pixel = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_of_a_remark_is_known() {
        for sign in REMARKS.concat().chars().chain("RL".chars()) {
            assert!(LETTERS.iter().any(|it| it.0 == sign), "{sign}");
        }
    }

    #[test]
    fn a_marker_stands_on_the_side_that_it_names() {
        let letter = |grey: &[u8], left: u32| -> Vec<usize> {
            let is_lit = |row: usize, at: u32| grey[row * 128 + (left + at) as usize] > 0;
            (0..5).map(|at| (0..128).filter(|row| is_lit(*row, at)).count()).collect()
        };
        let mut seen = [0, 0];
        for seed in 0..60 {
            let mut grey = vec![0; 128 * 128];
            burn(&mut grey, 128, &mut Random::new(seed, "letters"));
            // The columns of an R and of an L have these numbers of dots, if nothing else is there.
            seen[0] += usize::from(letter(&grey, 3) == [7, 2, 3, 3, 3]);
            seen[1] += usize::from(letter(&grey, 119) == [7, 1, 1, 1, 1]);
            assert_ne!(letter(&grey, 3), [7, 1, 1, 1, 1]);
            assert_ne!(letter(&grey, 119), [7, 2, 3, 3, 3]);
        }
        assert!(seen.iter().all(|it| *it > 5), "{seen:?}");
    }
}
