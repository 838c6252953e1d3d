//! Operation by IT: failing and paused destinations, tests of destinations, a changed site file,
//! and queries of the trail by user and result.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use system_tests::{Hospital, SiteOptions, eventually, remote, study};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The state of a destination, as `isocenter destination list` shows it.
fn destination(hospital: &Hospital, name: &str) -> Value {
    let all = hospital.ask(&["destination", "list"]);
    all.as_array().unwrap().iter().find(|it| it["name"] == name).cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_destination_gets_nothing_until_it_is_resumed_and_others_do() {
    let hospital = Hospital::open().await;
    assert!(hospital.command(&["destination", "pause", "pacs"]).status.success());
    hospital.send(&study("one")).await;
    eventually("the EHR's message", async || (!hospital.ehr.received().is_empty()).then_some(()))
        .await;
    let pacs = destination(&hospital, "pacs");
    assert_eq!((&pacs["state"], &pacs["waiting"]), (&"paused".into(), &1.into()), "{pacs}");
    assert!(hospital.pacs.received().is_empty());

    assert!(hospital.command(&["destination", "resume", "pacs"]).status.success());
    hospital.ended_runs(1).await;
    assert_eq!(hospital.pacs.received().len(), 2);
    let unknown = hospital.command(&["destination", "pause", "pasc"]);
    let error = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(error.contains("there are: ehr, pacs"), "{error}");
}

/// ACC-05: an unreachable destination delays only its own deliveries. After some failures the
/// engine waits before the next attempt, unless a person resumes the destination.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_14_a_destination_that_is_away_rests_and_what_failed_can_be_sent_again() {
    let hospital = Hospital::open().await;
    let site = std::fs::read_to_string(hospital.scratch.path("isocenter.yaml")).unwrap();
    let unreachable = site.replace(&hospital.pacs.address().to_string(), "127.0.0.1:9");
    hospital.scratch.write("isocenter.yaml", &unreachable);
    recorded(&hospital, "site_file_reloaded", 1).await;
    hospital.send(&study("one")).await;

    let resting = eventually("the PACS to rest", async || {
        let pacs = destination(&hospital, "pacs");
        (pacs["state"] == "resting").then_some(pacs)
    })
    .await;
    assert_eq!(resting["failures"], 5);
    assert!(resting["last_error"].as_str().unwrap().contains("cannot connect"), "{resting}");
    let test = hospital.command(&["destination", "test", "pacs"]);
    assert!(String::from_utf8_lossy(&test.stderr).contains("does not answer C-ECHO"));

    // The PACS is reachable again, and a person ends the pause.
    hospital.scratch.write("isocenter.yaml", &site);
    assert!(hospital.command(&["destination", "test", "pacs"]).status.success());
    assert!(hospital.command(&["destination", "test", "ehr"]).status.success());
    recorded(&hospital, "site_file_reloaded", 2).await;
    assert!(hospital.command(&["destination", "resume", "pacs"]).status.success());
    hospital.ended_runs(1).await;
    assert_eq!(hospital.pacs.received().len(), 2);
    assert_eq!(destination(&hospital, "pacs")["state"], "working");

    // Queries by result and by user.
    let uid = &hospital.pacs.received()[0].sop_instance;
    let events = hospital.ask(&["audit", "show", "--result", uid]);
    let kinds: Vec<&str> =
        events.as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"delivered") && kinds.contains(&"run_started"), "{kinds:?}");
    let by_modality = hospital.ask(&["audit", "show", "--user", "CT1"]);
    assert!(by_modality.as_array().unwrap().iter().all(|it| it["body"]["actor"]["id"] == "CT1"));
    let newest = hospital.ask(&["audit", "show", "--limit", "3"]);
    let newest = newest.as_array().unwrap();
    let query = newest.iter().find(|it| it["kind"] == "trail_read").unwrap();
    assert_eq!(query["body"]["detail"]["user"], "CT1", "queries of the trail are in the trail");
}

/// Waits until the trail has `times` events of a kind.
async fn recorded(hospital: &Hospital, kind: &str, times: usize) {
    eventually(kind, async || (count(hospital, kind) >= times).then_some(())).await;
}

/// The number of events of a kind in the trail.
fn count(hospital: &Hospital, kind: &str) -> usize {
    let events = hospital.ask(&["audit", "show", "--limit", "1000"]);
    events.as_array().unwrap().iter().filter(|it| it["kind"] == kind).count()
}

