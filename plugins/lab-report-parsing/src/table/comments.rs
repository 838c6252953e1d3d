//! Finds lines between the rows of a table that are no rows: comments, page numbers, and lines that
//! end the table.

use encoding::laboratory::unit::folded_text;

use super::lines::{Line, text};
use crate::page::Word;
use crate::vocabulary::is_han;

/// Upper bound of a gap between words of one sentence, in heights of its letters. Between columns
/// there is more.
const SENTENCE_GAP_MAX: f32 = 0.9;

/// Upper bound of the letters of a label before its colon.
const LABEL_CHARACTERS_MAX: usize = 24;

/// Beginnings of a line with a colon that ends a table.
const END_LABELS: &[&str] = &[
    "检验者",
    "审核者",
    "检验医师",
    "检验日期",
    "报告时间",
    "报告日期",
    "送检",
    "report",
    "verified",
    "authoris",
    "authoriz",
    "approved",
    "technician",
    "signature",
    "performed",
];

/// Beginnings of a line without a colon that ends a table.
const END_PHRASES: &[&str] = &["本报告", "此报告", "end of report", "this report"];

/// Beginnings of a line with a colon that is a comment. The table may go on below it.
const COMMENT_LABELS: &[&str] = &[
    "备注",
    "注",
    "说明",
    "建议",
    "采样时间",
    "接收时间",
    "采集时间",
    "note",
    "comment",
    "remark",
    "interpretation",
    "collect",
    "receiv",
    "print",
    "specimen",
];

/// Beginnings of a line without a colon that is a comment.
const COMMENT_PHRASES: &[&str] = &["page ", "* ", "第1页", "** "];

/// What a line below the headings of a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineKind {
    /// A row, or a part of one.
    Row,
    /// A comment or the number of a page.
    Comment,
    /// The end of the table: a signature, or a statement on the whole report.
    End,
}

/// What a line is, by how it begins.
pub(crate) fn kind(line: &Line) -> LineKind {
    let text = folded_text(&text(line)).to_lowercase();
    let label = text.split(':').next().unwrap_or_default();
    let has_label = text.contains(':') && label.chars().count() <= LABEL_CHARACTERS_MAX;
    let begins = |all: &[&str]| all.iter().any(|it| text.starts_with(it));
    if (has_label && begins(END_LABELS)) || begins(END_PHRASES) {
        LineKind::End
    } else if (has_label && begins(COMMENT_LABELS)) || begins(COMMENT_PHRASES) {
        LineKind::Comment
    } else {
        LineKind::Row
    }
}

/// Whether a line reads as a sentence: several words, and no gap as between columns.
pub(crate) fn is_sentence(line: &Line) -> bool {
    let text = text(line);
    let words = text.split_whitespace().filter(|it| it.contains(char::is_alphabetic)).count();
    let characters = text.chars().filter(|it| is_han(*it)).count();
    let gap = |a: &Word, b: &Word| (b.left - a.right) / a.height().min(b.height());
    let is_close = line.array_windows().all(|[a, b]| gap(a, b) <= SENTENCE_GAP_MAX);
    is_close && (words >= 4 || characters >= 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[(&str, f32, f32)]) -> Line {
        let word = |(text, left, right): &(&str, f32, f32)| Word {
            text: (*text).to_owned(),
            left: *left,
            top: 0.0,
            right: *right,
            bottom: 10.0,
            chinese: None,
        };
        words.iter().map(word).collect()
    }

    #[test]
    fn pap_10_a_comment_is_told_from_the_end_of_a_table() {
        for (text, expected) in [
            ("Comment: sample slightly hemolyzed", LineKind::Comment),
            ("Note: see page 2", LineKind::Comment),
            ("备注：溶血", LineKind::Comment),
            ("Page 1 of 2", LineKind::Comment),
            ("Verified by: A. Person", LineKind::End),
            ("审核者：王", LineKind::End),
            ("End of report", LineKind::End),
            ("Sodium", LineKind::Row),
            ("Notes on reference", LineKind::Row),
        ] {
            assert_eq!(kind(&line(&[(text, 0.0, 100.0)])), expected, "{text}");
        }
    }

    #[test]
    fn pap_10_a_sentence_has_no_gap_as_between_columns() {
        let sentence = "values between 1.8 and 7.5 are usual in adults";
        assert!(is_sentence(&line(&[(sentence, 0.0, 300.0)])));
        let words = [("in", 0.0, 8.0), ("pregnancy", 11.0, 60.0), ("other", 63.0, 90.0)];
        let words = [&words[..], &[("limits", 93.0, 120.0)]].concat();
        assert!(is_sentence(&line(&words)));
        let row = [("Urine culture", 0.0, 60.0), ("No growth after 48 h", 160.0, 260.0)];
        assert!(!is_sentence(&line(&row)));
        assert!(!is_sentence(&line(&[("Sodium", 0.0, 40.0)])));
    }
}
