//! Tests of review and corrections: tokens, locks, versions, and pairs to learn from.

use contracts::{
    AssemblyStore as _, CorrectionContent, CorrectionPair, CorrectionStore as _,
    InstanceStore as _, LockChange, NewRun, NewVersion, ReviewChange, ReviewRefusal, ReviewStep,
    ReviewStore as _, Reviewer, StudySnapshot, StudyStep,
};
use domain::{Actor, Amended, CorrectionSource, Meaning, NodeOutput, Person, ReviewState};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::testing::{TestStore, digest, instance, new_run};

/// Adds a run on an image, without nodes.
async fn add_run(test: &TestStore) -> Uuid {
    let image = instance(1, 1, 1);
    test.intake.store_instance(image.clone()).await.unwrap();
    let run = new_run(&image, None, "one");
    test.execute(&format!(
        "insert into workflow_version (name, digest, definition) values ('chest', '{digest}', '');
         insert into run (id, workflow, digest, study, priority, input_key, state, reason, source)
         values ('{id}', 'chest', '{digest}', '{study}', 5, '{key}', '{{}}', '', '');",
        digest = run.workflow.digest,
        id = run.id,
        study = image.study,
        key = run.input_key,
    ))
    .await;
    run.id
}

/// Gives a person access, with a token that is valid for some time.
async fn reviewer(test: &TestStore, name: &str, valid: SignedDuration) -> Option<Reviewer> {
    let person = Person {
        name: name.to_owned(),
        organization: "Hospital".to_owned(),
        role: "radiologist".to_owned(),
    };
    let mut token = [0; 32];
    token[..name.len()].copy_from_slice(name.as_bytes());
    let expires = Timestamp::now() + valid;
    test.store.create_token(&person, &token, expires, Actor::person("root")).await.unwrap();
    test.store.find_reviewer(&token).await.unwrap()
}

async fn ann(test: &TestStore) -> Reviewer {
    reviewer(test, "ann", SignedDuration::from_hours(1)).await.unwrap()
}

fn version(state: ReviewState, meaning: Option<Meaning>) -> NewVersion {
    NewVersion {
        state,
        meaning,
        document: 1,
        replaces: None,
        content: NodeOutput::default(),
        digest: digest("content"),
        difference: json!({"sections": []}),
        draft: Some(NodeOutput::default()),
    }
}

fn step(change: ReviewChange, version: Option<NewVersion>) -> ReviewStep {
    ReviewStep { change, lock: LockChange::Keep, version, run: None }
}

#[tokio::test]
async fn an_expired_or_revoked_token_admits_nobody() {
    let test = TestStore::new().await;
    assert!(reviewer(&test, "old", -SignedDuration::from_secs(1)).await.is_none());
    let ann = ann(&test).await;
    let root = || Actor::person("root");
    assert!(test.store.revoke_token(ann.token, root()).await.unwrap());
    assert!(!test.store.revoke_token(ann.token, root()).await.unwrap());
    let states: Vec<String> =
        test.store.tokens(10).await.unwrap().into_iter().map(|it| it.state).collect();
    assert_eq!(states, ["revoked", "expired"]);
}

#[tokio::test]
async fn a_lock_holds_until_it_expires_or_is_released() {
    let test = TestStore::new().await;
    let run = add_run(&test).await;
    let ann = ann(&test).await;
    let locked_by = async || {
        let view = test.store.view_review(run, &ann).await.unwrap().unwrap();
        view.lock.map(|it| it.holder.person.name)
    };
    let change = async |lock| {
        let claimed = ReviewStep { lock, ..step(ReviewChange::Claimed, None) };
        let decide = Box::new(move |_: &_| Ok(claimed));
        test.store.change_review(run, &ann, decide).await.unwrap().unwrap();
    };
    assert_eq!(locked_by().await, None);
    change(LockChange::Take(Timestamp::now() + SignedDuration::from_hours(1))).await;
    assert_eq!(locked_by().await.as_deref(), Some("ann"));
    change(LockChange::Release).await;
    assert_eq!(locked_by().await, None);
    change(LockChange::Take(Timestamp::now() - SignedDuration::from_secs(1))).await;
    assert_eq!(locked_by().await, None);
}

#[tokio::test]
async fn a_signature_creates_a_version_that_the_trail_names() {
    let test = TestStore::new().await;
    let run = add_run(&test).await;
    let ann = ann(&test).await;
    let signed = version(ReviewState::Signed, Some(Meaning::Approved));
    let decide = Box::new(move |_: &_| Ok(step(ReviewChange::Signed, Some(signed))));
    test.store.change_review(run, &ann, decide).await.unwrap().unwrap();

    let view = test.store.view_review(run, &ann).await.unwrap().unwrap();
    assert_eq!(view.versions.len(), 1);
    assert_eq!(view.versions[0].state, ReviewState::Signed);
    assert_eq!(view.versions[0].attestation.by.name, "ann");
    let events = test.rows("select body from audit.event where kind = 'result_signed'").await;
    let detail = &events[0]["body"]["detail"];
    assert_eq!((&detail["version"], &detail["meaning"]), (&json!(1), &json!("approved")));
    assert_eq!(test.count("labelled_pair where source = 'review'").await, 1);
}

