//! Claims deliveries and sends them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use contracts::{
    Archive, AtFault, Block, ClaimedDelivery, ComposeFailure, DELIVERY_WAIT_MAX, DeliveryEnd,
    DeliveryStore, Notifications, Output, SendError, Sent, StoreError, WorkKind,
};
use domain::ErrorChain;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use super::composer::{Composer, unread_image};
use crate::configuration::{LiveConfiguration, SiteDestination};
use crate::in_flight::InFlight;
use crate::timing::{DATABASE_RETRY_DELAY, LEASE, LEASE_RENEWAL, POLL_INTERVAL};

/// Attempts before a person is asked: about six hours with the waits between them.
const ATTEMPTS_MAX: i32 = 80;

/// Attempts at what a destination reads and does not apply (HL7-14).
const NOT_APPLIED_MAX: i32 = 5;

/// Makes deliveries, one after the other per worker.
pub(crate) struct DeliveryWorker {
    store: Arc<dyn DeliveryStore>,
    notifications: Arc<dyn Notifications>,
    archive: Arc<dyn Archive>,
    configuration: Arc<LiveConfiguration>,
    composer: Composer,
    in_flight: InFlight<Uuid>,
}

impl DeliveryWorker {
    pub(crate) fn new(
        store: Arc<dyn DeliveryStore>,
        notifications: Arc<dyn Notifications>,
        archive: Arc<dyn Archive>,
        configuration: Arc<LiveConfiguration>,
        composer: Composer,
    ) -> Self {
        let in_flight = InFlight::default();
        Self { store, notifications, archive, configuration, composer, in_flight }
    }

    /// Makes one delivery after the other, forever.
    pub(crate) async fn run_worker(self: Arc<Self>) {
        loop {
            match self.store.claim_delivery(LEASE, &self.in_flight.keys()).await {
                Ok(Some(delivery)) => {
                    let _guard = self.in_flight.begin(delivery.id);
                    self.deliver(delivery).await;
                }
                Ok(None) => self.notifications.wait_for(WorkKind::Delivery, POLL_INTERVAL).await,
                Err(error) => {
                    error!(error = %ErrorChain(&error), "no delivery can be claimed");
                    tokio::time::sleep(DATABASE_RETRY_DELAY).await;
                }
            }
        }
    }

    async fn deliver(&self, delivery: ClaimedDelivery) {
        // Concurrently, not in turn: the attempt may hold the row that a renewal needs, and would
        // wait forever for a renewal that waits for the attempt.
        let end = tokio::select! {
            end = self.attempt(&delivery) => end,
            () = self.renew_until_superseded(&delivery) => return,
        };
        log(&delivery, &end);
        // The destination has it. That must not be forgotten because the database is down.
        while let Err(error) = self.store.finish_delivery(&delivery, end.clone()).await {
            if matches!(error, StoreError::Superseded) {
                return;
            }
            error!(error = %ErrorChain(&error), "the end of a delivery cannot be recorded");
            tokio::time::sleep(DATABASE_RETRY_DELAY).await;
        }
    }

    /// Renews the lease until another engine has claimed the delivery.
    async fn renew_until_superseded(&self, delivery: &ClaimedDelivery) {
        loop {
            tokio::time::sleep(LEASE_RENEWAL).await;
            let renewed = self.store.renew_delivery(delivery, LEASE).await;
            if matches!(renewed, Err(StoreError::Superseded)) {
                return;
            }
        }
    }

    /// Composes and sends once.
    async fn attempt(&self, delivery: &ClaimedDelivery) -> DeliveryEnd {
        let destinations = self.configuration.destinations.get();
        let Some(site) = destinations.get(&delivery.destination) else {
            let reason = "the site file has no such destination any more".to_owned();
            return DeliveryEnd::Failed { reason, pauses: false };
        };
        let outputs = match self.composer.compose(delivery, site).await {
            Ok(outputs) => outputs,
            Err(failure) => return end_of_composing(failure, delivery.attempt),
        };
        match self.send(site, delivery, outputs).await {
            Ok(Sent::Acknowledged) => DeliveryEnd::Delivered,
            Ok(Sent::AwaitingCommitment) => DeliveryEnd::AwaitingCommitment,
            Err(NotSent::Unread(failure)) => end_of_composing(failure, delivery.attempt),
            Err(NotSent::Failed(error)) => {
                end_of_sending(error, delivery.attempt, site.pauses_on_failure)
            }
        }
    }

