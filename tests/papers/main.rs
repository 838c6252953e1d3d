//! Accuracy of reading laboratory reports on paper without the model, by the protocol of
//! `MedDocBench` (PAP-68).
//!
//! `ISOCENTER_PAPERS` sets the number of generated reports, each read in every position, and
//! `ISOCENTER_PAPERS_SEED` their first seed. By default one report of each layout is read, in some
//! positions.
#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by a panic, and prints its scores for the reader"
)]

mod doubts;
mod two_readers;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use evaluation::documents::{Counts, Row, compare, macro_average};
use image::GrayImage;
use imaging::Picture;
use lab_report_parsing::{Flaw, page_position, read};
use laboratory_pages::{
    Damage, Distortion, Layout, Paper, PaperRow, as_jpeg, corners_of, damaged, distorted, report,
    scanned, turned,
};
use serde_json::Value;
use system_tests::Scratch;

/// Positions of a page on the glass or before the camera, with their names in the output.
const POSITIONS: [(&str, Distortion); 7] = [
    ("scan", Distortion::None),
    ("90", Distortion::Quarters(1)),
    ("180", Distortion::Quarters(2)),
    ("270", Distortion::Quarters(3)),
    ("+7", Distortion::Lean(7.0)),
    ("-7", Distortion::Lean(-7.0)),
    ("warp", Distortion::Warp),
];

/// The smallest acceptable F1: for text, for scans, and for scans that are rotated or warped.
fn floor(position: &str) -> f64 {
    match position {
        "pdf" => 0.98,
        "scan" => 0.90,
        _ => 0.85,
    }
}

fn row([name, result, reference, unit]: [&str; 4]) -> Row {
    let [entry_name, result, reference, unit] = [name, result, reference, unit].map(str::to_owned);
    Row { entry_name, result, reference, unit }
}

/// Compares the rows read from a file with the truth. An unreadable file has no rows.
fn counts(bytes: &[u8], media_type: &str, truth: &[Row]) -> Counts {
    let rows = read(bytes, media_type).unwrap_or_default();
    let rows: Vec<Row> = rows.iter().map(|[a, b, c, d]| row([a.as_str(), b, c, d])).collect();
    compare(&rows, truth)
}

/// The counts of all documents, by position.
type CountsByPosition = BTreeMap<String, Vec<Counts>>;

/// Prints micro and macro averages. Fails if a micro F1 is below its floor.
fn check_scores(found: &CountsByPosition) {
    for (position, all) in found {
        let micro = Counts::sum(all).score();
        let average = macro_average(all);
        println!(
            "{position:5} {} documents: F1 {:.4} (precision {:.4}, recall {:.4}), macro F1 {:.4}",
            all.len(),
            micro.f1,
            micro.precision,
            micro.recall,
            average.f1
        );
        assert!(micro.f1 >= floor(position), "{position}: {:.4}", micro.f1);
    }
}

/// The number in an environment variable.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The true rows of a generated report.
fn paper_truth(paper: &Paper) -> Vec<Row> {
    let cells = |it: &PaperRow| row([&it.name, &it.result, &it.reference, &it.unit]);
    paper.rows.iter().map(cells).collect()
}

/// The true rows of a report of the reference material.
fn material_truth(folder: &Path, name: &str) -> Vec<Row> {
    let text = fs::read(folder.join(format!("{name}.truth.json"))).unwrap();
    let truth: Value = serde_json::from_slice(&text).unwrap();
    let cell = |it: &Value, key: &str| it[key].as_str().unwrap().to_owned();
    let cells = |it: &Value| ["name", "value", "ref", "unit"].map(|key| cell(it, key));
    let rows = truth["observations"].as_array().unwrap().iter().map(cells);
    rows.map(|[a, b, c, d]| row([&a, &b, &c, &d])).collect()
}

/// Reads a generated report as text, as a scan, and in one other position, or in all of them.
fn read_in_positions(seed: u64, are_all: bool) -> Vec<(&'static str, Counts)> {
    let scratch = Scratch::default();
    let paper = report(seed);
    let truth = paper_truth(&paper);
    let mut found = vec![("pdf", counts(&paper.pdf, "application/pdf", &truth))];
    let page = scanned(&paper.pdf, 200, &scratch.path(""));
    let other = 1 + usize::try_from(seed).unwrap() % (POSITIONS.len() - 1);
    for (index, (position, distortion)) in POSITIONS.iter().enumerate() {
        if are_all || index == 0 || index == other {
            let jpeg = as_jpeg(&distorted(&page, *distortion, seed));
            let position = if are_all || index == 0 { position } else { "turned" };
            found.push((position, counts(&jpeg, "image/jpeg", &truth)));
        }
    }
    found
}

