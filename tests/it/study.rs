//! A study and its order, from reception to PACS and EHR.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use simulators::order_message;
use simulators::phantom::Phantom;
use system_tests::{Hospital, SiteOptions, eventually, kill_database, python, root};

fn phantom() -> Phantom {
    Phantom { slices: 12, ..Phantom::default() }
}

/// The volume of bone that a run has measured.
fn bone_millilitres(run: &serde_json::Value) -> f64 {
    let segment = &run["outputs"]["bone"]["segmentations"][0]["segments"][0];
    segment["measurements"][0]["value"].as_f64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_study_and_its_order_come_out_as_seg_sr_and_oru() {
    let hospital = Hospital::open().await;
    let phantom = phantom();

    assert_eq!(hospital.send_message(&order_message(&phantom, "O1")).await, "AA");
    hospital.send(&phantom).await;
    let runs = hospital.ended_runs(1).await;

    let run = hospital.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]);
    let found = bone_millilitres(&run);
    let known = phantom.bone_millilitres();
    assert!((found - known).abs() < 0.01 * known, "{found} mL, {known} by construction");
    let received = hospital.pacs.received();
    let classes: Vec<&str> = received.iter().map(|it| it.sop_class.as_str()).collect();
    // OUT-34: the segmentation is sent before the report that refers to it.
    assert_eq!(classes, ["1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"]);
    let [oru] = hospital.ehr.received().try_into().unwrap();
    assert!(oru.contains("AI-generated - not verified by a physician"), "{oru}");
    assert!(oru.contains("|P-DEMO-ACC-1|F-DEMO-ACC-1|") && oru.contains("|R|||"), "{oru}");
    let why = hospital.ask(&["why", "DEMO-ACC-1"]);
    assert_eq!(why["studies"][0]["runs"][0]["run"]["status"], "completed");
    assert_eq!(why["orders"][0]["accession"], "DEMO-ACC-1");
}

/// HL7-40: images without an accession number are matched by the placer number of the request.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_40_the_request_in_the_images_finds_the_order() {
    let hospital = Hospital::open().await;
    let ordered = Phantom { seed: "another UID".to_owned(), ..phantom() };
    let scanned = Phantom {
        accession: String::new(),
        placer: format!("P-{}", ordered.accession),
        ..phantom()
    };

    assert_eq!(hospital.send_message(&order_message(&ordered, "O1")).await, "AA");
    hospital.send(&scanned).await;
    hospital.ended_runs(1).await;

    let [oru] = hospital.ehr.received().try_into().unwrap();
    assert!(oru.contains("|P-DEMO-ACC-1|F-DEMO-ACC-1|"), "{oru}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_52_without_allow_unverified_the_ehr_gets_nothing() {
    let options = SiteOptions { allow_unverified: false, ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;

    hospital.send(&phantom()).await;
    hospital.ended_runs(1).await;

    assert_eq!(hospital.ehr.received(), Vec::<String>::new());
    assert_eq!(hospital.pacs.received().len(), 2);
    let deliveries = hospital.ask(&["delivery", "list", "--failed"]);
    assert_eq!(deliveries[0]["state"], "blocked");
    assert!(deliveries[0]["reason"].as_str().unwrap().contains("allow_unverified"));
}

#[tokio::test(flavor = "multi_thread")]
async fn din_22_the_same_study_again_runs_nothing_again() {
    let hospital = Hospital::open().await;

    hospital.send(&phantom()).await;
    hospital.ended_runs(1).await;
    hospital.send(&phantom()).await;

    let events = hospital.ask(&["audit", "show", "--limit", "500"]);
    let count =
        |kind: &str| events.as_array().unwrap().iter().filter(|it| it["kind"] == kind).count();
    assert_eq!((count("instance_received"), count("duplicate_received")), (12, 12));
    assert_eq!(hospital.ended_runs(1).await.len(), 1);
    assert_eq!(hospital.pacs.received().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_43_a_cancelled_order_sends_nothing() {
    let hospital = Hospital::open().await;
    let phantom = phantom();
    let order = order_message(&phantom, "O1");

    hospital.send_message(&order).await;
    hospital.send_message(&order.replace("ORC|NW", "ORC|CA").replace("|O1|", "|O2|")).await;
    hospital.send(&phantom).await;

    let reason = eventually("the decision", async || {
        let why = hospital.ask(&["why", "DEMO-ACC-1"]);
        let reason = why["studies"][0]["standings"]["ct-bone"]["reason"].as_str()?.to_owned();
        reason.contains("cancelled").then_some(reason)
    });
    assert_eq!(reason.await, "the order was cancelled");
    assert!(hospital.pacs.received().is_empty() && hospital.ehr.received().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn din_51_a_study_that_waits_for_its_order_is_held_in_time_and_says_why() {
    let workflow = "
workflow: with-order
on:
  study:
    complete: { quiet: 200ms, at_most: { after: 1s, then: hold }, expect: [order] }
nodes: { bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } } }
deliver: [{ to: pacs, what: [seg] }]
";
    let options = SiteOptions { workflows: &[("with-order", workflow)], ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;
    let phantom = phantom();

    hospital.send(&phantom).await;
    let tasks = eventually("a task", async || {
        let tasks = hospital.ask(&["task", "list"]);
        (!tasks.as_array().unwrap().is_empty()).then_some(tasks)
    });
    let tasks = tasks.await;
    assert_eq!(tasks[0]["kind"], "study_held");
    assert!(tasks[0]["reason"].as_str().unwrap().contains("ran out without an order"), "{tasks}");

    hospital.send_message(&order_message(&phantom, "O1")).await;
    assert_eq!(hospital.ended_runs(1).await[0]["status"], "completed");
}

/// DIN-50, ACC-05: the end of an association during an outage of the database is recorded later, so
/// that its study becomes complete.
#[tokio::test(flavor = "multi_thread")]
async fn din_50_the_end_of_an_association_is_not_lost_with_the_database() {
    let python = python();
    let hospital = Hospital::open().await;
    let phantom = Phantom { slices: 1, ..Phantom::default() };
    let file = hospital.scratch.path("one.dcm");
    std::fs::write(&file, &phantom.files()[0]).unwrap();
    let script = root().join("tests/it/hold_association.py");
    let port = hospital.engine.dicom.rsplit(':').next().unwrap();
    let mut modality = Command::new(python);
    let piped = modality.arg(script).arg(port).arg(file).stdin(Stdio::piped());
    let mut modality = piped.stdout(Stdio::piped()).spawn().unwrap();
    let mut status = String::new();
    BufReader::new(modality.stdout.as_mut().unwrap()).read_line(&mut status).unwrap();
    assert_eq!(status.trim(), "0000");

    assert!(kill_database(&hospital.scratch.path("data")));
    // The modality releases before the database is back.
    modality.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(modality.wait().unwrap().success());

    eventually("the run, once the database is back", async || {
        let output = hospital.command(&["runs", "--json"]);
        let runs: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).ok()?;
        runs.iter().any(|it| it["status"] != "running").then_some(())
    })
    .await;
}
