//! Tests of deliveries: their order, leases, composing, destinations, and storage commitment.

use std::time::Duration;

use contracts::{
    AtFault, Block, ClaimedDelivery, CommitmentAnswer, CommitmentEvent, CommitmentResult, Compose,
    ComposeFailure, ComposedReport, DELIVERY_WAIT_MAX, DeliveryEnd, DeliveryStore as _,
    DeliveryView, FailedReference, FailureReason, InstanceRecord, InstanceStore as _, MergeKind,
    MessageEffect, MessageStore as _, Output, SopReference, StoreError,
};
use domain::event::OmittedPicture;
use domain::{Actor, BlockReason, DemographicsChange, OrderAction, OrderKey, OutputKind};
use uuid::Uuid;

use crate::run::record::{self, RunToChange};
use crate::testing::{
    TestStore, delivery, instance, message, new_run, order_number, ordered, patient_id,
};

const LEASE: Duration = Duration::from_mins(1);

/// Adds a run on the study with this number, with deliveries to these destinations.
async fn add_run(test: &TestStore, study: u32, patient: &str, destinations: &[&str]) -> Uuid {
    let mut image = instance(study, 1, 1);
    image.patient = Some(patient_id(patient));
    test.intake.store_instance(image.clone()).await.unwrap();
    let query = format!("select patient from patient_identifier where value = '{patient}'");
    let patient: Uuid = test.value(&query).await.parse().unwrap();
    queue_run(test, &image, Some(patient), destinations).await
}

/// Adds a run on a study that names no patient.
async fn add_run_without_patient(test: &TestStore, destinations: &[&str]) -> Uuid {
    let image = InstanceRecord { patient: None, ..instance(1, 1, 1) };
    test.intake.store_instance(image.clone()).await.unwrap();
    queue_run(test, &image, None, destinations).await
}

async fn queue_run(
    test: &TestStore,
    image: &InstanceRecord,
    patient: Option<Uuid>,
    destinations: &[&str],
) -> Uuid {
    let run = new_run(image, patient, &Uuid::now_v7().to_string());
    let of_patient = patient.map_or("null".to_owned(), |it| format!("'{it}'"));
    test.execute(&format!(
        "insert into workflow_version (name, digest, definition)
            values ('chest', '{digest}', '') on conflict do nothing;
         insert into run (id, workflow, digest, patient, study, priority, input_key, state, reason,
            source)
         values ('{id}', 'chest', '{digest}', {of_patient}, '{study}', 5, '{key}', '{{}}', '', '');",
        digest = run.workflow.digest,
        id = run.id,
        study = image.study,
        key = run.input_key,
    ))
    .await;
    let mut tx = test.store.begin().await.unwrap();
    let deliveries =
        destinations.iter().enumerate().map(|(index, name)| delivery(index, name)).collect();
    let step = contracts::RunStep { deliveries, ..contracts::RunStep::default() };
    let changed = RunToChange { id: run.id, patient, priority: 5 };
    record::apply_step(&mut tx, &test.store.keys, &changed, step).await.unwrap();
    tx.commit().await.unwrap();
    run.id
}

async fn claim(test: &TestStore) -> Option<ClaimedDelivery> {
    test.store.claim_delivery(LEASE, &[]).await.unwrap()
}

fn output(id: &str) -> Output {
    Output {
        kind: OutputKind::Sr,
        id: id.to_owned(),
        series: String::new(),
        sop_class: String::new(),
        bytes: b"report".to_vec(),
        stored: None,
    }
}

/// Composes an output whose identifier contains the revision.
fn compose() -> Compose<'static> {
    Box::new(|view: &DeliveryView| {
        let outputs = vec![output(&format!("revision {}", view.revision))];
        Ok(ComposedReport { outputs, omitted: Vec::new() })
    })
}

#[tokio::test]
async fn hl7_14_deliveries_of_a_patient_to_a_destination_keep_their_order() {
    let test = TestStore::new().await;
    let first = add_run(&test, 1, "P1", &["pacs"]).await;
    let second = add_run(&test, 2, "P1", &["pacs"]).await;
    let other = add_run(&test, 3, "P2", &["pacs"]).await;

    let claimed = claim(&test).await.unwrap();
    assert_eq!(claimed.run, first);
    // The second of the patient waits for the first; another patient does not.
    assert_eq!(claim(&test).await.unwrap().run, other);
    assert!(claim(&test).await.is_none());
    test.store.finish_delivery(&claimed, DeliveryEnd::Delivered).await.unwrap();
    assert_eq!(claim(&test).await.unwrap().run, second);
}

