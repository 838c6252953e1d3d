use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use domain::{NodeInput, NodeOutput, SopInstanceUid};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// One very library.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PluginPin {
    /// Name of the plugin.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the library, in hex.
    pub digest: String,
}

/// A node to be worked on.
#[derive(Clone, Debug)]
pub struct NodeCall {
    /// The run, for cancelling.
    pub run: Uuid,
    /// The node's name.
    pub node: String,
    /// What does the work.
    pub plugin: PluginPin,
    /// What the workflow sets under `with:`.
    pub settings: Value,
    /// What to work on.
    pub input: NodeInput,
    /// Where the instances of the input lie.
    pub files: BTreeMap<SopInstanceUid, PathBuf>,
    /// How long it may take.
    pub deadline: Duration,
}

/// Why a node produced nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeFailure {
    /// The input is at fault, and would be tomorrow: a person has to look.
    #[error("{code}: {reason}")]
    Rejected {
        /// What is wrong, in a word: `geometry_inconsistent`.
        code: String,
        /// What is wrong, in a sentence.
        reason: String,
    },
    /// Something around the node is at fault: another try may help.
    #[error("{reason}")]
    Retryable {
        /// What happened.
        reason: String,
    },
    /// Somebody asked to stop.
    #[error("the run was cancelled")]
    Cancelled,
}

/// Has nodes worked on by plugins.
#[async_trait]
pub trait NodeRunner: Send + Sync {
    /// The library that now answers to `plugin`.
    fn pin(&self, plugin: &str) -> Option<PluginPin>;

    /// Works on a node, in a process of its own. Dropping the future ends that process.
    ///
    /// # Errors
    ///
    /// Says whether another try could help.
    async fn run(&self, call: NodeCall) -> Result<NodeOutput, NodeFailure>;

    /// Asks the nodes of a run that are being worked on to stop.
    async fn cancel(&self, run: Uuid);
}
