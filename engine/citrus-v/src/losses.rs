//! Losses, gradient clipping and learning rate schedule for training.
//!
//! The total loss is the sum of token cross entropy, Dice loss, and mask cross entropy
//! ([arXiv 2509.19090](https://arxiv.org/abs/2509.19090), 3.4); the release weights them 1, 1 and
//! 2.

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Result, Tensor, Var};

/// The label of a position that takes no part in the loss.
pub const IGNORED: i64 = -100;

/// The mean cross entropy of the next token over all positions with a label, of logits `[B, L, V]`
/// and labels `[B, L]`. The logits of a position predict the label of the next one.
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn token_loss(logits: &Tensor, labels: &[Vec<i64>]) -> Result<Tensor> {
    let (_, length, vocabulary) = logits.dims3()?;
    let mut rows = Vec::new();
    let mut targets = Vec::new();
    for (row, labels) in labels.iter().enumerate() {
        for (position, label) in labels.iter().enumerate().skip(1).take(length - 1) {
            if let Ok(label) = u32::try_from(*label) {
                rows.push(u32::try_from(row * length + position - 1).unwrap_or(u32::MAX));
                targets.push(label);
            }
        }
    }
    let device = logits.device();
    let rows = Tensor::new(rows.as_slice(), device)?;
    let logits = logits.reshape(((), vocabulary))?.index_select(&rows, 0)?.to_dtype(DType::F32)?;
    let log_probabilities = candle_nn::ops::log_softmax(&logits, D::Minus1)?;
    let targets = Tensor::new(targets.as_slice(), device)?.unsqueeze(1)?;
    log_probabilities.gather(&targets, 1)?.mean_all()?.neg()
}

/// The mean binary cross entropy of mask logits over all pixels of all masks. It is finite for any
/// logit.
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn mask_loss(logits: &Tensor, truth: &Tensor) -> Result<Tensor> {
    let log_term = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    ((logits.relu()? - (logits * truth)?)? + log_term)?.mean_all()
}

/// The mean Dice loss of masks `[N, H, W]`: one minus the Dice coefficient. `eps` is added to
/// numerator and denominator, as in the release (the paper adds it to the denominator only).
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn dice_loss(logits: &Tensor, truth: &Tensor, eps: f64) -> Result<Tensor> {
    let predicted = candle_nn::ops::sigmoid(logits)?.flatten_from(1)?;
    let truth = truth.flatten_from(1)?;
    let numerator = (((&predicted * &truth)?.sum(1)? * 2.0)? + eps)?;
    let denominator = ((predicted.sum(1)? + truth.sum(1)?)? + eps)?;
    (numerator.div(&denominator)?.neg()? + 1.0)?.mean_all()
}

/// The same values with a gradient multiplied by `factor`: stage 3 of the training reduces the
/// influence of the masks on the language model with it (3.4).
///
/// # Errors
///
/// Fails if the device does.
pub fn scale_gradient(x: &Tensor, factor: f64) -> Result<Tensor> {
    let scaled = (x * factor)?;
    let rest = (x.detach() - scaled.detach())?;
    scaled + rest
}

/// Clips the norm of all gradients together to `norm_max`. Returns the norm before.
///
/// # Errors
///
/// Fails if the device does.
pub fn clip_gradient_norm(
    gradients: &mut GradStore,
    variables: &[Var],
    norm_max: f64,
) -> Result<f64> {
    let mut squares = 0.0;
    for variable in variables {
        if let Some(gradient) = gradients.get(variable) {
            squares +=
                f64::from(gradient.sqr()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?);
        }
    }
    let norm = squares.sqrt();
    let factor = norm_max / (norm + 1e-6);
    if factor < 1.0 {
        for variable in variables {
            if let Some(gradient) = gradients.remove(variable) {
                gradients.insert(variable, (gradient * factor)?);
            }
        }
    }
    Ok(norm)
}

/// The factor of the learning rate at a step: linear warm-up, then half a cosine down to zero
/// (table 4 of the paper).
pub fn cosine_schedule(step: u32, warmup: u32, total: u32) -> f64 {
    if step < warmup {
        return f64::from(step) / f64::from(warmup.max(1));
    }
    let progress = f64::from(step - warmup) / f64::from(total.saturating_sub(warmup).max(1));
    (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn value(x: &Tensor) -> f32 {
        x.to_scalar().unwrap()
    }

    #[test]
    fn losses_are_finite_for_extreme_logits() {
        let logits = Tensor::new(&[[[200.0_f32, -200.0]]], &Device::Cpu).unwrap();
        let truth = Tensor::new(&[[[1.0_f32, 0.0]]], &Device::Cpu).unwrap();
        assert!(value(&mask_loss(&logits, &truth).unwrap()).abs() < 1e-6);
        let wrong = Tensor::new(&[[[0.0_f32, 1.0]]], &Device::Cpu).unwrap();
        assert!((value(&mask_loss(&logits, &wrong).unwrap()) - 200.0).abs() < 1e-3);
        assert!(value(&dice_loss(&logits, &truth, 1.0).unwrap()).abs() < 1e-6);
    }

    #[test]
    fn a_scaled_gradient_leaves_the_value_alone() {
        let x = Var::new(&[3.0_f32, -2.0], &Device::Cpu).unwrap();
        let y = scale_gradient(&x, 0.001).unwrap();
        assert_eq!(y.to_vec1::<f32>().unwrap(), [3.0, -2.0]);
        let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let found = gradients.get(&x).unwrap().to_vec1::<f32>().unwrap();
        assert!((found[0] - 0.006).abs() < 1e-6 && (found[1] + 0.004).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn gradients_are_clipped_together() {
        let variables = [3.0_f32, 4.0]
            .map(|it| Var::from_tensor(&Tensor::new(it, &Device::Cpu).unwrap()).unwrap());
        let [a, b] = &variables;
        let sum = ((a.as_tensor() * 3.0).unwrap() + (b.as_tensor() * 4.0).unwrap()).unwrap();
        let mut gradients = sum.backward().unwrap();
        assert!((clip_gradient_norm(&mut gradients, &variables, 1.0).unwrap() - 5.0).abs() < 1e-6);
        assert!((value(gradients.get(a).unwrap()) - 0.6).abs() < 1e-5);
        assert!((clip_gradient_norm(&mut gradients, &variables, 2.0).unwrap() - 1.0).abs() < 1e-5);
        assert!((value(gradients.get(b).unwrap()) - 0.8).abs() < 1e-5, "short ones stay");
    }
}
