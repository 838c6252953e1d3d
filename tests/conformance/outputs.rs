//! Every kind of output on real studies, checked by independent readers (OUT-10..73).

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use imaging::{FlatMask, Picture};
use serde_json::{Value, json};
use system_tests::api::{call, token};
use system_tests::{Hospital, SiteOptions, eventually, reference_and_python, study};

use crate::{ALONE, passes};
use system_tests::script::{Script, model_response};

const WORKFLOW: &str = "workflow: everything
on: { study: { complete: { quiet: 2s } } }
nodes:
  outlined: { plugin: segmentation, with: { method: network, targets: [lung, lesion], radiographs: shown } }
  draft: { plugin: cot-reporting, after: [outlined], with: { task: report, modalities: [CT, MR, CR, US] } }
deliver:
  - { to: files, what: [seg, sr, narrative, pr, sc, pdf, oru, mdm, fhir, json], reasoning: true }
  - { to: labels, what: [seg] }
  - { to: shares, what: [seg] }
";

/// The studies that are sent: with and without a frame of reference, axial and oblique.
const STUDIES: [&str; 4] =
    ["ct_liver_3slices", "cr/CR-MONO1-10-chest", "wg04/US1_RLE.dcm", "mr_series_16slices"];

/// The answer of a model that segments bright pixels, in the left half of an image for the lung and
/// in the right half for the lesion, and that drafts reports with two boxes.
fn answer(question: &Value) -> Value {
    let content = &question["messages"][0]["content"];
    let text = content.as_array().unwrap().last().unwrap()["text"].as_str().unwrap();
    if !text.contains("segment") {
        return model_response(
            "<think>'right_lung' with bbox [2, 3, 20, 21], then {\"Part\":\"heart\",\"bbox\":\
             \"[10, 4, 25, 24]\"}</think><answer>Findings: Lungs are clear.\n\
             Impression: Normal.</answer>",
            &[],
        );
    }
    let url = content[0]["image_url"]["url"].as_str().unwrap();
    let png = BASE64_STANDARD.decode(url.split_once(";base64,").unwrap().1).unwrap();
    let picture = Picture::decode(&png).unwrap();
    let columns = picture.width as usize;
    let is_left = text.contains("lung");
    let is_in_half = |index: usize| (index % columns < columns / 2) == is_left;
    let pixels = picture.rgb.chunks(3).enumerate();
    let pixels = pixels.map(|(index, rgb)| rgb[0] >= 90 && is_in_half(index)).collect();
    let mask = FlatMask { height: picture.height, width: picture.width, pixels };
    let mask = json!({"size": [picture.height, picture.width], "counts": mask.to_text()});
    model_response("It is [SEG].", &[mask])
}

/// Sends the files of a folder unchanged. Returns a line with the status of each.
fn send(python: &Path, folder: &Path, address: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/send_all.py");
    let output = Command::new(python).arg(script).arg(folder).arg(address).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Copies studies of the reference material and adds File Meta Information where a file has none.
/// Returns the path of each SOP Instance UID.
fn prepared(python: &Path, material: &Path, to: &Path) -> BTreeMap<String, PathBuf> {
    let script = "import sys, os, glob, pydicom
root, to, names = sys.argv[1], sys.argv[2], sys.argv[3:]
for name in names:
    path = os.path.join(root, name)
    for file in sorted(glob.glob(path + '/*')) if os.path.isdir(path) else [path]:
        data = pydicom.dcmread(file, force=True)
        meta = data.file_meta if 'TransferSyntaxUID' in data.file_meta else pydicom.dataset.FileMetaDataset()
        syntax = meta.get('TransferSyntaxUID', pydicom.uid.ImplicitVRLittleEndian)
        meta.TransferSyntaxUID = syntax
        meta.MediaStorageSOPClassUID = data.SOPClassUID
        meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.file_meta = meta
        kept = os.path.join(to, data.SOPInstanceUID)
        data.save_as(kept, enforce_file_format=True)
        print(data.SOPInstanceUID, kept)";
    fs::create_dir_all(to).unwrap();
    let mut command = Command::new(python);
    command.args(["-c", script]).arg(material).arg(to).args(STUDIES);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let pairs = text.lines().filter_map(|it| it.split_once(' '));
    pairs.map(|(uid, path)| (uid.to_owned(), PathBuf::from(path))).collect()
}

/// Asserts that an independent reader finds the masks of a run at their true positions.
fn check_masks(python: &Path, seg: &Path, outlined: &Value, files: &Value, artifacts: &Path) {
    let mask = |it: &Value| {
        let digest = it["mask"]["sha256"].as_str().unwrap();
        find(artifacts, digest).unwrap().display().to_string()
    };
    let segments = outlined["segments"].as_array().unwrap();
    let geometry = &outlined["geometry"];
    let expected = json!({
        "instances": geometry["instances"], "rows": geometry["rows"],
        "columns": geometry["columns"], "files": files,
        "masks": segments.iter().map(mask).collect::<Vec<_>>(),
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/overlay.py");
    let mut reader = Command::new(python);
    reader.arg(script).arg(seg);
    let reader = reader.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut reader = reader.spawn().unwrap();
    reader.stdin.take().unwrap().write_all(expected.to_string().as_bytes()).unwrap();
    let output = reader.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with("equal"), "{}: {text}{errors}", seg.display());
}

/// A file whose name begins with `name`, anywhere below a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    for path in entries.map(|it| it.unwrap().path()) {
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|it| it.to_string_lossy().starts_with(name)) {
            return Some(path);
        }
    }
    None
}

