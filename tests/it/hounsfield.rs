//! Hounsfield units: what is measured in them, what is not measured without, and what is no tissue.

use std::process::Command;

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use simulators::phantom::Phantom;
use system_tests::{Hospital, Scratch, python, root, study};

/// Enhanced CT Image Storage.
const ENHANCED_CT: &str = "1.2.840.10008.5.1.4.1.1.2.1";

fn put(set: &mut InMemDicomObject, tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) {
    set.put(DataElement::new(tag, vr, value.into()));
}

/// Changes each pixel cell.
fn change_cells(set: &mut InMemDicomObject, change: impl Fn(u16) -> u16) {
    let bytes = set.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap().into_owned();
    let cells = bytes.as_chunks::<2>().0.iter().map(|it| change(u16::from_le_bytes(*it)));
    let bytes: Vec<u8> = cells.flat_map(u16::to_le_bytes).collect();
    put(set, tags::PIXEL_DATA, VR::OW, bytes);
}

/// Bits Stored, High Bit and Pixel Representation.
fn put_bits(set: &mut InMemDicomObject, stored: u16, high: u16, representation: u16) {
    put(set, tags::BITS_STORED, VR::US, stored);
    put(set, tags::HIGH_BIT, VR::US, high);
    put(set, tags::PIXEL_REPRESENTATION, VR::US, representation);
}

/// Pads what is air (stored value 24) with a cell.
fn pad(set: &mut InMemDicomObject, cell: u16, vr: VR) {
    change_cells(set, |it| if it == 24 { cell } else { it });
    let value = if vr == VR::SS { cell.cast_signed().into() } else { PrimitiveValue::from(cell) };
    put(set, tags::PIXEL_PADDING_VALUE, vr, value);
}

