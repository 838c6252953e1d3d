//! Snapshots: series, orders and messages as decisions and reports see them, read in one
//! transaction.

use domain::{
    ExchangedDocument, MessageType, Order, OrderMatch, ReviewState, SeriesInstanceUid, SopClassUid,
    SopInstanceUid,
};
use uuid::Uuid;

/// A series as decisions need it.
#[derive(Clone, Debug)]
pub struct SeriesSnapshot {
    /// Its UID.
    pub series: SeriesInstanceUid,
    /// Its modality.
    pub modality: String,
    /// Whether this engine made it.
    pub is_own: bool,
    /// Body Part Examined, or empty.
    pub body_part: String,
    /// Series Description, or empty.
    pub description: String,
    /// Its instances, by UID.
    pub instances: Vec<StoredInstance>,
}

/// An instance in the archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredInstance {
    /// Its UID.
    pub instance: SopInstanceUid,
    /// Its SOP class.
    pub sop_class: SopClassUid,
    /// SHA-256 of its data set, in hex.
    pub sha256: String,
}

/// An order as decisions need it.
#[derive(Clone, Debug)]
pub struct OrderSnapshot {
    /// The engine's key of the order.
    pub id: Uuid,
    /// The order itself.
    pub order: Order,
    /// Its patient, after all merges.
    pub patient: Option<Uuid>,
    /// Whether it was cancelled.
    pub is_cancelled: bool,
    /// How it was matched to the study.
    pub matched_by: OrderMatch,
}

impl OrderSnapshot {
    /// Whether the order is known to be for another patient than the images are of (HL7-44).
    pub fn is_of_other_patient(&self, of_images: Option<Uuid>) -> bool {
        self.patient.zip(of_images).is_some_and(|(ordered, imaged)| ordered != imaged)
    }
}

/// A message as decisions need it.
#[derive(Clone, Debug)]
pub struct MessageSnapshot {
    /// The engine's key of the message.
    pub id: Uuid,
    /// Its type and trigger event, such as `ORU^R01`.
    pub message_type: MessageType,
    /// Its patient, after all merges.
    pub patient: Option<Uuid>,
    /// The results or document in it; with what stays in force of the messages that it replaces.
    pub document: ExchangedDocument,
    /// What it has to do with earlier messages.
    pub history: ResultHistory,
}

/// What the results of a message have to do with those of earlier ones about the same orders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResultHistory {
    /// The results of runs on messages that it replaces, oldest first.
    pub earlier: Vec<EarlierResult>,
    /// Whether all that it reports had been corrected before it arrived.
    pub is_outdated: bool,
    /// Whether it reports results again and it cannot be told which.
    pub is_ambiguous: bool,
    /// Whether it only repeats what was in force.
    pub is_repeated: bool,
}

/// The result of a run on a message that a later message replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlierResult {
    /// The run.
    pub run: Uuid,
    /// Name of its workflow.
    pub workflow: String,
    /// The first of the runs that it adds to or replaces; its own key if there is none.
    pub first: Uuid,
    /// Whether it has ended.
    pub has_ended: bool,
    /// What people made of the result, if anything.
    pub reviewed: Option<ReviewState>,
}

impl EarlierResult {
    /// Whether a person has signed it: it stands until a person signs another.
    pub fn is_signed(&self) -> bool {
        self.reviewed.is_some_and(ReviewState::is_signed)
    }

    /// Whether a later result may take its place without a person.
    pub const fn is_draft(&self) -> bool {
        matches!(self.reviewed, None | Some(ReviewState::Edited))
    }
}