/// OUT-10..73: the harness finds no fault in any kind of output, and independent readers find masks
/// at their true positions.
#[tokio::test(flavor = "multi_thread")]
async fn out_10_every_kind_of_output_is_sound_and_masks_lie_where_they_were_drawn() {
    let Some((reference, python)) = reference_and_python() else { return };
    let _alone = ALONE.lock().await;
    let script = Script::open(answer);
    let any = "127.0.0.1:0".parse().unwrap();
    let folder = system_tests::Scratch::default();
    let other_folder = folder.path("pacs");
    let other_pacs =
        simulators::Pacs::open(&other_folder, "OTHERS".parse().unwrap(), any).await.unwrap();
    let out = folder.path("out");
    let pacs = |form: &str| {
        format!(
            "{{ dicom: {{ address: \"{}\", ae_title: OTHERS, segmentation: {form} }} }}",
            other_pacs.address()
        )
    };
    let more = format!(
        "  files: {{ folder: {}, allow_unverified: true }}\n  labels: {}\n  shares: {}\n{}",
        out.display(),
        pacs("labelmap"),
        pacs("fractional"),
        script.as_model(),
    );
    let workflows = [("everything", WORKFLOW)];
    let options =
        SiteOptions { workflows: &workflows, destinations: &more, ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;
    let sources = folder.path("sources");
    let files = prepared(&python, &reference.join("material/dicom"), &sources);
    let answers = send(&python, &sources, &hospital.engine.dicom);
    assert_eq!(answers.lines().filter(|it| it.starts_with("0000")).count(), 21, "{answers}");

    let runs = hospital.ended_runs(STUDIES.len()).await;

    let mut harness = Command::new(&python);
    harness.arg(reference.join("harness/output_check.py")).arg(&out);
    passes(harness);
    let files: BTreeMap<_, _> =
        files.iter().map(|(uid, path)| (uid.clone(), path.display().to_string())).collect();
    let artifacts = hospital.scratch.path("data/archive");
    let mut compared = 0;
    for run in &runs {
        let id = run["id"].as_str().unwrap();
        assert_eq!(run["status"], "completed", "{run}");
        let shown = hospital.ask(&["run", "show", id]);
        let outlined = shown["outputs"]["outlined"]["segmentations"].as_array().unwrap();
        for (index, segmentation) in outlined.iter().enumerate() {
            let seg = out.join(id).join(format!("seg-{}.dcm", index + 1));
            check_masks(&python, &seg, segmentation, &json!(files), &artifacts);
            compared += 1;
        }
        assert!(out.join(id).join("pr-1.dcm").exists() && out.join(id).join("sc-1.dcm").exists());
        check_reasoning(&python, &out.join(id).join("reasoning-1.dcm"));
    }
    assert_eq!(compared, STUDIES.len());
    check_other_forms(&python, &other_pacs, &hospital, &runs, &json!(files), &artifacts).await;
}

/// Asserts that an independent reader finds the steps of the model in order, with their boxes (OUT-41).
fn check_reasoning(python: &Path, file: &Path) {
    let script = "import sys, highdicom
document = highdicom.sr.srread(sys.argv[1])
def walk(item, depth):
    for child in item.get('ContentSequence', []):
        if child.ValueType == 'TEXT':
            print(depth, child.TextValue)
        if child.ValueType == 'SCOORD':
            image = child.ContentSequence[0].ReferencedSOPSequence[0]
            evidence = document.CurrentRequestedProcedureEvidenceSequence[0]
            known = [it.ReferencedSOPInstanceUID for series in evidence.ReferencedSeriesSequence
                     for it in series.ReferencedSOPSequence]
            assert image.ReferencedSOPInstanceUID in known
            print(depth, child.GraphicType, len(child.GraphicData))
        walk(child, depth + 1)
walk(document, 0)";
    let output = Command::new(python).args(["-c", script]).arg(file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", file.display());
    assert!(text.contains("'right_lung' with bbox [2, 3, 20, 21]"), "{text}");
    assert!(text.contains("no findings"), "{text}");
}

/// Checks the label maps and fractional segmentations that `pacs` has received from the same runs.
async fn check_other_forms(
    python: &Path,
    pacs: &simulators::Pacs,
    hospital: &Hospital,
    runs: &[Value],
    files: &Value,
    artifacts: &Path,
) {
    let received = eventually("label maps and fractions", async || {
        let all = pacs.received();
        (all.len() == 2 * STUDIES.len()).then_some(all)
    })
    .await;
    for object in &received {
        let segmentation = |run: &Value| {
            let shown = hospital.ask(&["run", "show", run["id"].as_str().unwrap()]);
            let outlined = shown["outputs"]["outlined"]["segmentations"][0].clone();
            let series = outlined["series"].as_str().unwrap();
            refers_to(python, &object.path, series).then_some(outlined)
        };
        let outlined = runs.iter().find_map(segmentation).unwrap();
        check_masks(python, &object.path, &outlined, files, artifacts);
    }
}

/// Whether an object names a series as its source.
fn refers_to(python: &Path, object: &Path, series: &str) -> bool {
    let script = "import sys, pydicom
data = pydicom.dcmread(sys.argv[1], stop_before_pixels=True)
print(data.ReferencedSeriesSequence[0].SeriesInstanceUID)";
    let output = Command::new(python).args(["-c", script]).arg(object).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim() == series
}

const REVIEWED: &str = "workflow: reviewed
on: { study: { complete: { quiet: 200ms } } }
nodes:
  bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } }
  sign: { review: radiologist, after: [bone] }
