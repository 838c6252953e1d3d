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

mod check;
mod condition;
mod duration;
mod facts;
mod fan;
mod problem;
mod run;
mod schema;
mod spec;
mod trial;
mod workflow;

pub use condition::{Condition, ConditionError};
pub use duration::optional as optional_duration;
pub use facts::{
    Facts, FindingFacts, MessageFacts, NodeFacts, OrderFacts, SeriesFacts, StudyFacts,
};
pub use fan::{Item, SeriesItem};
pub use problem::{InvalidWorkflow, Problem};
pub use run::{Action, End, IllegalEvent, NodeProgress, Run, RunEvent};
pub use schema::schema;
pub use trial::{Outcome, Trial, trial};
pub use workflow::{
    AT_MOST_DEFAULT, Completion, Delivery, Enough, Expect, ForEach, Join, Late, Node, Overdue,
    Priority, ROLES, Retry, SeriesRule, StudyTrigger, Surroundings, Trigger, Window, Work,
    Workflow, destinations, plugin_settings, read, reread,
};

#[cfg(test)]
mod tests;
