//! AdamW (<https://arxiv.org/abs/1711.05101>) with a state that can be saved and loaded, and the
//! moving average of the weights.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::gradients::Gradients;
use crate::parts::Parameter;

/// What the names of the first moments begin with in a file.
const FIRST_MOMENT: &str = "first_moment.";

/// What the names of the second moments begin with in a file.
const SECOND_MOMENT: &str = "second_moment.";

/// What the names of the numbers of steps begin with in a file.
const STEPS: &str = "steps.";

/// The constants of AdamW.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWSettings {
    /// The decay of the first moment.
    pub beta1: f64,
    /// The decay of the second moment.
    pub beta2: f64,
    /// What is added to the denominator.
    pub eps: f64,
}

impl Default for AdamWSettings {
    /// The constants of the paper.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

/// The moments of a parameter.
#[derive(Clone, Debug)]
struct Moments {
    first: Tensor,
    second: Tensor,
    /// The steps that this parameter took part in.
    steps: u32,
}

/// AdamW. A parameter without a gradient in a step is left as it is, and does not decay.
#[derive(Debug, Default)]
pub struct AdamW {
    settings: AdamWSettings,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// An optimizer that has taken no step.
    pub const fn new(settings: AdamWSettings) -> Self {
        Self { settings, moments: BTreeMap::new() }
    }

    /// Takes a step. `rate_factor` is that of the schedule.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn step(
        &mut self,
        parameters: &[Parameter],
        gradients: &Gradients,
        rate_factor: f64,
    ) -> Result<()> {
        for parameter in parameters {
            if let Some(gradient) = gradients.get(&parameter.name) {
                self.update(parameter, gradient, rate_factor)?;
            }
        }
        Ok(())
    }

    fn update(&mut self, parameter: &Parameter, gradient: &Tensor, rate_factor: f64) -> Result<()> {
        let AdamWSettings { beta1, beta2, eps } = self.settings;
        let gradient = gradient.to_dtype(DType::F32)?;
        let first = (&gradient * (1.0 - beta1))?;
        let second = (gradient.sqr()? * (1.0 - beta2))?;
        let moments = match self.moments.get(&parameter.name) {
            Some(before) => Moments {
                first: ((&before.first * beta1)? + first)?,
                second: ((&before.second * beta2)? + second)?,
                steps: before.steps.saturating_add(1),
            },
            None => Moments { first, second, steps: 1 },
        };
        let rate = parameter.rate * rate_factor;
        let steps = f64::from(moments.steps);
        let first_correction = 1.0 - beta1.powf(steps);
        let second_correction = 1.0 - beta2.powf(steps);
        let denominator = ((moments.second.sqrt()? / second_correction.sqrt())? + eps)?;
        let change = (moments.first.div(&denominator)? * (rate / first_correction))?;
        let value = parameter.variable.as_tensor().detach();
        let decayed = (value * rate.mul_add(-parameter.weight_decay, 1.0))?;
        parameter.variable.set(&(decayed - change)?)?;
        self.moments.insert(parameter.name.clone(), moments);
        Ok(())
    }

    /// Writes the state to a safetensors file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut tensors = HashMap::new();
        for (name, moments) in &self.moments {
            tensors.insert(format!("{FIRST_MOMENT}{name}"), moments.first.clone());
            tensors.insert(format!("{SECOND_MOMENT}{name}"), moments.second.clone());
            let steps = Tensor::new(&[moments.steps], &Device::Cpu)?;
            tensors.insert(format!("{STEPS}{name}"), steps);
        }
        candle_core::safetensors::save(&tensors, path)
    }

    /// An optimizer with the state of a file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or a part of the state of a parameter is missing.
    pub fn load(settings: AdamWSettings, path: &Path, device: &Device) -> Result<Self> {
        let mut tensors = candle_core::safetensors::load(path, device)?;
        let names: Vec<String> = tensors
            .keys()
            .filter_map(|it| it.strip_prefix(FIRST_MOMENT))
            .map(ToOwned::to_owned)
            .collect();
        let mut moments = BTreeMap::new();
        for name in names {
            let mut take = |prefix: &str| {
                let found = tensors.remove(&format!("{prefix}{name}"));
                found.ok_or_else(|| candle_core::Error::Msg(format!("{prefix}{name} is missing")))
            };
            let first = take(FIRST_MOMENT)?;
            let second = take(SECOND_MOMENT)?;
            let steps = take(STEPS)?.to_vec1::<u32>()?.first().copied().unwrap_or_default();
            moments.insert(name, Moments { first, second, steps });
        }
        match tensors.keys().next() {
            Some(name) => candle_core::bail!("{name} belongs to no parameter"),
            None => Ok(Self { settings, moments }),
        }
    }
}

