//! People's work on results: who they are, what they see, and what they decide (OUT-80..83).

use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::{Attestation, ExchangedDocument, Meaning, NodeOutput, Person, ReviewState};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{PluginPin, RunRecord, RunStep, StoreError};

/// Somebody who was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewer {
    /// The token they came with.
    pub token: Uuid,
    /// Who they are.
    pub person: Person,
}

/// A review that waits for somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenReview {
    /// The run.
    pub run: Uuid,
    /// The node.
    pub node: String,
    /// The workflow's name.
    pub workflow: String,
    /// Its definition.
    #[serde(skip)]
    pub definition: String,
    /// The study, if it is about one.
    pub study: Option<String>,
    /// Its accession number.
    pub accession: String,
    /// Since when it waits.
    pub since: Timestamp,
    /// By when it should be done.
    pub due: Option<Timestamp>,
    /// Who has it under their hands.
    pub locked_by: Option<String>,
}

/// A state that somebody gave a result.
#[derive(Clone, Debug, PartialEq)]
pub struct ReviewVersion {
    /// What they made of it.
    pub state: ReviewState,
    /// Who, and when.
    pub attestation: Attestation,
    /// The whole result as they left it.
    pub content: NodeOutput,
}

/// A run as somebody who reviews it needs it.
#[derive(Clone, Debug)]
pub struct ReviewView {
    /// The run.
    pub run: RunRecord,
    /// Steps that wait for a person.
    pub open: Vec<String>,
    /// What its nodes gave.
    pub outputs: BTreeMap<String, NodeOutput>,
    /// What worked on them.
    pub plugins: BTreeMap<String, PluginPin>,
    /// What people made of it, in order.
    pub versions: Vec<ReviewVersion>,
    /// Who has it under their hands, and until when.
    pub lock: Option<(Reviewer, Timestamp)>,
    /// Whether a later run has taken its place.
    pub is_replaced: bool,
}

/// What becomes of the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockChange {
    /// It stays.
    #[default]
    Keep,
    /// The reviewer has it until then.
    Take(Timestamp),
    /// Nobody has it.
    Release,
}

/// A state to give a result.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// What was made of it.
    pub state: ReviewState,
    /// What the signature means, if it is one.
    pub meaning: Option<Meaning>,
    /// Which document it is, as of document messages.
    pub document: u32,
    /// The document it replaces.
    pub replaces: Option<u32>,
    /// The whole result.
    pub content: NodeOutput,
    /// SHA-256 of it, in hex: what a signature is bound to (21 CFR 11.70).
    pub digest: String,
    /// What is other than in the draft.
    pub difference: Value,
    /// Whether draft and content are a pair to learn from.
    pub draft: Option<NodeOutput>,
}

/// What somebody's decision changes.
#[derive(Clone, Debug, Default)]
pub struct ReviewStep {
    /// The lock.
    pub lock: LockChange,
    /// A new state of the result: whoever has an earlier one gets it.
    pub version: Option<NewVersion>,
    /// What changes in the run.
    pub run: Option<RunStep>,
    /// What to put on record. The version is named in the last one.
    pub events: Vec<domain::Event>,
}

/// Why a decision cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewRefusal {
    /// There is no such run, or nothing in it to review.
    #[error("{0}")]
    Unknown(String),
    /// They may not.
    #[error("{0}")]
    Forbidden(String),
    /// It is not as they take it to be.
    #[error("{0}")]
    Conflict(String),
    /// What they want cannot be.
    #[error("{0}")]
    Invalid(String),
}

/// Decides about a result, from rows read in the same transaction.
pub type DecideReview<'a> =
    Box<dyn FnOnce(&ReviewView) -> Result<ReviewStep, ReviewRefusal> + Send + 'a>;

/// Something that came back from outside.
#[derive(Clone, Debug)]
pub struct Returned {
    /// What it is: `seg`, `sr`, `oru` or `mdm`.
    pub source: String,
    /// The instance or message.
    pub origin: String,
    /// What is in it.
    pub what: ReturnedWhat,
    /// Runs on its study, or on studies of its accession number.
    pub runs: Vec<ReviewView>,
    /// Which of these runs composed which object.
    pub followed: Vec<(String, Uuid)>,
}

/// What came back.
#[derive(Clone, Debug)]
pub enum ReturnedWhat {
    /// An object in the archive.
    Instance {
        /// SHA-256 of its data set.
        sha256: String,
    },
    /// A message.
    Message(ExchangedDocument),
}

/// A draft and what somebody outside made of it.
#[derive(Clone, Debug)]
pub struct ReturnedPair {
    /// The run that drafted.
    pub run: Uuid,
    /// The draft.
    pub draft: NodeOutput,
    /// What became of it.
    pub content: NodeOutput,
    /// What is other.
    pub difference: Value,
}

/// What the store remembers of people's work.
#[async_trait]
pub trait ReviewStore: Send + Sync {
    /// Who came with the token of this digest, if it is valid now.
    async fn reviewer(&self, digest: &[u8; 32]) -> Result<Option<Reviewer>, StoreError>;

    /// Reviews that wait for somebody, oldest first.
    async fn open_reviews(&self) -> Result<Vec<OpenReview>, StoreError>;

    /// A run for somebody to look at. Who looked is put on record (AUD-08).
    async fn view_review(&self, run: Uuid, by: &Reviewer)
    -> Result<Option<ReviewView>, StoreError>;

    /// The oldest thing that came back and was not looked at.
    async fn next_returned(&self) -> Result<Option<Returned>, StoreError>;

    /// Puts on record what became of it: the pairs it makes with drafts.
    async fn settle_returned(
        &self,
        source: &str,
        origin: &str,
        pairs: Vec<ReturnedPair>,
    ) -> Result<(), StoreError>;

    /// Changes what was made of a run. Nothing is changed if the decision is refused.
    async fn change_review(
        &self,
        run: Uuid,
        by: &Reviewer,
        decide: DecideReview<'_>,
    ) -> Result<Result<(), ReviewRefusal>, StoreError>;
}