#[tokio::test]
async fn a_delivery_whose_lease_has_expired_is_claimed_again_under_a_new_transaction() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    let first = test.store.claim_delivery(Duration::ZERO, &[]).await.unwrap().unwrap();
    assert!(test.store.claim_delivery(LEASE, &[first.id]).await.unwrap().is_none());
    let second = claim(&test).await.unwrap();
    assert_eq!((first.attempt, second.attempt), (1, 2));
    assert_ne!(first.transaction, second.transaction);

    let renewed = test.store.renew_delivery(&first, LEASE).await;
    assert!(matches!(renewed, Err(StoreError::Superseded)));
    let ended = test.store.finish_delivery(&first, DeliveryEnd::Delivered).await;
    assert!(matches!(ended, Err(StoreError::Superseded)));
    test.store.renew_delivery(&second, LEASE).await.unwrap();
}

#[tokio::test]
async fn outputs_are_composed_once_and_again_when_the_identity_changes() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    let claimed = claim(&test).await.unwrap();
    let composed = async || {
        let outputs = test.store.compose_delivery(&claimed, compose()).await.unwrap();
        outputs.unwrap().remove(0).id
    };
    assert_eq!(composed().await, "revision 0");
    assert_eq!(composed().await, "revision 0");
    assert_eq!(test.count("audit.event where kind = 'report_composed'").await, 1);

    test.execute("update patient set version = version + 1").await;
    assert_eq!(composed().await, "revision 1");
    assert_eq!(test.count("audit.event where kind = 'report_composed'").await, 2);
}

#[tokio::test]
async fn a_failure_to_compose_stores_nothing() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    let claimed = claim(&test).await.unwrap();
    let failure = ComposeFailure::Retryable { reason: "no file".to_owned() };
    let failing = failure.clone();
    let outcome =
        test.store.compose_delivery(&claimed, Box::new(move |_| Err(failing))).await.unwrap();
    assert_eq!(outcome.unwrap_err(), failure);
    assert_eq!(test.count("run_revision").await, 0);
    assert_eq!(test.count("payload where kind = 'outputs'").await, 0);
}

/// An image that cannot be decoded is told where people look, once the rest has arrived.
#[tokio::test]
async fn sec_24_a_delivery_that_arrived_without_a_picture_says_so() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    let claimed = claim(&test).await.unwrap();
    let omitted = vec![OmittedPicture {
        instance: "1.2.3".to_owned(),
        reason: "its pixels cannot be decoded".to_owned(),
    }];
    let report = ComposedReport { outputs: vec![output("o")], omitted };
    let composed = test.store.compose_delivery(&claimed, Box::new(move |_| Ok(report))).await;
    assert!(composed.unwrap().is_ok());
    test.store.finish_delivery(&claimed, DeliveryEnd::Delivered).await.unwrap();
    let reason = test.value("select reason from delivery").await;
    assert_eq!(reason, "nothing is drawn into image 1.2.3: its pixels cannot be decoded");
}

#[tokio::test]
async fn hl7_44_a_merge_releases_a_delivery_that_mixed_two_patients() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    let claimed = claim(&test).await.unwrap();
    let block = Block {
        by: BlockReason::IdentityConflict,
        reason: "images and order are of two patients".to_owned(),
    };
    test.store.finish_delivery(&claimed, DeliveryEnd::Blocked(block)).await.unwrap();
    assert_eq!(test.value("select blocked_by from delivery").await, "identity_conflict");
    assert!(claim(&test).await.is_none());

    let merge = MessageEffect::Merge {
        kind: MergeKind::Merge,
        survivor: patient_id("P1"),
        source: patient_id("P2"),
        demographics: DemographicsChange::default(),
    };
    test.intake.store_message(message("1", vec![merge])).await.unwrap();
    assert_eq!(test.value("select blocked_by from delivery").await, "");
    assert_eq!(claim(&test).await.unwrap().run, claimed.run);
}

