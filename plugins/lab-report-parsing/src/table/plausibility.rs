//! Rows that cannot be right as they were read, by what is known of laboratory results.

use std::sync::LazyLock;

use domain::Abnormality;
use encoding::laboratory::reference_range::compare;
use encoding::laboratory::unit::folded_text;
use regex::Regex;

use super::Entry;
use crate::doubt::Doubt;
use crate::page::UNREAD;
use crate::vocabulary::units::is_unit;

/// How many times the upper end of a range a result may be, or how small a part of the lower end.
const MAGNITUDE: f64 = 10.0;

/// The same where the range has one end only: markers of a tumour or an injury rise high.
const MAGNITUDE_OPEN: f64 = 100.0;

/// How many times the lower end of a range its upper end may be, where only one has a decimal
/// point.
const SPAN_MAX: f64 = 15.0;

/// Share of the rows with a field from which a row without it is doubted, in percent.
const USUAL_SHARE: usize = 60;

/// A number as it is printed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Number {
    value: f64,
    decimals: usize,
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        let decimals = text.split_once('.').map_or(0, |(_, it)| it.len());
        Some(Self { value: text.parse().ok()?, decimals })
    }
}

/// The ends of a reference range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Ends {
    low: Option<Number>,
    high: Option<Number>,
}

impl Ends {
    fn parse(reference: &str) -> Option<Self> {
        static RANGE: LazyLock<Option<Regex>> = LazyLock::new(|| {
            Regex::new(r"^([0-9]+(?:\.[0-9]+)?) ?(?:-+|~|to) ?([0-9]+(?:\.[0-9]+)?)$").ok()
        });
        static BOUND: LazyLock<Option<Regex>> =
            LazyLock::new(|| Regex::new(r"^([<>≤≥])=? ?([0-9]+(?:\.[0-9]+)?)$").ok());
        let folded = folded_text(reference).replace(['–', '—'], "-");
        let folded = folded.trim();
        let number = |it: Option<regex::Match<'_>>| it.and_then(|it| Number::parse(it.as_str()));
        if let Some(found) = RANGE.as_ref()?.captures(folded) {
            return Some(Self { low: number(found.get(1)), high: number(found.get(2)) });
        }
        let found = BOUND.as_ref()?.captures(folded)?;
        let end = number(found.get(2));
        let is_upper = matches!(found.get(1)?.as_str(), "<" | "≤");
        Some(if is_upper { Self { low: None, high: end } } else { Self { low: end, high: None } })
    }

    fn all(&self) -> impl Iterator<Item = Number> {
        [self.low, self.high].into_iter().flatten()
    }

    /// Whether a point of one end was lost.
    fn are_unlikely(&self) -> bool {
        let (Some(low), Some(high)) = (self.low, self.high) else { return false };
        let have_one_point = (low.decimals == 0) != (high.decimals == 0);
        low.value >= high.value
            || have_one_point && low.value > 0.0 && high.value > SPAN_MAX * low.value
    }

    /// Whether a value is out of all proportion to the range.
    fn are_far_from(&self, value: f64) -> bool {
        let factor = if self.all().count() == 2 { MAGNITUDE } else { MAGNITUDE_OPEN };
        let is_above = self.high.is_some_and(|it| it.value > 0.0 && value > factor * it.value);
        let is_below = self.low.is_some_and(|it| value < it.value / MAGNITUDE);
        is_above || is_below
    }

    /// Whether a value is in the range, or not far out of it.
    fn are_near(&self, value: f64) -> bool {
        self.low.is_none_or(|it| value >= it.value / 2.0)
            && self.high.is_none_or(|it| value <= it.value * 2.0)
    }
}

/// Why a row cannot be right, whoever has read it.
pub(crate) fn implausible(entry: &Entry) -> Vec<Doubt> {
    let cells = [&entry.name, &entry.result, &entry.reference, &entry.unit];
    let has_unread = cells.iter().any(|it| it.contains(UNREAD));
    let is_whole = entry.result.len() > 1 && entry.result.chars().all(|it| it.is_ascii_digit());
    let points = decimals_of_all(&entry.reference);
    let has_lost = is_whole && !points.is_empty() && points.iter().all(|it| *it > 0);
    let found = [(has_unread, Doubt::Unread), (has_lost, Doubt::LostPoint)];
    found.into_iter().filter(|it| it.0).map(|it| it.1).collect()
}

