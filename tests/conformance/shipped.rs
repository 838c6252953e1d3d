//! The workflows of the project, run together on real studies, messages and papers, and their
//! outputs checked by independent readers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use system_tests::api::{call, call_raw, token};
use system_tests::script::{Script, model_response};
use system_tests::{Hospital, Scratch, SiteOptions, eventually, reference_and_python};

use crate::{ALONE, passes};

/// Studies of the reference material, with the accession number that is written into each.
const STUDIES: [(&str, &str); 3] =
    [("ct_liver_3slices", ""), ("cr/CR-MONO1-10-chest", "SO1"), ("mammography", "")];

/// Digital Mammography X-Ray Image Storage, for presentation.
const MAMMOGRAM: &str = "1.2.840.10008.5.1.4.1.1.1.2";

/// An order for a second opinion, and the report that a radiologist has signed for the order.
const ORDER: &str = "MSH|^~\\&|RIS|HOSP|ISOCENTER|AI|20260115||ORM^O01|O1|P|2.5.1\r\
    PID|1||FUJI95714^^^^MR||X\rORC|NW|P-SO1|F-SO1\r\
    OBR|1|P-SO1|F-SO1|71046^Second opinion chest^C4||||||||||||||SO1";
const SIGNED: &str = "MSH|^~\\&|RIS|HOSP|ISOCENTER|AI|20260115||ORU^R01|R1|P|2.5.1\r\
    PID|1||FUJI95714^^^^MR||X\rOBR|1|P-SO1|F-SO1|71046^Second opinion chest^C4||||||||||||||SO1\r\
    OBX|1|TX|59776-5^Findings^LN||No pneumothorax.||||||F\r";

/// The answer of a model that reads a page without error, and that drafts a report which
/// contradicts the signed one.
fn answer(question: &Value, table: &str) -> Value {
    let content = question["messages"][0]["content"].as_array().unwrap();
    let text = content.last().unwrap()["text"].as_str().unwrap();
    if text.contains("page of a laboratory report") {
        return model_response(table, &[]);
    }
    model_response(
        "<think>a</think><answer>Findings: Left pneumothorax.\nImpression: Pneumothorax.</answer>",
        &[],
    )
}

/// The true content of a laboratory report as a table in Markdown.
fn markdown(truth: &Path) -> String {
    let truth: Value = serde_json::from_slice(&fs::read(truth).unwrap()).unwrap();
    let rows = truth["observations"].as_array().unwrap().iter().map(|it| {
        let cell = |name: &str| it[name].as_str().unwrap();
        format!("| {} | {} | {} | {} |\n", cell("name"), cell("value"), cell("ref"), cell("unit"))
    });
    "| entry_name | result | reference | unit |\n|---|---|---|---|\n".to_owned()
        + &rows.collect::<String>()
}

