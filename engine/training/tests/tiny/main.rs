//! The trainer on a tiny model with random weights: labels, partial freezing, steps, checkpoints.
//!
//! The model is that of the tests of the crate `citrus-v`; samples and pictures are made here.
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod freezing;
mod labels;
mod model;
mod run;
