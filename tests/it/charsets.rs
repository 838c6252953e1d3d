//! Names in every character set of DICOM, from reception to every output (DIN-70..76, ACC-08).

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use simulators::phantom::Phantom;
use simulators::{Ehr, FhirServer};
use system_tests::{Hospital, SiteOptions, eventually, python, reference_and_python};

const WORKFLOW: &str = "
workflow: names
on: { study: { complete: { quiet: 300ms } } }
nodes: { bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } } }
deliver:
  - { to: pacs, what: [seg, sr, narrative, sc, pdf], after: [bone] }
  - { to: ehr, what: [oru], after: [bone] }
  - { to: gb, what: [oru, mdm], after: [bone] }
  - { to: registry, what: [fhir], after: [bone] }
";

/// Specific Character Set, the encoded name, and the name as text.
type Name = (String, Vec<u8>, String);

/// Examples of the standard (PS3.5, Annexes H, I, K), and names whose second bytes equal
/// delimiters.
fn names_of_the_standard() -> Vec<Name> {
    let name = |charset: &str, bytes: &[u8], text: &str| {
        (charset.to_owned(), bytes.to_vec(), text.to_owned())
    };
    vec![
        name("GB18030", b"\xd5\x5c\xd4\x5c\xd0\x5c^\xc8\xfd", "誠診衆^三"),
        name("GB18030", b"\x96\x7c\xac\x7c^\xd9\x7c", "東瑋^質"),
        name("GBK", b"\xd4\x5e\xbd\x5e^\xab\x5e", "証絕^玘"),
        name(
            "\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
        name(
            "ISO 2022 IR 13\\ISO 2022 IR 87",
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
        ),
        name(
            "\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            "Hong^Gildong=洪^吉洞=홍^길동",
        ),
        name(
            "\\ISO 2022 IR 58",
            b"Wang^XiaoDong=\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xb6\xab",
            "Wang^XiaoDong=王^小东",
        ),
        name("ISO_IR 144", b"\xbb\xee\xda^\xdc\xd1\xe3", "Люк^мбу"),
    ]
}

/// The name in every file of the reference material, read by an independent reader.
fn names_of_the_material(reference: &Path, python: &Path) -> Vec<Name> {
    let mut list = Command::new(python);
    list.arg(script()).arg("list").arg(reference.join("material/dicom/pydicom_charset_files"));
    let output = list.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let name = |line: &str| {
        let mut parts = line.split('\t');
        let charset = parts.next().unwrap().to_owned();
        let hexadecimal = parts.next().unwrap();
        let byte = |at| u8::from_str_radix(hexadecimal.get(at..at + 2).unwrap(), 16).unwrap();
        let bytes = (0..hexadecimal.len()).step_by(2).map(byte).collect();
        (charset, bytes, parts.next().unwrap().to_owned())
    };
    let names: Vec<Name> = text.lines().map(name).collect();
    assert!(names.len() > 10, "{text} {}", String::from_utf8_lossy(&output.stderr));
    names
}

fn script() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("it/charset_names.py")
}

/// The file with another character set and another name of the patient, already encoded.
fn with_name(file: &[u8], charset: &str, name: &[u8]) -> Vec<u8> {
    let file = with_value(file, *b"\x08\x00\x05\x00CS", charset.as_bytes());
    with_value(&file, *b"\x10\x00\x10\x00PN", name)
}

/// The file with another value of an element. `tag` is the tag and the VR of the element.
fn with_value(file: &[u8], tag: [u8; 6], value: &[u8]) -> Vec<u8> {
    let at = file.windows(6).position(|it| it == tag).unwrap();
    let length = usize::from(u16::from_le_bytes([file[at + 6], file[at + 7]]));
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(b' ');
    }
    let length_bytes = u16::try_from(value.len()).unwrap().to_le_bytes();
    [&file[..at + 6], &length_bytes, &value, &file[at + 8 + length..]].concat()
}

/// Sends a study for each name.
async fn send_all(hospital: &Hospital, names: &[Name]) {
    for (number, (charset, bytes, _)) in names.iter().enumerate() {
        let phantom = Phantom {
            patient_id: format!("N{number}"),
            seed: format!("name {number}"),
            accession: String::new(),
            slices: 2,
            size: 64,
            pixel: 6.0,
            ..Phantom::default()
        };
        let files: Vec<Vec<u8>> =
            phantom.files().iter().map(|it| with_name(it, charset, bytes)).collect();
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        hospital.modality().store(&files).await.unwrap();
    }
}