/// A way to write the same patient, or nearly the same.
type Variant = (&'static str, fn(&mut InMemDicomObject));

/// The ways of writing that have Hounsfield units.
const VARIANTS: [Variant; 12] = [
    ("plain", |_| {}),
    ("unspecified", |it| put(it, tags::RESCALE_TYPE, VR::LO, "US")),
    ("unknown", |it| {
        put(it, tags::RESCALE_INTERCEPT, VR::UN, b"-1024 ".as_slice());
        put(it, tags::RESCALE_SLOPE, VR::UN, b"1 ".as_slice());
    }),
    ("fraction", |it| {
        put(it, tags::RESCALE_INTERCEPT, VR::DS, "-1024.3");
        put(it, tags::RESCALE_SLOPE, VR::DS, "1.0002442");
    }),
    ("twelve-signed", |it| {
        change_cells(it, |cell| cell.wrapping_sub(1024) & 0x0FFF);
        put_bits(it, 12, 11, 1);
        put(it, tags::RESCALE_INTERCEPT, VR::DS, "0");
    }),
    ("overlay-above", |it| {
        change_cells(it, |cell| cell | 0x9000);
        put_bits(it, 12, 11, 0);
    }),
    ("upper-bits", |it| {
        change_cells(it, |cell| cell << 4);
        put_bits(it, 12, 15, 0);
    }),
    ("padded-63536", |it| pad(it, 63_536, VR::US)),
    ("padded-32767", |it| {
        put_bits(it, 16, 15, 1);
        pad(it, 32_767, VR::SS);
    }),
    ("padded-in-the-other-sign", |it| {
        put_bits(it, 16, 15, 1);
        pad(it, 63_536, VR::US);
    }),
    ("padded-4095", |it| {
        put_bits(it, 12, 11, 0);
        pad(it, 4095, VR::US);
    }),
    ("padded-range", |it| {
        change_cells(it, |cell| if cell == 24 { 63_500 } else { cell });
        put(it, tags::PIXEL_PADDING_VALUE, VR::US, 63_536_u16);
        put(it, tags::PIXEL_PADDING_RANGE_LIMIT, VR::US, 63_000_u16);
    }),
];

/// DIN-80: every value, and every pixel that is none, as pydicom and numpy have it.
#[test]
fn din_80_values_and_padding_are_those_of_pydicom() {
    let python = python();
    let scratch = Scratch::default();
    let phantom = Phantom { size: 64, pixel: 6.0, slices: 1, ..study("hounsfield") };
    let mut ours = Vec::new();
    for (name, change) in VARIANTS {
        let path = scratch.path(&format!("{name}.dcm"));
        let files = phantom.files_with(|_, set| change(set));
        std::fs::write(&path, &files[0]).unwrap();
        let values = imaging::slice::read(&path).unwrap().values;
        let padding = values.iter().filter(|it| it.is_nan()).count();
        assert_eq!(padding > 0, name.starts_with("padded"), "{name}: {padding} pixels of padding");
        let bytes: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
        ours.push(format!("{name}.dcm {}", hex::encode(Sha256::digest(bytes))));
    }
    ours.sort();
    let script = root().join("tests/it/hounsfield.py");
    let output = Command::new(python).arg(script).arg(scratch.path("")).output().unwrap();
    let theirs = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(theirs.lines().collect::<Vec<_>>(), ours, "{output:?}");
}

async fn send(hospital: &Hospital, files: &[Vec<u8>]) {
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    hospital.modality().store(&files).await.unwrap();
}

fn shown(hospital: &Hospital, run: &Value) -> Value {
    hospital.ask(&["run", "show", run["id"].as_str().unwrap()])
}

/// The last slice alone says that it is a map of iodine.
fn iodine_map(phantom: &Phantom) -> Vec<Vec<u8>> {
    phantom.files_with(|slice, set| {
        if slice + 1 == phantom.slices {
            put(set, tags::RESCALE_TYPE, VR::LO, "MGML");
        }
    })
}

/// DIN-80: nothing is measured, nothing is said to be absent, and the reason names attribute, value
/// and instance.
#[tokio::test(flavor = "multi_thread")]
async fn din_80_a_ct_in_another_unit_is_not_measured_and_the_reason_says_which() {
    let hospital = Hospital::open().await;
    let phantom = study("iodine");
    send(&hospital, &iodine_map(&phantom)).await;
    let runs = hospital.ended_runs(1).await;

    assert_eq!(runs[0]["status"], "failed");
    let run = shown(&hospital, &runs[0]);
    let reason = run["nodes"][0]["reason"].as_str().unwrap();
    let instance = format!("instance {}: Rescale Type is `MGML`: ", phantom.instance_uid(2));
    assert!(reason.contains("pixels_undecodable") && reason.contains(&instance), "{reason}");
    assert!(!run.to_string().contains("mL") && !run.to_string().contains("No bone"), "{run}");
    assert!(hospital.pacs.received().is_empty() && hospital.ehr.received().is_empty());
}

/// An instance of Enhanced CT in a series of this name, in the study of a phantom.
fn enhanced(phantom: &Phantom, series: &str) -> Vec<Vec<u8>> {
    let one = Phantom { slices: 1, ..phantom.clone() };
    one.files_with(|_, set| {
        put(set, tags::SOP_CLASS_UID, VR::UI, ENHANCED_CT);
        put(set, tags::SOP_INSTANCE_UID, VR::UI, format!("{series}.1"));
        put(set, tags::SERIES_INSTANCE_UID, VR::UI, series);
        put(set, tags::NUMBER_OF_FRAMES, VR::IS, "2");
        let pixels = set.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap().repeat(2);
        put(set, tags::PIXEL_DATA, VR::OW, pixels);
    })
}

/// What is said of an enhanced series.
fn passed_over(series: &str) -> String {
    format!("series {series}: Enhanced CT, several frames: not outlined yet")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enhanced_ct_is_refused_by_its_name_and_a_mixed_study_says_what_was_not_looked_at() {
    let hospital = Hospital::open().await;
    send(&hospital, &enhanced(&study("enhanced alone"), "1.2.826.0.1.3680043.9.1")).await;
    let runs = hospital.ended_runs(1).await;
    assert_eq!(runs[0]["status"], "failed");
    let alone = shown(&hospital, &runs[0]);
    let reason = alone["nodes"][0]["reason"].as_str().unwrap();
    let expected = passed_over("1.2.826.0.1.3680043.9.1");
    assert!(reason.contains("several_frames") && reason.contains(&expected), "{reason}");

    let phantom = study("mixed");
    let enhanced = enhanced(&phantom, "1.2.826.0.1.3680043.9.2");
    send(&hospital, &[phantom.files(), enhanced].concat()).await;
    let runs = hospital.ended_runs(2).await;
    let mixed = runs.iter().find(|it| it["status"] == "completed").unwrap();
    let mixed = shown(&hospital, mixed);
    let sections = &mixed["outputs"]["bone"]["sections"];
    let expected = format!("Not looked at: {}.", passed_over("1.2.826.0.1.3680043.9.2"));
    assert_eq!(sections[0]["text"], expected, "{mixed}");
    let [oru] = hospital.ehr.received().try_into().unwrap();
    assert!(oru.contains(&expected), "{oru}");
    assert_eq!(hospital.pacs.received().len(), 2);
}
