//! How many values are read wrongly without a doubt, and how many rows are doubted: generated pages
//! in ten layouts, half of them damaged (PAP-36).
//!
//! `ISOCENTER_PAGES` sets the number of pages of each half, `ISOCENTER_PAGES_SEED` the first seed,
//! and `ISOCENTER_PAGES_READERS` the readers, as in a workflow: `["letters"]`. Then every row is
//! printed, with what it should be. By default a few pages are read, and bounds hold.
#![expect(clippy::indexing_slicing, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use evaluation::documents::{Counts, Field, Row, compare, match_rows};
use lab_report_parsing::{Doubt, ReadRow, Reader, RowReader};
use laboratory_pages::{Condition, Layout, PaperRow, Sample, sample};
use system_tests::Scratch;

use crate::two_readers::imported_models;
use crate::{number, row};

/// Pages of each half that are read by default.
const PAGES: u64 = 6;

/// First seed by default.
const SEED: u64 = 41_000;

/// A page to be read.
#[derive(Clone, Copy, Debug)]
struct Planned {
    seed: u64,
    layout: Layout,
    condition: Condition,
}

/// As many pages that a person can read as damaged ones.
fn plan(count: u64, first: u64) -> Vec<Planned> {
    let halves = [Condition::MILD, Condition::DAMAGED].into_iter().zip([0, 500_000]);
    let pages = halves.flat_map(|(conditions, shift)| {
        (0..count).map(move |index| {
            let at = usize::try_from(index).unwrap();
            Planned {
                seed: first + shift + index,
                // Every layout comes in every condition.
                layout: Layout::SAMPLED[(at * 3 + at / 10) % Layout::SAMPLED.len()],
                condition: conditions[at % conditions.len()],
            }
        })
    });
    pages.collect()
}

/// What came of some pages.
#[derive(Clone, Debug, Default)]
struct Outcome {
    pages: u64,
    /// Rows on them that a person can read.
    readable: u64,
    /// Rows of these that were not read.
    lost: u64,
    /// Rows that were read.
    read: u64,
    /// Rows of these with a doubt.
    doubted: u64,
    /// Rows without a doubt and with a wrong result.
    wrong_results: u64,
    /// Rows without a doubt whose result is right, and something else is not.
    wrong_others: u64,
    /// Fields of the rows that a person can read.
    fields: Counts,
    /// Rows by the reasons of their doubts.
    reasons: BTreeMap<Doubt, u64>,
}

impl Outcome {
    fn add(&mut self, other: &Self) {
        self.pages += other.pages;
        self.readable += other.readable;
        self.lost += other.lost;
        self.read += other.read;
        self.doubted += other.doubted;
        self.wrong_results += other.wrong_results;
        self.wrong_others += other.wrong_others;
        self.fields = Counts::sum(&[self.fields, other.fields]);
        for (doubt, count) in &other.reasons {
            *self.reasons.entry(*doubt).or_default() += count;
        }
    }

    /// Counts the rows of a page.
    fn of(sample: &Sample, read: &[ReadRow], note: impl Fn(String)) -> Self {
        let cells = |it: &PaperRow| row([&it.name, &it.result, &it.reference, &it.unit]);
        let truth: Vec<Row> = sample.rows.iter().map(|it| cells(&it.row)).collect();
        let rows: Vec<Row> =
            read.iter().map(|it| row(it.cells.each_ref().map(|it| &**it))).collect();
        let matches = match_rows(&rows, &truth);
        let true_of = |at: usize| matches.iter().find(|it| it.first == at);
        let is_readable = |at: usize| sample.rows[at].is_readable;
        let mut outcome = Self { pages: 1, read: read.len() as u64, ..Self::default() };
        for (at, it) in read.iter().enumerate() {
            for doubt in &it.doubts {
                *outcome.reasons.entry(*doubt).or_default() += 1;
            }
            let matched = true_of(at);
            // What is cut off or covered may be missing.
            let may_lack = matched.is_some_and(|it| !is_readable(it.second));
            let is_wrong = |field: &Field| !(may_lack && value(*field, &rows[at]).is_empty());
            let wrong: Vec<Field> = match matched {
                Some(it) => it.differing.iter().copied().filter(is_wrong).collect(),
                None => vec![Field::Result],
            };
            let truth = matched.map(|it| &truth[it.second]);
            let state = if it.doubts.is_empty() { "WITHOUT A DOUBT" } else { "doubted" };
            note(format!("ROW {state} {wrong:?} {:?} {:?} of {truth:?}", it.cells, it.doubts));
            if !it.doubts.is_empty() {
                outcome.doubted += 1;
            } else if wrong.contains(&Field::Result) {
                outcome.wrong_results += 1;
            } else if !wrong.is_empty() {
                outcome.wrong_others += 1;
            }
        }
        let readable = (0..truth.len()).filter(|it| is_readable(*it));
        let expected: Vec<Row> = readable.map(|it| truth[it].clone()).collect();
        let is_counted = |at: &usize| true_of(*at).is_none_or(|it| is_readable(it.second));
        let counted = (0..rows.len()).filter(is_counted).map(|it| rows[it].clone());
        outcome.fields = compare(&counted.collect::<Vec<_>>(), &expected);
        outcome.readable = expected.len() as u64;
        let is_found = |at: usize| matches.iter().any(|it| it.second == at);
        let lost = (0..truth.len()).filter(|it| is_readable(*it) && !is_found(*it));
        outcome.lost = lost.count() as u64;
        outcome
    }

