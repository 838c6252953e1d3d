//! Where the pixels of a picture lie in the body.
//!
//! Coordinates of the body: x from -1 (the patient's right, on the left of the picture) to 1, y from
//! -1 (above, or in front) to 1.

use imaging::FlatMask;

use crate::random::Random;

/// How a body lies in a picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pose {
    /// Rotation in radians, at most 1.
    pub(crate) angle: f32,
    /// Size of the body.
    pub(crate) scale: f32,
    /// Place of its middle, in halves of the picture.
    pub(crate) shift: [f32; 2],
}

impl Pose {
    /// A pose of everyday work: a little turned, shifted, nearer or farther.
    pub(crate) fn drawn(random: &mut Random) -> Self {
        Self {
            angle: random.between(-0.12, 0.12),
            scale: random.between(0.86, 1.06),
            shift: [random.between(-0.07, 0.07), random.between(-0.06, 0.06)],
        }
    }
}

/// The pixels of a square picture in the body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// Rows and columns.
    pub(crate) size: u32,
    of_column: [f32; 2],
    of_row: [f32; 2],
    first: [f32; 2],
}

impl Frame {
    pub(crate) fn new(size: u32, pose: Pose) -> Self {
        let [sine, cosine] = sine_and_cosine(pose.angle);
        let step = 2.0 / size as f32;
        let [across, down] = pose.shift;
        let x = 0.5 * step - 1.0 - across;
        let y = 0.5 * step - 1.0 - down;
        Self {
            size,
            of_column: [cosine * step / pose.scale, -sine * step / pose.scale],
            of_row: [sine * step / pose.scale, cosine * step / pose.scale],
            first: [(cosine * x + sine * y) / pose.scale, (cosine * y - sine * x) / pose.scale],
        }
    }

    /// The places of all pixels, row by row.
    pub(crate) fn places(self) -> impl Iterator<Item = [f32; 2]> {
        let [first_x, first_y] = self.first;
        let [column_x, column_y] = self.of_column;
        let [row_x, row_y] = self.of_row;
        (0..self.size).flat_map(move |row| {
            let row = row as f32;
            let x = first_x + row * row_x;
            let y = first_y + row * row_y;
            (0..self.size).map(move |column| {
                let column = column as f32;
                [x + column * column_x, y + column * column_y]
            })
        })
    }

    /// The mask of what is inside of a shape.
    pub(crate) fn mask(self, inside: impl Fn(f32, f32) -> bool) -> FlatMask {
        let pixels = self.places().map(|[x, y]| inside(x, y)).collect();
        FlatMask { height: self.size, width: self.size, pixels }
    }
}

/// Sine and cosine of a small angle: their series, since those of the system differ by machine.
pub(crate) fn sine_and_cosine(angle: f32) -> [f32; 2] {
    let square = angle * angle;
    let sine = 1.0 - square / 42.0 * (1.0 - square / 72.0);
    let sine = angle * (1.0 - square / 6.0 * (1.0 - square / 20.0 * sine));
    let cosine = 1.0 - square / 30.0 * (1.0 - square / 56.0);
    let cosine = 1.0 - square / 2.0 * (1.0 - square / 12.0 * cosine);
    [sine, cosine]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_are_sine_and_cosine() {
        for step in -100_i16..=100 {
            let angle = f32::from(step) / 100.0;
            let [sine, cosine] = sine_and_cosine(angle);
            assert!((sine - angle.sin()).abs() < 1e-6, "{angle}");
            assert!((cosine - angle.cos()).abs() < 1e-6, "{angle}");
        }
    }

    #[test]
    fn a_pose_moves_turns_and_scales() {
        let pose = Pose { angle: 0.0, scale: 2.0, shift: [0.5, 0.0] };
        let places: Vec<[f32; 2]> = Frame::new(2, pose).places().collect();
        assert_eq!(places, [[-0.5, -0.25], [0.0, -0.25], [-0.5, 0.25], [0.0, 0.25]]);
    }
}
