//! Windows: the values of an image that are shown from black to white, and by which function.

use std::fmt::{self, Display, Formatter};

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

/// A window that radiologists look at CT in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamedWindow {
    /// Lung.
    Lung,
    /// Mediastinum, abdomen and other soft tissue.
    SoftTissue,
    /// Bone.
    Bone,
    /// Brain.
    Brain,
}

impl NamedWindow {
    /// Its centre and width.
    pub const fn window(self) -> Window {
        match self {
            Self::Lung => Window { center: -600.0, width: 1500.0 },
            Self::SoftTissue => Window { center: 40.0, width: 400.0 },
            Self::Bone => Window { center: 400.0, width: 1800.0 },
            Self::Brain => Window { center: 40.0, width: 80.0 },
        }
    }
}

impl Display for Window {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} wide about {}", self.width, self.center)
    }
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
        self.gray_by(VoiFunction::Linear, value)
    }

    /// The grey level of a value by a function.
    pub(crate) fn gray_by(self, function: VoiFunction, value: f32) -> u8 {
        let Self { center, width } = self;
        let share = match function {
            VoiFunction::Linear if width <= 1.0 => f32::from(u8::from(value > center - 0.5)),
            VoiFunction::Linear => (value - (center - 0.5)) / (width - 1.0) + 0.5,
            VoiFunction::LinearExact => (value - center) / width + 0.5,
            VoiFunction::Sigmoid => 1.0 / (1.0 + (-4.0 * (value - center) / width).exp()),
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let gray = (share.clamp(0.0, 1.0) * 255.0).round() as u8;
        gray
    }
}

/// VOI LUT Function (0028,1056): how grey levels rise over a window (PS3.3, C.11.2.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VoiFunction {
    /// In a straight line over whole numbers.
    #[default]
    Linear,
    /// In a straight line over fractions.
    LinearExact,
    /// In a curve that flattens at both ends, like that of a film.
    Sigmoid,
}

impl VoiFunction {
    /// The defined term.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linear => "LINEAR",
            Self::LinearExact => "LINEAR_EXACT",
            Self::Sigmoid => "SIGMOID",
        }
    }

    /// The function with this defined term. Viewers show what has none, or an unknown one, in a
    /// straight line.
    pub(crate) fn of(term: &str) -> Self {
        match term {
            "LINEAR_EXACT" => Self::LinearExact,
            "SIGMOID" => Self::Sigmoid,
            _ => Self::Linear,
        }
    }

    /// Whether a window of this width can be shown.
    pub(crate) fn takes_width(self, width: f32) -> bool {
        match self {
            Self::Linear => width >= 1.0,
            Self::LinearExact | Self::Sigmoid => width > 0.0,
        }
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
    fn din_80_a_window_rises_by_its_function() {
        let soft = Window { center: 40.0, width: 400.0 };
        let by = |function, values: [f32; 5]| values.map(|it| soft.gray_by(function, it));
        let exact = by(VoiFunction::LinearExact, [-160.0, -60.0, 40.0, 140.0, 240.0]);
        assert_eq!(exact, [0, 64, 128, 191, 255]);
        let film = by(VoiFunction::Sigmoid, [-160.0, -60.0, 40.0, 140.0, 240.0]);
        assert_eq!(film, [30, 69, 128, 186, 225]);
        assert_eq!(soft.gray_by(VoiFunction::Sigmoid, f32::NAN), 0);
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
