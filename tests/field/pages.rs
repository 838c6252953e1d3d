//! Laboratory reports on paper: PDF of laboratories, and pictures in DICOM.

use std::collections::BTreeMap;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use system_tests::Scratch;

use crate::case::run;
use crate::images::{python_for, sent};
use crate::message::{only_send, reasons, settled};
use crate::site::Kind;

/// What is right for a page: these rows, and no others; or a reason, if there are none.
type Rows = &'static [(&'static str, &'static str)];

const FOUR: Rows =
    &[("Leukocytes", "12.3"), ("Hemoglobin", "135"), ("Platelets", "210"), ("Sodium", "140")];

const FIVE: Rows = &[
    ("Leukocytes", "12.3"),
    ("Neutrophils", "8.1"),
    ("Hemoglobin", "135"),
    ("Sodium", "140"),
    ("Potassium", "4.1"),
];

const THREE: Rows = &[("Leukocytes", "12.3"), ("Hemoglobin", "135"), ("Platelets", "210")];

/// The PDF of the case, and the rows of each. A row may be doubted.
const PAGES: [(&str, Rows); 33] = [
    ("0-plain", FOUR),
    ("a-owner-password", FOUR),
    ("b-user-password", &[]),
    ("c-rotate-90", FOUR),
    ("d-drawn-sideways", FOUR),
    (
        "e-comma-decimals",
        &[
            ("Leukozyten", "12.3"),
            ("Hämoglobin", "13.5"),
            ("Thrombozyten", "210"),
            ("Kalium", "4.1"),
            ("CRP", "<0.5"),
        ],
    ),
    (
        "f-two-columns",
        &[
            ("Leukocytes", "12.3"),
            ("Hemoglobin", "135"),
            ("Platelets", "210"),
            ("Sodium", "140"),
            ("Potassium", "4.1"),
            ("Chloride", "101"),
            ("Urea", "5.2"),
        ],
    ),
    ("g-two-pages", FOUR),
    ("h-flag-column", &[("Leukocytes", "12.3"), ("Hemoglobin", "135"), ("Platelets", "100")]),
    ("i-earlier-results", THREE),
    ("j-watermark", FOUR),
    ("k-hidden-text", FOUR),
    (
        "l-sections-and-comments",
        &[("Leukocytes", "12.3"), ("Neutrophils", "8.1"), ("Hemoglobin", "135"), ("Sodium", "140")],
    ),
    ("m-junk-before", FOUR),
    ("n-cut-off", FOUR),
    ("o-not-a-pdf", &[]),
    ("1-comment-line", FIVE),
    ("2-note-line", FIVE),
    ("3-section-line", FIVE),
    ("4-two-line-reference", FIVE),
    (
        "5-indented",
        &[("Leukocytes", "12.3"), ("Neutrophils", "8.1"), ("Hemoglobin", "135"), ("Sodium", "140")],
    ),
    (
        "6-blank-gap",
        &[("Leukocytes", "12.3"), ("Neutrophils", "8.1"), ("Hemoglobin", "135"), ("Sodium", "140")],
    ),
    ("7-long-comment-below-row", FIVE),
    ("8-method-line", FIVE),
    (
        "9-text-result",
        &[
            ("Leukocytes", "12.3"),
            ("Urine culture", "No growth after 48 h"),
            ("Hemoglobin", "135"),
            ("Blood group", "A positive"),
            ("Sodium", "140"),
        ],
    ),
    ("A-oldest-first", THREE),
    ("B-previous-column", THREE),
    (
        "C-stars-and-arrows",
        &[
            ("Leukocytes", "12.3"),
            ("Hemoglobin", "135"),
            ("Sodium", "<120"),
            ("Troponin", ">10000"),
            ("ANA", "1:640"),
        ],
    ),
    (
        "D-wrapped-name",
        &[("Glomerular filtration rate (CKD-EPI)", "58"), ("Sodium", "140"), ("Potassium", "4.1")],
    ),
    (
        "E-repeated-test",
        &[
            ("Glucose fasting", "5.1"),
            ("Glucose 60 min", "11.2"),
            ("Glucose 120 min", "8.9"),
            ("Glucose", "6.0"),
            ("Glucose", "6.4"),
        ],
    ),
    (
        "F-page-footer-in-table",
        &[("Leukocytes", "12.3"), ("Neutrophils", "8.1"), ("Hemoglobin", "135"), ("Sodium", "140")],
    ),
    // Two patients on one paper: nothing may be read as if it were of one.
    ("G-two-patients", &[]),
    ("H-page-two-without-headings", FIVE),
];

/// A row as it was read.
struct Found {
    name: String,
    result: String,
    is_doubted: bool,
}

