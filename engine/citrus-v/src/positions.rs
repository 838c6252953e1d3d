//! Where tokens and patches are: M-RoPE of the text, the grid and the windows of the vision tower.
//! Pure.

use crate::config::VisionConfig;

/// A picture in patches: frames, rows, columns.
pub type Grid = [usize; 3];

/// Positions of a sequence on the axes of time, row and column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextPositions {
    /// One axis after the other, a number a token.
    pub axes: [Vec<i64>; 3],
    /// What is added to the number of a token to get the positions of all that are still to come.
    pub delta: i64,
}

/// The tokens do not fit the pictures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text has room for {found} pieces of pictures, the pictures have {expected}")]
pub struct PlacesError {
    /// Places in the text.
    pub found: usize,
    /// Pieces of the pictures.
    pub expected: usize,
}

/// Positions of `ids`, in which `image` stands for one piece of the pictures of `grids`.
///
/// Text counts up on all axes alike. A picture stands at one time, its pieces at their rows and
/// columns; what comes next begins after the highest number so far.
///
/// # Errors
///
/// Fails if there are more or fewer pieces than places.
pub fn text_positions(
    ids: &[u32],
    image: u32,
    grids: &[Grid],
    merge: usize,
) -> Result<TextPositions, PlacesError> {
    let pieces = |it: &Grid| it[0] * (it[1] / merge) * (it[2] / merge);
    let expected: usize = grids.iter().map(pieces).sum();
    let found = ids.iter().filter(|it| **it == image).count();
    if found != expected {
        return Err(PlacesError { found, expected });
    }
    let mut axes: [Vec<i64>; 3] = std::array::from_fn(|_| Vec::with_capacity(ids.len()));
    let (mut next, mut grids, mut at) = (0_i64, grids.iter(), 0);
    let number = |it: usize| i64::try_from(it).unwrap_or(i64::MAX);
    while let Some(id) = ids.get(at) {
        if *id != image {
            for axis in &mut axes {
                axis.push(next);
            }
            next += 1;
            at += 1;
            continue;
        }
        let Some(grid @ [frames, rows, columns]) = grids.next() else { break };
        let (rows, columns) = (rows / merge, columns / merge);
        for piece in 0..frames * rows * columns {
            let (row, column) = (piece / columns % rows, piece % columns);
            for (axis, offset) in axes.iter_mut().zip([piece / (rows * columns), row, column]) {
                axis.push(next + number(offset));
            }
        }
        next += number(rows.max(columns).max(*frames));
        at += pieces(grid);
    }
    Ok(TextPositions { axes, delta: next - number(ids.len()) })
}

/// Frequencies of rotary positions over `width` numbers: half as many.
pub fn frequencies(theta: f64, width: usize) -> Vec<f32> {
    let exponent = |it: usize| (2 * it) as f32 / width as f32;
    #[expect(clippy::cast_possible_truncation, reason = "the reference computes in f32")]
    let theta = theta as f32;
    (0..width / 2).map(|it| 1.0 / theta.powf(exponent(it))).collect()
}

/// Angles of each patch, `head / 2` numbers each: rows first, then columns. Patches come block by
/// block of what is merged.
pub fn patch_angles(config: &VisionConfig, grids: &[Grid]) -> Vec<f32> {
    let frequencies = frequencies(10_000.0, config.hidden / config.heads / 2);
    let mut angles = Vec::new();
    for [frames, rows, columns] in grids {
        let merge = config.merge;
        for _ in 0..*frames {
            for block in 0..rows / merge * (columns / merge) {
                let (down, right) = (block / (columns / merge), block % (columns / merge));
                for inside in 0..merge * merge {
                    let row = down * merge + inside / merge;
                    let column = right * merge + inside % merge;
                    for place in [row, column] {
                        angles.extend(frequencies.iter().map(|it| place as f32 * it));
                    }
                }
            }
        }
    }
    angles
}

