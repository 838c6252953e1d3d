//! What works on nodes: plugins, in processes of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use domain::{IdentityField, NodeInput, NodeOutput, PluginPin, SopInstanceUid};
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
    /// Pages name another patient than the one whom they are filed under, or two patients: a person
    /// has to look.
    #[error("patient_conflict: {}", conflict_reason(pages, fields))]
    OtherPatient {
        /// The numbers of the pages, from one.
        pages: Vec<u32>,
        /// What differs.
        fields: Vec<IdentityField>,
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

/// A sentence without anything of either patient: reasons are read by many.
fn conflict_reason(pages: &[u32], fields: &[IdentityField]) -> String {
    let pages: Vec<String> = pages.iter().map(ToString::to_string).collect();
    let fields: Vec<&str> = fields
        .iter()
        .map(|it| match it {
            IdentityField::Name => "name",
            IdentityField::BirthDate => "date of birth",
            IdentityField::Identifier => "identifier",
            IdentityField::Sex => "sex",
        })
        .collect();
    format!(
        "page {} does not name the patient whom the document is filed under, or its pages name \
         several ({} differs): file it under the right patient, or correct the patient and retry \
         the run",
        pages.join(" and "),
        fields.join(" and ")
    )
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
