//! Tests of upkeep: retention, clock jumps, checks and repairs.

use std::time::Duration;

use contracts::{InstanceStore as _, MessageStore as _};
use domain::{Actor, Subject};

use crate::testing::{TestStore, instance, message, names};
use crate::upkeep::retention::{Expired, FilesToRemove, RetainedKind, RetentionTerms};

/// A minute for everything but committed images.
const TERMS: RetentionTerms = RetentionTerms {
    images: Some(Duration::from_mins(1)),
    committed_images: None,
    messages: Some(Duration::from_mins(1)),
    results: Some(Duration::from_mins(1)),
};

/// A database with an image and a message that are two minutes old.
async fn aged() -> TestStore {
    let test = TestStore::new().await;
    test.intake.store_instance(instance(1, 1, 1)).await.unwrap();
    test.intake.store_message(message("1", vec![names("P1", "Doe^Jane")])).await.unwrap();
    test.execute(
        "update study set last_received = now() - interval '2 minutes', decide_at = null;
         update message set received_at = now() - interval '2 minutes', decided = true;",
    )
    .await;
    test
}

async fn expired(test: &TestStore) -> Vec<RetainedKind> {
    test.store.expired(&TERMS).await.unwrap().iter().map(|it| it.kind).collect()
}

async fn remove(test: &TestStore, item: &Expired) -> bool {
    test.store.remove_expired(item, &TERMS, Actor::engine()).await.unwrap()
}

#[tokio::test]
async fn content_without_a_term_never_expires() {
    let test = aged().await;
    let forever = RetentionTerms::default();
    assert!(test.store.expired(&forever).await.unwrap().is_empty());
}

#[tokio::test]
async fn expired_images_and_messages_are_removed_and_reported() {
    let test = aged().await;
    let items = test.store.expired(&TERMS).await.unwrap();
    let kinds: Vec<RetainedKind> = items.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [RetainedKind::Images, RetainedKind::Message]);
    for item in &items {
        assert!(remove(&test, item).await);
        assert!(!remove(&test, item).await);
    }
    let files = test.store.files_to_remove().await.unwrap();
    let sha256 = instance(1, 1, 1).sha256;
    let expected = FilesToRemove { instances: vec![sha256.clone()], artifacts: Vec::new() };
    assert_eq!(files, expected);
    test.store.note_file_gone(&sha256).await.unwrap();
    assert_eq!(test.store.files_to_remove().await.unwrap(), FilesToRemove::default());
    assert_eq!(test.count("payload where sealed is not null").await, 0);
    let kinds = test.event_kinds().await;
    assert!(kinds.ends_with(&["images_removed".to_owned(), "message_removed".to_owned()]));
}

#[tokio::test]
async fn content_that_something_needs_does_not_expire() {
    let study = instance(1, 1, 1).study;
    for needs in [
        "update study set decide_at = now()".to_owned(),
        format!(
            "insert into task (id, kind, subject, reason) values (gen_random_uuid(), 'damage',
                '{{\"study\": \"{study}\"}}', '')"
        ),
        "update instance set committed_at = now()".to_owned(),
    ] {
        let test = aged().await;
        let item = test.store.expired(&TERMS).await.unwrap().remove(0);
        test.execute(&needs).await;
        assert_eq!(expired(&test).await, [RetainedKind::Message], "{needs}");
        // It was listed before it was needed: it is not removed all the same.
        assert!(!remove(&test, &item).await, "{needs}");
    }
}

#[tokio::test]
async fn a_clock_jump_shifts_timers_once() {
    let test = TestStore::new().await;
    test.intake.store_instance(instance(1, 1, 1)).await.unwrap();
    test.execute("update study set decide_at = now() + interval '1 minute'").await;
    let decide_at = async || -> i64 {
        test.value("select micros(decide_at) from study").await.parse().unwrap()
    };
    let before = decide_at().await;
    let last = test.store.clock().await.unwrap();
    let hour = 3_600_000_000;
    test.store.clock_jumped(last, hour).await.unwrap();
    test.store.clock_jumped(last, hour).await.unwrap();
    assert_eq!(decide_at().await - before, hour);
    assert_eq!(test.count("audit.event where kind = 'clock_jumped'").await, 1);
}

