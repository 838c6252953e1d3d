//! Operations on slices of f32, compiled for every instruction set: exponentials, GELU, SwiGLU,
//! sums, maxima, dot products, norms and rotation.
//!
//! Functions that end in `_kernel` are generic over the SIMD registers; the compiler vectorizes
//! their loops for each instruction set.

use crate::simd::{Lanes, mul_add, simd_dispatch};

/// `e^x` within 2e-7 of its value: a power of two times the polynomial of Cephes for the remainder.
#[inline(always)]
fn exp<L: Lanes>(x: f32) -> f32 {
    /// Adding it rounds to an integer, in the lowest bits.
    const ROUND_TO_INTEGER: f32 = 12_582_912.0;
    // Two comparisons instead of `clamp`: they compile to instructions.
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = mul_add::<L>(x, std::f32::consts::LOG2_E, ROUND_TO_INTEGER);
    let exponent = shifted - ROUND_TO_INTEGER;
    // The remainder, with ln 2 in two parts.
    let rest = mul_add::<L>(exponent, -0.693_359_4, x);
    let rest = mul_add::<L>(exponent, 2.121_944_4e-4, rest);
    let mut polynomial = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        polynomial = mul_add::<L>(polynomial, rest, coefficient);
    }
    let mantissa = mul_add::<L>(polynomial, rest * rest, rest) + 1.0;
    mantissa * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// GELU, with the error function by formula 7.1.26 of Abramowitz and Stegun (error 1.5e-7).
#[expect(clippy::inline_always, reason = "it is the body of a loop")]
#[inline(always)]
fn gelu<L: Lanes>(x: f32) -> f32 {
    let z = x * std::f32::consts::FRAC_1_SQRT_2;
    let magnitude = z.abs();
    let t = 1.0 / mul_add::<L>(0.327_591_1, magnitude, 1.0);
    let mut polynomial = 1.061_405_4;
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        polynomial = mul_add::<L>(polynomial, t, coefficient);
    }
    let erf = 1.0 - polynomial * t * exp::<L>(-magnitude * magnitude);
    0.5 * x * (1.0 + erf.copysign(z))
}

#[expect(clippy::inline_always, reason = "compiled for each instruction set")]
#[inline(always)]
unsafe fn gelu_kernel<L: Lanes>(numbers: &mut [f32]) {
    for number in numbers {
        *number = gelu::<L>(*number);
    }
}

#[expect(clippy::inline_always, reason = "compiled for each instruction set")]
#[inline(always)]
unsafe fn swiglu_kernel<L: Lanes>(to: &mut [f32], gate: &[f32], up: &[f32]) {
    for ((to, gate), up) in to.iter_mut().zip(gate).zip(up) {
        *to = *gate / (1.0 + exp::<L>(-*gate)) * *up;
    }
}

#[expect(clippy::inline_always, reason = "compiled for each instruction set")]
#[inline(always)]
unsafe fn add_assign_kernel<L: Lanes>(to: &mut [f32], other: &[f32]) {
    for (to, other) in to.iter_mut().zip(other) {
        *to += *other;
    }
}

/// A sum in sixteen partial sums, which are computed in parallel. `add` adds a term to a sum.
#[expect(clippy::inline_always, reason = "it is the body of a loop")]
#[inline(always)]
fn sum_with(numbers: &[f32], add: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; 16];
    let chunks = numbers.chunks_exact(16);
    let mut rest = 0.0;
    for number in chunks.remainder() {
        rest = add(*number, rest);
    }
    for chunk in chunks {
        for (sum, number) in sums.iter_mut().zip(chunk) {
            *sum = add(*number, *sum);
        }
    }
    rest + sums.iter().sum::<f32>()
}

#[expect(clippy::inline_always, reason = "compiled for each instruction set")]
#[inline(always)]
unsafe fn layer_norm_kernel<L: Lanes>(
    to: &mut [f32],
    from: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
) {
    let count = from.len() as f32;
    let mean = sum_with(from, |it, sum| it + sum) / count;
    let square_sum = sum_with(from, |it, sum| mul_add::<L>(it - mean, it - mean, sum));
    let scale = 1.0 / (square_sum / count + eps).sqrt();
    for (((to, from), weight), bias) in to.iter_mut().zip(from).zip(weight).zip(bias) {
        *to = mul_add::<L>((*from - mean) * scale, *weight, *bias);
    }
}

