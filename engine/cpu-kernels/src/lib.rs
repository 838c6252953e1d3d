//! Operations of neural networks that candle computes slowly on a CPU, in f32.
//!
//! - [`packed_linear`]: linear layers with weights packed for the GEMM kernel, and with activation,
//!   bias and residual fused.
//! - [`attention`]: scaled dot-product attention with an online softmax (FlashAttention,
//!   [arXiv 2205.14135](https://arxiv.org/abs/2205.14135)).
//! - [`row_ops`]: LayerNorm, RMSNorm, GELU, SwiGLU and rotary embeddings, row by row.
//! - [`im2col`](mod@im2col): the patches of a convolution as rows of a matrix.
//!
//! Below them:
//!
//! - `gemm`: the GEMM micro-kernel.
//! - `vector_ops`: sums, maxima, dot products and exponentials of slices.
//! - `simd`: SIMD registers, and the choice of instructions at run time (AVX-512, AVX2, baseline).
//! - `threads`: parallel loops on candle's thread pool.
//!
//! **Invariants**
//!
//! - Every operation gives the result of candle's own operations within rounding: tests compare
//!   them on many shapes, with every instruction set that the machine has.
//! - A packed linear layer without activation and residual has a gradient of its input. No other
//!   operation has one, and none is silently left out of one: candle returns an error if a gradient
//!   is requested (tested).
#![allow(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    reason = "inner loops work on pointers, with the instructions of the CPU"
)]

pub mod attention;
pub(crate) mod gemm;
pub mod im2col;
pub mod packed_linear;
pub mod row_ops;
pub(crate) mod simd;
pub(crate) mod threads;
pub(crate) mod vector_ops;

use candle_core::{CpuStorage, DType, Layout, Result, Tensor};

/// Whether the operations of this crate support all of these tensors: f32 on the CPU, and no
/// gradient is tracked.
pub fn supports(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|it| it.device().is_cpu() && it.dtype() == DType::F32 && !it.track_op())
}

/// The numbers of a contiguous tensor.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => all.get(start..end).ok_or_else(|| out_of_bounds("a tensor")),
        None => candle_core::bail!("the tensor is not contiguous"),
    }
}

/// The error of an operand whose shape reaches beyond its numbers or does not fit the others.
fn out_of_bounds(what: &str) -> candle_core::Error {
    candle_core::Error::Msg(format!("{what} is out of bounds"))
}
