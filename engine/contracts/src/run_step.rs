//! What an event changes in a run: its state, its nodes, and what follows outside of it.

use domain::{BlockReason, Event, NodeOutput, OutputKind, Subject, TaskKind};
use jiff::Timestamp;
use serde_json::Value;

use crate::PluginPin;

/// What an event changes in a run.
#[derive(Clone, Debug, Default)]
pub struct RunStep {
    /// The state of the run for the next step. Only `orchestrator` reads it.
    pub state: Value,
    /// How the run ended, if it did.
    pub end: Option<RunEnd>,
    /// Whether a run that had ended goes on.
    pub is_reopened: bool,
    /// Nodes that change.
    pub nodes: Vec<NodeChange>,
    /// Deliveries to queue or block.
    pub deliveries: Vec<NewDelivery>,
    /// Tasks to give to people.
    pub tasks: Vec<NewTask>,
    /// Events to record.
    pub events: Vec<Event>,
}

domain::named_enum! {
    /// How a run ended.
    pub enum RunEnd {
        /// Every node that was needed is done.
        Completed = "completed",
        /// A node failed for good.
        Failed = "failed",
        /// It was cancelled.
        Cancelled = "cancelled",
    }
}

domain::named_enum! {
    /// The state of a node.
    pub enum NodeState {
        /// Nodes before it have not ended.
        Waiting = "waiting",
        /// It waits for a worker.
        Ready = "ready",
        /// A worker is busy with it.
        Running = "running",
        /// It waits for a person.
        InReview = "in_review",
        /// It has an output.
        Done = "done",
        /// It failed for good.
        Failed = "failed",
        /// It was not needed.
        Skipped = "skipped",
        /// It was cancelled with its run.
        Cancelled = "cancelled",
    }
}

/// A change of a node.
#[derive(Clone, Debug)]
pub struct NodeChange {
    /// Name of the node or step.
    pub node: String,
    /// Its new state.
    pub state: NodeState,
    /// The earliest time at which a worker may claim it.
    pub run_after: Option<Timestamp>,
    /// When it should have ended.
    pub due: Option<Timestamp>,
    /// The plugin library that works on it.
    pub plugin: Option<PluginPin>,
    /// What it produced.
    pub output: Option<NodeOutput>,
    /// Why it is in this state, for people; or empty.
    pub reason: String,
}

/// A delivery to queue, or to store as blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// Position in the workflow's `deliver:`.
    pub index: usize,
    /// Name of the destination.
    pub destination: String,
    /// What to send.
    pub what: Vec<OutputKind>,
    /// Why it must not be sent, if it must not.
    pub blocked: Option<Block>,
}

/// Why a delivery must not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The cause, for decisions.
    pub by: BlockReason,
    /// The cause, for people.
    pub reason: String,
}

/// Something that a person has to look at.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// The kind of task.
    pub kind: TaskKind,
    /// What it is about.
    pub subject: Subject,
    /// Why, for people.
    pub reason: String,
}
