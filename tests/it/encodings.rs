//! Data sets that are not quite as the standard wants them, from the wire to the result (DIN-23,
//! DIN-70 to DIN-76): read as other readers read them, or refused with the reason.

use std::fmt::Write as _;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use dicom_core::{DataElement, VR};
use dicom_dictionary_std::tags;
use encoding::dicom::file_meta;
use encoding::dicom::header::{Encoding, Header, Tag, read_encoded, starts};
use serde_json::Value;
use simulators::phantom::Phantom;
use system_tests::{Hospital, Scratch, SiteOptions, eventually, reference_and_python, root, study};

const EXPLICIT: &str = "1.2.840.10008.1.2.1";

/// A file with `bytes` before its first element at or after `tag`.
fn with(file: &[u8], tag: Tag, bytes: &[u8]) -> Vec<u8> {
    let (start, _) = file_meta::split(file).unwrap();
    let data = &file[start..];
    let all = starts(Cursor::new(data), data.len() as u64, Encoding::of(EXPLICIT)).unwrap();
    let at = all.iter().find(|it| it.0 >= tag).map_or(data.len() as u64, |it| it.1);
    let at = start + usize::try_from(at).unwrap();
    [&file[..at], bytes, &file[at..]].concat()
}

/// The ways in which a data set departs from what most senders write.
fn peculiar(file: &[u8], kind: &str) -> Vec<u8> {
    let private = Tag(0x0009, 0x1001);
    let placeholder = |vr: &[u8]| {
        let element = [b"\x09\0\x01\x10".as_slice(), vr, b"\x04\0abcd"].concat();
        with(file, private, &element)
    };
    match kind {
        "zeros" => with(file, Tag(0xFFFF, 0xFFFF), &[0; 64]),
        "meta" => with(file, Tag(0, 0), b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"),
        "command" => with(file, Tag(0, 0), b"\0\0\x02\0UI\x04\x001.2\0"),
        "question marks" => placeholder(b"??"),
        "two spaces" => placeholder(b"  "),
        "null" => placeholder(b"\0\0"),
        "unknown sequence" => {
            let head = b"\x09\0\x01\x10UN\0\0\xFF\xFF\xFF\xFF\xFE\xFF\0\xE0\xFF\xFF\xFF\xFF";
            let element = b"\x08\0\0\x01\x04\0\0\0CODE";
            let ends = b"\xFE\xFF\x0D\xE0\0\0\0\0\xFE\xFF\xDD\xE0\0\0\0\0";
            with(file, private, &[head.as_slice(), element, ends].concat())
        }
        other => unreachable!("{other}"),
    }
}

/// DIN-76: every image of a study in another peculiar encoding, and the volume of the plain study.
#[tokio::test(flavor = "multi_thread")]
async fn din_76_peculiar_data_sets_are_measured_as_plain_ones_are() {
    let hospital = Hospital::open().await;
    let kinds =
        ["zeros", "meta", "command", "question marks", "two spaces", "null", "unknown sequence"];
    let slices = u16::try_from(kinds.len()).unwrap();
    let plain = Phantom { slices, ..study("plain encodings") };
    let phantom = Phantom { slices, ..study("peculiar encodings") };
    let files: Vec<Vec<u8>> =
        phantom.files().iter().zip(kinds).map(|(file, kind)| peculiar(file, kind)).collect();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    hospital.send(&plain).await;
    hospital.ended_runs(1).await;
    hospital.modality().store(&files).await.unwrap();
    let runs = hospital.ended_runs(2).await;

    let volumes: Vec<Value> = runs.iter().map(|it| hospital.measurements_of(it)).collect();
    assert!(volumes[0].is_array() && volumes[0] == volumes[1], "{volumes:?}");
    let events = hospital.ask(&["audit", "show", "--limit", "1000"]).to_string();
    for flag in ["trailing_zeros", "foreign_group", "vr_unknown"] {
        assert!(events.contains(flag), "{flag}");
    }
}

/// DIN-74: a name that cannot be decoded never becomes an empty one.
#[tokio::test(flavor = "multi_thread")]
async fn din_74_a_result_waits_if_the_name_of_its_patient_cannot_be_decoded() {
    let hospital = Hospital::open().await;
    let phantom = study("undecodable name");
    let files = phantom.files_with(|_, set| {
        set.put(DataElement::new(tags::SPECIFIC_CHARACTER_SET, VR::CS, "KLINGON"));
        set.remove_element(tags::PATIENT_NAME);
    });
    let name = b"\x10\0\x10\0PN\x0C\0M\xDCLLER^J\xD6RG ";
    let files: Vec<Vec<u8>> = files.iter().map(|it| with(it, Tag(0x0010, 0x0010), name)).collect();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    hospital.modality().store(&files).await.unwrap();
    let runs = hospital.ended_runs(1).await;

    assert_eq!(runs[0]["status"], "completed");
    let deliveries = eventually("the deliveries to wait for a person", async || {
        let deliveries = hospital.ask(&["delivery", "list"]).as_array()?.clone();
        deliveries.iter().all(|it| it["state"] == "failed").then_some(deliveries)
    })
    .await;
    assert!(!deliveries.is_empty());
    for delivery in deliveries {
        let reason = delivery["reason"].as_str().unwrap();
        let expected = "Patient's Name (0010,0010) of instance ";
        assert!(reason.contains(expected) && reason.contains("`KLINGON`"), "{reason}");
    }
    assert!(hospital.pacs.received().is_empty() && hospital.ehr.received().is_empty());
}

const ROUTING: &str = "
workflow: routing
on: { study: { complete: { quiet: 300ms } } }
deliver: [{ to: out, what: [images] }]
";

/// DIN-04: what no version knows is forwarded where the site wants it.
#[tokio::test(flavor = "multi_thread")]
async fn din_04_an_instance_of_a_private_class_is_routed_where_the_site_accepts_it() {
    let scratch = Scratch::default();
    let out = scratch.path("out");
    let destinations = format!("  out: {{ folder: {} }}\n", out.display());
    let workflows = [("routing", ROUTING)];
    let options = SiteOptions {
        workflows: &workflows,
        destinations: &destinations,
        ..SiteOptions::default()
    };
    let mut hospital = Hospital::with(options).await;
    let class = "1.2.826.0.1.3680043.9.7.1";
    let phantom = Phantom { slices: 2, ..study("private class") };
    let files = phantom
        .files_with(|_, set| _ = set.put(DataElement::new(tags::SOP_CLASS_UID, VR::UI, class)));
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    assert!(hospital.modality().store(&files).await.is_err());

    let config = hospital.scratch.path("isocenter.yaml");
    let site = std::fs::read_to_string(&config).unwrap();
    let site =
        site.replacen("dicom: { listen:", "dicom: { accept_unknown_storage: true, listen:", 1);
    std::fs::write(&config, site).unwrap();
    assert!(hospital.engine.terminate().success());
    hospital.restart();
    hospital.modality().store(&files).await.unwrap();

    let forwarded = eventually("the images", async || {
        let mut forwarded = Vec::new();
        let mut folders = vec![out.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).ok()? {
                let path = entry.ok()?.path();
                if path.is_dir() { folders.push(path) } else { forwarded.push(path) }
            }
        }
        (forwarded.len() >= 2).then_some(forwarded)
    })
    .await;
    for path in forwarded {
        let file = std::fs::read(path).unwrap();
        let (start, _) = file_meta::split(&file).unwrap();
        assert!(files.iter().any(|it| it.ends_with(&file[start..])));
    }
}