    /// Sends what was composed in one request, and stored images one by one as they are read: they
    /// do not fit into memory together.
    async fn send(
        &self,
        site: &SiteDestination,
        delivery: &ClaimedDelivery,
        outputs: Vec<Output>,
    ) -> Result<Sent, NotSent> {
        let run = delivery.run.to_string();
        let transaction = &delivery.transaction;
        let (images, composed): (Vec<Output>, Vec<Output>) =
            outputs.into_iter().partition(|it| it.stored.is_some());
        for (index, mut image) in images.into_iter().enumerate() {
            image.bytes = self.stored_image(&image).await.map_err(NotSent::Unread)?;
            // Storage commitment wants one Transaction UID per request (PS3.4, J.3.2).
            let image_transaction =
                domain::derived_uid(&["image", &format!("{transaction}.{index}")]);
            let sent = site.destination.send_part(&run, &image_transaction, &image, index).await?;
            if sent == Sent::AwaitingCommitment {
                debug!(run, "an image was received and is not committed yet");
            }
        }
        if composed.is_empty() {
            return Ok(Sent::Acknowledged);
        }
        Ok(site.destination.send(&run, transaction, &composed).await?)
    }

    async fn stored_image(&self, image: &Output) -> Result<Vec<u8>, ComposeFailure> {
        let path = self.archive.path_of(image.stored.as_deref().unwrap_or_default());
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        read.map_err(io::Error::other).flatten().map_err(|error| unread_image(&error))
    }
}

/// Why something was composed and did not arrive.
#[derive(Debug)]
enum NotSent {
    /// It cannot be read from the archive. The destination was not asked.
    Unread(ComposeFailure),
    /// The destination refused it, or did not answer.
    Failed(SendError),
}

impl From<SendError> for NotSent {
    fn from(error: SendError) -> Self {
        Self::Failed(error)
    }
}

fn end_of_composing(failure: ComposeFailure, attempt: i32) -> DeliveryEnd {
    match failure {
        ComposeFailure::Retryable { reason } => {
            retry_later(attempt, reason, AtFault::Engine, false)
        }
        ComposeFailure::NeedsPerson { reason } => DeliveryEnd::Failed { reason, pauses: false },
        ComposeFailure::Blocked(block) => DeliveryEnd::Blocked(block),
        ComposeFailure::Repeats => {
            metrics::counter!("orchestrator_deliveries_repeated_total").increment(1);
            let reason = "the destination received it repeatedly within an hour without a cause; \
                `isocenter audit show` lists when";
            DeliveryEnd::Failed { reason: reason.to_owned(), pauses: false }
        }
    }
}

fn end_of_sending(error: SendError, attempt: i32, pauses: bool) -> DeliveryEnd {
    match error {
        SendError::Refused(reason) => DeliveryEnd::Failed { reason, pauses },
        SendError::NotApplied(reason) if attempt >= NOT_APPLIED_MAX => {
            let reason = format!("{NOT_APPLIED_MAX} attempts were not applied: {reason}");
            DeliveryEnd::Failed { reason, pauses }
        }
        SendError::Retryable(reason) | SendError::NotApplied(reason) => {
            retry_later(attempt, reason, AtFault::Destination, pauses)
        }
    }
}

/// Tries again after a wait that doubles with every attempt, until the attempts are used up.
fn retry_later(attempt: i32, reason: String, at_fault: AtFault, pauses: bool) -> DeliveryEnd {
    if attempt >= ATTEMPTS_MAX {
        let reason = format!("{ATTEMPTS_MAX} attempts failed: {reason}");
        return DeliveryEnd::Failed { reason, pauses };
    }
    let doublings = u32::try_from(attempt.clamp(1, 12) - 1).unwrap_or_default();
    let after = Duration::from_secs(1 << doublings).min(DELIVERY_WAIT_MAX);
    DeliveryEnd::Again { reason, after, at_fault }
}

