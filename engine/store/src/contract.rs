//! The store traits of `contracts` that are implemented by delegation.

use std::time::Duration;

use async_trait::async_trait;
use contracts::{
    AssemblyStore, ClaimedDelivery, ClaimedNode, CommitmentResult, Compose, ComposeFailure,
    DecideMessage, DecideRun, DecideStudy, DeliveryEnd, DeliveryStore, DeliveryView,
    InstanceOutcome, InstanceRecord, InstanceStore, MessageOutcome, MessageRecord, MessageStore,
    NodeAttempt, Notifications, Output, RunStore, StoreError, TrailStore, WorkKind,
};
use domain::Event;
use jiff::Timestamp;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::error::Error;
use crate::trail::append::append_all;

#[async_trait]
impl InstanceStore for PgStore {
    async fn store_instance(&self, record: InstanceRecord) -> Result<InstanceOutcome, StoreError> {
        self.instances.keep(record).await
    }

    async fn end_association(&self, association: Option<Uuid>) -> Result<(), StoreError> {
        Ok(self.end_association_rows(association).await?)
    }
}

#[async_trait]
impl MessageStore for PgStore {
    async fn store_message(&self, record: MessageRecord) -> Result<MessageOutcome, StoreError> {
        self.messages.keep(record).await
    }
}

#[async_trait]
impl TrailStore for PgStore {
    async fn append_events(&self, events: Vec<Event>) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        append_all(&mut tx, &events).await?;
        Ok(tx.commit().await.map_err(Error::from)?)
    }
}

#[async_trait]
impl AssemblyStore for PgStore {
    async fn decide_study(
        &self,
        now: Timestamp,
        decide: DecideStudy<'_>,
    ) -> Result<bool, StoreError> {
        Ok(self.decide_study_row(now, decide).await?)
    }

    async fn decide_messages(&self, decide: DecideMessage<'_>) -> Result<bool, StoreError> {
        Ok(self.decide_message_rows(decide).await?)
    }
}

#[async_trait]
impl RunStore for PgStore {
    async fn claim_node(&self, lease: Duration) -> Result<Option<ClaimedNode>, StoreError> {
        Ok(self.claim_node_row(lease).await?)
    }

    async fn renew_node(&self, attempt: &NodeAttempt, lease: Duration) -> Result<(), StoreError> {
        Ok(self.renew_node_row(attempt, lease).await?)
    }

    async fn change_run(
        &self,
        run: Uuid,
        attempt: Option<&NodeAttempt>,
        decide: DecideRun<'_>,
    ) -> Result<(), StoreError> {
        Ok(self.change_run_row(run, attempt, decide).await?)
    }

    async fn abandoned_nodes(&self) -> Result<Vec<NodeAttempt>, StoreError> {
        Ok(self.abandoned_rows().await?)
    }

    async fn report_overdue(&self) -> Result<u64, StoreError> {
        Ok(self.tell_overdue_rows().await?)
    }
}

#[async_trait]
impl DeliveryStore for PgStore {
    async fn claim_delivery(
        &self,
        lease: Duration,
        in_flight: &[Uuid],
    ) -> Result<Option<ClaimedDelivery>, StoreError> {
        Ok(self.claim_delivery_row(lease, in_flight).await?)
    }

    async fn view_delivery(&self, delivery: &ClaimedDelivery) -> Result<DeliveryView, StoreError> {
        Ok(self.view_delivery_row(delivery).await?)
    }

    async fn compose_delivery(
        &self,
        delivery: &ClaimedDelivery,
        compose: Compose<'_>,
    ) -> Result<Result<Vec<Output>, ComposeFailure>, StoreError> {
        Ok(self.compose_delivery_row(delivery, compose).await?)
    }

    async fn renew_delivery(
        &self,
        delivery: &ClaimedDelivery,
        lease: Duration,
    ) -> Result<(), StoreError> {
        Ok(self.renew_delivery_row(delivery, lease).await?)
    }

    async fn finish_delivery(
        &self,
        delivery: &ClaimedDelivery,
        end: DeliveryEnd,
    ) -> Result<(), StoreError> {
        Ok(self.finish_delivery_row(delivery, end).await?)
    }

    async fn queue_identity_corrections(
        &self,
        wants_correction: &(dyn for<'a> Fn(&'a str) -> bool + Sync),
    ) -> Result<u64, StoreError> {
        Ok(self.decide_correction_rows(wants_correction).await?)
    }

    async fn expire_awaiting_commitment(&self, wait_max: Duration) -> Result<u64, StoreError> {
        Ok(self.give_up_promise_rows(wait_max).await?)
    }

    async fn record_commitment_answer(
        &self,
        result: CommitmentResult,
        peer: &str,
        address: &str,
    ) -> Result<bool, StoreError> {
        Ok(self.note_answer(&result, &domain::Actor::peer(peer, address)).await?)
    }
}

#[async_trait]
impl Notifications for PgStore {
    async fn wait_for(&self, kind: WorkKind, timeout: Duration) {
        self.announced(kind, timeout).await;
    }
}
