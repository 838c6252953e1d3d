//! Tests of administration: which workflows are active, and holds.

use domain::{Actor, HoldPart, WorkflowRef};

use crate::testing::TestStore;

fn ann() -> Actor {
    Actor::person("ann")
}

fn version(digest: &str) -> WorkflowRef {
    WorkflowRef { name: "chest".to_owned(), digest: digest.to_owned() }
}

/// The digests of the active workflows.
async fn active(test: &TestStore) -> Vec<String> {
    let activations = test.store.active_workflows().await.unwrap();
    activations.active.into_iter().map(|(reference, _)| reference.digest).collect()
}

#[tokio::test]
async fn a_rollback_activates_the_version_before() {
    let test = TestStore::new().await;
    assert_eq!(test.store.roll_back("chest", ann()).await.unwrap(), None);
    test.store.activate(&version("one"), "text one", ann()).await.unwrap();
    let stamp = test.store.activation_stamp().await.unwrap();
    test.store.activate(&version("two"), "text two", ann()).await.unwrap();
    assert!(test.store.activation_stamp().await.unwrap() > stamp);
    assert_eq!(active(&test).await, ["two"]);

    let digest = test.store.roll_back("chest", ann()).await.unwrap();
    assert_eq!(digest.as_deref(), Some("one"));
    assert_eq!(active(&test).await, ["one"]);
    assert_eq!(test.store.activations(10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_deactivated_workflow_is_listed_as_inactive() {
    let test = TestStore::new().await;
    assert!(!test.store.deactivate("chest", ann()).await.unwrap());
    test.store.activate(&version("one"), "text one", ann()).await.unwrap();
    assert!(test.store.deactivate("chest", ann()).await.unwrap());
    assert!(!test.store.deactivate("chest", ann()).await.unwrap());
    let activations = test.store.active_workflows().await.unwrap();
    assert!(activations.active.is_empty());
    assert_eq!(activations.inactive, ["chest"]);
}

#[tokio::test]
async fn every_part_is_put_on_hold_and_released_alone() {
    let test = TestStore::new().await;
    assert!(!test.store.is_intake_on_hold().await.unwrap());
    test.store.hold_all(&Actor::engine()).await.unwrap();
    assert_eq!(test.store.holds().await.unwrap().len(), HoldPart::ALL.len());
    assert!(test.store.release(HoldPart::Intake, ann()).await.unwrap());
    assert!(!test.store.release(HoldPart::Intake, ann()).await.unwrap());
    assert!(!test.store.is_intake_on_hold().await.unwrap());
    let parts: Vec<String> =
        test.store.holds().await.unwrap().into_iter().map(|it| it.part).collect();
    assert_eq!(parts, ["deliveries", "workflows"]);
    assert_eq!(test.event_kinds().await, ["engine_held", "engine_released"]);
}
