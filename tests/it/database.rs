//! A database server of the site instead of the private one, and functions of the schema.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{Engine, Hospital, Scratch, database_pid, program};

fn password(data: &Path, user: &str) -> String {
    let key = data.join(format!("keys/database-{user}.key"));
    std::fs::read_to_string(key).unwrap().trim().to_owned()
}

/// The private cluster of one hospital serves as the database server of another.
#[tokio::test(flavor = "multi_thread")]
async fn aud_04_the_engine_works_in_a_database_it_does_not_own() {
    let hospital = Hospital::open().await;
    let data = hospital.scratch.path("data");
    let socket = data.join("pg/run").display().to_string();
    let url = |user: &str| {
        let password = password(&data, user);
        format!("postgres://isocenter_{user}:{password}@localhost/other?host={socket}")
    };
    let mut psql = Command::new("psql");
    psql.args([
        "-h",
        &socket,
        "-U",
        "isocenter_admin",
        "-d",
        "postgres",
        "-qc",
        "create database other",
    ]);
    assert!(psql.env("PGPASSWORD", password(&data, "admin")).status().unwrap().success());
    let mut prepare = Command::new(program());
    prepare.args(["store", "prepare", "--as-owner", &url("admin")]);
    assert!(prepare.status().unwrap().success());

    let scratch = Scratch::default();
    let site = format!("data: {}\ndatabase: {}\n", scratch.path("data").display(), url("app"));
    let config = scratch.write("isocenter.yaml", &site);
    let arguments =
        ["--config", config.to_str().unwrap(), "--trust-loopback", "--mllp", "127.0.0.1:0"];
    let mut engine = Engine::start(&arguments, &scratch.path("log"));
    let message = "MSH|^~\\&|A|B|C|D|2026||ADT^A04|1|P|2.5.1\rPID|1||5^^^H^MR";
    assert_eq!(simulators::send_order(&engine.mllp, message).await.unwrap(), "AA");

    let mut doctor = Command::new(program());
    let output = doctor.args(["doctor", "--config"]).arg(config).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !text.contains("!!"), "{text}");
    assert!(engine.terminate().success());
    assert!(!scratch.path("data/pg").exists());
}

/// A command that comes while the database of an engine is down waits until the engine has started
/// it again, and does not stop it afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn acc_04_a_command_neither_starts_nor_stops_the_database_of_an_engine() {
    let hospital = Hospital::open().await;
    let data = hospital.scratch.path("data");
    let engine = Pid::from_raw(hospital.engine.id().cast_signed()).unwrap();
    let first = database_pid(&data).unwrap();
    // An engine that does not run just now cannot start it.
    kill_process(engine, Signal::STOP).unwrap();
    kill_process(first, Signal::KILL).unwrap();
    let config = hospital.scratch.path("isocenter.yaml");
    let mut command = Command::new(program());
    command.args(["destination", "list", "--json", "--config"]).arg(config);
    let mut running = command.stdout(Stdio::null()).spawn().unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    kill_process(engine, Signal::CONT).unwrap();
    assert!(running.wait().unwrap().success());

    let second = database_pid(&data).unwrap();
    assert_ne!(second, first);
    let status = std::fs::read_to_string(format!("/proc/{}/status", second.as_raw_nonzero()));
    let parent = format!("PPid:\t{}\n", engine.as_raw_nonzero());
    assert!(status.unwrap().contains(&parent), "the engine has not started it");
    let log = std::fs::read_to_string(data.join("pg/log")).unwrap();
    for line in ["already exists", "shutdown request"] {
        assert!(!log.contains(line), "{log}");
    }
}

/// Timers and facts are corrected after a jump of the clock, so that nothing is due too late. Times
/// that were written after the jump stay (decisions/0011).
#[tokio::test(flavor = "multi_thread")]
async fn acc_05_what_waits_moves_with_a_clock_that_jumps() {
    let hospital = Hospital::open().await;
    let statement = "do $$
        declare
            hour bigint := 3600000000;
            now timestamptz := clock_timestamp();
            past timestamptz := now - interval '1 hour';
            ahead timestamptz := now + interval '1 hour';
            soon interval := interval '1 minute';
        begin
            -- The clock was an hour slow and is set forward.
            assert shifted_time(past + soon, micros(past), hour, 'timer') = now + soon;
            assert shifted_time(past - soon, micros(past), hour, 'fact') = now - soon;
            assert shifted_time(now + soon, micros(past), hour, 'timer') = now + soon;
            -- The clock was an hour fast and is set back.
            assert shifted_time(ahead + soon, micros(ahead), -hour, 'timer') = now + soon;
            assert shifted_time(ahead - soon, micros(ahead), -hour, 'timer') <= clock_timestamp();
            assert shifted_time(ahead - soon, micros(ahead), -hour, 'deadline') = ahead - soon;
            assert shifted_time(ahead - soon, micros(ahead), -hour, 'fact') = now - soon;
            assert shifted_time(now - soon, micros(ahead), -hour, 'fact') = now - soon;
            assert shifted_time(null, micros(ahead), -hour, 'timer') is null;
        end $$";
    let (is_done, output) = hospital.sql("admin", statement);
    assert!(is_done, "{output}");
}

/// Turns of the fair queue (SEC-38): the runs of a sender follow each other. A sender that was idle
/// starts at the turn of the others and cannot use turns of its idle time.
#[tokio::test(flavor = "multi_thread")]
async fn sec_38_who_has_sent_nothing_for_long_has_no_turns_saved_up() {
    let hospital = Hospital::open().await;
    let statement = "do $$
        declare
            first uuid := gen_random_uuid();
        begin
            assert run_next_turn('busy', 1::smallint) = 0;
            insert into workflow_version (name, digest, definition) values ('w', 'd', '');
            insert into run (id, workflow, digest, priority, input_key, state, reason, source, turn)
            select case it when 1 then first else gen_random_uuid() end, 'w', 'd', 1, 'key ' || it, '{}', '',
                'busy', it
            from generate_series(1, 40) it;
            -- The runs of a sender follow each other; a new sender starts at the turn of the others.
            assert run_next_turn('busy', 1::smallint) = 41;
            assert run_next_turn('new', 1::smallint) = 40;
            insert into node (run, node, state, priority, turn, run_after)
                select first, 'n' || it, 'ready', 1, it, now() from generate_series(7, 9) it;
            assert run_next_turn('new', 1::smallint) = 7;
            update node set state = 'running', lease_until = now() + interval '1 minute' where turn = 8;
            assert run_next_turn('new', 1::smallint) = 8;
            -- Runs of another priority, and nodes that must wait, do not count.
            update node set run_after = now() + interval '1 hour', state = 'ready', lease_until = null;
            assert run_next_turn('new', 1::smallint) = 40;
            assert run_next_turn('busy', 0::smallint) = 41;
            raise exception 'none of it stays';
        end $$";
    let (_, output) = hospital.sql("admin", statement);
    assert!(output.contains("none of it stays"), "{output}");
}
