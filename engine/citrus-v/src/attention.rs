//! Scaled dot-product attention and its masks.
//!
//! `softmax(q k^T / sqrt(d) + mask) v`, as in [arXiv 1706.03762](https://arxiv.org/abs/1706.03762),
//! with grouped queries ([arXiv 2305.13245](https://arxiv.org/abs/2305.13245)): several query heads
//! share one head of keys and values.

use std::ops::Range;

use candle_core::{D, DType, Device, Result, Tensor};

use crate::layers::can_fuse;

/// Attention of queries `[B, L, H, d]` to keys and values `[B, S, G, d]`, with `H / G` query heads
/// per key head. `mask` `[B or 1, L, S]` is added to the scores. Returns `[B, L, H * d]`.
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn scaled_dot_product_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    if cpu_kernels::supports(&[q, k, v]) {
        return cpu_kernels::attention::attention(q, k, v, mask);
    }
    let (batch, length, heads, head_dim) = q.dims4()?;
    let kv_heads = k.dim(2)?;
    let group = heads / kv_heads;
    // The queries of a group are stacked along the sequence: keys and values are not copied.
    let q = heads_first(q)?.reshape((batch, kv_heads, group * length, head_dim))?;
    let k = heads_first(k)?;
    let v = heads_first(v)?;
    let scale = 1.0 / (head_dim as f64).sqrt();
    let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * scale)?;
    let scores = match mask {
        Some(mask) => scores.broadcast_add(&mask_per_group(mask, group)?)?,
        None => scores,
    };
    let dtype = scores.dtype();
    let probabilities = softmax(&scores.to_dtype(DType::F32)?)?.to_dtype(dtype)?;
    let output = probabilities.matmul(&v)?.reshape((batch, heads, length, head_dim))?;
    output.transpose(1, 2)?.contiguous()?.reshape((batch, length, heads * head_dim))
}

/// `[B, L, H, d]` to `[B, H, L, d]`.
fn heads_first(x: &Tensor) -> Result<Tensor> {
    x.transpose(1, 2)?.contiguous()
}

/// A mask `[B, L, S]` repeated for the queries of a group, `[B, 1, group * L, S]`.
fn mask_per_group(mask: &Tensor, group: usize) -> Result<Tensor> {
    let (batch, length, keys) = mask.dims3()?;
    let mask = mask.reshape((batch, 1, 1, length, keys))?;
    let mask = mask.broadcast_as((batch, 1, group, length, keys))?;
    mask.contiguous()?.reshape((batch, 1, group * length, keys))
}

/// Softmax over the last axis.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    if can_fuse(&[scores]) {
        candle_nn::ops::softmax_last_dim(scores)
    } else {
        candle_nn::ops::softmax(scores, D::Minus1)
    }
}

/// The causal mask of `length` tokens after `cached` tokens in the KV cache,
/// `[B or 1, length, cached + length]`: minus infinity for the tokens after each token, and for
/// padding. Returns none for a single token without padding, which attends to everything.
///
/// `padding` has, for each sequence of the batch, true at the positions without a token; it is
/// empty without padding.
///
/// # Errors
///
/// Fails if the device does.
pub fn causal_mask(
    length: usize,
    cached: usize,
    padding: &[Vec<bool>],
    device: &Device,
    dtype: DType,
) -> Result<Option<Tensor>> {
    if length == 1 && padding.is_empty() {
        return Ok(None);
    }
    let keys = cached + length;
    let batch = padding.len().max(1);
    let mut mask = Vec::with_capacity(batch * length * keys);
    for row in 0..batch {
        let row_padding = padding.get(row).map(Vec::as_slice).unwrap_or_default();
        for token in 0..length {
            let position = cached + token;
            for key in 0..keys {
                let is_padding = row_padding.get(key).copied().unwrap_or(false);
                // Padding attends to itself: without any key its softmax would be 0 / 0.
                let is_masked = key > position || is_padding && key != position;
                mask.push(if is_masked { f32::NEG_INFINITY } else { 0.0 });
            }
        }
    }
    Tensor::from_vec(mask, (batch, length, keys), device)?.to_dtype(dtype).map(Some)
}

/// The samples of a packed row, which do not attend to each other: the range of tokens of each.
///
/// Only the causal mask of the longest sample is in memory, not one of the whole row.
#[derive(Clone, Debug)]
pub struct PackedSamples {
    ranges: Vec<Range<usize>>,
    /// The causal mask of the longest sample, `[1, l, l]`; that of a shorter one is its corner.
    mask: Tensor,
}

