//! What works on nodes: plugins, in processes of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use domain::{NodeInput, NodeOutput, PluginPin, SopInstanceUid};
use serde_json::Value;
use uuid::Uuid;

/// A node to be worked on.
#[derive(Clone, Debug)]
pub struct NodeCall {
    /// The run, so that it can be cancelled.
    pub run: Uuid,
    /// Name of the node or step.
    pub node: String,
    /// The library that does the work.
    pub plugin: PluginPin,
    /// What the workflow sets under `with:`.
    pub settings: Value,
    /// The input.
    pub input: NodeInput,
    /// The files of the instances in the input.
    pub files: BTreeMap<SopInstanceUid, PathBuf>,
    /// How long the work may take.
    pub deadline: Duration,
}

/// Why a node produced nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeFailure {
    /// The input is at fault, and will be on every attempt: a person has to look.
    #[error("{code}: {reason}")]
    Rejected {
        /// What is wrong, as a name that does not change: `geometry_inconsistent`.
        code: String,
        /// What is wrong, in a sentence.
        reason: String,
    },
    /// The environment of the node is at fault: another attempt may succeed.
    #[error("{reason}")]
    Retryable {
        /// What happened.
        reason: String,
    },
    /// The run was cancelled.
    #[error("the run was cancelled")]
    Cancelled,
}

/// Runs plugins.
#[async_trait]
pub trait NodeRunner: Send + Sync {
    /// The current library of a plugin.
    fn pin(&self, plugin: &str) -> Option<PluginPin>;

    /// Works on a node, in a process of its own. Dropping the future ends that process.
    ///
    /// # Errors
    ///
    /// Fails with whether another attempt could succeed.
    async fn run(&self, call: NodeCall) -> Result<NodeOutput, NodeFailure>;

    /// Asks the nodes of a run that are being worked on to stop.
    async fn cancel(&self, run: Uuid);
}