/// Copies studies into a folder, and converts a PDF to a study with dcmtk.
fn prepared(python: &Path, material: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let script = "import sys, os, glob, pydicom
root, to, path, accession = sys.argv[1:]
path = os.path.join(root, path)
for file in sorted(glob.glob(path + '/*')) if os.path.isdir(path) else [path]:
    data = pydicom.dcmread(file, force=True)
    if accession: data.AccessionNumber, data.PatientID = accession, 'FUJI95714'
    meta = data.file_meta if 'TransferSyntaxUID' in data.file_meta else pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = meta.get('TransferSyntaxUID', pydicom.uid.ImplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = data.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta = meta
    data.save_as(os.path.join(to, data.SOPInstanceUID), enforce_file_format=True)";
    for (path, accession) in STUDIES {
        let mut command = Command::new(python);
        command.args(["-c", script]).arg(material.join("dicom")).arg(to).args([path, accession]);
        assert!(command.status().unwrap().success());
    }
    let mut command = Command::new("pdf2dcm");
    command.arg(material.join("documents/lab_reports/lab00.pdf")).arg(to.join("lab.dcm"));
    let key = |it: &str| ["-k".to_owned(), it.to_owned()];
    let keys = ["0010,0020=10006579", "0008,1030=Lab report"].iter().flat_map(|it| key(it));
    assert!(command.args(keys).status().unwrap().success());
}

/// Signs every open review that a person with this token may sign.
fn sign_all(address: &str, token: &str) {
    let (_, open) = call(address, Some(token), ("GET", "/api/reviews"), None);
    for review in open.as_array().unwrap() {
        let run = review["run"].as_str().unwrap();
        let path = |what: &str| format!("/api/runs/{run}/{what}");
        let (_, result) = call(address, Some(token), ("GET", &path("result")), None);
        let body = json!({ "seen": result["digest"], "meaning": "approved", "token": token });
        let (status, answer) = call(address, Some(token), ("POST", &path("sign")), Some(&body));
        assert_eq!(status, 200, "{answer}");
    }
}

/// The names of the workflows of the project.
fn shipped() -> BTreeSet<String> {
    let files = fs::read_dir(system_tests::root().join("workflows")).unwrap();
    let files = files.map(|it| it.unwrap().path());
    let workflows = files.filter(|it| it.extension().is_some_and(|it| it == "yaml"));
    workflows.map(|it| it.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// Copies all objects and messages that PACS and EHR have received into one folder. Forwarded
/// images are left out, as their faults are those of their manufacturer.
fn gather(hospital: &Hospital, out: &Path) {
    let received = hospital.pacs.received();
    let is_forwarded = |it: &&simulators::ReceivedInstance| it.sop_class == MAMMOGRAM;
    assert_eq!(received.iter().filter(is_forwarded).count(), 1);
    for (index, object) in received.iter().filter(|it| !is_forwarded(it)).enumerate() {
        fs::copy(&object.path, out.join(format!("{index}.dcm"))).unwrap();
    }
    let messages = hospital.ehr.received();
    for (index, message) in messages.iter().enumerate() {
        fs::write(out.join(format!("{index}.hl7")), message).unwrap();
    }
    assert!(messages.len() >= 4, "{}", messages.len());
}

/// OUT-10..73: every workflow of the project has completed a run on real input, and the harness
/// finds no fault in what PACS and EHR received.
#[tokio::test(flavor = "multi_thread")]
async fn out_10_what_the_shipped_workflows_send_is_sound() {
    let Some((reference, python)) = reference_and_python() else { return };
    let _alone = ALONE.lock().await;
    let material = reference.join("material");
    let labs = material.join("documents/lab_reports");
    let table = markdown(&labs.join("lab00.truth.json"));
    let script = Script::open(move |it| answer(it, &table));
    let more = script.as_model();
    let hospital =
        Hospital::with(SiteOptions { destinations: &more, ..SiteOptions::default() }).await;
    let folder = Scratch::default();
    let sources = folder.path("sources");
    prepared(&python, &material, &sources);
    let radiologist = token(&hospital, "radiologist", "Wang^XiaoDong^^Dr");
    let laboratory = token(&hospital, "laboratory", "Reader^Ruth");

    assert_eq!(hospital.send_message(ORDER).await, "AA");
    assert_eq!(hospital.send_message(SIGNED).await, "AA");
    let oru = fs::read_to_string(material.join("hl7/fhir_converter/LAB-ORU-2.hl7")).unwrap();
    // A message for training has no effect.
    let oru = oru.replace("|ControlID|T|", "|ControlID|P|");
    let oru: Vec<&str> = oru.trim_start_matches('\u{feff}').lines().collect();
    assert_eq!(hospital.send_message(&oru.join("\r")).await, "AA");
    let pdf = fs::read(labs.join("lab00.pdf")).unwrap();
    let path = ("POST", "/api/documents?patient=10006579");
    assert_eq!(call_raw(&hospital.engine.http, Some(&laboratory), path, &pdf).0, 201);
    let send = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/send_all.py");
    let mut sender = Command::new(&python);
    sender.arg(send).arg(&sources).arg(&hospital.engine.dicom);
    let answers = String::from_utf8(sender.output().unwrap().stdout).unwrap();
    assert_eq!(answers.lines().filter(|it| it.starts_with("0000")).count(), 6, "{answers}");

    let shipped = shipped();
    eventually("all workflows to end", async || {
        sign_all(&hospital.engine.http, &radiologist);
        sign_all(&hospital.engine.http, &laboratory);
        let runs = hospital.ask(&["runs"]);
        let ended = runs.as_array().unwrap().iter().filter(|it| it["status"] == "completed");
        let ended: BTreeSet<String> =
            ended.filter_map(|it| it["workflow"].as_str()).map(str::to_owned).collect();
        (ended == shipped).then_some(())
    })
    .await;
    let runs = hospital.ended_runs(shipped.len()).await;
    assert!(runs.iter().all(|it| it["status"] == "completed"), "{runs:?}");

    let out = folder.path("out");
    fs::create_dir_all(&out).unwrap();
    gather(&hospital, &out);
    let mut harness = Command::new(&python);
    harness.arg(reference.join("harness/output_check.py")).arg(&out);
    passes(harness);
}
