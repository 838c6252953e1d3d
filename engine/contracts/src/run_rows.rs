//! Rows of runs, their nodes and their queue, and of what they work on.

use std::collections::BTreeMap;

use domain::{
    Amended, Event, ExchangedDocument, KnownReport, NodeOutput, SeriesInstanceUid, SopClassUid,
    SopInstanceUid, StudyInstanceUid, WorkflowRef,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{OrderSnapshot, OutputKind, PluginPin};

/// A series, as decisions need it.
#[derive(Clone, Debug)]
pub struct SeriesSnapshot {
    /// Which series.
    pub series: SeriesInstanceUid,
    /// Its modality.
    pub modality: String,
    /// Whether this engine made it.
    pub is_own: bool,
    /// Its body part.
    pub body_part: String,
    /// Its description.
    pub description: String,
    /// Its instances, by name.
    pub instances: Vec<StoredInstance>,
}

/// An instance, as decisions need it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredInstance {
    /// Which instance.
    pub instance: SopInstanceUid,
    /// What kind.
    pub sop_class: SopClassUid,
    /// SHA-256 of its data set.
    pub sha256: String,
}

/// A run to start.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its key.
    pub id: Uuid,
    /// The version of the workflow it will follow to its end.
    pub workflow: WorkflowRef,
    /// Text of that version.
    pub definition: String,
    /// Whose.
    pub patient: Option<Uuid>,
    /// The study it is about.
    pub study: Option<StudyInstanceUid>,
    /// The message it is about.
    pub message: Option<Uuid>,
    /// Lower goes first.
    pub priority: i16,
    /// Same key, same run: a second one is not started (DIN-53).
    pub input_key: String,
    /// Instances it works on.
    pub instances: Vec<StoredInstance>,
    /// Why now.
    pub reason: String,
    /// The earlier run it adds to or replaces.
    pub amends: Option<Amended>,
    /// By when it should have ended.
    pub due: Option<Timestamp>,
    /// Its first step.
    pub step: RunStep,
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// For others before it.
    Waiting,
    /// For a worker.
    Ready,
    /// Somebody works on it.
    Running,
    /// For a person.
    InReview,
    /// It gave what it should.
    Done,
    /// It gave nothing.
    Failed,
    /// It was not needed.
    Skipped,
    /// It was taken back.
    Cancelled,
}

impl NodeState {
    /// As the database spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::InReview => "in_review",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A node that changes.
#[derive(Clone, Debug)]
pub struct NodeChange {
    /// Which.
    pub node: String,
    /// How it stands from now on.
    pub state: NodeState,
    /// Not to be worked on before this time.
    pub run_after: Option<Timestamp>,
    /// By when it should have ended.
    pub due: Option<Timestamp>,
    /// What works on it.
    pub plugin: Option<PluginPin>,
    /// What it gave.
    pub output: Option<NodeOutput>,
    /// Why it stands so.
    pub reason: String,
}

/// Why a delivery must not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The cause, by which the engine finds out when it is resolved.
    pub by: domain::BlockReason,
    /// The cause in a sentence, for people.
    pub reason: String,
}

/// Something to send once it is composed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// Place in the workflow's `deliver:`.
    pub index: usize,
    /// Where to.
    pub destination: String,
    /// What.
    pub what: Vec<OutputKind>,
    /// Why it must not be sent, if so.
    pub blocked: Option<Block>,
}

/// Something a person has to look at.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// Why a person has to look.
    pub kind: domain::TaskKind,
    /// What about.
    pub subject: domain::Subject,
    /// Why.
    pub reason: String,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    /// Every node that was needed is done.
    Completed,
    /// A node failed for good.
    Failed,
    /// It was taken back.
    Cancelled,
}

impl RunEnd {
    /// As the database spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What changes in a run.
#[derive(Clone, Debug, Default)]
pub struct RunStep {
    /// The run's own state, as `workflow` keeps it.
    pub state: Value,
    /// How it ended, if it did.
    pub end: Option<RunEnd>,
    /// Whether it goes on after it had ended.
    pub is_reopened: bool,
    /// Nodes that change.
    pub nodes: Vec<NodeChange>,
    /// What to send.
    pub deliveries: Vec<NewDelivery>,
    /// What a person has to look at.
    pub tasks: Vec<NewTask>,
    /// What to put on record.
    pub events: Vec<Event>,
}

/// A run as it is kept.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Which run.
    pub id: Uuid,
    /// Its workflow.
    pub workflow: WorkflowRef,
    /// Text of the workflow.
    pub definition: String,
    /// The run's own state.
    pub state: Value,
    /// Whose, after all merges.
    pub patient: Option<Uuid>,
    /// The study it is about.
    pub study: Option<StudyInstanceUid>,
    /// The message it is about.
    pub message: Option<Uuid>,
    /// Whether it has ended.
    pub has_ended: bool,
    /// The earlier run it adds to or replaces.
    pub amends: Option<Amended>,
}

/// A node for us to work on.
#[derive(Clone, Debug)]
pub struct ClaimedNode {
    /// Its run.
    pub run: RunRecord,
    /// Its name.
    pub node: String,
    /// Which try this is; finishing another one is refused.
    pub attempt: i32,
    /// What works on it.
    pub plugin: PluginPin,
    /// The instances of the run, by series.
    pub series: Vec<SeriesSnapshot>,
    /// The message of the run.
    pub document: Option<ExchangedDocument>,
    /// What the other nodes gave so far.
    pub outputs: BTreeMap<String, NodeOutput>,
    /// The orders that ask for the study.
    pub orders: Vec<OrderSnapshot>,
    /// What people have reported of the patient, the newest first.
    pub reports: Vec<KnownReport>,
}
