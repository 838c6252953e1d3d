//! Why a training cannot begin or go on.

use std::path::PathBuf;

use citrus_v::positions::ImageTokenMismatch;
use citrus_v::tokenizer::TokenizerError;
use citrus_v::{ConfigError, ModelError, WeightsError};

use crate::sample::TooLong;
use crate::stages::PlanProblem;

/// Why a training cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// A file cannot be read or written.
    #[error("cannot read or write `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The state of a checkpoint is not what the trainer has written.
    #[error("`{}` is no state of a training", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The plan cannot be carried out.
    #[error("the plan cannot be carried out:{}", list(.0))]
    Plan(Vec<PlanProblem>),
    /// `config.json` cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model fails.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A sample does not fit into a row.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The tokens of a sample are not those of its pictures.
    #[error(transparent)]
    ImageTokens(#[from] ImageTokenMismatch),
    /// A sample refers to a picture or a mask that it does not have.
    #[error("sample {number} lacks a picture or a mask that it refers to")]
    Incomplete {
        /// The number of the sample.
        number: usize,
    },
    /// The loss is no number any more.
    #[error("the loss of step {step} is {loss}; its samples: {samples:?}")]
    Diverged {
        /// The step.
        step: u32,
        /// The loss.
        loss: f64,
        /// The numbers of the samples of the step.
        samples: Vec<usize>,
    },
    /// The device failed, or ran out of memory.
    #[error("the device failed")]
    Candle(#[from] candle_core::Error),
}

fn list(problems: &[PlanProblem]) -> String {
    problems.iter().fold(String::new(), |text, it| text + "\n  " + &it.to_string())
}