/// Asserts that a message in UTF-8 and a message in GB 18030 contain the name.
fn check_messages(utf8: &[u8], gb: &[u8], charset: &str, name: &str) {
    let text = std::str::from_utf8(utf8).unwrap();
    for group in name.split('=').filter(|it| !it.is_empty()) {
        // HL7 orders the components after the third differently, but no name has that many.
        assert!(text.contains(group.trim_end_matches('^')), "{charset} {name}: {text}");
    }
    let decoded = encoding::hl7::charset::Hl7Charset::parse(
        "GB 18030-2000",
        encoding::hl7::charset::Hl7Charset::Utf8,
    );
    let decoded = decoded.unwrap().decode(gb);
    assert!(
        decoded.is_lossless && decoded.text.contains(name.split('=').next().unwrap()),
        "{charset} {name}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn din_73_names_come_out_of_every_output_as_they_went_in() {
    names_come_out_as_they_went_in(&names_of_the_standard()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn din_73_names_of_the_reference_material_come_out_as_they_went_in() {
    let Some((reference, python)) = reference_and_python() else { return };
    names_come_out_as_they_went_in(&names_of_the_material(&reference, &python)).await;
}

/// Sends a study for each name. Compares the names that were sent with the names that independent
/// readers find in every output.
async fn names_come_out_as_they_went_in(names: &[Name]) {
    let scratch = system_tests::Scratch::default();
    let gb = Ehr::open(&scratch.path("gb"), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let registry = FhirServer::open("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let destination = format!(
        "  gb: {{ mllp: {{ address: \"{}\", character_set: GB 18030-2000 }}, allow_unverified: true }}\n  \
         registry: {{ fhir: {{ url: \"{}\" }}, allow_unverified: true }}\n",
        gb.address(),
        registry.url(),
    );
    let options = SiteOptions {
        workflows: &[("names", WORKFLOW)],
        destinations: &destination,
        ..SiteOptions::default()
    };
    let hospital = Hospital::with(options).await;
    send_all(&hospital, names).await;
    let runs = hospital.ended_runs(names.len()).await;
    assert!(runs.iter().all(|it| it["status"] == "completed"), "{runs:?}");
    eventually("all messages", async || (gb.received_raw().len() == 2 * names.len()).then_some(()))
        .await;

    let out = scratch.path("out");
    std::fs::create_dir_all(&out).unwrap();
    let mut expected = String::new();
    for (number, (charset, _, name)) in names.iter().enumerate() {
        let pid = format!("PID|1||N{number}^");
        let utf8 = find(&hospital.ehr.received_raw(), &[&pid]);
        let oru = find(&gb.received_raw(), &[&pid, "ORU^R01"]);
        let mdm = find(&gb.received_raw(), &[&pid, "MDM^T02"]);
        let bundle = find(&registry.received(), &[&format!("\"value\": \"N{number}\"")]);
        check_messages(&utf8, &oru, charset, name);
        std::fs::write(out.join(format!("N{number}.utf8.hl7")), utf8).unwrap();
        std::fs::write(out.join(format!("N{number}.gb.hl7")), oru).unwrap();
        std::fs::write(out.join(format!("N{number}.mdm.hl7")), mdm).unwrap();
        std::fs::write(out.join(format!("N{number}.json")), bundle).unwrap();
        _ = writeln!(expected, "N{number}\t{name}");
    }
    std::fs::write(out.join("expected.tsv"), expected).unwrap();
    let mut check = Command::new(python());
    let output = check.arg(script()).arg("check").args([&out, &hospital.scratch.path("pacs")]);
    let output = output.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let summary = format!("{} names, 0 wrong", names.len());
    assert!(text.contains(&summary), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// The first message that contains all of these texts, which are ASCII.
fn find(messages: &[Vec<u8>], texts: &[&str]) -> Vec<u8> {
    let contains =
        |message: &[u8], text: &str| message.windows(text.len()).any(|it| it == text.as_bytes());
    let mut messages = messages.iter();
    messages.find(|it| texts.iter().all(|text| contains(it, text))).unwrap().clone()
}
