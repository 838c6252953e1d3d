//! The batch (decisions in SQL) and the single insert (decisions in Rust) come to the same outcome.

use std::sync::Arc;

use contracts::{
    InstanceOutcome, InstanceRecord, MessageEffect, MessageOutcome, MessageRecord, VersionPolicy,
};
use domain::{MessageType, QualityFlag};
use serde_json::Value;

use crate::intake::batcher::BatchInsert;
use crate::intake::instance_batch::InstanceInsert;
use crate::intake::message_batch::MessageInsert;
use crate::intake::numbering::Numbering;
use crate::patient::identity::IdentityDomains;
use crate::testing::{
    Random, TestStore, document, instance, message, names, other_version, patient_id, uid,
};

/// Inserts a batch as the batch worker does: first together, then the rest one by one. Returns the
/// outcomes, and how many were inserted together.
async fn insert_batch<I: BatchInsert>(
    test: &TestStore,
    insert: &I,
    batch: &[I::Record],
) -> (Vec<I::Outcome>, usize) {
    let records: Vec<&I::Record> = batch.iter().collect();
    let mut connection = test.store.pool.acquire().await.unwrap();
    let inserted = insert.insert_batch(&mut connection, &records).await.unwrap();
    drop(connection);
    let mut outcomes = Vec::new();
    for (position, record) in (1..).zip(batch) {
        if inserted.contains(&position) {
            outcomes.push(I::INSERTED);
        } else {
            outcomes.push(insert.insert_one(record).await.unwrap());
        }
    }
    (outcomes, inserted.len())
}

async fn insert_singly<I: BatchInsert>(insert: &I, batch: &[I::Record]) -> Vec<I::Outcome> {
    let mut outcomes = Vec::new();
    for record in batch {
        outcomes.push(insert.insert_one(record).await.unwrap());
    }
    outcomes
}

/// Asserts that two databases hold the same, apart from keys and times.
async fn assert_same(one: &TestStore, other: &TestStore, queries: &[&str]) {
    for query in queries {
        let sorted = |mut rows: Vec<Value>| {
            rows.sort_by_key(ToString::to_string);
            rows
        };
        assert_eq!(sorted(one.rows(query).await), sorted(other.rows(query).await), "{query}");
    }
}

fn random_instance(random: &mut Random) -> InstanceRecord {
    let mut record = instance(1 + random.below(3), 1 + random.below(2), 1 + random.below(12));
    if random.one_in(6) {
        record = other_version(&record);
    }
    if random.one_in(10) {
        record.patient = Some(patient_id("P2"));
    }
    if random.one_in(12) {
        record.patient = None;
    }
    if random.one_in(10) {
        record.modality = "MR".to_owned();
    }
    if random.one_in(12) {
        record.modality = "SEG".to_owned();
    }
    if random.one_in(5) {
        record.frame_of_reference = uid(900 + random.below(2));
    }
    if random.one_in(12) {
        record.quality_flags = vec![QualityFlag::InstanceUidMalformed];
    }
    if random.one_in(12) {
        record.quality_flags = vec![QualityFlag::CharsetUnknown];
    }
    let policies = [VersionPolicy::KeepFirst, VersionPolicy::Replace, VersionPolicy::Reject];
    record.versions = policies[random.below(3) as usize];
    record
}

const INSTANCE_QUERIES: &[&str] = &[
    "select uid, sha256, series, study, sop_class, transfer_syntax, bytes, calling_ae, is_current,
        flags, has_identity_conflict, is_own from instance",
    "select uid, study, modality, frame_of_reference from series",
    "select s.uid, s.accession, p.value as patient, s.decide_at is null as is_idle
        from study s left join patient p on p.id = s.patient",
    "select study, association from study_association",
    "select study, number, issuer from study_accession_number",
    "select value, issuer from patient_identifier",
    "select source, origin, study from correction",
    "select kind, reason, subject - 'patient' as subject from task",
    "select e.kind, e.body - 'subject' as body, e.study, e.instance, p.value as patient
        from audit.event e left join patient p on p.id = e.patient
        where e.kind not in ('task_opened')",
];

