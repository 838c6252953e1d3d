//! Corrects cells of a table by rule: marks are separated from results, and characters that
//! recognition confuses are corrected where only one of them makes sense, such as `O` for zero in a
//! number. No digit is ever added.

use std::sync::LazyLock;

use encoding::laboratory::unit::folded_text;
use regex::Regex;

use super::Entry;
use crate::vocabulary::units::{self, is_like_unit, is_unit};

/// Marks that laboratories print beside results.
const MARKS: &[&str] = &[
    "*", "**", "↑", "↓", "↑↑", "↓↓", "H", "L", "HH", "LL", "N", "A", "高", "低", "偏高", "偏低",
    "异常", "POS", "NEG", "★", "▲", "▼",
];

/// Marks that are symbols.
const SIGNS: [char; 6] = ['*', '★', '↑', '↓', '▲', '▼'];

/// Corrects the cells of a row.
pub(crate) fn corrected(entry: Entry, is_recognised: bool) -> Entry {
    let cell = if is_recognised { with_mark_apart(&entry) } else { entry.result.clone() };
    let (result, mark) = split_mark(&cell);
    let name = entry.name.trim().trim_matches(SIGNS).trim().to_owned();
    let flag = if entry.flag.is_empty() { mark } else { entry.flag };
    let is_named = if is_recognised { is_like_unit } else { is_unit };
    let (reference, unit) = split_unit(entry.reference, entry.unit, is_named);
    if !is_recognised {
        return Entry { name, result, reference, unit, flag, doubts: entry.doubts };
    }
    Entry {
        doubts: entry.doubts,
        name: brackets(&name),
        result: figures(&result),
        reference: range(&reference),
        unit: units::unit(&unit),
        flag,
    }
}

/// Splits a reference range and a unit that are printed in one column.
fn split_unit(reference: String, unit: String, is_named: fn(&str) -> bool) -> (String, String) {
    if !unit.is_empty() {
        return (reference, unit);
    }
    let ends = [reference.rsplit_once(' '), reference.split_once(' ').map(|(a, b)| (b, a))];
    let split = ends.into_iter().flatten().find(|(_, it)| is_named(it));
    let split = split.map(|(range, unit)| (range.trim().to_owned(), unit.to_owned()));
    split.unwrap_or((reference, unit))
}

/// Splits a result and a mark before or after it. Letters are marks only after a number: `12.3 H`,
/// not `Group A`.
fn split_mark(cell: &str) -> (String, String) {
    let trimmed = cell.trim();
    let is_number = |it: &str| {
        it.trim_start_matches(['<', '>', '≤', '≥', '=']).starts_with(|it: char| it.is_ascii_digit())
    };
    if let Some((rest, last)) = trimmed.rsplit_once(' ')
        && MARKS.contains(&last)
        && is_number(rest)
    {
        return (rest.trim().to_owned(), last.to_owned());
    }
    let bare = trimmed.trim_matches(SIGNS).trim();
    if bare.is_empty() || bare.len() == trimmed.len() {
        return (trimmed.to_owned(), String::new());
    }
    let mark: String = trimmed.chars().filter(|it| SIGNS.contains(it)).collect();
    (bare.to_owned(), mark)
}

/// The result of a row with a space before a mark that recognition has glued to its number:
/// `4.15偏高`, and `4.15H` where the unit is another cell.
fn with_mark_apart(entry: &Entry) -> String {
    static GLUED: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^([<>≤≥]?[0-9]+(?:\.[0-9]+)?)([^0-9.\s]+)$").ok());
    let cell = entry.result.trim();
    let found = GLUED.as_ref().and_then(|it| it.captures(cell));
    let parts = found.and_then(|it| Some((it.get(1)?.as_str(), it.get(2)?.as_str())));
    match parts {
        Some((number, mark))
            if MARKS.contains(&mark) && (!mark.is_ascii() || !entry.unit.is_empty()) =>
        {
            format!("{number} {mark}")
        }
        _ => cell.to_owned(),
    }
}

/// Corrects brackets of different kinds: nobody prints `(#/volume]`.
fn brackets(name: &str) -> String {
    let mut letters: Vec<char> = name.chars().collect();
    let mut open: Option<usize> = None;
    for at in 0..letters.len() {
        let here = letters.get(at).copied().unwrap_or_default();
        match here {
            '(' | '[' | '{' => open = Some(at),
            ')' | ']' | '}' => {
                if let Some(from) = open.take() {
                    let there = letters.get(from).copied().unwrap_or_default();
                    let is_square = there == '[' || here == ']';
                    let (a, b) = match (there, here) {
                        ('(', ')') | ('[', ']') | ('{', '}') => (there, here),
                        _ if is_square => ('[', ']'),
                        _ => ('(', ')'),
                    };
                    if let Some(it) = letters.get_mut(from) {
                        *it = a;
                    }
                    if let Some(it) = letters.get_mut(at) {
                        *it = b;
                    }
                }
            }
            _ => {}
        }
    }
    strokes(&letters)
}

/// Corrects strokes that were letters: `glutamy!`, `Troponin |`.
fn strokes(letters: &[char]) -> String {
    let at = |it: usize| letters.get(it).copied().unwrap_or(' ');
    let letter = |(index, it): (usize, &char)| {
        let before = if index == 0 { ' ' } else { at(index - 1) };
        match it {
            '!' | '|' if before.is_lowercase() => 'l',
            '|' if before == ' ' && at(index + 1) == ' ' => 'I',
            it => *it,
        }
    };
    letters.iter().enumerate().map(letter).collect()
}