#[tokio::test]
async fn a_refused_decision_changes_nothing() {
    let test = TestStore::new().await;
    let run = add_run(&test).await;
    let ann = ann(&test).await;
    let refusal = || ReviewRefusal::Conflict("bob works on it".to_owned());
    let decide = Box::new(move |_: &_| Err(refusal()));
    let outcome = test.store.change_review(run, &ann, decide).await.unwrap();
    assert_eq!(outcome.unwrap_err(), refusal());
    assert_eq!(test.count("run_version").await, 0);

    let unknown = Box::new(|_: &_| Ok(step(ReviewChange::Claimed, None)));
    let outcome = test.store.change_review(Uuid::nil(), &ann, unknown).await.unwrap();
    assert!(matches!(outcome, Err(ReviewRefusal::Unknown(_))));
}

#[tokio::test]
async fn a_new_version_is_queued_where_an_earlier_one_was_sent() {
    let test = TestStore::new().await;
    let run = add_run(&test).await;
    let ann = ann(&test).await;
    let mut tx = test.store.begin().await.unwrap();
    let sent = crate::vault::payload::store(&mut tx, &test.store.keys, None, "sent", b"{}").await;
    tx.commit().await.unwrap();
    test.execute(&format!(
        "insert into delivery (id, run, index, destination, what, state, sent)
         values (gen_random_uuid(), '{run}', 0, 'pacs', '[\"sr\"]', 'delivered', '{}'),
            (gen_random_uuid(), '{run}', 1, 'ehr', '[\"oru\"]', 'delivered', null)",
        sent.unwrap().id
    ))
    .await;
    let edited = version(ReviewState::Edited, None);
    let decide = Box::new(move |_: &_| Ok(step(ReviewChange::Edited, Some(edited))));
    test.store.change_review(run, &ann, decide).await.unwrap().unwrap();
    let queued = test.value("select destination from delivery where state = 'queued'").await;
    assert_eq!(queued, "pacs");
}

/// Starts a run on the same image that replaces an earlier one, with a delivery that waits for its
/// signature.
async fn add_later_run(test: &TestStore, earlier: Uuid) -> Uuid {
    let amends = Some(Amended { run: earlier, first: earlier, is_replaced: true });
    let later = NewRun { amends, ..new_run(&instance(1, 1, 1), None, "two") };
    let id = later.id;
    test.execute("update study set decide_at = now()").await;
    let decide =
        Box::new(move |_: &StudySnapshot| StudyStep { start: vec![later], ..StudyStep::default() });
    let soon = Timestamp::now() + SignedDuration::from_secs(1);
    assert!(test.store.decide_study(soon, decide).await.unwrap());
    test.execute(&format!(
        "insert into delivery (id, run, index, destination, what, state, blocked_by)
         values (gen_random_uuid(), '{id}', 0, 'pacs', '[\"sr\"]', 'blocked', 'signed_result')"
    ))
    .await;
    id
}

/// Gives the result of a run a version in this state.
async fn decide(test: &TestStore, run: Uuid, by: &Reviewer, state: ReviewState) {
    let made = match state {
        ReviewState::Edited => (ReviewChange::Edited, None),
        ReviewState::Signed => (ReviewChange::Signed, Some(Meaning::Approved)),
        ReviewState::Amended => (ReviewChange::Amended, Some(Meaning::Corrected)),
        ReviewState::Rejected => (ReviewChange::Rejected, Some(Meaning::Rejected)),
        ReviewState::Withdrawn => (ReviewChange::Withdrawn, None),
    };
    let step = step(made.0, Some(version(state, made.1)));
    test.store.change_review(run, by, Box::new(move |_: &_| Ok(step))).await.unwrap().unwrap();
}

