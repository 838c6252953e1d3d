//! Windows: the values of an image that are shown from black to white.

use serde::Deserialize;

/// Share of the values below black, and of those above white, in a window that is computed from the
/// values.
const OUTLIERS: f64 = 0.01;

/// A window (PS3.3, C.11.2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Window Center (0028,1050).
    pub center: f32,
    /// Window Width (0028,1051).
    pub width: f32,
}

impl Window {
    /// A window over nearly all values, for values without a unit, such as those of MR.
    pub fn over(values: &[f32]) -> Self {
        let mut sorted: Vec<f32> = values.iter().copied().filter(|it| it.is_finite()).collect();
        sorted.sort_by(f32::total_cmp);
        let count = sorted.len();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of the length"
        )]
        let skipped = (count as f64 * OUTLIERS) as usize;
        let low = sorted.get(skipped).copied().unwrap_or_default();
        let high = sorted.get(count.saturating_sub(skipped + 1)).copied().unwrap_or_default();
        Self::between(low, high)
    }

    /// The window in which the first value is black and the second white.
    pub(crate) const fn between(low: f32, high: f32) -> Self {
        Self { center: f32::midpoint(low, high) + 0.5, width: high - low + 1.0 }
    }

    /// The grey level of a value (PS3.3, C.11.2.1.2.1).
    pub fn gray(self, value: f32) -> u8 {
        let share = if self.width <= 1.0 {
            f32::from(u8::from(value > self.center - 0.5))
        } else {
            (value - (self.center - 0.5)) / (self.width - 1.0) + 0.5
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let gray = (share.clamp(0.0, 1.0) * 255.0).round() as u8;
        gray
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_goes_from_black_to_white() {
        let soft = Window { center: 40.0, width: 400.0 };
        let found = [-1000.0, -160.0, 39.5, 239.0, 3000.0].map(|it| soft.gray(it));
        assert_eq!(found, [0, 0, 128, 255, 255]);
        let step = Window { center: 1.0, width: 1.0 };
        assert_eq!([0.0, 1.0].map(|it| step.gray(it)), [0, 255]);
    }

    #[test]
    fn a_window_over_all_values_leaves_out_the_odd_ones() {
        let values: Vec<f32> = (0..=1000_u16).map(f32::from).chain([1e9, f32::NAN]).collect();
        let found = Window::over(&values);
        assert_eq!([9.0, 992.0].map(|it| found.gray(it)), [0, 255]);
        assert_eq!(found.gray(500.5), 128);
        assert_eq!(Window::over(&[]), Window { center: 0.5, width: 1.0 });
    }
}