/// DIN-02: the peers of a changed site file may connect without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn din_02_the_allow_list_of_a_changed_site_file_holds_without_a_restart() {
    let options = SiteOptions { trust_loopback: false, ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;
    let stranger = remote(&hospital.engine.dicom, "MR7");
    assert!(stranger.echo().await.is_err());
    assert!(remote(&hospital.engine.dicom, "PACS").echo().await.is_ok());

    let site = std::fs::read_to_string(hospital.scratch.path("isocenter.yaml")).unwrap();
    let more = "peers: [{ ae_title: MR7, networks: [127.0.0.0/8] }, {";
    hospital.scratch.write("isocenter.yaml", &site.replace("peers: [{", more));
    eventually("the stranger to be let in", async || stranger.echo().await.ok()).await;

    // An invalid site file changes nothing.
    hospital.scratch.write("isocenter.yaml", "dicom: { pears: [] }");
    eventually("the refusal", async || {
        hospital.log().contains("all stays as it was").then_some(())
    })
    .await;
    assert!(stranger.echo().await.is_ok());
}

/// An EHR that rejects every message with AR while `refuses` is set.
struct Strict {
    address: String,
    refuses: Arc<AtomicBool>,
    /// MSH-10 of the accepted messages.
    accepted: Arc<Mutex<Vec<String>>>,
}

impl Strict {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let strict =
            Self { address, refuses: Arc::new(AtomicBool::new(true)), accepted: Arc::default() };
        let is_refusing = Arc::clone(&strict.refuses);
        let accepted = Arc::clone(&strict.accepted);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut message = Vec::new();
                while let Ok(1..) = stream.read_buf(&mut message).await {
                    if !message.ends_with(b"\x1c\r") {
                        continue;
                    }
                    let text = String::from_utf8_lossy(&message).into_owned();
                    message.clear();
                    let id = text.split('|').nth(9).unwrap().to_owned();
                    let refuses = is_refusing.load(Ordering::Relaxed);
                    let code = if refuses { "AR" } else { "AA" };
                    let answer = format!(
                        "\x0bMSH|^~\\&|EHR|HOSP|||2026||ACK^R01^ACK|1|P|2.5.1\rMSA|{code}|{id}\r\x1c\r"
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if !refuses {
                        accepted.lock().unwrap().push(id);
                    }
                }
            }
        });
        strict
    }
}

/// HL7-14: a message that is answered with AR is not repeated. With `on_error: block` no later
/// message is sent before a person has resumed the destination.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_14_a_destination_that_blocks_gets_nothing_more_until_a_person_has_looked() {
    let strict = Strict::open().await;
    let more = format!(
        "  strict: {{ mllp: {{ address: \"{}\" }}, allow_unverified: true, on_error: block }}\n",
        strict.address
    );
    let workflow = "workflow: to-strict\non: { study: { complete: { quiet: 200ms } } }\nnodes:\n  \
        bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } }\n\
        deliver: [{ to: strict, what: [oru], after: [bone] }]\n";
    let workflows = [("to-strict", workflow)];
    let options =
        SiteOptions { workflows: &workflows, destinations: &more, ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;

    hospital.send(&study("refused")).await;
    let paused = eventually("the destination to be paused", async || {
        let strict = destination(&hospital, "strict");
        (strict["state"] == "paused").then_some(strict)
    })
    .await;
    assert_eq!((&paused["failed"], &paused["paused_by"]), (&1.into(), &"on_error: block".into()));
    assert!(paused["last_error"].as_str().unwrap().contains("AR"), "{paused}");
    assert_eq!(count(&hospital, "destination_paused"), 1);
    strict.refuses.store(false, Ordering::Relaxed);
    hospital.send(&study("behind it")).await;
    eventually("the second to wait", async || {
        (destination(&hospital, "strict")["waiting"] == 1).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(strict.accepted.lock().unwrap().is_empty(), "nothing overtakes the refused message");

    assert!(
        hospital.command(&["delivery", "resend", "--failed", "--to", "strict"]).status.success()
    );
    assert!(hospital.command(&["destination", "resume", "strict"]).status.success());
    eventually("both", async || (strict.accepted.lock().unwrap().len() == 2).then_some(())).await;
    // The engine may not have received the last acknowledgement yet.
    eventually("both to be recorded", async || {
        let all = hospital.ask(&["delivery", "list"]);
        let states: Vec<_> = all.as_array()?.iter().map(|it| it["state"].clone()).collect();
        (states == ["delivered", "delivered"]).then_some(())
    })
    .await;
}
