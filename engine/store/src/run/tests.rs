//! Tests of runs: decisions that start them, claims, leases and fencing, deadlines and tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contracts::{
    AssemblyStore as _, InstanceStore as _, MergeKind, MessageEffect, MessageRecord,
    MessageSnapshot, MessageStep, MessageStore as _, NewRun, NewTask, NodeAttempt, RunStep,
    RunStore as _, StoreError, StudySnapshot, StudyStep,
};
use domain::{
    Actor, Assigner, DemographicsChange, ExchangedDocument, HoldPart, Observation, OrderNumber,
    Subject, TaskKind,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::patient::identity::{Authorities, IdentityDomains};
use crate::run::{separation, task};
use crate::testing::{TestStore, instance, message, names, new_run, patient_id, ready_node};

const LEASE: Duration = Duration::from_mins(1);

/// Stores an instance and starts runs on it.
async fn start(test: &TestStore, inputs: &[&str]) -> Vec<NewRun> {
    let record = instance(1, 1, 1);
    test.intake.store_instance(record.clone()).await.unwrap();
    test.execute("update study set decide_at = now()").await;
    let runs: Vec<NewRun> = inputs.iter().map(|it| new_run(&record, None, it)).collect();
    let start = runs.clone();
    let decide = Box::new(move |snapshot: &StudySnapshot| {
        assert_eq!(snapshot.series.len(), 1);
        assert_eq!(snapshot.accession, "A1");
        StudyStep { start, ..StudyStep::default() }
    });
    let soon = Timestamp::now() + SignedDuration::from_secs(1);
    assert!(test.store.decide_study(soon, decide).await.unwrap());
    runs
}

#[tokio::test]
async fn a_study_that_is_not_due_is_not_decided_on() {
    let test = TestStore::new().await;
    let decide = || Box::new(|_: &StudySnapshot| -> StudyStep { panic!("nothing is due") });
    let now = Timestamp::now();
    assert!(!test.store.decide_study(now, decide()).await.unwrap());
    test.intake.store_instance(instance(1, 1, 1)).await.unwrap();
    test.execute("update study set decide_at = now() + interval '1 hour'").await;
    assert!(!test.store.decide_study(now, decide()).await.unwrap());
}

#[tokio::test]
async fn din_53_the_same_input_starts_one_run() {
    let test = TestStore::new().await;
    start(&test, &["one", "one", "two"]).await;
    assert_eq!(test.count("run").await, 2);
    assert_eq!(test.count("audit.event where kind = 'run_started'").await, 2);
}

#[tokio::test]
async fn a_claimed_node_carries_everything_it_works_on_and_is_claimed_once() {
    let test = TestStore::new().await;
    let run = start(&test, &["one"]).await.remove(0);
    let claimed = test.store.claim_node(LEASE).await.unwrap().unwrap();
    assert_eq!((claimed.run.id, claimed.node.as_str(), claimed.attempt), (run.id, "detect", 1));
    assert_eq!(claimed.series[0].instances, run.instances);
    assert_eq!(claimed.plugin.name, "detect");
    assert!(test.store.claim_node(LEASE).await.unwrap().is_none());
    test.store.renew_node(&claimed.attempt(), LEASE).await.unwrap();
}

#[tokio::test]
async fn lower_priority_numbers_are_claimed_first() {
    let test = TestStore::new().await;
    let runs = start(&test, &["one", "two"]).await;
    let update = format!("update node set priority = 1 where run = '{}'", runs[1].id);
    test.execute(&update).await;
    let claimed = test.store.claim_node(LEASE).await.unwrap().unwrap();
    assert_eq!(claimed.run.id, runs[1].id);
}

#[tokio::test]
async fn acc_05_a_lease_from_a_clock_that_was_ahead_holds_no_node() {
    let test = TestStore::new().await;
    start(&test, &["one"]).await;
    let claimed = test.store.claim_node(LEASE).await.unwrap().unwrap().attempt();
    assert!(test.store.abandoned_nodes().await.unwrap().is_empty());
    test.execute("update node set lease_until = clock_timestamp() + interval '1 hour'").await;
    assert_eq!(test.store.abandoned_nodes().await.unwrap(), [claimed]);
}

#[tokio::test]
async fn a_worker_whose_lease_has_expired_is_fenced_off() {
    let test = TestStore::new().await;
    start(&test, &["one"]).await;
    let first = test.store.claim_node(Duration::ZERO).await.unwrap().unwrap().attempt();
    assert_eq!(test.store.abandoned_nodes().await.unwrap(), std::slice::from_ref(&first));
    let release = Box::new(|_: &contracts::RunRecord| {
        Some(RunStep { nodes: vec![ready_node("detect")], ..RunStep::default() })
    });
    test.store.change_run(first.run, Some(&first), release).await.unwrap();
    let second = test.store.claim_node(LEASE).await.unwrap().unwrap();
    assert_eq!(second.attempt, 2);

    let renewed = test.store.renew_node(&first, LEASE).await;
    assert!(matches!(renewed, Err(StoreError::Superseded)));
    let decide = Box::new(|_: &contracts::RunRecord| -> Option<RunStep> { panic!("superseded") });
    let changed = test.store.change_run(first.run, Some(&first), decide).await;
    assert!(matches!(changed, Err(StoreError::Superseded)));
    test.store.renew_node(&second.attempt(), LEASE).await.unwrap();
}

#[tokio::test]
async fn a_decision_of_nothing_changes_nothing() {
    let test = TestStore::new().await;
    let run = start(&test, &["one"]).await.remove(0);
    let before = test.rows("select * from run").await;
    test.store.change_run(run.id, None, Box::new(|_| None)).await.unwrap();
    assert_eq!(test.rows("select * from run").await, before);
}

#[tokio::test]
async fn nodes_on_hold_are_not_claimed_until_they_are_released() {
    let test = TestStore::new().await;
    start(&test, &["one"]).await;
    test.store.hold_all(&Actor::engine()).await.unwrap();
    assert!(test.store.claim_node(LEASE).await.unwrap().is_none());
    let ann = Actor::person("ann");
    assert!(test.store.release(HoldPart::Workflows, ann).await.unwrap());
    assert!(test.store.claim_node(LEASE).await.unwrap().is_some());
}

#[tokio::test]
async fn a_missed_deadline_is_reported_once_for_the_run_and_for_the_node() {
    let test = TestStore::new().await;
    start(&test, &["one"]).await;
    test.execute("update run set due_at = now() - interval '1 s'").await;
    test.execute("update node set due_at = now() - interval '1 s'").await;
    assert_eq!(test.store.report_overdue().await.unwrap(), 2);
    assert_eq!(test.store.report_overdue().await.unwrap(), 0);
    let reasons = test.rows("select reason from task order by reason").await;
    assert_eq!(
        reasons,
        [
            json!({"reason": "workflow chest: node detect should have ended by now"}),
            json!({"reason": "workflow chest: the run should have ended by now"}),
        ]
    );
}

#[tokio::test]
async fn an_attempt_that_was_never_made_is_superseded() {
    let test = TestStore::new().await;
    let run = start(&test, &["one"]).await.remove(0);
    let attempt = NodeAttempt { run: run.id, node: "detect".to_owned(), number: 7 };
    let renewed = test.store.renew_node(&attempt, LEASE).await;
    assert!(matches!(renewed, Err(StoreError::Superseded)));
}

#[tokio::test]
async fn an_open_task_is_not_opened_again_until_it_is_decided() {
    let test = TestStore::new().await;
    let new = NewTask {
        kind: TaskKind::Damage,
        subject: Subject { study: Some("1.2.3".to_owned()), ..Subject::default() },
        reason: "a file is gone".to_owned(),
    };
    let mut connection = test.store.pool.acquire().await.unwrap();
    task::open_once(&mut connection, &new).await.unwrap();
    task::open_once(&mut connection, &new).await.unwrap();
    let tasks = test.store.tasks(10).await.unwrap();
    assert_eq!(tasks.len(), 1);

    let ann = || Actor::person("ann");
    assert!(test.store.decide_task(tasks[0].id, "sent again", ann()).await.unwrap());
    assert!(!test.store.decide_task(tasks[0].id, "twice", ann()).await.unwrap());
    task::open_once(&mut connection, &new).await.unwrap();
    assert_eq!(test.count("task").await, 2);
    assert_eq!(test.event_kinds().await, ["task_opened", "task_decided", "task_opened"]);
}

/// A potassium that a laboratory reports under an order number.
fn potassium(control_id: &str, patient: &str, authority: &str, sender: &str) -> MessageRecord {
    let of_sender =
        Assigner::Sender { application: sender.to_owned(), facility: "HOSPITAL".to_owned() };
    let of_authority = Assigner::Authority {
        namespace: String::new(),
        universal_id: authority.to_owned(),
        universal_id_type: "ISO".to_owned(),
    };
    let assigner = if authority.is_empty() { of_sender } else { of_authority };
    let filler = OrderNumber { number: "F1".to_owned(), assigner };
    let observation = Observation {
        code: "2823-3".to_owned(),
        value: "7.9".to_owned(),
        filler: Some(filler),
        ..Observation::default()
    };
    let document =
        ExchangedDocument { observations: vec![observation], ..ExchangedDocument::default() };
    let effect = MessageEffect::Document {
        patient: Some(patient_id(patient)),
        accession: String::new(),
        document,
    };
    let mut record = message(control_id, vec![names(patient, "Doe^Jane"), effect]);
    record.arrival.sending_application = sender.to_owned();
    record
}

/// Stores a message, decides about it without starting anything, and counts the messages in whose
/// place others hold.
async fn superseded_after(test: &TestStore, record: MessageRecord) -> i64 {
    test.intake.store_message(record).await.unwrap();
    let decide = |_: &MessageSnapshot| MessageStep::default();
    assert!(test.store.decide_messages(Box::new(decide)).await.unwrap());
    test.count("message where superseded_by is not null").await
}

#[tokio::test]
async fn hl7_53_a_result_is_found_again_by_its_patient_and_the_whole_number_of_its_order() {
    let test = TestStore::new().await;
    assert_eq!(superseded_after(&test, potassium("1", "P1", "LAB", "LIS")).await, 0);
    assert_eq!(superseded_after(&test, potassium("2", "P2", "LAB", "LIS")).await, 0);
    assert_eq!(superseded_after(&test, potassium("3", "P1", "MICRO", "LIS")).await, 0);
    assert_eq!(superseded_after(&test, potassium("4", "P1", "LAB", "GATE")).await, 1);
    // Without an assigner, the number is one of the sender.
    assert_eq!(superseded_after(&test, potassium("5", "P1", "", "LIS")).await, 1);
    assert_eq!(superseded_after(&test, potassium("6", "P1", "", "GATE")).await, 1);
    assert_eq!(superseded_after(&test, potassium("7", "P1", "", "LIS")).await, 2);
    let in_force = test.count("message where in_force is not null").await;
    assert_eq!(in_force, 2);
}

#[tokio::test]
async fn hl7_53_a_correction_is_found_by_the_oid_and_by_the_name_of_one_authority() {
    let names = BTreeMap::from([("1.2.3".to_owned(), "LAB".to_owned())]);
    // The patient is one, whoever names him.
    let default_issuer = Some("HOSP".to_owned());
    let authorities = Authorities { default_issuer, names, ..Authorities::default() };
    let test = TestStore::with_domains(IdentityDomains::Many(authorities)).await;
    assert_eq!(superseded_after(&test, potassium("1", "P1", "LAB", "LIS")).await, 0);
    assert_eq!(superseded_after(&test, potassium("2", "P1", "1.2.3", "GATE")).await, 1);
    assert_eq!(superseded_after(&test, potassium("3", "P1", "LAB", "LIS")).await, 2);
    // An OID that the site does not name is another authority.
    assert_eq!(superseded_after(&test, potassium("4", "P1", "1.2.4", "LIS")).await, 2);
    // Two laboratories with the same bare number are two.
    assert_eq!(superseded_after(&test, potassium("5", "P1", "", "LIS")).await, 2);
    assert_eq!(superseded_after(&test, potassium("6", "P1", "", "MICRO")).await, 2);
}

/// The results of [`potassium`], and a sodium before them.
fn sodium(control_id: &str, patient: &str) -> MessageRecord {
    let mut record = potassium(control_id, patient, "LAB", "LIS");
    for effect in &mut record.arrival.effects {
        if let MessageEffect::Document { document, .. } = effect {
            let mut sodium = document.observations[0].clone();
            sodium.code = "2951-2".to_owned();
            document.observations.insert(0, sodium);
        }
    }
    record
}

/// The codes in the document that is in force for a message, when it is decided on.
async fn codes_after(test: &TestStore, record: MessageRecord) -> Vec<String> {
    test.intake.store_message(record).await.unwrap();
    let codes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&codes);
    let decide = move |message: &MessageSnapshot| {
        let all = message.document.observations.iter().map(|it| it.code.clone());
        seen.lock().unwrap().extend(all);
        MessageStep::default()
    };
    assert!(test.store.decide_messages(Box::new(decide)).await.unwrap());
    codes.lock().unwrap().clone()
}

