//! Scaled dot-product attention and its masks.
//!
//! `softmax(q k^T / sqrt(d) + mask) v`, as in [arXiv 1706.03762](https://arxiv.org/abs/1706.03762),
//! with grouped queries ([arXiv 2305.13245](https://arxiv.org/abs/2305.13245)): several query heads
//! share one head of keys and values.

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

/// The causal mask of several samples packed into one row, `[1, L, L]`: no token attends to another
/// sample. `ends` are the ends of the samples.
///
/// # Errors
///
/// Fails if the device does.
pub fn packed_mask(ends: &[usize], device: &Device, dtype: DType) -> Result<Tensor> {
    let length = ends.last().copied().unwrap_or_default();
    let sample_of = |position: usize| ends.iter().position(|end| position < *end);
    let samples: Vec<Option<usize>> = (0..length).map(sample_of).collect();
    let mut mask = Vec::with_capacity(length * length);
    for (position, own) in samples.iter().enumerate() {
        for (key, other) in samples.iter().enumerate() {
            let is_visible = key <= position && other == own;
            mask.push(if is_visible { 0.0 } else { f32::NEG_INFINITY });
        }
    }
    Tensor::from_vec(mask, (1, length, length), device)?.to_dtype(dtype)
}
