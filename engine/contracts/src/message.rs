//! Received messages, as they are stored.

use async_trait::async_trait;
use uuid::Uuid;

use crate::{Answers, MessageArrival, StoreError};

/// A message to be stored.
#[derive(Clone, Debug)]
pub struct MessageRecord {
    /// The engine's key of the message.
    pub id: Uuid,
    /// The message and its effects.
    pub arrival: MessageArrival,
}

/// What became of a message that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageOutcome {
    /// It is new.
    New,
    /// The very same was received before. These are the answers that it got then (HL7-13).
    Repeated(Answers),
}

/// Stores messages.
#[async_trait]
pub trait MessageStore: Send + Sync {
    /// Stores a message and applies its effects.
    async fn store_message(&self, record: MessageRecord) -> Result<MessageOutcome, StoreError>;
}
