//! Patient identity: merges before, during and after a run, and conflicts (HL7-30..44).

use std::time::Duration;

use serde_json::Value;
use simulators::order_message;
use simulators::phantom::Phantom;
use system_tests::{Hospital, Scratch, SiteOptions, eventually, files, study};

const SLOW: &str = "
workflow: slow
on: { study: { complete: { quiet: 200ms } } }
nodes:
  wait: { plugin: faulty, with: { fault: slow } }
  bone: { plugin: segmentation, with: { method: threshold, targets: [bone] }, after: [wait] }
deliver:
  - { to: pacs, what: [seg, sr], after: [bone] }
  - { to: ehr, what: [oru], after: [bone] }
";

fn phantom() -> Phantom {
    Phantom { slices: 4, patient_id: "OLD".to_owned(), ..Phantom::default() }
}

fn merge(survivor: &str, source: &str, control_id: &str) -> String {
    format!(
        "MSH|^~\\&|ADT|HOSP|ISOCENTER|AI|20260102||ADT^A40^ADT_A39|{control_id}|P|2.5.1\r\
         EVN|A40|20260102\rPID|1||{survivor}^^^HOSP^MR||DOE^JANE||19700101|F\r\
         MRG|{source}^^^HOSP^MR"
    )
}

/// Asserts that the report at the EHR has the ID of the survivor, and [`check_found`].
fn check_filed(hospital: &Hospital, survivor: &str, all: &[&str]) {
    let [oru] = hospital.ehr.received().try_into().unwrap();
    assert!(oru.contains(&format!("PID|1||{survivor}^")), "{oru}");
    check_found(hospital, survivor, all);
}