/// An order that comes while a report is on its way is not in it either.
#[tokio::test]
async fn din_65_an_order_that_comes_during_an_attempt_makes_stale_what_was_sent_without_it() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    let claimed = claim(&test).await.unwrap();
    assert!(test.store.compose_delivery(&claimed, compose()).await.unwrap().is_ok());
    let key = OrderKey { accession: "A1".to_owned(), ..OrderKey::default() };
    let order = ordered(OrderAction::Place, "P1", key);
    test.intake.store_message(message("1", vec![order])).await.unwrap();

    test.store.finish_delivery(&claimed, DeliveryEnd::Delivered).await.unwrap();

    assert_eq!(test.count("delivery where is_stale").await, 1);
    let told = "audit.event where kind = 'order_linked_after_delivery'";
    assert_eq!(test.count(told).await, 1);
}

/// What waits for commitment was sent without the order, too.
#[tokio::test]
async fn din_65_an_order_that_comes_later_makes_stale_what_is_not_committed_yet() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    let claimed = claim(&test).await.unwrap();
    assert!(test.store.compose_delivery(&claimed, compose()).await.unwrap().is_ok());
    let end = DeliveryEnd::AwaitingCommitment;
    test.store.finish_delivery(&claimed, end).await.unwrap();

    let key = OrderKey { accession: "A1".to_owned(), ..OrderKey::default() };
    let order = ordered(OrderAction::Place, "P1", key);
    test.intake.store_message(message("1", vec![order])).await.unwrap();

    assert_eq!(test.count("delivery where is_stale").await, 1);
}

#[tokio::test]
async fn din_65_a_report_is_sent_again_with_an_order_that_comes_later_where_that_is_wanted() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["ehr"]).await;
    let deliver = async || {
        let claimed = claim(&test).await.unwrap();
        assert!(test.store.compose_delivery(&claimed, compose()).await.unwrap().is_ok());
        test.store.finish_delivery(&claimed, DeliveryEnd::Delivered).await.unwrap();
    };
    deliver().await;
    let order = async |number: &str, accession: &str| {
        let accession = accession.to_owned();
        let key = OrderKey { placer: order_number(number), accession, ..OrderKey::default() };
        let effect = ordered(OrderAction::Place, "P1", key);
        let id = Uuid::now_v7().to_string();
        test.intake.store_message(message(&id, vec![effect])).await.unwrap();
    };
    order("9", "A9").await;
    assert_eq!(test.count("delivery where is_stale").await, 0);
    order("1", "A1").await;
    assert_eq!(test.count("delivery where is_stale").await, 1);
    let told = "audit.event where kind = 'order_linked_after_delivery'";
    assert_eq!(test.count(told).await, 1);

    assert_eq!(test.store.queue_identity_corrections(&|name| name == "ehr").await.unwrap(), 1);
    deliver().await;
    // The same order again is nothing new.
    order("1", "A1").await;
    assert_eq!(test.count("delivery where is_stale").await, 0);
    assert_eq!(test.count(told).await, 1);
}

#[tokio::test]
async fn hl7_34_a_report_under_an_old_identity_is_sent_again_where_that_is_wanted() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P2", &["pacs", "archive"]).await;
    for _ in 0..2 {
        let claimed = claim(&test).await.unwrap();
        let outputs = test.store.compose_delivery(&claimed, compose()).await.unwrap();
        assert!(outputs.is_ok());
        test.store.finish_delivery(&claimed, DeliveryEnd::Delivered).await.unwrap();
    }
    let merge = MessageEffect::Merge {
        kind: MergeKind::Merge,
        survivor: patient_id("P1"),
        source: patient_id("P2"),
        demographics: DemographicsChange::default(),
    };
    test.intake.store_message(message("1", vec![merge])).await.unwrap();
    assert_eq!(test.count("delivery where is_stale").await, 2);

    let wanted = |name: &str| name == "pacs";
    assert_eq!(test.store.queue_identity_corrections(&wanted).await.unwrap(), 2);
    assert_eq!(test.store.queue_identity_corrections(&wanted).await.unwrap(), 0);
    assert_eq!(test.count("delivery where state = 'queued'").await, 1);
    assert_eq!(claim(&test).await.unwrap().destination, "pacs");
}