/// The decimals of all numbers of a text.
fn decimals_of_all(text: &str) -> Vec<usize> {
    let folded = folded_text(text);
    let is_part = |it: char| it.is_ascii_digit() || it == '.';
    let numbers = folded.split(|it| !is_part(it)).filter(|it| !it.is_empty());
    numbers.map(|it| it.split_once('.').map_or(0, |(_, it)| it.len())).collect()
}

/// Why a row that was recognised in a picture may have been misread.
pub(crate) fn misread(entry: &Entry) -> Vec<Doubt> {
    let ends = Ends::parse(&entry.reference);
    let result = number(&entry.result);
    let is_known = compare(&entry.result, &entry.reference, &entry.unit) != Abnormality::Unknown;
    let is_far = result.zip(ends).is_some_and(|(it, ends)| ends.are_far_from(it.value));
    let has_lost = result.zip(ends).is_some_and(|(it, ends)| has_lost_point(it, ends));
    let is_unclear = !is_value(&entry.result)
        && !(is_word(&entry.result) && (is_known || entry.reference.is_empty()));
    // Of two words that do not match, the result is the one to be checked.
    let are_words = is_word(&entry.reference) && is_word(&entry.result);
    let is_no_range = !entry.reference.is_empty() && ends.is_none() && !is_known && !are_words;
    let is_unlikely = ends.is_some_and(|it| it.are_unlikely());
    let found = [
        (is_far, Doubt::Magnitude),
        (has_lost, Doubt::LostPoint),
        (is_unclear, Doubt::ResultUnclear),
        (is_no_range || is_unlikely, Doubt::ReferenceUnclear),
        (!entry.unit.is_empty() && !is_unit(&entry.unit), Doubt::UnitUnknown),
    ];
    found.into_iter().filter(|it| it.0).map(|it| it.1).collect()
}

/// Whether a result has other decimals than both ends of its range, and would be usual with as
/// many as they have.
fn has_lost_point(result: Number, ends: Ends) -> bool {
    let decimals: Vec<usize> = ends.all().map(|it| it.decimals).collect();
    let Some(most) = decimals.iter().max().copied() else { return false };
    let is_even = decimals.iter().all(|it| *it == most);
    if !is_even || result.decimals >= most {
        return false;
    }
    let lost = i32::try_from(most - result.decimals).unwrap_or(0);
    let is_moved = (1..=lost).any(|it| ends.are_near(result.value / 10_f64.powi(it)));
    result.decimals == 0 || !ends.are_near(result.value) && is_moved
}

/// The number that a result is, without its sign of comparison.
fn number(result: &str) -> Option<Number> {
    let folded = folded_text(result);
    Number::parse(folded.trim_start_matches(['<', '>', '≤', '≥', '=', ' ']).trim())
}

/// Whether a result has a form that laboratories print: a number, a titer, a range, a grade.
fn is_value(result: &str) -> bool {
    static VALUE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let number = r"[+-]?(?:0|[1-9][0-9]{0,6})(?:\.[0-9]{1,4})?";
        let all = format!(
            r"^(?:[<>≤≥]=? ?)?{number}$|^[<>≤≥]?1 ?: ?[0-9]{{1,5}}$|^[0-9]+-[0-9]+$|^[0-9]?\+{{1,4}}$|^[-±]$|^\([+-]\)$"
        );
        Regex::new(&all).ok()
    });
    let folded = folded_text(result);
    VALUE.as_ref().is_some_and(|it| it.is_match(folded.trim()))
}

/// Whether a result is in words alone.
fn is_word(result: &str) -> bool {
    let is_letter = |it: char| it.is_alphabetic() || matches!(it, ' ' | '-' | '(' | ')' | '+');
    result.chars().all(is_letter) && result.chars().any(char::is_alphabetic)
}

/// Doubts rows without a unit or a reference where nearly all others have one.
pub(crate) fn doubt_missing(entries: &mut [Entry]) {
    let is_usual = |has: &dyn Fn(&Entry) -> bool, of: &dyn Fn(&Entry) -> bool| {
        let all = entries.iter().filter(|it| of(it)).count();
        let with = entries.iter().filter(|it| of(it) && has(it)).count();
        with > 0 && with * 100 >= all * USUAL_SHARE
    };
    let is_number = |it: &Entry| number(&it.result).is_some();
    let has_unit = |it: &Entry| !it.unit.is_empty();
    let has_reference = |it: &Entry| !it.reference.is_empty();
    let needs_unit = is_usual(&has_unit, &is_number);
    let needs_reference = is_usual(&has_reference, &|_| true);
    for entry in entries {
        let lacks_unit = needs_unit && is_number(entry) && !has_unit(entry);
        if lacks_unit || needs_reference && !has_reference(entry) {
            entry.doubts.insert(Doubt::FieldMissing);
        }
    }
}

