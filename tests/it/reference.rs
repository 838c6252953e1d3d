//! Real images and messages, with independent readers.
//!
//! These tests need the reference material of `ISOCENTER_REFERENCE`. dcmtk is the modality and the
//! PACS; highdicom, hl7apy and numpy are the readers.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use system_tests::{Engine, Scratch, eventually, program, reference, reference_and_python, target};

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An engine with a folder as EHR and `storescp` of dcmtk as PACS.
struct Site {
    engine: Engine,
    storescp: Child,
    scratch: Scratch,
}

impl Site {
    fn open() -> Self {
        let scratch = Scratch::default();
        let inbox = scratch.path("pacs");
        let port = free_port();
        std::fs::create_dir_all(&inbox).unwrap();
        let mut pacs = Command::new("storescp");
        pacs.args(["-aet", "PACS", "-od"]).arg(&inbox).arg(port.to_string());
        let storescp = pacs.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let site = format!(
            "data: {}\nworkflows: {}\nplugins: {}\nidentity: {{ domains: single }}\n\
             destinations:\n  pacs: {{ dicom: {{ address: \"127.0.0.1:{port}\", ae_title: PACS }} }}\n  \
             ehr: {{ folder: {}, allow_unverified: true }}\n",
            scratch.path("data").display(),
            system_tests::shipped_workflows(&scratch).display(),
            target().display(),
            scratch.path("out").display(),
        );
        let config = scratch.write("isocenter.yaml", &site);
        let arguments = [
            "--config",
            config.to_str().unwrap(),
            "--trust-loopback",
            "--dicom",
            "127.0.0.1:0",
            "--mllp",
            "127.0.0.1:0",
        ];
        let engine = Engine::start(&arguments, &scratch.path("log"));
        Self { engine, storescp, scratch }
    }

    /// Sends every DICOM file below `folder` with `storescu`.
    fn send(&self, folder: &Path) {
        let port = self.engine.dicom.rsplit(':').next().unwrap();
        let mut modality = Command::new("storescu");
        modality.args(["-aec", "ISOCENTER", "-aet", "CT1", "-xs", "+sd", "+r"]);
        modality.args(["127.0.0.1", port]).arg(folder).env("TCP_NODELAY", "1");
        let output = modality.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a command of the engine with `--json` and returns its parsed output.
    fn ask(&self, arguments: &[&str]) -> Value {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .arg("--json")
            .arg("--config")
            .arg(self.scratch.path("isocenter.yaml"));
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
    }

    /// Waits until at least `count` runs exist and every run and delivery has ended.
    async fn ended_runs(&self, count: usize) -> Vec<Value> {
        eventually("the runs to end", async || {
            let runs = self.ask(&["runs", "--limit", "500"]).as_array()?.clone();
            let deliveries = self.ask(&["delivery", "list", "--limit", "500"]);
            let is_open = |it: &Value| it["state"] == "queued" || it["state"] == "sending";
            let have_ended = runs.iter().all(|it| it["status"] != "running")
                && !deliveries.as_array()?.iter().any(is_open);
            (have_ended && runs.len() >= count).then_some(runs)
        })
        .await
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.engine.kill();
        system_tests::kill_database(&self.scratch.path("data"));
        // The process may have ended already.
        _ = self.storescp.kill();
        _ = self.storescp.wait();
    }
}

/// Runs a Python program of this folder and returns its output.
fn read_with(python: &Path, script: &str, arguments: &[&Path]) -> String {
    let script = system_tests::root().join("tests/it").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Asserts that all outputs of the site pass the conformance checks.
fn check_outputs(reference: &Path, python: &Path, site: &Site) {
    for folder in ["pacs", "out"] {
        let folder = site.scratch.path(folder);
        let mut check = Command::new(python);
        check.arg(reference.join("harness/output_check.py")).arg(&folder);
        let output = check.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(" 0 failed"), "{text}");
    }
}

/// Sends an order of the reference material, with the patient and accession number of the images.
async fn send_order(site: &Site, reference: &Path, patient: &str, accession: &str, study: &str) {
    let path = reference.join("material/hl7/dcm4che/OMI^O23-ImagingOrder.hl7");
    let order = std::fs::read_to_string(path).unwrap().replace("\r\n", "\r").replace('\n', "\r");
    let order = order
        .replace("PID_1^^^ADT1", &format!("{patient}^^^ADT1"))
        .replace("|AccessionNumber|", &format!("|{accession}|"))
        .replace("1.2.392.200036.9125.0.198811291108.7", study);
    assert_eq!(simulators::send_order(&site.engine.mllp, &order).await.unwrap(), "AA");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_liver_with_its_order_gives_what_independent_readers_confirm() {
    let Some((reference, python)) = reference_and_python() else { return };
    let site = Site::open();
    let liver = reference.join("material/dicom/ct_liver_3slices");
    let study = "1.2.392.200103.20080913.113635.0.2009.6.22.21.43.10.22941.1";

    send_order(&site, &reference, "99000", "03086212", study).await;
    site.send(&liver);
    let runs = site.ended_runs(1).await;

    assert_eq!(runs[0]["status"], "completed", "{runs:?}");
    assert!(runs[0]["reason"].as_str().unwrap().contains("order found by"), "{runs:?}");
    let sent: Vec<PathBuf> = std::fs::read_dir(site.scratch.path("pacs"))
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    assert_eq!(sent.len(), 2);
    let id = runs[0]["id"].as_str().unwrap();
    let oru = site.scratch.path("out").join(id).join("oru-1.hl7");
    let volumes = read_with(&python, "bone_volume.py", &[&liver, &site.scratch.path("pacs"), &oru]);
    let volumes: Vec<f64> = volumes.split_whitespace().map(|it| it.parse().unwrap()).collect();
    let [numpy, seg, sr, message] = volumes.try_into().unwrap();
    for volume in [seg, sr, message] {
        assert!((volume - numpy).abs() <= 0.001 * numpy, "{volume} mL, but {numpy} with numpy");
    }
    check_outputs(&reference, &python, &site);
}

#[tokio::test(flavor = "multi_thread")]
async fn din_81_a_tilted_head_is_rejected_with_tilt_and_spacing_and_no_volume() {
    let Some(reference) = reference() else { return };
    let site = Site::open();

    site.send(&reference.join("material/dicom/ct_head_ge_28slices"));
    let runs = site.ended_runs(1).await;

    assert_eq!(runs[0]["status"], "failed");
    let run = site.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]);
    let reason = run["nodes"][0]["reason"].as_str().unwrap();
    for expected in
        ["geometry_inconsistent", "tilt: 18.5 degrees", "spacing between slices is unequal"]
    {
        assert!(reason.contains(expected), "{reason}");
    }
    assert!(!run.to_string().contains("mL"));
    assert!(!site.scratch.path("out").exists());
}