#[tokio::test]
async fn a_failed_delivery_is_given_to_a_person_and_can_be_resent() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    let claimed = claim(&test).await.unwrap();
    let failed = DeliveryEnd::Failed { reason: "no such AE".to_owned(), pauses: false };
    test.store.finish_delivery(&claimed, failed).await.unwrap();
    assert_eq!(test.value("select reason from task").await, "pacs: no such AE");
    assert!(claim(&test).await.is_none());
    let count = test.store.resend_failed(Some("pacs"), Actor::person("ann")).await.unwrap();
    assert_eq!(count, 1);
    assert_eq!(claim(&test).await.unwrap().attempt, 2);
}

fn postponed(at_fault: AtFault, after: Duration) -> DeliveryEnd {
    DeliveryEnd::Again { reason: "no answer".to_owned(), after, at_fault }
}

#[tokio::test]
async fn acc_04_a_failure_of_our_own_does_not_count_against_a_destination() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    for attempt in 1..=7 {
        let claimed = claim(&test).await.unwrap();
        assert_eq!(claimed.attempt, attempt);
        let own = postponed(AtFault::Engine, Duration::ZERO);
        test.store.finish_delivery(&claimed, own).await.unwrap();
    }
    let line = test.store.destinations().await.unwrap().remove(0);
    let text = (line.state.as_str(), line.last_error.as_str());
    assert_eq!((text, line.failures), (("working", ""), 0));
}

#[tokio::test]
async fn acc_05_a_time_from_a_clock_that_was_ahead_holds_no_delivery_back() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    let claimed = claim(&test).await.unwrap();
    let later = postponed(AtFault::Engine, DELIVERY_WAIT_MAX);
    test.store.finish_delivery(&claimed, later).await.unwrap();
    // A wait that the engine itself may have set holds.
    assert!(claim(&test).await.is_none());
    let ahead = "clock_timestamp() + interval '1 hour'";
    test.execute(&format!("update delivery set run_after = {ahead}")).await;
    assert_eq!(claim(&test).await.unwrap().attempt, 2);
    assert!(claim(&test).await.is_none());
    test.execute(&format!("update delivery set lease_until = {ahead}")).await;
    let third = claim(&test).await.unwrap();
    assert_eq!(third.attempt, 3);
    let again = postponed(AtFault::Destination, Duration::ZERO);
    test.store.finish_delivery(&third, again).await.unwrap();
    test.execute(&format!("update destination_state set open_until = {ahead}")).await;
    assert_eq!(test.store.destinations().await.unwrap().remove(0).state, "working");
    assert_eq!(claim(&test).await.unwrap().attempt, 4);
}

#[tokio::test]
async fn a_destination_rests_after_failures_in_a_row_and_a_success_ends_that() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    let again = || postponed(AtFault::Destination, Duration::ZERO);
    for _ in 0..5 {
        let claimed = claim(&test).await.unwrap();
        test.store.finish_delivery(&claimed, again()).await.unwrap();
    }
    assert!(claim(&test).await.is_none());
    assert_eq!(test.store.destinations().await.unwrap()[0].state, "resting");

    test.execute("update destination_state set open_until = null").await;
    let claimed = claim(&test).await.unwrap();
    test.store.finish_delivery(&claimed, DeliveryEnd::Delivered).await.unwrap();
    let line = test.store.destinations().await.unwrap().remove(0);
    assert_eq!((line.state.as_str(), line.failures), ("working", 0));
    let kinds = test.event_kinds().await;
    assert!(kinds.contains(&"destination_rests".to_owned()));
    assert!(kinds.contains(&"destination_back".to_owned()));
}

#[tokio::test]
async fn a_paused_destination_gets_nothing_until_it_is_resumed() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    let ann = || Actor::person("ann");
    assert!(test.store.pause_destination("pacs", true, ann()).await.unwrap());
    assert!(!test.store.pause_destination("pacs", true, ann()).await.unwrap());
    assert!(claim(&test).await.is_none());
    assert!(test.store.pause_destination("pacs", false, ann()).await.unwrap());
    assert!(claim(&test).await.is_some());
}