/// Corrects letters that were digits, in a cell that is one number.
fn figures(cell: &str) -> String {
    static NUMBER: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^([<>≤≥=]{0,2})([0-9OolI|SB.,:+-]+)$").ok());
    static MARKED: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^([<>≤≥=]{0,2}[0-9]+(?:\.[0-9]+)?) [^0-9+-]{1,2}$").ok());
    let folded = folded_text(cell);
    let folded = folded.trim();
    // A mark that the recogniser does not know.
    if let Some(found) = MARKED.as_ref().and_then(|it| it.captures(folded)) {
        return found.get(1).map_or_else(String::new, |it| it.as_str().to_owned());
    }
    let close: String = folded.chars().filter(|it| !it.is_whitespace()).collect();
    let digits = close.chars().filter(char::is_ascii_digit).count();
    let is_number = NUMBER.as_ref().is_some_and(|it| it.is_match(&close));
    if !is_number || digits * 2 < close.chars().count() {
        return folded.to_owned();
    }
    close.chars().map(figure).collect()
}

fn figure(letter: char) -> char {
    match letter {
        'O' | 'o' => '0',
        'l' | 'I' | '|' => '1',
        'S' => '5',
        'B' => '8',
        it => it,
    }
}

/// Corrects the digits and the dash of a reference range.
fn range(cell: &str) -> String {
    static TO: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^([0-9OolI|.]+) ?t[o0] ?([0-9OolI|.]+)$").ok());
    static DASH: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^([0-9OolI|.]+) ?([-~–—一]+) ?([0-9OolI|.]+)$").ok());
    static SIGN: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^([0-9.]+) ?([^0-9A-Za-z.<>≤≥:/^* ]) ?([0-9.]+)$").ok());
    static BOUND: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^([<>≤≥]) ?([0-9OolI|.:]+)$").ok());
    let folded = folded_text(cell).replace('《', "<").replace('》', ">");
    let folded = folded.trim();
    let numbers = |it: Option<regex::Match<'_>>| -> String {
        it.map_or("", |it| it.as_str()).chars().map(figure).collect()
    };
    if let Some(found) = TO.as_ref().and_then(|it| it.captures(folded)) {
        return format!("{} to {}", numbers(found.get(1)), numbers(found.get(2)));
    }
    if let Some(found) = DASH.as_ref().and_then(|it| it.captures(folded)) {
        let dash = found.get(2).map_or("-", |it| it.as_str()).replace(['–', '—', '一'], "-");
        return format!("{}{dash}{}", numbers(found.get(1)), numbers(found.get(3)));
    }
    // Any other sign between two numbers was a dash.
    if let Some(found) = SIGN.as_ref().and_then(|it| it.captures(folded)) {
        return format!("{}-{}", numbers(found.get(1)), numbers(found.get(3)));
    }
    if let Some(found) = BOUND.as_ref().and_then(|it| it.captures(folded)) {
        let sign = found.get(1).map_or("", |it| it.as_str());
        return format!("{sign}{}", numbers(found.get(2)));
    }
    folded.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(is_recognised: bool, cells: [&str; 4], expected: [&str; 5]) {
        let [name, result, reference, unit] = cells.map(str::to_owned);
        let entry = Entry { name, result, reference, unit, ..Entry::default() };
        let Entry { name, result, reference, unit, flag, .. } = corrected(entry, is_recognised);
        assert_eq!([name, result, reference, unit, flag], expected);
    }

    #[test]
    fn marks_go_where_marks_belong_and_letters_of_names_stay() {
        check(
            false,
            ["★Vitamin A", "12.3 H", "10-12", ""],
            ["Vitamin A", "12.3", "10-12", "", "H"],
        );
        check(false, ["Hepatitis A", "Group A", "", ""], ["Hepatitis A", "Group A", "", "", ""]);
        check(false, ["WBC", "* 5.1↓", "", ""], ["WBC", "5.1", "", "", "*↓"]);
        check(true, ["Protein", "3 +", "Negative", ""], ["Protein", "3+", "Negative", "", ""]);
        check(true, ["WBC", "5.1 ?", "", ""], ["WBC", "5.1", "", "", ""]);
        check(true, ["钾", "4.15偏高", "", ""], ["钾", "4.15", "", "", "偏高"]);
        check(true, ["K", "4.15H", "3.5-5.3", "mmol/L"], ["K", "4.15", "3.5-5.3", "mmol/L", "H"]);
        check(true, ["Urine", "2L", "", ""], ["Urine", "2L", "", "", ""]);
        check(true, ["Protein", "3+", "", "g/L"], ["Protein", "3+", "", "g/L", ""]);
    }

    #[test]
    fn letters_that_are_taken_for_figures_are_figures_in_numbers_only() {
        check(true, ["WBC", "10.l", "O t0 3", "lO*9/L"], ["WBC", "10.1", "0 to 3", "10*9/L", ""]);
        check(true, ["Colour", "Ol", "", ""], ["Colour", "Ol", "", "", ""]);
        check(false, ["WBC", "10.l", "", ""], ["WBC", "10.l", "", "", ""]);
        check(true, ["WBC", "5", "3.5-9.5 g/L", ""], ["WBC", "5", "3.5-9.5", "g/L", ""]);
    }
}