deliver:
  - { to: files, what: [seg, sr, narrative, sc, pdf, oru, mdm, fhir, json], after: [bone] }
";

/// OUT-02, ACC-08: drafts and signed, amended and withdrawn reports pass the harness, with text in
/// several scripts.
#[tokio::test(flavor = "multi_thread")]
async fn out_02_what_people_sign_amend_and_withdraw_is_sound() {
    let Some((reference, python)) = reference_and_python() else { return };
    let _alone = ALONE.lock().await;
    let folder = system_tests::Scratch::default();
    let out = folder.path("out");
    let more = format!("  files: {{ folder: {}, allow_unverified: true }}\n", out.display());
    let workflows = [("reviewed", REVIEWED)];
    let options =
        SiteOptions { workflows: &workflows, destinations: &more, ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;
    hospital.send(&study("signed")).await;
    let token = token(&hospital, "radiologist", "Wang^XiaoDong^^Dr");
    let api = |method: &str, path: &str, body: Option<&Value>| {
        let (status, answer) = call(&hospital.engine.http, Some(&token), (method, path), body);
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let open = eventually("the draft", async || {
        let open = api("GET", "/api/reviews", None);
        open.as_array().is_some_and(|it| !it.is_empty()).then_some(open)
    })
    .await;
    let run = open[0]["run"].as_str().unwrap().to_owned();
    let path = |what: &str| format!("/api/runs/{run}/{what}");
    let report = out.join(&run).join("fhir-1.json");
    let check_all = async |status: &str| {
        let expected = format!("\"status\": \"{status}\"");
        eventually(status, async || {
            let text = fs::read_to_string(&report).ok()?;
            text.contains(&expected).then_some(())
        })
        .await;
        let mut harness = Command::new(&python);
        harness.arg(reference.join("harness/output_check.py")).arg(&out);
        passes(harness);
    };
    check_all("preliminary").await;
    let draft = api("GET", &path("result"), None);
    let mut content = draft["content"].clone();
    content["sections"] = json!([{
        "title": {"value": "19005-8", "scheme": "LN", "meaning": "Impression"},
        "text": "Normal. 未见异常。 طبيعي 正常 정상",
    }]);
    let edit = json!({"seen": draft["digest"], "content": content});
    let edited = api("PUT", &path("result"), Some(&edit));
    let sign = json!({"seen": edited["digest"], "meaning": "corrected", "token": token});
    let signed = api("POST", &path("sign"), Some(&sign));
    check_all("final").await;
    content["findings"][0]["text"] = json!("Less.");
    let amend = json!({"seen": signed["digest"], "content": content, "reason": "more to say",
        "token": token});
    let amended = api("POST", &path("amend"), Some(&amend));
    check_all("amended").await;
    let withdraw = json!({"seen": amended["digest"], "reason": "wrong study", "token": token});
    api("POST", &path("withdraw"), Some(&withdraw));
    check_all("entered-in-error").await;
    assert!(out.join(&run).join("rejection-1.dcm").exists());
}
