//! Reads workflow files, proves that a workflow can run before any study does, and says at every
//! moment of a run what comes next.
//!
//! [`read`] is the first half: text in, [`Workflow`] out, or every reason why not at once. [`Run`]
//! is the second: what happened in, what to do out. [`trial`] runs the tests inside of a file.
//! The keys of a file are documented in `workflows/README.md`, from the comments of `spec`.
//!
//! **Invariants**
//!
//! - Nothing here runs, waits, or touches a disk. The same input always gives the same answer.
//! - Conditions have no effects and end: their size and nesting are bounded.

mod condition;
mod duration;
mod facts;
mod problem;
mod run;
mod spec;
mod trial;
mod workflow;

pub use condition::{Condition, ConditionError};
pub use facts::{Facts, MessageFacts, OrderFacts, StudyFacts};
pub use problem::{InvalidWorkflow, Problem};
pub use run::{Action, End, IllegalEvent, NodeProgress, Run, RunEvent};
pub use trial::{Outcome, trial};
pub use workflow::{
    Completion, Delivery, Late, Node, Overdue, Priority, Retry, StudyTrigger, Surroundings,
    Trigger, Workflow, destinations, plugin_settings, read, reread,
};

#[cfg(test)]
mod tests;
