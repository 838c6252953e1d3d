//! Objects of countable targets: each a finding, a segment and measurements of its own, on the right
//! side of the patient.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use imaging::{FlatMask, Picture};
use serde_json::{Value, json};
use simulators::phantom::Phantom;
use system_tests::script::{Script, model_response};
use system_tests::{Hospital, SiteOptions, eventually, python, reference_and_python, root, study};

const WORKFLOW: &str = "workflow: objects
on: { study: { complete: { quiet: 1s } } }
nodes:
  drawn: { plugin: segmentation, with: { method: network, targets: [lesion, kidney, liver] } }
deliver:
  - { to: pacs, what: [seg, sr] }
  - { to: ehr, what: [oru] }
";

/// Hounsfield units, of which each has a grey level of its own in the window of soft tissue.
const AIR: f64 = -1000.0;
const TISSUE: f64 = 40.0;
const LIVER: f64 = 90.0;
const KIDNEY: f64 = 150.0;
const LESION: f64 = 230.0;
const LUNG: f64 = -800.0;

/// A ball in the patient: its centre and its radius, in mm.
struct Ball {
    center: [f64; 3],
    radius: f64,
    hounsfield: f64,
}

const fn ball(center: [f64; 3], radius: f64, hounsfield: f64) -> Ball {
    Ball { center, radius, hounsfield }
}

/// Three lesions, of which the smallest lies beside the largest, both kidneys, and the liver in two
/// parts.
const ABDOMEN: [Ball; 7] = [
    ball([-60.0, -30.0, 25.0], 15.0, LESION),
    ball([-36.0, -30.0, 25.0], 5.0, LESION),
    ball([80.0, 20.0, 30.0], 10.0, LESION),
    ball([50.0, 50.0, 25.0], 25.0, KIDNEY),
    ball([-50.0, 50.0, 25.0], 22.0, KIDNEY),
    ball([-90.0, 0.0, 25.0], 14.0, LIVER),
    ball([-60.0, 5.0, 25.0], 9.0, LIVER),
];

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    (0..3).map(|axis| (a[axis] - b[axis]).powi(2)).sum::<f64>().sqrt()
}

/// Hounsfield units at a place in a patient who is 260 mm wide and 180 mm deep.
fn hounsfield(balls: &[Ball], place: [f64; 3]) -> f64 {
    let [x, y, _] = place;
    match balls.iter().find(|it| distance(it.center, place) <= it.radius) {
        Some(ball) => ball.hounsfield,
        None if (x / 130.0).powi(2) + (y / 90.0).powi(2) <= 1.0 => TISSUE,
        None => AIR,
    }
}

fn put(set: &mut InMemDicomObject, tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) {
    set.put(DataElement::new(tag, vr, value.into()));
}

/// The files of a patient whose slices lie about `middle`; rows and columns run in the directions of
/// `orientation`.
fn files(
    phantom: &Phantom,
    balls: &[Ball],
    orientation: [f64; 6],
    middle: [f64; 3],
) -> Vec<Vec<u8>> {
    let [a, b, c, d, e, f] = orientation;
    let normal = [b * f - c * e, c * d - a * f, a * e - b * d];
    let half = f64::from(phantom.size - 1) / 2.0 * phantom.pixel;
    let half_height = f64::from(phantom.slices - 1) / 2.0 * phantom.spacing;
    let place = |slice: u16, row: u16, column: u16| {
        let along_row = f64::from(column) * phantom.pixel - half;
        let along_column = f64::from(row) * phantom.pixel - half;
        let height = f64::from(slice) * phantom.spacing - half_height;
        [0, 1, 2].map(|axis| {
            middle[axis]
                + along_row * orientation[axis]
                + along_column * orientation[axis + 3]
                + height * normal[axis]
        })
    };
    let decimals =
        |values: &[f64]| values.iter().map(|it| format!("{it:.6}")).collect::<Vec<_>>().join("\\");
    phantom.files_with(|slice, set| {
        let rows = 0..phantom.size;
        let cells = rows.flat_map(|row| (0..phantom.size).map(move |column| [row, column]));
        let bytes: Vec<u8> = cells
            .flat_map(|[row, column]| {
                #[expect(clippy::cast_possible_truncation, reason = "Hounsfield units")]
                let value = hounsfield(balls, place(slice, row, column)) as i16;
                (value + 1024).to_le_bytes()
            })
            .collect();
        put(set, tags::PIXEL_DATA, VR::OW, bytes);
        put(set, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, decimals(&orientation));
        put(set, tags::IMAGE_POSITION_PATIENT, VR::DS, decimals(&place(slice, 0, 0)));
    })
}

