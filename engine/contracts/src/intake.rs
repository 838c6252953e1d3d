//! What listeners hand to the engine, and how the engine answers.
//!
//! One trait per aggregate, so that a listener, or a service behind it, asks only for what it uses:
//!
//! - [`Admission`]: whether anything can be accepted now;
//! - [`InstanceIntake`]: DICOM instances;
//! - [`MessageIntake`]: HL7 messages and documents;
//! - [`CommitmentIntake`]: storage commitment, in both directions;
//! - [`EventSink`]: what happens at a listener and belongs in the trail.

use std::sync::Arc;

use async_trait::async_trait;
use domain::{DemographicsChange, Event, ExchangedDocument, Order, PatientId};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    Archive, CommitmentRequest, CommitmentResult, InstanceArrival, InstanceOutcome, Quarantined,
    ReportEnd,
};

/// Why something was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{comment}")]
pub struct Refusal {
    /// Who is at fault.
    pub reason: RefusalReason,
    /// What is wrong, in at most 64 characters, without a word of the patient.
    pub comment: String,
}

/// Who is at fault when something is not taken, and so whether another try could help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// We are: no room, no database. Try again.
    OutOfResources,
    /// The data set cannot be read.
    CannotUnderstand,
    /// The data set is of another SOP class than announced, or lacks its identity.
    DoesNotMatchClass,
    /// The SOP Instance UID is malformed, or another one than announced.
    InvalidInstance,
}

impl Refusal {
    /// A refusal.
    pub fn new(reason: RefusalReason, comment: impl Into<String>) -> Self {
        let mut comment: String = comment.into();
        comment.truncate(comment.floor_char_boundary(64));
        Self { reason, comment }
    }
}

/// A message as it arrived, and what it means.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageArrival {
    /// From which address.
    pub address: String,
    /// On which connection, if that brings one after the other.
    pub connection: Option<Uuid>,
    /// The bytes between the delimiters of the frame.
    pub raw: Vec<u8>,
    /// SHA-256 of `raw`, in hex.
    pub sha256: String,
    /// MSH-3.
    pub sending_application: String,
    /// MSH-4.
    pub sending_facility: String,
    /// MSH-9, such as `ORU^R01`.
    pub message_type: domain::MessageType,
    /// MSH-10.
    pub control_id: String,
    /// When it was said, by the sender's clock (EVN-2 or MSH-7), if it says so.
    pub said_at: Option<Timestamp>,
    /// What it asks to change.
    pub effects: Vec<MessageEffect>,
    /// What will be answered once it is kept.
    pub answers: Answers,
    /// MSA-1 of the first answer.
    pub acknowledgement_code: String,
    /// Why it is refused, if it is; without a word of the patient.
    pub problem: Option<String>,
}

/// What is answered to a message: one or both, in this order (HL7-10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The acknowledgement of the original mode, or the accept acknowledgement of the enhanced one.
    pub first: Option<Vec<u8>>,
    /// The application acknowledgement of the enhanced mode.
    pub application: Option<Vec<u8>>,
}

/// Why two identifiers are one patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeKind {
    /// Two turned out to be one (ADT^A40 and older ones).
    Merge,
    /// One was given another identifier (ADT^A47 and older ones).
    Rename,
    /// What was filed under one belongs to the other (ADT^A43).
    Move,
}

/// What accounts and visits are: what an order belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encounter {
    /// PID-18.
    Account,
    /// PV1-19.
    Visit,
}

/// What a message asks to change.
#[derive(Clone, Debug, PartialEq)]
pub enum MessageEffect {
    /// There is a patient, and this is who it is.
    Patient {
        /// By what the patient is known.
        id: PatientId,
        /// Who it is.
        demographics: DemographicsChange,
    },
    /// Two identifiers turned out to be one patient.
    Merge {
        /// Why.
        kind: MergeKind,
        /// The one that stays, PID-3.
        survivor: PatientId,
        /// The one that goes, MRG-1.
        source: PatientId,
        /// Who it is.
        demographics: DemographicsChange,
    },
    /// Two patients belong together, or no longer; nothing moves (ADT^A24, ADT^A37).
    Link {
        /// One.
        one: PatientId,
        /// The other.
        other: PatientId,
        /// Whether they do.
        is_linked: bool,
    },
    /// An account or visit belongs to another patient (ADT^A44, ADT^A45).
    MoveEncounter {
        /// Which of the two.
        what: Encounter,
        /// Its number.
        number: String,
        /// Whose it was, MRG-1.
        source: PatientId,
        /// Whose it is, PID-3.
        target: PatientId,
    },
    /// An account or visit has another number (ADT^A35, ADT^A49, ADT^A50, …).
    RenumberEncounter {
        /// Which of the two.
        what: Encounter,
        /// The number that goes.
        old: String,
        /// The number that stays.
        new: String,
    },
    /// Something is asked for, or no longer.
    Order(Box<Order>),
    /// Results or a document came.
    Document {
        /// Of whom, if it says so.
        patient: Option<PatientId>,
        /// What it says.
        document: ExchangedDocument,
        /// Order numbers and accession it answers to, for [`domain::OrderKey`].
        accession: String,
    },
}

