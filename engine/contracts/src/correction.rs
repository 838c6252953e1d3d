//! Corrections that people made outside of the engine (OUT-81).

use async_trait::async_trait;
use domain::{CorrectionSource, ExchangedDocument, NodeOutput};
use serde_json::Value;
use uuid::Uuid;

use crate::{ReviewView, StoreError};

/// An object or message from outside that may correct a draft.
#[derive(Clone, Debug)]
pub struct CorrectionCandidate {
    /// The kind of object or message that it came as.
    pub source: CorrectionSource,
    /// SOP Instance UID, or the engine's key of the message.
    pub origin: String,
    /// What is in it.
    pub content: CorrectionContent,
    /// The runs on its study, or on studies of its accession number.
    pub runs: Vec<ReviewView>,
    /// The objects that these runs composed.
    pub composed: Vec<ComposedObject>,
}

/// What is in a correction.
#[derive(Clone, Debug)]
pub enum CorrectionContent {
    /// An object in the archive.
    Instance {
        /// SHA-256 of its data set, in hex.
        sha256: String,
    },
    /// A document in a message.
    Message(ExchangedDocument),
}

/// An object that the engine sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComposedObject {
    /// Its SOP Instance UID, or its identifier in a message.
    pub id: String,
    /// The run that it was composed for.
    pub run: Uuid,
}

/// A draft, and what a person outside made of it.
#[derive(Clone, Debug)]
pub struct CorrectionPair {
    /// The run that drafted.
    pub run: Uuid,
    /// The draft.
    pub draft: NodeOutput,
    /// What became of it.
    pub content: NodeOutput,
    /// What differs.
    pub difference: Value,
}

/// Hands out corrections, and stores what they correct.
#[async_trait]
pub trait CorrectionStore: Send + Sync {
    /// The oldest correction that was not imported.
    async fn next_correction(&self) -> Result<Option<CorrectionCandidate>, StoreError>;

    /// Stores the drafts that a correction belongs to. It is not handed out again.
    async fn settle_correction(
        &self,
        source: CorrectionSource,
        origin: &str,
        pairs: Vec<CorrectionPair>,
    ) -> Result<(), StoreError>;

    /// Records that a correction cannot be read, for a person to look at. It is not handed out
    /// again.
    async fn give_up_correction(
        &self,
        source: CorrectionSource,
        origin: &str,
        reason: &str,
    ) -> Result<(), StoreError>;
}
