//! Answers requests for storage commitment, once the files have been read again (DIN-30..33).

use std::time::Duration;

use contracts::{
    CommitmentCheck, CommitmentResult, FailureReason, ReportEnd, StoreError, WorkKind,
};
use domain::ErrorChain;
use tracing::{error, info, warn};

use crate::orchestrator::{AFTER_FAILURE, Orchestrator, POLL};

/// How long the association of a request may give the answer before we call back (DIN-32).
const GRACE: Duration = Duration::from_secs(5);

/// How long reading the files of a request, or giving an answer, may take before somebody else may
/// try. Reading is not renewed: it is repeated.
const LEASE: Duration = Duration::from_mins(10);

impl Orchestrator {
    /// Answers one request after the other.
    pub(crate) async fn answer_commitments(&self) {
        loop {
            let outcome = match self.check_next().await {
                Ok(false) => self.report_next().await,
                other => other,
            };
            match outcome {
                Ok(true) => {}
                Ok(false) => self.store.wait_for(WorkKind::Commitment, POLL).await,
                Err(error) => {
                    error!(error = %ErrorChain(&error), "no storage commitment can be answered");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    async fn check_next(&self) -> Result<bool, StoreError> {
        let Some(check) = self.store.claim_commitment_check(LEASE).await? else {
            return Ok(false);
        };
        let peer = check.peer.clone();
        let result = match self.examined(check).await {
            Ok(result) => result,
            Err(error) => {
                // The disk: nobody is told that a file is gone because it cannot be read just now.
                error!(%error, "files cannot be read for storage commitment");
                tokio::time::sleep(AFTER_FAILURE).await;
                return Ok(true);
            }
        };
        let (committed, failed) = (result.committed.len(), result.failed.len());
        info!(peer, committed, failed, "storage commitment checked");
        self.store.finish_commitment_check(&peer, result, GRACE).await?;
        Ok(true)
    }

    async fn examined(&self, check: CommitmentCheck) -> std::io::Result<CommitmentResult> {
        let (mut committed, mut failed) = (Vec::new(), Vec::new());
        for (reference, kept) in check.references {
            let failure = match kept {
                None => Some(FailureReason::NO_SUCH_OBJECT),
                Some((class, _)) if class != reference.sop_class => {
                    Some(FailureReason::CLASS_INSTANCE_CONFLICT)
                }
                Some((_, sha256)) if self.archive.is_intact(&sha256).await? => None,
                Some(_) => Some(FailureReason::PROCESSING_FAILURE),
            };
            match failure {
                None => committed.push(reference),
                Some(reason) => failed.push((reference, reason)),
            }
        }
        Ok(CommitmentResult { transaction: check.transaction, committed, failed })
    }

    async fn report_next(&self) -> Result<bool, StoreError> {
        let Some(report) = self.store.claim_commitment_report(LEASE).await? else {
            return Ok(false);
        };
        let (peer, transaction) = (&report.peer, &report.result.transaction);
        let end = match self.reporter.report(&report).await {
            Ok(()) => ReportEnd::Reported,
            Err(error) => {
                let reason = error.to_string();
                warn!(peer, attempt = report.attempt, "storage commitment not answered");
                ReportEnd::NotReported(reason)
            }
        };
        self.store.finish_commitment_report(peer, transaction, end).await?;
        Ok(true)
    }
}
