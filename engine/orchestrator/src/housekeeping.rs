//! Housekeeping: finds what nobody else will notice.
//!
//! - Deliveries that were made under an identity that has changed since are queued again (HL7-34).
//! - Runs and nodes that have missed their deadline are given to a person, once each.
//! - Deliveries that a PACS received and has not committed in time are given to a person (DIN-34).
//! - Nodes whose worker is gone, because an engine died, are handed out again.

use std::sync::Arc;
use std::time::Duration;

use contracts::{DeliveryStore, NodeFailure, RunStore, StoreError};
use domain::ErrorChain;
use tracing::{error, warn};

use crate::configuration::LiveConfiguration;
use crate::run::{RunControl, RunWorker};

/// How often everything is checked: twice per renewal of a lease
/// ([`crate::timing::LEASE_RENEWAL`]).
const INTERVAL: Duration = Duration::from_millis(2_500);

/// How long a PACS may take to commit what it received (DIN-34).
const COMMITMENT_WAIT_MAX: Duration = Duration::from_hours(24);

/// Repeats all checks for as long as the engine runs.
pub(crate) struct Housekeeping {
    runs: Arc<dyn RunStore>,
    deliveries: Arc<dyn DeliveryStore>,
    configuration: Arc<LiveConfiguration>,
    control: Arc<RunControl>,
    worker: Arc<RunWorker>,
}

impl Housekeeping {
    pub(crate) fn new(
        runs: Arc<dyn RunStore>,
        deliveries: Arc<dyn DeliveryStore>,
        configuration: Arc<LiveConfiguration>,
        control: Arc<RunControl>,
        worker: Arc<RunWorker>,
    ) -> Self {
        Self { runs, deliveries, configuration, control, worker }
    }

    /// Makes all checks, again and again, forever.
    pub(crate) async fn run_worker(self: Arc<Self>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            log_failure("corrections of identity", self.queue_identity_corrections().await);
            log_failure("overdue work", self.runs.report_overdue().await);
            let expired = self.deliveries.expire_awaiting_commitment(COMMITMENT_WAIT_MAX).await;
            log_failure("missing commitments", expired);
            log_failure("abandoned nodes", self.release_abandoned_nodes().await);
        }
    }

    async fn queue_identity_corrections(&self) -> Result<u64, StoreError> {
        let destinations = self.configuration.destinations.get();
        let wants_correction =
            |name: &str| destinations.get(name).is_some_and(|it| it.resends_on_identity_change);
        self.deliveries.queue_identity_corrections(&wants_correction).await
    }

    /// Fails the attempts whose lease has run out, so that their nodes are tried again.
    async fn release_abandoned_nodes(&self) -> Result<u64, StoreError> {
        let mut released = 0;
        for attempt in self.runs.abandoned_nodes().await? {
            if self.worker.is_in_flight(&attempt) {
                continue;
            }
            let (run, node) = (attempt.run, attempt.node.as_str());
            warn!(%run, node, attempt = attempt.number, "the worker of a node is gone");
            let reason = "its worker was gone".to_owned();
            let lost = Err(NodeFailure::Retryable { reason });
            match self.control.finish_node(&attempt, lost).await {
                Ok(()) => released += 1,
                // Another engine was faster, or the next check succeeds.
                Err(error) => {
                    warn!(error = %ErrorChain(&error), "an abandoned node was not released");
                }
            }
        }
        Ok(released)
    }
}

fn log_failure(what: &str, outcome: Result<u64, StoreError>) {
    if let Err(error) = outcome {
        error!(error = %ErrorChain(&error), "{what} cannot be looked for");
    }
}
