//! Runs, their nodes and their queue.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use domain::{
    Amended, ExchangedDocument, FiledPatient, KnownReport, NodeOutput, StudyInstanceUid,
    WorkflowRef,
};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::{OrderSnapshot, PluginPin, RunStep, SeriesSnapshot, StoreError, StoredInstance};

/// What a run is started with and on. A second run with the same key is not started (DIN-53).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputKey {
    /// SHA-256 of the workflow's name, text and settings, in hex.
    pub definition: String,
    /// SHA-256 of the instances, in hex; or the engine's key of the message.
    pub content: String,
}

impl InputKey {
    /// The key as [`fmt::Display`] writes it for the database.
    pub fn parse(text: &str) -> Self {
        let (definition, content) = text.split_once(':').unwrap_or(("", text));
        Self { definition: definition.to_owned(), content: content.to_owned() }
    }
}

impl fmt::Display for InputKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.definition, self.content)
    }
}

/// A run to start.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The engine's key of the run.
    pub id: Uuid,
    /// The version of the workflow that it follows to its end.
    pub workflow: WorkflowRef,
    /// Text of that version.
    pub definition: String,
    /// Its patient.
    pub patient: Option<Uuid>,
    /// The study that it is about.
    pub study: Option<StudyInstanceUid>,
    /// The message that it is about.
    pub message: Option<Uuid>,
    /// Position in the queue: lower is served first.
    pub priority: i16,
    /// What it is started with and on.
    pub input_key: InputKey,
    /// The instances that it works on.
    pub instances: Vec<StoredInstance>,
    /// Why it starts now, for people.
    pub reason: String,
    /// The earlier run that it adds to or replaces.
    pub amends: Option<Amended>,
    /// When it should have ended.
    pub due: Option<Timestamp>,
    /// Its first step.
    pub step: RunStep,
}

/// A run as it is stored.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// The engine's key of the run.
    pub id: Uuid,
    /// The version of its workflow.
    pub workflow: WorkflowRef,
    /// Text of that version.
    pub definition: String,
    /// The state of the run after its last step. Only `orchestrator` reads it.
    pub state: Value,
    /// Its patient, after all merges.
    pub patient: Option<Uuid>,
    /// The study that it is about.
    pub study: Option<StudyInstanceUid>,
    /// The message that it is about.
    pub message: Option<Uuid>,
    /// Whether it has ended.
    pub has_ended: bool,
    /// The earlier run that it adds to or replaces.
    pub amends: Option<Amended>,
}

/// One attempt at a node. Only the newest attempt may change the node (fencing).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeAttempt {
    /// The run.
    pub run: Uuid,
    /// Name of the node or step.
    pub node: String,
    /// Number of the attempt, from one.
    pub number: i32,
}

/// A node that a worker has claimed, with everything its input is made of.
#[derive(Clone, Debug)]
pub struct ClaimedNode {
    /// Its run.
    pub run: RunRecord,
    /// Name of the node or step.
    pub node: String,
    /// Number of the attempt, from one.
    pub attempt: i32,
    /// The plugin library that works on it.
    pub plugin: PluginPin,
    /// The patient whom it is filed under at this moment.
    pub patient: Option<FiledPatient>,
    /// The instances of the run, by series.
    pub series: Vec<SeriesSnapshot>,
    /// The document in the message of the run.
    pub document: Option<ExchangedDocument>,
    /// The outputs of the other nodes so far.
    pub outputs: BTreeMap<String, NodeOutput>,
    /// The orders that ask for the study.
    pub orders: Vec<OrderSnapshot>,
    /// Earlier reports about the patient, newest first.
    pub reports: Vec<KnownReport>,
}

impl ClaimedNode {
    /// The attempt that this claim began.
    pub fn attempt(&self) -> NodeAttempt {
        NodeAttempt { run: self.run.id, node: self.node.clone(), number: self.attempt }
    }
}

/// Decides about a run, from rows read in the same transaction. `None` changes nothing.
pub type DecideRun<'a> = Box<dyn FnOnce(&RunRecord) -> Option<RunStep> + Send + 'a>;

/// Stores runs, and hands out their nodes.
#[async_trait]
pub trait RunStore: Send + Sync {
    /// Claims the most urgent node for `lease`. No other worker gets it meanwhile.
    async fn claim_node(&self, lease: Duration) -> Result<Option<ClaimedNode>, StoreError>;

    /// Extends the lease of an attempt.
    ///
    /// # Errors
    ///
    /// [`StoreError::Superseded`] if the attempt is no longer the current one, or the run was
    /// cancelled.
    async fn renew_node(&self, attempt: &NodeAttempt, lease: Duration) -> Result<(), StoreError>;

    /// Changes a run. With `attempt`, only if that is still the current attempt at its node.
    ///
    /// # Errors
    ///
    /// [`StoreError::Superseded`] if it is not.
    async fn change_run(
        &self,
        run: Uuid,
        attempt: Option<&NodeAttempt>,
        decide: DecideRun<'_>,
    ) -> Result<(), StoreError>;

    /// The attempts whose lease has expired.
    async fn abandoned_nodes(&self) -> Result<Vec<NodeAttempt>, StoreError>;

    /// Records which runs and nodes have missed their deadline, once each, and gives them to a
    /// person. Returns how many.
    async fn report_overdue(&self) -> Result<u64, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_key_is_read_as_it_was_written() {
        let key = InputKey { definition: "d1".to_owned(), content: "c1".to_owned() };
        assert_eq!(InputKey::parse(&key.to_string()), key);
        assert_eq!(InputKey::parse("c1").content, "c1");
    }
}
