//! Deliveries: their queue, each attempt, and the state of destinations.

pub(crate) mod attempt;
pub(crate) mod commitment_answer;
pub(crate) mod destination;
