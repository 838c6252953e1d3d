//! Tests of storage commitment as a provider (DIN-30..33).

use std::time::Duration;

use contracts::{
    CommitmentRequest, CommitmentResult, CommitmentStore as _, FailedReference, FailureReason,
    InstanceStore as _, ReportEnd, SopReference,
};

use crate::testing::{TestStore, instance};

const LEASE: Duration = Duration::from_mins(1);

fn reference(number: u32) -> SopReference {
    let record = instance(1, 1, number);
    SopReference { sop_class: record.arrival.sop_class, sop_instance: record.instance }
}

fn request(references: Vec<SopReference>) -> CommitmentRequest {
    CommitmentRequest {
        transaction: "1.2.3".to_owned(),
        calling_ae: "CT1".to_owned(),
        called_ae: "ISOCENTER".to_owned(),
        address: "10.0.0.1".to_owned(),
        references,
    }
}

fn committed(references: Vec<SopReference>) -> CommitmentResult {
    let transaction = "1.2.3".to_owned();
    CommitmentResult { transaction, committed: references, failed: Vec::new() }
}

/// Asks for an instance that is stored, and checks it.
async fn checked() -> TestStore {
    let test = TestStore::new().await;
    test.intake.store_instance(instance(1, 1, 1)).await.unwrap();
    test.store.store_commitment_request(request(vec![reference(1)])).await.unwrap();
    test.store.claim_commitment_check(LEASE).await.unwrap().unwrap();
    let result = committed(vec![reference(1)]);
    test.store.finish_commitment_check("CT1", result, Duration::ZERO).await.unwrap();
    test
}

#[tokio::test]
async fn din_31_a_request_is_checked_against_what_is_stored() {
    let test = TestStore::new().await;
    test.intake.store_instance(instance(1, 1, 1)).await.unwrap();
    let asked = request(vec![reference(1), reference(2)]);
    test.store.store_commitment_request(asked).await.unwrap();

    let check = test.store.claim_commitment_check(LEASE).await.unwrap().unwrap();
    assert_eq!(check.peer, "CT1");
    let stored: Vec<bool> = check.references.iter().map(|it| it.stored.is_some()).collect();
    assert_eq!(stored, [true, false]);
    // Another worker has nothing to check while the lease holds.
    assert!(test.store.claim_commitment_check(LEASE).await.unwrap().is_none());
}

#[tokio::test]
async fn din_32_a_request_whose_files_cannot_be_read_is_checked_again_after_its_wait() {
    let test = TestStore::new().await;
    test.store.store_commitment_request(request(vec![reference(1)])).await.unwrap();
    test.store.claim_commitment_check(LEASE).await.unwrap().unwrap();
    let postpone = |wait| test.store.postpone_commitment_check("CT1", "1.2.3", wait);
    postpone(LEASE).await.unwrap();
    assert!(test.store.claim_commitment_check(LEASE).await.unwrap().is_none());
    postpone(Duration::ZERO).await.unwrap();
    assert!(test.store.claim_commitment_check(LEASE).await.unwrap().is_some());
}

#[tokio::test]
async fn acc_05_a_time_from_a_clock_that_was_ahead_holds_no_answer_back() {
    let test = checked().await;
    for column in ["run_after", "lease_until"] {
        let update =
            format!("update commitment set {column} = clock_timestamp() + interval '1 day'");
        test.execute(&update).await;
        assert!(test.store.claim_commitment_report(LEASE).await.unwrap().is_some(), "{column}");
    }
}

#[tokio::test]
async fn din_33_committed_instances_are_marked_and_the_result_is_reported() {
    let test = checked().await;
    assert_eq!(test.count("instance where committed_at is not null").await, 1);
    let report = test.store.claim_commitment_report(LEASE).await.unwrap().unwrap();
    assert_eq!(report.result.committed, [reference(1)]);
    let end = ReportEnd::Reported;
    test.store.finish_commitment_report("CT1", "1.2.3", end).await.unwrap();
    assert!(test.store.claim_commitment_report(LEASE).await.unwrap().is_none());
    assert_eq!(test.count("audit.event where kind = 'commitment_reported'").await, 1);
}

#[tokio::test]
async fn din_31_another_request_under_a_used_transaction_uid_fails_whole() {
    let test = checked().await;
    test.store.store_commitment_request(request(vec![reference(2)])).await.unwrap();
    let reply = test.store.claim_commitment_reply("CT1", "1.2.3", LEASE).await.unwrap().unwrap();
    assert!(reply.committed.is_empty());
    let reason = FailureReason::DUPLICATE_TRANSACTION;
    assert_eq!(reply.failed, [FailedReference { reference: reference(2), reason }]);
}

#[tokio::test]
async fn din_32_a_repeated_request_has_its_result_reported_again() {
    let test = checked().await;
    let end = ReportEnd::Reported;
    test.store.finish_commitment_report("CT1", "1.2.3", end).await.unwrap();
    test.store.store_commitment_request(request(vec![reference(1)])).await.unwrap();
    let reply = test.store.claim_commitment_reply("CT1", "1.2.3", LEASE).await.unwrap().unwrap();
    assert_eq!(reply.committed, [reference(1)]);
    assert_eq!(test.count("audit.event where kind = 'commitment_asked_again'").await, 1);
}

#[tokio::test]
async fn din_32_a_peer_that_cannot_be_reached_for_days_is_given_to_a_person() {
    let test = checked().await;
    let failed = || ReportEnd::NotReported("connection refused".to_owned());
    test.store.claim_commitment_report(LEASE).await.unwrap().unwrap();
    test.store.finish_commitment_report("CT1", "1.2.3", failed()).await.unwrap();
    assert_eq!(test.value("select state from commitment").await, "checked");
    // The next attempt waits.
    assert!(test.store.claim_commitment_report(LEASE).await.unwrap().is_none());

    test.execute("update commitment set asked_at = now() - interval '8 days'").await;
    test.store.finish_commitment_report("CT1", "1.2.3", failed()).await.unwrap();
    assert_eq!(test.value("select state from commitment").await, "expired");
    assert_eq!(test.value("select kind from task").await, "commitment_given_up");
}
