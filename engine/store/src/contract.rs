use std::time::Duration;

use async_trait::async_trait;
use contracts::{
    ClaimedDelivery, ClaimedNode, Compose, DecideMessage, DecideRun, DecideStudy, DeliveryEnd,
    DeliveryView, InstanceRecord, Kept, MessageKept, MessageRecord, Output, Store, StoreError,
    WorkKind,
};
use domain::Event;
use jiff::Timestamp;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::error::Error;
use crate::trail::append::append_all;

#[async_trait]
impl Store for PgStore {
    async fn keep_instance(&self, record: InstanceRecord) -> Result<Kept, StoreError> {
        self.instances.keep(record).await
    }

    async fn keep_message(&self, record: MessageRecord) -> Result<MessageKept, StoreError> {
        self.messages.keep(record).await
    }

    async fn end_association(&self, association: Option<Uuid>) -> Result<(), StoreError> {
        Ok(self.end_association_rows(association).await?)
    }

    async fn tell_overdue(&self) -> Result<u64, StoreError> {
        Ok(self.tell_overdue_rows().await?)
    }

    async fn append(&self, events: Vec<Event>) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        append_all(&mut tx, &events).await?;
        Ok(tx.commit().await.map_err(Error::from)?)
    }

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

    async fn claim_node(&self, lease: Duration) -> Result<Option<ClaimedNode>, StoreError> {
        Ok(self.claim_node_row(lease).await?)
    }

    async fn renew_node(
        &self,
        run: Uuid,
        node: &str,
        attempt: i32,
        lease: Duration,
    ) -> Result<(), StoreError> {
        Ok(self.renew_node_row(run, node, attempt, lease).await?)
    }

    async fn change_run(
        &self,
        run: Uuid,
        attempt: Option<(&str, i32)>,
        decide: DecideRun<'_>,
    ) -> Result<(), StoreError> {
        Ok(self.change_run_row(run, attempt, decide).await?)
    }

    async fn abandoned_nodes(&self) -> Result<Vec<(Uuid, String, i32)>, StoreError> {
        Ok(self.abandoned_rows().await?)
    }

    async fn claim_delivery(
        &self,
        lease: Duration,
        in_hand: &[Uuid],
    ) -> Result<Option<ClaimedDelivery>, StoreError> {
        Ok(self.claim_delivery_row(lease, in_hand).await?)
    }

    async fn view_delivery(&self, delivery: &ClaimedDelivery) -> Result<DeliveryView, StoreError> {
        Ok(self.view_delivery_row(delivery).await?)
    }

    async fn compose_delivery(
        &self,
        delivery: &ClaimedDelivery,
        compose: Compose<'_>,
    ) -> Result<Result<Vec<Output>, String>, StoreError> {
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

    async fn decide_corrections(
        &self,
        wants_correction: &(dyn for<'a> Fn(&'a str) -> bool + Sync),
    ) -> Result<u64, StoreError> {
        Ok(self.decide_correction_rows(wants_correction).await?)
    }

    async fn give_up_promises(&self, patience: Duration) -> Result<u64, StoreError> {
        Ok(self.give_up_promise_rows(patience).await?)
    }

    async fn wait_for(&self, kind: WorkKind, timeout: Duration) {
        self.announced(kind, timeout).await;
    }
}