const AXIAL: [f64; 6] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];

/// The picture and the text of a question.
fn asked(question: &Value) -> (Picture, String) {
    let content = &question["messages"][0]["content"];
    let url = content[0]["image_url"]["url"].as_str().unwrap();
    let png = BASE64_STANDARD.decode(url.split_once(";base64,").unwrap().1).unwrap();
    let text = content[1]["text"].as_str().unwrap().to_owned();
    (Picture::decode(&png).unwrap(), text)
}

/// The pixels of a picture that satisfy a condition on grey level, row and column.
fn mask(picture: &Picture, is_set: impl Fn(u8, u32, u32) -> bool) -> Value {
    let pixels = picture.rgb.chunks(3).zip(0_u32..);
    let pixels = pixels.map(|(rgb, at)| is_set(rgb[0], at / picture.width, at % picture.width));
    let mask = FlatMask { height: picture.height, width: picture.width, pixels: pixels.collect() };
    json!({"size": [picture.height, picture.width], "counts": mask.to_text()})
}

/// The grey level of Hounsfield units in the window of soft tissue, with one level to either side.
fn is_gray(level: u8, hounsfield: f64) -> bool {
    let expected = (((hounsfield - 39.5) / 399.0 + 0.5) * 255.0).round();
    (f64::from(level) - expected).abs() <= 1.0
}

/// A model that draws all lesions as one mask, each kidney as one of its own, and the liver.
fn drawing(question: &Value) -> Value {
    let (picture, text) = asked(question);
    let half = picture.width / 2;
    if text.contains("lesion") {
        model_response("[SEG].", &[mask(&picture, |gray, _, _| is_gray(gray, LESION))])
    } else if text.contains("kidney") {
        let right = mask(&picture, |gray, _, column| is_gray(gray, KIDNEY) && column < half);
        let left = mask(&picture, |gray, _, column| is_gray(gray, KIDNEY) && column >= half);
        model_response("[SEG] and [SEG].", &[right, left])
    } else {
        model_response("[SEG].", &[mask(&picture, |gray, _, _| is_gray(gray, LIVER))])
    }
}

/// The objects of SEG, SR and ORU as independent readers find them. Asserts that all agree with what
/// is measured on the masks of the SEG.
fn objects(python: &Path, hospital: &Hospital) -> Vec<Value> {
    let [oru] = hospital.ehr.received().try_into().unwrap();
    let oru = hospital.scratch.write("oru.hl7", &oru);
    let files = hospital.pacs.received().into_iter().map(|it| it.path);
    let script = root().join("tests/it/objects.py");
    let output = Command::new(python).arg(script).arg(oru).args(files).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = found.as_array().unwrap().clone();
    let uids: BTreeSet<&str> = found.iter().map(|it| it["uid"].as_str().unwrap()).collect();
    let keys: BTreeSet<String> = found.iter().map(|it| it["keys"].to_string()).collect();
    assert_eq!((uids.len(), keys.len()), (found.len(), found.len()), "{found:?}");
    for object in &found {
        assert_eq!(object["keys"].as_array().unwrap().len(), 1, "{object}");
        assert_eq!(object["side"], object["side_in_report"], "{object}");
        for index in 0..3 {
            let number = |of: &str| object[of][index].as_f64().unwrap();
            assert!((number("report") - number("measured")).abs() < 1e-6, "{object}");
            // ORU has three decimal places.
            assert!((number("message") - number("measured")).abs() < 1e-3, "{object}");
        }
    }
    found
}

