//! The engine and its database killed at twenty seeded moments: nothing acknowledged is missing, and
//! each run ends with one set of results (ACC-04).
#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "in a test, a panic is the way to say no"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use neighbours::order_message;
use neighbours::phantom::Phantom;
use system_tests::{Hospital, eventually, kill_database};

/// The moments, in ms after the first instance is sent: receiving takes some 100 ms, quiet 500 ms,
/// the run and its deliveries some more. The seed is in the file, so that a failure repeats.
const SEED: u64 = 20_260_102;

const MOMENTS: usize = 20;

const LATEST_MS: u64 = 1_600;

const WORKFLOW: &str = "
workflow: bone
on: { study: { complete: { quiet: 500ms } } }
nodes: { bone: { plugin: segmentation, with: { method: threshold, targets: [bone] }, retry: { attempts: 9, backoff: 100ms } } }
deliver:
  - { to: pacs, what: [seg, sr], after: [bone] }
  - { to: ehr, what: [oru], after: [bone] }
";

/// A sequence that looks random and is the same every time (xorshift).
fn moments() -> Vec<u64> {
    let mut state = SEED;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % LATEST_MS
    };
    (0..MOMENTS).map(|_| next()).collect()
}

/// Sends slice by slice until one is not acknowledged, and gives how many were.
async fn send(address: String, phantom: Phantom) -> usize {
    let modality = system_tests::remote(&address, "CT1");
    let mut acknowledged = 0;
    for file in phantom.files() {
        if modality.store(&[&file]).await.is_err() {
            break;
        }
        acknowledged += 1;
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn acc_04_a_kill_at_any_moment_loses_nothing_and_doubles_nothing() {
    let habits = system_tests::Habits {
        workflows: &[("bone", WORKFLOW)],
        ..system_tests::Habits::default()
    };
    let mut hospital = Hospital::with(habits).await;
    for (number, moment) in moments().into_iter().enumerate() {
        let is_database = number % 2 == 1;
        let what = if is_database { "database" } else { "engine" };
        println!("moment {number}: {what} killed after {moment} ms");
        let phantom = Phantom {
            slices: 10,
            size: 64,
            pixel: 6.0,
            seed: format!("fault {number}"),
            patient_id: format!("FAULT-{number}"),
            accession: format!("FAULT-{number}"),
            ..Phantom::default()
        };
        let order = order_message(&phantom, &format!("FAULT-{number}"));
        assert_eq!(hospital.send_message(&order).await, "AA");

        let sending = tokio::spawn(send(hospital.engine.dicom.clone(), phantom.clone()));
        tokio::time::sleep(Duration::from_millis(moment)).await;
        if is_database {
            kill_database(&hospital.scratch.path("data"));
        } else {
            hospital.engine.kill();
            hospital.restart();
        }
        let acknowledged = sending.await.unwrap();
        check_kept(&hospital, &phantom, acknowledged).await;
        // The modality sends again what was not acknowledged, as modalities do.
        eventually("the whole study to be taken", async || {
            (send(hospital.engine.dicom.clone(), phantom.clone()).await == 10).then_some(())
        })
        .await;
        check_results(&hospital, &phantom).await;
    }
    check_all(&hospital).await;
}

/// Everything that was acknowledged is there after the restart.
async fn check_kept(hospital: &Hospital, phantom: &Phantom, acknowledged: usize) {
    let kept = eventually("an answer of the database", async || {
        let output = hospital.command(&["why", &phantom.study_uid(), "--json"]);
        let why: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let instances =
            why["studies"].as_array()?.first().map(|it| it["study"]["instances"].clone());
        Some(instances.and_then(|it| it.as_u64()).unwrap_or_default())
    })
    .await;
    assert!(kept >= acknowledged as u64, "{acknowledged} were acknowledged, {kept} are there");
}

/// The study has a completed run, and its results are one set by their names.
async fn check_results(hospital: &Hospital, phantom: &Phantom) {
    eventually("a completed run and its deliveries", async || {
        let output = hospital.command(&["why", &phantom.study_uid(), "--json"]);
        let why: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let runs = why["studies"][0]["runs"].as_array()?.clone();
        let is_done = |run: &serde_json::Value| {
            let deliveries = run["deliveries"].as_array().cloned().unwrap_or_default();
            run["run"]["status"] == "completed"
                && deliveries.len() == 2
                && deliveries.iter().all(|it| it["state"] == "delivered")
        };
        (!runs.is_empty() && runs.iter().all(is_done)).then_some(())
    })
    .await;
    let output = hospital.command(&["why", &phantom.study_uid(), "--json"]);
    let why: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(why["studies"][0]["runs"].as_array().unwrap().len(), 1, "{why}");
}

/// Across all moments: as many results as runs, by name, and projections that fit the trail.
async fn check_all(hospital: &Hospital) {
    let runs = hospital.ended_runs(MOMENTS).await.len();
    let names: BTreeSet<String> =
        hospital.pacs.received().into_iter().map(|it| it.sop_instance).collect();
    assert_eq!(names.len(), 2 * runs);
    let messages: BTreeSet<String> =
        hospital.ehr.received().iter().map(|it| it.split('|').nth(9).unwrap().to_owned()).collect();
    assert_eq!(messages.len(), runs);
    let doctor = hospital.ask(&["doctor"]);
    let sick: Vec<_> =
        doctor.as_array().unwrap().iter().filter(|it| it["is_good"] == false).collect();
    assert!(sick.is_empty(), "{sick:?}");
}
