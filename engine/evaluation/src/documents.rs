//! How well a laboratory report was read: the protocol of `MedDocBench` (PAP-68).
//!
//! Both sides are brought to one form, rows are matched one to one by the similarity of their names, as well as
//! possible for the whole document, and then each of the four fields is right or wrong. The denominators are
//! four fields a row: of what was read for precision, of what there is for recall. No model judges.

use encoding::unit::{canonical, folded_text};
use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;

/// Names that are less alike than this are of different things.
const SIMILARITY_MIN: f64 = 0.5;

/// Similarities are matched as whole numbers of this fraction.
const SCALE: f64 = 10_000.0;

/// One row of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// What was measured.
    pub entry_name: String,
    /// What came out.
    pub result: String,
    /// What is usual.
    pub reference: String,
    /// In which unit.
    pub unit: String,
}

/// Fields that were read, that there are, and that agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Agree.
    pub right: u64,
    /// Were read.
    pub read: u64,
    /// There are.
    pub true_ones: u64,
}

/// Precision, recall and their harmonic mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// How much of what was read is right.
    pub precision: f64,
    /// How much of what there is was read.
    pub recall: f64,
    /// F1.
    pub f1: f64,
}

impl Counts {
    /// Counts of several documents taken together, for the micro average.
    #[must_use]
    pub fn sum(all: &[Self]) -> Self {
        all.iter().fold(Self::default(), |sum, it| Self {
            right: sum.right + it.right,
            read: sum.read + it.read,
            true_ones: sum.true_ones + it.true_ones,
        })
    }

    /// The score of these counts. Where nothing was to be read and nothing was, all is right.
    pub fn score(self) -> Score {
        let share = |of: u64| if of == 0 { 1.0 } else { self.right as f64 / of as f64 };
        if self.read == 0 && self.true_ones == 0 {
            return Score { precision: 1.0, recall: 1.0, f1: 1.0 };
        }
        let precision = if self.read == 0 { 0.0 } else { share(self.read) };
        let recall = if self.true_ones == 0 { 0.0 } else { share(self.true_ones) };
        let sum = precision + recall;
        let f1 = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        Score { precision, recall, f1 }
    }
}

/// The mean of the scores of documents: each counts the same, however long it is.
pub fn macro_average(documents: &[Counts]) -> Score {
    let scores: Vec<Score> = documents.iter().map(|it| it.score()).collect();
    let mean =
        |of: fn(&Score) -> f64| scores.iter().map(of).sum::<f64>() / (scores.len().max(1)) as f64;
    Score { precision: mean(|it| it.precision), recall: mean(|it| it.recall), f1: mean(|it| it.f1) }
}

/// Compares what was read of a document with what it says.
pub fn compare(read: &[Row], truth: &[Row]) -> Counts {
    let fields = |rows: &[Row]| rows.len() as u64 * 4;
    let right = matched(read, truth)
        .into_iter()
        .map(|(_, _, same)| same.into_iter().filter(|it| *it).count() as u64);
    Counts { right: right.sum(), read: fields(read), true_ones: fields(truth) }
}

/// Rows of both sides, each once, by their places, with the greatest similarity of names over all (Hungarian
/// method), and which of name, result, reference and unit agree. Among names that are the same, the one whose
/// other fields agree comes first.
pub fn matched(read: &[Row], truth: &[Row]) -> Vec<(usize, usize, [bool; 4])> {
    if read.is_empty() || truth.is_empty() {
        return Vec::new();
    }
    let read: Vec<Row> = read.iter().map(plain).collect();
    let truth: Vec<Row> = truth.iter().map(plain).collect();
    let is_turned = read.len() > truth.len();
    let (fewer, more) = if is_turned { (&truth, &read) } else { (&read, &truth) };
    let weights = Matrix::from_fn(fewer.len(), more.len(), |(row, column)| {
        fewer.get(row).zip(more.get(column)).map_or(0, |(a, b)| weight(a, b))
    });
    let (_, places) = kuhn_munkres(&weights);
    let pair = |(row, column): (usize, usize)| {
        let (a, b) = (fewer.get(row)?, more.get(column)?);
        let (first, second) = if is_turned { (column, row) } else { (row, column) };
        (weight(a, b) > 0).then(|| (first, second, same(a, b)))
    };
    places.into_iter().enumerate().filter_map(pair).collect()
}

