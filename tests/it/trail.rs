//! The trail: export, verification, and detection of tampering (AUD-01..06, ACC-26).

use std::process::Command;

use simulators::phantom::Phantom;
use system_tests::{Hospital, program};

/// Runs `isocenter audit verify`. Returns whether the export is intact, and the output.
fn verify(file: &std::path::Path, key: &std::path::Path) -> (bool, String) {
    let mut command = Command::new(program());
    command.args(["audit", "verify"]).arg(file).arg("--key").arg(key);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn aud_03_an_export_is_verified_without_the_engine_and_tampering_is_found() {
    let mut hospital = Hospital::open().await;
    let files = Phantom { slices: 6, ..Phantom::default() }.files();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    hospital.modality().store(&files).await.unwrap();
    hospital.ended_runs(1).await;
    let export = hospital.scratch.path("trail.jsonl");
    let key = hospital.scratch.path("trail.pub");
    assert!(hospital.command(&["audit", "export", export.to_str().unwrap()]).status.success());
    std::fs::copy(hospital.scratch.path("data/keys/trail.pub"), &key).unwrap();

    // The verification needs neither engine nor database nor data folder.
    hospital.engine.kill();
    system_tests::kill_database(&hospital.scratch.path("data"));
    std::fs::rename(hospital.scratch.path("data"), hospital.scratch.path("away")).unwrap();
    let (is_intact, text) = verify(&export, &key);
    assert!(is_intact && text.contains("intact: "), "{text}");

    let whole = std::fs::read_to_string(&export).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let event = lines.iter().position(|it| it.contains("instance_received")).unwrap();
    let seq: serde_json::Value = serde_json::from_str(lines[event]).unwrap();
    let mut swapped = lines.clone();
    swapped.swap(event, event + 1);
    let mut without = lines.clone();
    without.remove(event);
    let changed = [
        ("a flipped byte", whole.replacen("instance_received", "instance_receivee", 1)),
        ("a deleted row", without.join("\n") + "\n"),
        ("swapped rows", swapped.join("\n") + "\n"),
        ("a cut tail", lines[..lines.len() - 1].join("\n") + "\n"),
    ];
    for (what, text) in changed {
        let file = hospital.scratch.write("changed.jsonl", &text);
        let (is_intact, output) = verify(&file, &key);
        assert!(!is_intact && output.contains("NOT INTACT"), "{what}: {output}");
        if what != "a cut tail" {
            assert!(output.contains(&format!("event {}", seq["seq"])), "{what}: {output}");
        }
    }
    std::fs::rename(hospital.scratch.path("away"), hospital.scratch.path("data")).unwrap();
}

/// Transaction ids of a new database begin below 1000. They get another digit during this test, and
/// the order of the seals must stay numeric.
#[tokio::test(flavor = "multi_thread")]
async fn aud_02_seals_keep_their_order_over_many_transactions() {
    let hospital = Hospital::open().await;
    let peer = hl7::MllpDestination::new(
        hospital.engine.mllp.clone(),
        encoding::hl7::charset::Hl7Charset::Utf8,
    );
    for number in 0..600 {
        let message =
            format!("MSH|^~\\&|A|B|C|D|2026||ADT^A04|N{number}|P|2.5.1\rPID|1||P{number}^^^H^MR");
        peer.exchange(&message).await.unwrap();
    }

    // An export includes all events so far, also those that are not yet sealed.
    let export = hospital.scratch.path("trail.jsonl");
    assert!(hospital.command(&["audit", "export", export.to_str().unwrap()]).status.success());

    let (is_intact, text) = verify(&export, &hospital.scratch.path("data/keys/trail.pub"));
    assert!(is_intact, "{text}");
    let events = std::fs::read_to_string(&export).unwrap();
    let count = |kind: &str| events.matches(&format!("\"kind\":\"{kind}\"")).count();
    assert_eq!((count("message_received"), count("patient_added")), (600, 600));
    assert!(!hospital.log().contains("sealing failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn aud_04_the_engine_itself_cannot_change_the_trail() {
    let hospital = Hospital::open().await;
    hospital.send_message("MSH|^~\\&|A|B|C|D|2026||ADT^A04|1|P|2.5.1\rPID|1||5^^^H^MR").await;
    let sql = |user: &str, statement: &str| hospital.sql(user, statement);

    assert!(sql("app", "select count(*) from audit.event").0);
    for statement in [
        "update audit.event set body = '{}'",
        "delete from audit.event",
        "truncate audit.event",
        "insert into audit.event (id, body) values (gen_random_uuid(), '{\"kind\": \"x\"}')",
        "drop table audit.seal",
    ] {
        let (is_done, output) = sql("app", statement);
        assert!(
            !is_done && (output.contains("permission denied") || output.contains("must be owner")),
            "{statement}: {output}"
        );
    }
    // The owner of the database cannot change events by accident, only by disabling triggers.
    let (is_done, output) = sql("admin", "delete from audit.event");
    assert!(!is_done && output.contains("append-only"), "{output}");
    let doctor = hospital.ask(&["doctor"]);
    let is_good = |name: &str| {
        let check = doctor.as_array().unwrap().iter().find(|it| it["name"] == name).unwrap();
        check["is_good"] == true
    };
    assert!(is_good("the trail refuses changes"));
    assert!(is_good("the engine cannot write the trail but through audit.append"));
}

/// The newest batches can be deleted from the database without a break of the chain. An earlier
/// export of these batches reveals the deletion.
#[tokio::test(flavor = "multi_thread")]
async fn aud_03_batches_missing_at_the_end_of_the_database_are_found() {
    let hospital = Hospital::open().await;
    let export = hospital.scratch.path("trail.jsonl");
    let export = || hospital.command(&["audit", "export", export.to_str().unwrap()]);
    for number in 0..3 {
        let message =
            format!("MSH|^~\\&|A|B|C|D|2026||ADT^A04|{number}|P|2.5.1\rPID|1||{number}^^^H^MR");
        assert_eq!(hospital.send_message(&message).await, "AA");
        // An export seals all events, so that each message is in a batch of its own.
        assert!(export().status.success());
    }

    remove_batches(&hospital, 2);

    let output = export();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("missing from the trail"), "{error}");
}

/// Removes the newest batches with their events, as somebody who owns the database can.
fn remove_batches(hospital: &Hospital, batches: u32) {
    let statement = format!(
        "begin; set local session_replication_role = replica;
         create temporary table gone on commit drop as select min(first_seq) as seq from
            (select first_seq from audit.batch order by number desc limit {batches}) newest;
         delete from audit.event where id in
            (select event from audit.seal where seq >= (select seq from gone));
         delete from audit.seal where seq >= (select seq from gone);
         delete from audit.batch where first_seq >= (select seq from gone);
         commit",
    );
    let (is_done, output) = hospital.sql("admin", &statement);
    assert!(is_done, "{output}");
}

/// The newest batch alone can be removed, too. The engine does not sign other events under its
/// number, `doctor` names the loss, and a named person accepts it on record.
#[tokio::test(flavor = "multi_thread")]
async fn aud_03_a_removed_newest_batch_is_a_finding_until_a_person_accepts_the_loss() {
    let hospital = Hospital::open().await;
    let file = hospital.scratch.path("trail.jsonl");
    let export = || hospital.command(&["audit", "export", file.to_str().unwrap()]);
    let person = ["--role", "physician", "--name", "Doe^Jane", "--organization", "City Hospital"];
    let token = hospital.command(&[["token", "create"].as_slice(), &person].concat());
    let token = hospital.scratch.write("token", &String::from_utf8(token.stdout).unwrap());
    assert!(export().status.success());
    let message = "MSH|^~\\&|A|B|C|D|2026||ADT^A04|1|P|2.5.1\rPID|1||1^^^H^MR";
    assert_eq!(hospital.send_message(message).await, "AA");
    assert!(export().status.success());

    remove_batches(&hospital, 1);

    assert_eq!(hospital.send_message(&message.replace("|1|P", "|2|P")).await, "AA");
    assert!(!export().status.success());
    let finding = |doctor: &serde_json::Value| {
        let name = "the trail is as long as was signed and counted outside of it";
        doctor.as_array().unwrap().iter().find(|it| it["name"] == name).unwrap()["is_good"].clone()
    };
    assert_eq!(finding(&hospital.ask(&["doctor"])), false);
    let accept = |token: &str| {
        hospital.command(&["trail", "accept-loss", "--reason", "a test", "--token", token])
    };
    let unknown = hospital.scratch.write("unknown", "iso_unknown");
    assert!(!accept(unknown.to_str().unwrap()).status.success());
    assert!(accept(token.to_str().unwrap()).status.success());

    assert!(export().status.success());
    let (is_intact, text) = verify(&file, &hospital.scratch.path("data/keys/trail.pub"));
    assert!(is_intact && text.contains("trail_loss_accepted"), "{text}");
    assert_eq!(finding(&hospital.ask(&["doctor"])), true);
}
