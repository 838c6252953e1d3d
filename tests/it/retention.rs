//! Removal of expired data, and refusals while the disk is full (DIN-33, SEC-38).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use contracts::{FailureReason, SopReference};
use serde_json::Value;
use simulators::phantom::Phantom;
use system_tests::api::{call_raw, token};
use system_tests::{Hospital, SiteOptions, eventually, study};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

/// Longest wait for a commitment result on the association of the request.
const RESULT_TIME_MAX: Duration = Duration::from_secs(20);

/// References to all instances of a study.
fn references(phantom: &Phantom) -> Vec<SopReference> {
    let instances = (0..phantom.slices).map(|it| phantom.instance_uid(it));
    instances.map(|sop_instance| SopReference { sop_class: CT.to_owned(), sop_instance }).collect()
}

/// All files of a folder of the archive.
fn files(hospital: &Hospital, folder: &str) -> Vec<PathBuf> {
    let folder = hospital.scratch.path("data/archive").join(folder);
    let entries = |it: &Path| std::fs::read_dir(it).unwrap().map(|it| it.unwrap().path());
    entries(&folder).flat_map(|it| entries(&it).collect::<Vec<_>>()).collect()
}

/// Kind and id of all data that would be removed.
fn expired(hospital: &Hospital) -> Vec<(String, String)> {
    let all = hospital.ask(&["retention", "--dry-run"]);
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    all.as_array().unwrap().iter().map(|it| (text(&it["kind"]), text(&it["id"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn din_33_what_is_over_is_removed_and_what_was_committed_stays() {
    let terms = "retention: { images: 1s, messages: 1s, results: 1s }\n";
    let hospital =
        Hospital::with(SiteOptions { destinations: terms, ..SiteOptions::default() }).await;
    let passing = study("passing");
    let committed = study("committed");
    hospital.send(&passing).await;
    hospital.send(&committed).await;
    let all = references(&committed);
    let done = hospital.modality().commit("2.25.1", &all, RESULT_TIME_MAX).await.unwrap().unwrap();
    assert_eq!(done.committed, all);
    hospital.ended_runs(2).await;
    let images = files(&hospital, "instances");
    let artifacts = files(&hospital, "artifacts");
    assert!(images.len() == 6 && !artifacts.is_empty());
    for path in images.iter().chain(&artifacts) {
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_hours(2)).unwrap();
    }
    let due = eventually("the data to expire", async || {
        let due = expired(&hospital);
        (due.len() == 3).then_some(due)
    })
    .await;
    assert!(due.contains(&("images".to_owned(), passing.study_uid())), "{due:?}");
    assert_eq!(due.iter().filter(|it| it.0 == "results").count(), 2, "{due:?}");
    assert_eq!(files(&hospital, "instances").len(), 6, "a dry run removes nothing");

    let done = hospital.command(&["retention"]);
    assert!(done.status.success(), "{done:?}");

    assert_eq!(files(&hospital, "instances").len(), 3);
    assert!(files(&hospital, "artifacts").is_empty() && expired(&hospital).is_empty());
    let again = hospital.modality().commit("2.25.2", &all, RESULT_TIME_MAX).await.unwrap().unwrap();
    assert_eq!(again.committed, all);
    // The trail records who removed the images, and `why` still explains the study.
    let events = hospital.ask(&["audit", "show", "--limit", "500"]);
    let mut events = events.as_array().unwrap().iter();
    let event = &events.find(|it| it["kind"] == "images_removed").unwrap()["body"];
    assert_eq!(event["detail"]["instances"], 3, "{event}");
    assert_eq!(event["subject"]["study"], passing.study_uid().as_str(), "{event}");
    assert_eq!(event["actor"]["kind"], "person", "{event}");
    let why = hospital.ask(&["why", &passing.study_uid()]);
    assert!(why.to_string().contains("completed"), "{why}");
    send_again(&hospital, &passing).await;
    let doctor = hospital.command(&["doctor"]);
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));
}

/// Removed images are not committed. When they are sent again they are, and no run starts again.
async fn send_again(hospital: &Hospital, phantom: &Phantom) {
    let all = references(phantom);
    let gone = hospital.modality().commit("2.25.3", &all, RESULT_TIME_MAX).await.unwrap().unwrap();
    assert!(gone.failed.iter().all(|it| it.reason == FailureReason::NO_SUCH_OBJECT), "{gone:?}");
    assert_eq!(gone.failed.len(), 3);
    hospital.send(phantom).await;
    let back = hospital.modality().commit("2.25.4", &all, RESULT_TIME_MAX).await.unwrap().unwrap();
    assert_eq!((back.committed, files(hospital, "instances").len()), (all, 6));
    assert_eq!(hospital.ended_runs(2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_38_a_full_disk_sends_everybody_away_until_there_is_room() {
    let hospital = Hospital::open().await;
    let site = std::fs::read_to_string(hospital.scratch.path("isocenter.yaml")).unwrap();
    let full = site.replace("{ warn: 100, refuse: 100 }", "{ warn: 0, refuse: 0 }");
    hospital.scratch.write("isocenter.yaml", &full);
    let is_recorded = async |kind: &str| {
        let events = hospital.ask(&["audit", "show", "--limit", "100"]);
        events.as_array().unwrap().iter().any(|it| it["kind"] == kind).then_some(())
    };
    eventually("a warning", async || is_recorded("disk_filling").await).await;

    let phantom = study("one");
    let files = phantom.files();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let refused = eventually("a refusal", async || {
        hospital.modality().store(&files).await.err().map(|it| domain::ErrorChain(&it).to_string())
    })
    .await;
    assert!(refused.contains("temporary congestion"), "{refused}");

    eventually("the event", async || is_recorded("intake_closed").await).await;

    // On a nearly full disk, new associations that would store are refused, and messages accepted.
    let filling = site.replace("{ warn: 100,", "{ warn: 0, turn_away: 0,");
    hospital.scratch.write("isocenter.yaml", &filling);
    eventually("the event", async || is_recorded("intake_narrowed").await).await;
    hospital.modality().echo().await.unwrap();
    let turned_away = hospital.modality().store(&files).await.unwrap_err();
    let turned_away = domain::ErrorChain(&turned_away).to_string();
    assert!(turned_away.contains("temporary congestion"), "{turned_away}");
    let token = token(&hospital, "laboratory", "Reader^Ruth");
    let (status, _) = call_raw(
        &hospital.engine.http,
        Some(&token),
        ("POST", "/api/documents?patient=5"),
        b"%PDF-1.4",
    );
    assert_eq!(status, 503);
    let message = "MSH|^~\\&|A|B|C|D|2026||ADT^A04|1|P|2.5.1\rPID|1||5^^^H^MR";
    assert_eq!(hospital.send_message(message).await, "AA");

    hospital.scratch.write("isocenter.yaml", &site);
    eventually("space on the disk", async || hospital.modality().store(&files).await.ok()).await;
    hospital.ended_runs(1).await;
    eventually("the event", async || is_recorded("intake_opened").await).await;
}
