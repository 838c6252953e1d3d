//! Tests of the intake: what becomes of instances, messages, orders and commitment requests.
//!
//! [`batches`] compares the two ways in, batch and single, with random records.

mod batches;
mod commitment;
mod orders;

use std::sync::Arc;

use contracts::{
    Answers, InstanceOutcome, InstanceStore as _, MessageEffect, MessageOutcome, MessageStore as _,
    VersionPolicy,
};
use domain::{
    Attachment, ExchangedDocument, MessageFlag, Observation, Order, OrderAction, OrderKey,
    OrderKind, QualityFlag,
};

use crate::testing::{
    TestStore, document, instance, message, names, order_number, other_version, patient_id, uid,
};

#[tokio::test]
async fn din_22_the_same_instance_again_is_a_duplicate() {
    let test = TestStore::new().await;
    let record = instance(1, 1, 1);
    let first = test.intake.store_instance(record.clone()).await.unwrap();
    let again = test.intake.store_instance(record).await.unwrap();
    assert_eq!([first, again], [InstanceOutcome::New, InstanceOutcome::Identical]);
    assert_eq!(test.count("instance").await, 1);
    assert_eq!(test.count("audit.event where kind = 'duplicate_received'").await, 1);
}

#[tokio::test]
async fn din_22_site_policy_decides_which_version_is_current() {
    for (policy, outcome, versions, current) in [
        (VersionPolicy::KeepFirst, InstanceOutcome::OtherVersion, 2, "first"),
        (VersionPolicy::Replace, InstanceOutcome::OtherVersion, 2, "second"),
        (VersionPolicy::Reject, InstanceOutcome::VersionRefused, 1, "first"),
    ] {
        let test = TestStore::new().await;
        let first = instance(1, 1, 1);
        let second = contracts::InstanceRecord { versions: policy, ..other_version(&first) };
        test.intake.store_instance(first.clone()).await.unwrap();
        assert_eq!(test.intake.store_instance(second.clone()).await.unwrap(), outcome);
        assert_eq!(test.count("instance").await, versions, "{policy:?}");
        let expected = if current == "first" { first.sha256 } else { second.sha256 };
        let stored = test.value("select sha256 from instance where is_current").await;
        assert_eq!(stored, expected, "{policy:?}");
        assert_eq!(test.count("task where decided_at is null").await, 1);
    }
}

#[tokio::test]
async fn din_61_an_instance_that_contradicts_its_study_is_flagged_and_not_used() {
    let test = TestStore::new().await;
    test.intake.store_instance(instance(1, 1, 1)).await.unwrap();
    let mut other_patient = instance(1, 1, 2);
    other_patient.patient = Some(patient_id("P2"));
    let mut other_modality = instance(1, 1, 3);
    other_modality.modality = "MR".to_owned();
    let mut another = instance(1, 1, 4);
    another.modality = "MR".to_owned();
    let patient = QualityFlag::PatientDiffersFromStudy;
    let modality = QualityFlag::ModalityDiffersFromSeries;
    for (record, flag) in
        [(other_patient, patient), (other_modality, modality), (another, modality)]
    {
        let outcome = test.intake.store_instance(record).await.unwrap();
        assert_eq!(outcome, InstanceOutcome::Flagged(vec![flag]));
    }
    assert_eq!(test.count("instance where is_current").await, 1);
    assert_eq!(test.count("instance where has_identity_conflict").await, 3);
    // One task for a patient and study, however many instances contradict it.
    assert_eq!(test.count("task").await, 2);
}

