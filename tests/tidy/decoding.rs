//! What came from outside is decoded in the decoder's process, not in the one that has keys and
//! database (SEC-24, decision 13).

use std::collections::BTreeSet;
use std::fs;

use crate::circles::without_tests;
use crate::{production_sources, root};

/// What decodes: functions and crates.
const DECODERS: &[&str] = &[
    "DeflateDecoder",
    "Picture::decode",
    "decode_pixel_data",
    "deflation::inflated",
    "dicom_object",
    "dicom_pixeldata",
    "document_reader",
    "encapsulated_document",
    "hayro",
    "inflated_header(",
    "object_reader",
    "rendering::",
    "segmentation_reader",
    "slice::read",
    "use image::",
];

/// Crates of which nothing is in the engine's process, or which are the decoders that the others
/// may not use.
const ELSEWHERE: &[&str] = &[
    // Decode; whoever calls them is looked at.
    "encoding",
    "imaging",
    // Plugins.
    "plugin-api",
    "plugin-toolkit",
    "pp-ocr",
    // The model's process.
    "citrus-v",
    "cpu-kernels",
    // Other systems, tests and development.
    "evaluation",
    "phantoms",
    "simulators",
    "xtask",
];

/// Files that name what decodes, and why they may.
const ALLOWED: &[(&str, &str)] = &[
    ("contracts/src/decoder.rs", "the trait that asks for it"),
    ("dimse/src/commitment_data.rs", "a request of the protocol, after our bounded reader"),
    ("inference/src/host.rs", "the process of the model"),
    ("orchestrator/src/header.rs", "calls the decoder"),
    ("plugin-host/src/decoder.rs", "calls the decoder"),
    ("plugin-host/src/decoder_child.rs", "the process of the decoder"),
    ("plugin-host/src/services.rs", "the process of a plugin"),
    ("report/src/dicom/dataset.rs", "writes objects"),
    ("report/src/dicom/validation.rs", "reads back what the engine wrote"),
    ("server/src/commands/model/run.rs", "`isocenter model run` has neither keys nor a database"),
    ("server/src/commands/workflow/matching.rs", "a command about files that a person names"),
    ("training-data/src/from_masks.rs", "`isocenter dataset` has neither keys nor a database"),
    ("training-data/src/swift.rs", "`isocenter dataset` has neither keys nor a database"),
    ("upkeep/src/export.rs", "calls the decoder"),
];

#[test]
fn sec_24_nothing_from_outside_is_decoded_in_the_engine_s_process() {
    let engine = root().join("engine");
    let mut unexpected = Vec::new();
    let mut used = BTreeSet::new();
    for path in production_sources() {
        let Ok(file) = path.strip_prefix(&engine) else { continue };
        let name = file.to_string_lossy().into_owned();
        if ELSEWHERE.iter().any(|it| name.split('/').next() == Some(*it)) {
            continue;
        }
        let text = without_tests(&fs::read_to_string(&path).unwrap());
        let found: Vec<&&str> = DECODERS.iter().filter(|it| text.contains(**it)).collect();
        if found.is_empty() || name.ends_with("fixture.rs") {
            continue;
        }
        match ALLOWED.iter().find(|(file, _)| *file == name) {
            Some((file, _)) => _ = used.insert(*file),
            None => unexpected.push(format!("{name} names {found:?}")),
        }
    }
    assert_eq!(unexpected, Vec::<String>::new(), "ask the decoder (`contracts::Decoder`) instead");
    let allowed: BTreeSet<&str> = ALLOWED.iter().map(|it| it.0).collect();
    let unused: Vec<_> = allowed.difference(&used).collect();
    assert!(unused.is_empty(), "{unused:?} need no exception any more");
}
