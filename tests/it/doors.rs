//! Unauthorized, broken and malicious peers at the listeners of the engine.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use encoding::hl7::charset::Hl7Charset;
use hl7::MllpDestination;
use simulators::phantom::Phantom;
use system_tests::api::{call_raw, token};
use system_tests::{Hospital, eventually, remote};

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn din_13_a_wrong_called_ae_title_is_refused_and_on_record() {
    let hospital = Hospital::open().await;

    remote(&hospital.engine.dicom, "CT1").echo().await.unwrap();
    let mut misconfigured = remote(&hospital.engine.dicom, "CT1");
    misconfigured.called = "OTHER".parse().unwrap();
    let refusal = misconfigured.echo().await.unwrap_err();

    assert!(refusal.to_string().contains("called AE title not recognized"), "{refusal}");
    let events = hospital.ask(&["audit", "show"]);
    assert!(events.as_array().unwrap().iter().any(|it| it["kind"] == "association_refused"));
}

/// Pixel data with a declared length of a gigabyte, after a valid header.
#[tokio::test(flavor = "multi_thread")]
async fn sec_22_a_length_bomb_is_refused_with_c000_and_the_engine_goes_on() {
    let hospital = Hospital::open().await;
    let mut bomb = Phantom { slices: 1, ..Phantom::default() }.files().remove(0);
    bomb.extend([0xFC, 0xFF, 0xFC, 0xFF, b'O', b'B', 0, 0, 0, 0, 0, 0x40]);

    let refusal = hospital.modality().store(&[&bomb]).await.unwrap_err();

    assert!(refusal.to_string().contains("0xc000"), "{refusal}");
    hospital.modality().echo().await.unwrap();
    let events = hospital.ask(&["audit", "show"]);
    let refused = events.as_array().unwrap().iter().find(|it| it["kind"] == "instance_refused");
    assert!(refused.unwrap()["body"]["detail"]["reason"].as_str().unwrap().contains("longer than"));
}

/// An invalid SOP Instance UID is refused before the data set is parsed, with an event in the
/// trail.
#[tokio::test(flavor = "multi_thread")]
async fn din_21_an_instance_with_a_malformed_name_is_refused_with_0117_and_on_record() {
    let hospital = Hospital::open().await;
    let phantom = Phantom { slices: 1, ..Phantom::default() };
    let uid = phantom.instance_uid(0);
    let mut file = phantom.files().remove(0);
    let positions: Vec<usize> =
        (0..file.len() - uid.len()).filter(|at| file[*at..].starts_with(uid.as_bytes())).collect();
    assert_eq!(positions.len(), 2, "in the File Meta Information and in the data set");
    for position in positions {
        file[position + 1] = b' ';
    }

    let refusal = hospital.modality().store(&[&file]).await.unwrap_err();

    assert!(refusal.to_string().contains("0x0117"), "{refusal}");
    let refused = eventually("an entry", async || {
        let events = hospital.ask(&["audit", "show"]);
        events.as_array().unwrap().iter().find(|it| it["kind"] == "instance_refused").cloned()
    })
    .await;
    assert_eq!(refused["body"]["detail"]["status"], "0117");
    assert!(refused["body"]["detail"]["reason"].as_str().unwrap().contains("malformed"));
}

