//! What candle does slowly on a CPU, as operations of its own: products with packed weights, attention,
//! norms, activations, rotary positions, patches of pictures. In f32, forward only.
//!
//! [`packed`] holds the weights of a layer as the `tile` of the multiplication reads them;
//! [`attention`] takes queries, keys and values as they lie in a tensor, [`patches`] lays the pixels of a
//! convolution side by side, and [`rows`] does the rest. `lanes` chooses the instructions at run time
//! (AVX-512, AVX2, or what every CPU has), `threads` shares the work.
//!
//! **Invariants**
//!
//! - Every operation gives what candle's own operations give, within rounding: tests compare them on
//!   many shapes, with every set of instructions that the machine has.
//! - None has a gradient, and none is silently left out of one: asked for it, candle refuses (tested).
#![allow(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    reason = "inner loops work on pointers, with the instructions of the CPU"
)]

pub mod attention;
pub(crate) mod lanes;
pub mod packed;
pub mod patches;
pub mod rows;
pub(crate) mod threads;
pub(crate) mod tile;

use candle_core::{CpuStorage, DType, Layout, Result, Tensor};

/// Whether these operations can take all of these tensors: f32 on the CPU, and no gradient is wanted.
pub fn can_take(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|it| it.device().is_cpu() && it.dtype() == DType::F32 && !it.track_op())
}

/// The numbers of a tensor that lie one after the other.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => all.get(start..end).ok_or_else(|| outside("a tensor")),
        None => candle_core::bail!("the numbers do not lie one after the other"),
    }
}

/// What stands for an index that cannot be.
fn outside(what: &str) -> candle_core::Error {
    candle_core::Error::Msg(format!("{what} reaches beyond its numbers"))
}
