//! Safe mode, in which every part is held until a person releases it, and the fair queue of runs.

use std::time::Duration;

use system_tests::{Hospital, SiteOptions, eventually, remote, study};

const WORKFLOW: &str = "
workflow: bone
on: { study: { when: 'study.instances == 3', complete: { quiet: 300ms } } }
nodes: { bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } } }
deliver: [{ to: pacs, what: [seg], after: [bone] }]
";

/// A workflow that takes long enough for runs to queue.
const SLOW: &str = "
workflow: slow
on: { study: { when: 'study.instances == 3', complete: { quiet: 300ms } } }
nodes: { slow: { plugin: faulty, with: { fault: slow } } }
";

/// Number of studies of the busy sender.
const MANY: usize = 8;

const ORDER: &str = "MSH|^~\\&|A|B|C|D|2026||ADT^A04|1|P|2.5.1\rPID|1||5^^^H^MR";

/// The parts of the engine that are held.
fn held(hospital: &Hospital) -> Vec<String> {
    let rows = hospital.ask(&["hold", "list"]);
    rows.as_array().unwrap().iter().map(|it| it["part"].as_str().unwrap().to_owned()).collect()
}

fn release(hospital: &Hospital, part: &str) {
    let output = hospital.command(&["hold", "release", part]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn acc_05_in_safe_mode_nothing_moves_until_it_is_released() {
    let workflows = [("bone", WORKFLOW)];
    let mut hospital =
        Hospital::with(SiteOptions { workflows: &workflows, ..SiteOptions::default() }).await;
    hospital.engine.terminate();
    hospital.restart_with(&["--safe-mode"]);
    assert_eq!(held(&hospital), ["deliveries", "intake", "workflows"]);
    let modality = hospital.modality();
    let files = study("one").files();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let refused = modality.store(&files).await.unwrap_err().to_string();
    assert!(refused.contains("congest") || refused.contains("reject"), "{refused}");
    assert_eq!(hospital.send_message(ORDER).await, "AE");

    release(&hospital, "intake");
    eventually("the intake to open", async || modality.store(&files).await.ok()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(hospital.ask(&["runs"]).as_array().unwrap().len(), 0);

    // A held part stays held after a start without safe mode.
    hospital.engine.kill();
    hospital.restart();
    assert_eq!(held(&hospital), ["deliveries", "workflows"]);
    release(&hospital, "workflows");
    eventually("the run to end", async || {
        let runs = hospital.ask(&["runs"]);
        (runs[0]["status"] == "completed").then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(hospital.pacs.received().is_empty());
    release(&hospital, "deliveries");
    hospital.ended_runs(1).await;
    assert_eq!(hospital.pacs.received().len(), 1);
    let again = hospital.command(&["hold", "release", "deliveries"]);
    assert!(!again.status.success(), "what is not held cannot be released");
}

/// SEC-38: a study of one modality does not wait for all earlier studies of another modality.
#[tokio::test(flavor = "multi_thread")]
async fn sec_38_who_sends_little_does_not_wait_for_who_sends_much() {
    let workflows = [("slow", SLOW)];
    let mut hospital =
        Hospital::with(SiteOptions { workflows: &workflows, ..SiteOptions::default() }).await;
    hospital.engine.terminate();
    hospital.restart_with(&["--safe-mode"]);
    release(&hospital, "intake");
    for number in 0..MANY {
        let files = study(&format!("busy {number}")).files();
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        let busy = remote(&hospital.engine.dicom, "CT1");
        eventually("the study to be accepted", async || busy.store(&files).await.ok()).await;
    }
    let last = study("the other");
    let files = last.files();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    remote(&hospital.engine.dicom, "CT2").store(&files).await.unwrap();
    release(&hospital, "workflows");
    release(&hospital, "deliveries");
    hospital.ended_runs(MANY + 1).await;

    let events = hospital.ask(&["audit", "show", "--limit", "2000"]);
    let started: Vec<&str> = events
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["kind"] == "node_started")
        .map(|it| it["body"]["subject"]["study"].as_str().unwrap())
        .collect();
    assert_eq!(started.len(), MANY + 1);
    let position = started.iter().position(|it| *it == last.study_uid()).unwrap();
    // The list begins with the newest event, so that later positions were started earlier.
    assert!(position >= 2, "{position} of {started:?}");
}