/// A file as pydicom reads it: a line of `field_values.py`.
struct Read<'a> {
    file: &'a str,
    /// Values of the pixels, if pydicom can decode them.
    values: Option<Vec<f32>>,
    patient_id: String,
    patient_name: String,
}

impl<'a> Read<'a> {
    fn of(line: &'a str, folder: &Path) -> Self {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap();
        let file = next();
        let text =
            |hexadecimal: &str| String::from_utf8(hex::decode(hexadecimal).unwrap()).unwrap();
        let patient_id = text(next());
        let patient_name = text(next());
        let values = std::fs::read(folder.join(file).with_extension("values")).ok();
        let values = values.map(|it| {
            it.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        });
        Self { file, values, patient_id, patient_name }
    }
}

fn header_of(file: &[u8]) -> Result<Header, String> {
    let (start, syntax) = file_meta::split(file).unwrap();
    let data = &file[start..];
    read_encoded(Cursor::new(data), data.len() as u64, Encoding::of(&syntax))
        .map_err(|it| it.to_string())
}

/// What differs between our reading of a file and that of pydicom; nothing, if all values are the
/// same, or are refused with a reason, which is added to `refused`.
fn difference(read: &Read<'_>, folder: &Path, refused: &mut String) -> Option<String> {
    let path = folder.join(read.file);
    let header = match header_of(&std::fs::read(&path).unwrap()) {
        Ok(header) => header,
        Err(reason) => {
            writeln!(refused, "{}: {reason}", read.file).unwrap();
            return None;
        }
    };
    for (tag, theirs) in
        [(Tag(0x0010, 0x0020), &read.patient_id), (Tag(0x0010, 0x0010), &read.patient_name)]
    {
        let ours = header.text(tag);
        // What cannot be decoded identifies nobody, and is not sent.
        if ours.as_ref().is_some_and(|it| !it.is_lossless) {
            writeln!(refused, "{}: {tag} cannot be decoded", read.file).unwrap();
            continue;
        }
        let ours = ours.map(|it| it.text).unwrap_or_default();
        // Groups at the end of a name that are empty may be left out.
        let whole = |it: &str| it.trim_matches(['\0', ' ', '=']).to_owned();
        if whole(&ours) != whole(theirs) {
            return Some(format!("{tag}: {ours:?} and {theirs:?}"));
        }
    }
    match (imaging::slice::read(&path), &read.values) {
        (Err(error), _) => {
            writeln!(refused, "{}: {}", read.file, domain::ErrorChain(&error)).unwrap();
            None
        }
        (Ok(_), None) => Some("nobody else decodes its pixels".to_owned()),
        (Ok(slice), Some(theirs)) => {
            // Padding, which stands for no value, is not a number in ours.
            let may_be_padded = read.file.starts_with("d02");
            let is_same = |ours: f32, theirs: f32| {
                may_be_padded && ours.is_nan()
                    || (ours - theirs).abs() <= 1e-6 * theirs.abs().max(1.0)
            };
            let are_same = slice.values.len() == theirs.len()
                && slice.values.iter().zip(theirs).all(|(a, b)| is_same(*a, *b));
            (!are_same).then(|| "the pixels have other values".to_owned())
        }
    }
}

/// DIN-76, DIN-80: all that failed in the field, read as pydicom reads it or refused.
#[test]
fn din_76_what_failed_in_the_field_has_the_values_of_pydicom_or_is_refused() {
    let Some((reference, python)) = reference_and_python() else { return };
    let scratch = Scratch::default();
    let folder = scratch.path("field");
    let script = root().join("tests/it/field_values.py");
    let mut command = Command::new(python);
    command.arg(script).arg(reference.join("field")).arg(&folder);
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{lines}{}", String::from_utf8_lossy(&output.stderr));
    let reads: Vec<Read<'_>> = lines.lines().map(|it| Read::of(it, &folder)).collect();
    for case in 1..=9 {
        let count = reads.iter().filter(|it| it.file.starts_with(&format!("d0{case}"))).count();
        assert!(count > 0, "nothing of d0{case}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut refused = String::new();
    let mut differences = Vec::new();
    for read in &reads {
        let found = difference(read, &folder, &mut refused);
        differences.extend(found.map(|it| format!("{}: {it}", read.file)));
    }
    assert!(differences.is_empty(), "{differences:#?}");
    let count = reads.len();
    assert!(refused.lines().count() < count / 2, "{count} files, of which are refused:\n{refused}");
}
