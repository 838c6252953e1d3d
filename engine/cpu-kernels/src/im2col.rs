//! im2col: the patches of a convolution as rows of a matrix, so that the convolution is one matrix
//! product.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::threads::{self, SharedOutput};
use crate::{contiguous, out_of_bounds};

struct Im2col {
    side: usize,
    stride: usize,
    padding: usize,
}

impl Im2col {
    /// The number of patches along an axis of this many pixels.
    const fn patch_count(&self, pixels: usize) -> usize {
        (pixels + 2 * self.padding - self.side) / self.stride + 1
    }

    /// Copies one row of one channel of the patch whose first column is `first`, padding included.
    fn copy_row(&self, to: &mut [f32], from: &[f32], first: usize) {
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

impl CustomOp1 for Im2col {
    fn name(&self) -> &'static str {
        "im2col"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, rows, columns) = layout.shape().dims4()?;
        let pixels = contiguous(x, layout)?;
        if rows.min(columns) + 2 * self.padding < self.side || self.stride == 0 || self.side == 0 {
            return Err(out_of_bounds("a patch"));
        }
        let patch_rows = self.patch_count(rows);
        let patch_columns = self.patch_count(columns);
        let width = channels * self.side * self.side;
        // SAFETY: every number of every patch is written below.
        let mut to = unsafe { threads::uninitialized(batch * patch_rows * patch_columns * width) };
        let shared = SharedOutput::of(&mut to);
        threads::parallel_for(batch * patch_rows, |lines| {
            for line in lines {
                let sample = line / patch_rows;
                let row = line % patch_rows;
                let length = patch_columns * width;
                // SAFETY: each line is in one range.
                let line = unsafe { shared.slice(line * length, length) };
                for (column, patch) in line.chunks_exact_mut(width).enumerate() {
                    for (part, to) in patch.chunks_exact_mut(self.side).enumerate() {
                        let channel = part / self.side;
                        let inside = part % self.side;
                        let y = (row * self.stride + inside).checked_sub(self.padding);
                        let y = y.filter(|it| *it < rows);
                        let at = y.map(|y| ((sample * channels + channel) * rows + y) * columns);
                        let from = at.and_then(|it| pixels.get(it..it + columns));
                        self.copy_row(to, from.unwrap_or_default(), column * self.stride);
                    }
                }
            }
        });
        Ok((CpuStorage::F32(to), Shape::from((batch, patch_rows, patch_columns, width))))
    }
}

/// The patches of `side` x `side` pixels of images `[B, C, H, W]` with this stride and zero
/// padding: `[B, H', W', C * side * side]`.
///
/// # Errors
///
/// Fails if a patch is larger than the padded image.
pub fn im2col(x: &Tensor, side: usize, stride: usize, padding: usize) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Im2col { side, stride, padding })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use proptest::prelude::{ProptestConfig, proptest};

    use super::im2col;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn patches_times_a_weight_are_a_convolution(
            batch in 1_usize..3, channels in 1_usize..4, rows in 7_usize..30, columns in 7_usize..30,
            side in 1_usize..8, stride in 1_usize..5, padding in 0_usize..4,
        ) {
            let random = |shape: &[usize]| Tensor::randn(0_f32, 1.0, shape, &Device::Cpu).unwrap();
            let x = random(&[batch, channels, rows, columns]);
            let weight = random(&[5, channels, side, side]);
            let expected = x.conv2d(&weight, padding, stride, 1, 1).unwrap();
            let expected = expected.permute((0, 2, 3, 1)).unwrap();
            let found = im2col(&x, side, stride, padding).unwrap();
            let weight = weight.flatten_from(1).unwrap().t().unwrap();
            let found = found.broadcast_matmul(&weight).unwrap();
            let far = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap();
            assert!(far.max(0).unwrap().to_scalar::<f32>().unwrap() < 1e-3);
        }
    }

    #[test]
    fn an_image_smaller_than_a_patch_is_refused() {
        let x = Tensor::zeros((1, 1, 3, 9), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(im2col(&x, 7, 4, 1).is_err());
    }
}
