//! What training makes smaller (paper, 3.4; the release's weights are 1 token, 1 dice, 2 cross entropy).

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Result, Tensor, Var};

/// A label that asks for nothing.
pub const IGNORED: i64 = -100;

/// Mean cross entropy of the next token over all that have a label: `[B, L, V]` and `[B, L]`. What is
/// said at a place is judged by the label of the next one.
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn token_loss(logits: &Tensor, labels: &[Vec<i64>]) -> Result<Tensor> {
    let (_, length, vocabulary) = logits.dims3()?;
    let (mut rows, mut wanted) = (Vec::new(), Vec::new());
    for (row, labels) in labels.iter().enumerate() {
        for (at, label) in labels.iter().enumerate().skip(1).take(length - 1) {
            if let Ok(label) = u32::try_from(*label) {
                rows.push(u32::try_from(row * length + at - 1).unwrap_or(u32::MAX));
                wanted.push(label);
            }
        }
    }
    let device = logits.device();
    let rows = Tensor::new(rows.as_slice(), device)?;
    let said = logits.reshape(((), vocabulary))?.index_select(&rows, 0)?.to_dtype(DType::F32)?;
    let shares = candle_nn::ops::log_softmax(&said, D::Minus1)?;
    let wanted = Tensor::new(wanted.as_slice(), device)?.unsqueeze(1)?;
    shares.gather(&wanted, 1)?.mean_all()?.neg()
}

/// Mean binary cross entropy of mask logits over all pixels of all masks. Finite for any logit.
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn mask_loss(logits: &Tensor, truth: &Tensor) -> Result<Tensor> {
    let small = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    ((logits.relu()? - (logits * truth)?)? + small)?.mean_all()
}

/// One minus the Dice coefficient of each mask `[N, H, W]`, in the mean; `eps` is added above and below,
/// as the release does (the paper adds it below only).
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn dice_loss(logits: &Tensor, truth: &Tensor, eps: f64) -> Result<Tensor> {
    let (found, truth) =
        (candle_nn::ops::sigmoid(logits)?.flatten_from(1)?, truth.flatten_from(1)?);
    let both = (((&found * &truth)?.sum(1)? * 2.0)? + eps)?;
    let all = ((found.sum(1)? + truth.sum(1)?)? + eps)?;
    (both.div(&all)?.neg()? + 1.0)?.mean_all()
}

/// The same numbers, with a gradient `factor` times as large: how stage 3 keeps the masks from drowning
/// the words (paper, 3.4).
///
/// # Errors
///
/// Fails if the device does.
pub fn gradient_scaled(x: &Tensor, factor: f64) -> Result<Tensor> {
    let part = (x * factor)?;
    let rest = (x.detach() - part.detach())?;
    part + rest
}

/// Makes all gradients together no longer than `longest`. Gives how long they were.
///
/// # Errors
///
/// Fails if the device does.
pub fn clip(gradients: &mut GradStore, variables: &[Var], longest: f64) -> Result<f64> {
    let mut squares = 0.0;
    for variable in variables {
        if let Some(gradient) = gradients.get(variable) {
            squares +=
                f64::from(gradient.sqr()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?);
        }
    }
    let length = squares.sqrt();
    let by = longest / (length + 1e-6);
    if by < 1.0 {
        for variable in variables {
            if let Some(gradient) = gradients.remove(variable) {
                gradients.insert(variable, (gradient * by)?);
            }
        }
    }
    Ok(length)
}

/// What the rate of learning is multiplied with at a step: rising evenly while warming up, then falling
/// to nought along half a cosine (paper, table 4).
pub fn cosine_schedule(step: u32, warmup: u32, total: u32) -> f64 {
    if step < warmup {
        return f64::from(step) / f64::from(warmup.max(1));
    }
    let done = f64::from(step - warmup) / f64::from(total.saturating_sub(warmup).max(1));
    (0.5 * (1.0 + (std::f64::consts::PI * done).cos())).max(0.0)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn value(x: &Tensor) -> f32 {
        x.to_scalar().unwrap()
    }

    #[test]
    fn losses_are_finite_however_sure_the_network_is() {
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
        let y = gradient_scaled(&x, 0.001).unwrap();
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
        assert!((clip(&mut gradients, &variables, 1.0).unwrap() - 5.0).abs() < 1e-6);
        assert!((value(gradients.get(a).unwrap()) - 0.6).abs() < 1e-5);
        assert!((clip(&mut gradients, &variables, 2.0).unwrap() - 1.0).abs() < 1e-5);
        assert!((value(gradients.get(b).unwrap()) - 0.8).abs() < 1e-5, "short ones stay");
    }
}
