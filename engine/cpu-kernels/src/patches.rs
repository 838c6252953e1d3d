//! The pixels of overlapping patches, as rows: what makes a convolution one product.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::threads::{self, Shared};
use crate::{contiguous, outside};

struct Patches {
    side: usize,
    stride: usize,
    padding: usize,
}

impl Patches {
    /// How many patches lie along so many pixels.
    const fn along(&self, pixels: usize) -> usize {
        (pixels + 2 * self.padding - self.side) / self.stride + 1
    }

    /// One row of one channel of a patch that begins at `first`, counted with the padding.
    fn row(&self, to: &mut [f32], from: &[f32], first: usize) {
        let start = first.checked_sub(self.padding);
        if let Some(inside) = start.and_then(|it| from.get(it..it + self.side)) {
            to.copy_from_slice(inside);
            return;
        }
        for (offset, to) in to.iter_mut().enumerate() {
            let at = (first + offset).checked_sub(self.padding);
            *to = at.and_then(|it| from.get(it)).copied().unwrap_or_default();
        }
    }
}

impl CustomOp1 for Patches {
    fn name(&self) -> &'static str {
        "patches"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, rows, columns) = layout.shape().dims4()?;
        let pixels = contiguous(x, layout)?;
        if rows.min(columns) + 2 * self.padding < self.side || self.stride == 0 || self.side == 0 {
            return Err(outside("a patch"));
        }
        let (down, right) = (self.along(rows), self.along(columns));
        let width = channels * self.side * self.side;
        // SAFETY: every number of every patch is written below.
        let mut to = unsafe { threads::unwritten(batch * down * right * width) };
        let shared = Shared::of(&mut to);
        threads::each(batch * down, |lines| {
            for line in lines {
                let (sample, row) = (line / down, line % down);
                // SAFETY: each line is in one range.
                let line = unsafe { shared.part(line * right * width, right * width) };
                for (column, patch) in line.chunks_exact_mut(width).enumerate() {
                    for (part, to) in patch.chunks_exact_mut(self.side).enumerate() {
                        let (channel, inside) = (part / self.side, part % self.side);
                        let y = (row * self.stride + inside).checked_sub(self.padding);
                        let y = y.filter(|it| *it < rows);
                        let at = y.map(|y| ((sample * channels + channel) * rows + y) * columns);
                        let from = at.and_then(|it| pixels.get(it..it + columns));
                        self.row(to, from.unwrap_or_default(), column * self.stride);
                    }
                }
            }
        });
        Ok((CpuStorage::F32(to), Shape::from((batch, down, right, width))))
    }
}

/// Patches of `side` x `side` pixels of `[B, C, H, W]`, `stride` apart, with noughts up to `padding`
/// beyond the edge: `[B, H', W', C * side * side]`.
///
/// # Errors
///
/// Fails if a patch is larger than the picture.
pub fn patches(x: &Tensor, side: usize, stride: usize, padding: usize) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Patches { side, stride, padding })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use proptest::prelude::{ProptestConfig, proptest};

    use super::patches;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn times_a_weight_they_are_a_convolution(
            batch in 1_usize..3, channels in 1_usize..4, rows in 7_usize..30, columns in 7_usize..30,
            side in 1_usize..8, stride in 1_usize..5, padding in 0_usize..4,
        ) {
            let random = |shape: &[usize]| Tensor::randn(0_f32, 1.0, shape, &Device::Cpu).unwrap();
            let x = random(&[batch, channels, rows, columns]);
            let weight = random(&[5, channels, side, side]);
            let expected = x.conv2d(&weight, padding, stride, 1, 1).unwrap();
            let expected = expected.permute((0, 2, 3, 1)).unwrap();
            let found = patches(&x, side, stride, padding).unwrap();
            let weight = weight.flatten_from(1).unwrap().t().unwrap();
            let found = found.broadcast_matmul(&weight).unwrap();
            let far = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap();
            assert!(far.max(0).unwrap().to_scalar::<f32>().unwrap() < 1e-3);
        }
    }

    #[test]
    fn a_picture_smaller_than_a_patch_is_refused() {
        let x = Tensor::zeros((1, 1, 3, 9), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(patches(&x, 7, 4, 1).is_err());
    }
}