/// Every series of the reference material has a result, or a reason that `why` shows.
#[tokio::test(flavor = "multi_thread")]
async fn every_series_of_the_material_ends_with_a_result_or_a_reason() {
    let Some((reference, python)) = reference_and_python() else { return };
    let site = Site::open();
    let statuses = read_with(
        &python,
        "send_all.py",
        &[&reference.join("material/dicom"), Path::new(&site.engine.dicom)],
    );

    let answers: Vec<(&str, &str)> = statuses.lines().filter_map(|it| it.split_once(' ')).collect();
    assert!(answers.len() > 250, "{} instances were sent", answers.len());
    eventually("every study to be decided on", async || {
        let studies = site.ask(&["studies", "--limit", "500"]);
        let mut all = studies.as_array()?.iter();
        all.all(|it| {
            let why = site.ask(&["why", it["study"].as_str().unwrap_or_default()]);
            let studies = why["studies"].as_array().cloned().unwrap_or_default();
            studies.iter().any(is_explained)
        })
        .then_some(())
    })
    .await;
    for (status, uid) in answers.iter().filter(|(status, _)| *status != "0000") {
        let why = site.ask(&["why", uid]);
        let is_known = !why["refusals"].as_array().unwrap().is_empty()
            || !why["studies"].as_array().unwrap().is_empty();
        assert!(is_known || *status == "0117", "{uid} was answered {status} without a reason");
    }
    check_outputs(&reference, &python, &site);
}

/// Whether every run of a study ended with a result or a reason, or its workflow has a reason why
/// it did not start.
fn is_explained(study: &Value) -> bool {
    let runs = study["runs"].as_array().cloned().unwrap_or_default();
    let is_ended = |it: &Value| match it["run"]["status"].as_str() {
        Some("completed") => !it["outputs"].as_object().is_none_or(serde_json::Map::is_empty),
        Some("failed") => {
            let nodes = it["nodes"].as_array().cloned().unwrap_or_default();
            nodes.iter().any(|it| !it["reason"].as_str().unwrap_or_default().is_empty())
        }
        _ => false,
    };
    let reason = study["standings"]["ct-bone"]["reason"].as_str().unwrap_or_default();
    !runs.is_empty() && runs.iter().all(is_ended)
        || ["condition does not hold", "waits for images"].iter().any(|it| reason.contains(it))
        || study["study"]["instances"] == 0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_laboratory_message_of_the_material_gives_its_table() {
    let Some((reference, python)) = reference_and_python() else { return };
    let site = Site::open();
    let path = reference.join("material/hl7/fhir_converter/LRI_2.0-NG_CBC_Typ_Message.hl7");
    let text = std::fs::read_to_string(path).unwrap();
    let message = text.trim_start_matches('\u{feff}').replace("\r\n", "\r").replace('\n', "\r");
    // A message for training has no effect.
    let message = message.replace("|T|2.5.1|", "|P|2.5.1|");

    assert_eq!(simulators::send_order(&site.engine.mllp, &message).await.unwrap(), "CA");
    let runs = site.ended_runs(1).await;

    let run = site.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]);
    let rows = run["outputs"]["table"]["laboratory"].as_array().unwrap().clone();
    let obx = message.split('\r').filter(|it| it.starts_with("OBX|")).count();
    assert!(rows.len() >= 10 && rows.len() <= obx, "{} rows of {obx} observations", rows.len());
    // Where the laboratory has set a flag, the engine computes the same one.
    let flagged = rows.iter().filter(|it| !it["flag_received"].as_str().unwrap().is_empty());
    assert!(flagged.count() > 0);
    let wrong: Vec<&Value> = rows.iter().filter(|it| it["disagrees"] == true).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    check_outputs_of(&reference, &python, &site.scratch.path("out"));
}

fn check_outputs_of(reference: &Path, python: &Path, folder: &Path) {
    let mut check = Command::new(python);
    check.arg(reference.join("harness/output_check.py")).arg(folder);
    let text = String::from_utf8_lossy(&check.output().unwrap().stdout).into_owned();
    assert!(text.contains(" 0 failed"), "{text}");
}
