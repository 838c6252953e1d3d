//! Comparison with candle's own operations, on random shapes and numbers.

use candle_core::{D, Device, Tensor, Var};
use proptest::prelude::{ProptestConfig, proptest};

use super::{gelu_erf, layer_norm, rms_norm, rotary_embedding, swiglu};
use crate::simd::tests::with_each;

fn random(shape: &[usize], spread: f32) -> Tensor {
    Tensor::randn(0_f32, spread, shape, &Device::Cpu).unwrap()
}

/// Checks that `found` gives the expected tensor with every instruction set.
fn check(expected: &Tensor, found: impl Fn() -> Tensor) {
    with_each(|instructions| {
        let difference = (&found() - expected).unwrap().abs().unwrap().flatten_all().unwrap();
        let difference = difference.max(0).unwrap().to_scalar::<f32>().unwrap();
        assert!(difference < 2e-5, "{instructions:?}: {difference}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn norms_are_those_of_candle(rows in 1_usize..300, width in 1_usize..130) {
        let x = random(&[rows, width], 3.0);
        let weight = random(&[width], 1.0);
        let bias = random(&[width], 1.0);
        let far_from_mean = x.broadcast_sub(&x.mean_keepdim(D::Minus1).unwrap()).unwrap();
        let scaled = |x: &Tensor| {
            let square = (x.sqr().unwrap().mean_keepdim(D::Minus1).unwrap() + 1e-5).unwrap();
            let normed = x.broadcast_div(&square.sqrt().unwrap()).unwrap();
            normed.broadcast_mul(&weight).unwrap()
        };
        check(&scaled(&x), || rms_norm(&x, &weight, 1e-5).unwrap());
        let expected = scaled(&far_from_mean).broadcast_add(&bias).unwrap();
        // The norm of a single number is only rounding, which it amplifies.
        if width > 1 {
            check(&expected, || layer_norm(&x, &weight, &bias, 1e-5).unwrap());
        }
    }

    #[test]
    fn activations_are_those_of_candle(rows in 1_usize..300, width in 1_usize..130) {
        let x = random(&[rows, width], 4.0);
        let up = random(&[rows, width], 1.0);
        check(&x.gelu_erf().unwrap(), || gelu_erf(&x).unwrap());
        check(&(x.silu().unwrap() * &up).unwrap(), || swiglu(&x, &up).unwrap());
    }

    #[test]
    fn a_rotary_embedding_rotates_the_halves(
        batch in 1_usize..3, length in 1_usize..40, heads in 1_usize..5, half in 1_usize..50,
        is_shared in proptest::bool::ANY,
    ) {
        let all = random(&[batch, length, 3 * heads, 2 * half], 1.0);
        // A view, as of one product for queries, keys and values.
        let x = all.narrow(2, heads, heads).unwrap();
        let angles = random(&[if is_shared { 1 } else { batch }, length, 2 * half], 2.0);
        let cos = angles.cos().unwrap();
        let sin = angles.sin().unwrap();
        let first = x.narrow(3, 0, half).unwrap();
        let second = x.narrow(3, half, half).unwrap();
        let swapped = Tensor::cat(&[&second.neg().unwrap(), &first], 3).unwrap();
        let wide = |it: &Tensor| it.unsqueeze(2).unwrap();
        let expected = (x.broadcast_mul(&wide(&cos)).unwrap()
            + swapped.broadcast_mul(&wide(&sin)).unwrap()).unwrap();
        check(&expected, || rotary_embedding(&x, &cos, &sin).unwrap());
    }
}

#[test]
fn very_large_and_very_small_numbers_give_finite_results() {
    let x = Tensor::new(&[-1e30_f32, -100.0, -0.0, 0.0, 100.0, 1e30], &Device::Cpu).unwrap();
    let ones = x.ones_like().unwrap();
    with_each(|_| {
        for found in [gelu_erf(&x).unwrap(), swiglu(&x, &ones).unwrap()] {
            let found: Vec<f32> = found.to_vec1().unwrap();
            assert_eq!(found[4..], [100.0, 1e30]);
            assert!(found[..4].iter().all(|it| it.abs() < 1e-6), "{found:?}");
        }
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    let x = random(&[2, 4], 1.0);
    assert!(rms_norm(&x, &random(&[3], 1.0), 1e-5).is_err());
    assert!(layer_norm(&x, &random(&[4], 1.0), &random(&[3], 1.0), 1e-5).is_err());
    assert!(swiglu(&x, &random(&[2, 3], 1.0)).is_err());
    let odd = random(&[1, 2, 1, 5], 1.0);
    let even = random(&[1, 2, 1, 6], 1.0);
    let angles = |width: usize| random(&[1, 2, width], 1.0);
    assert!(rotary_embedding(&odd, &angles(5), &angles(5)).is_err());
    assert!(rotary_embedding(&even, &angles(3), &angles(3)).is_err());
}

#[test]
fn a_gradient_is_refused_and_not_left_out() {
    let x = Var::from_tensor(&random(&[1, 2, 1, 4], 1.0)).unwrap();
    let plain = x.as_detached_tensor();
    let row = random(&[4], 1.0);
    let angles = random(&[1, 2, 4], 1.0);
    for y in [
        rms_norm(&x, &row, 1e-5),
        layer_norm(&x, &row, &row, 1e-5),
        swiglu(&plain, &x),
        gelu_erf(&x),
        rotary_embedding(&x, &angles, &angles),
    ] {
        assert!(y.unwrap().sum_all().unwrap().backward().is_err());
    }
}
