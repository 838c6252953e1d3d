//! Resizes pictures, to the bit as Pillow does: a network must see pictures as in its training.
//!
//! Weights are fixed-point numbers with 22 fractional bits. One axis is resized after the other,
//! and values are clipped to a byte in between.

use crate::picture::Picture;

/// Fractional bits of a weight.
const FRACTION: u32 = 22;

/// A filter that computes a pixel from its neighbours.
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

/// The weights of neighbouring pixels, from the first one on.
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
            // Rounded away from zero, as by the reference.
            (fixed + 0.5_f64.copysign(fixed)) as i32
        };
        Taps { first, weights: raw.iter().map(weight).collect() }
    };
    (0..to).map(tap).collect()
}

/// A byte from the fixed-point sum of weighted bytes.
fn clipped(sum: i32) -> u8 {
    u8::try_from((sum >> FRACTION).clamp(0, 255)).unwrap_or_default()
}

/// Resizes a picture.
pub fn resized(picture: &Picture, width: u32, height: u32, filter: Filter) -> Picture {
    let width = width.max(1);
    let height = height.max(1);
    // The vertical axis comes first if that removes more than twice as many rows as columns, as in
    // Pillow since
    // 13. Before, the horizontal axis always came first, which differs by one in some pixels.
    let rows_removed = i64::from(picture.height) - i64::from(height);
    let columns_removed = i64::from(picture.width) - i64::from(width);
    if rows_removed > 0 && rows_removed > 2 * columns_removed {
        resize_horizontally(resize_vertically(picture.clone(), height, filter), width, filter)
    } else {
        resize_vertically(resize_horizontally(picture.clone(), width, filter), height, filter)
    }
}

fn resize_horizontally(picture: Picture, width: u32, filter: Filter) -> Picture {
    if width == picture.width {
        return picture;
    }
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

fn resize_vertically(picture: Picture, height: u32, filter: Filter) -> Picture {
    if height == picture.height {
        return picture;
    }
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