/// The images of two patients who turn out to be one are sent again.
#[tokio::test]
async fn din_61_what_was_kept_and_not_used_is_used_once_its_conflict_is_resolved() {
    let test = TestStore::new().await;
    test.intake.store_instance(instance(1, 1, 1)).await.unwrap();
    let other = contracts::InstanceRecord { patient: Some(patient_id("P2")), ..instance(1, 1, 2) };
    let flagged = InstanceOutcome::Flagged(vec![QualityFlag::PatientDiffersFromStudy]);
    for _ in 0..2 {
        let outcome = test.intake.store_instance(other.clone()).await.unwrap();
        assert_eq!(outcome, flagged, "the sender is not told that it is used");
    }
    assert_eq!(test.count("task").await, 1);
    let merge = MessageEffect::Merge {
        kind: contracts::MergeKind::Merge,
        survivor: patient_id("P1"),
        source: patient_id("P2"),
        demographics: domain::DemographicsChange::default(),
    };
    test.intake.store_message(message("1", vec![merge])).await.unwrap();

    let outcome = test.intake.store_instance(other.clone()).await.unwrap();

    assert_eq!(outcome, InstanceOutcome::New);
    assert_eq!(test.count("instance where is_current").await, 2);
    assert_eq!(test.count("instance where has_identity_conflict").await, 0);
    let again = test.intake.store_instance(other).await.unwrap();
    assert_eq!(again, InstanceOutcome::Identical);
}

/// A sender that mends the Patient ID keeps the UID: the image must not be missing from its study.
#[tokio::test]
async fn din_61_what_was_kept_and_not_used_gives_way_to_a_version_that_can_be() {
    for policy in [VersionPolicy::KeepFirst, VersionPolicy::Replace, VersionPolicy::Reject] {
        let test = TestStore::new().await;
        test.intake.store_instance(instance(1, 1, 1)).await.unwrap();
        let mended = contracts::InstanceRecord { versions: policy, ..instance(1, 1, 2) };
        let wrong =
            contracts::InstanceRecord { patient: Some(patient_id("P2")), ..other_version(&mended) };
        let flagged = InstanceOutcome::Flagged(vec![QualityFlag::PatientDiffersFromStudy]);
        assert_eq!(test.intake.store_instance(wrong).await.unwrap(), flagged);
        let outcome = test.intake.store_instance(mended).await.unwrap();
        assert_eq!(outcome, InstanceOutcome::New, "{policy:?}");
        assert_eq!(test.count("instance where is_current").await, 2);

        // One of another patient with a known UID is told as that, and replaces nothing.
        if policy != VersionPolicy::Reject {
            let again = contracts::InstanceRecord {
                patient: Some(patient_id("P2")),
                ..other_version(&instance(1, 1, 1))
            };
            let again = contracts::InstanceRecord { versions: policy, ..again };
            assert_eq!(test.intake.store_instance(again).await.unwrap(), flagged);
            assert_eq!(test.count("instance where is_current").await, 2);
        }
    }
}

#[tokio::test]
async fn din_61_a_malformed_uid_is_an_identity_conflict() {
    let test = TestStore::new().await;
    let mut record = instance(1, 1, 1);
    record.quality_flags = vec![QualityFlag::PatientNameUndecodable];
    assert_eq!(test.intake.store_instance(record).await.unwrap(), InstanceOutcome::New);
    let mut record = instance(1, 1, 2);
    record.quality_flags = vec![QualityFlag::SeriesUidMalformed];
    let series = record.series.clone();
    let instance = record.instance.clone();
    let outcome = test.intake.store_instance(record).await.unwrap();
    assert_eq!(outcome, InstanceOutcome::Flagged(vec![QualityFlag::SeriesUidMalformed]));
    // The reason is the true one, by attribute, value and instance.
    let reason = format!(
        "instances are kept and not used, the first of them {instance}: \
         Series Instance UID (0020,000E) is `{series}`, which is no valid UID"
    );
    assert_eq!(test.value("select reason from task").await, reason);
}

