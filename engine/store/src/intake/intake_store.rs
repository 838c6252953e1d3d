//! The entrance of the store: instances and messages, written in batches.

use std::sync::Arc;

use async_trait::async_trait;
use contracts::{
    InstanceOutcome, InstanceRecord, InstanceStore, MessageOutcome, MessageRecord, MessageStore,
};
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::error::StoreResult;
use crate::intake::association;
use crate::intake::batcher::BatchWriter;
use crate::intake::instance_batch::InstanceInsert;
use crate::intake::message_batch::MessageInsert;
use crate::intake::numbering::Numbering;

/// Stores what arrives. Its two workers write instances and messages in batches.
pub struct IntakeStore {
    store: Arc<PgStore>,
    instances: BatchWriter<InstanceInsert>,
    messages: BatchWriter<MessageInsert>,
}

impl IntakeStore {
    /// Starts the workers on the connections of `store`. They end when this is dropped or the
    /// store is closed.
    pub fn new(store: &Arc<PgStore>, numbering: Numbering) -> Self {
        let domains = numbering.domains.clone();
        let instances = InstanceInsert { store: Arc::clone(store), domains };
        let messages = MessageInsert::new(store, numbering);
        Self {
            instances: BatchWriter::start(&store.pool, instances),
            messages: BatchWriter::start(&store.pool, messages),
            store: Arc::clone(store),
        }
    }
}

#[async_trait]
impl InstanceStore for IntakeStore {
    async fn store_instance(&self, record: InstanceRecord) -> StoreResult<InstanceOutcome> {
        self.instances.write(record).await
    }

    async fn end_association(&self, association: Option<Uuid>) -> StoreResult<()> {
        Ok(association::end(&self.store, association).await?)
    }
}

#[async_trait]
impl MessageStore for IntakeStore {
    async fn store_message(&self, record: MessageRecord) -> StoreResult<MessageOutcome> {
        self.messages.write(record).await
    }
}
