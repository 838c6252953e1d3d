//! What is done to rows: norms, activations, sums, rotary positions.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use crate::lanes::{Lanes, dispatched, times_plus};
use crate::threads::{self, Shared};
use crate::{contiguous, outside};

/// What is done to each number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// GELU by the error function.
    Gelu,
}

/// Numbers that are worth another thread.
const WORTH_A_THREAD: usize = 1 << 14;

/// e^x, within 2e-7 of it: by powers of two, and Cephes' polynomial for what is between.
#[inline(always)]
fn exp<L: Lanes>(x: f32) -> f32 {
    /// Adding it leaves the nearest integer in the lowest bits.
    const MAGIC: f32 = 12_582_912.0;
    // Two comparisons, not `clamp`: they are instructions.
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = times_plus::<L>(x, std::f32::consts::LOG2_E, MAGIC);
    let whole = shifted - MAGIC;
    let rest = times_plus::<L>(whole, -0.693_359_4, x);
    let rest = times_plus::<L>(whole, 2.121_944_4e-4, rest);
    let mut sum = 1.987_569_1e-4;
    for next in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = times_plus::<L>(sum, rest, next);
    }
    let part = times_plus::<L>(sum, rest * rest, rest) + 1.0;
    part * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// GELU, the error function by formula 7.1.26 of Abramowitz and Stegun (1.5e-7).