#[tokio::test]
async fn a_new_database_passes_every_check() {
    let test = TestStore::new().await;
    let failed: Vec<&str> = test
        .store
        .examine()
        .await
        .unwrap()
        .into_iter()
        .filter(|it| !it.is_good)
        .map(|it| it.name)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// The checks that fail.
async fn failing(test: &TestStore) -> Vec<&'static str> {
    let checks = test.store.examine().await.unwrap();
    checks.into_iter().filter(|it| !it.is_good).map(|it| it.name).collect()
}

#[tokio::test]
async fn a_repair_sets_timers_right_and_reports_what_it_cannot_mend() {
    let test = TestStore::new().await;
    test.intake.store_instance(instance(1, 1, 1)).await.unwrap();
    test.execute("update study set decide_at = now() + interval '90 days'").await;
    // A row that no event reports.
    test.execute(
        "insert into instance (uid, sha256, series, study, sop_class, transfer_syntax, bytes,
            calling_ae, is_current, flags, is_own)
         select '1.2.3.4', 'abc', series, study, sop_class, transfer_syntax, bytes, calling_ae,
            true, '{}', false from instance",
    )
    .await;
    let timer = "no study waits for a time more than a month away";
    let row = "every current instance has its event";
    assert_eq!(failing(&test).await, [row, timer]);

    test.store.repair(&Actor::person("ann")).await.unwrap();
    assert_eq!(failing(&test).await, [""; 0]);
    assert_eq!(test.count("study where decide_at < now() + interval '1 minute'").await, 1);
    assert_eq!(test.count("task where kind = 'damage'").await, 1);
    let kinds = test.event_kinds().await;
    assert!(kinds.contains(&"damage_repaired".to_owned()));
    assert!(kinds.contains(&"damage_noted".to_owned()));
}

#[tokio::test]
async fn missing_guards_are_found_and_restored() {
    let test = TestStore::new().await;
    test.execute_as_owner("drop trigger event_stays on audit.event").await;
    assert_eq!(failing(&test).await, ["the trail refuses changes"]);
    crate::restore_guards(test.admin()).await.unwrap();
    assert_eq!(failing(&test).await, [""; 0]);
}

#[tokio::test]
async fn an_instance_whose_file_is_damaged_is_taken_out_of_use() {
    let test = TestStore::new().await;
    let record = instance(1, 1, 1);
    test.intake.store_instance(record.clone()).await.unwrap();
    assert_eq!(test.store.filed_instances().await.unwrap().len(), 1);
    let ann = Actor::person("ann");
    test.store.isolate(&record.sha256, "every file is intact", &ann).await.unwrap();
    assert!(test.store.filed_instances().await.unwrap().is_empty());
    assert_eq!(test.count("task where kind = 'damage'").await, 1);
    test.store.note_damage("a check", "look", Subject::default(), &ann).await.unwrap();
    assert_eq!(test.count("task where kind = 'damage'").await, 2);
}

#[tokio::test]
async fn an_altered_message_is_found_and_an_erased_one_is_not_altered() {
    let test = TestStore::new().await;
    test.intake.store_message(message("1", vec![names("P1", "Doe^Jane")])).await.unwrap();
    assert!(test.store.altered_messages().await.unwrap().is_empty());
    test.execute("update message set sha256 = 'other'").await;
    assert_eq!(test.store.altered_messages().await.unwrap().len(), 1);
    test.execute("update payload set sealed = null, removed_at = clock_timestamp()").await;
    assert!(test.store.altered_messages().await.unwrap().is_empty());
}
