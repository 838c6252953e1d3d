//! What those do who run the engine: destinations that fail, are paused and tried; a site file that
//! changes; the trail asked by user and result.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use system_tests::{Habits, Hospital, eventually, remote, study};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

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
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("there are: ehr, pacs"), "{said}");
}

/// ACC-05: a destination that is away costs it alone time, and is tried again by itself.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_14_a_destination_that_is_away_rests_and_what_failed_can_be_sent_again() {
    let hospital = Hospital::open().await;
    let site = std::fs::read_to_string(hospital.scratch.path("isocenter.yaml")).unwrap();
    let away = site.replace(&hospital.pacs.address().to_string(), "127.0.0.1:9");
    hospital.scratch.write("isocenter.yaml", &away);
    heard(&hospital, "site_file_reloaded").await;
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

    // It is back; nobody waits for the rest to be over.
    hospital.scratch.write("isocenter.yaml", &site);
    assert!(hospital.command(&["destination", "test", "pacs"]).status.success());
    assert!(hospital.command(&["destination", "test", "ehr"]).status.success());
    heard_twice(&hospital, "site_file_reloaded").await;
    assert!(hospital.command(&["destination", "resume", "pacs"]).status.success());
    hospital.ended_runs(1).await;
    assert_eq!(hospital.pacs.received().len(), 2);
    assert_eq!(destination(&hospital, "pacs")["state"], "working");

    // Asked for by its result, and by who did it.
    let uid = &hospital.pacs.received()[0].sop_instance;
    let events = hospital.ask(&["audit", "show", "--result", uid]);
    let kinds: Vec<&str> =
        events.as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"delivered") && kinds.contains(&"run_started"), "{kinds:?}");
    let by_modality = hospital.ask(&["audit", "show", "--user", "CT1"]);
    assert!(by_modality.as_array().unwrap().iter().all(|it| it["body"]["actor"]["id"] == "CT1"));
    let read = hospital.ask(&["audit", "show", "--limit", "3"]);
    let about =
        &read.as_array().unwrap().iter().find(|it| it["kind"] == "trail_read").unwrap()["body"];
    assert_eq!(about["detail"]["user"], "CT1", "being asked is on record");
}

async fn heard(hospital: &Hospital, kind: &str) {
    eventually(kind, async || (count(hospital, kind) >= 1).then_some(())).await;
}

async fn heard_twice(hospital: &Hospital, kind: &str) {
    eventually(kind, async || (count(hospital, kind) >= 2).then_some(())).await;
}

fn count(hospital: &Hospital, kind: &str) -> usize {
    let events = hospital.ask(&["audit", "show", "--limit", "1000"]);
    events.as_array().unwrap().iter().filter(|it| it["kind"] == kind).count()
}

/// DIN-02: who may come in is said in the site file, and holds as soon as it is written.
#[tokio::test(flavor = "multi_thread")]
async fn din_02_the_allow_list_of_a_changed_site_file_holds_without_a_restart() {
    let habits = Habits { trust_loopback: false, ..Habits::default() };
    let hospital = Hospital::with(habits).await;
    let stranger = remote(&hospital.engine.dicom, "MR7");
    assert!(stranger.echo().await.is_err());
    assert!(remote(&hospital.engine.dicom, "PACS").echo().await.is_ok());

    let site = std::fs::read_to_string(hospital.scratch.path("isocenter.yaml")).unwrap();
    let more = "peers: [{ ae_title: MR7, networks: [127.0.0.0/8] }, {";
    hospital.scratch.write("isocenter.yaml", &site.replace("peers: [{", more));
    eventually("the stranger to be let in", async || stranger.echo().await.ok()).await;

    // A file that is of no use changes nothing.
    hospital.scratch.write("isocenter.yaml", "dicom: { pears: [] }");
    eventually("the refusal", async || {
        hospital.log().contains("all stays as it was").then_some(())
    })
    .await;
    assert!(stranger.echo().await.is_ok());
}

/// An EHR that refuses what comes until it is told otherwise.
struct Strict {
    address: String,
    refuses: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<String>>>,
}

impl Strict {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (refuses, taken) = (Arc::new(AtomicBool::new(true)), Arc::<Mutex<Vec<_>>>::default());
        let (refusing, taking) = (Arc::clone(&refuses), Arc::clone(&taken));
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
                    let refuses = refusing.load(Ordering::Relaxed);
                    let code = if refuses { "AR" } else { "AA" };
                    let answer = format!(
                        "\x0bMSH|^~\\&|EHR|HOSP|||2026||ACK^R01^ACK|1|P|2.5.1\rMSA|{code}|{id}\r\x1c\r"
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if !refuses {
                        taking.lock().unwrap().push(id);
                    }
                }
            }
        });
        Self { address, refuses, taken }
    }
}

/// HL7-14: AR is a dead letter. Where the order of messages matters more than their flow, nothing
/// passes it by.
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
    let habits = Habits { workflows: &workflows, destinations: &more, ..Habits::default() };
    let hospital = Hospital::with(habits).await;

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
    assert!(strict.taken.lock().unwrap().is_empty(), "nothing passes the one that was refused");

    assert!(
        hospital.command(&["delivery", "resend", "--failed", "--to", "strict"]).status.success()
    );
    assert!(hospital.command(&["destination", "resume", "strict"]).status.success());
    eventually("both", async || (strict.taken.lock().unwrap().len() == 2).then_some(())).await;
    // The acknowledgement of the last may be on its way.
    eventually("both to be on record", async || {
        let all = hospital.ask(&["delivery", "list"]);
        let states: Vec<_> = all.as_array()?.iter().map(|it| it["state"].clone()).collect();
        (states == ["delivered", "delivered"]).then_some(())
    })
    .await;
}
