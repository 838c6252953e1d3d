//! Answers requests for storage commitment after the files were read again (DIN-30..33).
//!
//! The engine commits itself to an instance only after it has compared the whole file with the
//! digest of its arrival. The answer goes out on the association of the request if that is still
//! open, and otherwise on one of the engine's own (PS3.4, J.3.3).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use contracts::{
    Archive, CommitmentCheck, CommitmentReporter, CommitmentResult, CommitmentStore,
    FailedReference, FailureReason, Notifications, ReferenceToCheck, ReportEnd, StoreError,
    WorkKind,
};
use domain::ErrorChain;
use tracing::{error, info, warn};

use crate::timing::{DATABASE_RETRY_DELAY, POLL_INTERVAL};

/// How long the association of a request may deliver the answer before the engine calls back
/// (DIN-32).
const SAME_ASSOCIATION_GRACE: Duration = Duration::from_secs(5);

/// How long checking the files of a request, or sending an answer, may take before another engine
/// may try. The lease is not renewed: what it covers may be repeated.
const LEASE: Duration = Duration::from_mins(10);

/// Checks files and reports the outcome.
pub(crate) struct CommitmentService {
    store: Arc<dyn CommitmentStore>,
    notifications: Arc<dyn Notifications>,
    archive: Arc<dyn Archive>,
    reporter: Arc<dyn CommitmentReporter>,
}

impl CommitmentService {
    pub(crate) fn new(
        store: Arc<dyn CommitmentStore>,
        notifications: Arc<dyn Notifications>,
        archive: Arc<dyn Archive>,
        reporter: Arc<dyn CommitmentReporter>,
    ) -> Self {
        Self { store, notifications, archive, reporter }
    }

    /// Checks and answers one request after the other, forever.
    pub(crate) async fn run_worker(self: Arc<Self>) {
        loop {
            let outcome = match self.check_next().await {
                Ok(false) => self.report_next().await,
                other => other,
            };
            match outcome {
                Ok(true) => {}
                Ok(false) => {
                    self.notifications.wait_for(WorkKind::Commitment, POLL_INTERVAL).await;
                }
                Err(error) => {
                    error!(error = %ErrorChain(&error), "no storage commitment can be answered");
                    tokio::time::sleep(DATABASE_RETRY_DELAY).await;
                }
            }
        }
    }

    /// Checks the files of one request. False if no request is waiting.
    async fn check_next(&self) -> Result<bool, StoreError> {
        let Some(check) = self.store.claim_commitment_check(LEASE).await? else {
            return Ok(false);
        };
        let peer = check.peer.clone();
        let result = match self.check(check).await {
            Ok(result) => result,
            Err(error) => {
                // A file is not reported as lost because the disk cannot be read at the moment.
                error!(%error, "files cannot be read for storage commitment");
                tokio::time::sleep(DATABASE_RETRY_DELAY).await;
                return Ok(true);
            }
        };
        let committed = result.committed.len();
        let failed = result.failed.len();
        info!(peer, committed, failed, "storage commitment checked");
        self.store.finish_commitment_check(&peer, result, SAME_ASSOCIATION_GRACE).await?;
        Ok(true)
    }

    async fn check(&self, check: CommitmentCheck) -> io::Result<CommitmentResult> {
        let mut committed = Vec::new();
        let mut failed = Vec::new();
        for ReferenceToCheck { reference, stored } in check.references {
            let failure = match stored {
                None => Some(FailureReason::NO_SUCH_OBJECT),
                Some(stored) if stored.sop_class != reference.sop_class => {
                    Some(FailureReason::CLASS_INSTANCE_CONFLICT)
                }
                Some(stored) if self.archive.is_intact(&stored.sha256).await? => None,
                Some(_) => Some(FailureReason::PROCESSING_FAILURE),
            };
            match failure {
                None => committed.push(reference),
                Some(reason) => failed.push(FailedReference { reference, reason }),
            }
        }
        Ok(CommitmentResult { transaction: check.transaction, committed, failed })
    }

    /// Sends one answer on an association of the engine's own. False if none is due.
    async fn report_next(&self) -> Result<bool, StoreError> {
        let Some(report) = self.store.claim_commitment_report(LEASE).await? else {
            return Ok(false);
        };
        let end = match self.reporter.report(&report).await {
            Ok(()) => ReportEnd::Reported,
            Err(error) => {
                let attempt = report.attempt;
                warn!(peer = report.peer, attempt, "storage commitment not answered");
                ReportEnd::NotReported(error.to_string())
            }
        };
        let transaction = &report.result.transaction;
        self.store.finish_commitment_report(&report.peer, transaction, end).await?;
        Ok(true)
    }
}