/// The rows that the runs of a message or study found.
fn found(runs: &[Value]) -> Vec<Found> {
    let outputs = runs.iter().filter_map(|it| it["outputs"].as_object());
    let rows = outputs.flat_map(|it| it.values()).filter_map(|it| it["laboratory"].as_array());
    let row = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        Found {
            name: text("entry_name"),
            result: text("result"),
            is_doubted: !text("doubt").is_empty(),
        }
    };
    rows.flatten().map(row).collect()
}

/// Whether these are the rows of the page: each is there, or doubted; none is wrong without doubt.
fn are_right(found: &[Found], right: Rows) -> bool {
    let form = |it: &str| it.replace([' ', '*'], "").replace(',', ".");
    let is_of = |it: &Found, row: &(&str, &str)| {
        form(&it.name) == form(row.0) && form(&it.result) == form(row.1)
    };
    let all_there = right.iter().all(|row| found.iter().any(|it| is_of(it, row)));
    let is_wrong = |it: &Found| !it.is_doubted && !right.iter().any(|row| is_of(it, row));
    let has_wrong = found.iter().any(is_wrong);
    let all_doubted = !found.is_empty() && found.iter().all(|it| it.is_doubted);
    (all_there && !has_wrong) || all_doubted
}

fn shown(found: &[Found]) -> String {
    let rows = found.iter().map(|it| {
        format!("{} = {}{}", it.name, it.result, if it.is_doubted { " (doubted)" } else { "" })
    });
    rows.collect::<Vec<_>>().join(", ")
}

/// What is unusual about the messages of an answer.
fn flags(why: &Value) -> Vec<String> {
    let messages = why["messages"].as_array().into_iter().flatten();
    let flags = messages.filter_map(|it| it["flags"].as_array()).flatten();
    flags.filter_map(|it| it.as_str()).map(ToOwned::to_owned).collect()
}

#[test]
fn field_p01_lab_pdfs() {
    run(Kind::Hospital, "p01-lab-pdfs", async |site, case| {
        let hospital = &site.hospital;
        let scratch = Scratch::default();
        let mut make = python_for(site);
        let output =
            make.arg(case.folder.join("make.py")).arg(scratch.path("pdf")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let pages: BTreeMap<&str, Rows> = PAGES.into();
        let files = system_tests::files(&scratch.path("pdf"));
        let known = files.iter().filter_map(|it| it.file_stem()?.to_str());
        let unknown: Vec<&str> = known.filter(|it| !pages.contains_key(it)).collect();
        case.check("no other variant", unknown.is_empty(), format!("{unknown:?} is not judged"));
        for name in pages.keys() {
            let pdf = fs::read(scratch.path(&format!("pdf/{name}.pdf"))).unwrap();
            let id = format!("P01{}", &name[..1]);
            let message = format!(
                "MSH|^~\\&|LAB|HOSP|ISO|HOSP|20260103101500||ORU^R01|{id}|P|2.5.1\n\
                 PID|1||{id}^^^HOSP^MR||DOE^JANE||19800101|F\nOBR|1|P|F|PDF^Report^L\n\
                 OBX|1|ED|PDF^Report^L||^application^pdf^Base64^{}||||||F\n",
                STANDARD.encode(pdf)
            );
            only_send(hospital, message.as_bytes()).await;
        }
        for (name, right) in pages {
            let why = settled(hospital, &format!("P01{}", &name[..1])).await;
            let runs = why["message_runs"].as_array().cloned().unwrap_or_default();
            let found = found(&runs);
            let mut told: Vec<String> = runs.iter().flat_map(reasons).collect();
            told.extend(flags(&why));
            let told = told.join("; ");
            // German headings need not be understood.
            let may_be_refused = right.is_empty() || name == "e-comma-decimals";
            let is_refused = may_be_refused && found.is_empty() && !told.is_empty();
            let is_read = !right.is_empty() && are_right(&found, right);
            let all_doubted = !found.is_empty() && found.iter().all(|it| it.is_doubted);
            let seen = format!("{}; {told}", shown(&found));
            case.check(name, is_refused || is_read || all_doubted, seen);
        }
    });
}

#[test]
fn field_p02_lab_pictures_in_dicom() {
    run(Kind::Hospital, "p02-lab-pictures-in-dicom", async |site, case| {
        let variants = sent(site, case).await;
        for variant in &variants.all {
            let runs: Vec<Value> = variant.runs().into_iter().cloned().collect();
            let found = found(&runs);
            let told = variant.told();
            let is_refused = found.is_empty() && !told.is_empty() && !told.contains("out of range");
            let must_be_read = ["0-rgb", "a-planar", "b-monochrome1", "f-ybr-full"]
                .contains(&variant.name.as_str());
            let is_right = are_right(&found, FOUR) || (is_refused && !must_be_read);
            case.check(&variant.name, is_right, format!("{}; {told}", shown(&found)));
        }
    });
}