/// PAP-68 on generated reports in six layouts, Chinese and English.
#[test]
fn pap_68_generated_reports_are_read() {
    let count = number("ISOCENTER_PAPERS");
    let first = number("ISOCENTER_PAPERS_SEED").unwrap_or(1);
    let next = AtomicU64::new(first);
    let end = first + count.unwrap_or(Layout::ALL.len() as u64);
    let found = Mutex::new(CountsByPosition::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    for (position, counts) in read_in_positions(seed, count.is_some()) {
                        println!("{seed} {position} {counts:?}");
                        let mut found = found.lock().unwrap();
                        found.entry(position.to_owned()).or_default().push(counts);
                    }
                }
            });
        }
    });
    check_scores(&found.into_inner().unwrap());
}

/// PAP-68 on the reports of the reference material, and on their scans in every position.
#[test]
fn pap_68_reports_of_the_material_are_read() {
    let Some(reference) = system_tests::reference() else { return };
    let folder = reference.join("material/documents/lab_reports");
    let truth = |name: &str| material_truth(&folder, name);
    let mut found = CountsByPosition::new();
    for name in ["lab00", "lab02", "lab04"] {
        let pdf = fs::read(folder.join(format!("{name}.pdf"))).unwrap();
        found.entry("pdf".to_owned()).or_default().push(counts(
            &pdf,
            "application/pdf",
            &truth(name),
        ));
    }
    let scratch = Scratch::default();
    for name in ["lab01", "lab03"] {
        let truth = truth(name);
        let pdf = fs::read(folder.join(format!("{name}_scan.pdf"))).unwrap();
        let page = scanned(&pdf, 150, &scratch.path(""));
        for (position, distortion) in POSITIONS {
            let counts = match distortion {
                Distortion::None => counts(&pdf, "application/pdf", &truth),
                _ => counts(&as_jpeg(&turned(&page, distortion, 7)), "image/jpeg", &truth),
            };
            found.entry(position.to_owned()).or_default().push(counts);
        }
    }
    check_scores(&found);
}

fn picture(page: &GrayImage) -> Picture {
    let rgb = page.as_raw().iter().flat_map(|it| [*it; 3]).collect();
    Picture::new(page.width(), page.height(), rgb).unwrap()
}

/// PAP-30: the rotation of a page is found to half a degree, and its corners to a hundredth of its
/// width.
#[test]
fn pap_30_pages_are_turned_upright_levelled_and_cut_out() {
    let scratch = Scratch::default();
    for seed in [2, 3] {
        let page = scanned(&report(seed).pdf, 150, &scratch.path(""));
        for (position, distortion) in POSITIONS {
            let photo = distorted(&page, distortion, seed);
            let found = page_position(&picture(&photo)).unwrap();
            assert!(found.rest.abs() < 0.5, "{seed} {position}: {found:?}");
            let (quarters, lean) = match distortion {
                Distortion::Quarters(it) => (4 - it, 0.0),
                Distortion::Lean(it) => (0, f64::from(it)),
                Distortion::None | Distortion::Warp => (0, 0.0),
            };
            assert_eq!(found.quarters, quarters, "{seed} {position}");
            assert!((found.lean - lean).abs() < 0.5, "{seed} {position}: {found:?}");
            let is_warped = distortion == Distortion::Warp;
            assert_eq!(found.corners.is_some(), is_warped, "{seed} {position}");
            let Some(corners) = found.corners else { continue };
            let mut rng = fastrand::Rng::with_seed(seed);
            let (true_corners, _) = corners_of(page.width(), page.height(), &mut rng);
            for (a, b) in corners.iter().zip(true_corners) {
                let error = (a.0 - b.0).hypot(a.1 - b.1) / page.width() as f32;
                assert!(error < 0.01, "{seed}: a corner is off by {error} of the width");
            }
        }
    }
}

/// PAP-36: each kind of damage is reported by its name, and a good scan has none.
#[test]
fn pap_36_what_is_wrong_with_a_picture_is_said() {
    let scratch = Scratch::default();
    let page = scanned(&report(3).pdf, 200, &scratch.path(""));
    let flaws = |page: &GrayImage| page_position(&picture(page)).unwrap().flaws;
    let scan = distorted(&page, Distortion::None, 3);
    assert_eq!(flaws(&scan), []);
    assert_eq!(flaws(&distorted(&page, Distortion::Quarters(1), 3)), [Flaw::Turned]);
    assert_eq!(flaws(&distorted(&page, Distortion::Warp, 3)), [Flaw::Warped]);
    for (damage, flaw) in [
        (Damage::Cropped, Flaw::Cropped),
        (Damage::Blurred, Flaw::Blurred),
        (Damage::Shaded, Flaw::Shaded),
        (Damage::Pale, Flaw::Pale),
        (Damage::Folded, Flaw::Folded),
        (Damage::Coarse, Flaw::Coarse),
    ] {
        let found = flaws(&damaged(&scan, damage));
        assert!(found.contains(&flaw), "{damage:?}: {found:?}");
    }
}
