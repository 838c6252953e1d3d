//! Decimal commas and separators of thousands: numbers are read by the convention of their page.
//!
//! `4,15` is 4.15 wherever it stands, and never 415. `1,234` is 1.234 on a page with decimal commas,
//! 1234 on one with decimal points, and doubtful on one that shows neither.

use std::sync::LazyLock;

use regex::Regex;

/// The decimal sign of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Convention {
    /// `4.15`; a comma sets thousands apart.
    Point,
    /// `4,15`; a point sets thousands apart.
    Comma,
    /// Both signs are decimal signs of numbers of the page.
    Mixed,
    /// No number of the page tells.
    Open,
}

/// A text with its numbers in the form of programs: `4.15`, `12500`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plain {
    /// The text.
    pub(crate) text: String,
    /// Whether a number in it may be another.
    pub(crate) is_doubtful: bool,
}

/// What a number says of its separators.
enum Reading {
    /// It has none, or nobody writes numbers in this way.
    AsPrinted,
    /// It can only be meant in one way.
    Certain { plain: String, convention: Option<Convention> },
    /// One separator before three figures: `1.234`.
    Ambiguous { separator: char, whole: String, rest: String },
}

/// The convention of the numbers in some cells.
pub(crate) fn convention<'a>(cells: impl IntoIterator<Item = &'a str>) -> Convention {
    let mut has_point = false;
    let mut has_comma = false;
    for cell in cells {
        for number in numbers(cell) {
            match reading(number) {
                Reading::Certain { convention: Some(Convention::Point), .. } => has_point = true,
                Reading::Certain { convention: Some(Convention::Comma), .. } => has_comma = true,
                _ => {}
            }
        }
    }
    match (has_point, has_comma) {
        (true, false) => Convention::Point,
        (false, true) => Convention::Comma,
        (true, true) => Convention::Mixed,
        (false, false) => Convention::Open,
    }
}

/// A text with its numbers in plain form, by the convention of its page.
pub(crate) fn plain(text: &str, convention: Convention) -> Plain {
    let mut plain = Plain::default();
    let mut rest = text;
    for number in numbers(text) {
        let Some((before, after)) = rest.split_once(number) else { break };
        plain.text.push_str(before);
        let (written, is_doubtful) = written(number, convention);
        plain.text.push_str(&written);
        plain.is_doubtful |= is_doubtful;
        rest = after;
    }
    plain.text.push_str(rest);
    plain
}

/// A number in plain form, and whether it may be another.
fn written(number: &str, convention: Convention) -> (String, bool) {
    match reading(number) {
        Reading::AsPrinted => (number.to_owned(), false),
        Reading::Certain { plain, .. } => (plain, false),
        Reading::Ambiguous { separator, whole, rest } => {
            let decimal = format!("{whole}.{rest}");
            match (convention, separator) {
                (Convention::Point, ',') | (Convention::Comma, '.') => (whole + &rest, false),
                // A point is the usual decimal sign of laboratories.
                (Convention::Comma, _) | (Convention::Point | Convention::Open, '.') => {
                    (decimal, false)
                }
                (Convention::Open | Convention::Mixed | Convention::Point, _) => {
                    (number.to_owned(), true)
                }
            }
        }
    }
}

/// The numbers of a text, with their separators.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    static NUMBER: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new("[0-9]+(?:[.,'’\u{a0}\u{202f}\u{2009}][0-9]+)*").ok());
    NUMBER.as_ref().into_iter().flat_map(move |it| it.find_iter(text)).map(|it| it.as_str())
}

