use std::time::Duration;

use async_trait::async_trait;
use domain::Event;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    ClaimedDelivery, ClaimedNode, CommitmentStore, DeliveryEnd, DeliveryView, InstanceRecord, Kept,
    MessageKept, MessageRecord, MessageSnapshot, MessageStep, Output, ReviewStore, RunRecord,
    RunStep, StudySnapshot, StudyStep, WorkKind,
};

/// Why the database did not do what it was asked. Nothing of it was done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or failed.
    #[error("the database failed")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Somebody else went on with this node or delivery meanwhile (fencing).
    #[error("this attempt is no longer the current one")]
    Superseded,
    /// What the database holds contradicts itself, or the program.
    #[error("the database holds what cannot be: {0}")]
    Inconsistent(String),
}

/// Decides about a study, from rows read in the same transaction.
pub type DecideStudy<'a> = Box<dyn FnOnce(&StudySnapshot) -> StudyStep + Send + 'a>;

/// Decides about a message.
pub type DecideMessage<'a> = Box<dyn FnMut(&MessageSnapshot) -> MessageStep + Send + 'a>;

/// Decides about a run. Nothing is changed if it gives nothing.
pub type DecideRun<'a> = Box<dyn FnOnce(&RunRecord) -> Option<RunStep> + Send + 'a>;

/// Composes reports, from rows read in the same transaction.
pub type Compose<'a> = Box<dyn FnOnce(&DeliveryView) -> Result<Vec<Output>, String> + Send + 'a>;

/// What the engine remembers. Each function is one transaction, and puts on record what it does.
#[async_trait]
pub trait Store: CommitmentStore + ReviewStore {
    /// Keeps an instance and what it says of its series, study and patient.
    async fn keep_instance(&self, record: InstanceRecord) -> Result<Kept, StoreError>;

    /// Takes in that an association has ended; with nothing, all that were there when the engine
    /// started.
    async fn end_association(&self, association: Option<Uuid>) -> Result<(), StoreError>;

    /// Puts on record which runs and nodes should have ended by now and have not, each once, and
    /// gives them to a person. Says how many.
    async fn tell_overdue(&self) -> Result<u64, StoreError>;

    /// Keeps a message and does what it asks.
    async fn keep_message(&self, record: MessageRecord) -> Result<MessageKept, StoreError>;

    /// Puts something on record.
    async fn append(&self, events: Vec<Event>) -> Result<(), StoreError>;

    /// Decides about one study that is due at `now`. False if none is.
    async fn decide_study(
        &self,
        now: Timestamp,
        decide: DecideStudy<'_>,
    ) -> Result<bool, StoreError>;

    /// Decides about messages that nobody has decided on, the first that came first. False if there are
    /// none.
    async fn decide_messages(&self, decide: DecideMessage<'_>) -> Result<bool, StoreError>;

    /// Takes the most urgent node for `lease`; nobody else gets it meanwhile.
    async fn claim_node(&self, lease: Duration) -> Result<Option<ClaimedNode>, StoreError>;

    /// Goes on working on a node.
    ///
    /// # Errors
    ///
    /// [`StoreError::Superseded`] if it is not ours any more, or the run was cancelled.
    async fn renew_node(
        &self,
        run: Uuid,
        node: &str,
        attempt: i32,
        lease: Duration,
    ) -> Result<(), StoreError>;

    /// Changes a run. With `attempt`, only if that try of that node is still the current one.
    async fn change_run(
        &self,
        run: Uuid,
        attempt: Option<(&str, i32)>,
        decide: DecideRun<'_>,
    ) -> Result<(), StoreError>;

    /// Nodes whose lease has run out: run, node, attempt.
    async fn abandoned_nodes(&self) -> Result<Vec<(Uuid, String, i32)>, StoreError>;

    /// Takes the next delivery that is due and that nobody has `in_hand`.
    async fn claim_delivery(
        &self,
        lease: Duration,
        in_hand: &[Uuid],
    ) -> Result<Option<ClaimedDelivery>, StoreError>;

    /// What a delivery is made of, to look up what composing will need.
    async fn view_delivery(&self, delivery: &ClaimedDelivery) -> Result<DeliveryView, StoreError>;

    /// Composes a delivery with the identity of this moment, and keeps what came of it. Gives
    /// what was composed before if the identity has not changed since. The inner error is the
    /// closure's: nothing can be sent.
    async fn compose_delivery(
        &self,
        delivery: &ClaimedDelivery,
        compose: Compose<'_>,
    ) -> Result<Result<Vec<Output>, String>, StoreError>;

    /// Goes on making a delivery.
    ///
    /// # Errors
    ///
    /// [`StoreError::Superseded`] if it is not ours any more.
    async fn renew_delivery(
        &self,
        delivery: &ClaimedDelivery,
        lease: Duration,
    ) -> Result<(), StoreError>;

    /// Ends a try of a delivery.
    async fn finish_delivery(
        &self,
        delivery: &ClaimedDelivery,
        end: DeliveryEnd,
    ) -> Result<(), StoreError>;

    /// Decides about what was delivered under an identity that has changed since: whether the
    /// destination is to get it anew. Says how many there were (HL7-34).
    async fn decide_corrections(
        &self,
        wants_correction: &(dyn for<'a> Fn(&'a str) -> bool + Sync),
    ) -> Result<u64, StoreError>;

    /// Gives up deliveries that a PACS has taken and not committed within `patience`: a person has to
    /// look. Says how many.
    async fn give_up_promises(&self, patience: Duration) -> Result<u64, StoreError>;

    /// Returns when there may be something of this kind to do, at the latest after `timeout`.
    async fn wait_for(&self, kind: WorkKind, timeout: Duration);
}