/// A hospital that outlines what `script` draws.
async fn hospital(script: &Script) -> Hospital {
    let model = script.as_model();
    let options = SiteOptions {
        workflows: &[("objects", WORKFLOW)],
        destinations: &model,
        ..SiteOptions::default()
    };
    Hospital::with(options).await
}

fn labels(found: &[Value]) -> Vec<&str> {
    found.iter().map(|it| it["label"].as_str().unwrap()).collect()
}

/// PAP-14: three lesions and two kidneys of a phantom are five segments, a liver in two parts is one.
/// A SEG of which one segment was changed is a correction of that one.
#[tokio::test(flavor = "multi_thread")]
async fn pap_14_two_and_three_objects_are_segments_with_measurements_of_their_own() {
    let python = python();
    let script = Script::open(drawing);
    let hospital = hospital(&script).await;
    let phantom = Phantom { size: 192, slices: 13, pixel: 1.5, spacing: 4.0, ..study("objects") };
    let files = files(&phantom, &ABDOMEN, AXIAL, [0.0, 0.0, 25.0]);
    let sent: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    hospital.modality().store(&sent).await.unwrap();
    let runs = hospital.ended_runs(1).await;
    assert_eq!(runs[0]["status"], "completed", "{runs:?}");

    let found = objects(&python, &hospital);
    let expected = ["lesion 1", "lesion 2", "lesion 3", "left kidney", "right kidney", "liver"];
    assert_eq!(labels(&found), expected);
    let sides: Vec<&Value> = found.iter().map(|it| &it["side"]).collect();
    let none = &Value::Null;
    assert_eq!(sides, [none, none, none, &json!("7771000"), &json!("24028007"), none]);
    for (object, radius) in found.iter().zip([15.0, 10.0, 5.0, 25.0, 22.0]) {
        for axis in [1, 2] {
            let length = object["measured"][axis].as_f64().unwrap();
            assert!((length - 2.0 * radius).abs() <= phantom.pixel + 1e-6, "{radius}: {object}");
        }
    }
    let run = hospital.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]);
    let findings = run["outputs"]["drawn"]["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 6, "{findings:?}");
    assert_eq!(findings[3]["laterality"], "left");
    let text = findings[0]["text"].as_str().unwrap();
    assert!(text.starts_with("Volume of lesion 1: ") && text.contains(" short axis "), "{text}");

    correct_one(&python, &hospital, found[1]["uid"].as_str().unwrap()).await;
}

