//! Scores of a laboratory report that was read: the protocol of `MedDocBench` (PAP-68).
//!
//! Both sides are normalized. Rows are matched one to one by the similarity of their names, with
//! the greatest sum over the whole document (Hungarian method); then each of the four fields is
//! correct or not. The denominators are four fields per row: of the rows read for precision, of the
//! true rows for recall. No model judges.

use encoding::laboratory::unit::{canonical, folded_text};
use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;

/// Lower bound of the similarity of the names of matched rows.
const SIMILARITY_MIN: f64 = 0.5;

/// Factor by which similarities become whole numbers for the matching.
const SCALE: f64 = 10_000.0;

/// A row of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Name of the entry.
    pub entry_name: String,
    /// Result, as printed.
    pub result: String,
    /// Reference range, as printed.
    pub reference: String,
    /// Unit, as printed.
    pub unit: String,
}

/// Numbers of fields: read, true, and correct.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Fields that were read correctly.
    pub correct: u64,
    /// Fields that were read.
    pub read: u64,
    /// Fields of the true rows.
    pub expected: u64,
}

/// Precision, recall and their harmonic mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Share of the fields read that are correct.
    pub precision: f64,
    /// Share of the true fields that were read correctly.
    pub recall: f64,
    /// Harmonic mean of both (F1).
    pub f1: f64,
}

impl Counts {
    /// The sum over several documents, for the micro average.
    #[must_use]
    pub fn sum(all: &[Self]) -> Self {
        all.iter().fold(Self::default(), |sum, it| Self {
            correct: sum.correct + it.correct,
            read: sum.read + it.read,
            expected: sum.expected + it.expected,
        })
    }

    /// The score of these counts. If there was nothing to read and nothing was read, the score is
    /// 1.
    pub fn score(self) -> Score {
        if self.read == 0 && self.expected == 0 {
            return Score { precision: 1.0, recall: 1.0, f1: 1.0 };
        }
        let precision = share(self.correct, self.read);
        let recall = share(self.correct, self.expected);
        let sum = precision + recall;
        let f1 = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        Score { precision, recall, f1 }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The mean of the scores of documents, each with the same weight (macro average).
pub fn macro_average(documents: &[Counts]) -> Score {
    let scores: Vec<Score> = documents.iter().map(|it| it.score()).collect();
    let mean =
        |of: fn(&Score) -> f64| scores.iter().map(of).sum::<f64>() / (scores.len().max(1)) as f64;
    Score { precision: mean(|it| it.precision), recall: mean(|it| it.recall), f1: mean(|it| it.f1) }
}

/// Compares the rows that were read from a document with its true rows.
pub fn compare(read: &[Row], truth: &[Row]) -> Counts {
    let fields = Field::ALL.len() as u64;
    let matched = match_rows(read, truth);
    Counts {
        correct: matched.iter().map(|it| fields - it.differing.len() as u64).sum(),
        read: read.len() as u64 * fields,
        expected: truth.len() as u64 * fields,
    }
}

/// A row of one side and the row of the other side that it was matched with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchedRows {
    /// Index of the row on the first side.
    pub first: usize,
    /// Index of the row on the second side.
    pub second: usize,
    /// The fields that differ after both sides were normalized.
    pub differing: Vec<Field>,
}

/// A field of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// [`Row::entry_name`].
    EntryName,
    /// [`Row::result`].
    Result,
    /// [`Row::reference`].
    Reference,
    /// [`Row::unit`].
    Unit,
}

impl Field {
    /// All fields, in the order of a report.
    pub const ALL: [Self; 4] = [Self::EntryName, Self::Result, Self::Reference, Self::Unit];

    fn value(self, row: &Row) -> &str {
        match self {
            Self::EntryName => &row.entry_name,
            Self::Result => &row.result,
            Self::Reference => &row.reference,
            Self::Unit => &row.unit,
        }
    }

    /// The fields in which two normalized rows differ.
    fn differing(a: &Row, b: &Row) -> Vec<Self> {
        Self::ALL.into_iter().filter(|it| it.value(a) != it.value(b)).collect()
    }
}

/// Matches the rows of two sides, each row at most once, with the greatest sum of the similarities
/// of names (Hungarian method). Among equal names, rows with more equal fields are preferred.
pub fn match_rows(read: &[Row], truth: &[Row]) -> Vec<MatchedRows> {
    if read.is_empty() || truth.is_empty() {
        return Vec::new();
    }
    let read: Vec<Row> = read.iter().map(normalized).collect();
    let truth: Vec<Row> = truth.iter().map(normalized).collect();
    // The method needs at least as many columns as rows.
    let is_swapped = read.len() > truth.len();
    let (fewer, more) = if is_swapped { (&truth, &read) } else { (&read, &truth) };
    let weights = Matrix::from_fn(fewer.len(), more.len(), |(row, column)| {
        fewer.get(row).zip(more.get(column)).map_or(0, |(a, b)| weight(a, b))
    });
    let (_, columns) = kuhn_munkres(&weights);
    let mut matched = Vec::new();
    for (row, column) in columns.into_iter().enumerate() {
        let Some((a, b)) = fewer.get(row).zip(more.get(column)) else { continue };
        if weight(a, b) > 0 {
            let (first, second) = if is_swapped { (column, row) } else { (row, column) };
            matched.push(MatchedRows { first, second, differing: Field::differing(a, b) });
        }
    }
    matched
}

/// The weight of a match: the similarity of the names, then the number of other fields that are
/// equal. 0 for rows that must not be matched.
fn weight(a: &Row, b: &Row) -> i64 {
    let similarity = strsim::normalized_levenshtein(&a.entry_name, &b.entry_name);
    if similarity < SIMILARITY_MIN {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "between zero and the scale")]
    let similarity = (similarity * SCALE) as i64;
    let others = [Field::Result, Field::Reference, Field::Unit];
    let equal = others.into_iter().filter(|it| it.value(a) == it.value(b));
    similarity * 4 + equal.map(|_| 1).sum::<i64>()
}

/// A row in the form in which rows are compared: full-width characters folded, lower case, no white
/// space, units in UCUM, one dash for all marks of ranges.
fn normalized(row: &Row) -> Row {
    let dashes = ['~', '–', '—', '～'];
    Row {
        entry_name: normalized_text(&row.entry_name),
        result: normalized_text(&row.result),
        reference: normalized_text(&row.reference).replace(dashes, "-").replace("--", "-"),
        unit: normalized_text(&canonical(&row.unit).text),
    }
}

fn normalized_text(text: &str) -> String {
    folded_text(text).to_lowercase().chars().filter(|it| !it.is_whitespace()).collect()
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
        assert_eq!(compare(&rows(&turned), &rows(&GOLD)).correct, 12);
        let doubled = [GOLD[0], ["WBC", "1.0", "", ""], GOLD[0]];
        let found = compare(&rows(&doubled), &rows(&GOLD[..1]));
        assert_eq!((found.correct, found.read, found.expected), (4, 12, 4));
        assert_eq!(compare(&[], &rows(&GOLD)).score(), Score::default());
        check(compare(&[], &[]).score(), 1.0, 1.0, 1.0);
    }
}
