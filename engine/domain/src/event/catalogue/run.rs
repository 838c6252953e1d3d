//! Events of runs and their nodes.

use uuid::Uuid;

use crate::IdentityField;
use crate::event::body::{details, event};

event! {
    /// A workflow started on a study or message.
    pub struct RunStarted: E {
        /// Name of the workflow.
        workflow: String,
        /// SHA-256 of the workflow's definition, in hex.
        digest: String,
        /// Why it started.
        reason: String,
        /// How many instances it works on.
        instances: usize,
        /// What identifies its input: a workflow runs once on the same input (DIN-53).
        input_key: String,
        /// The earlier run that it amends (DIN-52).
        amends: Option<Uuid>,
        /// Whether it replaces that run's result rather than add to it.
        replaces: Option<bool>,
    }
}

event! {
    /// A run ended with every node done or skipped.
    pub struct RunCompleted: E {}
}

event! {
    /// A run ended without a result because nodes failed.
    pub struct RunFailed: E {
        /// Why, if it was not a node: this version cannot read the run.
        reason: Option<String>,
    }
}

event! {
    /// A run was cancelled.
    pub struct RunCancelled: E {}
}

event! {
    /// What a run rests on is not in force any more: a laboratory corrected or withdrew it, or images
    /// arrived late. Drafts of it are not sent any more; a signed result is for a person.
    pub struct ResultSuperseded: U {
        /// Name of the workflow.
        workflow: String,
        /// The run that replaces it or adds to it.
        by: Option<Uuid>,
        /// Whether a person had signed it.
        is_signed: bool,
    }
}

event! {
    /// A person asked to cancel a run.
    pub struct RunCancelAsked: U {}
}

event! {
    /// A person asked to retry the failed nodes of a run.
    pub struct RunRetryAsked: U {}
}

event! {
    /// A node was handed to its plugin.
    pub struct NodeStarted: E {
        /// Number of the attempt, from one.
        attempt: i32,
        /// Name of the plugin.
        plugin: String,
        /// Version of the plugin.
        version: String,
        /// SHA-256 of the plugin's library, in hex.
        plugin_sha256: String,
    }
}

event! {
    /// A node ended with an output.
    pub struct NodeSucceeded: E {}
}

event! {
    /// The output of a node was stored, encrypted.
    pub struct NodeOutputStored: C {
        /// The engine's key of the payload.
        payload: Uuid,
        /// Digest of the content with a salt that is erased with the patient's key.
        salted_sha256: String,
    }
}

event! {
    /// An attempt on a node failed; the engine will try again.
    pub struct NodeFailed: E {
        /// What went wrong.
        reason: String,
        /// How long it waits before the next attempt, in milliseconds.
        wait_ms: u64,
    }
}

details! {
    /// A node that ended without an output.
    pub struct NodeEnd {
        /// Why it has no output.
        reason: String,
    }
}

event! {
    /// A node failed for good, or its input was rejected; a person was asked.
    pub struct NodeGivenUp(NodeEnd): E;
}

event! {
    /// Pages name another patient than the one whom they are filed under, or two patients. Nothing
    /// of them is used.
    pub struct OtherPatientOnPages: E {
        /// The numbers of the pages, from one.
        pages: Vec<u32>,
        /// What differs.
        fields: Vec<IdentityField>,
    }
}

event! {
    /// A node was skipped: its condition does not hold, or a node before it failed.
    pub struct NodeSkipped(NodeEnd): E;
}

event! {
    /// A node was cancelled together with its run.
    pub struct NodeCancelled(NodeEnd): E;
}

event! {
    /// A run or a node did not end within the time that its workflow promises.
    pub struct SlaMissed: E {
        /// Name of the workflow.
        workflow: String,
    }
}
