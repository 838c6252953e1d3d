//! The audit trail: appending events, sealing them into signed batches, exporting and verifying.

pub(crate) mod append;
pub mod file;
pub(crate) mod sealer;
#[cfg(test)]
mod tests;
