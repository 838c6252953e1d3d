//! Rotary position embeddings (RoPE, [arXiv 2104.09864](https://arxiv.org/abs/2104.09864)).
//!
//! Each pair of numbers `i` and `i + d/2` of a query or key is rotated by its position times a
//! frequency. The language model uses M-RoPE (Qwen2-VL,
//! [arXiv 2409.12191](https://arxiv.org/abs/2409.12191)): a token has three positions (time, row,
//! column), and the frequencies are divided among them in sections. The vision encoder uses rows
//! for the first half of the frequencies and columns for the second.

use candle_core::{D, DType, Device, Result, Tensor};
use cpu_kernels::row_ops;

use crate::config::TextConfig;
use crate::positions::inverse_frequencies;

/// Cosines and sines of the rotation angles of a sequence of tokens, `[B or 1, L, head_dim]` each.
#[derive(Clone, Debug)]
pub struct RotaryEmbedding {
    cos: Tensor,
    sin: Tensor,
}

impl RotaryEmbedding {
    /// M-RoPE of a batch of sequences, each with the positions of its tokens on the three axes.
    ///
    /// # Errors
    ///
    /// Fails if the sequences differ in length.
    pub fn multimodal(
        config: &TextConfig,
        sequences: &[[&[i64]; 3]],
        device: &Device,
    ) -> Result<Self> {
        let head_dim = config.head_dim();
        let frequencies = inverse_frequencies(config.rope_theta, head_dim);
        let axis_of_frequency: Vec<usize> = config
            .mrope_sections
            .iter()
            .enumerate()
            .flat_map(|(axis, count)| std::iter::repeat_n(axis, *count))
            .collect();
        let length = sequences.first().map_or(0, |axes| axes[0].len());
        let mut angles = Vec::with_capacity(sequences.len() * length * head_dim);
        for axes in sequences {
            for token in 0..length {
                let mut half = Vec::with_capacity(head_dim / 2);
                for (frequency, axis) in frequencies.iter().zip(&axis_of_frequency) {
                    let position = axes.get(*axis).and_then(|it| it.get(token));
                    half.push(position.copied().unwrap_or_default() as f32 * frequency);
                }
                // Both numbers of a pair have the same angle.
                angles.extend_from_slice(&half);
                angles.extend(half);
            }
        }
        let angles = Tensor::from_vec(angles, (sequences.len(), length, head_dim), device)?;
        Ok(Self { cos: angles.cos()?, sin: angles.sin()? })
    }

    /// RoPE of one sequence with given angles, `[L, head_dim / 2]`: one per pair.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn of_angles(angles: &Tensor) -> Result<Self> {
        let angles = Tensor::cat(&[angles, angles], D::Minus1)?.unsqueeze(0)?;
        let cos = angles.cos()?.to_dtype(DType::F32)?;
        let sin = angles.sin()?.to_dtype(DType::F32)?;
        Ok(Self { cos, sin })
    }

    /// Rotates queries or keys `[B, L, H, head_dim]`.
    ///
    /// # Errors
    ///
    /// Fails if the shapes do not fit.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        if cpu_kernels::supports(&[x, &self.cos, &self.sin]) {
            return row_ops::rotary_embedding(x, &self.cos, &self.sin);
        }
        let dtype = x.dtype();
        let x = x.to_dtype(DType::F32)?;
        let cos = self.cos.unsqueeze(2)?;
        let sin = self.sin.unsqueeze(2)?;
        let rotated = (x.broadcast_mul(&cos)? + rotate_half(&x)?.broadcast_mul(&sin)?)?;
        rotated.to_dtype(dtype)
    }
}

/// The halves of the last axis exchanged, the new first one negated.
fn rotate_half(x: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let first = x.narrow(D::Minus1, 0, half)?;
    let second = x.narrow(D::Minus1, half, half)?;
    Tensor::cat(&[&second.neg()?, &first], D::Minus1)
}
