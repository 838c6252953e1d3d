//! Deliveries: what is sent of a run, where, and how it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use domain::event::OmittedPicture;
use domain::{Demographics, NodeOutput, OutputKind, PatientId, ReviewState};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    Block, CommitmentAnswer, MessageSnapshot, OrderSnapshot, Output, PluginPin, ReviewVersion,
    RunRecord, SeriesSnapshot, StandingResult, StoreError,
};

/// A delivery that a worker has claimed.
#[derive(Clone, Debug)]
pub struct ClaimedDelivery {
    /// The engine's key of the delivery.
    pub id: Uuid,
    /// Its run.
    pub run: Uuid,
    /// Position in the workflow's `deliver:`.
    pub index: usize,
    /// Name of the destination.
    pub destination: String,
    /// What to send.
    pub what: Vec<OutputKind>,
    /// Number of the attempt, from one.
    pub attempt: i32,
    /// Transaction UID for storage commitment. No other attempt ever used it.
    pub transaction: String,
}

/// Everything a report is made of, as of one moment.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct DeliveryView {
    /// The run.
    pub run: RunRecord,
    /// When its last node ended.
    pub concluded: Timestamp,
    /// The instances that it worked on, by series.
    pub series: Vec<SeriesSnapshot>,
    /// The outputs of its nodes.
    pub outputs: BTreeMap<String, NodeOutput>,
    /// The plugin libraries that made them.
    pub plugins: BTreeMap<String, PluginPin>,
    /// Whether a node failed.
    pub has_failures: bool,
    /// The patient as identified now (HL7-33).
    pub patient: Option<PatientView>,
    /// The orders that ask for the study.
    pub orders: Vec<OrderSnapshot>,
    /// Accession number of the images, or empty.
    pub accession: String,
    /// The message that the run is about.
    pub message: Option<MessageSnapshot>,
    /// The version in force among those that people gave the result.
    pub reviewed: Option<ReviewVersion>,
    /// The signed result of an earlier run that stands until this one is signed.
    pub standing: Option<StandingResult>,
    /// Whether a later run that a person signed replaces it.
    pub is_replaced: bool,
    /// Number of this revision of the run's report.
    pub revision: u32,
    /// What the destination has already.
    pub before: Option<SentBefore>,
    /// Whether a later run or message holds in place of the run or its message.
    pub is_superseded: bool,
    /// Whether it rests on results of another patient: a merge was reversed (HL7-37).
    pub is_mixed: bool,
}

impl DeliveryView {
    /// Whether the result is a proposal: a signed one stands, and nobody has signed this one.
    pub fn is_proposal(&self) -> bool {
        let state = self.reviewed.as_ref().map(|it| it.state);
        let was_signed = state.is_some_and(|it| it.is_signed() || it == ReviewState::Withdrawn);
        self.standing.is_some() && !was_signed
    }
}

/// What a destination has of a result.
#[derive(Clone, Debug)]
pub struct SentBefore {
    /// What people had made of the result that it has; `None` if it has a draft.
    pub state: Option<ReviewState>,
    /// Whether it is of this run, and not of the run that this one adds to or replaces.
    pub is_own: bool,
    /// What was sent last, without its bytes.
    pub outputs: Vec<Output>,
    /// Everything that was ever sent or may have arrived, without its bytes.
    pub tried: Vec<Output>,
}

/// A patient as reports need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatientView {
    /// The engine's key of the patient.
    pub id: Uuid,
    /// The identifier that is valid now.
    pub identifier: PatientId,
    /// Name, birth date and sex.
    pub demographics: Demographics,
    /// Increases with every change of identity.
    pub version: i32,
}

/// The longest wait between two attempts at a delivery.
pub const DELIVERY_WAIT_MAX: Duration = Duration::from_mins(5);

/// Who could not do its part in an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtFault {
    /// The engine: its database, its disk, or itself. It says nothing of the destination.
    Engine,
    /// The destination, or the way to it.
    Destination,
}

