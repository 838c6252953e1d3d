//! Storage commitment: peers ask the engine to answer for the safety of what they sent (PS3.4,
//! Annex J).

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{SendError, StoreError};

/// An instance as a request for storage commitment names it. The UIDs are those that the peer sent,
/// valid or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SopReference {
    /// Referenced SOP Class UID (0008,1150).
    pub sop_class: String,
    /// Referenced SOP Instance UID (0008,1155).
    pub sop_instance: String,
}

/// The request of a peer (PS3.4, J.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentRequest {
    /// Transaction UID (0008,1195).
    pub transaction: String,
    /// AE title of the peer.
    pub calling_ae: String,
    /// AE title of the engine that the peer called.
    pub called_ae: String,
    /// Network address of the peer.
    pub address: String,
    /// The instances.
    pub references: Vec<SopReference>,
}

/// Why an instance is not committed: Failure Reason (0008,1197), PS3.3, C.14.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FailureReason(pub u16);

impl FailureReason {
    /// The file is not what it was when it was stored.
    pub const PROCESSING_FAILURE: Self = Self(0x0110);
    /// The instance was never stored here.
    pub const NO_SUCH_OBJECT: Self = Self(0x0112);
    /// The instance is of another SOP class than the request states.
    pub const CLASS_INSTANCE_CONFLICT: Self = Self(0x0119);
    /// The transaction UID was used before, for something else.
    pub const DUPLICATE_TRANSACTION: Self = Self(0x0131);
}

/// The answer: every instance of the request is in exactly one of the two lists (DIN-31).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitmentResult {
    /// Transaction UID of the request.
    pub transaction: String,
    /// The instances that the engine commits itself to.
    pub committed: Vec<SopReference>,
    /// The other instances, each with why.
    pub failed: Vec<(SopReference, FailureReason)>,
}

/// A request whose files are to be checked.
#[derive(Clone, Debug)]
pub struct CommitmentCheck {
    /// AE title of the peer.
    pub peer: String,
    /// Transaction UID.
    pub transaction: String,
    /// The instances of the request.
    pub references: Vec<ReferenceToCheck>,
}

/// An instance of a request, with what is stored under its UID.
#[derive(Clone, Debug)]
pub struct ReferenceToCheck {
    /// The instance as the request names it.
    pub reference: SopReference,
    /// What is stored under that UID, if anything is.
    pub stored: Option<StoredReference>,
}

/// A stored object, to compare with a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReference {
    /// Its SOP class.
    pub sop_class: String,
    /// SHA-256 of its data set, in hex.
    pub sha256: String,
}

/// A result that is to be reported on an association of the engine's own.
#[derive(Clone, Debug)]
pub struct CommitmentReport {
    /// AE title of the peer.
    pub peer: String,
    /// Network address that the request came from.
    pub address: String,
    /// AE title of the engine that the peer called.
    pub called_ae: String,
    /// The result to report.
    pub result: CommitmentResult,
    /// Number of the attempt, from one.
    pub attempt: i32,
}

/// How an attempt to report a result ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportEnd {
    /// The peer acknowledged it.
    Reported,
    /// The peer did not, and why.
    NotReported(String),
}

/// Reports results on associations of the engine's own (DIN-32).
#[async_trait]
pub trait CommitmentReporter: Send + Sync {
    /// Sends a result and waits for it to be acknowledged.
    ///
    /// # Errors
    ///
    /// Fails with why the peer does not have it.
    async fn report(&self, report: &CommitmentReport) -> Result<(), SendError>;
}

/// Stores requests of peers, and hands out what is to be checked and reported.
#[async_trait]
pub trait CommitmentStore: Send + Sync {
    /// Stores a request. A repeated request has its result reported again. Another request with
    /// the same transaction UID fails for all its instances.
    async fn store_commitment_request(&self, request: CommitmentRequest) -> Result<(), StoreError>;

    /// Claims a request whose files are yet to be checked.
    async fn claim_commitment_check(
        &self,
        lease: Duration,
    ) -> Result<Option<CommitmentCheck>, StoreError>;

    /// Stores the result of a check. The committed instances are retained from then on until the
    /// site's policy lets them expire. The association of the request may deliver the result for
    /// `grace`; afterwards the engine calls back.
    async fn finish_commitment_check(
        &self,
        peer: &str,
        result: CommitmentResult,
        grace: Duration,
    ) -> Result<(), StoreError>;

    /// Claims a result for the association that its request came on, once it is known.
    async fn claim_commitment_reply(
        &self,
        peer: &str,
        transaction: &str,
        lease: Duration,
    ) -> Result<Option<CommitmentResult>, StoreError>;

    /// Claims a result that is to be reported on an association of the engine's own.
    async fn claim_commitment_report(
        &self,
        lease: Duration,
    ) -> Result<Option<CommitmentReport>, StoreError>;

    /// Ends an attempt to report a result.
    async fn finish_commitment_report(
        &self,
        peer: &str,
        transaction: &str,
        end: ReportEnd,
    ) -> Result<(), StoreError>;
}
