//! Resampling of maps: pooling, nearest, bilinear and bicubic interpolation.
//!
//! candle has no bicubic interpolation, and its pooling has an incorrect gradient.

use candle_core::{D, DType, Result, Tensor};

/// Max pooling of 2 x 2 on `[B, H, W, C]`. The gradient flows to the maximum only.
///
/// # Errors
///
/// Fails if rows or columns are odd.
pub fn max_pool_2x2(x: &Tensor) -> Result<Tensor> {
    let (batch, rows, columns, channels) = x.dims4()?;
    let blocks = x.reshape((batch, rows / 2, 2, columns / 2, 2, channels))?;
    blocks.max(4)?.max(2)
}

/// Nearest-neighbour upsampling of `[B, H, W, C]` to twice the height and width.
///
/// # Errors
///
/// Fails if it is not of that shape.
pub fn upsample_nearest_2x(x: &Tensor) -> Result<Tensor> {
    let (batch, rows, columns, channels) = x.dims4()?;
    let pixels = x.reshape((batch, rows, 1, columns, 1, channels))?;
    let blocks = pixels.broadcast_as((batch, rows, 2, columns, 2, channels))?;
    blocks.contiguous()?.reshape((batch, rows * 2, columns * 2, channels))
}

/// The matrix `[to, from]` of bicubic interpolation along one axis, with a = -0.75, pixel centres
/// at half-integers and no antialiasing, as in PyTorch.
///
/// # Errors
///
/// Fails if the device does.
pub fn bicubic_matrix(from: usize, to: usize, like: &Tensor) -> Result<Tensor> {
    let mut matrix = vec![0.0_f32; from * to];
    let scale = from as f32 / to as f32;
    for (row, weights) in matrix.chunks_exact_mut(from).enumerate() {
        let position = (row as f32 + 0.5) * scale - 0.5;
        let first = position.floor();
        let t = position - position.floor();
        let taps = [cubic_far(t + 1.0), cubic_near(t), cubic_near(1.0 - t), cubic_far(2.0 - t)];
        for (offset, weight) in taps.into_iter().enumerate() {
            let index = (first - 1.0 + offset as f32).clamp(0.0, from as f32 - 1.0);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "clamped to the axis"
            )]
            if let Some(it) = weights.get_mut(index as usize) {
                *it += weight;
            }
        }
    }
    Tensor::from_vec(matrix, (to, from), like.device())?.to_dtype(like.dtype())
}

/// The parameter of cubic convolution that PyTorch uses.
const CUBIC_A: f32 = -0.75;

/// The cubic convolution kernel at distances up to 1.
fn cubic_near(x: f32) -> f32 {
    ((CUBIC_A + 2.0) * x - (CUBIC_A + 3.0)) * x * x + 1.0
}

/// The cubic convolution kernel at distances from 1 to 2.
fn cubic_far(x: f32) -> f32 {
    ((CUBIC_A * x - 5.0 * CUBIC_A) * x + 8.0 * CUBIC_A) * x - 4.0 * CUBIC_A
}

/// Bilinear interpolation of masks `[B, N, H, W]` to a square, with pixel centres at half-integers.
///
/// # Errors
///
/// Fails if the shape does not fit.
pub fn bilinear(masks: &Tensor, side: usize) -> Result<Tensor> {
    let matrix = bilinear_matrix(masks.dim(D::Minus1)?, side, masks)?;
    let wide = masks.to_dtype(DType::F32)?.broadcast_matmul(&matrix.t()?)?;
    matrix.broadcast_matmul(&wide)
}

fn bilinear_matrix(from: usize, to: usize, like: &Tensor) -> Result<Tensor> {
    let mut matrix = vec![0.0_f32; from * to];
    let scale = from as f32 / to as f32;
    for (row, weights) in matrix.chunks_exact_mut(from).enumerate() {
        let position = ((row as f32 + 0.5) * scale - 0.5).max(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a position on the axis"
        )]
        let first = position as usize;
        let share = position - first as f32;
        for (index, weight) in [(first, 1.0 - share), ((first + 1).min(from - 1), share)] {
            if let Some(it) = weights.get_mut(index) {
                *it += weight;
            }
        }
    }
    Tensor::from_vec(matrix, (to, from), like.device())
}
