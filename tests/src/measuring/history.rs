//! A database with years of history, inserted by SQL.

use std::time::{Duration, Instant};

use crate::Hospital;

/// Longest wait for the events of the history to be sealed.
const SEALED_TIME_MAX: Duration = Duration::from_mins(20);

/// The statements that insert the history. `EACH` stands for the range of study numbers `n`.
const HISTORY: &[&str] = &[
    "insert into patient (id, value, issuer) select md5('p' || n)::uuid, 'P' || n, '' EACH",
    "insert into patient_identifier select 'P' || n, '', md5('p' || n)::uuid EACH",
    "insert into study (uid, patient, accession, description, study_date, study_time, study_id,
        placer, filler, requested_procedure, standings)
     select '1.2.3.' || n, md5('p' || n)::uuid, 'A' || n, 'CT', '20200101', '', '', '', '', '',
        '{\"idle\": {\"reason\": \"no\", \"is_abandoned\": false}}' EACH",
    "insert into series (uid, study, modality, body_part, description, frame_of_reference)
     select '1.2.3.' || n || '.1', '1.2.3.' || n, 'CT', 'CHEST', '', '' EACH",
    "insert into instance (uid, sha256, series, study, sop_class, transfer_syntax, bytes, calling_ae,
        is_current)
     select '1.2.3.' || n || '.1.1', md5('a' || n) || md5('b' || n), '1.2.3.' || n || '.1',
        '1.2.3.' || n, '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1', 524288, 'CT1', true EACH",
    "select count(audit.append(gen_random_uuid(), jsonb_build_object('kind', 'instance_received',
        'action', 'C', 'outcome', 0,
        'actor', jsonb_build_object('kind', 'peer', 'id', 'CT1', 'address', '127.0.0.1'),
        'subject', jsonb_build_object('patient', md5('p' || n)::uuid, 'study', '1.2.3.' || n,
            'accession', 'A' || n, 'instance', '1.2.3.' || n || '.1.1'),
        'detail', jsonb_build_object('sha256', md5('a' || n) || md5('b' || n))))) EACH",
    "insert into workflow_version (name, digest, definition) values ('past', 'past', '')
            on conflict do nothing",
    "insert into payload_key (id, patient, wrapped) values (md5('past')::uuid, md5('past')::uuid, '')
            on conflict do nothing",
    "insert into payload (id, key, kind, sealed) select md5('m' || n)::uuid, md5('past')::uuid, 'hl7', ''
        EACH",
    "insert into message (id, address, sending_application, sending_facility, message_code, trigger_event,
        control_id, sha256, raw, patient, acknowledgement, code, decided)
     select md5('m' || n)::uuid, '127.0.0.1', 'LAB', 'HOSP', 'ORU', 'R01', 'C' || n, md5('c' || n),
        md5('m' || n)::uuid, md5('p' || n)::uuid, '', 'AA', true EACH",
    "insert into run (id, workflow, digest, patient, study, priority, input_key, state, status, reason,
        ended_at, source, turn)
     select md5('r' || n)::uuid, 'past', 'past', md5('p' || n)::uuid, '1.2.3.' || n, 10, 'past ' || n,
        '{}', 'completed', '', now(), 'CT' || n % 20, n / 20 EACH",
    "insert into node (run, node, state, priority, turn)
     select md5('r' || n)::uuid, 'bone', 'done', 10, n / 20 EACH",
    "insert into delivery (id, run, index, destination, what, patient, state, ended_at)
     select md5('d' || n)::uuid, md5('r' || n)::uuid, 0, 'ehr', '{}', md5('p' || n)::uuid, 'delivered',
        now() EACH",
    "analyze",
];

/// Inserts the studies after number `from` up to `to`, each with a patient, an instance, a message,
/// a run and a delivery, and waits until their events are sealed.
pub async fn fill(hospital: &Hospital, from: u64, to: u64) {
    let each = format!("from generate_series({}, {to}) n", from + 1);
    for statement in HISTORY {
        let (is_done, output) = hospital.sql("admin", &statement.replace("EACH", &each));
        assert!(is_done, "{output}");
    }
    let start = Instant::now();
    let sealed =
        "do $$ begin assert (select count(*) from audit.event) - (select count(*) from audit.seal)
        < 1000; end $$";
    while !hospital.sql("admin", sealed).0 {
        assert!(start.elapsed() < SEALED_TIME_MAX, "the history is not sealed");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