/// Asserts that study and events are found by each of these IDs of one patient.
fn check_found(hospital: &Hospital, survivor: &str, all: &[&str]) {
    for name in all {
        let why = hospital.ask(&["why", name]);
        assert_eq!(why["studies"][0]["study"]["patient"], survivor, "by {name}: {why}");
        let events = hospital.ask(&["audit", "show", "--patient", name, "--limit", "500"]);
        let has = |kind: &str| events.as_array().unwrap().iter().any(|it| it["kind"] == kind);
        assert!(has("instance_received") && has("patients_merged") && has("delivered"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_33_a_merge_before_the_images_files_them_under_the_survivor() {
    let hospital = Hospital::open().await;
    let phantom = phantom();

    // HL7-30: chains converge, also for unknown patients. The later merge arrives first, and the
    // earlier one arrives twice.
    assert_eq!(hospital.send_message(&merge("NEW", "MID", "M2")).await, "AA");
    assert_eq!(hospital.send_message(&merge("MID", "OLD", "M1")).await, "AA");
    assert_eq!(hospital.send_message(&merge("MID", "OLD", "M3")).await, "AA");
    assert_eq!(hospital.send_message(&order_message(&phantom, "O1")).await, "AA");
    hospital.send(&phantom).await;
    hospital.ended_runs(1).await;

    check_filed(&hospital, "NEW", &["OLD", "MID", "NEW"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_33_a_merge_during_the_run_files_the_result_under_the_survivor() {
    let options = SiteOptions { workflows: &[("slow", SLOW)], ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;

    hospital.send(&phantom()).await;
    eventually("the run to be at work", async || {
        let runs = hospital.ask(&["runs"]);
        let id = runs[0]["id"].as_str()?.to_owned();
        let run = hospital.ask(&["run", "show", &id]);
        run["nodes"].as_array()?.iter().any(|it| it["state"] == "running").then_some(())
    })
    .await;
    assert_eq!(hospital.send_message(&merge("NEW", "OLD", "M1")).await, "AA");
    hospital.ended_runs(1).await;

    check_filed(&hospital, "NEW", &["OLD", "NEW"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_34_a_merge_after_the_run_is_found_by_either_name() {
    let hospital = Hospital::open().await;

    hospital.send(&phantom()).await;
    hospital.ended_runs(1).await;
    let [oru] = hospital.ehr.received().try_into().unwrap();
    assert!(oru.contains("PID|1||OLD^"), "{oru}");
    assert_eq!(hospital.send_message(&merge("NEW", "OLD", "M1")).await, "AA");
    // A repetition with another control id changes nothing.
    assert_eq!(hospital.send_message(&merge("NEW", "OLD", "M2")).await, "AA");

    check_found(&hospital, "NEW", &["OLD", "NEW"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_44_images_and_order_of_two_patients_send_nothing_and_go_to_a_person() {
    let hospital = Hospital::open().await;
    let phantom = phantom();
    let other = Phantom { patient_id: "SOMEBODY-ELSE".to_owned(), ..phantom.clone() };

    hospital.send_message(&order_message(&other, "O1")).await;
    hospital.send(&phantom).await;
    let task: Value = eventually("a task", async || {
        let tasks = hospital.ask(&["task", "list"]);
        tasks.as_array()?.first().cloned()
    })
    .await;

    assert_eq!(task["kind"], "identity_conflict");
    assert!(hospital.pacs.received().is_empty() && hospital.ehr.received().is_empty());
    assert_eq!(hospital.ask(&["runs"]), Value::Array(Vec::new()));

    // Both are the same patient, so that the study continues after the merge.
    let merge = merge("SOMEBODY-ELSE", "OLD", "M1");
    assert_eq!(hospital.send_message(&merge).await, "AA");
    hospital.ended_runs(1).await;
    check_filed(&hospital, "SOMEBODY-ELSE", &["OLD", "SOMEBODY-ELSE"]);
}

/// HL7-34: PACS and EHR receive the result again, with the ID of the survivor.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_34_what_was_delivered_before_a_merge_is_corrected_where_the_site_wants_it() {
    let hospital = Hospital::with(SiteOptions { resend: true, ..SiteOptions::default() }).await;
    hospital.send(&phantom()).await;
    hospital.ended_runs(1).await;
    let before = hospital.pacs.received();

    assert_eq!(hospital.send_message(&merge("NEW", "OLD", "M1")).await, "AA");
    let after = eventually("the correction", async || {
        Some(hospital.pacs.received()).filter(|it| it.len() == 2 * before.len())
    })
    .await;
    let [old, new] = eventually("the corrected message", async || {
        <[String; 2]>::try_from(hospital.ehr.received()).ok()
    })
    .await;

    let field = |message: &str, segment: &str, number: usize| {
        let line = message.split('\r').find(|it| it.starts_with(segment)).unwrap();
        line.split('|').nth(number).unwrap().to_owned()
    };
    assert!(old.contains("PID|1||OLD^") && new.contains("PID|1||NEW^"), "{new}");
    assert_eq!(field(&old, "OBR", 3), field(&new, "OBR", 3));
    // Nobody has signed it: a draft is preliminary each time (HL7-51).
    assert_eq!((field(&old, "OBR", 25), field(&new, "OBR", 25)), ("R".into(), "R".into()));
    assert_ne!(field(&old, "MSH", 9), field(&new, "MSH", 9));
    let uids: std::collections::BTreeSet<&str> =
        after.iter().map(|it| it.sop_instance.as_str()).collect();
    assert_eq!(uids.len(), after.len(), "new objects have new UIDs");
    // The new SR refers to its predecessor.
    let old = &before[1];
    let new = std::fs::read(&after[3].path).unwrap();
    let contains = |text: &str| new.windows(text.len()).any(|it| it == text.as_bytes());
    assert!(contains(&old.sop_instance) && contains("NEW") && !contains("OLD"));
    check_found(&hospital, "NEW", &["OLD", "NEW"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_37_a_merge_is_taken_back_by_two_people_and_results_follow() {
    let hospital = Hospital::with(SiteOptions { resend: true, ..SiteOptions::default() }).await;
    assert_eq!(hospital.send_message(&merge("NEW", "OLD", "M1")).await, "AA");
    hospital.send(&phantom()).await;
    hospital.ended_runs(1).await;
    check_filed(&hospital, "NEW", &["OLD", "NEW"]);

    let token_file = |name: &str| {
        let token = system_tests::api::token(&hospital, "physician", name);
        hospital.scratch.write(name, &token).display().to_string()
    };
    let anna = token_file("Anna Lee");
    let bert = token_file("Bert Ray");
    let by = |token: &str, arguments: &[&str]| {
        hospital.command(&[&["patient"], arguments, &["--token", token]].concat())
    };
    let requested = by(&anna, &["unmerge", "OLD", "NEW"]);
    let request = String::from_utf8(requested.stdout).unwrap().lines().next().unwrap().to_owned();
    // Another token of the same person is no second person, nor is an account.
    for same in [anna.clone(), token_file("Lee^Anna")] {
        let alone = by(&same, &["approve", &request]);
        assert!(!alone.status.success());
        assert!(String::from_utf8_lossy(&alone.stderr).contains("a second person"));
    }
    assert!(!hospital.command(&["patient", "approve", &request]).status.success());
    assert!(by(&bert, &["approve", &request]).status.success());

    let corrected =
        eventually("the corrected message", async || hospital.ehr.received().get(1).cloned()).await;
    assert!(corrected.contains("PID|1||OLD^"), "{corrected}");
    let why = hospital.ask(&["why", "OLD"]);
    assert_eq!(why["studies"][0]["study"]["patient"], "OLD", "{why}");
    assert_eq!(hospital.ask(&["why", "NEW"])["studies"], Value::Array(Vec::new()));
    // The merge no longer exists, so it cannot be undone twice.
    assert!(!by(&anna, &["unmerge", "OLD", "NEW"]).status.success());
}

/// Chained and repeated merges in many orders end with the same patient. A test of the store proves
/// the property on the graph; this test goes through the listeners.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_30_merges_in_any_order_end_the_same() {
    let hospital = Hospital::open().await;
    let links = [("B", "A"), ("C", "B"), ("D", "C"), ("D", "X"), ("B", "Y")];
    let mut seed: u32 = 20_261_124;
    for story in 0..12_u32 {
        let name = |it: &str| format!("{it}{story}");
        let mut order: Vec<usize> = (0..links.len()).chain([1, 3]).collect();
        for last in (1..order.len()).rev() {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            order.swap(last, usize::try_from(seed >> 8).unwrap() % (last + 1));
        }
        for (count, index) in order.iter().enumerate() {
            let (to, from) = links[*index];
            let message = merge(&name(to), &name(from), &format!("S{story}N{count}"));
            assert_eq!(hospital.send_message(&message).await, "AA");
        }
        let phantom = Phantom {
            patient_id: name(["A", "X", "Y"][usize::try_from(story % 3).unwrap()]),
            seed: format!("story {story}"),
            accession: String::new(),
            slices: 1,
            ..Phantom::default()
        };
        hospital.send(&phantom).await;
        for each in ["A", "B", "C", "D", "X", "Y"] {
            let why = hospital.ask(&["why", &name(each)]);
            assert_eq!(why["studies"][0]["study"]["patient"], name("D"), "{order:?} by {each}");
        }
    }
}

fn adt(event: &str, control_id: &str, rest: &str) -> String {
    format!(
        "MSH|^~\\&|ADT|HOSP|ISOCENTER|AI|20260102||ADT^{event}|{control_id}|P|2.4\rEVN|{event}|20260102\r{rest}"
    )
}

/// HL7-32: the orders of a visit, and their images, move to another patient with the visit.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_32_a_visit_that_moves_takes_its_orders_and_images_along() {
    let hospital = Hospital::open().await;
    let phantom = phantom();
    let order = order_message(&phantom, "O1").replace("PV1|1|O", "PV1|1|O|||||||||||||||||V7");
    assert_eq!(hospital.send_message(&order).await, "AA");
    hospital.send(&phantom).await;
    hospital.ended_runs(1).await;

    let moved = adt("A45", "M1", "PID|1||RIGHT^^^^MR\rMRG|OLD^^^^MR||||V7\rPV1|1|O");
    assert_eq!(hospital.send_message(&moved).await, "AA");

    let why = hospital.ask(&["why", "RIGHT"]);
    assert_eq!(why["studies"][0]["study"]["patient"], "RIGHT", "{why}");
    assert_eq!(why["orders"].as_array().map(Vec::len), Some(0), "found by number, not by patient");
    assert_eq!(hospital.ask(&["why", "OLD"])["studies"], Value::Array(Vec::new()));
    // Linked patients remain separate.
    let linked = adt("A24", "M2", "PID|1||RIGHT^^^^MR\rPID|2||OTHER^^^^MR");
    assert_eq!(hospital.send_message(&linked).await, "AA");
    let why = hospital.ask(&["why", "OTHER"]);
    assert_eq!(why["studies"], Value::Array(Vec::new()));
    assert_eq!(why["links"][0]["with"], "RIGHT", "{why}");
    let unlinked = adt("A37", "M3", "PID|1||OTHER^^^^MR\rPID|2||RIGHT^^^^MR");
    assert_eq!(hospital.send_message(&unlinked).await, "AA");
    assert_eq!(hospital.ask(&["why", "OTHER"])["links"], Value::Array(Vec::new()));
}

/// DIN-62: after a merge, an export has the ID of the survivor and records the original values. The
/// received files do not change.
#[tokio::test(flavor = "multi_thread")]
async fn din_62_after_a_merge_a_study_is_handed_out_under_its_survivor() {
    let hospital = Hospital::open().await;
    let phantom = Phantom { patient_id: "OLD-1".to_owned(), ..study("handed out") };
    hospital.send(&phantom).await;
    hospital.ended_runs(1).await;
    let export = |folder: &str, more: &[&str]| {
        let folder = hospital.scratch.path(folder).display().to_string();
        let uid = phantom.study_uid();
        let output = hospital.command(&[&["export", &uid, "--to", &folder], more].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(export("before", &[]).contains("3 written, 0 of them"));
    let merge = "MSH|^~\\&|ADT|HOSP|ISO|AI|20260103120000||ADT^A40^ADT_A39|MERGE1|P|2.5.1\r\
        EVN|A40|20260103120000\rPID|1||NEW-2^^^^MR||MERGED^NAME||19700101|O\r\
        MRG|OLD-1^^^^MR";
    assert_eq!(hospital.send_message(merge).await, "AA");

    assert!(export("after", &[]).contains("3 written, 3 of them"));
    assert!(export("received", &["--as-received"]).contains("3 written, 0 of them"));

    let name = format!("{}.dcm", phantom.instance_uid(0));
    let file = |folder: &str| std::fs::read(hospital.scratch.path(folder).join(&name)).unwrap();
    assert_eq!(file("received"), file("before"));
    let dump = std::process::Command::new("dcmdump")
        .arg(hospital.scratch.path("after").join(&name))
        .output()
        .expect("dcmtk is there");
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    for expected in [
        "(0010,0020) LO [NEW-2]",
        "(0010,0010) PN [MERGED^NAME]",
        "    (0400,0565) CS [COERCE]",
        "        (0010,0020) LO [OLD-1]",
        "        (0010,0010) PN [DEMO^PHANTOM]",
        "    (0400,0563) LO [ISOCENTER]",
    ] {
        assert!(dump.contains(expected), "{expected} is not in:\n{dump}");
    }
    assert!(dump.contains("(0008,0015) DT"), "{dump}");
    let events = hospital.ask(&["audit", "show", "--study", &phantom.study_uid()]);
    let exports = events.as_array().unwrap().iter().filter(|it| it["kind"] == "study_exported");
    assert_eq!(exports.count(), 3, "each is in the trail");
}

const OF_IMAGES: &str = "
workflow: bones
on: { study: { complete: { quiet: 200ms } } }
nodes: { bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } } }
deliver:
  - { to: pacs, what: [seg, sr], after: [bone] }
  - { to: ehr, what: [oru], after: [bone] }
  - { to: share, what: [seg, oru], after: [bone] }
";

const OF_MESSAGES: &str = "
workflow: labs
on: { message: { type: ORU^R01 } }
nodes: { table: { plugin: lab-report-parsing } }
deliver: [{ to: ehr, what: [oru], after: [table] }]
";

/// HL7-34: a result without a patient is sent to the PACS once, and waits for a person before the
/// EHR. A folder that takes images and messages alike gets all of it.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_34_a_result_without_a_patient_is_sent_once_or_held_for_a_person() {
    let workflows = [("bones", OF_IMAGES), ("labs", OF_MESSAGES)];
    let scratch = Scratch::default();
    let share = scratch.path("share");
    let more = format!("  share: {{ folder: {}, allow_unverified: true }}\n", share.display());
    let options = SiteOptions {
        workflows: &workflows,
        destinations: &more,
        resend: true,
        ..SiteOptions::default()
    };
    let hospital = Hospital::with(options).await;
    hospital.send(&Phantom { patient_id: String::new(), ..phantom() }).await;
    let message = "MSH|^~\\&|LAB|HOSP|ISOCENTER|AI|20260115||ORU^R01^ORU_R01|N1|P|2.5.1\r\
        PID|1||||DOE^JANE||19800101|F\r\
        OBR|1|P|F|24323-8^Panel^LN\r\
        OBX|1|NM|2823-3^Potassium^LN||6.9|mmol/L|3.5-5.1|HH|||F";
    assert_eq!(hospital.send_message(message).await, "AA");
    hospital.ended_runs(2).await;
    let tasks = hospital.ask(&["task", "list"]);
    let tasks = tasks.as_array().unwrap();
    assert_eq!(tasks.len(), 2, "{tasks:?}");
    assert!(tasks.iter().all(|it| it["kind"] == "delivery_failed"), "{tasks:?}");
    let says_why = |it: &Value| it["reason"].as_str().unwrap().contains("names no patient");
    assert!(tasks.iter().all(says_why), "{tasks:?}");

    // Long enough for whatever looks for deliveries under an identity of before to look thrice.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(hospital.pacs.received().len(), 2, "a segmentation and a report");
    assert!(hospital.ehr.received().is_empty());
    let shared = files(&share);
    let mut names: Vec<_> = shared.iter().filter_map(|it| it.file_name()).collect();
    names.sort();
    assert_eq!(names, ["oru-1.hl7", "seg-1.dcm"]);
    let deliveries = hospital.ask(&["delivery", "list"]);
    let deliveries = deliveries.as_array().unwrap();
    assert!(deliveries.iter().all(|it| it["attempt"] == 1 && says_why(it)), "{deliveries:?}");
}