/// The exponential moving average of the trained weights.
#[derive(Debug)]
pub struct MovingAverage {
    /// The share of the average that stays at each step.
    decay: f64,
    averages: BTreeMap<String, Tensor>,
}

impl MovingAverage {
    /// The average that begins with the current weights.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn new(decay: f64, parameters: &[Parameter]) -> Result<Self> {
        let averages = parameters.iter().map(|parameter| {
            let value = parameter.variable.as_tensor().detach();
            Ok((parameter.name.clone(), value.copy()?))
        });
        Ok(Self { decay, averages: averages.collect::<Result<_>>()? })
    }

    /// Takes the current weights into the average.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn update(&mut self, parameters: &[Parameter]) -> Result<()> {
        for parameter in parameters {
            if let Some(average) = self.averages.get_mut(&parameter.name) {
                let new = (parameter.variable.as_tensor().detach() * (1.0 - self.decay))?;
                *average = ((&*average * self.decay)? + new)?;
            }
        }
        Ok(())
    }

    /// The averages by canonical name.
    pub const fn averages(&self) -> &BTreeMap<String, Tensor> {
        &self.averages
    }

    /// Writes the averages to a safetensors file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let averages: HashMap<&String, Tensor> =
            self.averages.iter().map(|(name, it)| (name, it.clone())).collect();
        candle_core::safetensors::save(&averages, path)
    }

    /// The averages of a file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn load(decay: f64, path: &Path, device: &Device) -> Result<Self> {
        let averages = candle_core::safetensors::load(path, device)?.into_iter().collect();
        Ok(Self { decay, averages })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;

    const RATE: f64 = 0.1;
    const DECAY: f64 = 0.2;

    fn parameter(values: &[f32], weight_decay: f64) -> Parameter {
        let variable = Var::new(values, &Device::Cpu).unwrap();
        Parameter { name: "a".to_owned(), variable, rate: RATE, weight_decay }
    }

    fn values(parameter: &Parameter) -> Vec<f32> {
        parameter.variable.to_vec1().unwrap()
    }

    /// The gradients of the sum of the parameter times `factors`.
    fn gradients(parameter: &Parameter, factors: &[f32]) -> Gradients {
        let factors = Tensor::new(factors, &Device::Cpu).unwrap();
        let sum = (parameter.variable.as_tensor() * factors).unwrap().sum_all().unwrap();
        let mut gradients = Gradients::default();
        gradients.add(&sum.backward().unwrap(), std::slice::from_ref(parameter)).unwrap();
        gradients
    }

    /// The value after steps with these gradients, in closed form: each moment is the weighted sum
    /// of all gradients so far.
    fn closed_form(start: f64, gradients: &[f64], factors: &[f64], weight_decay: f64) -> f64 {
        let AdamWSettings { beta1, beta2, eps } = AdamWSettings::default();
        let mut value = start;
        for step in 1..=gradients.len() {
            let weighted = |beta: f64, power: i32| {
                let terms = gradients[..step].iter().enumerate().map(|(index, gradient)| {
                    let age = i32::try_from(step - 1 - index).unwrap();
                    beta.powi(age) * gradient.powi(power)
                });
                let weights = (0..step).map(|age| beta.powi(i32::try_from(age).unwrap()));
                terms.sum::<f64>() / weights.sum::<f64>()
            };
            let rate = RATE * factors[step - 1];
            let direction = weighted(beta1, 1) / (weighted(beta2, 2).sqrt() + eps);
            value = (1.0 - rate * weight_decay) * value - rate * direction;
        }
        value
    }

    #[test]
    fn pap_51_adamw_takes_the_steps_of_the_closed_form() {
        let history = [[0.5_f32, -2.0, 1e-4], [0.25, 1.0, -3.0], [-1.0, 0.0, 0.5], [0.1, 0.2, 0.3]];
        let factors = [0.5, 1.0, 0.75, 0.25];
        let start = [1.0_f32, -0.5, 2.0];
        for weight_decay in [0.0, DECAY] {
            let parameter = parameter(&start, weight_decay);
            let mut optimizer = AdamW::new(AdamWSettings::default());
            for (row, factor) in history.iter().zip(factors) {
                let gradients = gradients(&parameter, row);
                optimizer.step(std::slice::from_ref(&parameter), &gradients, factor).unwrap();
            }
            for (index, found) in values(&parameter).into_iter().enumerate() {
                let gradients: Vec<f64> = history.iter().map(|it| f64::from(it[index])).collect();
                let expected =
                    closed_form(f64::from(start[index]), &gradients, &factors, weight_decay);
                assert!((f64::from(found) - expected).abs() < 1e-6, "{found}, not {expected}");
            }
        }
    }

    #[test]
    fn a_parameter_without_a_gradient_stays_and_does_not_decay() {
        let parameter = parameter(&[1.0, 2.0], DECAY);
        let mut optimizer = AdamW::new(AdamWSettings::default());
        optimizer.step(std::slice::from_ref(&parameter), &Gradients::default(), 1.0).unwrap();
        assert_eq!(values(&parameter), [1.0, 2.0]);
        assert!(optimizer.moments.is_empty());
    }

    #[test]
    fn a_loaded_state_continues_as_the_one_that_was_saved() {
        let path = std::env::temp_dir().join(format!("adamw-{}.safetensors", std::process::id()));
        let whole = parameter(&[1.0, -2.0], DECAY);
        let mut optimizer = AdamW::new(AdamWSettings::default());
        let take = |optimizer: &mut AdamW, of: &Parameter, factors: &[f32]| {
            optimizer.step(std::slice::from_ref(of), &gradients(of, factors), 1.0).unwrap();
        };
        take(&mut optimizer, &whole, &[0.3, 0.7]);
        optimizer.save(&path).unwrap();
        let resumed = parameter(&values(&whole), DECAY);
        let mut other = AdamW::load(AdamWSettings::default(), &path, &Device::Cpu).unwrap();
        std::fs::remove_file(&path).unwrap();
        for factors in [[0.1, -0.2], [0.4, 0.0]] {
            take(&mut optimizer, &whole, &factors);
            take(&mut other, &resumed, &factors);
        }
        assert_eq!(values(&whole), values(&resumed));
    }

    #[test]
    fn the_moving_average_follows_the_weights_and_survives_a_file() {
        let path = std::env::temp_dir().join(format!("average-{}.safetensors", std::process::id()));
        let parameter = parameter(&[1.0], 0.0);
        let parameters = std::slice::from_ref(&parameter);
        let mut average = MovingAverage::new(0.75, parameters).unwrap();
        parameter.variable.set(&Tensor::new(&[5.0_f32], &Device::Cpu).unwrap()).unwrap();
        average.update(parameters).unwrap();
        average.save(&path).unwrap();
        let mut average = MovingAverage::load(0.75, &path, &Device::Cpu).unwrap();
        std::fs::remove_file(&path).unwrap();
        average.update(parameters).unwrap();
        // 1, then 0.75 * 1 + 0.25 * 5 = 2, then 0.75 * 2 + 0.25 * 5.
        assert_eq!(average.averages()["a"].to_vec1::<f32>().unwrap(), [2.75]);
    }
}
