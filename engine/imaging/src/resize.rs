//! Resizing pictures, to the bit as Pillow does: what a network was trained on is what it must see.
//!
//! Weights are fixed-point numbers of 22 fractional bits; one axis is done after the other, and values
//! are clipped to a byte between the two.

use crate::picture::Picture;

/// Fractional bits of a weight.
const FRACTION: u32 = 22;

/// How a pixel comes about from those around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Cubic convolution with a = -0.5, over two pixels to each side.
    Bicubic,
    /// A sinc, windowed by another three times as wide.
    Lanczos,
}

impl Filter {
    const fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        match self {
            Self::Bicubic => {
                const A: f64 = -0.5;
                let x = x.abs();
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// The pixels a new one is made of: the first, and the weights from there on.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions inside of a picture, and weights below two"
)]
fn taps(from: usize, to: usize, filter: Filter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let tap = |index: usize| {
        let center = (index as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let raw: Vec<f64> =
            (first..end).map(|it| filter.at((it as f64 - center + 0.5) / stretch)).collect();
        let sum: f64 = raw.iter().sum();
        let weight = |it: &f64| {
            let fixed = if sum == 0.0 { *it } else { it / sum } * f64::from(1 << FRACTION);
            // Away from zero, as the reference has it.
            (fixed + 0.5_f64.copysign(fixed)) as i32
        };
        Taps { first, weights: raw.iter().map(weight).collect() }
    };
    (0..to).map(tap).collect()
}

/// A byte out of a sum of weighted bytes.
fn clipped(sum: i32) -> u8 {
    u8::try_from((sum >> FRACTION).clamp(0, 255)).unwrap_or_default()
}

/// The picture in another size.
pub fn resized(picture: &Picture, width: u32, height: u32, filter: Filter) -> Picture {
    let (width, height) = (width.max(1), height.max(1));
    let across = |it: Picture| if width == it.width { it } else { across(&it, width, filter) };
    let down = |it: Picture| if height == it.height { it } else { down(&it, height, filter) };
    // Columns come first where that takes away more than twice as many rows as columns: so does
    // Pillow since 13. Before, rows always came first, which differs by one here and there.
    let fewer = |to: u32, from: u32| i64::from(from) - i64::from(to);
    let is_down_first =
        height < picture.height && fewer(height, picture.height) > 2 * fewer(width, picture.width);
    let picture = picture.clone();
    if is_down_first { across(down(picture)) } else { down(across(picture)) }
}

fn across(picture: &Picture, width: u32, filter: Filter) -> Picture {
    let taps = taps(picture.width as usize, width as usize, filter);
    let mut rgb = Vec::with_capacity(width as usize * picture.height as usize * 3);
    for row in picture.rgb.chunks_exact(picture.width as usize * 3) {
        for tap in &taps {
            let pixels = row.get(tap.first * 3..).unwrap_or_default().chunks_exact(3);
            let mut sums = [1 << (FRACTION - 1); 3];
            for (pixel, weight) in pixels.zip(&tap.weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            rgb.extend(sums.map(clipped));
        }
    }
    Picture { width, height: picture.height, rgb }
}

fn down(picture: &Picture, height: u32, filter: Filter) -> Picture {
    let stride = picture.width as usize * 3;
    let rows: Vec<&[u8]> = picture.rgb.chunks_exact(stride).collect();
    let mut rgb = Vec::with_capacity(stride * height as usize);
    for tap in taps(picture.height as usize, height as usize, filter) {
        let mut sums = vec![1_i32 << (FRACTION - 1); stride];
        for (row, weight) in rows.iter().skip(tap.first).zip(&tap.weights) {
            for (sum, value) in sums.iter_mut().zip(*row) {
                *sum += i32::from(*value) * weight;
            }
        }
        rgb.extend(sums.into_iter().map(clipped));
    }
    Picture { width: picture.width, height, rgb }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_plain_picture_stays_plain(
            (w, h) in (1_u32..40, 1_u32..40),
            (to_w, to_h) in (1_u32..90, 1_u32..90),
            value in any::<u8>(),
        ) {
            let plain = Picture { width: w, height: h, rgb: vec![value; (w * h * 3) as usize] };
            for filter in [Filter::Bicubic, Filter::Lanczos] {
                let found = resized(&plain, to_w, to_h, filter);
                prop_assert_eq!(found.rgb.len(), (to_w * to_h * 3) as usize);
                prop_assert!(found.rgb.iter().all(|it| *it == value));
            }
        }
    }
}