#[tokio::test]
async fn din_61_a_contradiction_is_told_by_attribute_and_both_values() {
    let test = TestStore::new().await;
    test.intake.store_instance(instance(1, 1, 1)).await.unwrap();
    let mut record = instance(1, 1, 2);
    record.modality = "MR".to_owned();
    let expected = format!(
        "instances are kept and not used, the first of them {}: \
         Modality (0008,0060) is `MR`, and that of its series is `CT`",
        record.instance
    );
    test.intake.store_instance(record).await.unwrap();
    assert_eq!(test.value("select reason from task").await, expected);
    let flags = "select body #>> '{detail,flags}' from audit.event where kind = 'instance_flagged'";
    assert_eq!(test.value(flags).await, r#"["identity_modality_differs_from_series"]"#);
}

#[tokio::test]
async fn a_removed_instance_that_comes_again_is_restored() {
    let test = TestStore::new().await;
    test.intake.store_instance(instance(1, 1, 1)).await.unwrap();
    test.execute("update instance set removed_at = now(), is_file_gone = true").await;
    let outcome = test.intake.store_instance(instance(1, 1, 1)).await.unwrap();
    assert_eq!(outcome, InstanceOutcome::Identical);
    assert_eq!(test.count("instance where removed_at is null and not is_file_gone").await, 1);
}

#[tokio::test]
async fn a_study_is_scheduled_when_its_association_ends() {
    let test = TestStore::new().await;
    let record = instance(1, 1, 1);
    test.intake.store_instance(record.clone()).await.unwrap();
    test.execute("update study set decide_at = null").await;
    test.intake.end_association(Some(uuid::Uuid::from_u128(99))).await.unwrap();
    assert_eq!(test.count("study where decide_at is not null").await, 0);
    test.intake.end_association(Some(record.arrival.association)).await.unwrap();
    assert_eq!(test.count("study where decide_at is not null").await, 1);
    assert_eq!(test.count("study_association where ended_at is null").await, 0);
}

#[tokio::test]
async fn hl7_13_a_repeated_message_gets_the_answers_of_the_first_time() {
    let test = TestStore::new().await;
    let mut first = message("1", vec![names("P1", "Doe^Jane")]);
    first.arrival.answers =
        Answers { first: Some(b"accept".to_vec()), application: Some(b"apply".to_vec()) };
    let answers = first.arrival.answers.clone();
    let again = message("1", vec![names("P1", "Doe^Jane")]);
    assert_eq!(test.intake.store_message(first).await.unwrap(), MessageOutcome::New);
    let outcome = test.intake.store_message(again).await.unwrap();
    assert_eq!(outcome, MessageOutcome::Repeated(answers));
    assert_eq!(test.count("message").await, 1);
    assert_eq!(test.count("audit.event where kind = 'message_repeated'").await, 1);
}

#[tokio::test]
async fn a_refused_message_is_stored_and_not_decided_on() {
    let test = TestStore::new().await;
    let mut record = message("1", Vec::new());
    record.arrival.problem = Some("PID-3 is missing".to_owned());
    test.intake.store_message(record).await.unwrap();
    assert_eq!(test.count("message where decided").await, 1);
    assert_eq!(test.event_kinds().await, ["message_refused"]);
}

fn order(procedure: &str, action: OrderAction) -> MessageEffect {
    let key = OrderKey {
        placer: order_number("O1"),
        kind: OrderKind::Imaging,
        accession: "A1".to_owned(),
        study: Some(uid(1).parse().unwrap()),
        ..OrderKey::default()
    };
    MessageEffect::Order(Box::new(Order {
        procedure: procedure.to_owned(),
        priority: "S".to_owned(),
        ..Order::new(action, Some(patient_id("P1")), key)
    }))
}

#[tokio::test]
async fn hl7_21_a_later_message_changes_an_order_and_leaves_open_fields_as_they_were() {
    let test = TestStore::new().await;
    test.intake.store_instance(instance(1, 1, 1)).await.unwrap();
    test.execute("update study set decide_at = null").await;
    let place = message("1", vec![order("CT chest", OrderAction::Place)]);
    test.intake.store_message(place).await.unwrap();
    assert_eq!(test.count("study where decide_at is not null").await, 1);
    let cancel = message("2", vec![order("", OrderAction::Cancel)]);
    test.intake.store_message(cancel).await.unwrap();
    assert_eq!(test.count("imaging_order where cancelled").await, 1);
    let procedure = test.value("select body ->> 'procedure' from imaging_order").await;
    assert_eq!(procedure, "CT chest");
    assert_eq!(test.count("audit.event where kind = 'order_cancelled'").await, 1);
}

#[tokio::test]
async fn hl7_43_a_status_opens_no_cancelled_order_and_a_new_order_does() {
    let test = TestStore::new().await;
    let told = message("1", vec![order("CT chest", OrderAction::UpdateStatus)]);
    test.intake.store_message(told).await.unwrap();
    assert_eq!(test.count("imaging_order where not cancelled").await, 1);
    for (number, action, cancelled) in [
        ("2", OrderAction::Cancel, 1),
        ("3", OrderAction::UpdateStatus, 1),
        ("4", OrderAction::UpdateStatus, 1),
        ("5", OrderAction::Place, 0),
    ] {
        test.intake.store_message(message(number, vec![order("", action)])).await.unwrap();
        let found = test.count("imaging_order where cancelled").await;
        assert_eq!(found, cancelled, "after message {number}");
    }
}

#[tokio::test]
async fn many_callers_get_their_own_outcome_from_a_batch() {
    let test = Arc::new(TestStore::new().await);
    test.intake.store_instance(instance(1, 1, 0)).await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..40 {
        let test = Arc::clone(&test);
        calls.spawn(async move {
            let outcome = test.intake.store_instance(instance(1, 1, number)).await.unwrap();
            (number, outcome)
        });
    }
    while let Some(call) = calls.join_next().await {
        let (number, outcome) = call.unwrap();
        let expected = if number == 0 { InstanceOutcome::Identical } else { InstanceOutcome::New };
        assert_eq!(outcome, expected, "instance {number}");
    }
    assert_eq!(test.count("instance").await, 40);
    assert_eq!(test.count("audit.event where kind = 'instance_received'").await, 40);
}

#[tokio::test]
async fn a_message_of_a_known_patient_and_its_document_can_be_read_again() {
    let test = TestStore::new().await;
    test.intake.store_message(message("1", vec![names("P1", "Doe^Jane")])).await.unwrap();
    // The patient is known now: this one goes in a batch.
    let record = message("2", vec![names("P1", "Doe^Jane"), document("P1", "A1")]);
    let id = record.id;
    test.intake.store_message(record.clone()).await.unwrap();
    let mut connection = test.store.pool.acquire().await.unwrap();
    let raw: uuid::Uuid = sqlx::query_scalar("select raw from message where id = $1")
        .bind(id)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    let content = crate::vault::payload::read(&mut connection, &test.store.keys, raw).await;
    assert_eq!(content.unwrap().unwrap(), record.arrival.raw);
    assert_eq!(test.value("select source from correction").await, "oru");
}

/// A message that a pointer is all there is of: no workflow starts, and nobody would read it.
#[tokio::test]
async fn hl7_60_a_document_that_is_only_pointed_to_goes_to_a_person() {
    let test = TestStore::new().await;
    let observation = |value_type: &str, value: &str| Observation {
        value_type: value_type.to_owned(),
        value: value.to_owned(),
        status: "F".to_owned(),
        ..Observation::default()
    };
    let pointer = || observation("RP", "");
    let with = |observations: Vec<Observation>, attachments: Vec<Attachment>| {
        let document =
            ExchangedDocument { observations, attachments, ..ExchangedDocument::default() };
        MessageEffect::Document {
            patient: Some(patient_id("P1")),
            accession: "A1".to_owned(),
            document,
        }
    };
    let alone = with(vec![pointer()], Vec::new());
    let beside_result = with(vec![pointer(), observation("NM", "4.1")], Vec::new());
    let beside_file = with(vec![pointer()], vec![Attachment::default()]);
    for (id, effect) in [("M1", beside_result), ("M2", beside_file), ("M3", alone)] {
        let mut record = message(id, vec![effect]);
        record.arrival.flags = vec![MessageFlag::DocumentByPointer];
        // The same message again is no second task.
        for _ in 0..2 {
            test.intake.store_message(record.clone()).await.unwrap();
        }
    }

    let task = "task where kind = 'document_not_read' and subject ->> 'accession' = 'A1'
        and subject ->> 'patient' is not null and reason like '%M3%'";
    assert_eq!(test.count(task).await, 1);
    assert_eq!(test.count("task").await, 1);
    let why = test.store.why("M3").await.unwrap();
    let kinds: Vec<&str> = why.message_tasks.iter().map(|it| it.kind.as_str()).collect();
    assert_eq!(kinds, ["document_not_read"]);
    assert!(test.store.why("M1").await.unwrap().message_tasks.is_empty());
}