/// Claims the only delivery, to be composed of an object with this UID.
async fn claim_and_compose(test: &TestStore) -> ClaimedDelivery {
    let claimed = claim(test).await.unwrap();
    let outputs = vec![Output { sop_class: "1.2".to_owned(), ..output("1.2.3") }];
    let report = ComposedReport { outputs, omitted: Vec::new() };
    let composed = test.store.compose_delivery(&claimed, Box::new(move |_| Ok(report)));
    assert!(composed.await.unwrap().is_ok());
    claimed
}

fn reference(sop_instance: &str) -> SopReference {
    SopReference { sop_class: "1.2".to_owned(), sop_instance: sop_instance.to_owned() }
}

/// An answer that commits these instances, and no other fails.
fn answer(delivery: &ClaimedDelivery, committed: &[&str]) -> CommitmentAnswer {
    let transaction = delivery.transaction.clone();
    let committed = committed.iter().map(|it| reference(it)).collect();
    let result = CommitmentResult { transaction, committed, failed: Vec::new() };
    CommitmentAnswer { event: CommitmentEvent::AllCommitted, result }
}

/// An answer by which the instance of the delivery is lost.
fn failure(delivery: &ClaimedDelivery) -> CommitmentAnswer {
    let reason = FailureReason::PROCESSING_FAILURE;
    let failed = vec![FailedReference { reference: reference("1.2.3"), reason }];
    let result = CommitmentResult { failed, ..answer(delivery, &[]).result };
    CommitmentAnswer { event: CommitmentEvent::FailuresExist, result }
}

async fn record(test: &TestStore, answer: CommitmentAnswer) -> bool {
    test.store.record_commitment_answer(answer, "PACS", "10.0.0.3").await.unwrap()
}

#[tokio::test]
async fn din_34_an_answer_settles_a_delivery_whether_it_comes_before_or_after_the_end() {
    for is_early in [true, false] {
        let test = TestStore::new().await;
        add_run(&test, 1, "P1", &["pacs"]).await;
        let claimed = claim_and_compose(&test).await;
        let end = DeliveryEnd::AwaitingCommitment;
        if !is_early {
            test.store.finish_delivery(&claimed, end.clone()).await.unwrap();
        }
        assert!(record(&test, answer(&claimed, &["1.2.3"])).await);
        if is_early {
            test.store.finish_delivery(&claimed, end).await.unwrap();
        }
        let state = test.value("select state from delivery").await;
        assert_eq!(state, "delivered", "early: {is_early}");
    }
}

/// The state and reason of the only delivery, after the PACS has answered its request.
async fn settled(answer: impl Fn(&ClaimedDelivery) -> CommitmentAnswer) -> (String, String) {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    let claimed = claim_and_compose(&test).await;
    test.store.finish_delivery(&claimed, DeliveryEnd::AwaitingCommitment).await.unwrap();
    assert!(record(&test, answer(&claimed)).await);
    let line = test.store.deliveries(false, 1).await.unwrap().remove(0);
    (line.state, line.reason)
}

#[tokio::test]
async fn din_34_a_delivery_that_was_not_committed_instance_by_instance_is_sent_again() {
    let queued =
        |gap: &str| ("queued".to_owned(), format!("the destination did not commit: {gap}"));
    assert_eq!(settled(failure).await, queued("1.2.3 failed with 0x0110"));
    let missing = settled(|it| answer(it, &[])).await;
    assert_eq!(missing, queued("1.2.3 is not mentioned"));
    let additional = settled(|it| answer(it, &["1.2.3", "1.2.4"])).await;
    assert_eq!(additional, queued("1.2.4 was not requested"));
    let event = CommitmentEvent::FailuresExist;
    let unnamed = settled(|it| CommitmentAnswer { event, ..answer(it, &["1.2.3"]) }).await;
    assert_eq!(unnamed, queued("failures without an instance"));
}