    fn line(&self) -> String {
        let Self { pages, readable, lost, read, doubted, wrong_results, wrong_others, .. } = self;
        let f1 = self.fields.score().f1;
        let share = self.share_doubted() * 100.0;
        format!(
            "{pages:5} {readable:8} {f1:6.3} {lost:5} {read:5} {doubted:7} {share:5.1} \
             {wrong_results:8} {wrong_others:8}"
        )
    }

    fn share_doubted(&self) -> f64 {
        self.doubted as f64 / self.read.max(1) as f64
    }
}

fn value(field: Field, row: &Row) -> &str {
    match field {
        Field::EntryName => &row.entry_name,
        Field::Result => &row.result,
        Field::Reference => &row.reference,
        Field::Unit => &row.unit,
    }
}

/// Reads all pages, on all processors.
fn read_all(planned: &[Planned], reader: &RowReader, is_told: bool) -> Vec<(Planned, Outcome)> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let scratch = Scratch::default();
                while let Some(page) = planned.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Planned { seed, layout, condition } = *page;
                    let sample = sample(seed, layout, condition, &scratch.path(""));
                    // A page that is refused has no rows.
                    let rows = reader.read(&sample.bytes, sample.media_type).unwrap_or_default();
                    let outcome = Outcome::of(&sample, &rows, |line| {
                        if is_told {
                            println!("{seed} {layout:?} {condition:?} {line}");
                        }
                    });
                    found.lock().unwrap().push((*page, outcome));
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// Prints a table by `group`, and returns its sums.
fn table<G: Ord + std::fmt::Debug>(
    outcomes: &[(Planned, Outcome)],
    group: impl Fn(&Planned) -> G,
) -> Outcome {
    println!(
        "\n{:16} pages readable     F1  lost  read doubted     %  results   others",
        "wrong, no doubt:"
    );
    let mut groups: BTreeMap<G, Outcome> = BTreeMap::new();
    let mut all = Outcome::default();
    for (page, outcome) in outcomes {
        groups.entry(group(page)).or_default().add(outcome);
        all.add(outcome);
    }
    for (name, outcome) in &groups {
        println!("{:16} {}", format!("{name:?}"), outcome.line());
    }
    println!("{:16} {}", "all", all.line());
    all
}

fn readers() -> Vec<Reader> {
    let text = std::env::var("ISOCENTER_PAGES_READERS").unwrap_or(r#"["letters"]"#.to_owned());
    serde_json::from_str(&text).unwrap()
}

/// PAP-36: what was read wrongly is doubted, and most rows are not.
#[test]
fn pap_36_wrong_values_are_doubted_and_most_rows_are_not() {
    let count = number("ISOCENTER_PAGES");
    let first = number("ISOCENTER_PAGES_SEED").unwrap_or(SEED);
    let planned = plan(count.unwrap_or(PAGES), first);

    let readers = readers();
    let scratch = Scratch::default();
    let models = readers.contains(&Reader::Ocr).then(|| imported_models(&scratch).unwrap());
    let reader = RowReader::new(&readers, models.as_deref()).unwrap();
    let outcomes = read_all(&planned, &reader, count.is_some());

    let is_mild = |it: &&(Planned, Outcome)| Condition::MILD.contains(&it.0.condition);
    let mild: Vec<_> = outcomes.iter().filter(is_mild).cloned().collect();
    let damaged: Vec<_> = outcomes.iter().filter(|it| !is_mild(it)).cloned().collect();
    table(&outcomes, |it| format!("{:?}", it.layout));
    let mild = table(&mild, |it| it.condition);
    let damaged = table(&damaged, |it| it.condition);
    println!("\nreasons on readable pages: {:?}", mild.reasons);
    println!("reasons on damaged pages: {:?}", damaged.reasons);
    let is_easy = |it: &&(Planned, Outcome)| {
        is_mild(it) && !matches!(it.0.condition, Condition::Coarse | Condition::Soft)
    };
    let mut easy = Outcome::default();
    outcomes.iter().filter(is_easy).for_each(|it| easy.add(&it.1));
    println!("without 100 dpi and soft ones {}", easy.line());
    let f1 = easy.fields.score().f1;
    let share = easy.share_doubted();
    assert!(f1 > 0.9, "F1 {f1:.3}");
    assert!(share < 0.25, "{share:.3} of the rows of pages that are read well are doubted");
    let wrong = mild.wrong_results + damaged.wrong_results;
    assert!(wrong * 50 <= mild.read + damaged.read, "{wrong} wrong results without a doubt");
}
