//! What listeners hand to the engine, and how the engine answers.
//!
//! One trait per aggregate, so that a listener, or a service behind it, asks only for what it uses:
//!
//! - [`Admission`]: whether anything can be accepted now;
//! - [`InstanceIntake`]: DICOM instances;
//! - [`MessageIntake`]: HL7 messages and documents;
//! - [`CommitmentIntake`]: storage commitment, in both directions;
//! - [`EventSink`]: what happens at a listener and belongs in the trail.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use domain::{DemographicsChange, Event, ExchangedDocument, MessageFlag, Order, PatientId};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    Archive, CommitmentAnswer, CommitmentRequest, CommitmentResult, InstanceArrival,
    InstanceOutcome, Quarantined, ReportEnd,
};

/// Why an instance or message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{comment}")]
pub struct Refusal {
    /// Who is at fault.
    pub reason: RefusalReason,
    /// What is wrong, in at most 64 characters that never identify a patient.
    pub comment: String,
}

/// Who is at fault when something is not accepted, and so whether another attempt could succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// The engine: no room, or no database. Another attempt may succeed.
    OutOfResources,
    /// The data set cannot be read.
    CannotUnderstand,
    /// The data set is of another SOP class than the request, or lacks its UIDs.
    DoesNotMatchClass,
    /// The SOP Instance UID is malformed, or another than that of the request.
    InvalidInstance,
}

impl Refusal {
    /// A refusal with this comment, cut to 64 bytes (LO of the DIMSE Error Comment).
    pub fn new(reason: RefusalReason, comment: impl Into<String>) -> Self {
        let mut comment: String = comment.into();
        comment.truncate(comment.floor_char_boundary(64));
        Self { reason, comment }
    }
}

/// A message as it arrived, with the effects that follow from it.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageArrival {
    /// Network address of the sender.
    pub address: String,
    /// The connection that it arrived on, if messages of one connection have an order.
    pub connection: Option<Uuid>,
    /// The bytes between the delimiters of the frame.
    pub raw: Vec<u8>,
    /// SHA-256 of `raw`, in hex.
    pub sha256: String,
    /// Sending application (MSH-3).
    pub sending_application: String,
    /// Sending facility (MSH-4).
    pub sending_facility: String,
    /// Message type and trigger event (MSH-9), such as `ORU^R01`.
    pub message_type: domain::MessageType,
    /// Message control ID (MSH-10).
    pub control_id: String,
    /// Processing id (MSH-11.1).
    pub processing_id: String,
    /// When the sender recorded it, by its own clock (EVN-2 or MSH-7), if the message states it.
    pub stated_at: Option<Timestamp>,
    /// What it changes.
    pub effects: Vec<MessageEffect>,
    /// What is answered once it is stored.
    pub answers: Answers,
    /// Acknowledgement code (MSA-1) of the first answer.
    pub acknowledgement_code: String,
    /// Why it is refused, if it is, in words that never identify a patient.
    pub problem: Option<String>,
    /// What is unusual about it.
    pub flags: Vec<MessageFlag>,
}

impl MessageArrival {
    /// Whether no workflow may start on it.
    pub fn starts_nothing(&self) -> bool {
        self.problem.is_some() || self.flags.contains(&MessageFlag::WithoutEffect)
    }
}

/// What is answered to a message: one or both, in this order (HL7-10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The acknowledgement of the original mode, or the accept acknowledgement of the enhanced one.
    pub first: Option<Vec<u8>>,
    /// The application acknowledgement of the enhanced mode.
    pub application: Option<Vec<u8>>,
}

/// How a site compares the authorities of patient identifiers.
pub trait PatientAuthorities: fmt::Debug + Send + Sync {
    /// The authority of an identifier in a message of this application and facility (MSH-3, MSH-4):
    /// equal texts are one authority.
    fn authority(&self, application: &str, facility: &str, id: &PatientId) -> String;
}

/// Compares authorities as messages write them.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuthoritiesAsWritten;

impl PatientAuthorities for AuthoritiesAsWritten {
    fn authority(&self, _application: &str, _facility: &str, id: &PatientId) -> String {
        id.issuer.clone()
    }
}

/// Why two identifiers are one patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeKind {
    /// Two patients turned out to be one (ADT^A40 and older ones).
    Merge,
    /// A patient got another identifier (ADT^A47 and older ones).
    Rename,
    /// What was filed under one identifier belongs to the other (ADT^A43).
    Move,
}

/// The kind of encounter that an order belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encounter {
    /// An account (PID-18).
    Account,
    /// A visit (PV1-19).
    Visit,
}

/// What a message changes.
#[derive(Clone, Debug, PartialEq)]
pub enum MessageEffect {
    /// The demographics of a patient.
    Patient {
        /// The identifier of the patient (PID-3).
        id: PatientId,
        /// Name, birth date and sex, as far as the message states them.
        demographics: DemographicsChange,
    },
    /// Two identifiers turned out to be one patient.
    Merge {
        /// What kind of merge it is.
        kind: MergeKind,
        /// The identifier that stays (PID-3).
        survivor: PatientId,
        /// The identifier that ends (MRG-1).
        source: PatientId,
        /// Name, birth date and sex, as far as the message states them.
        demographics: DemographicsChange,
    },
    /// Two patients are linked, or no longer; nothing moves between them (ADT^A24, ADT^A37).
    Link {
        /// One patient.
        one: PatientId,
        /// The other patient.
        other: PatientId,
        /// Whether they are linked.
        is_linked: bool,
    },
    /// An account or visit belongs to another patient (ADT^A44, ADT^A45).
    MoveEncounter {
        /// The kind of encounter.
        what: Encounter,
        /// Number of the encounter.
        number: String,
        /// The patient it belonged to (MRG-1).
        source: PatientId,
        /// The patient it belongs to (PID-3).
        target: PatientId,
    },
    /// An account or visit of a patient has another number (ADT^A35, ADT^A49, ADT^A50, …). The same
    /// number of another patient is another account.
    RenumberEncounter {
        /// The patient it belongs to (PID-3).
        patient: PatientId,
        /// The kind of encounter.
        what: Encounter,
        /// The number that ends.
        old: String,
        /// The number that stays.
        new: String,
    },
    /// An order is placed, changed or cancelled.
    Order(Box<Order>),
    /// Results or a document arrived.
    Document {
        /// The patient, if the message names one.
        patient: Option<PatientId>,
        /// The results or the document.
        document: ExchangedDocument,
        /// Accession number of the order that it answers.
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

    /// Stores an instance. Once it returns `Ok`, the instance and its event survive a loss of
    /// power.
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

    /// Stores what a peer answers to a request of ours.
    ///
    /// # Errors
    ///
    /// Fails if the answer could not be stored, or no such request was ever sent.
    async fn accept_commitment_answer(
        &self,
        _answer: CommitmentAnswer,
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
