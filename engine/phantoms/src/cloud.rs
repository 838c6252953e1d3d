//! A texture without edges: the unevenness of tissue, and vessels out of focus.

use crate::random::Random;

/// Number of cells on a side.
const CELLS: usize = 28;

/// Half of the side in coordinates of the body.
const REACH: f32 = 1.5;

/// A texture of values from -1 to 1.
#[derive(Clone, Debug)]
pub(crate) struct Cloud(Vec<f32>);

impl Cloud {
    pub(crate) fn drawn(random: &mut Random) -> Self {
        Self((0..CELLS * CELLS).map(|_| random.between(-1.0, 1.0)).collect())
    }

    pub(crate) fn at(&self, x: f32, y: f32) -> f32 {
        let (column, along) = cell(x);
        let (row, down) = cell(y);
        let value = |row: usize, column: usize| {
            self.0.get(row * CELLS + column).copied().unwrap_or_default()
        };
        let upper = value(row, column) * (1.0 - along) + value(row, column + 1) * along;
        let lower = value(row + 1, column) * (1.0 - along) + value(row + 1, column + 1) * along;
        upper * (1.0 - down) + lower * down
    }
}

/// The cell of a coordinate, and the place in it.
fn cell(coordinate: f32) -> (usize, f32) {
    let last = (CELLS - 2) as f32;
    let place = ((coordinate + REACH) / (2.0 * REACH) * (last + 1.0)).clamp(0.0, last + 0.999);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the cells")]
    let cell = place as usize;
    (cell, place - cell as f32)
}
