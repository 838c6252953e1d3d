//! Storing in batches has the same result as storing one by one.
//!
//! Functions of the database store batches of plain instances and messages, and the engine stores
//! everything else one by one. Both implementations must agree.

use simulators::phantom::Phantom;
use system_tests::measuring::store_all;
use system_tests::{Hospital, SiteOptions};
use tokio::task::JoinSet;

/// A workflow that no study of this test triggers.
const IDLE: &str = "
workflow: idle
on: { study: { when: '\"XA\" in study.modalities', complete: { quiet: 60s } } }
nodes: { look: { review: radiologist } }
";

/// Replaces the functions for batches by functions that store nothing, so that the engine stores
/// everything one by one.
const DISABLE_BATCHES: &str = "do $$
    declare it text;
    begin
        for it in select oid::regprocedure from pg_proc
            where proname in ('instance_batch_insert', 'message_batch_insert')
        loop
            execute 'drop function ' || it;
            execute 'create function ' || it
                || ' returns setof bigint language sql as ''select 1::bigint where false''';
        end loop;
    end $$";

/// Prints all stored rows without what differs between engines: keys, times, and salted digests.
const STORED_ROWS: &str = "do $$
    declare
        line text;
        passing text[] := '{received_at,first_received,last_received,decide_at,standings,patient,id,subject,
            opened_at,at,created_at}';
    begin
        for line in
            select 'instance ' || (to_jsonb(it) - passing)::text from instance it
            union all select 'series ' || (to_jsonb(it) - passing)::text from series it
            union all select 'study ' || p.value || (to_jsonb(it) - passing)::text
                from study it join patient p on p.id = patient_root(it.patient)
            union all select 'associations ' || study || count(*) from study_association group by study
            union all select 'patient ' || it.value || p.value || p.demographics::text
                from patient_identifier it join patient p on p.id = patient_root(it.patient)
            union all select 'task ' || (to_jsonb(it) - passing)::text from task it
            union all select 'message ' || concat_ws(' ', it.control_id, it.sha256, it.message_code, it.trigger_event, p.value,
                    it.accession, it.code, it.problem, it.document is null, it.address)
                from message it join patient p on p.id = patient_root(it.patient)
            union all select 'payloads ' || kind || count(*) from payload group by kind
            union all select 'event ' || concat_ws(' ', it.kind, it.study, it.accession, it.instance, p.value,
                    it.body -> 'outcome', it.body -> 'detail')
                from audit.event it left join patient p on p.id = it.patient
                where it.kind ~ '^(instance|duplicate|message|patient|identity)'
            order by 1
        loop
            raise notice '%', regexp_replace(line, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', 'KEY', 'g');
        end loop;
    end $$";

/// Fails unless several instances, and several messages, were stored in one transaction.
const REQUIRE_BATCHES: &str = "do $$
    begin
        assert (select count(*) > count(distinct xid) + 20 from audit.event
            where kind = 'instance_received'), 'no groups of instances';
        assert (select count(*) > count(distinct xid) + 20 from audit.event
            where kind = 'message_received'), 'no groups of messages';
    end $$";

fn stored_rows(hospital: &Hospital) -> Vec<String> {
    let (is_done, output) = hospital.sql("admin", STORED_ROWS);
    assert!(is_done, "{output}");
    output.lines().map(str::to_owned).collect()
}

/// Random slices of three studies for six associations. Some slices are duplicates, and some have
/// another patient, accession number or name.
fn burst(random: &mut fastrand::Rng) -> Vec<Vec<Vec<u8>>> {
    let mut slices: Vec<(usize, u16)> =
        (0..3).flat_map(|it| (0..40).map(move |of| (it, of))).collect();
    random.shuffle(&mut slices);
    let mut shares = vec![Vec::new(); 6];
    for (at, (study, slice)) in slices.into_iter().take(random.usize(6..30)).enumerate() {
        let mut phantom = phantom(study);
        match random.u8(0..12) {
            0 => phantom.patient_id = format!("P{}", random.usize(0..4)),
            1 => phantom.accession.push_str("-OTHER"),
            2 => phantom.patient_name = format!("NAME^{}", random.u8(0..3)),
            _ => {}
        }
        shares[at % 6].push(phantom.files().swap_remove(usize::from(slice)));
    }
    shares
}

fn phantom(study: usize) -> Phantom {
    Phantom {
        patient_id: format!("P{study}"),
        accession: format!("A{study}"),
        seed: format!("together {study}"),
        size: 8,
        slices: 40,
        ..Phantom::default()
    }
}

/// A message of each patient. Some are duplicates, and some have a new name.
fn messages(random: &mut fastrand::Rng, number: &mut u32) -> Vec<String> {
    let mut all = Vec::new();
    for patient in 0..8 {
        *number += 1;
        let id = if random.u8(0..8) == 0 { random.u32(1..=*number) } else { *number };
        let name = if random.u8(0..10) == 0 { "NEW^NAME" } else { "DEMO^PHANTOM" };
        let kind = ["ORU^R01^ORU_R01", "ADT^A08^ADT_A01", "ORU^R01^ORU_R01"][random.usize(0..3)];
        all.push(format!(
            "MSH|^~\\&|LAB|HOSP|ISO|HOSP|20260102101500||{kind}|M{id}|P|2.5.1\r\
             PID|1||P{patient}^^^HOSP^MR||{name}||19700101|O\rPV1|1|O\r\
             OBR|1|PL{id}|F{id}|1^Test^L|||20260102093000\r\
             OBX|1|NM|718-7^Hemoglobin^LN||{}|g/L|130-170||||F",
            random.u8(90..200)
        ));
    }
    all
}

/// Sends the messages at the same time, each on a connection of its own.
async fn send_all(hospital: &Hospital, messages: &[String]) {
    let mut sending = JoinSet::new();
    for message in messages {
        let address = hospital.engine.mllp.clone();
        let message = message.clone();
        sending.spawn(async move { simulators::send_order(&address, &message).await.unwrap() });
    }
    sending.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn din_22_and_hl7_13_what_is_kept_together_is_kept_as_it_would_be_alone() {
    let options = SiteOptions { workflows: &[("idle", IDLE)], ..SiteOptions::default() };
    let together = Hospital::with(options).await;
    let alone = Hospital::with(options).await;
    let (is_done, output) = alone.sql("admin", DISABLE_BATCHES);
    assert!(is_done, "{output}");
    let mut random = fastrand::Rng::with_seed(20_261_126);
    let mut number = 0;
    for hospital in [&together, &alone] {
        for study in 0..3 {
            let first = phantom(study).files().swap_remove(0);
            hospital.modality().store(&[&first]).await.unwrap();
        }
    }
    for round in 0..12 {
        let images = burst(&mut random);
        let messages = messages(&mut random, &mut number);
        let merge = format!(
            "MSH|^~\\&|ADT|HOSP|ISO|HOSP|2026010210{round:02}00||ADT^A40^ADT_A39|G{round}|P|2.5.1\r\
             EVN|A40|2026010210{round:02}00\rPID|1||P{}^^^HOSP^MR||DEMO^PHANTOM\rMRG|P{}^^^HOSP^MR",
            random.u8(0..2),
            random.u8(2..4)
        );
        for hospital in [&together, &alone] {
            store_all(&hospital.modality(), images.clone()).await;
            send_all(hospital, &messages).await;
            if round % 4 == 3 {
                hospital.send_message(&merge).await;
            }
        }
    }
    let rows_together = stored_rows(&together);
    let rows_alone = stored_rows(&alone);
    let only_in = |rows: &[String], others: &[String]| -> Vec<String> {
        rows.iter().filter(|it| !others.contains(it)).take(12).cloned().collect()
    };
    let only_together = only_in(&rows_together, &rows_alone);
    let only_alone = only_in(&rows_alone, &rows_together);
    assert!(rows_together == rows_alone, "together: {only_together:#?}\nalone: {only_alone:#?}");
    let (is_done, output) = together.sql("admin", REQUIRE_BATCHES);
    assert!(is_done, "{output}");
}
