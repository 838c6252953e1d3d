//! Workflows: reads workflow files, proves that a workflow can run before any study arrives, and decides at
//! every moment of a run what comes next.
//!
//! - [`read`]: text in, [`Workflow`] out, or every reason why not at once (`load`, `check`, `problem`).
//! - [`Run`]: the state machine of a run: [`RunEvent`]s in, [`Action`]s out.
//! - [`Facts`] and [`Condition`]: what conditions can ask about, and the expressions.
//! - [`trial()`]: runs the tests inside of a workflow file.
//! - [`schema()`]: the JSON Schema of a workflow file. Its keys are documented in
//!   `workflows/README.md`, from the comments of `spec`.
//!
//! **Invariants**
//!
//! - Nothing here waits, or touches a disk or the network. The same input always gives the same answer.
//! - Conditions have no effects and terminate: their size and nesting are bounded (SEC-29).

mod check;
mod condition;
mod duration;
mod facts;
mod fan;
mod load;
mod message_type;
mod problem;
mod run;
mod schema;
mod spec;
mod start;
mod step_name;
mod trial;
mod workflow;

pub use check::CheckContext;
pub use condition::{Condition, ConditionError};
pub use duration::optional as optional_duration;
pub use facts::{
    Facts, FindingFacts, MessageFacts, NodeFacts, OrderFacts, SeriesFacts, StudyFacts,
};
pub use fan::{Item, SeriesItem};
pub use load::{destinations, plugin_settings, read, reread};
pub use message_type::MessageTypePattern;
pub use problem::{InvalidWorkflow, WorkflowProblem};
pub use run::{Action, End, IllegalEvent, NodeProgress, Run, RunEvent};
pub use schema::schema;
pub use step_name::StepName;
pub use trial::{Outcome, Trial, trial};
pub use workflow::{
    Completion, Delivery, Enough, Expect, ForEach, Join, Late, Node, Overdue, Priority, ROLES,
    Retry, SeriesRule, StudyTrigger, Trigger, WAIT_LIMIT_DEFAULT, WaitLimit, Window, Work,
    Workflow,
};

#[cfg(test)]
mod tests;