/// Whether the engine accepts anything now: a full disk or a database that is gone closes it.
pub trait Admission: Send + Sync {
    /// Checks that what peers send on connections that are open already can be stored.
    ///
    /// # Errors
    ///
    /// Fails with the reason why nothing can be stored.
    fn check_open(&self) -> Result<(), Refusal>;

    /// Checks that new connections may be opened. Those that are open may go on as long as
    /// [`Self::check_open`] succeeds.
    ///
    /// # Errors
    ///
    /// Fails with the reason why no new connection is accepted.
    fn check_admitting(&self) -> Result<(), Refusal> {
        self.check_open()
    }
}

/// Stores the DICOM instances that peers send.
#[async_trait]
pub trait InstanceIntake: Admission {
    /// The archive that data sets are streamed to while they arrive.
    fn archive(&self) -> &Arc<dyn Archive>;

    /// Stores an instance. Once it returns `Ok`, the instance and its event survive a loss of power.
    ///
    /// # Errors
    ///
    /// Fails with who is at fault. Nothing was stored.
    async fn accept_instance(
        &self,
        arrival: InstanceArrival,
        file: Quarantined,
    ) -> Result<InstanceOutcome, Refusal>;

    /// Records that no more instances will come on an association (DIN-50).
    async fn association_ended(&self, _association: Uuid) {}
}

/// Stores the HL7 messages and documents that peers send.
#[async_trait]
pub trait MessageIntake: Admission {
    /// Stores a message and applies its effects. Returns the acknowledgements to send: those of
    /// the first time if the message is a repetition (HL7-13).
    ///
    /// # Errors
    ///
    /// Fails if nothing was stored; the sender must try again.
    async fn accept_message(&self, arrival: MessageArrival) -> Result<Answers, Refusal>;
}

/// Answers storage commitment, and receives the answers to our own requests (PS3.4, Annex J).
#[async_trait]
pub trait CommitmentIntake: Send + Sync {
    /// Stores a request for storage commitment. Its result is computed and reported later.
    ///
    /// # Errors
    ///
    /// Fails if nothing was stored; the sender must try again.
    async fn accept_commitment_request(&self, _request: CommitmentRequest) -> Result<(), Refusal> {
        Err(Refusal::new(RefusalReason::OutOfResources, "storage commitment is not offered"))
    }

    /// Claims the result of a request, once it is known, for the association the request came on.
    /// The caller ends its claim with [`Self::finish_commitment_reply`].
    async fn claim_commitment_reply(
        &self,
        _peer: &str,
        _transaction: &str,
    ) -> Option<CommitmentResult> {
        None
    }

    /// Ends an attempt to report a result: the peer has acknowledged it, or has not.
    async fn finish_commitment_reply(&self, _peer: &str, _transaction: &str, _end: ReportEnd) {}

    /// Stores the result that a peer reports for a request of ours.
    ///
    /// # Errors
    ///
    /// Fails if the result could not be stored, or no such request was ever sent.
    async fn accept_commitment_result(
        &self,
        _result: CommitmentResult,
        _peer: &str,
        _address: &str,
    ) -> Result<(), Refusal> {
        Err(Refusal::new(RefusalReason::InvalidInstance, "we asked for no storage commitment"))
    }
}

/// Writes events to the trail that concern no stored object: a refused association, a broken
/// connection, a message that cannot be read.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Appends an event to the trail. A failure is logged, not returned: the caller has nothing to
    /// add.
    async fn record_event(&self, event: Event);
}
