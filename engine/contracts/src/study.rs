//! Assembly: studies as decisions see them, and what is decided about studies and messages.

use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::{Event, StudyInstanceUid};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    InputKey, MessageSnapshot, NewRun, NewTask, OrderSnapshot, SeriesSnapshot, StoreError,
};

/// A study as decisions need it.
#[derive(Clone, Debug)]
pub struct StudySnapshot {
    /// Its UID.
    pub study: StudyInstanceUid,
    /// Its patient, after all merges.
    pub patient: Option<Uuid>,
    /// Accession number of its images, or empty.
    pub accession: String,
    /// Study Description, or empty.
    pub description: String,
    /// When its first instance arrived.
    pub first_received: Timestamp,
    /// When its last instance arrived.
    pub last_received: Timestamp,
    /// Its series.
    pub series: Vec<SeriesSnapshot>,
    /// The orders that ask for it (HL7-40).
    pub orders: Vec<OrderSnapshot>,
    /// All runs on it, in the order in which they began.
    pub runs: Vec<RunSnapshot>,
    /// Where the workflows stand that have not started on it, by name.
    pub standings: BTreeMap<String, WorkflowStanding>,
    /// The associations that brought instances of it.
    pub associations: Associations,
    /// What modalities state that they have sent of it, in requests for storage commitment.
    pub announced: Announced,
}

/// Why a workflow has not started on a study.
///
/// It is stored with the study, so that the same reason is recorded and escalated once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowStanding {
    /// Why, for people.
    pub reason: String,
    /// Whether the workflow never starts on this study, whatever arrives later.
    #[serde(default)]
    pub is_abandoned: bool,
}

/// The associations that brought instances of a study.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Associations {
    /// How many have not ended.
    pub open: usize,
    /// When the last of the others ended.
    pub last_ended: Option<Timestamp>,
}

/// What modalities state that they have sent of a study.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// How many instances.
    pub instances: usize,
    /// How many of them have not arrived.
    pub missing: usize,
}

/// A run on a study as decisions need it.
#[derive(Clone, Debug)]
pub struct RunSnapshot {
    /// The engine's key of the run.
    pub id: Uuid,
    /// Name of its workflow.
    pub workflow: String,
    /// Whether it has ended.
    pub has_ended: bool,
    /// What it was started with and on (DIN-53).
    pub input_key: InputKey,
    /// When the first instance arrived that it has not worked on.
    pub first_later: Option<Timestamp>,
    /// The first of the runs that it adds to or replaces; its own key if there is none.
    pub first: Uuid,
    /// Whether a person has signed its result, and it was not withdrawn.
    pub is_signed: bool,
}

/// What is decided about a study.
#[derive(Clone, Debug, Default)]
pub struct StudyStep {
    /// Runs to start.
    pub start: Vec<NewRun>,
    /// Tasks to give to people.
    pub tasks: Vec<NewTask>,
    /// Events to record.
    pub events: Vec<Event>,
    /// When to look at the study again, if nothing about it changes before.
    pub look_again: Option<Timestamp>,
    /// Where the workflows stand now that have not started.
    pub standings: BTreeMap<String, WorkflowStanding>,
}

/// What is decided about a message.
#[derive(Clone, Debug, Default)]
pub struct MessageStep {
    /// Runs to start.
    pub start: Vec<NewRun>,
    /// Tasks to give to people.
    pub tasks: Vec<NewTask>,
    /// Events to record.
    pub events: Vec<Event>,
}

/// Decides about a study, from rows read in the same transaction.
pub type DecideStudy<'a> = Box<dyn FnOnce(&StudySnapshot) -> StudyStep + Send + 'a>;

/// Decides about a message, from rows read in the same transaction.
pub type DecideMessage<'a> = Box<dyn FnMut(&MessageSnapshot) -> MessageStep + Send + 'a>;

/// Hands out studies and messages to decide about, and stores the decisions.
#[async_trait]
pub trait AssemblyStore: Send + Sync {
    /// Decides about one study that is due at `now`. False if none is.
    async fn decide_study(
        &self,
        now: Timestamp,
        decide: DecideStudy<'_>,
    ) -> Result<bool, StoreError>;

    /// Decides about messages that nobody has decided about, in order of arrival. False if there
    /// are none.
    async fn decide_messages(&self, decide: DecideMessage<'_>) -> Result<bool, StoreError>;
}