#[tokio::test]
async fn hl7_37_results_that_were_combined_stand_apart_when_their_patients_do() {
    let test = TestStore::new().await;
    let merge = MessageEffect::Merge {
        kind: MergeKind::Merge,
        survivor: patient_id("P2"),
        source: patient_id("P1"),
        demographics: DemographicsChange::default(),
    };
    assert_eq!(codes_after(&test, sodium("1", "P1")).await, ["2951-2", "2823-3"]);
    test.intake.store_message(message("0", vec![merge.clone()])).await.unwrap();
    let combined = codes_after(&test, potassium("2", "P2", "LAB", "LIS")).await;
    assert_eq!(combined, ["2823-3", "2951-2"]);
    let is_mixed = async || {
        let id = test.value("select id from message where control_id = '2'").await;
        let mut connection = test.store.pool.acquire().await.unwrap();
        separation::is_mixed(&mut connection, Some(id.parse().unwrap())).await.unwrap()
    };
    assert!(!is_mixed().await);

    let ann = test.holder("Lee^Ann", 1).await;
    let bob = test.holder("Ray^Bob", 2).await;
    let request = test.store.ask_unmerge("P1", "P2", &ann).await.unwrap();
    test.store.approve_unmerge(request, &bob).await.unwrap();

    assert!(is_mixed().await);
    let tasks = test.rows("select subject, reason from task").await;
    assert_eq!(tasks.len(), 2, "one for each patient: {tasks:?}");
    assert_eq!(test.count("audit.event where kind = 'results_separated'").await, 2);
    // A correction of one patient takes nothing over from the other.
    let corrected = codes_after(&test, potassium("3", "P2", "LAB", "LIS")).await;
    assert_eq!(corrected, ["2823-3"]);
    assert_eq!(codes_after(&test, sodium("4", "P1")).await, ["2951-2", "2823-3"]);
    // Of two that are one again, both may be sent.
    test.intake.store_message(message("5", vec![merge])).await.unwrap();
    assert!(!is_mixed().await);
}
