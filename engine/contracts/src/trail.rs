//! The trail, as the parts of the engine write to it.

use async_trait::async_trait;
use domain::Event;

use crate::StoreError;

/// Writes events that belong to no other change. Every other function of a store records its own.
#[async_trait]
pub trait TrailStore: Send + Sync {
    /// Appends events to the trail, in this order and in one transaction.
    async fn append_events(&self, events: Vec<Event>) -> Result<(), StoreError>;
}
