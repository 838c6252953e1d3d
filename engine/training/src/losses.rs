//! The losses: cross entropy of the tokens, Dice loss and cross entropy of the masks
//! ([arXiv 2509.19090](https://arxiv.org/abs/2509.19090), 3.4).
//!
//! Each is a sum over what a row has, divided by what the whole batch of a step has: the gradient
//! does not depend on how the batch is divided into rows, and a row without labels or masks takes
//! no part.

use candle_core::{D, DType, Result, Tensor};
use serde::{Deserialize, Serialize};

/// The label of a position that takes no part in the loss.
pub const IGNORED: i64 = -100;

/// What is added to the Dice coefficient, so that it is defined for empty masks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiceSmoothing {
    /// Added to the numerator.
    pub numerator: f64,
    /// Added to the denominator.
    pub denominator: f64,
}

impl DiceSmoothing {
    /// As in the formula of the paper.
    pub const PAPER: Self = Self { numerator: 0.0, denominator: 1e-6 };

    /// As in the configuration of the release.
    pub const RELEASE: Self = Self { numerator: 1.0, denominator: 1.0 };
}

/// The weights of the losses in their sum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossWeights {
    /// Of the cross entropy of tokens.
    pub token: f64,
    /// Of the Dice loss of masks.
    pub dice: f64,
    /// Of the cross entropy of masks.
    pub mask: f64,
}

impl LossWeights {
    /// The weights in the paper.
    pub const PAPER: Self = Self { token: 1.0, dice: 2.0, mask: 1.0 };

    /// The weights in the configuration of the release.
    pub const RELEASE: Self = Self { token: 1.0, dice: 1.0, mask: 2.0 };
}

/// How the losses are computed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossSettings {
    /// The weights in the sum.
    pub weights: LossWeights,
    /// What is added to the Dice coefficient.
    pub smoothing: DiceSmoothing,
}

/// What the losses of a step are divided by: the counts of its whole batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchCounts {
    /// The tokens with a label that is predicted.
    pub tokens: usize,
    /// The masks.
    pub masks: usize,
}

impl std::ops::AddAssign for BatchCounts {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.masks += other.masks;
    }
}

/// The sum of the cross entropies of `logits` `[n, V]` with the tokens that are right, divided by
/// `total`.
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn token_loss(logits: &Tensor, targets: &[u32], total: usize) -> Result<Tensor> {
    let log_probabilities = candle_nn::ops::log_softmax(&logits.to_dtype(DType::F32)?, D::Minus1)?;
    let targets = Tensor::new(targets, logits.device())?.unsqueeze(1)?;
    log_probabilities.gather(&targets, 1)?.sum_all()? * (-1.0 / count(total))
}

/// The sum over masks `[N, H, W]` of the mean binary cross entropy over their pixels, divided by
/// `total`. It is finite for any logit.
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn mask_loss(logits: &Tensor, truth: &Tensor, total: usize) -> Result<Tensor> {
    let log_term = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    let of_pixels = ((logits.relu()? - (logits * truth)?)? + log_term)?;
    of_pixels.flatten_from(1)?.mean(1)?.sum_all()? * (1.0 / count(total))
}

/// The sum over masks `[N, H, W]` of one minus the Dice coefficient, divided by `total`.
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn dice_loss(
    logits: &Tensor,
    truth: &Tensor,
    smoothing: DiceSmoothing,
    total: usize,
) -> Result<Tensor> {
    let predicted = candle_nn::ops::sigmoid(logits)?.flatten_from(1)?;
    let truth = truth.flatten_from(1)?;
    let numerator = (((&predicted * &truth)?.sum(1)? * 2.0)? + smoothing.numerator)?;
    let denominator = ((predicted.sum(1)? + truth.sum(1)?)? + smoothing.denominator)?;
    (numerator.div(&denominator)?.neg()? + 1.0)?.sum_all()? * (1.0 / count(total))
}

/// A count as divisor: an empty batch has a loss of zero, not of 0 / 0.
fn count(total: usize) -> f64 {
    total.max(1) as f64
}