/// Whether the text of a result has several values: a second one beside it, or one printed over it.
pub(crate) fn has_two_values(result: &str) -> bool {
    let folded = folded_text(result);
    let values =
        folded.split_whitespace().filter(|it| it.starts_with(|it: char| it.is_ascii_digit()));
    values.count() > 1 && !folded.contains([':', '-', '~', '/', '^'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cells: [&str; 3], expected: &[Doubt]) {
        let [result, reference, unit] = cells.map(str::to_owned);
        let entry = Entry { result, reference, unit, ..Entry::default() };
        assert_eq!(misread(&entry), expected, "{entry:?}");
    }

    #[test]
    fn pap_36_a_result_far_from_its_reference_or_without_its_point_is_doubted() {
        check(["93", "0.5-1.5", "mg/L"], &[Doubt::Magnitude, Doubt::LostPoint]);
        check(["93", "0.50-1.50", "mg/L"], &[Doubt::Magnitude, Doubt::LostPoint]);
        check(["0.93", "0.50-1.50", "mg/L"], &[]);
        check(["51.2", "3.50-9.50", "mmol/L"], &[Doubt::LostPoint]);
        check(["0.512", "3.50-9.50", "mmol/L"], &[]);
        check(["4100", "7-40", "U/L"], &[Doubt::Magnitude]);
        check(["350", "<5", "mg/L"], &[]);
        check(["5100", "<5", "mg/L"], &[Doubt::Magnitude]);
        check(["6.13", "3.5-9.5", "mmol/L"], &[]);
        check(["5", "3.5-9.5", "mmol/L"], &[Doubt::LostPoint]);
    }

    #[test]
    fn pap_36_a_reference_or_a_unit_that_cannot_be_is_doubted() {
        check(["5.1", "35-9.5", "mmol/L"], &[Doubt::ReferenceUnclear]);
        check(["5.1", "3.5-95", "mmol/L"], &[Doubt::ReferenceUnclear]);
        check(["5.1", "3.59.5", "mmol/L"], &[Doubt::ReferenceUnclear]);
        check(["0.4", "0-1.5", "mmol/L"], &[]);
        check(["5.1", "4-10.5", "mmol/L"], &[]);
        check(["5.1", "3.5 to 9.5", "mnol1"], &[Doubt::UnitUnknown]);
        check(["5.1", "3.5-9.5", ""], &[]);
    }

    #[test]
    fn pap_36_a_result_that_is_neither_number_nor_word_is_doubted() {
        for result in ["5.1.4", "5,1", "012", "5.1§", "1Z", "5148,"] {
            let entry = Entry { result: result.to_owned(), ..Entry::default() };
            assert!(misread(&entry).contains(&Doubt::ResultUnclear), "{result}");
        }
        for result in ["<0.5", "> 100", "1:40", "2+", "-", "0-3", "Negative", "阴性"] {
            let entry = Entry { result: result.to_owned(), ..Entry::default() };
            assert_eq!(misread(&entry), [], "{result}");
        }
        check(["Negatwe", "Negative", ""], &[Doubt::ResultUnclear]);
    }

    #[test]
    fn pap_36_two_values_in_one_cell_are_seen() {
        for (result, expected) in [
            ("5.1 4.8", true),
            ("12.3 1", true),
            ("5.1", false),
            ("1 : 40", false),
            ("< 5", false),
            ("12.3 H", false),
        ] {
            assert_eq!(has_two_values(result), expected, "{result}");
        }
    }

    #[test]
    fn pap_36_a_row_without_what_the_others_have_is_doubted() {
        let row = |unit: &str, reference: &str| Entry {
            result: "5.1".to_owned(),
            unit: unit.to_owned(),
            reference: reference.to_owned(),
            ..Entry::default()
        };
        let mut rows = [row("g/L", "3-9"), row("g/L", "3-9"), row("", "3-9"), row("g/L", "")];
        doubt_missing(&mut rows);
        let doubted: Vec<bool> = rows.iter().map(|it| !it.doubts.is_empty()).collect();
        assert_eq!(doubted, [false, false, true, true]);
        let mut rows = [row("", ""), row("", "")];
        doubt_missing(&mut rows);
        assert!(rows.iter().all(|it| it.doubts.is_empty()));
    }
}
