//! Storage commitment: peers ask the engine to answer for the safety of what they sent (PS3.4,
//! Annex J).

use std::fmt;
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
    pub failed: Vec<FailedReference>,
}

impl CommitmentResult {
    /// Whether an instance is in one of the two lists.
    fn mentions(&self, reference: &SopReference) -> bool {
        self.committed.contains(reference)
            || self.failed.iter().any(|it| it.reference == *reference)
    }
}

/// An instance that nobody commits to, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedReference {
    /// The instance as the request names it.
    pub reference: SopReference,
    /// Why its storage is not committed.
    pub reason: FailureReason,
}

/// What the Event Type ID of an answer states (PS3.4, J.3.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitmentEvent {
    /// Every instance is committed (1).
    AllCommitted,
    /// At least one instance is not (2).
    FailuresExist,
}

/// The answer of a destination to a request of ours, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentAnswer {
    /// What its Event Type ID states.
    pub event: CommitmentEvent,
    /// What its data set states, for each instance.
    pub result: CommitmentResult,
}

/// One reason why an answer does not commit what was requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommitmentGap {
    /// The destination states that it does not commit the instance.
    Refused(FailedReference),
    /// The answer says nothing about an instance of the request.
    NotMentioned(SopReference),
    /// The answer commits an instance that the request did not name.
    NotRequested(SopReference),
    /// The answer states that there are failures, and names none.
    UnnamedFailure,
}

impl CommitmentAnswer {
    /// Compares the answer with the request, instance by instance. Nothing was lost only if the
    /// result is empty: whatever the event type states, each instance of the request is committed,
    /// and no other (DIN-34).
    pub fn gaps(&self, requested: &[SopReference]) -> Vec<CommitmentGap> {
        let result = &self.result;
        let mut gaps: Vec<CommitmentGap> =
            result.failed.iter().cloned().map(CommitmentGap::Refused).collect();
        let missing = requested.iter().filter(|it| !result.mentions(it));
        gaps.extend(missing.cloned().map(CommitmentGap::NotMentioned));
        let foreign = result.committed.iter().filter(|it| !requested.contains(it));
        gaps.extend(foreign.cloned().map(CommitmentGap::NotRequested));
        if gaps.is_empty() && self.event == CommitmentEvent::FailuresExist {
            gaps.push(CommitmentGap::UnnamedFailure);
        }
        gaps
    }
}

impl fmt::Display for CommitmentGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(FailedReference { reference, reason }) => {
                write!(f, "{} failed with {:#06x}", reference.sop_instance, reason.0)
            }
            Self::NotMentioned(it) => write!(f, "{} is not mentioned", it.sop_instance),
            Self::NotRequested(it) => write!(f, "{} was not requested", it.sop_instance),
            Self::UnnamedFailure => f.write_str("failures without an instance"),
        }
    }
}

/// How many gaps a sentence names.
const GAPS_NAMED_MAX: usize = 5;

/// The gaps of an answer as a sentence for people.
pub fn describe_gaps(gaps: &[CommitmentGap]) -> String {
    let named: Vec<String> = gaps.iter().take(GAPS_NAMED_MAX).map(ToString::to_string).collect();
    let more = match gaps.len().saturating_sub(GAPS_NAMED_MAX) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("the destination did not commit: {}{more}", named.join(", "))
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

    /// Has a request checked again after `wait`: its files cannot be read at the moment.
    async fn postpone_commitment_check(
        &self,
        peer: &str,
        transaction: &str,
        wait: Duration,
    ) -> Result<(), StoreError>;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(number: u32) -> SopReference {
        let sop_class = "1.2.840.10008.5.1.4.1.1.66.4".to_owned();
        SopReference { sop_class, sop_instance: format!("1.2.{number}") }
    }

    fn failed(number: u32) -> FailedReference {
        let reason = FailureReason::NO_SUCH_OBJECT;
        FailedReference { reference: reference(number), reason }
    }

    /// The gaps of an answer to a request for the instances 1 and 2.
    fn gaps(
        event: CommitmentEvent,
        committed: &[SopReference],
        failed: &[FailedReference],
    ) -> Vec<CommitmentGap> {
        let result = CommitmentResult {
            transaction: "1.9".to_owned(),
            committed: committed.to_vec(),
            failed: failed.to_vec(),
        };
        CommitmentAnswer { event, result }.gaps(&[reference(1), reference(2)])
    }

    #[test]
    fn din_34_an_answer_commits_only_if_it_names_every_instance_and_no_other() {
        use CommitmentEvent::{AllCommitted, FailuresExist};
        let both = [reference(2), reference(1)];
        assert_eq!(gaps(AllCommitted, &both, &[]), []);
        assert_eq!(gaps(FailuresExist, &both, &[]), [CommitmentGap::UnnamedFailure]);
        let lost = CommitmentGap::NotMentioned(reference(2));
        assert_eq!(gaps(AllCommitted, &both[1..], &[]), [lost]);
        let three = [reference(1), reference(2), reference(3)];
        let foreign = CommitmentGap::NotRequested(reference(3));
        assert_eq!(gaps(AllCommitted, &three, &[]), [foreign]);
        let refused = CommitmentGap::Refused(failed(2));
        assert_eq!(gaps(AllCommitted, &both[1..], &[failed(2)]), std::slice::from_ref(&refused));
        // An instance that is in both lists is lost.
        assert_eq!(gaps(FailuresExist, &both, &[failed(2)]), [refused]);
    }

    #[test]
    fn din_34_an_instance_of_another_class_is_another_instance() {
        let other = SopReference { sop_class: "1.2".to_owned(), ..reference(2) };
        let found = gaps(CommitmentEvent::AllCommitted, &[reference(1), other.clone()], &[]);
        let missing = CommitmentGap::NotMentioned(reference(2));
        assert_eq!(found, [missing, CommitmentGap::NotRequested(other)]);
    }

    #[test]
    fn gaps_are_named_up_to_a_limit() {
        let gaps: Vec<CommitmentGap> = (0..7).map(failed).map(CommitmentGap::Refused).collect();
        let text = describe_gaps(&gaps);
        assert!(text.starts_with("the destination did not commit: 1.2.0 failed with 0x0112, "));
        assert!(text.ends_with("1.2.4 failed with 0x0112, and 2 more"), "{text}");
    }
}
