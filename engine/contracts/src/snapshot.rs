//! Snapshots: series, orders and messages as decisions and reports see them, read in one
//! transaction.

use domain::{
    ExchangedDocument, MessageType, Order, OrderMatch, SeriesInstanceUid, SopClassUid,
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
    /// The results or document in it.
    pub document: ExchangedDocument,
}
