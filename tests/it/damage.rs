//! Damage of database and files is found, then repaired, set aside or reported as a task (ACC-04).

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use simulators::phantom::Phantom;
use system_tests::{Hospital, SiteOptions, files, study};

const WORKFLOW: &str = "
workflow: bone
on: { study: { when: 'study.instances == 3', complete: { quiet: 300ms } } }
nodes: { bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } } }
deliver:
  - { to: pacs, what: [seg], after: [bone] }
  - { to: ehr, what: [oru], after: [bone] }
";

/// Checks of the doctor command, and the statement that makes each check fail.
const PLANTED: [(&str, &str); 12] = [
    ("no node hangs", "update node set state = 'running', lease_until = now() - interval '1 hour'
        where run = (select id from run order by started_at limit 1)"),
    ("no node is leased for longer than a day", "update node set state = 'running',
        lease_until = now() + interval '10 days'
        where run = (select id from run order by started_at offset 1 limit 1)"),
    ("no node waits for a time more than a month away", "update node set state = 'ready',
        run_after = now() + interval '100 days'
        where run = (select id from run order by started_at offset 2 limit 1)"),
    ("no delivery is leased for longer than a day", "update delivery set state = 'sending',
        lease_until = now() + interval '10 days' where position = (select min(position) from delivery)"),
    ("no delivery waits for a time more than a month away", "update delivery set state = 'queued',
        run_after = now() + interval '100 days' where position = (select max(position) from delivery)"),
    ("no study waits for a time more than a month away", "update study
        set decide_at = now() + interval '100 days' where accession <> 'LEFT'"),
    ("every study was looked at, or will be", "update study set decide_at = null, standings = '{}'
        where accession = 'LEFT'"),
    ("every current instance has its event", "insert into instance (uid, sha256, series, study, sop_class,
            transfer_syntax, bytes, calling_ae, is_current)
        select uid || '.9', sha256, series, study, sop_class, transfer_syntax, bytes, calling_ae, true
        from instance where study = (select study from run order by started_at limit 1) limit 1"),
    ("every event of an instance has its row", "delete from instance where uid = (select i.uid from instance i
        join study s on s.uid = i.study where s.accession = 'LEFT' limit 1)"),
    ("every run has its beginning in the trail", "insert into run (id, workflow, digest, patient, study,
            priority, input_key, state, status, reason, ended_at)
        select '00000000-0000-4000-8000-000000000001', workflow, digest, patient, study, priority, 'planted',
            state, 'completed', reason, now() from run limit 1"),
    ("every delivery that arrived is in the trail", "insert into delivery (id, run, index, destination, what,
            state, ended_at)
        select gen_random_uuid(), '00000000-0000-4000-8000-000000000001', 7, destination, what, 'delivered',
            now() from delivery limit 1"),
    ("the engine cannot write the trail but through audit.append",
        "grant insert on audit.event to isocenter_app"),
];

/// Changes events after they were sealed, which [`CHAIN`] reports until [`UNDO_TAMPER`].
const TAMPER: &str = "alter table audit.event disable trigger event_stays;
    update audit.event set body = jsonb_set(body, '{detail,planted}', '1') where kind = 'run_started'";
const UNDO_TAMPER: &str = "alter table audit.event disable trigger event_stays;
    update audit.event set body = body #- '{detail,planted}' where kind = 'run_started'";
const CHAIN: &str = "the trail is what was sealed and signed";

/// Sets the time of a file back by two hours.
fn age(path: &Path) {
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_hours(2)).unwrap();
}

/// Damages files of archive and keys in every way. Returns the checks that must fail.
fn damage_files(hospital: &Hospital) -> Vec<&'static str> {
    let data = hospital.scratch.path("data");
    let archive = data.join("archive");
    let mut stored = files(&archive.join("instances"));
    stored.sort();
    fs::remove_file(&stored[0]).unwrap();
    let truncated = File::options().write(true).open(&stored[1]).unwrap();
    truncated.set_len(truncated.metadata().unwrap().len() - 10).unwrap();
    let mut bytes = fs::read(&stored[2]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&stored[2], bytes).unwrap();
    let orphan = archive.join("instances/ab").join(format!("ab{}.dcm", "0".repeat(62)));
    let leftover = archive.join("quarantine/half");
    for path in [&orphan, &leftover] {
        fs::write(path, "half").unwrap();
        age(path);
    }
    // Only an empty folder can be removed.
    let remove = |it: &u8| fs::remove_dir(archive.join(format!("instances/{it:02x}"))).is_ok();
    (0..=u8::MAX).find(remove).expect("a folder without a file");
    let key = data.join("keys/payload.key");
    fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();
    vec![
        "every instance has its file",
        "every file is as long as it was",
        "every file has the bytes it had",
        "every file belongs to an instance",
        "the quarantine holds only what is coming in",
        "the folders of the archive are there",
        "nobody else may read the keys",
    ]
}

fn no_patient_is_in_the_support_file(hospital: &Hospital, phantom: &Phantom) {
    let path = hospital.scratch.path("support.json");
    assert!(hospital.command(&["support", path.to_str().unwrap()]).status.success());
    let text = fs::read_to_string(path).unwrap();
    let study = phantom.study_uid();
    for secret in [&phantom.patient_id, &phantom.patient_name, &phantom.accession, &study] {
        assert!(!text.contains(secret.as_str()), "{secret} is in {text}");
    }
    // The file has no UID of any object either.
    assert!(!text.contains("2.25.") && text.contains("instance_received"), "{text}");
}

/// The names of the failed checks.
fn failed(checks: &Value) -> Vec<&str> {
    let all = checks.as_array().unwrap().iter();
    all.filter(|it| it["is_good"] == false).map(|it| it["name"].as_str().unwrap()).collect()
}

/// Kills the engine, which would repair some damage on its own, and damages database and files.
/// Returns the checks that must fail.
fn damage(hospital: &mut Hospital) -> Vec<&'static str> {
    hospital.engine.kill();
    let mut expected = damage_files(hospital);
    for (check, statement) in PLANTED {
        let (is_done, output) = hospital.sql("admin", statement);
        assert!(is_done, "{check}: {output}");
        expected.push(check);
    }
    let (is_done, output) = hospital.sql("admin", TAMPER);
    assert!(is_done, "{output}");
    expected.extend([
        "every ended run has its end in the trail",
        "the trail refuses changes",
        CHAIN,
    ]);
    // Leaves a lock file of a database that no longer runs.
    system_tests::kill_database(&hospital.scratch.path("data"));
    expected
}

#[tokio::test(flavor = "multi_thread")]
async fn acc_04_planted_damage_is_found_and_put_right_or_taken_out_of_use() {
    let workflows = [("bone", WORKFLOW)];
    let mut hospital =
        Hospital::with(SiteOptions { workflows: &workflows, ..SiteOptions::default() }).await;
    for seed in ["one", "two", "three"] {
        hospital.send(&study(seed)).await;
    }
    let left = Phantom { accession: "LEFT".to_owned(), slices: 4, ..study("left") };
    hospital.send(&left).await;
    hospital.ended_runs(3).await;
    let doctor = hospital.ask(&["doctor", "--read-all"]);
    assert_eq!(failed(&doctor), [""; 0], "{doctor}");

    // An export seals all events so far.
    let export = hospital.scratch.path("trail.jsonl");
    assert!(hospital.command(&["audit", "export", export.to_str().unwrap()]).status.success());
    no_patient_is_in_the_support_file(&hospital, &left);
    let mut expected = damage(&mut hospital);

    let found = hospital.ask(&["doctor", "--read-all"]);
    let mut found = failed(&found);
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);

    let after = hospital.ask(&["doctor", "--read-all", "--repair"]);
    assert_eq!(failed(&after), [CHAIN], "a sealed event cannot be repaired");
    let tasks = hospital.ask(&["task", "list"]);
    let is_damage = |it: &&Value| it["kind"] == "damage";
    assert!(tasks.as_array().unwrap().iter().filter(is_damage).count() >= 9, "{tasks}");
    assert_eq!(files(&hospital.scratch.path("data/archive/aside")).len(), 3);

    // The owner of the database can restore the original event.
    hospital.restart();
    let (is_done, output) = hospital.sql("admin", UNDO_TAMPER);
    assert!(is_done, "{output}");
    hospital.ask(&["doctor", "--read-all", "--repair"]);
    for seed in ["one", "two", "three"] {
        hospital.send(&study(seed)).await;
    }
    hospital.send(&left).await;
    let doctor = hospital.ask(&["doctor", "--read-all"]);
    // The damage has put deliveries of ended runs back into the queue. One of them may fail as
    // there is nothing to send any more, which is no damage.
    let remaining = failed(&doctor).into_iter().filter(|it| *it != "no delivery has failed");
    assert_eq!(remaining.collect::<Vec<_>>(), [""; 0], "{doctor}");
    let (is_done, output) = hospital.sql(
        "admin",
        "do $$ begin assert not exists (select from instance
        where removed_at is not null); end $$",
    );
    assert!(is_done, "an instance that was sent again is not in use: {output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aud_06_a_message_that_was_changed_in_the_database_is_found() {
    let hospital = Hospital::open().await;
    let message = "MSH|^~\\&|A|B|C|D|2026||ADT^A04|1|P|2.5.1\rPID|1||5^^^H^MR";
    assert_eq!(hospital.send_message(message).await, "AA");
    let check = "every message has the bytes that came";
    let has_failed = |command: &[&str]| failed(&hospital.ask(command)).contains(&check);
    assert!(!has_failed(&["doctor", "--read-all"]));
    let change = "update payload set sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1)
        where kind = 'hl7'";
    let (is_done, output) = hospital.sql("admin", change);
    assert!(is_done, "{output}");
    assert!(has_failed(&["doctor", "--read-all"]));
    // The message cannot be repaired, so a person gets a task.
    assert!(has_failed(&["doctor", "--read-all", "--repair"]));
    let tasks = hospital.ask(&["task", "list"]);
    let is_of_message = |it: &Value| it["kind"] == "damage" && !it["subject"]["message"].is_null();
    assert!(tasks.as_array().unwrap().iter().any(is_of_message), "{tasks}");
}
