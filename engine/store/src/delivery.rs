//! Deliveries: their queue, what each is composed of, how each attempt ends, and how destinations
//! fare.

pub(crate) mod attempt;
pub(crate) mod commitment_answer;
pub(crate) mod compose;
pub(crate) mod destination;
pub(crate) mod queue;
pub(crate) mod sent;
#[cfg(test)]
mod tests;
pub(crate) mod view;
