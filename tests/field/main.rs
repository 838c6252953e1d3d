//! Faults from the field: every case folder of the reference material, and what its README says is
//! right.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod case;
mod documents;
mod headers;
mod images;
mod message;
mod nobody;
mod orders;
mod pages;
mod pixels;
mod receivers;
mod results;
mod site;
mod texts;
mod wire;

use std::fs;

use system_tests::{not_run, reference};

/// The cases that have a test.
const CASES: [&str; 36] = [
    "d01-rescale",
    "d02-padding",
    "d03-stored-bits",
    "d04-compression",
    "d05-geometry",
    "d06-dirty-headers",
    "d07-odd-encodings",
    "d08-odd-uids",
    "d09-character-set-names",
    "d10-private-sop-classes",
    "d11-associations",
    "d12-enhanced-ct",
    "d13-duplicate-instances",
    "h01-two-patients-in-one-oru",
    "h02-unit-with-bare-caret",
    "h03-status-of-observations",
    "h04-flags-without-range",
    "h05-panels-specimens-subids",
    "h06-authority-only-as-oid",
    "h07-cancellations",
    "h08-japanese-msh18",
    "h09-names-of-character-sets",
    "h10-documents-in-messages",
    "h11-reference-ranges",
    "h13-coded-results",
    "h14-escapes",
    "h15-mllp-framing",
    "h17-correction-of-a-result",
    "h18-order-number-of-two-systems",
    "h19-odd-headers",
    "p01-lab-pdfs",
    "p02-lab-pictures-in-dicom",
    "r01-receivers-of-messages",
    "r02-fhir-receivers",
    "r03-pacs-receivers",
    "s01-no-patient-sent-for-ever",
];

/// The folder with what the cases have in common.
const COMMON: &str = "lib";

/// A case folder without a test is listed as not run, with its name.
#[test]
fn field_every_case_has_a_test() {
    let Some(reference) = reference() else { return };
    let entries = fs::read_dir(reference.join("field")).unwrap();
    let folders = entries.map(|it| it.unwrap()).filter(|it| it.path().is_dir());
    for name in folders.filter_map(|it| it.file_name().into_string().ok()) {
        if name != COMMON && !CASES.contains(&name.as_str()) {
            not_run(&format!("the case {name} has no test"));
        }
    }
}
