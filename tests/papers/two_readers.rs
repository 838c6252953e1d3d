//! Accuracy of both recognitions of print, and of the rows on which they agree (PAP-31, PAP-68).
//! Needs the models that `cargo verify` downloads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use evaluation::documents::{Counts, Row, compare, match_rows};
use inference::{ModelStore, page_reader};
use lab_report_parsing::{TwoReadings, read_twice};
use laboratory_pages::{Distortion, as_jpeg, distorted, report, scanned, turned};
use system_tests::Scratch;

use crate::{POSITIONS, material_truth, number, paper_truth, row};

/// Lower bound of F1 by PP-OCR, on scans that a person can read.
const F1_MIN: f64 = 0.985;

/// Lower bound of the share of certain rows that are right.
const RIGHT_MIN: f64 = 0.997;

/// Lower bound of the share of rows that are certain, on generated reports in all positions.
const CERTAIN_MIN: f64 = 0.85;

/// A page to be read, with its truth.
struct Case {
    name: String,
    position: &'static str,
    jpeg: Vec<u8>,
    truth: Vec<Row>,
}

/// How pages of one position were read.
#[derive(Default)]
struct Tally {
    pages: usize,
    letters: Vec<Counts>,
    ocr: Vec<Counts>,
    /// Rows on the paper.
    rows: usize,
    /// Rows that are certain.
    certain: usize,
    /// Rows that are certain and not what is on the paper.
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, case: &Case, read: &TwoReadings) {
        let rows = |it: &[[String; 4]]| -> Vec<Row> {
            it.iter().map(|[a, b, c, d]| row([a.as_str(), b, c, d])).collect()
        };
        let certain = rows(&read.certain);
        let matched = match_rows(&certain, &case.truth);
        let is_right =
            |at: usize| matched.iter().any(|it| it.first == at && it.differing.is_empty());
        let wrong = certain.iter().enumerate().filter(|(at, _)| !is_right(*at));
        self.wrong.extend(wrong.map(|(_, it)| format!("{}: {it:?}", case.name)));
        self.pages += 1;
        self.letters.push(compare(&rows(&read.by_letters), &case.truth));
        self.ocr.push(compare(&rows(&read.by_ocr), &case.truth));
        self.rows += case.truth.len();
        self.certain += certain.len();
    }

    fn print(&self, name: &str) {
        let f1 = |it: &[Counts]| Counts::sum(it).score().f1;
        let right = self.right();
        println!(
            "{name:14} {} pages, {} rows: F1 Tesseract {:.4}, PP-OCR {:.4}; certain {:.3}, of these \
             right {right:.4}",
            self.pages,
            self.rows,
            f1(&self.letters),
            f1(&self.ocr),
            self.certain as f64 / self.rows as f64
        );
        for wrong in &self.wrong {
            println!("  certain and wrong: {wrong}");
        }
    }

    /// The share of certain rows that are right.
    fn right(&self) -> f64 {
        1.0 - self.wrong.len() as f64 / self.certain.max(1) as f64
    }

    /// Fails if a score is below its bound.
    fn check(&self, name: &str) {
        let f1 = Counts::sum(&self.ocr).score().f1;
        assert!(f1 >= F1_MIN, "{name}: F1 {f1:.4}");
        assert!(self.right() >= RIGHT_MIN, "{name}: {:?}", self.wrong);
    }
}

/// The folder with the files of PP-OCR, imported from the published wheel as a site does it.
pub(crate) fn imported_models(scratch: &Scratch) -> Option<PathBuf> {
    let wheel = system_tests::paper_models()?;
    let store = ModelStore::new(scratch.path("models"));
    page_reader::import(&store, &wheel).unwrap();
    Some(store.checkpoint(page_models::NAME))
}

/// Reads cases with as many threads as there are processors.
fn read_all(cases: &[Case], models: &Path) -> BTreeMap<&'static str, Tally> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(BTreeMap::<&str, Tally>::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let read = read_twice(&case.jpeg, "image/jpeg", models).unwrap();
                    found.lock().unwrap().entry(case.position).or_default().add(case, &read);
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// Prints the scores of all positions, and fails if one is below its bound.
fn check_all(found: &BTreeMap<&str, Tally>) {
    for (position, tally) in found {
        tally.print(position);
    }
    for (position, tally) in found {
        tally.check(position);
    }
}

/// These positions; all there are, where a number of reports is named.
fn positions(default: &[&str]) -> Vec<(&'static str, Distortion)> {
    let is_all = number("ISOCENTER_PAPERS").is_some();
    POSITIONS.into_iter().filter(|(name, _)| is_all || default.contains(name)).collect()
}

/// PAP-31, PAP-68 on scans of the reference material.
#[test]
fn pap_31_two_readers_of_the_material_agree_on_what_is_right() {
    let Some(reference) = system_tests::reference() else { return };
    let scratch = Scratch::default();
    let Some(models) = imported_models(&scratch) else { return };
    let folder = reference.join("material/documents/lab_reports");
    let mut cases = Vec::new();
    for name in ["lab01", "lab03"] {
        let pdf = std::fs::read(folder.join(format!("{name}_scan.pdf"))).unwrap();
        let page = scanned(&pdf, 150, &scratch.path(""));
        for (position, distortion) in positions(&["scan", "warp"]) {
            let jpeg = as_jpeg(&turned(&page, distortion, 7));
            let truth = material_truth(&folder, name);
            cases.push(Case { name: format!("{name} {position}"), position, jpeg, truth });
        }
    }
    check_all(&read_all(&cases, &models));
    let again = || read_twice(&cases[0].jpeg, "image/jpeg", &models).unwrap();
    assert_eq!(again(), again(), "the same page is read alike each time");
}

/// PAP-31, PAP-68 on generated reports: one of each layout, or as many as `ISOCENTER_PAPERS` names.
#[test]
fn pap_31_two_readers_of_generated_reports_agree_on_what_is_right() {
    let scratch = Scratch::default();
    let Some(models) = imported_models(&scratch) else { return };
    let first = number("ISOCENTER_PAPERS_SEED").unwrap_or(1);
    let count = number("ISOCENTER_PAPERS").unwrap_or(laboratory_pages::Layout::ALL.len() as u64);
    let mut cases = Vec::new();
    for seed in first..first + count {
        let paper = report(seed);
        let page = scanned(&paper.pdf, 200, &scratch.path(""));
        for (position, distortion) in positions(&["scan"]) {
            let jpeg = as_jpeg(&distorted(&page, distortion, seed));
            let truth = paper_truth(&paper);
            cases.push(Case { name: format!("{seed} {position}"), position, jpeg, truth });
        }
    }
    let found = read_all(&cases, &models);
    check_all(&found);
    let certain: usize = found.values().map(|it| it.certain).sum();
    let rows: usize = found.values().map(|it| it.rows).sum();
    assert!(certain as f64 >= CERTAIN_MIN * rows as f64, "{certain} of {rows} rows are certain");
}
