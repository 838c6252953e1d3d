//! The trainer: takes the steps of a stage, and can be stopped and resumed between any two.

use std::path::Path;

use candle_core::{Device, Tensor};
use citrus_v::tensor_shapes::tensor_shapes;
use citrus_v::tokenizer::Tokenizer;
use citrus_v::{CheckpointIndex, CitrusV, Config, Weights};
use serde::Serialize;

use crate::batch::{SampleData, row_input};
use crate::checkpoint::{self, State};
use crate::error::TrainingError;
use crate::forward::{RowInput, row_losses};
use crate::gradients::Gradients;
use crate::losses::BatchCounts;
use crate::optimizer::{AdamW, MovingAverage};
use crate::order::{Position, rows_of_epoch};
use crate::parts::{Parameter, Part, decays};
use crate::schedule::cosine_schedule;
use crate::stages::StagePlan;

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StepReport {
    /// The number of the step; the first is zero.
    pub step: u32,
    /// The cross entropy of tokens.
    pub token: f64,
    /// The Dice loss of masks.
    pub dice: f64,
    /// The cross entropy of masks.
    pub mask: f64,
    /// The weighted sum of the losses.
    pub total: f64,
    /// The norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// The factor of the learning rates.
    pub rate_factor: f64,
    /// The tokens of all rows.
    pub tokens: usize,
    /// The tokens and masks that were learnt from.
    #[serde(skip)]
    pub counts: BatchCounts,
}

/// Trains one stage.
pub struct Trainer {
    model: CitrusV,
    weights: Weights,
    parameters: Vec<Parameter>,
    optimizer: AdamW,
    average: Option<MovingAverage>,
    plan: StagePlan,
    seed: u64,
    /// The steps of the whole run.
    steps: u32,
    position: Position,
    /// The tokens of each sample.
    lengths: Vec<usize>,
    /// The rows of the current epoch.
    rows: Vec<Vec<usize>>,
}

