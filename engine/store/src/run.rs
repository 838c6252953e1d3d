//! Runs of workflows: the decisions that start them, the queue of their nodes, and tasks for
//! people.

pub(crate) mod assembly;
pub(crate) mod chain;
pub(crate) mod later_results;
pub(crate) mod node_queue;
pub(crate) mod overdue;
pub(crate) mod prior_reports;
pub(crate) mod record;
pub(crate) mod separation;
pub(crate) mod snapshot;
pub(crate) mod task;
#[cfg(test)]
mod tests;