/// How an attempt at a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryEnd {
    /// The destination has acknowledged all of it.
    Delivered,
    /// The destination has received all of it, and is yet to commit itself to its safety (DIN-34).
    AwaitingCommitment,
    /// It is tried again.
    Again {
        /// What happened, for people.
        reason: String,
        /// How long to wait, at most [`DELIVERY_WAIT_MAX`].
        after: Duration,
        /// Whose failure it was: only those of the destination count against it.
        at_fault: AtFault,
    },
    /// It is given to a person.
    Failed {
        /// What happened, for people.
        reason: String,
        /// Whether nothing more goes to the destination until a person resumes it (HL7-14).
        pauses: bool,
    },
    /// It must not be sent.
    Blocked(Block),
}

/// Why there is nothing to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComposeFailure {
    /// Another attempt may succeed: the database or the archive failed, or the run changed while
    /// its report was composed.
    Retryable {
        /// What happened, for people.
        reason: String,
    },
    /// No other attempt succeeds before a person has acted: a file is lost, or a template of the
    /// site or the engine itself makes an unsound report.
    NeedsPerson {
        /// What happened, for people.
        reason: String,
    },
    /// It must not be sent.
    Blocked(Block),
    /// The destination has received it repeatedly without a cause: a person has to find out why.
    Repeats,
}

/// A report in all its outputs.
#[derive(Clone, Debug, Default)]
pub struct ComposedReport {
    /// What is sent.
    pub outputs: Vec<Output>,
    /// Images that nothing was drawn into, as they cannot be decoded.
    pub omitted: Vec<OmittedPicture>,
}

/// Composes reports, from rows read in the same transaction.
pub type Compose<'a> =
    Box<dyn FnOnce(&DeliveryView) -> Result<ComposedReport, ComposeFailure> + Send + 'a>;

/// Hands out deliveries, and stores what was composed and how it ended.
#[async_trait]
pub trait DeliveryStore: Send + Sync {
    /// Claims the next delivery that is due for `lease`, except those `in_flight` in this process.
    async fn claim_delivery(
        &self,
        lease: Duration,
        in_flight: &[Uuid],
    ) -> Result<Option<ClaimedDelivery>, StoreError>;

    /// What a delivery is made of now, to look up what composing will need.
    async fn view_delivery(&self, delivery: &ClaimedDelivery) -> Result<DeliveryView, StoreError>;

    /// Composes a delivery with the identity of this moment, and stores what was composed.
    /// Returns what was composed before if the identity has not changed since. The inner error is
    /// that of the closure.
    async fn compose_delivery(
        &self,
        delivery: &ClaimedDelivery,
        compose: Compose<'_>,
    ) -> Result<Result<Vec<Output>, ComposeFailure>, StoreError>;

    /// Extends the lease of an attempt.
    ///
    /// # Errors
    ///
    /// [`StoreError::Superseded`] if another worker has claimed the delivery since.
    async fn renew_delivery(
        &self,
        delivery: &ClaimedDelivery,
        lease: Duration,
    ) -> Result<(), StoreError>;

    /// Ends an attempt.
    async fn finish_delivery(
        &self,
        delivery: &ClaimedDelivery,
        end: DeliveryEnd,
    ) -> Result<(), StoreError>;

    /// Decides about deliveries that were made under an identity that has changed since, and
    /// queues those anew whose destination `wants_correction` (HL7-34). Returns how many there
    /// were.
    async fn queue_identity_corrections(
        &self,
        wants_correction: &(dyn for<'a> Fn(&'a str) -> bool + Sync),
    ) -> Result<u64, StoreError>;

    /// Gives deliveries to a person that have awaited their commitment for longer than
    /// `wait_max`. Returns how many (DIN-34).
    async fn expire_awaiting_commitment(&self, wait_max: Duration) -> Result<u64, StoreError>;

    /// Records the answer of a PACS to a request of ours. False if there was no such request.
    async fn record_commitment_answer(
        &self,
        answer: CommitmentAnswer,
        peer: &str,
        address: &str,
    ) -> Result<bool, StoreError>;
}
