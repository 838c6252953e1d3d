//! Positions of tokens and patches: M-RoPE of the language model, and the patches and attention
//! windows of the vision encoder. Pure.

use crate::config::VisionConfig;

/// A picture in patches: frames, rows and columns.
pub type Grid = [usize; 3];

/// The M-RoPE positions of a prompt ([arXiv 2409.12191](https://arxiv.org/abs/2409.12191), 2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MropePositions {
    /// The positions of all tokens on the axes of time, row and column.
    pub axes: [Vec<i64>; 3],
    /// The position of a token after the prompt is its index plus this, on all axes.
    pub delta: i64,
}

/// The number of image tokens in a prompt is not that of its pictures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text has {found} image tokens, the pictures need {expected}")]
pub struct ImageTokenMismatch {
    /// The image tokens in the prompt.
    pub found: usize,
    /// The image tokens that the pictures need.
    pub expected: usize,
}

/// The M-RoPE positions of a prompt with pictures of these grids.
///
/// Text counts up on all axes alike. A picture has one position in time, and its tokens have the
/// positions of their rows and columns. The text after it begins after its highest position.
///
/// # Errors
///
/// Fails if there are more or fewer image tokens than the pictures need.
pub fn mrope_positions(
    token_ids: &[u32],
    image_token: u32,
    grids: &[Grid],
    merge: usize,
) -> Result<MropePositions, ImageTokenMismatch> {
    let expected: usize = grids.iter().map(|grid| image_token_count(grid, merge)).sum();
    let found = token_ids.iter().filter(|it| **it == image_token).count();
    if found != expected {
        return Err(ImageTokenMismatch { found, expected });
    }
    let mut axes: [Vec<i64>; 3] = std::array::from_fn(|_| Vec::with_capacity(token_ids.len()));
    let mut grids = grids.iter();
    let mut next_position = 0_i64;
    let mut index = 0;
    while let Some(token) = token_ids.get(index) {
        if *token != image_token {
            for axis in &mut axes {
                axis.push(next_position);
            }
            next_position += 1;
            index += 1;
            continue;
        }
        let Some(grid @ [frames, rows, columns]) = grids.next() else { break };
        let rows = rows / merge;
        let columns = columns / merge;
        for patch in 0..frames * rows * columns {
            let offsets = [patch / (rows * columns), patch / columns % rows, patch % columns];
            for (axis, offset) in axes.iter_mut().zip(offsets) {
                axis.push(next_position + to_i64(offset));
            }
        }
        next_position += to_i64(rows.max(columns).max(*frames));
        index += image_token_count(grid, merge);
    }
    Ok(MropePositions { axes, delta: next_position - to_i64(token_ids.len()) })
}

/// The number of image tokens of a picture: its patches, merged.
const fn image_token_count(grid: &Grid, merge: usize) -> usize {
    grid[0] * (grid[1] / merge) * (grid[2] / merge)
}

fn to_i64(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The frequencies of a rotary embedding of `width` numbers: `theta^(-2i / width)`, half as many.
pub fn inverse_frequencies(theta: f64, width: usize) -> Vec<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "the reference computes in f32")]
    let theta = theta as f32;
    let frequency = |index: usize| 1.0 / theta.powf((2 * index) as f32 / width as f32);
    (0..width / 2).map(frequency).collect()
}

/// The base of the vision encoder's rotary frequencies.
const VISION_ROPE_THETA: f64 = 10_000.0;

/// The rotary angles of each patch, `head_dim / 2` numbers each: those of its row, then those of
/// its column. Patches are in the order of [`to_patches`](crate::preprocess::to_patches).
pub fn patch_angles(config: &VisionConfig, grids: &[Grid]) -> Vec<f32> {
    let frequencies = inverse_frequencies(VISION_ROPE_THETA, config.hidden / config.heads / 2);
    let merge = config.merge;
    let mut angles = Vec::new();
    for [frames, rows, columns] in grids {
        let blocks_per_row = columns / merge;
        for _ in 0..*frames {
            for block in 0..rows / merge * blocks_per_row {
                for inside in 0..merge * merge {
                    let row = block / blocks_per_row * merge + inside / merge;
                    let column = block % blocks_per_row * merge + inside % merge;
                    for position in [row, column] {
                        angles.extend(frequencies.iter().map(|it| position as f32 * it));
                    }
                }
            }
        }
    }
    angles
}

/// The partition of merged patches into attention windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowPartition {
    /// The merged patches, window by window.
    pub order: Vec<u32>,
    /// Zero and the ends of the windows, in patches (`cu_window_seqlens` of the reference).
    pub window_boundaries: Vec<usize>,
    /// Zero and the ends of the frames, in patches (`cu_seqlens` of the reference).
    pub frame_boundaries: Vec<usize>,
}

impl WindowPartition {
    /// The windows of pictures with these grids. Windows at the right and lower edge are smaller.
    pub fn of(config: &VisionConfig, grids: &[Grid]) -> Self {
        let mut partition =
            Self { order: Vec::new(), window_boundaries: vec![0], frame_boundaries: vec![0] };
        let mut first = 0;
        for [frames, rows, columns] in grids {
            let rows = rows / config.merge;
            let columns = columns / config.merge;
            for frame in 0..*frames {
                partition.add_frame(config, first + frame * rows * columns, rows, columns);
            }
            first += frames * rows * columns;
        }
        partition
    }

    /// Adds a frame of merged patches, of which the first has index `first`.
    fn add_frame(&mut self, config: &VisionConfig, first: usize, rows: usize, columns: usize) {
        let side = config.window / config.size_factor();
        for top in (0..rows).step_by(side) {
            for left in (0..columns).step_by(side) {
                for row in top..rows.min(top + side) {
                    for column in left..columns.min(left + side) {
                        let index = first + row * columns + column;
                        self.order.push(u32::try_from(index).unwrap_or(u32::MAX));
                    }
                }
                self.window_boundaries.push(self.order.len() * config.merge_unit());
            }
        }
        self.frame_boundaries.push(self.order.len() * config.merge_unit());
    }

    /// The position of each merged patch in [`order`](Self::order).
    pub fn inverse_order(&self) -> Vec<u32> {
        let mut inverse = vec![0; self.order.len()];
        for (position, patch) in self.order.iter().enumerate() {
            if let Some(it) = inverse.get_mut(*patch as usize) {
                *it = u32::try_from(position).unwrap_or(u32::MAX);
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

    /// The same, slowly: each token alone, with those before it.
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
        fn positions_are_those_of_a_slow_computation(
            parts in proptest::collection::vec((0_usize..4, 0_usize..2, 1_usize..4, 1_usize..4), 0..6),
        ) {
            let mut ids = Vec::new();
            let mut grids = Vec::new();
            for (words, pictures, rows, columns) in parts {
                ids.extend(std::iter::repeat_n(1, words));
                for _ in 0..pictures {
                    grids.push([1, rows * 2, columns * 2]);
                    ids.extend(std::iter::repeat_n(IMAGE, rows * columns));
                }
            }
            let found = mrope_positions(&ids, IMAGE, &grids, 2).unwrap();
            let expected = slow(&ids, &grids, 2);
            let next = expected.iter().flatten().max().map_or(0, |it| it + 1);
            prop_assert_eq!(&found.axes, &expected);
            prop_assert_eq!(found.delta, next - i64::try_from(ids.len()).unwrap());
            ids.push(IMAGE);
            prop_assert!(mrope_positions(&ids, IMAGE, &grids, 2).is_err());
        }
    }
}
