//! Review: what people see of results, and what they decide (OUT-80..83).

use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::{Attestation, Meaning, NodeOutput, Person, ReviewState};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{PluginPin, RunRecord, RunStep, StoreError};

/// A person who was authenticated by a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewer {
    /// The engine's key of the token.
    pub token: Uuid,
    /// Name, organization and role.
    pub person: Person,
}

/// A review that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenReview {
    /// The run.
    pub run: Uuid,
    /// The node.
    pub node: String,
    /// The workflow's name.
    pub workflow: String,
    /// Text of the workflow.
    #[serde(skip)]
    pub definition: String,
    /// The study, if it is about one.
    pub study: Option<String>,
    /// Its accession number.
    pub accession: String,
    /// When it began to wait.
    pub since: Timestamp,
    /// When it should be done.
    pub due: Option<Timestamp>,
    /// The person who has reserved it.
    pub locked_by: Option<String>,
    /// The run whose signed result stands until this one is signed: this one is a proposal.
    pub signed_before: Option<Uuid>,
}

/// A version that a person gave a result.
#[derive(Clone, Debug, PartialEq)]
pub struct ReviewVersion {
    /// What the person decided.
    pub state: ReviewState,
    /// Who decided, and when.
    pub attestation: Attestation,
    /// The whole content of the version.
    pub content: NodeOutput,
}

/// A signed result of an earlier run, which stands while nobody has signed the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandingResult {
    /// The earlier run.
    pub run: Uuid,
    /// Number of its document in document messages (HL7 MDM).
    pub document: u32,
    /// Whether the later result takes its place once it is signed; otherwise it adds to it.
    pub is_replaced: bool,
}

/// A run as reviews need it.
#[derive(Clone, Debug)]
pub struct ReviewView {
    /// The run.
    pub run: RunRecord,
    /// The nodes that wait for a person.
    pub open: Vec<String>,
    /// The outputs of its nodes.
    pub outputs: BTreeMap<String, NodeOutput>,
    /// The plugin libraries that made them.
    pub plugins: BTreeMap<String, PluginPin>,
    /// The versions that people gave its result, in order.
    pub versions: Vec<ReviewVersion>,
    /// The reservation of its result, if it is reserved now.
    pub lock: Option<ReviewLock>,
    /// Whether a later run that a person signed replaces it.
    pub is_replaced: bool,
    /// The signed result that stands until this one is signed.
    pub standing: Option<StandingResult>,
}

/// A reservation of a result for one reviewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewLock {
    /// The reviewer.
    pub holder: Reviewer,
    /// When the reservation expires.
    pub until: Timestamp,
}

/// What becomes of the reservation of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockChange {
    /// It stays.
    #[default]
    Keep,
    /// The reviewer has it until this time.
    Take(Timestamp),
    /// Nobody has it.
    Release,
}

/// A new version of a result.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// What the person decided.
    pub state: ReviewState,
    /// What the signature means, if it is one.
    pub meaning: Option<Meaning>,
    /// Number of the document that it is in document messages (HL7 MDM).
    pub document: u32,
    /// Number of the document that it replaces.
    pub replaces: Option<u32>,
    /// The whole content.
    pub content: NodeOutput,
    /// SHA-256 of it, in hex: what a signature is bound to (21 CFR 11.70).
    pub digest: String,
    /// How it differs from the draft.
    pub difference: Value,
    /// The draft, if draft and content are a pair to learn from.
    pub draft: Option<NodeOutput>,
}

/// What a person did with a result, as the trail records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewChange {
    /// Reserved it.
    Claimed,
    /// Gave the reservation up.
    Released,
    /// Changed it without signing.
    Edited,
    /// Signed it.
    Signed,
    /// Rejected the draft.
    Rejected,
    /// Changed it after it was signed, and signed it anew.
    Amended,
    /// Withdrew it after it was signed.
    Withdrawn,
}

/// What the decision of a person changes.
#[derive(Clone, Debug)]
pub struct ReviewStep {
    /// What to record.
    pub change: ReviewChange,
    /// What becomes of the reservation.
    pub lock: LockChange,
    /// A new version of the result. Destinations that have an earlier version get it.
    pub version: Option<NewVersion>,
    /// What changes in the run.
    pub run: Option<RunStep>,
}

/// Why a decision is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewRefusal {
    /// There is no such run, or nothing in it to review.
    #[error("{0}")]
    Unknown(String),
    /// The person has no role that may.
    #[error("{0}")]
    Forbidden(String),
    /// The result has changed, is reserved, or is in a state that does not allow the decision.
    #[error("{0}")]
    Conflict(String),
    /// The new content or the reason is not valid.
    #[error("{0}")]
    Invalid(String),
    /// What the decision needs cannot be read now, and may be later.
    #[error("{0}")]
    Unavailable(String),
}

/// Decides about a result, from rows read in the same transaction.
pub type DecideReview<'a> =
    Box<dyn FnOnce(&ReviewView) -> Result<ReviewStep, ReviewRefusal> + Send + 'a>;

/// Reads results for people, and stores what they decide.
#[async_trait]
pub trait ReviewStore: Send + Sync {
    /// The person whose token has this SHA-256, if the token is valid now.
    async fn find_reviewer(&self, digest: &[u8; 32]) -> Result<Option<Reviewer>, StoreError>;

    /// The reviews that wait for a person, oldest first.
    async fn open_reviews(&self) -> Result<Vec<OpenReview>, StoreError>;

    /// A run for a person to look at. That the person looked is recorded (AUD-08).
    async fn view_review(
        &self,
        run: Uuid,
        reviewer: &Reviewer,
    ) -> Result<Option<ReviewView>, StoreError>;

    /// Changes the result of a run. Nothing is changed if the decision is refused.
    async fn change_review(
        &self,
        run: Uuid,
        reviewer: &Reviewer,
        decide: DecideReview<'_>,
    ) -> Result<Result<(), ReviewRefusal>, StoreError>;
}
