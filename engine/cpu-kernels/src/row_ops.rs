//! Operations on the rows of a tensor, that is along its last axis, as custom operations of candle:
//! LayerNorm, RMSNorm, SwiGLU, GELU and rotary embeddings.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use crate::threads::{self, SharedOutput};
use crate::{contiguous, out_of_bounds, vector_ops};

/// Tensors with fewer numbers are processed on one thread.
const PARALLEL_MIN: usize = 1 << 14;

/// Layer normalization over the last axis: `(x - mean) / sqrt(variance + eps) * weight + bias`.
///
/// # Errors
///
/// Fails if the widths do not fit.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    x.contiguous()?.apply_op3(weight, bias, LayerNorm { eps })
}

/// RMSNorm over the last axis: `x / sqrt(mean square + eps) * weight`.
///
/// # Errors
///
/// Fails if the widths do not fit.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    x.contiguous()?.apply_op2(weight, RmsNorm { eps })
}

/// The activation of SwiGLU: `silu(gate) * up`.
///
/// # Errors
///
/// Fails if the shapes differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.contiguous()?.apply_op2(&up.contiguous()?, SwiGlu)
}

/// GELU, with the error function.
///
/// # Errors
///
/// Fails if the tensor is not f32 on the CPU.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Gelu)
}

/// The rotary embedding of queries or keys `[B, L, H, d]`, by cosines and sines `[B or 1, L, d]`.
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn rotary_embedding(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    x.apply_op3(&cos.contiguous()?, &sin.contiguous()?, RotaryEmbedding)
}

/// Computes a tensor of this shape in parallel: `compute` writes the row of a given index.
fn map_rows(layout: &Layout, compute: impl Fn(usize, &mut [f32]) + Sync) -> (CpuStorage, Shape) {
    let width = row_width(layout);
    let rows = layout.shape().elem_count() / width.max(1);
    // SAFETY: each row is written below.
    let mut output = unsafe { threads::uninitialized(rows * width) };
    let shared = SharedOutput::of(&mut output);
    let compute_range = |range: std::ops::Range<usize>| {
        for index in range {
            // SAFETY: each row is in one range.
            compute(index, unsafe { shared.slice(index * width, width) });
        }
    };
    if rows * width < PARALLEL_MIN {
        compute_range(0..rows);
    } else {
        threads::parallel_for(rows, compute_range);
    }
    (CpuStorage::F32(output), layout.shape().clone())
}

/// The length of the last axis.
fn row_width(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or_default()
}

/// The row with this index.
fn row_of(numbers: &[f32], index: usize, width: usize) -> &[f32] {
    numbers.get(index * width..(index + 1) * width).unwrap_or_default()
}

struct LayerNorm {
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm-rows"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let width = row_width(layout);
        let weight = contiguous(weight, weight_layout)?;
        let bias = contiguous(bias, bias_layout)?;
        if weight.len() != width || bias.len() != width {
            return Err(out_of_bounds("a norm"));
        }
        let x = contiguous(x, layout)?;
        Ok(map_rows(layout, |row, to| {
            vector_ops::layer_norm(to, row_of(x, row, width), weight, bias, self.eps);
        }))
    }
}

struct RmsNorm {
    eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm-rows"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let width = row_width(layout);
        let x = contiguous(x, layout)?;
        let weight = contiguous(weight, weight_layout)?;
        if weight.len() != width {
            return Err(out_of_bounds("a norm"));
        }
        Ok(map_rows(layout, |row, to| {
            vector_ops::rms_norm(to, row_of(x, row, width), weight, self.eps);
        }))
    }
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let width = row_width(layout);
        let gate = contiguous(gate, layout)?;
        let up = contiguous(up, up_layout)?;
        if gate.len() != up.len() {
            return Err(out_of_bounds("a gate"));
        }
        Ok(map_rows(layout, |row, to| {
            vector_ops::swiglu(to, row_of(gate, row, width), row_of(up, row, width));
        }))
    }
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu-rows"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = row_width(layout);
        let x = contiguous(x, layout)?;
        Ok(map_rows(layout, |row, to| {
            to.copy_from_slice(row_of(x, row, width));
            vector_ops::gelu_in_place(to);
        }))
    }
}

struct RotaryEmbedding;

impl CustomOp3 for RotaryEmbedding {
    fn name(&self) -> &'static str {
        "rotary-rows"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        cos: &CpuStorage,
        cos_layout: &Layout,
        sin: &CpuStorage,
        sin_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, length, heads, width) = layout.shape().dims4()?;
        let x = x.as_slice::<f32>()?;
        let start = layout.start_offset();
        let [batch_stride, token_stride, head_stride, 1] = *layout.stride() else {
            candle_core::bail!("the numbers of a head are not contiguous");
        };
        let cos = contiguous(cos, cos_layout)?;
        let sin = contiguous(sin, sin_layout)?;
        // The number of positions is `L` or `B * L`.
        let positions = cos.len() / width.max(1);
        let fits = width.is_multiple_of(2) && row_width(cos_layout) == width;
        if !fits || positions == 0 || (batch * length) % positions != 0 || cos.len() != sin.len() {
            return Err(out_of_bounds("a position"));
        }
        Ok(map_rows(layout, |row, to| {
            let token = row / heads;
            let head = row % heads;
            let sample_offset = token / length * batch_stride;
            let offset = sample_offset + token % length * token_stride + head * head_stride;
            let from = x.get(start + offset..start + offset + width).unwrap_or_default();
            let position = token % positions;
            let cos = row_of(cos, position, width);
            let sin = row_of(sin, position, width);
            vector_ops::rotate(to, from, cos, sin);
        }))
    }
}

#[cfg(test)]
mod tests;