/// Sends the SEG back with one segment emptied in half of its frames.
async fn correct_one(python: &Path, hospital: &Hospital, uid: &str) {
    let received = hospital.pacs.received();
    let seg = received.iter().find(|it| it.sop_class.ends_with(".66.4")).unwrap();
    let changed = hospital.scratch.path("changed.dcm");
    let script = "import sys, pydicom, numpy
data = pydicom.dcmread(sys.argv[1])
number = [it.SegmentNumber for it in data.SegmentSequence if it.TrackingUID == sys.argv[3]][0]
pixels = data.pixel_array.copy()
frames = [i for i, it in enumerate(data.PerFrameFunctionalGroupsSequence)
          if it.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number]
for frame in frames[: len(frames) // 2]:
    pixels[frame] = 0
data.PixelData = numpy.packbits(pixels.ravel(), bitorder='little').tobytes()
if len(data.PixelData) % 2:
    data.PixelData += b'\\0'
data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
data.SeriesInstanceUID = pydicom.uid.generate_uid()
data.save_as(sys.argv[2])";
    let mut command = Command::new(python);
    command.args(["-c", script]).arg(&seg.path).arg(&changed).arg(uid);
    assert!(command.status().unwrap().success());
    hospital.modality().store(&[&fs::read(&changed).unwrap()]).await.unwrap();
    let all = eventually("the correction", async || {
        let all = hospital.ask(&["corrections"]).as_array().cloned()?;
        (!all.is_empty()).then_some(all)
    })
    .await;
    let segments = all[0]["difference"]["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 1, "{segments:?}");
    let tracking_id = segments[0]["tracking_id"].as_str().unwrap();
    assert!(tracking_id.starts_with("lesion 2 "), "{tracking_id}");
    let dice = segments[0]["dice"].as_f64().unwrap();
    assert!(dice > 0.0 && dice < 1.0, "{dice}");
}

/// PAP-14: on a real CT, three lesions in one mask and two kidneys in two masks.
#[tokio::test(flavor = "multi_thread")]
async fn pap_14_objects_on_a_real_ct_are_measured_one_by_one() {
    let Some((reference, python)) = reference_and_python() else { return };
    let script = Script::open(|question| {
        let (picture, text) = asked(question);
        let disc = |row: f64, column: f64, radius: f64, y: u32, x: u32| {
            let y = f64::from(y) / f64::from(picture.height) - row;
            let x = f64::from(x) / f64::from(picture.width) - column;
            y.hypot(x) <= radius
        };
        if text.contains("lesion") {
            let all = mask(&picture, |_, y, x| {
                disc(0.4, 0.3, 0.05, y, x)
                    || disc(0.4, 0.45, 0.03, y, x)
                    || disc(0.6, 0.6, 0.02, y, x)
            });
            model_response("[SEG].", &[all])
        } else if text.contains("kidney") {
            let right = mask(&picture, |_, y, x| disc(0.6, 0.35, 0.06, y, x));
            let left = mask(&picture, |_, y, x| disc(0.6, 0.7, 0.05, y, x));
            model_response("[SEG] [SEG].", &[left, right])
        } else {
            model_response("I see none.", &[])
        }
    });
    let hospital = hospital(&script).await;
    let mut sender = Command::new(&python);
    sender.arg(root().join("tests/it/send_all.py"));
    sender.arg(reference.join("material/dicom/ct_liver_3slices")).arg(&hospital.engine.dicom);
    let answers = String::from_utf8(sender.output().unwrap().stdout).unwrap();
    assert_eq!(answers.lines().filter(|it| it.starts_with("0000")).count(), 3, "{answers}");
    let runs = hospital.ended_runs(1).await;
    assert_eq!(runs[0]["status"], "completed", "{runs:?}");

    let found = objects(&python, &hospital);
    let expected = ["lesion 1", "lesion 2", "lesion 3", "right kidney", "left kidney"];
    assert_eq!(labels(&found), expected);
}

/// A way in which a patient lies, or slices are made: its name, and the directions of rows and columns.
struct Position {
    name: &'static str,
    orientation: [f64; 6],
}

/// PAP-14: left is the patient's left, head first and feet first, supine and prone, in coronal and in
/// oblique slices.
#[tokio::test(flavor = "multi_thread")]
async fn pap_14_left_and_right_lung_are_told_in_every_position_of_the_patient() {
    let workflow = "workflow: lungs
on: { study: { complete: { quiet: 1s } } }
nodes: { lungs: { plugin: segmentation, with: { method: threshold, targets: [lung] } } }
";
    let options = SiteOptions { workflows: &[("lungs", workflow)], ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;
    let mut lungs = vec![ball([50.0, 0.0, 0.0], 30.0, LUNG), ball([-55.0, 0.0, 0.0], 38.0, LUNG)];
    // They touch, as real ones do along the airways.
    lungs.extend((-9..=11).map(|it| ball([f64::from(2 * it), 0.0, 0.0], 3.5, LUNG)));
    // Turned by 20 degrees about z, then about x.
    let sine = 20.0_f64.to_radians().sin();
    let cosine = 20.0_f64.to_radians().cos();
    let positions = [
        Position { name: "HFS", orientation: AXIAL },
        Position { name: "HFP", orientation: [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0] },
        Position { name: "FFS", orientation: [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0] },
        Position { name: "FFP", orientation: [1.0, 0.0, 0.0, 0.0, -1.0, 0.0] },
        Position { name: "HFDR", orientation: [0.0, 1.0, 0.0, -1.0, 0.0, 0.0] },
        Position { name: "coronal", orientation: [1.0, 0.0, 0.0, 0.0, 0.0, -1.0] },
        Position {
            name: "oblique",
            orientation: [
                cosine,
                sine * cosine,
                sine * sine,
                -sine,
                cosine * cosine,
                cosine * sine,
            ],
        },
    ];
    for position in &positions {
        let seed = format!("lungs {}", position.name);
        let accession = format!("ACC-{}", position.name);
        let phantom =
            Phantom { size: 96, slices: 48, pixel: 3.2, spacing: 4.0, accession, ..study(&seed) };
        let files = files(&phantom, &lungs, position.orientation, [0.0; 3]);
        let sent: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        hospital.modality().store(&sent).await.unwrap();
    }
    let runs = hospital.ended_runs(positions.len()).await;
    for run in &runs {
        let run = hospital.ask(&["run", "show", run["id"].as_str().unwrap()]);
        let segments = run["outputs"]["lungs"]["segmentations"][0]["segments"].as_array();
        assert!(segments.is_some(), "{run}");
        let segments = segments.unwrap();
        let told: Vec<Value> =
            segments.iter().map(|it| json!([it["label"], it["laterality"]])).collect();
        // The right one is the larger one.
        assert_eq!(told, [json!(["right lung", "right"]), json!(["left lung", "left"])], "{run}");
        for (segment, radius) in segments.iter().zip([38.0_f64, 30.0]) {
            let expected = 4.0 / 3.0 * std::f64::consts::PI * radius.powi(3) / 1000.0;
            let measured = segment["measurements"][0]["value"].as_f64().unwrap();
            assert!((measured / expected - 1.0).abs() < 0.05, "{measured} {expected}");
        }
    }
}

/// PAP-05: what is outlined in a radiograph stays with the run. The readers are told so, and get
/// nothing of it, unless the workflow shows it.
#[tokio::test(flavor = "multi_thread")]
async fn pap_05_outlines_of_a_radiograph_stay_with_the_run() {
    let node = |name: &str, more: &str| {
        format!(
            "workflow: {name}\non: {{ study: {{ when: 'study.description == \"{name}\"', complete: {{ \
             quiet: 500ms }} }} }}\nnodes:\n  drawn: {{ plugin: segmentation, with: {{ method: network, \
             targets: [lesion]{more} }} }}\ndeliver:\n  - {{ to: pacs, what: [seg, sr] }}\n  - {{ to: ehr, \
             what: [oru] }}\n"
        )
    };
    let usual = node("usual", "");
    let shown = node("shown", ", radiographs: shown");
    let script = Script::open(|question| {
        let (picture, _) = asked(question);
        let width = picture.width;
        let both = mask(&picture, |_, _, x| x < width / 4 || x > width / 2);
        model_response("[SEG].", &[both])
    });
    let model = script.as_model();
    let options = SiteOptions {
        workflows: &[("usual", &usual), ("shown", &shown)],
        destinations: &model,
        ..SiteOptions::default()
    };
    let hospital = Hospital::with(options).await;
    for (name, objects, count) in [("usual", 1, 1), ("shown", 3, 2)] {
        let phantom = Phantom { slices: 1, accession: name.to_owned(), ..study(name) };
        let radiograph = phantom.files_with(|_, set| {
            put(set, tags::MODALITY, VR::CS, "CR");
            put(set, tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.1");
            put(set, tags::STUDY_DESCRIPTION, VR::LO, name);
        });
        hospital.modality().store(&[radiograph[0].as_slice()]).await.unwrap();
        let runs = hospital.ended_runs(count).await;
        let run = runs.iter().find(|it| it["workflow"] == name).unwrap();
        let run = hospital.ask(&["run", "show", run["id"].as_str().unwrap()]);
        assert_eq!(run["run"]["status"], "completed", "{run}");
        let segmentation = &run["outputs"]["drawn"]["segmentations"][0];
        assert_eq!(segmentation["segments"].as_array().unwrap().len(), 2, "{run}");
        assert_eq!(hospital.pacs.received().len(), objects, "{name}");
        let oru = hospital.ehr.received().pop().unwrap();
        assert_eq!(oru.contains("for research only"), name == "usual", "{oru}");
        assert_eq!(oru.contains("Area of lesion 1"), name == "shown", "{oru}");
    }
}
