use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{SendError, StoreError};

/// An instance, as a request for storage commitment names it: in the words of the peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SopReference {
    /// Referenced SOP Class UID (0008,1150).
    pub sop_class: String,
    /// Referenced SOP Instance UID (0008,1155).
    pub sop_instance: String,
}

/// Somebody asks us to answer for the safety of what they sent (PS3.4, J.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentRequest {
    /// Transaction UID (0008,1195).
    pub transaction: String,
    /// Who asks.
    pub calling_ae: String,
    /// As whom we are asked.
    pub called_ae: String,
    /// From which address.
    pub address: String,
    /// For which instances.
    pub references: Vec<SopReference>,
}

/// Why an instance is not committed: Failure Reason (0008,1197), PS3.3, C.14.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FailureReason(pub u16);

impl FailureReason {
    /// The file is not what it was when it was stored.
    pub const PROCESSING_FAILURE: Self = Self(0x0110);
    /// It was never stored here.
    pub const NO_SUCH_OBJECT: Self = Self(0x0112);
    /// It is of another SOP class than the request says.
    pub const CLASS_INSTANCE_CONFLICT: Self = Self(0x0119);
    /// The transaction UID was used before, for something else.
    pub const DUPLICATE_TRANSACTION: Self = Self(0x0131);
}

/// The answer: every instance of the request is in exactly one of the two lists (DIN-31).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitmentResult {
    /// Transaction UID of the request.
    pub transaction: String,
    /// What we answer for.
    pub committed: Vec<SopReference>,
    /// What we do not, and why.
    pub failed: Vec<(SopReference, FailureReason)>,
}

/// A request whose files are to be looked at.
#[derive(Clone, Debug)]
pub struct CommitmentCheck {
    /// Who asked.
    pub peer: String,
    /// Transaction UID.
    pub transaction: String,
    /// What was asked for, with what we have under that name: its SOP class and SHA-256.
    pub references: Vec<(SopReference, Option<(String, String)>)>,
}

/// An answer that is to be given on an association of our own.
#[derive(Clone, Debug)]
pub struct CommitmentReport {
    /// Who asked.
    pub peer: String,
    /// From which address.
    pub address: String,
    /// As whom we were asked.
    pub called_ae: String,
    /// What to answer.
    pub result: CommitmentResult,
    /// Which try this is.
    pub attempt: i32,
}

/// How giving an answer went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportEnd {
    /// The peer has it.
    Reported,
    /// The peer does not, and why.
    NotReported(String),
}

/// Gives answers on associations of its own (DIN-32).
#[async_trait]
pub trait CommitmentReporter: Send + Sync {
    /// Sends the answer and waits for it to be acknowledged.
    ///
    /// # Errors
    ///
    /// Says why the peer does not have it.
    async fn report(&self, report: &CommitmentReport) -> Result<(), SendError>;
}

/// What the engine remembers of storage commitment. Each function is one transaction, and puts on
/// record what it does.
#[async_trait]
pub trait CommitmentStore: Send + Sync {
    /// Keeps a request. The same request again has its answer given again; another one under the
    /// same transaction UID fails for all its instances.
    async fn keep_commitment(&self, request: CommitmentRequest) -> Result<(), StoreError>;

    /// Takes a request whose files nobody has looked at.
    async fn claim_commitment_check(
        &self,
        lease: Duration,
    ) -> Result<Option<CommitmentCheck>, StoreError>;

    /// Ends a look at files. What is committed is kept from then on until policy says otherwise.
    /// The association the request came on may give the answer for `grace`; then we call back.
    async fn finish_commitment_check(
        &self,
        peer: &str,
        result: CommitmentResult,
        grace: Duration,
    ) -> Result<(), StoreError>;

    /// Takes an answer for the association its request came on, once it is known.
    async fn claim_commitment_reply(
        &self,
        peer: &str,
        transaction: &str,
        lease: Duration,
    ) -> Result<Option<CommitmentResult>, StoreError>;

    /// Takes an answer that is due on an association of our own.
    async fn claim_commitment_report(
        &self,
        lease: Duration,
    ) -> Result<Option<CommitmentReport>, StoreError>;

    /// Ends a try to give an answer.
    async fn finish_commitment_report(
        &self,
        peer: &str,
        transaction: &str,
        end: ReportEnd,
    ) -> Result<(), StoreError>;

    /// Takes in the answer of a PACS to a request of ours. False if we never asked.
    async fn note_commitment(
        &self,
        result: CommitmentResult,
        peer: &str,
        address: &str,
    ) -> Result<bool, StoreError>;
}
