//! Where text is on a page: from a map of probabilities to boxes (differentiable binarization).

use image::imageops::{FilterType, resize};
use image::{GrayImage, Luma};
use imageproc::region_labelling::{Connectivity, connected_components};
use rten_tensor::NdTensor;

use crate::part::{Bounds, channels};

/// Height of capital letters in the picture in which text is searched, in pixels.
const LETTER_HEIGHT: f32 = 14.0;

/// Upper bound of the pixels of that picture: its model takes some 150 bytes for each.
const PIXELS_MAX: f32 = 2.2e6;

/// The sides of that picture are multiples of this.
const SIDE_STEP: f32 = 32.0;

/// Probability above which a pixel is text.
const TEXT_MIN: f32 = 0.3;

/// Lower bound of the mean probability in a box.
const SCORE_MIN: f32 = 0.5;

/// Lower bound of the sides of a box before it grows, in pixels of the map.
const SIDE_MIN: f32 = 3.0;

/// The model marks the core of a text. Its box grows on each side by its area, divided by its
/// perimeter, times this.
const GROWTH: f32 = 1.6;

/// Upper bound of the boxes of a page.
const BOXES_MAX: usize = 1000;

/// The picture in which text is searched.
pub(crate) struct Input {
    picture: GrayImage,
    /// Pixels of the page for a pixel of the picture, across and down.
    across: f32,
    down: f32,
    page: (u32, u32),
}

impl Input {
    pub(crate) fn new(page: &GrayImage, letter_height: f32) -> Self {
        let wide = page.width() as f32;
        let high = page.height() as f32;
        let scale =
            (LETTER_HEIGHT / letter_height.max(1.0)).min((PIXELS_MAX / (wide * high)).sqrt());
        let width = side(wide * scale);
        let height = side(high * scale);
        let picture = resize(page, width, height, FilterType::Triangle);
        let across = wide / width as f32;
        let down = high / height as f32;
        Self { picture, across, down, page: page.dimensions() }
    }

    pub(crate) fn tensor(&self) -> NdTensor<f32, 4> {
        channels(&self.picture, self.picture.width())
    }

