//! A database of the site instead of one of our own.

use std::path::Path;
use std::process::Command;

use system_tests::{Engine, Hospital, Scratch, program};

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
    assert_eq!(neighbours::send_order(&engine.mllp, message).await.unwrap(), "AA");

    let mut doctor = Command::new(program());
    let output = doctor.args(["doctor", "--config"]).arg(config).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !said.contains("!!"), "{said}");
    assert!(engine.terminate().success());
    assert!(!scratch.path("data/pg").exists());
}