impl Trainer {
    /// A trainer of the model in a folder, for samples of these lengths.
    ///
    /// # Errors
    ///
    /// Fails if the plan cannot be carried out, or the model cannot be loaded.
    pub fn open(
        folder: &Path,
        plan: StagePlan,
        seed: u64,
        lengths: Vec<usize>,
        device: &Device,
    ) -> Result<Self, TrainingError> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| TrainingError::Io { path: path.clone(), source })?;
        let config = Config::parse(&text)?;
        let index = CheckpointIndex::read(folder)?;
        let shapes = tensor_shapes(&config);
        index.check(&shapes)?;
        let names: Vec<&str> = shapes.keys().map(String::as_str).collect();
        let problems = plan.problems(&names);
        if !problems.is_empty() {
            return Err(TrainingError::Plan(problems));
        }
        let tokenizer = Tokenizer::open(folder, config.seg.as_ref().map(|it| it.token))?;
        let of_plan = plan.clone();
        let weights =
            Weights::open_for_partial_training(index, device, move |it| of_plan.trains(it))?;
        let model = CitrusV::new(config, tokenizer, &weights)?;
        let parameters = parameters(&weights, &plan);
        let average =
            plan.average_decay.map(|it| MovingAverage::new(it, &parameters)).transpose()?;
        let steps = steps_of(&lengths, &plan, seed)?;
        let rows = rows_of_epoch(&lengths, plan.row_length, seed, 0)?;
        Ok(Self {
            optimizer: AdamW::new(plan.optimizer),
            position: Position::default(),
            average,
            model,
            weights,
            parameters,
            plan,
            seed,
            steps,
            lengths,
            rows,
        })
    }

    /// The trainer of a checkpoint, which goes on where it was written.
    ///
    /// # Errors
    ///
    /// Fails if a part of the checkpoint is missing or damaged.
    pub fn resume(
        folder: &Path,
        lengths: Vec<usize>,
        device: &Device,
    ) -> Result<Self, TrainingError> {
        let State { plan, seed, position } = State::read(folder)?;
        let trainer = Self::open(folder, plan, seed, lengths, device)?;
        let optimizer = checkpoint::read_optimizer(folder, trainer.plan.optimizer, device)?;
        let average = match trainer.plan.average_decay {
            Some(decay) => Some(checkpoint::read_average(folder, decay, device)?),
            None => None,
        };
        let row_length = trainer.plan.row_length;
        let rows = rows_of_epoch(&trainer.lengths, row_length, seed, position.epoch)?;
        Ok(Self { optimizer, average, position, rows, ..trainer })
    }

    /// Writes a checkpoint to a new folder: weights, optimizer, average and position. `source` has
    /// the files of the tokenizer and the configuration.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be written.
    pub fn save(&self, folder: &Path, source: &Path) -> Result<(), TrainingError> {
        let state = State { plan: self.plan.clone(), seed: self.seed, position: self.position };
        checkpoint::write(folder, source, |partial| {
            checkpoint::write_weights(partial, &self.weights)?;
            checkpoint::write_state(partial, &state, &self.optimizer, self.average.as_ref())
        })
    }

    /// The model that is trained.
    pub const fn model(&self) -> &CitrusV {
        &self.model
    }

    /// The tensors that are trained.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Where the run is in its data.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// The steps of the whole run.
    pub const fn steps(&self) -> u32 {
        self.steps
    }

    /// Takes the next step; none if the run is over.
    ///
    /// # Errors
    ///
    /// Fails if a sample is incomplete, or the loss is no number: then nothing is changed.
    pub fn step(&mut self, data: &[SampleData]) -> Result<Option<StepReport>, TrainingError> {
        if self.position.step >= self.steps {
            return Ok(None);
        }
        let end = self.rows.len().min(self.position.row + self.plan.rows_per_step);
        let numbers = self.rows.get(self.position.row..end).unwrap_or_default().to_vec();
        let config = self.model.config();
        let inputs: Vec<RowInput> = numbers
            .iter()
            .map(|it| row_input(data, it, config.tokens.image, config.vision.merge))
            .collect::<Result<_, _>>()?;
        let report = self.learn(&inputs, &numbers.concat())?;
        self.position.step += 1;
        self.position.row = end;
        if end == self.rows.len() && self.position.step < self.steps {
            self.position.row = 0;
            self.position.epoch += 1;
            self.rows =
                rows_of_epoch(&self.lengths, self.plan.row_length, self.seed, self.position.epoch)?;
        }
        Ok(Some(report))
    }

    /// Takes a step on these rows.
    fn learn(
        &mut self,
        inputs: &[RowInput],
        samples: &[usize],
    ) -> Result<StepReport, TrainingError> {
        let mut counts = BatchCounts::default();
        for input in inputs {
            counts += input.row.counts();
        }
        let rate_factor = cosine_schedule(self.position.step, self.plan.warmup_steps, self.steps);
        let step = self.position.step;
        let mut report = StepReport { step, rate_factor, counts, ..StepReport::default() };
        let mut gradients = Gradients::default();
        for input in inputs {
            let settings = &self.plan.losses;
            let scale = self.plan.gradient_scale;
            let losses = row_losses(&self.model, input, counts, settings, scale)?;
            report.tokens += input.row.token_ids.len();
            report.token += number(losses.token.as_ref())?;
            report.dice += number(losses.dice.as_ref())?;
            report.mask += number(losses.mask.as_ref())?;
            let Some(total) = losses.total(settings, scale)? else { continue };
            report.total += number(Some(&total))?;
            gradients.add(&total.backward()?, &self.parameters)?;
        }
        report.gradient_norm = gradients.clip(self.plan.clip_norm)?;
        if !report.total.is_finite() || !report.gradient_norm.is_finite() {
            let samples = samples.to_vec();
            return Err(TrainingError::Diverged { step, loss: report.total, samples });
        }
        self.optimizer.step(&self.parameters, &gradients, rate_factor)?;
        if let Some(average) = &mut self.average {
            average.update(&self.parameters)?;
        }
        Ok(report)
    }
}

fn number(loss: Option<&Tensor>) -> candle_core::Result<f64> {
    loss.map_or(Ok(0.0), |it| Ok(f64::from(it.to_scalar::<f32>()?)))
}

/// The parameters of a plan, each with the rate of its part.
fn parameters(weights: &Weights, plan: &StagePlan) -> Vec<Parameter> {
    let variables = weights.variables().into_iter();
    let parameters = variables.filter_map(|(name, variable)| {
        let rate = plan.rates.of(Part::of(&name))?;
        let weight_decay = if decays(&name) { plan.weight_decay } else { 0.0 };
        Some(Parameter { name, variable, rate, weight_decay })
    });
    parameters.collect()
}

/// The steps of all epochs.
fn steps_of(lengths: &[usize], plan: &StagePlan, seed: u64) -> Result<u32, TrainingError> {
    let mut steps = 0;
    for epoch in 0..plan.epochs {
        let rows = rows_of_epoch(lengths, plan.row_length, seed, epoch)?;
        steps += rows.len().div_ceil(plan.rows_per_step.max(1));
    }
    Ok(u32::try_from(steps).unwrap_or(u32::MAX))
}