fn reading(number: &str) -> Reading {
    let is_separator = |it: char| !it.is_ascii_digit();
    let separators: Vec<char> = number.chars().filter(|it| is_separator(*it)).collect();
    let parts: Vec<&str> = number.split(is_separator).collect();
    let (Some(last), Some((end, head))) = (separators.last().copied(), parts.split_last()) else {
        return Reading::AsPrinted;
    };
    let whole = head.concat();
    let is_decimal_sign = |it: char| matches!(it, '.' | ',');
    // The last separator is another one than those before it: `1.234,5`, `1'234.5`.
    let others = separators.get(..separators.len() - 1).unwrap_or_default();
    if is_decimal_sign(last) && !others.is_empty() && !others.contains(&last) {
        let plain = format!("{whole}.{end}");
        let convention = Some(if last == '.' { Convention::Point } else { Convention::Comma });
        return if are_thousands(head) { certain(plain, convention) } else { Reading::AsPrinted };
    }
    if separators.len() > 1 || !is_decimal_sign(last) {
        if !are_thousands(&parts) || separators.iter().any(|it| *it != last) {
            return Reading::AsPrinted;
        }
        let convention = match last {
            ',' => Some(Convention::Point),
            '.' => Some(Convention::Comma),
            _ => None,
        };
        return certain(parts.concat(), convention);
    }
    let may_be_thousands = end.len() == 3 && whole.len() <= 3 && !whole.starts_with('0');
    if may_be_thousands {
        return Reading::Ambiguous { separator: last, whole, rest: (*end).to_owned() };
    }
    let convention = if last == '.' { Convention::Point } else { Convention::Comma };
    certain(format!("{whole}.{end}"), Some(convention))
}

const fn certain(plain: String, convention: Option<Convention>) -> Reading {
    Reading::Certain { plain, convention }
}

/// Whether parts are those of a number with its thousands set apart.
fn are_thousands(parts: &[&str]) -> bool {
    let Some((first, rest)) = parts.split_first() else { return false };
    (1..=3).contains(&first.len()) && rest.iter().all(|it| it.len() == 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(page: &[&str], cells: &[(&str, &str)]) {
        let convention = convention(page.iter().copied());
        for (cell, expected) in cells {
            let found = plain(cell, convention);
            assert_eq!((found.text.as_str(), found.is_doubtful), (*expected, false), "{cell}");
        }
    }

    #[test]
    fn pap_10_a_decimal_comma_is_one_and_never_left_out() {
        let page = ["4,15", "3,5-5,1", "12,3"];
        let cells = [
            ("4,15", "4.15"),
            ("3,5 - 5,1", "3.5 - 5.1"),
            ("<0,5", "<0.5"),
            ("0,123", "0.123"),
            ("1,234", "1.234"),
            ("1.234", "1234"),
            ("1.234,5", "1234.5"),
            ("1.234.567", "1234567"),
            ("210", "210"),
            ("1:640", "1:640"),
            ("03.01.2026", "03.01.2026"),
            ("Negative", "Negative"),
            ("", ""),
        ];
        check(&page, &cells);
        check(&[], &[("4,15", "4.15"), ("0,5", "0.5"), ("12,3456", "12.3456")]);
    }

    #[test]
    fn pap_10_thousands_are_read_by_the_convention_of_the_page() {
        let page = ["4.1", "250,000", "150,000-400,000"];
        let cells = [
            ("250,000", "250000"),
            ("150,000-400,000", "150000-400000"),
            ("1,234.5", "1234.5"),
            ("1.234", "1.234"),
            ("4.15", "4.15"),
            ("4,15", "4.15"),
            ("1'234.5", "1234.5"),
            ("12\u{a0}500", "12500"),
        ];
        check(&page, &cells);
        check(&["1.234.567"], &[("2.345", "2345")]);
    }

    #[test]
    fn pap_10_a_separator_that_may_be_either_is_doubted() {
        for page in [&[][..], &["4,15", "3.5"]] {
            let convention = convention(page.iter().copied());
            let found = plain("250,000", convention);
            assert_eq!(found, Plain { text: "250,000".to_owned(), is_doubtful: true });
        }
        let mixed = convention(["4,15", "3.5"]);
        assert!(plain("1.234", mixed).is_doubtful);
        assert!(!plain("1.234", Convention::Open).is_doubtful);
    }
}
