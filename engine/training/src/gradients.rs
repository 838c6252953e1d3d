//! The gradients of one step of the optimizer, summed over the rows of its batch.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor};

use crate::parts::Parameter;

/// The gradients by the canonical name of their parameter. A parameter that took no part has none.
#[derive(Clone, Debug, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// Adds the gradients of one row.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn add(&mut self, of_row: &GradStore, parameters: &[Parameter]) -> Result<()> {
        for parameter in parameters {
            let Some(gradient) = of_row.get(&parameter.variable) else { continue };
            // Detached, or it would keep the activations of the row in memory.
            let gradient = gradient.detach();
            let sum = match self.0.get(&parameter.name) {
                Some(before) => (before + gradient)?,
                None => gradient,
            };
            self.0.insert(parameter.name.clone(), sum);
        }
        Ok(())
    }

    /// The gradient of a parameter.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// Whether no parameter has a gradient.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The L2 norm of all gradients together.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn norm(&self) -> Result<f64> {
        let mut squares = 0.0;
        for gradient in self.0.values() {
            let sum = gradient.to_dtype(DType::F32)?.sqr()?.sum_all()?;
            squares += f64::from(sum.to_scalar::<f32>()?);
        }
        Ok(squares.sqrt())
    }

    /// Clips the norm of all gradients together to `norm_max`. Returns the norm before.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn clip(&mut self, norm_max: f64) -> Result<f64> {
        let norm = self.norm()?;
        let factor = norm_max / (norm + 1e-6);
        if factor < 1.0 {
            for gradient in self.0.values_mut() {
                *gradient = (&*gradient * factor)?;
            }
        }
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn parameter(name: &str, value: f32) -> Parameter {
        let variable = Var::from_tensor(&Tensor::new(value, &Device::Cpu).unwrap()).unwrap();
        Parameter { name: name.to_owned(), variable, rate: 1.0, weight_decay: 0.0 }
    }

    fn value(gradients: &Gradients, name: &str) -> f32 {
        gradients.get(name).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn gradients_are_summed_over_rows_and_clipped_together() {
        let parameters = [parameter("a", 3.0), parameter("b", 4.0), parameter("unused", 1.0)];
        let of_row = |factor: f64| -> GradStore {
            let part =
                |it: usize, factor: f64| (parameters[it].variable.as_tensor() * factor).unwrap();
            (part(0, 3.0 * factor) + part(1, 4.0 * factor)).unwrap().backward().unwrap()
        };
        let mut gradients = Gradients::default();
        gradients.add(&of_row(0.25), &parameters).unwrap();
        gradients.add(&of_row(0.75), &parameters).unwrap();
        assert!(gradients.get("unused").is_none());
        assert!((gradients.clip(1.0).unwrap() - 5.0).abs() < 1e-6);
        assert!((value(&gradients, "a") - 0.6).abs() < 1e-5);
        assert!((gradients.clip(2.0).unwrap() - 1.0).abs() < 1e-5);
        assert!((value(&gradients, "b") - 0.8).abs() < 1e-5, "short ones stay");
    }
}