fn log(delivery: &ClaimedDelivery, end: &DeliveryEnd) {
    let run = delivery.run;
    let destination = delivery.destination.as_str();
    let outcome = match end {
        DeliveryEnd::Delivered => "delivered",
        DeliveryEnd::AwaitingCommitment => "awaiting_commitment",
        DeliveryEnd::Again { .. } => "postponed",
        DeliveryEnd::Failed { .. } => "failed",
        DeliveryEnd::Blocked(_) => "blocked",
    };
    metrics::counter!("orchestrator_deliveries_total", "outcome" => outcome).increment(1);
    match end {
        DeliveryEnd::Delivered => info!(%run, destination, "delivered"),
        DeliveryEnd::AwaitingCommitment => info!(%run, destination, "received, not committed yet"),
        DeliveryEnd::Again { reason, .. }
        | DeliveryEnd::Failed { reason, .. }
        | DeliveryEnd::Blocked(Block { reason, .. }) => {
            // The text of a peer may name a patient: it is shown on request, and not logged.
            warn!(%run, destination, outcome, reason_bytes = reason.len(), "not delivered");
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::BlockReason;

    use super::*;

    fn reason() -> String {
        "because".to_owned()
    }

    #[test]
    fn what_cannot_be_composed_is_retried_blocked_or_given_to_a_person() {
        let retryable = ComposeFailure::Retryable { reason: reason() };
        let after = Duration::from_secs(4);
        let again = DeliveryEnd::Again { reason: reason(), after, at_fault: AtFault::Engine };
        assert_eq!(end_of_composing(retryable, 3), again);
        let retryable = ComposeFailure::Retryable { reason: reason() };
        let last = end_of_composing(retryable, ATTEMPTS_MAX);
        assert!(matches!(last, DeliveryEnd::Failed { pauses: false, .. }), "{last:?}");
        let person = ComposeFailure::NeedsPerson { reason: reason() };
        let failed = DeliveryEnd::Failed { reason: reason(), pauses: false };
        assert_eq!(end_of_composing(person, 3), failed);
        let repeats = end_of_composing(ComposeFailure::Repeats, 3);
        assert!(matches!(repeats, DeliveryEnd::Failed { pauses: false, .. }));
        let block = Block { by: BlockReason::OrderCancelled, reason: reason() };
        let blocked = ComposeFailure::Blocked(block.clone());
        assert_eq!(end_of_composing(blocked, 3), DeliveryEnd::Blocked(block));
    }

    #[test]
    fn waits_between_attempts_double_up_to_a_limit() {
        let wait = |attempt| match retry_later(attempt, reason(), AtFault::Destination, true) {
            DeliveryEnd::Again { after, .. } => after.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!([1, 2, 3, 9, 10, ATTEMPTS_MAX - 1].map(wait), [1, 2, 4, 256, 300, 300]);
    }

    #[test]
    fn acc_04_a_disk_that_cannot_be_read_neither_pauses_a_destination_nor_counts_against_it() {
        let unread = |kind: io::ErrorKind| unread_image(&io::Error::from(kind));
        let full = end_of_composing(unread(io::ErrorKind::StorageFull), 1);
        let is_own = matches!(full, DeliveryEnd::Again { at_fault: AtFault::Engine, .. });
        assert!(is_own, "{full:?}");
        let lost = end_of_composing(unread(io::ErrorKind::NotFound), 1);
        assert!(matches!(lost, DeliveryEnd::Failed { pauses: false, .. }), "{lost:?}");
        let refused = end_of_sending(SendError::Retryable(reason()), 1, true);
        let is_theirs =
            matches!(refused, DeliveryEnd::Again { at_fault: AtFault::Destination, .. });
        assert!(is_theirs, "{refused:?}");
    }

    #[test]
    fn hl7_14_attempts_end_and_sooner_where_the_message_was_read_and_not_applied() {
        let is_last = |error, attempt| {
            matches!(end_of_sending(error, attempt, true), DeliveryEnd::Failed { pauses: true, .. })
        };
        assert!(is_last(SendError::Refused(reason()), 1));
        assert!(!is_last(SendError::NotApplied(reason()), NOT_APPLIED_MAX - 1));
        assert!(is_last(SendError::NotApplied(reason()), NOT_APPLIED_MAX));
        assert!(!is_last(SendError::Retryable(reason()), ATTEMPTS_MAX - 1));
        assert!(is_last(SendError::Retryable(reason()), ATTEMPTS_MAX));
    }
}
