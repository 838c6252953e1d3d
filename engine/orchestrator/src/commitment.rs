//! Answers requests for storage commitment after the files were read again (DIN-30..33).
//!
//! The engine commits itself to an instance only after it has compared the whole file with the
//! digest of its arrival. The answer goes out on the association of the request if that is still
//! open, and otherwise on one of the engine's own (PS3.4, J.3.3).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// How long a request waits whose files cannot be read. Other requests have their turn meanwhile.
const UNREADABLE_WAIT: Duration = Duration::from_secs(30);

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
        let claimed = Instant::now();
        let peer = check.peer.clone();
        let transaction = check.transaction.clone();
        let result = match self.check(check).await {
            Ok(result) => result,
            Err(error) => {
                // A file is not reported as lost because the disk cannot be read at the moment.
                error!(%error, "files cannot be read for storage commitment");
                let postpone =
                    || self.store.postpone_commitment_check(&peer, &transaction, UNREADABLE_WAIT);
                while let Err(error) = postpone().await {
                    wait_for_database(claimed, error).await?;
                }
                return Ok(true);
            }
        };
        let committed = result.committed.len();
        let failed = result.failed.len();
        info!(peer, committed, failed, "storage commitment checked");
        let finish =
            || self.store.finish_commitment_check(&peer, result.clone(), SAME_ASSOCIATION_GRACE);
        while let Err(error) = finish().await {
            wait_for_database(claimed, error).await?;
        }
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

    async fn report_next(&self) -> Result<bool, StoreError> {
        report_next(self.store.as_ref(), self.reporter.as_ref()).await
    }
}

/// Sends one answer on an association of the engine's own. False if none is due.
async fn report_next(
    store: &dyn CommitmentStore,
    reporter: &dyn CommitmentReporter,
) -> Result<bool, StoreError> {
    let Some(report) = store.claim_commitment_report(LEASE).await? else {
        return Ok(false);
    };
    let claimed = Instant::now();
    let end = match reporter.report(&report).await {
        Ok(()) => ReportEnd::Reported,
        Err(error) => {
            let attempt = report.attempt;
            warn!(peer = report.peer, attempt, "storage commitment not answered");
            ReportEnd::NotReported(error.to_string())
        }
    };
    let transaction = &report.result.transaction;
    let finish = || store.finish_commitment_report(&report.peer, transaction, end.clone());
    while let Err(error) = finish().await {
        wait_for_database(claimed, error).await?;
    }
    Ok(true)
}

/// Waits before the database is told again how something ended, if it may work by then. It gives up
/// with the lease: another engine may have claimed the request.
async fn wait_for_database(claimed: Instant, error: StoreError) -> Result<(), StoreError> {
    if !matches!(error, StoreError::Database(_)) || claimed.elapsed() >= LEASE {
        return Err(error);
    }
    error!(error = %ErrorChain(&error), "the end of a storage commitment cannot be recorded");
    tokio::time::sleep(DATABASE_RETRY_DELAY).await;
    Ok(())
}

#[cfg(test)]
mod tests;
