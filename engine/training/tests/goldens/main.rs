//! Training compared with the reference: labels, losses, gradients, optimizer steps, learning
//! rates.
//!
//! The sets of inputs and outputs are those of the crate `citrus-v`: the project's own, and the one
//! that `ISOCENTER_GOLDENS` names. Everything runs through the code that the trainer uses.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic fails the test"
)]

#[path = "../../../citrus-v/tests/goldens/set.rs"]
mod set;
mod setup;
mod training;
