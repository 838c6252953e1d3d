//! Tests of what is recorded about storage commitment.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use contracts::{CommitmentReport, CommitmentRequest, SendError};

use super::*;

/// A database with one result to report, which fails for the first attempts to record its end.
#[derive(Default)]
struct FailingStore {
    claims: AtomicUsize,
    ends: AtomicUsize,
}

#[async_trait]
impl CommitmentStore for FailingStore {
    async fn store_commitment_request(&self, _: CommitmentRequest) -> Result<(), StoreError> {
        Ok(())
    }

    async fn claim_commitment_check(
        &self,
        _: Duration,
    ) -> Result<Option<CommitmentCheck>, StoreError> {
        Ok(None)
    }

    async fn postpone_commitment_check(
        &self,
        _: &str,
        _: &str,
        _: Duration,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    async fn finish_commitment_check(
        &self,
        _: &str,
        _: CommitmentResult,
        _: Duration,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    async fn claim_commitment_reply(
        &self,
        _: &str,
        _: &str,
        _: Duration,
    ) -> Result<Option<CommitmentResult>, StoreError> {
        Ok(None)
    }

    async fn claim_commitment_report(
        &self,
        _: Duration,
    ) -> Result<Option<CommitmentReport>, StoreError> {
        if self.claims.fetch_add(1, Ordering::Relaxed) > 0 {
            return Ok(None);
        }
        let transaction = "1.2.3".to_owned();
        Ok(Some(CommitmentReport {
            peer: "CT1".to_owned(),
            address: "10.0.0.1".to_owned(),
            called_ae: "ISOCENTER".to_owned(),
            result: CommitmentResult { transaction, committed: Vec::new(), failed: Vec::new() },
            attempt: 1,
        }))
    }

    async fn finish_commitment_report(
        &self,
        _: &str,
        _: &str,
        end: ReportEnd,
    ) -> Result<(), StoreError> {
        assert_eq!(end, ReportEnd::Reported);
        if self.ends.fetch_add(1, Ordering::Relaxed) == 0 {
            return Err(StoreError::Database("No space left on device".into()));
        }
        Ok(())
    }
}

#[derive(Default)]
struct CountingReporter(AtomicUsize);

#[async_trait]
impl CommitmentReporter for CountingReporter {
    async fn report(&self, _: &CommitmentReport) -> Result<(), SendError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::test]
async fn din_32_an_answer_that_was_given_is_recorded_once_the_database_works_again() {
    let store = FailingStore::default();
    let reporter = CountingReporter::default();
    assert!(report_next(&store, &reporter).await.unwrap());
    assert_eq!(store.ends.load(Ordering::Relaxed), 2);
    assert!(!report_next(&store, &reporter).await.unwrap());
    assert_eq!(reporter.0.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_cannot_be_recorded_at_all_is_left_to_the_lease() {
    let inconsistent = || StoreError::Inconsistent("a row".to_owned());
    assert!(wait_for_database(Instant::now(), inconsistent()).await.is_err());
}