#[expect(clippy::inline_always, reason = "it is the inside of a loop")]
#[inline(always)]
fn gelu<L: Lanes>(x: f32) -> f32 {
    let z = x * std::f32::consts::FRAC_1_SQRT_2;
    let size = z.abs();
    let t = 1.0 / times_plus::<L>(0.327_591_1, size, 1.0);
    let mut sum = 1.061_405_4;
    for next in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        sum = times_plus::<L>(sum, t, next);
    }
    let error = 1.0 - sum * t * exp::<L>(-size * size);
    0.5 * x * (1.0 + error.copysign(z))
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn gelu_with<L: Lanes>(numbers: &mut [f32]) {
    for it in numbers {
        *it = gelu::<L>(*it);
    }
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn gate_with<L: Lanes>(to: &mut [f32], gate: &[f32], up: &[f32]) {
    for ((to, gate), up) in to.iter_mut().zip(gate).zip(up) {
        *to = *gate / (1.0 + exp::<L>(-*gate)) * *up;
    }
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn add_with<L: Lanes>(to: &mut [f32], other: &[f32]) {
    for (to, other) in to.iter_mut().zip(other) {
        *to += *other;
    }
}

/// A sum in sixteen parts, so that they go side by side.
#[expect(clippy::inline_always, reason = "it is the inside of a loop")]
#[inline(always)]
fn summed(numbers: &[f32], part: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; 16];
    let chunks = numbers.chunks_exact(16);
    let mut rest = 0.0;
    for it in chunks.remainder() {
        rest = part(*it, rest);
    }
    for chunk in chunks {
        for (sum, it) in sums.iter_mut().zip(chunk) {
            *sum = part(*it, *sum);
        }
    }
    rest + sums.iter().sum::<f32>()
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn layer_norm_with<L: Lanes>(
    to: &mut [f32],
    from: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
) {
    let count = from.len() as f32;
    let mean = summed(from, |it, sum| it + sum) / count;
    let square = |it: f32, sum: f32| times_plus::<L>(it - mean, it - mean, sum);
    let scale = 1.0 / (summed(from, square) / count + eps).sqrt();
    for (((to, from), weight), bias) in to.iter_mut().zip(from).zip(weight).zip(bias) {
        *to = times_plus::<L>((*from - mean) * scale, *weight, *bias);
    }
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn rms_norm_with<L: Lanes>(to: &mut [f32], from: &[f32], weight: &[f32], eps: f32) {
    let square = summed(from, |it, sum| times_plus::<L>(it, it, sum));
    let scale = 1.0 / (square / from.len() as f32 + eps).sqrt();
    for ((to, from), weight) in to.iter_mut().zip(from).zip(weight) {
        *to = *from * scale * *weight;
    }
}

/// Scores become shares that are not divided by their sum yet; `sum` is that sum.
#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn shares_with<L: Lanes>(scores: &mut [f32], most: f32, sum: &mut f32) {
    for it in scores.iter_mut() {
        *it = exp::<L>(*it - most);
    }
    *sum = summed(scores, |it, sum| it + sum);
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn most_with<L: Lanes>(numbers: &[f32], most: &mut f32) {
    let mut parts = [f32::NEG_INFINITY; 16];
    let chunks = numbers.chunks_exact(16);
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    for it in chunks.remainder() {
        *most = larger(*it, *most);
    }
    for chunk in chunks {
        for (part, it) in parts.iter_mut().zip(chunk) {
            *part = larger(*it, *part);
        }
    }
    *most = parts.into_iter().fold(*most, larger);
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn scale_with<L: Lanes>(numbers: &mut [f32], by: f32) {
    for it in numbers {
        *it *= by;
    }
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn dot_with<L: Lanes>(a: &[f32], b: &[f32], sum: &mut f32) {
    let mut sums = [0.0_f32; 32];
    let (a, b) = (a.chunks_exact(32), b.chunks_exact(32));
    let rest = a.remainder().iter().zip(b.remainder());
    *sum = rest.fold(0.0, |sum, (a, b)| times_plus::<L>(*a, *b, sum));
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum = times_plus::<L>(*a, *b, *sum);
        }
    }
    *sum += sums.iter().sum::<f32>();
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn add_times_with<L: Lanes>(to: &mut [f32], from: &[f32], by: f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = times_plus::<L>(*from, by, *to);
    }
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn turn_with<L: Lanes>(to: &mut [f32], from: &[f32], cos: &[f32], sin: &[f32]) {
    let half = from.len() / 2;
    let ((first, second), (to_first, to_second)) = (from.split_at(half), to.split_at_mut(half));
    let ((cos1, cos2), (sin1, sin2)) = (cos.split_at(half), sin.split_at(half));
    for ((((to, a), b), cos), sin) in to_first.iter_mut().zip(first).zip(second).zip(cos1).zip(sin1)
    {
        *to = *a * *cos - *b * *sin;
    }
    for ((((to, a), b), cos), sin) in
        to_second.iter_mut().zip(first).zip(second).zip(cos2).zip(sin2)
    {
        *to = *b * *cos + *a * *sin;
    }
}

dispatched! { unsafe fn gelu_all(numbers: &mut [f32]) = gelu_with }
dispatched! { unsafe fn gate_all(to: &mut [f32], gate: &[f32], up: &[f32]) = gate_with }
dispatched! { unsafe fn add_all(to: &mut [f32], other: &[f32]) = add_with }
dispatched! {
    unsafe fn layer_norm_row(to: &mut [f32], from: &[f32], weight: &[f32], bias: &[f32], eps: f32)
        = layer_norm_with
}
dispatched! {
    unsafe fn rms_norm_row(to: &mut [f32], from: &[f32], weight: &[f32], eps: f32) = rms_norm_with
}
dispatched! {
    unsafe fn shares_row(scores: &mut [f32], most: f32, sum: &mut f32) = shares_with
}
dispatched! { unsafe fn most_of(numbers: &[f32], most: &mut f32) = most_with }
dispatched! { unsafe fn scale_all(numbers: &mut [f32], by: f32) = scale_with }
dispatched! { unsafe fn dot_of(a: &[f32], b: &[f32], sum: &mut f32) = dot_with }
dispatched! { unsafe fn add_times_all(to: &mut [f32], from: &[f32], by: f32) = add_times_with }
dispatched! {
    unsafe fn turn_row(to: &mut [f32], from: &[f32], cos: &[f32], sin: &[f32]) = turn_with
}

/// Adds other numbers.
pub(crate) fn add(to: &mut [f32], other: &[f32]) {
    // SAFETY: only slices are touched.
    unsafe { add_all(to, other) };
}

/// `to += from * by`.
pub(crate) fn add_times(to: &mut [f32], from: &[f32], by: f32) {
    // SAFETY: only slices are touched.
    unsafe { add_times_all(to, from, by) };
}

/// The inner product.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sum = 0.0;
    // SAFETY: only slices are touched.
    unsafe { dot_of(a, b, &mut sum) };
    sum
}

/// The largest number.
pub(crate) fn most(numbers: &[f32]) -> f32 {
    let mut most = f32::NEG_INFINITY;
    // SAFETY: only slices are touched.
    unsafe { most_of(numbers, &mut most) };
    most
}

/// `exp(score - most)` of each; gives their sum.
pub(crate) fn shares(scores: &mut [f32], most: f32) -> f32 {
    let mut sum = 0.0;
    // SAFETY: only slices are touched.
    unsafe { shares_row(scores, most, &mut sum) };
    sum
}

/// Multiplies each.
pub(crate) fn scale(numbers: &mut [f32], by: f32) {
    // SAFETY: only slices are touched.
    unsafe { scale_all(numbers, by) };
}

/// Does to each number what an activation does.
pub(crate) fn activate(numbers: &mut [f32], activation: Activation) {
    match activation {
        Activation::None => {}
        // SAFETY: only slices are touched.
        Activation::Gelu => unsafe { gelu_all(numbers) },
    }
}

/// A tensor of this shape, its rows filled several at once: `row` is given the number of each and its
/// place.
fn filled(layout: &Layout, row: impl Fn(usize, &mut [f32]) + Sync) -> (CpuStorage, Shape) {
    let (rows, width) = (layout.shape().elem_count() / width_of(layout).max(1), width_of(layout));
    // SAFETY: each row is filled below.
    let mut to = unsafe { threads::unwritten(rows * width) };
    let shared = Shared::of(&mut to);
    let fill = |range: std::ops::Range<usize>| {
        for index in range {
            // SAFETY: each row is in one range.
            row(index, unsafe { shared.part(index * width, width) });
        }
    };
    if rows * width < WORTH_A_THREAD {
        fill(0..rows);
    } else {
        threads::each(rows, fill);
    }
    (CpuStorage::F32(to), layout.shape().clone())
}

/// Numbers of a row.
fn width_of(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or_default()
}

/// A row of many.
fn row_of(numbers: &[f32], index: usize, width: usize) -> &[f32] {
    numbers.get(index * width..(index + 1) * width).unwrap_or_default()
}

struct LayerNorm(f32);

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
        let width = width_of(layout);
        let (weight, bias) = (contiguous(weight, weight_layout)?, contiguous(bias, bias_layout)?);
        if weight.len() != width || bias.len() != width {
            return Err(outside("a norm"));
        }
        let x = contiguous(x, layout)?;
        // SAFETY: only slices are touched.
        Ok(filled(layout, |row, to| unsafe {
            layer_norm_row(to, row_of(x, row, width), weight, bias, self.0);
        }))
    }
}

struct RmsNorm(f32);

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
        let width = width_of(layout);
        let (x, weight) = (contiguous(x, layout)?, contiguous(weight, weight_layout)?);
        if weight.len() != width {
            return Err(outside("a norm"));
        }
        // SAFETY: only slices are touched.
        Ok(filled(layout, |row, to| unsafe {
            rms_norm_row(to, row_of(x, row, width), weight, self.0);
        }))
    }
}

