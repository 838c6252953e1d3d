//! Independent conformance harnesses, run on the reference material of `ISOCENTER_REFERENCE`.
//!
//! These tests are a binary of their own and run one at a time: some checks of a harness measure
//! response times while another peer misbehaves, which needs a machine without other tests.
#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by a panic, and prints its scores for the reader"
)]

mod outputs;
mod peers;
mod shipped;

use std::net::TcpListener;
use std::process::Command;

use system_tests::{Hospital, reference_and_python};
use tokio::sync::Mutex;

/// Held by the test that runs, so that the others wait.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Runs a harness. Panics with its failed checks, if there are any.
fn passes(mut harness: Command) {
    let output = harness.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let faults: Vec<&str> = text.lines().filter(|it| it.starts_with("FAIL")).collect();
    let last = text.lines().last().unwrap_or_default();
    assert!(last.ends_with(" 0 failed") && !last.starts_with("0 "), "{faults:?} {last}");
}

/// DIN-01..34 over real sockets, with all images of the reference material.
#[tokio::test(flavor = "multi_thread")]
async fn din_01_the_dicom_harness_finds_no_fault() {
    let Some((reference, python)) = reference_and_python() else { return };
    let _alone = ALONE.lock().await;
    let hospital = Hospital::open().await;
    let (host, port) = hospital.engine.dicom.split_once(':').unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();

    let mut harness = Command::new(python);
    harness.arg(reference.join("harness/dicom_scp_check.py")).args([host, port, "ISOCENTER"]);
    harness.arg(reference.join("material/dicom")).arg("--strict-ae");
    harness.args(["--commit", &free.to_string()]);

    passes(harness);
}

/// HL7-01..26 over real sockets, with all messages of the reference material.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_01_the_mllp_harness_finds_no_fault() {
    let Some((reference, python)) = reference_and_python() else { return };
    let _alone = ALONE.lock().await;
    let hospital = Hospital::open().await;
    let (host, port) = hospital.engine.mllp.split_once(':').unwrap();

    let mut harness = Command::new(python);
    harness.arg(reference.join("harness/mllp_check.py")).args([host, port]);
    harness.arg(reference.join("material/hl7"));

    passes(harness);
}
