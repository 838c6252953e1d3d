//! Tests of the trail: the order of sealing, what an export proves, and what the guards refuse.

use std::fs;
use std::io::BufReader;
use std::sync::Arc;
use std::time::Duration;

use contracts::{StoreError, TrailStore as _};
use domain::event::{EngineStopped, StudyExported};
use domain::{Event, Subject};
use serde_json::json;

use crate::testing::TestStore;
use crate::trail::append::{append, body_of};
use crate::trail::count::TrailFiles;
use crate::trail::file;
use crate::trail::sealer::Sealer;

mod loss;

/// Transactions of other tests hold back the sealer too: they run in the same cluster.
const SEAL_TIME_MAX: Duration = Duration::from_secs(20);

fn event(instances: usize) -> Event {
    Event::new(Subject::default(), StudyExported { instances })
}

fn sealer(test: &TestStore) -> Sealer {
    let files = TrailFiles {
        checkpoints: test.folder.join("checkpoints"),
        count: test.folder.join("count"),
    };
    Sealer::new(Arc::clone(&test.store), files)
}

/// The number of instances in each sealed event, in the order of the chain.
async fn sealed(test: &TestStore) -> Vec<i64> {
    sqlx::query_scalar(
        "select (e.body #>> '{detail,instances}')::bigint from audit.seal s
            join audit.event e on e.id = s.event
         where e.body #> '{detail,instances}' is not null order by s.seq",
    )
    .fetch_all(&test.store.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn events_are_sealed_in_order_and_the_export_verifies() {
    let test = TestStore::new().await;
    test.store.append_events((1..=3).map(event).collect()).await.unwrap();
    test.store.append_events(vec![event(4)]).await.unwrap();

    let sealer = sealer(&test);
    assert!(sealer.seal_all(SEAL_TIME_MAX).await.unwrap());

    assert_eq!(sealed(&test).await, [1, 2, 3, 4]);
    let mut export = Vec::new();
    let events = sealer.write_all(&mut export).await.unwrap();
    let intact = file::verify(BufReader::new(&*export), &test.store.trail_key(), None).unwrap();
    assert!(events >= 4);
    assert_eq!((intact.events, intact.losses), (events, 0));
}

#[tokio::test]
async fn there_is_nothing_to_seal_in_an_empty_trail() {
    let test = TestStore::new().await;
    assert!(!sealer(&test).seal().await.unwrap());
}

#[tokio::test]
async fn an_open_transaction_holds_back_what_was_appended_after_it() {
    let test = TestStore::new().await;
    let mut open = test.store.begin().await.unwrap();
    append(&mut open, &event(1)).await.unwrap();
    test.store.append_events(vec![event(2)]).await.unwrap();

    let sealer = sealer(&test);
    assert!(!sealer.seal_all(Duration::ZERO).await.unwrap());
    assert_eq!(sealed(&test).await, [0_i64; 0]);

    open.commit().await.unwrap();
    assert!(sealer.seal_all(SEAL_TIME_MAX).await.unwrap());
    assert_eq!(sealed(&test).await, [1, 2]);
}

#[tokio::test]
async fn a_transaction_that_is_rolled_back_leaves_no_event() {
    let test = TestStore::new().await;
    let mut tx = test.store.begin().await.unwrap();
    append(&mut tx, &event(1)).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(test.count("audit.event").await, 0);
}

#[tokio::test]
async fn batches_that_were_exported_and_are_missing_stop_the_sealer() {
    let test = TestStore::new().await;
    test.store.append_events(vec![event(1)]).await.unwrap();
    let sealer = sealer(&test);
    assert!(sealer.seal_all(SEAL_TIME_MAX).await.unwrap());
    let path = test.folder.join("checkpoints");
    let later = fs::read_to_string(&path).unwrap().replace("\"batch\":1", "\"batch\":9");
    fs::write(&path, later).unwrap();

    test.store.append_events(vec![event(2)]).await.unwrap();
    let error = sealer.seal().await.unwrap_err();
    assert!(matches!(error, StoreError::Inconsistent(_)), "{error}");
}

#[tokio::test]
async fn a_line_that_a_crash_has_torn_does_not_stop_the_sealer() {
    let test = TestStore::new().await;
    test.store.append_events(vec![event(1)]).await.unwrap();
    let sealer = sealer(&test);
    assert!(sealer.seal_all(SEAL_TIME_MAX).await.unwrap());
    let path = test.folder.join("checkpoints");
    let torn = format!("{}{{\"batch\":2,\"first", fs::read_to_string(&path).unwrap());
    fs::write(&path, torn).unwrap();

    test.store.append_events(vec![event(2)]).await.unwrap();
    assert!(sealer.seal_all(SEAL_TIME_MAX).await.unwrap());
    let lines = fs::read_to_string(&path).unwrap();
    assert_eq!(lines.lines().nth(1).unwrap(), "{\"batch\":2,\"first");
    assert!(lines.lines().nth(2).unwrap().contains("\"batch\":2"));
}

#[tokio::test]
async fn the_trail_refuses_changes_of_the_engine() {
    let test = TestStore::new().await;
    test.store.append_events(vec![event(1)]).await.unwrap();
    for statement in ["delete from audit.event", "update audit.event set body = '{}'"] {
        assert!(sqlx::query(statement).execute(&test.store.pool).await.is_err(), "{statement}");
    }
    let direct = "insert into audit.event (id, body) values (gen_random_uuid(), '{}')";
    assert!(sqlx::query(direct).execute(&test.store.pool).await.is_err());
    assert_eq!(test.count("audit.event").await, 1);
}

#[tokio::test]
async fn an_event_body_leaves_out_what_is_not_set() {
    let body = body_of(&Event::new(Subject::default(), EngineStopped {})).unwrap();
    assert_eq!(body["subject"], json!({}));
    assert_eq!(body["kind"], "engine_stopped");
}