/// An upload is in memory until its response, so that at most 32 are accepted at once. A client
/// that stops in the middle holds its place only until it disconnects.
#[tokio::test(flavor = "multi_thread")]
async fn sec_38_the_places_for_uploads_are_bounded_and_come_back() {
    let hospital = Hospital::open().await;
    let token = token(&hospital, "laboratory", "Reader^Ruth");
    let incomplete_upload = || {
        let mut stream = connect(&hospital.engine.http);
        let head = format!(
            "POST /api/documents?patient=5 HTTP/1.1\r\nHost: isocenter\r\n\
             Authorization: Bearer {token}\r\nContent-Length: 1000\r\n\r\n%PDF"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let upload = || {
        let request = ("POST", "/api/documents?patient=5");
        call_raw(&hospital.engine.http, Some(&token), request, b"%PDF-1.4").0
    };
    let mut stopped = vec![incomplete_upload()];
    while upload() != 503 {
        assert!(stopped.len() < 100, "there is no limit");
        stopped.push(incomplete_upload());
    }
    assert!(stopped.len() >= 32, "only {} places", stopped.len());
    hospital.modality().echo().await.unwrap();

    drop(stopped);
    eventually("a place", async || (upload() == 201).then_some(())).await;
}

/// Masks are up to 512 MiB long: two such are never in memory together, whatever callers declare.
#[tokio::test(flavor = "multi_thread")]
async fn sec_38_masks_beyond_the_memory_for_bodies_are_refused_before_they_are_read() {
    let hospital = Hospital::open().await;
    let token = token(&hospital, "radiologist", "Reader^Ruth");
    let declared = |bytes: u64| {
        let mut stream = connect(&hospital.engine.http);
        let head = format!(
            "PUT /api/masks HTTP/1.1\r\nHost: isocenter\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {bytes}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let upload = || {
        let request = ("PUT", "/api/masks");
        call_raw(&hospital.engine.http, Some(&token), request, &vec![1; 1 << 20]).0
    };
    let mut too_long = declared((512 << 20) + 1);
    let mut answer = [0; 12];
    too_long.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");

    // One that comes while another upload has memory is refused itself, and begins anew.
    let longest = eventually("a refusal", async || {
        let longest = declared(512 << 20);
        tokio::time::sleep(Duration::from_millis(200)).await;
        (upload() == 503).then_some(longest)
    })
    .await;
    drop(longest);
    eventually("the memory", async || (upload() == 200).then_some(())).await;
}

/// A data set that is not an image is in memory until it is complete: 8 MiB for one association.
#[tokio::test(flavor = "multi_thread")]
async fn sec_21_a_request_beyond_the_budget_of_an_association_is_refused() {
    let hospital = Hospital::open().await;
    let reference = contracts::SopReference {
        sop_class: "1.2.840.10008.5.1.4.1.1.2".to_owned(),
        sop_instance: "1.2.826.0.1.3680043.10.1.1".to_owned(),
    };
    let wait = Duration::from_millis(100);
    let commit = async |count: usize| {
        let references = vec![reference.clone(); count];
        hospital.modality().commit("2.25.9", &references, wait).await
    };

    let refusal = commit(150_000).await.unwrap_err();

    assert!(refusal.to_string().contains("0x0110"), "{refusal}");
    assert!(commit(10).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_21_a_pdu_of_four_gigabytes_is_aborted() {
    let hospital = Hospital::open().await;
    let mut stream = connect(&hospital.engine.dicom);

    stream.write_all(&[0x01, 0, 0xFF, 0xFF, 0xFF, 0xFF]).unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).unwrap();

    // A-ABORT by the service provider, invalid parameter (DIN-14).
    assert_eq!(answer, [7, 0, 0, 0, 0, 4, 0, 0, 2, 6]);
    hospital.modality().echo().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_38_silent_connections_do_not_keep_others_waiting() {
    let hospital = Hospital::open().await;
    // More connections than one address may have before an A-ASSOCIATE-RQ.
    let silent: Vec<TcpStream> = (0..200).map(|_| connect(&hospital.engine.dicom)).collect();
    let slow: Vec<TcpStream> = (0..30)
        .map(|_| {
            let mut stream = connect(&hospital.engine.mllp);
            stream.write_all(b"\x0bMSH|").unwrap();
            stream
        })
        .collect();

    hospital.modality().echo().await.unwrap();
    let message = "MSH|^~\\&|A|B|C|D|2026||ADT^A04|1|P|2.5.1\rPID|1||5^^^H^MR";
    assert_eq!(hospital.send_message(message).await, "AA");

    drop((silent, slow));
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_13_a_repeated_message_gets_the_stored_answer() {
    let hospital = Hospital::open().await;
    let peer = MllpDestination::new(hospital.engine.mllp.clone(), Hl7Charset::Utf8);
    let message = "MSH|^~\\&|A|B|C|D|2026||ADT^A04|DUP|P|2.5.1\rPID|1||5^^^H^MR";

    let first = peer.exchange(message).await.unwrap();
    let second = peer.exchange(message).await.unwrap();

    assert_eq!(first, second);
    assert_eq!(hospital.ask(&["messages"]).as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_10_what_cannot_be_applied_is_answered_and_kept_with_its_reason() {
    let hospital = Hospital::open().await;
    let message = |kind: &str, id: &str, rest: &str| {
        format!("MSH|^~\\&|A|B|C|D|2026||{kind}|{id}|P|2.5.1\r{rest}")
    };

    assert_eq!(hospital.send_message(&message("ZZZ^Z99", "1", "PID|1||5")).await, "AR");
    assert_eq!(hospital.send_message(&message("ADT^A04", "2", "PID|1")).await, "AE");
    let across = "PID|1||5^^^H^MR\rMRG|6^^^OTHER^MR";
    assert_eq!(hospital.send_message(&message("ADT^A40", "3", across)).await, "AE");
    assert_eq!(hospital.send_message("hello").await, "AR");
    let unknown = "MSH|^~\\&|A|B|C|D|2026||ADT^A04|4|P|2.5.1||||||KLINGON\rPID|1||5^^^H^MR";
    assert_eq!(hospital.send_message(unknown).await, "AE");

    let why = hospital.ask(&["why", "4"]);
    let problem = why["messages"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("MSH-18") && !problem.contains("KLINGON"), "{problem}");
    let why = hospital.ask(&["why", "3"]);
    let problem = why["messages"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("different types or authorities"), "{problem}");
}

/// Sends bytes and reads to the end of the next answer.
fn answer_to(stream: &mut TcpStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\x1c\r") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_01_a_frame_is_one_message_or_none() {
    let hospital = Hospital::open().await;
    let message =
        |id: &str| format!("MSH|^~\\&|A|B|C|D|2026||ADT^A04|{id}|P|2.5.1\rPID|1||5^^^H^MR\r");
    let mut stream = connect(&hospital.engine.mllp);

    let two = format!("\x0b{}{}\x1c\r", message("F1"), message("F2"));
    let answer = answer_to(&mut stream, two.as_bytes());
    assert!(answer.contains("MSA|AR|F1\rERR||MSH^2|100^"), "{answer}");
    let again = format!("\x0bMSH|^~\\&|A|B|C|D|2026||ADT\x0b{}\x1c\r", message("F3"));
    let answer = answer_to(&mut stream, again.as_bytes());
    assert!(answer.contains("MSA|AA|F3\r"), "{answer}");
    let unframed = format!("{}\x1c\r\x0b{}\x1c\r", message("F4"), message("F5"));
    let answer = answer_to(&mut stream, unframed.as_bytes());
    assert!(answer.contains("MSA|AA|F5\r"), "{answer}");

    let messages = hospital.ask(&["messages"]).as_array().unwrap().len();
    assert_eq!(messages, 3, "the refused one is kept, what never ended is not");
    let events = hospital.ask(&["audit", "show"]);
    let reasons: Vec<&str> = events
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["kind"] == "message_unreadable")
        .map(|it| it["body"]["detail"]["reason"].as_str().unwrap())
        .collect();
    assert_eq!(reasons, ["another message began inside of it"]);
    let log = hospital.log();
    assert!(log.contains("a message is broken off"), "{log}");
    assert_eq!(log.matches("bytes outside of any MLLP frame").count(), 1, "{log}");
    let metrics = get(&hospital.engine.http, "/metrics");
    assert!(metrics.contains("hl7_unframed_connections_total 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_37_no_patient_is_named_in_logs_metrics_or_the_trail() {
    let hospital = Hospital::open().await;
    let canary = "CANARYNAME";
    let phantom = Phantom {
        slices: 4,
        patient_id: "CANARYID".to_owned(),
        patient_name: format!("{canary}^PATIENT"),
        ..Phantom::default()
    };

    hospital.send_message(&simulators::order_message(&phantom, "O1")).await;
    hospital
        .send_message("MSH|^~\\&|A|B|C|D|2026||ADT^A08|9|P|2.5.1\rPID|1||CANARYID||CANARYNAME^X")
        .await;
    let files = phantom.files();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    hospital.modality().store(&files).await.unwrap();
    hospital.ended_runs(1).await;
    // Errors about malformed data could repeat the name.
    let mut broken = phantom.files().remove(0);
    broken.truncate(2000);
    assert!(hospital.modality().store(&[&broken]).await.is_err());
    assert_eq!(hospital.send_message("MSH|^~\\&|A\rCANARYNAME").await, "AR");
    // Where other bytes separate the segments, the place of MSH-18 is in PID.
    let shifted = "MSH|^~\\&|A|B|C|D|2026||ADT^A08|9|P|2.5.1\u{1e}PID|1||CANARYID|||CANARYNAME^X";
    assert_eq!(hospital.send_message(shifted).await, "AR");

    assert!(hospital.ehr.received()[0].contains(canary));
    let metrics = get(&hospital.engine.http, "/metrics");
    assert!(metrics.contains("dimse_instances_total"), "{metrics}");
    let events = hospital.ask(&["audit", "show", "--limit", "1000"]).to_string();
    for (what, text) in [("log", hospital.log()), ("metrics", metrics), ("trail", events)] {
        assert!(!text.contains("CANARY"), "the {what} names a patient");
        assert!(!text.is_empty());
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn acc_05_without_its_database_the_engine_refuses_and_recovers_alone() {
    let hospital = Hospital::open().await;
    assert!(get(&hospital.engine.http, "/healthz").starts_with("HTTP/1.1 200"));
    let data = hospital.scratch.path("data");
    let files = Phantom { slices: 30, seed: "down".to_owned(), ..Phantom::default() }.files();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();

    assert!(system_tests::kill_database(&data));
    // Instances that are refused now are accepted later, and no accepted instance is lost.
    eventually("the engine to take the study", async || {
        hospital.modality().store(&files).await.ok()
    })
    .await;

    let studies = hospital.ask(&["studies"]);
    assert_eq!(studies[0]["instances"], 30);
    eventually("good health", async || {
        get(&hospital.engine.http, "/healthz").starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_a_run_loses_nothing() {
    let mut hospital = Hospital::open().await;
    let files = Phantom { slices: 8, ..Phantom::default() }.files();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();

    hospital.modality().store(&files).await.unwrap();
    assert!(hospital.engine.terminate().success());
    hospital.restart();
    let runs = hospital.ended_runs(1).await;

    assert_eq!(runs[0]["status"], "completed");
    assert_eq!(hospital.pacs.received().len(), 2);
}