#[expect(clippy::inline_always, reason = "compiled for each instruction set")]
#[inline(always)]
unsafe fn rms_norm_kernel<L: Lanes>(to: &mut [f32], from: &[f32], weight: &[f32], eps: f32) {
    let square_sum = sum_with(from, |it, sum| mul_add::<L>(it, it, sum));
    let scale = 1.0 / (square_sum / from.len() as f32 + eps).sqrt();
    for ((to, from), weight) in to.iter_mut().zip(from).zip(weight) {
        *to = *from * scale * *weight;
    }
}

#[expect(clippy::inline_always, reason = "compiled for each instruction set")]
#[inline(always)]
unsafe fn exp_sum_kernel<L: Lanes>(scores: &mut [f32], max: f32, sum: &mut f32) {
    for score in scores.iter_mut() {
        *score = exp::<L>(*score - max);
    }
    *sum = sum_with(scores, |it, sum| it + sum);
}

/// The larger number, as one instruction: `f32::max` also handles NaN.
#[expect(clippy::inline_always, reason = "it is the body of a loop")]
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[expect(clippy::inline_always, reason = "compiled for each instruction set")]
#[inline(always)]
unsafe fn max_kernel<L: Lanes>(numbers: &[f32], max: &mut f32) {
    let mut partial = [f32::NEG_INFINITY; 16];
    let chunks = numbers.chunks_exact(16);
    for number in chunks.remainder() {
        *max = larger(*number, *max);
    }
    for chunk in chunks {
        for (partial, number) in partial.iter_mut().zip(chunk) {
            *partial = larger(*number, *partial);
        }
    }
    *max = partial.into_iter().fold(*max, larger);
}

#[expect(clippy::inline_always, reason = "compiled for each instruction set")]
#[inline(always)]
unsafe fn scale_kernel<L: Lanes>(numbers: &mut [f32], factor: f32) {
    for number in numbers {
        *number *= factor;
    }
}

#[expect(clippy::inline_always, reason = "compiled for each instruction set")]
#[inline(always)]
unsafe fn dot_kernel<L: Lanes>(a: &[f32], b: &[f32], sum: &mut f32) {
    let mut sums = [0.0_f32; 32];
    let a = a.chunks_exact(32);
    let b = b.chunks_exact(32);
    let rest = a.remainder().iter().zip(b.remainder());
    *sum = rest.fold(0.0, |sum, (a, b)| mul_add::<L>(*a, *b, sum));
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum = mul_add::<L>(*a, *b, *sum);
        }
    }
    *sum += sums.iter().sum::<f32>();
}

#[expect(clippy::inline_always, reason = "compiled for each instruction set")]
#[inline(always)]
unsafe fn axpy_kernel<L: Lanes>(to: &mut [f32], from: &[f32], factor: f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = mul_add::<L>(*from, factor, *to);
    }
}