#[tokio::test]
async fn din_52_a_signed_result_stands_until_a_person_signs_the_later_one() {
    let test = TestStore::new().await;
    let first = add_run(&test).await;
    let ann = ann(&test).await;
    decide(&test, first, &ann, ReviewState::Signed).await;
    test.execute(&format!(
        "insert into delivery (id, run, index, destination, what)
         values (gen_random_uuid(), '{first}', 0, 'pacs', '[\"sr\"]')"
    ))
    .await;
    let later = add_later_run(&test, first).await;
    let view = async |run| test.store.view_review(run, &ann).await.unwrap().unwrap();
    let state =
        async |run| test.value(&format!("select state from delivery where run = '{run}'")).await;
    assert_eq!(state(first).await, "queued", "what is signed is still sent");
    let standing = view(later).await.standing.unwrap();
    assert_eq!((standing.run, standing.document, standing.is_replaced), (first, 1, true));
    assert!(!view(first).await.is_replaced);

    decide(&test, later, &ann, ReviewState::Edited).await;
    assert_eq!(state(later).await, "blocked");
    decide(&test, later, &ann, ReviewState::Signed).await;
    assert_eq!(state(later).await, "queued");
    assert!(view(first).await.is_replaced);
    decide(&test, later, &ann, ReviewState::Withdrawn).await;
    assert!(view(first).await.is_replaced, "the withdrawal went where both results had been");
}

#[tokio::test]
async fn din_52_a_proposal_is_decided_about_again_when_the_signed_result_is_withdrawn() {
    let test = TestStore::new().await;
    let first = add_run(&test).await;
    let ann = ann(&test).await;
    decide(&test, first, &ann, ReviewState::Signed).await;
    let later = add_later_run(&test, first).await;
    decide(&test, first, &ann, ReviewState::Withdrawn).await;
    assert_eq!(test.value("select state from delivery").await, "queued");
    let view = test.store.view_review(later, &ann).await.unwrap().unwrap();
    assert!(view.standing.is_none() && !view.is_replaced);
}

#[tokio::test]
async fn out_83_what_is_edited_or_rejected_after_a_signature_goes_nowhere() {
    let test = TestStore::new().await;
    let run = add_run(&test).await;
    let ann = ann(&test).await;
    decide(&test, run, &ann, ReviewState::Signed).await;
    let mut tx = test.store.begin().await.unwrap();
    let sent = crate::vault::payload::store(&mut tx, &test.store.keys, None, "sent", b"{}").await;
    tx.commit().await.unwrap();
    test.execute(&format!(
        "insert into delivery (id, run, index, destination, what, state, sent)
         values (gen_random_uuid(), '{run}', 0, 'pacs', '[\"sr\"]', 'delivered', '{}')",
        sent.unwrap().id
    ))
    .await;
    for state in [ReviewState::Edited, ReviewState::Rejected] {
        decide(&test, run, &ann, state).await;
        assert_eq!(test.value("select state from delivery").await, "delivered", "{state}");
    }
    decide(&test, run, &ann, ReviewState::Withdrawn).await;
    assert_eq!(test.value("select state from delivery").await, "queued");
}

#[tokio::test]
async fn a_segmentation_from_outside_is_a_candidate_until_it_is_settled() {
    let test = TestStore::new().await;
    let run = add_run(&test).await;
    let mut seg = instance(1, 2, 1);
    seg.modality = "SEG".to_owned();
    test.intake.store_instance(seg.clone()).await.unwrap();

    let candidate = test.store.next_correction().await.unwrap().unwrap();
    assert_eq!(candidate.source, CorrectionSource::Seg);
    assert_eq!(candidate.origin, seg.instance);
    assert!(
        matches!(candidate.content, CorrectionContent::Instance { sha256 } if sha256 == seg.sha256)
    );
    assert_eq!(candidate.runs[0].run.id, run);

    let pair = CorrectionPair {
        run,
        draft: NodeOutput::default(),
        content: NodeOutput::default(),
        difference: json!({"segments": 1}),
    };
    let settled = test.store.settle_correction(CorrectionSource::Seg, &seg.instance, vec![pair]);
    settled.await.unwrap();
    assert!(test.store.next_correction().await.unwrap().is_none());
    let lines = test.store.corrections(10, Actor::person("ann")).await.unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].difference, json!({"segments": 1}));
    assert_eq!(test.count("audit.event where kind = 'corrections_read'").await, 1);
}

#[tokio::test]
async fn out_81_a_correction_that_cannot_be_read_goes_to_a_person_and_into_the_trail() {
    let test = TestStore::new().await;
    add_run(&test).await;
    let mut seg = instance(1, 2, 1);
    seg.modality = "SEG".to_owned();
    test.intake.store_instance(seg.clone()).await.unwrap();

    let source = CorrectionSource::Seg;
    for _ in 0..2 {
        test.store.give_up_correction(source, &seg.instance, "compressed").await.unwrap();
    }

    assert!(test.store.next_correction().await.unwrap().is_none());
    let event = "audit.event where kind = 'correction_unreadable' and instance is not null
        and study is not null and body #>> '{detail,source}' = 'seg'";
    assert_eq!(test.count(event).await, 1);
    let task = "task where kind = 'correction_unreadable' and reason = 'compressed'
        and subject ->> 'study' is not null";
    assert_eq!(test.count(task).await, 1);
}