fn same(a: &Row, b: &Row) -> [bool; 4] {
    [
        a.entry_name == b.entry_name,
        a.result == b.result,
        a.reference == b.reference,
        a.unit == b.unit,
    ]
}

fn weight(a: &Row, b: &Row) -> i64 {
    let alike = strsim::normalized_levenshtein(&a.entry_name, &b.entry_name);
    if alike < SIMILARITY_MIN {
        return 0;
    }
    let [_, more @ ..] = same(a, b);
    #[expect(clippy::cast_possible_truncation, reason = "between nought and the scale")]
    let whole = (alike * SCALE) as i64;
    whole * 4 + more.into_iter().map(i64::from).sum::<i64>()
}

/// A row in the one form: full-width letters folded, small letters, no spaces, units in UCUM, the marks of
/// ranges alike.
fn plain(row: &Row) -> Row {
    let bare = |text: &str| -> String {
        folded_text(text).to_lowercase().chars().filter(|it| !it.is_whitespace()).collect()
    };
    let range = |text: &str| bare(text).replace(['~', '–', '—', '～'], "-").replace("--", "-");
    Row {
        entry_name: bare(&row.entry_name),
        result: bare(&row.result),
        reference: range(&row.reference),
        unit: bare(&canonical(&row.unit).text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(all: &[[&str; 4]]) -> Vec<Row> {
        let row = |[name, result, reference, unit]: &[&str; 4]| Row {
            entry_name: (*name).to_owned(),
            result: (*result).to_owned(),
            reference: (*reference).to_owned(),
            unit: (*unit).to_owned(),
        };
        all.iter().map(row).collect()
    }

    const GOLD: [[&str; 4]; 3] = [
        ["WBC", "12.3", "3.5-9.5", "10^9/L"],
        ["HGB", "130", "115-150", "g/L"],
        ["PLT", "250", "125-350", "10^9/L"],
    ];

    #[track_caller]
    fn check(score: Score, precision: f64, recall: f64, f1: f64) {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(
            near(score.precision, precision) && near(score.recall, recall) && near(score.f1, f1),
            "{score:?}"
        );
    }

    /// The numbers of the protocol, as they were computed for it.
    #[test]
    fn pap_68_the_golden_numbers_are_met() {
        let mut read = GOLD;
        read[1][3] = "g/dL";
        read[2] = ["CRP", "5", "<10", "mg/L"];
        let a = compare(&rows(&read), &rows(&GOLD));
        check(a.score(), 0.583_333, 0.583_333, 0.583_333);
        let b = compare(&rows(&GOLD[..1]), &rows(&GOLD[..1]));
        let c = compare(&rows(&GOLD[..2]), &rows(&GOLD));
        let all = [a, b, c];
        check(Counts::sum(&all).score(), 0.791_667, 0.678_571, 0.730_769);
        check(macro_average(&all), 0.861_111, 0.75, 0.794_444);
    }

    #[test]
    fn pap_68_order_and_spelling_do_not_matter_and_doubled_names_are_matched_once() {
        let mut turned = GOLD;
        turned.reverse();
        turned[0][3] = "×10⁹/L";
        turned[2][2] = "3.5～9.5";
        assert_eq!(compare(&rows(&turned), &rows(&GOLD)).right, 12);
        let doubled = [GOLD[0], ["WBC", "1.0", "", ""], GOLD[0]];
        let found = compare(&rows(&doubled), &rows(&GOLD[..1]));
        assert_eq!((found.right, found.read, found.true_ones), (4, 12, 4));
        assert_eq!(compare(&[], &rows(&GOLD)).score(), Score::default());
        check(compare(&[], &[]).score(), 1.0, 1.0, 1.0);
    }
}
