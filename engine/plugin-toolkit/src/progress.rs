//! Progress of nested work: a share of the whole, divided among its parts.

use plugin_api::Context;

/// The part of the whole work that a step covers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProgressSpan {
    start: f64,
    length: f64,
}

impl ProgressSpan {
    /// The whole work.
    pub const WHOLE: Self = Self { start: 0.0, length: 1.0 };

    /// The part of this span for the step of this number (from 0) of `count` equal steps.
    #[must_use]
    pub fn step(self, index: usize, count: usize) -> Self {
        let length = self.length / count.max(1) as f64;
        Self { start: self.start + index as f64 * length, length }
    }

    /// The share of the whole work that is done when this share of the span is.
    pub fn at(self, share: f64) -> f64 {
        self.start + share * self.length
    }

    /// Reports to the engine that a share of this span is done.
    pub fn report(self, context: &Context<'_>, share: f64) {
        context.progress(self.at(share));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_steps_divide_the_whole() {
        let third_of_four = ProgressSpan::WHOLE.step(2, 4);
        assert!((third_of_four.at(0.0) - 0.5).abs() < 1e-12);
        assert!((third_of_four.at(1.0) - 0.75).abs() < 1e-12);
        let second_of_two = third_of_four.step(1, 2);
        assert!((second_of_two.at(0.0) - 0.625).abs() < 1e-12);
        assert!((second_of_two.at(1.0) - 0.75).abs() < 1e-12);
    }

    #[test]
    fn no_steps_are_no_division_by_zero() {
        assert_eq!(ProgressSpan::WHOLE.step(0, 0), ProgressSpan::WHOLE);
    }
}
