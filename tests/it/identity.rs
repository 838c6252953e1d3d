//! Who is who: merges before, during and after a run, and conflicts (HL7-30..44).

use neighbours::order_message;
use neighbours::phantom::Phantom;
use serde_json::Value;
use system_tests::{Habits, Hospital, eventually};

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

async fn send(hospital: &Hospital, phantom: &Phantom) {
    let files = phantom.files();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    hospital.modality().store(&files).await.unwrap();
}

/// What the EHR was sent is the survivor's, and both names find all of it.
fn check_filed(hospital: &Hospital, survivor: &str, all: &[&str]) {
    let [oru] = hospital.ehr.received().try_into().unwrap();
    assert!(oru.contains(&format!("PID|1||{survivor}^")), "{oru}");
    check_found(hospital, survivor, all);
}

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

    // HL7-30: chains converge, and nobody need have heard of the patients before.
    // The later merge comes first, and the earlier one again after it.
    assert_eq!(hospital.send_message(&merge("NEW", "MID", "M2")).await, "AA");
    assert_eq!(hospital.send_message(&merge("MID", "OLD", "M1")).await, "AA");
    assert_eq!(hospital.send_message(&merge("MID", "OLD", "M3")).await, "AA");
    assert_eq!(hospital.send_message(&order_message(&phantom, "O1")).await, "AA");
    send(&hospital, &phantom).await;
    hospital.ended_runs(1).await;

    check_filed(&hospital, "NEW", &["OLD", "MID", "NEW"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_33_a_merge_during_the_run_files_the_result_under_the_survivor() {
    let habits = Habits { workflows: &[("slow", SLOW)], ..Habits::default() };
    let hospital = Hospital::with(habits).await;

    send(&hospital, &phantom()).await;
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

    send(&hospital, &phantom()).await;
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
    let of_another = Phantom { patient_id: "SOMEBODY-ELSE".to_owned(), ..phantom.clone() };

    hospital.send_message(&order_message(&of_another, "O1")).await;
    send(&hospital, &phantom).await;
    let task: Value = eventually("a task", async || {
        let tasks = hospital.ask(&["task", "list"]);
        tasks.as_array()?.first().cloned()
    })
    .await;

    assert_eq!(task["kind"], "identity_conflict");
    assert!(hospital.pacs.received().is_empty() && hospital.ehr.received().is_empty());
    assert_eq!(hospital.ask(&["runs"]), Value::Array(Vec::new()));

    // The two turn out to be one: what waited goes on.
    let same = merge("SOMEBODY-ELSE", "OLD", "M1");
    assert_eq!(hospital.send_message(&same).await, "AA");
    hospital.ended_runs(1).await;
    check_filed(&hospital, "SOMEBODY-ELSE", &["OLD", "SOMEBODY-ELSE"]);
}
