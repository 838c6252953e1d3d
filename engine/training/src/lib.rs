//! The trainer of Citrus-V ([arXiv 2509.19090](https://arxiv.org/abs/2509.19090), 3.4).
//!
//! From a conversation to a step, in the order of use:
//!
//! - [`labels`]: a conversation as tokens, and which of them are learnt.
//! - [`sample`]: a sample, and how an over-long one is shortened.
//! - [`packing`] and [`row`]: samples packed into rows, so that no padding is computed.
//! - [`forward`]: the losses of a row; [`losses`]: how they are computed.
//! - [`parts`]: the parts of the model, their learning rates and their decay.
//! - [`gradients`], [`optimizer`] and [`schedule`]: what a step changes.
//! - [`stages`] and [`patterns`]: which tensors a stage trains, and how; [`dry_run`]: what that
//!   needs.
//! - [`trainer`]: takes the steps, in the [`order`] that the seed decides, of samples put together
//!   in [`batch`]; `checkpoint` keeps a run.
//!
//! **Invariants**
//!
//! - The loss of a batch does not depend on how it is divided into rows.
//! - No number is random but for the seed of a run.

pub mod batch;
mod checkpoint;
pub mod dry_run;
pub mod error;
pub mod forward;
pub mod gradients;
pub mod labels;
pub mod losses;
pub mod optimizer;
pub mod order;
pub mod packing;
pub mod parts;
pub mod patterns;
pub mod row;
pub mod sample;
pub mod schedule;
pub mod stages;
pub mod trainer;