#[tokio::test]
async fn din_34_an_answer_to_another_transaction_settles_nothing() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    let claimed = claim_and_compose(&test).await;
    test.store.finish_delivery(&claimed, DeliveryEnd::AwaitingCommitment).await.unwrap();
    let mut other = answer(&claimed, &["1.2.3"]);
    other.result.transaction = "9.9".to_owned();
    assert!(!record(&test, other).await);
    assert_eq!(test.value("select state from delivery").await, "awaiting_commitment");
}

#[tokio::test]
async fn din_34_a_delivery_that_is_never_committed_is_given_to_a_person() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    for attempt in 1..=5 {
        test.execute("update delivery set run_after = now()").await;
        let claimed = claim_and_compose(&test).await;
        assert_eq!(claimed.attempt, attempt);
        test.store.finish_delivery(&claimed, DeliveryEnd::AwaitingCommitment).await.unwrap();
        assert!(record(&test, failure(&claimed)).await);
    }
    assert_eq!(test.value("select state from delivery").await, "failed");
    let reason = "pacs: the destination did not commit: 1.2.3 failed with 0x0110";
    assert_eq!(test.value("select reason from task").await, reason);
}

#[tokio::test]
async fn hl7_34_a_delivery_without_a_patient_is_made_once_and_says_so() {
    let test = TestStore::new().await;
    add_run_without_patient(&test, &["pacs"]).await;
    let claimed = claim_and_compose(&test).await;
    test.store.finish_delivery(&claimed, DeliveryEnd::Delivered).await.unwrap();

    assert_eq!(test.store.queue_identity_corrections(&|_| true).await.unwrap(), 0);
    let kinds = test.event_kinds().await;
    assert!(!kinds.contains(&"identity_changed_after_delivery".to_owned()), "{kinds:?}");
    let line = test.store.deliveries(false, 1).await.unwrap().remove(0);
    assert_eq!(line.state, "delivered");
    assert_eq!(line.reason, "its study or message names no patient");
    assert!(claim(&test).await.is_none());
}

/// Makes the only delivery, which something queues again each time. Returns how it was composed.
async fn make_again(test: &TestStore) -> Result<(), ComposeFailure> {
    test.execute("update delivery set state = 'queued', ended_at = null").await;
    let claimed = claim(test).await.unwrap();
    let composed = test.store.compose_delivery(&claimed, compose()).await.unwrap();
    let end = match &composed {
        Ok(_) => DeliveryEnd::Delivered,
        Err(_) => DeliveryEnd::Failed { reason: String::new(), pauses: false },
    };
    test.store.finish_delivery(&claimed, end).await.unwrap();
    composed.map(|_| ())
}

#[tokio::test]
async fn a_delivery_that_nothing_asks_for_is_stopped_after_some_times_and_found() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    let repeats = "no delivery repeats";
    for _ in 0..4 {
        assert_eq!(make_again(&test).await, Ok(()));
    }
    let is_good = async || {
        let checks = test.store.examine().await.unwrap();
        checks.iter().find(|it| it.name == repeats).unwrap().is_good
    };
    assert!(is_good().await);
    assert_eq!(make_again(&test).await, Ok(()));
    assert!(!is_good().await);
    assert_eq!(make_again(&test).await, Err(ComposeFailure::Repeats));
    assert_eq!(test.value("select state from delivery").await, "failed");

    // A person, and a change of identity, ask for it.
    let id: Uuid = test.value("select id from delivery").await.parse().unwrap();
    assert!(test.store.resend(id, Actor::person("ann")).await.unwrap());
    assert_eq!(make_again(&test).await, Ok(()));
    test.execute("update patient set version = version + 1").await;
    assert_eq!(make_again(&test).await, Ok(()));
    assert_eq!(make_again(&test).await, Err(ComposeFailure::Repeats));
}

#[tokio::test]
async fn a_commitment_that_never_comes_is_given_to_a_person() {
    let test = TestStore::new().await;
    add_run(&test, 1, "P1", &["pacs"]).await;
    let claimed = claim(&test).await.unwrap();
    test.store.finish_delivery(&claimed, DeliveryEnd::AwaitingCommitment).await.unwrap();
    let hour = Duration::from_hours(1);
    assert_eq!(test.store.expire_awaiting_commitment(hour).await.unwrap(), 0);
    assert_eq!(test.store.expire_awaiting_commitment(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(test.value("select kind from task").await, "commitment_missing");
}