#[expect(clippy::inline_always, reason = "compiled for each instruction set")]
#[inline(always)]
unsafe fn rotate_kernel<L: Lanes>(to: &mut [f32], from: &[f32], cos: &[f32], sin: &[f32]) {
    let half = from.len() / 2;
    let (first, second) = from.split_at(half);
    let (to_first, to_second) = to.split_at_mut(half);
    let (cos1, cos2) = cos.split_at(half);
    let (sin1, sin2) = sin.split_at(half);
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

simd_dispatch! { unsafe fn gelu_dispatched(numbers: &mut [f32]) = gelu_kernel }
simd_dispatch! {
    unsafe fn swiglu_dispatched(to: &mut [f32], gate: &[f32], up: &[f32]) = swiglu_kernel
}
simd_dispatch! { unsafe fn add_assign_dispatched(to: &mut [f32], other: &[f32]) = add_assign_kernel }
simd_dispatch! {
    unsafe fn layer_norm_dispatched(
        to: &mut [f32], from: &[f32], weight: &[f32], bias: &[f32], eps: f32,
    ) = layer_norm_kernel
}
simd_dispatch! {
    unsafe fn rms_norm_dispatched(to: &mut [f32], from: &[f32], weight: &[f32], eps: f32)
        = rms_norm_kernel
}
simd_dispatch! {
    unsafe fn exp_sum_dispatched(scores: &mut [f32], max: f32, sum: &mut f32) = exp_sum_kernel
}
simd_dispatch! { unsafe fn max_dispatched(numbers: &[f32], max: &mut f32) = max_kernel }
simd_dispatch! { unsafe fn scale_dispatched(numbers: &mut [f32], factor: f32) = scale_kernel }
simd_dispatch! { unsafe fn dot_dispatched(a: &[f32], b: &[f32], sum: &mut f32) = dot_kernel }
simd_dispatch! {
    unsafe fn axpy_dispatched(to: &mut [f32], from: &[f32], factor: f32) = axpy_kernel
}
simd_dispatch! {
    unsafe fn rotate_dispatched(to: &mut [f32], from: &[f32], cos: &[f32], sin: &[f32])
        = rotate_kernel
}

/// Applies GELU to each number.
pub(crate) fn gelu_in_place(numbers: &mut [f32]) {
    // SAFETY: only slices are accessed.
    unsafe { gelu_dispatched(numbers) };
}

/// `silu(gate) * up`.
pub(crate) fn swiglu(to: &mut [f32], gate: &[f32], up: &[f32]) {
    // SAFETY: only slices are accessed.
    unsafe { swiglu_dispatched(to, gate, up) };
}

/// `to += other`.
pub(crate) fn add_assign(to: &mut [f32], other: &[f32]) {
    // SAFETY: only slices are accessed.
    unsafe { add_assign_dispatched(to, other) };
}

/// Layer normalization of a row.
pub(crate) fn layer_norm(to: &mut [f32], from: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
    // SAFETY: only slices are accessed.
    unsafe { layer_norm_dispatched(to, from, weight, bias, eps) };
}

/// RMSNorm of a row.
pub(crate) fn rms_norm(to: &mut [f32], from: &[f32], weight: &[f32], eps: f32) {
    // SAFETY: only slices are accessed.
    unsafe { rms_norm_dispatched(to, from, weight, eps) };
}

/// The numerators of a softmax, `exp(score - max)`, in place. Returns their sum, the denominator.
pub(crate) fn exp_sum(scores: &mut [f32], max: f32) -> f32 {
    let mut sum = 0.0;
    // SAFETY: only slices are accessed.
    unsafe { exp_sum_dispatched(scores, max, &mut sum) };
    sum
}

/// The largest number; minus infinity if there is none.
pub(crate) fn max(numbers: &[f32]) -> f32 {
    let mut max = f32::NEG_INFINITY;
    // SAFETY: only slices are accessed.
    unsafe { max_dispatched(numbers, &mut max) };
    max
}

/// Multiplies each number with a factor.
pub(crate) fn scale(numbers: &mut [f32], factor: f32) {
    // SAFETY: only slices are accessed.
    unsafe { scale_dispatched(numbers, factor) };
}

/// The dot product.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sum = 0.0;
    // SAFETY: only slices are accessed.
    unsafe { dot_dispatched(a, b, &mut sum) };
    sum
}

/// `to += from * factor`.
pub(crate) fn axpy(to: &mut [f32], from: &[f32], factor: f32) {
    // SAFETY: only slices are accessed.
    unsafe { axpy_dispatched(to, from, factor) };
}

/// Rotates the pairs of numbers `i` and `i + d/2` by angles with these cosines and sines.
pub(crate) fn rotate(to: &mut [f32], from: &[f32], cos: &[f32], sin: &[f32]) {
    // SAFETY: only slices are accessed.
    unsafe { rotate_dispatched(to, from, cos, sin) };
}