/// The order in which merged pieces are worked on, and where windows begin and end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Pieces, window by window.
    pub order: Vec<u32>,
    /// Ends of the windows, in patches, after a nought.
    pub ends: Vec<usize>,
    /// Ends of the frames, in patches, after a nought.
    pub frames: Vec<usize>,
}

impl Windows {
    /// The windows of pictures.
    pub fn of(config: &VisionConfig, grids: &[Grid]) -> Self {
        let side = config.window / config.factor();
        let merged = config.merged();
        let mut all = Self { order: Vec::new(), ends: vec![0], frames: vec![0] };
        let mut first = 0;
        for [frames, rows, columns] in grids {
            let (rows, columns) = (rows / config.merge, columns / config.merge);
            for frame in 0..*frames {
                for down in (0..rows).step_by(side) {
                    for right in (0..columns).step_by(side) {
                        let inside = (down..rows.min(down + side)).flat_map(|row| {
                            (right..columns.min(right + side)).map(move |it| (row, it))
                        });
                        let piece = |(row, column): (usize, usize)| {
                            u32::try_from(first + (frame * rows + row) * columns + column)
                                .unwrap_or(u32::MAX)
                        };
                        all.order.extend(inside.map(piece));
                        all.ends.push(all.order.len() * merged);
                    }
                }
                all.frames.push(all.order.len() * merged);
            }
            first += frames * rows * columns;
        }
        all
    }

    /// Where each piece lies in that order.
    pub fn inverse(&self) -> Vec<u32> {
        let mut inverse = vec![0; self.order.len()];
        for (at, piece) in self.order.iter().enumerate() {
            if let Some(it) = inverse.get_mut(*piece as usize) {
                *it = u32::try_from(at).unwrap_or(u32::MAX);
            }
        }
        inverse
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IMAGE: u32 = 9;

    /// The same, slowly: every token looked at by itself, with what came before.
    fn slow(ids: &[u32], grids: &[Grid], merge: usize) -> [Vec<i64>; 3] {
        let mut places: Vec<[i64; 3]> = Vec::new();
        let mut boxes = grids.iter().map(|it| [it[0], it[1] / merge, it[2] / merge]);
        let mut open: Option<([usize; 3], usize, i64)> = None;
        for id in ids {
            let highest = places.iter().flatten().max().map_or(0, |it| it + 1);
            if *id != IMAGE {
                open = None;
                places.push([highest; 3]);
                continue;
            }
            let is_done = |it: &([usize; 3], usize, i64)| it.1 == it.0.iter().product::<usize>();
            let (size, at, start) = match open.filter(|it| !is_done(it)) {
                Some(open) => open,
                None => (boxes.next().unwrap(), 0, highest),
            };
            let place = [at / size[2] / size[1], at / size[2] % size[1], at % size[2]];
            places.push(place.map(|it| start + i64::try_from(it).unwrap()));
            open = Some((size, at + 1, start));
        }
        [0, 1, 2].map(|axis| places.iter().map(|it| it[axis]).collect())
    }

    proptest! {
        #[test]
        fn positions_are_those_of_a_slow_count(
            parts in proptest::collection::vec((0_usize..4, 0_usize..2, 1_usize..4, 1_usize..4), 0..6),
        ) {
            let (mut ids, mut grids) = (Vec::new(), Vec::new());
            for (words, pictures, rows, columns) in parts {
                ids.extend(std::iter::repeat_n(1, words));
                for _ in 0..pictures {
                    grids.push([1, rows * 2, columns * 2]);
                    ids.extend(std::iter::repeat_n(IMAGE, rows * columns));
                }
            }
            let found = text_positions(&ids, IMAGE, &grids, 2).unwrap();
            let expected = slow(&ids, &grids, 2);
            let next = expected.iter().flatten().max().map_or(0, |it| it + 1);
            prop_assert_eq!(&found.axes, &expected);
            prop_assert_eq!(found.delta, next - i64::try_from(ids.len()).unwrap());
            ids.push(IMAGE);
            prop_assert!(text_positions(&ids, IMAGE, &grids, 2).is_err());
        }
    }
}
