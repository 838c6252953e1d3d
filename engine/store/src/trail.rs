//! The audit trail: appending events, sealing them into signed batches, exporting and verifying.

pub(crate) mod append;
pub(crate) mod count;
pub(crate) mod fault;
pub mod file;
pub(crate) mod loss;
pub(crate) mod refusal;
pub(crate) mod sealer;
pub(crate) mod signed;
#[cfg(test)]
mod tests;
