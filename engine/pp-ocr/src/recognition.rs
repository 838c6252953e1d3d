//! What a line of text says: from the probabilities of each step to letters (connectionist temporal
//! classification, CTC).

use image::GrayImage;
use image::imageops::{FilterType, crop_imm, resize};
use rten_tensor::NdTensor;

use crate::part::{Bounds, channels};

/// Height of a line for the model, in pixels.
const HEIGHT: u32 = 48;

/// Lower bound of the width for the model: the rest of a short line is grey.
const WIDTH_MIN: u32 = 320;

/// Upper bound of the width of a line for the model, in pixels: a longer one is compressed.
const WIDTH_MAX: f32 = 3200.0;

/// The class that stands for no character.
const BLANK: usize = 0;

/// A line as the model gets it.
pub(crate) struct Input {
    picture: GrayImage,
    width: u32,
    bounds: Bounds,
}

impl Input {
    /// The part of a page in a box.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "places on a page, which are not negative"
    )]
    pub(crate) fn new(page: &GrayImage, bounds: Bounds) -> Self {
        let left = bounds.left.floor() as u32;
        let top = bounds.top.floor() as u32;
        let wide = (bounds.right.ceil() as u32).saturating_sub(left).max(1);
        let high = (bounds.bottom.ceil() as u32).saturating_sub(top).max(1);
        let part = crop_imm(page, left, top, wide, high).to_image();
        let wide = part.width().max(1) as f32;
        let high = part.height().max(1) as f32;
        let width = (wide * HEIGHT as f32 / high).ceil().clamp(1.0, WIDTH_MAX) as u32;
        let picture = resize(&part, width, HEIGHT, FilterType::Triangle);
        Self { picture, width: width.max(WIDTH_MIN), bounds }
    }

    pub(crate) fn tensor(&self) -> NdTensor<f32, 4> {
        channels(&self.picture, self.width)
    }

    /// The horizontal place of a step on the page, of `count` steps along the line.
    pub(crate) fn place(&self, step: usize, count: usize) -> f32 {
        let share = (step as f32 + 0.5) / count.max(1) as f32;
        let across = share * self.width as f32 / self.picture.width() as f32;
        self.bounds.left + (across * self.bounds.width()).min(self.bounds.width())
    }
}

/// A character of a line, with the step and the probability at which it was first seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decoded {
    /// Its class, from 1.
    pub class: usize,
    /// The step.
    pub step: usize,
    /// Its probability.
    pub probability: f32,
}

/// The characters of the best path: of each step the most probable class, where repetitions are one
/// character unless no character is between them.
pub fn decoded(probabilities: &[f32], classes: usize) -> Vec<Decoded> {
    let mut found = Vec::new();
    let mut before = BLANK;
    for (step, values) in probabilities.chunks_exact(classes.max(1)).enumerate() {
        let best = values.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        let Some((class, probability)) = best else { continue };
        if class != BLANK && class != before {
            found.push(Decoded { class, step, probability });
        }
        before = class;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities of steps whose most probable class is given.
    fn steps(best: &[usize]) -> Vec<f32> {
        let step = |best: usize| (0..4).map(move |it| if it == best { 0.7 } else { 0.1 });
        best.iter().copied().flat_map(step).collect()
    }

    #[test]
    fn pap_31_repetitions_are_one_character_unless_no_character_is_between() {
        let found = decoded(&steps(&[0, 1, 1, 0, 1, 2, 2, 3, 0, 0]), 4);
        let classes: Vec<usize> = found.iter().map(|it| it.class).collect();
        assert_eq!(classes, [1, 1, 2, 3]);
        let places: Vec<usize> = found.iter().map(|it| it.step).collect();
        assert_eq!(places, [1, 4, 5, 7]);
        assert!(found.iter().all(|it| (it.probability - 0.7).abs() < 1e-6));
        assert_eq!(decoded(&steps(&[0, 0]), 4), []);
        assert_eq!(decoded(&[], 0), []);
    }

    #[test]
    fn pap_31_a_step_lies_where_its_letter_is_on_the_page() {
        let page = GrayImage::new(1000, 500);
        let bounds = Bounds { left: 100.0, top: 50.0, right: 196.0, bottom: 98.0 };
        let input = Input::new(&page, bounds);
        // 96 pixels of the line, the rest is grey: 40 steps of 8 pixels.
        assert_eq!((input.picture.width(), input.width), (96, WIDTH_MIN));
        assert!((input.place(0, 40) - 104.0).abs() < 1e-3);
        assert!((input.place(11, 40) - 192.0).abs() < 1e-3);
        assert!((input.place(39, 40) - 196.0).abs() < 1e-3, "beyond the line");
        let long = Bounds { left: 0.0, top: 0.0, right: 1000.0, bottom: 2.0 };
        assert!(Input::new(&page, long).width as f32 <= WIDTH_MAX);
        let outside = Bounds { left: 1000.0, top: 500.0, right: 1000.0, bottom: 500.0 };
        assert_eq!(Input::new(&page, outside).tensor().into_data().len(), 3 * 48 * 320);
    }
}
