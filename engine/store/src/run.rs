//! Runs of workflows: how studies and messages start them, their nodes, and tasks for people.

pub(crate) mod assembly;
pub(crate) mod overdue;
pub(crate) mod prior_reports;
pub(crate) mod record;
pub(crate) mod snapshot;
pub(crate) mod task;