impl PackedSamples {
    /// The samples with these ranges, one after the other from the start of the row.
    ///
    /// # Errors
    ///
    /// Fails if the ranges leave tokens out, overlap or are empty.
    pub fn new(ranges: &[Range<usize>], device: &Device, dtype: DType) -> Result<Self> {
        let mut end = 0;
        for range in ranges {
            if range.start != end || range.is_empty() {
                candle_core::bail!("the samples of a packed row follow each other: {ranges:?}");
            }
            end = range.end;
        }
        let longest = ranges.iter().map(ExactSizeIterator::len).max().unwrap_or_default();
        let mask = match causal_mask(longest, 0, &[], device, dtype)? {
            Some(mask) => mask,
            None => Tensor::zeros((1, longest, longest), dtype, device)?,
        };
        Ok(Self { ranges: ranges.to_vec(), mask })
    }

    /// The length of the row.
    pub fn row_length(&self) -> usize {
        self.ranges.last().map_or(0, |it| it.end)
    }
}

/// As [`scaled_dot_product_attention`], within each sample of a packed row, `[1, L, H, d]`.
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn packed_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    samples: &PackedSamples,
) -> Result<Tensor> {
    if q.dim(1)? != samples.row_length() {
        candle_core::bail!("a row of {} tokens has {}", samples.row_length(), q.dim(1)?);
    }
    let mut outputs = Vec::with_capacity(samples.ranges.len());
    for range in &samples.ranges {
        let length = range.len();
        let of_sample = |x: &Tensor| x.narrow(1, range.start, length)?.contiguous();
        let mask = samples.mask.narrow(1, 0, length)?.narrow(2, 0, length)?.contiguous()?;
        let q = of_sample(q)?;
        let k = of_sample(k)?;
        let v = of_sample(v)?;
        outputs.push(scaled_dot_product_attention(&q, &k, &v, Some(&mask))?);
    }
    Tensor::cat(&outputs, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mask `[1, L, L]` of a packed row, written down as such.
    fn dense_mask(ranges: &[Range<usize>]) -> Tensor {
        let length = ranges.last().unwrap().end;
        let sample_of = |token: usize| ranges.iter().position(|it| it.contains(&token));
        let mut mask = Vec::new();
        for token in 0..length {
            for key in 0..length {
                let is_visible = key <= token && sample_of(key) == sample_of(token);
                mask.push(if is_visible { 0.0 } else { f32::NEG_INFINITY });
            }
        }
        Tensor::from_vec(mask, (1, length, length), &Device::Cpu).unwrap()
    }

    #[test]
    fn pap_53_attention_within_samples_is_that_with_a_mask_of_the_whole_row() {
        let one = std::iter::once(0..1).collect::<Vec<_>>();
        for ranges in [one, vec![0..4, 4..5, 5..12], vec![0..1, 1..2, 2..9, 9..13]] {
            let length = ranges.last().unwrap().end;
            let random = |heads: usize| {
                Tensor::randn(0_f32, 1.0, (1, length, heads, 6), &Device::Cpu).unwrap()
            };
            let mask = dense_mask(&ranges);
            let samples = PackedSamples::new(&ranges, &Device::Cpu, DType::F32).unwrap();
            // The kernel of the CPU, and the operations that have a gradient.
            for is_tracked in [false, true] {
                let q = random(4);
                let q = if is_tracked {
                    candle_core::Var::from_tensor(&q).unwrap().as_tensor().clone()
                } else {
                    q
                };
                let k = random(2);
                let v = random(2);
                let expected = scaled_dot_product_attention(&q, &k, &v, Some(&mask)).unwrap();
                let found = packed_attention(&q, &k, &v, &samples).unwrap();
                let difference = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap();
                assert!(difference.max(0).unwrap().to_scalar::<f32>().unwrap() < 1e-5);
            }
        }
    }

    #[test]
    fn samples_of_a_row_leave_no_token_out() {
        let late = std::iter::once(1..2).collect::<Vec<_>>();
        for ranges in [late, vec![0..3, 4..5], vec![0..3, 2..5], vec![0..3, 3..3]] {
            assert!(PackedSamples::new(&ranges, &Device::Cpu, DType::F32).is_err(), "{ranges:?}");
        }
        let one = std::iter::once(0..3).collect::<Vec<_>>();
        let samples = PackedSamples::new(&one, &Device::Cpu, DType::F32).unwrap();
        let x = Tensor::ones((1, 4, 1, 2), DType::F32, &Device::Cpu).unwrap();
        assert!(packed_attention(&x, &x, &x, &samples).is_err());
    }
}
