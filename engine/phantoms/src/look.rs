//! How a drawing becomes grey values: light, contrast, focus and noise.

use crate::frame::Frame;
use crate::random::Random;

/// The quality of a picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    contrast: f32,
    brightness: f32,
    /// How much mid tones are lightened (below 0) or darkened.
    bend: f32,
    /// Increase of light along x and y.
    gradient: [f32; 2],
    /// Standard deviation of the noise, in grey values.
    noise: f32,
    /// How often neighbours are averaged.
    blur: usize,
}

impl Look {
    pub(crate) fn drawn(random: &mut Random) -> Self {
        Self {
            contrast: random.between(0.78, 1.05),
            brightness: random.between(-0.02, 0.10),
            bend: random.between(-0.25, 0.25),
            gradient: [random.between(-0.05, 0.05), random.between(-0.05, 0.05)],
            noise: random.between(1.5, 8.0),
            blur: random.below(3),
        }
    }

    /// Grey values of a drawing, whose values are about from 0 (black) to 1 (white).
    pub(crate) fn applied(
        self,
        frame: Frame,
        mut values: Vec<f32>,
        random: &mut Random,
    ) -> Vec<u8> {
        let side = usize::try_from(frame.size).unwrap_or_default();
        for _ in 0..self.blur {
            values = blurred(&values, side);
        }
        let [across, down] = self.gradient;
        let places = frame.places();
        let lit = values.iter().zip(places).map(|(value, [x, y])| {
            let value = value.clamp(0.0, 1.0);
            let bent = value + self.bend * value * (value - 1.0);
            bent * self.contrast + self.brightness + across * x + down * y
        });
        lit.map(|it| level(it * 255.0 + self.noise * random.noise())).collect()
    }
}

/// A grey value.
pub(crate) fn level(value: f32) -> u8 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the range"
    )]
    let level = (value + 0.5).clamp(0.0, 255.0) as u8;
    level
}

/// Each value averaged with its neighbours above, below and beside it.
fn blurred(values: &[f32], side: usize) -> Vec<f32> {
    let value =
        |at: Option<usize>, own: f32| at.and_then(|it| values.get(it)).copied().unwrap_or(own);
    let one = |(at, own): (usize, &f32)| {
        let column = at % side;
        let left = value(if column == 0 { None } else { at.checked_sub(1) }, *own);
        let right = value(if column + 1 == side { None } else { Some(at + 1) }, *own);
        let above = value(at.checked_sub(side), *own);
        let below = value(Some(at + side), *own);
        *own * 0.4 + (left + right + above + below) * 0.15
    };
    values.iter().enumerate().map(one).collect()
}