#[tokio::test]
async fn instances_in_batches_are_stored_as_single_ones_are() {
    let batched = TestStore::new().await;
    let single = TestStore::new().await;
    let inserts = [&batched, &single].map(|test| InstanceInsert {
        store: Arc::clone(&test.store),
        domains: IdentityDomains::Single,
    });
    let mut random = Random::new(19);
    let mut inserted_together = 0;
    for _ in 0..40 {
        let size = 1 + random.below(10);
        let batch: Vec<InstanceRecord> = (0..size).map(|_| random_instance(&mut random)).collect();
        let (outcomes, together) = insert_batch(&batched, &inserts[0], &batch).await;
        let expected: Vec<InstanceOutcome> = insert_singly(&inserts[1], &batch).await;
        assert_eq!(outcomes, expected);
        inserted_together += together;
    }
    assert!(inserted_together > 20, "only {inserted_together} were inserted in a batch");
    assert_same(&batched, &single, INSTANCE_QUERIES).await;
}

/// A message that names the given patient.
fn random_message(random: &mut Random, patient: &str) -> MessageRecord {
    let control_id = format!("{patient}-{}", random.below(12));
    let mut effects = Vec::new();
    if !random.one_in(4) {
        let name = if random.one_in(5) { "Doe^Janet" } else { "Doe^Jane" };
        effects.push(names(patient, name));
    }
    if !random.one_in(3) {
        effects.push(document(patient, if random.one_in(3) { "" } else { "A1" }));
    }
    if random.one_in(15) {
        effects.push(MessageEffect::Link {
            one: patient_id(patient),
            other: patient_id("P9"),
            is_linked: true,
        });
    }
    let mut record = message(&control_id, effects);
    let types = [("ORU", "R01"), ("MDM", "T02"), ("ADT", "A08")];
    let (code, trigger) = types[random.below(3) as usize];
    record.arrival.message_type = MessageType::new(code, trigger);
    if random.one_in(8) {
        record.arrival.control_id = String::new();
    }
    if random.one_in(10) {
        record.arrival.problem = Some("something is missing".to_owned());
    }
    record
}

const MESSAGE_QUERIES: &[&str] = &[
    "select m.control_id, m.message_code, m.trigger_event, m.sha256, m.code, m.problem, m.decided,
        m.accession, m.document is null as has_no_document, p.value as patient
        from message m left join patient p on p.id = m.patient",
    "select kind, count(*) from payload group by kind",
    "select p.value, p.demographics from patient p",
    "select source, accession from correction",
    "select e.kind, e.body - 'subject' as body, p.value as patient
        from audit.event e left join patient p on p.id = e.patient
        where e.kind not like 'patients_%'",
];

#[tokio::test]
async fn messages_in_batches_are_stored_as_single_ones_are() {
    let batched = TestStore::new().await;
    let single = TestStore::new().await;
    let inserts = [&batched, &single]
        .map(|test| MessageInsert::new(&test.store, Numbering::new(IdentityDomains::Single)));
    let mut random = Random::new(37);
    let mut inserted_together = 0;
    for _ in 0..60 {
        // Messages of one patient come one after the other: a batch holds one of each patient.
        let patients = 1 + random.below(6);
        let batch: Vec<MessageRecord> =
            (1..=patients).map(|it| random_message(&mut random, &format!("P{it}"))).collect();
        let (outcomes, together) = insert_batch(&batched, &inserts[0], &batch).await;
        let expected: Vec<MessageOutcome> = insert_singly(&inserts[1], &batch).await;
        assert_eq!(outcomes, expected);
        inserted_together += together;
    }
    assert!(inserted_together > 20, "only {inserted_together} were inserted in a batch");
    assert_same(&batched, &single, MESSAGE_QUERIES).await;
}