    /// A box of the map, on the page.
    pub(crate) fn on_page(&self, it: Bounds) -> Bounds {
        let wide = self.page.0 as f32;
        let high = self.page.1 as f32;
        Bounds {
            left: (it.left * self.across).clamp(0.0, wide),
            top: (it.top * self.down).clamp(0.0, high),
            right: (it.right * self.across).clamp(0.0, wide),
            bottom: (it.bottom * self.down).clamp(0.0, high),
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousand pixels")]
fn side(length: f32) -> u32 {
    ((length / SIDE_STEP).round().max(1.0) * SIDE_STEP) as u32
}

/// The probability of text for each pixel of a picture.
pub struct Map {
    width: u32,
    probabilities: Vec<f32>,
    text: GrayImage,
}

impl Map {
    /// A map with its probabilities row by row; nothing if their number is another.
    pub fn new(width: usize, height: usize, probabilities: Vec<f32>) -> Option<Self> {
        let wide = u32::try_from(width).ok().filter(|it| *it > 0)?;
        let high = u32::try_from(height).ok().filter(|it| *it > 0)?;
        if probabilities.len() != width * height {
            return None;
        }
        let is_text = |x: u32, y: u32| {
            probabilities.get(y as usize * width + x as usize).is_some_and(|it| *it > TEXT_MIN)
        };
        // Each pixel of text extends over its neighbours to the right and below, which closes gaps.
        let text = GrayImage::from_fn(wide, high, |x, y| {
            let before = [(x, y), (x.wrapping_sub(1), y), (x, y.wrapping_sub(1))];
            let corner = (x.wrapping_sub(1), y.wrapping_sub(1));
            let places = before.into_iter().chain([corner]);
            let is_near =
                places.filter(|(x, y)| *x < wide && *y < high).any(|(x, y)| is_text(x, y));
            Luma([if is_near { u8::MAX } else { 0 }])
        });
        Some(Self { width: wide, probabilities, text })
    }

    /// The mean probability in a rectangle of pixels, edges included.
    fn mean(&self, area: &Area) -> f32 {
        let mut sum = 0.0;
        let mut count = 0.0;
        for y in area.top..=area.bottom {
            let start = y as usize * self.width as usize;
            let row = start + area.left as usize..=start + area.right as usize;
            let values = self.probabilities.get(row).unwrap_or_default();
            sum += values.iter().sum::<f32>();
            count += values.len() as f32;
        }
        if count > 0.0 { sum / count } else { 0.0 }
    }
}

/// A rectangle of pixels, edges included.
#[derive(Clone, Copy)]
struct Area {
    left: u32,
    top: u32,
    right: u32,
    bottom: u32,
}

/// The boxes around the texts of a map, in its pixels, from top to bottom. If there are too many,
/// the rest is left out.
pub fn boxes(map: &Map) -> Vec<Bounds> {
    let labels = connected_components(&map.text, Connectivity::Eight, Luma([0]));
    let count = labels.pixels().map(|it| it.0[0]).max().unwrap_or(0);
    let nothing = Area { left: u32::MAX, top: u32::MAX, right: 0, bottom: 0 };
    let mut areas = vec![nothing; count as usize + 1];
    for (x, y, label) in labels.enumerate_pixels() {
        if let Some(area) = areas.get_mut(label.0[0] as usize) {
            area.left = area.left.min(x);
            area.top = area.top.min(y);
            area.right = area.right.max(x);
            area.bottom = area.bottom.max(y);
        }
    }
    // The first label is that of the paper. Labels are given from top to bottom.
    let texts = areas.iter().skip(1).filter(|it| map.mean(it) >= SCORE_MIN);
    texts.filter_map(grown).take(BOXES_MAX).collect()
}

/// The box of a text around its core; nothing for a speck.
fn grown(core: &Area) -> Option<Bounds> {
    let wide = (core.right - core.left) as f32;
    let high = (core.bottom - core.top) as f32;
    if wide.min(high) < SIDE_MIN {
        return None;
    }
    let growth = wide * high * GROWTH / (2.0 * (wide + high));
    Some(Bounds {
        left: core.left as f32 - growth,
        top: core.top as f32 - growth,
        right: core.right as f32 + growth,
        bottom: core.bottom as f32 + growth,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of 60 by 40 pixels with rectangles: left, top, width, height, and probability.
    fn map(texts: &[([usize; 4], f32)]) -> Map {
        let mut probabilities = vec![0.05; 60 * 40];
        for ([left, top, width, height], probability) in texts {
            for y in *top..top + height {
                for x in *left..left + width {
                    probabilities[y * 60 + x] = *probability;
                }
            }
        }
        Map::new(60, 40, probabilities).unwrap()
    }

    #[test]
    fn pap_31_each_text_has_a_box_that_is_larger_than_its_core() {
        let found = boxes(&map(&[([10, 5, 21, 5], 0.9), ([10, 20, 11, 7], 0.8)]));
        let [first, second] = found.as_slice() else { panic!("{found:?}") };
        // 21 by 5 pixels with the one to the right and below: 21 by 5 between the outer ones.
        let growth = 21.0 * 5.0 * GROWTH / (2.0 * 26.0);
        assert!((first.left - (10.0 - growth)).abs() < 1e-4, "{first:?}");
        assert!((first.right - (31.0 + growth)).abs() < 1e-4, "{first:?}");
        assert!((first.height() - (5.0 + 2.0 * growth)).abs() < 1e-4, "{first:?}");
        assert!(second.top > first.bottom, "{found:?}");
    }

    #[test]
    fn pap_31_specks_and_doubtful_texts_have_none() {
        assert_eq!(boxes(&map(&[([10, 5, 30, 2], 0.9), ([5, 20, 2, 2], 0.9)])), []);
        assert_eq!(boxes(&map(&[([10, 5, 21, 9], 0.4)])), []);
        assert_eq!(boxes(&map(&[])), []);
        assert_eq!(boxes(&map(&[([0, 0, 60, 40], 0.9)])).len(), 1, "text may reach every edge");
    }

    #[test]
    fn pap_31_texts_that_touch_at_a_corner_are_one() {
        let found = boxes(&map(&[([10, 5, 10, 8], 0.9), ([20, 13, 10, 8], 0.9)]));
        assert_eq!(found, [], "half of their box is paper");
        let found = boxes(&map(&[([10, 5, 10, 8], 0.9), ([21, 5, 10, 8], 0.9)]));
        assert_eq!(found.len(), 1, "a gap of one pixel is closed");
    }

    #[test]
    fn a_map_of_another_size_is_none() {
        assert!(Map::new(3, 3, vec![0.0; 8]).is_none());
        assert!(Map::new(0, 3, Vec::new()).is_none());
    }

    #[test]
    fn a_page_is_searched_at_one_height_of_letters_and_within_bounds() {
        let page = GrayImage::new(1280, 1920);
        let input = Input::new(&page, 28.0);
        assert_eq!(input.picture.dimensions(), (640, 960));
        let corner = Bounds { left: -3.0, top: -3.0, right: 650.0, bottom: 970.0 };
        let whole = Bounds { left: 0.0, top: 0.0, right: 1280.0, bottom: 1920.0 };
        assert_eq!(input.on_page(corner), whole);
        let large = Input::new(&GrayImage::new(6000, 6000), 14.0).picture;
        assert!((large.width() * large.height()) as f32 <= 1.1 * PIXELS_MAX);
        assert_eq!(Input::new(&GrayImage::new(3, 1), 28.0).picture.dimensions(), (32, 32));
    }
}