/// `silu(gate) * up`.
struct Gate;

impl CustomOp2 for Gate {
    fn name(&self) -> &'static str {
        "silu-times"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let width = width_of(layout);
        let (gate, up) = (contiguous(gate, layout)?, contiguous(up, up_layout)?);
        if gate.len() != up.len() {
            return Err(outside("a gate"));
        }
        // SAFETY: only slices are touched.
        Ok(filled(layout, |row, to| unsafe {
            gate_all(to, row_of(gate, row, width), row_of(up, row, width));
        }))
    }
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu-rows"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = width_of(layout);
        let x = contiguous(x, layout)?;
        Ok(filled(layout, |row, to| {
            to.copy_from_slice(row_of(x, row, width));
            activate(to, Activation::Gelu);
        }))
    }
}

/// Rotary positions of `[B, L, H, d]`.
struct Turn;

impl CustomOp3 for Turn {
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
        let (x, start, strides) = (x.as_slice::<f32>()?, layout.start_offset(), layout.stride());
        let (cos, sin) = (contiguous(cos, cos_layout)?, contiguous(sin, sin_layout)?);
        let (places, [by_batch, by_place, by_head, 1]) = (cos.len() / width.max(1), strides) else {
            candle_core::bail!("the numbers of a head do not lie one after the other");
        };
        let is_even = width.is_multiple_of(2) && width_of(cos_layout) == width;
        if !is_even || places == 0 || (batch * length) % places != 0 || cos.len() != sin.len() {
            return Err(outside("a position"));
        }
        Ok(filled(layout, |row, to| {
            let (token, head) = (row / heads, row % heads);
            let (sample, place) = (token / length, token % length);
            let at = start + sample * by_batch + place * by_place + head * by_head;
            let from = x.get(at..at + width).unwrap_or_default();
            let (cos, sin) =
                (row_of(cos, token % places, width), row_of(sin, token % places, width));
            // SAFETY: only slices are touched.
            unsafe { turn_row(to, from, cos, sin) };
        }))
    }
}

/// Over the last axis: less the mean, divided by the standard deviation, times `weight`, plus `bias`.
///
/// # Errors
///
/// Fails if the widths do not fit.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    x.contiguous()?.apply_op3(weight, bias, LayerNorm(eps))
}

/// Over the last axis: divided by the root of the mean square, times `weight`.
///
/// # Errors
///
/// Fails if the widths do not fit.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    x.contiguous()?.apply_op2(weight, RmsNorm(eps))
}

/// `silu(gate) * up`.
///
/// # Errors
///
/// Fails if the shapes differ.
pub fn silu_times(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.contiguous()?.apply_op2(&up.contiguous()?, Gate)
}

/// GELU by the error function.
///
/// # Errors
///
/// Fails if it is not f32 on the CPU.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Gelu)
}

/// Rotary positions of `[B, L, H, d]` by cosines and sines `[B or 1, L, d]`.
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn rotary(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    x.apply_op3(&cos.contiguous()?, &sin.contiguous()?, Turn)
}

#[cfg(test)]
mod tests;