/// The same values with a gradient multiplied by `factor`.
///
/// # Errors
///
/// Fails if the device does.
pub fn scale_gradient(x: &Tensor, factor: f64) -> Result<Tensor> {
    let scaled = (x * factor)?;
    let rest = (x.detach() - scaled.detach())?;
    scaled + rest
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn value(x: &Tensor) -> f32 {
        x.to_scalar().unwrap()
    }

    #[test]
    fn pap_52_losses_are_finite_for_extreme_logits() {
        let logits = Tensor::new(&[[[200.0_f32, -200.0]]], &Device::Cpu).unwrap();
        let truth = Tensor::new(&[[[1.0_f32, 0.0]]], &Device::Cpu).unwrap();
        assert!(value(&mask_loss(&logits, &truth, 1).unwrap()).abs() < 1e-6);
        let wrong = Tensor::new(&[[[0.0_f32, 1.0]]], &Device::Cpu).unwrap();
        assert!((value(&mask_loss(&logits, &wrong, 1).unwrap()) - 200.0).abs() < 1e-3);
        assert!(
            value(&dice_loss(&logits, &truth, DiceSmoothing::RELEASE, 1).unwrap()).abs() < 1e-6
        );
    }

    #[test]
    fn pap_52_losses_are_those_computed_by_hand() {
        // Two masks of two pixels, sigmoid(0) = 0.5: Dice is (2 * 0.5 + 1) / (1 + 1 + 1) for one
        // pixel of truth, and (2 * 1 + 1) / (1 + 2 + 1) for two.
        let logits = Tensor::zeros((2, 1, 2), DType::F32, &Device::Cpu).unwrap();
        let truth = Tensor::new(&[[[1.0_f32, 0.0]], [[1.0, 1.0]]], &Device::Cpu).unwrap();
        let dice = value(&dice_loss(&logits, &truth, DiceSmoothing::RELEASE, 2).unwrap());
        assert!((dice - f32::midpoint(1.0 - 2.0 / 3.0, 1.0 - 3.0 / 4.0)).abs() < 1e-6, "{dice}");
        let mask = value(&mask_loss(&logits, &truth, 2).unwrap());
        assert!((mask - std::f32::consts::LN_2).abs() < 1e-6, "{mask}");
        // Two choices, of which the wrong one is three times as likely.
        let logits = Tensor::new(&[[0.0_f32, 3.0_f32.ln()]], &Device::Cpu).unwrap();
        let token = value(&token_loss(&logits, &[0], 1).unwrap());
        assert!((token - 4.0_f32.ln()).abs() < 1e-6, "{token}");
    }

    #[test]
    fn pap_52_the_total_is_that_of_the_worked_example() {
        let probabilities = [0.9_f32, 0.8, 0.2, 0.1];
        let logits = probabilities.map(|it| (it / (1.0 - it)).ln());
        let logits = Tensor::new(&[[logits]], &Device::Cpu).unwrap();
        let truth = Tensor::new(&[[[1.0_f32, 1.0, 0.0, 0.0]]], &Device::Cpu).unwrap();
        let dice = value(&dice_loss(&logits, &truth, DiceSmoothing::PAPER, 1).unwrap());
        assert!((dice - 0.150_000_2).abs() < 2e-7, "{dice}");
        let mask = value(&mask_loss(&logits, &truth, 1).unwrap());
        assert!((mask - 0.164_252).abs() < 1e-6, "{mask}");
        let LossWeights { token, dice: dice_weight, mask: mask_weight } = LossWeights::PAPER;
        let total = token * 0.5 + dice_weight * f64::from(dice) + mask_weight * f64::from(mask);
        assert!((total - 0.964_252_5).abs() < 2e-6, "{total}");
    }

    #[test]
    fn pap_52_a_loss_does_not_depend_on_how_a_batch_is_divided() {
        let logits = Tensor::randn(0_f32, 1.0, (5, 7), &Device::Cpu).unwrap();
        let targets = [0, 3, 6, 2, 1];
        let whole = value(&token_loss(&logits, &targets, 5).unwrap());
        let part = |from: usize, count: usize| {
            let logits = logits.narrow(0, from, count).unwrap();
            value(&token_loss(&logits, &targets[from..from + count], 5).unwrap())
        };
        assert!((whole - part(0, 1) - part(1, 4)).abs() < 1e-5);
    }

    #[test]
    fn pap_50_a_scaled_gradient_leaves_the_value_alone() {
        let x = Var::new(&[3.0_f32, -2.0], &Device::Cpu).unwrap();
        let y = scale_gradient(&x, 0.001).unwrap();
        assert_eq!(y.to_vec1::<f32>().unwrap(), [3.0, -2.0]);
        let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let found = gradients.get(&x).unwrap().to_vec1::<f32>().unwrap();
        assert!((found[0] - 0.006).abs() < 1e-6 && (found[1] + 0.004).abs() < 1e-6, "{found:?}");
    }
}
