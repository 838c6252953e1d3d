//! Compares a laboratory result with its reference range (HL7-60, HL7-62, HL7-63; PAP-12).
//!
//! Results and references are intervals: `12.3` is one number, `<0.5` all numbers below it. A
//! result inside its reference is normal, entirely below it low, entirely above it high; anything
//! else is unknown. A reference that is no range is compared with nothing: a number alone, `0-0`,
//! `-9.5`, words that are no result.

use domain::Abnormality;

use crate::laboratory::unit;

/// One end of an interval, and whether it belongs to it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct End {
    value: f64,
    is_included: bool,
}

/// Numbers from one end to another; a missing end is unbounded.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Interval {
    low: Option<End>,
    high: Option<End>,
}

/// The parsed form of a result or a reference.
#[derive(Clone, Debug, PartialEq)]
enum Statement {
    Numbers(Interval),
    /// A dilution, `1:128`; compared by its second number.
    Titer(Interval),
    Negative,
    Positive,
    Words(String),
}

/// Words that are results. Others are equal without saying anything: `pending`, `see note`.
const RESULT_WORDS: &[&str] = &[
    "normal",
    "clear",
    "yellow",
    "light yellow",
    "pale yellow",
    "straw",
    "amber",
    "colorless",
    "colourless",
    "brown",
    "formed",
    "soft",
    "正常",
    "澄清",
    "清亮",
    "透明",
    "黄色",
    "淡黄色",
    "无色",
    "黄褐色",
    "棕黄色",
    "软",
    "软便",
];

/// Compares a result with its reference.
///
/// `unit` is the unit of the result; a reference that names another one cannot be compared. What
/// cannot be read is [`Abnormality::Unknown`], never normal.
pub fn compare(result: &str, reference: &str, unit: &str) -> Abnormality {
    let (Some(result), Some(reference)) = (read(result, unit), usual(reference, unit)) else {
        return Abnormality::Unknown;
    };
    match (result, reference) {
        (Statement::Numbers(result), Statement::Numbers(usual)) => {
            if is_of_other_scale(result, usual, unit) {
                Abnormality::Unknown
            } else {
                place(result, usual)
            }
        }
        (Statement::Titer(result), Statement::Titer(usual)) => place(result, usual),
        (Statement::Negative, Statement::Negative) | (Statement::Positive, Statement::Positive) => {
            Abnormality::Normal
        }
        (Statement::Positive, Statement::Negative) | (Statement::Negative, Statement::Positive) => {
            Abnormality::Abnormal
        }
        (Statement::Words(result), Statement::Words(usual))
            if result == usual && RESULT_WORDS.contains(&result.as_str()) =>
        {
            Abnormality::Normal
        }
        _ => Abnormality::Unknown,
    }
}

/// Reads a reference; nothing for what is no range.
fn usual(text: &str, unit: &str) -> Option<Statement> {
    let bare = unit::folded_text(text);
    // Printed where there is no reference.
    if bare.trim().chars().all(|it| it == '-') {
        return None;
    }
    let statement = read(text, unit)?;
    let is_one = |it: &Interval| match (it.low, it.high) {
        (Some(low), Some(high)) => exactly(low.value, high.value),
        _ => false,
    };
    let is_range = match &statement {
        Statement::Numbers(it) => !is_one(it) || bare.trim_start().starts_with('='),
        Statement::Titer(_) | Statement::Negative | Statement::Positive | Statement::Words(_) => {
            true
        }
    };
    is_range.then_some(statement)
}

/// Whether a percentage and its reference may be of different scales: 40 % and 0.37-0.47, or 0.40 and
/// 37-47.
fn is_of_other_scale(result: Interval, usual: Interval, unit: &str) -> bool {
    let (Some(end), Some(usual_high)) = (result.high.or(result.low), usual.high) else {
        return false;
    };
    let times_hundred = |it: Option<End>| it.map(|it| End { value: it.value * 100.0, ..it });
    let hundredfold = Interval { low: times_hundred(result.low), high: times_hundred(result.high) };
    let is_fraction = end.value < 1.0
        && usual_high.value > 1.0
        && is_within(hundredfold, usual)
        && !is_within(result, usual);
    unit::canonical(unit).text == "%"
        && ((usual_high.value < 1.0 && end.value > usual_high.value) || is_fraction)
}

fn place(result: Interval, usual: Interval) -> Abnormality {
    if is_before(result.high, usual.low) {
        Abnormality::Low
    } else if is_before(usual.high, result.low) {
        Abnormality::High
    } else if is_within(result, usual) {
        Abnormality::Normal
    } else {
        Abnormality::Unknown
    }
}

/// Whether everything up to `high` lies before everything from `low` on.
fn is_before(high: Option<End>, low: Option<End>) -> bool {
    match (high, low) {
        (Some(high), Some(low)) if exactly(high.value, low.value) => {
            !(high.is_included && low.is_included)
        }
        (Some(high), Some(low)) => high.value < low.value,
        _ => false,
    }
}

fn is_within(inner: Interval, outer: Interval) -> bool {
    let holds = |inner: Option<End>, outer: Option<End>, sign: f64| match (inner, outer) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(inner), Some(outer)) if exactly(inner.value, outer.value) => {
            outer.is_included || !inner.is_included
        }
        (Some(inner), Some(outer)) => (inner.value - outer.value) * sign > 0.0,
    };
    // Concentrations are not negative: `<0.5` lies within `0-5`.
    let floor = inner.low.or(Some(End { value: 0.0, is_included: true }));
    let low = if outer.low.is_some_and(|it| it.value >= 0.0) { floor } else { inner.low };
    holds(low, outer.low, 1.0) && holds(inner.high, outer.high, -1.0)
}

/// Both were read from text: equal text is equal.
fn exactly(a: f64, b: f64) -> bool {
    a.total_cmp(&b).is_eq()
}

/// Reads a result or a reference.
fn read(text: &str, unit: &str) -> Option<Statement> {
    let text = unit::folded_text(text);
    let text = text.trim().trim_matches(['[', ']', '(', ')', '"']).trim();
    if text.is_empty() {
        return None;
    }
    if let Some(quality) = quality(&text.to_lowercase()) {
        return Some(quality);
    }
    if let Some(titer) = read_titer(text) {
        return Some(Statement::Titer(titer));
    }
    match read_interval(text) {
        Some((interval, rest)) if is_same_unit(rest, unit) => Some(Statement::Numbers(interval)),
        Some(_) => None,
        None if text.starts_with(|it: char| it.is_ascii_digit() || "<>≤≥=".contains(it)) => {
            None
        }
        None => Some(Statement::Words(text.to_lowercase())),
    }
}

fn is_same_unit(rest: &str, unit: &str) -> bool {
    rest.is_empty() || unit::canonical(rest).text == unit::canonical(unit).text
}

fn quality(text: &str) -> Option<Statement> {
    const NEGATIVE: &[&str] = &[
        "negative",
        "neg",
        "neg.",
        "-",
        "(-)",
        "阴性",
        "阴性(-",
        "阴性(-)",
        "none",
        "none seen",
        "none detected",
        "nil",
        "non-reactive",
        "nonreactive",
        "not detected",
        "absent",
        "未检出",
        "无",
    ];
    const POSITIVE: &[&str] = &[
        "positive",
        "pos",
        "pos.",
        "阳性",
        "阳性(+",
        "阳性(+)",
        "弱阳性",
        "reactive",
        "detected",
        "present",
        "trace",
        "±",
        "+-",
        "+/-",
        "检出",
    ];
    if NEGATIVE.contains(&text) {
        return Some(Statement::Negative);
    }
    // `+`, `++`, `1+`, `4+`, `+1`, `+2`.
    let is_graded = text.contains('+')
        && text.len() <= 4
        && text.chars().all(|it| it == '+' || it.is_ascii_digit());
    let is_graded = is_graded && text.chars().filter(char::is_ascii_digit).count() <= 1;
    (is_graded || POSITIVE.contains(&text)).then_some(Statement::Positive)
}

fn read_titer(text: &str) -> Option<Interval> {
    let (comparator, rest) = read_comparator(text);
    let (_, second) = rest.trim().split_once("1:").filter(|(before, _)| before.is_empty())?;
    let value = second.trim().parse().ok().filter(|it: &f64| it.is_finite())?;
    Some(by_comparator(comparator, value))
}

/// An interval at the start of `text`, and what follows it.
fn read_interval(text: &str) -> Option<(Interval, &str)> {
    let (comparator, rest) = read_comparator(text);
    let (first, rest) = read_number(rest.trim_start())?;
    let after = rest.trim_start();
    if comparator != Comparator::Equal {
        return Some((by_comparator(comparator, first), after.trim()));
    }
    if let Some((comparator, rest)) = read_form(after, SUFFIXES) {
        return Some((by_comparator(comparator, first), rest.trim()));
    }
    let included = |value| Some(End { value, is_included: true });
    let Some(range) = split_range(after, first) else {
        return Some((Interval { low: included(first), high: included(first) }, after.trim()));
    };
    match range {
        Second::Open => Some((Interval { low: included(first), high: None }, "")),
        Second::Number(last, rest) => {
            let is_ordered = first <= last;
            let interval = Interval { low: included(first), high: included(last) };
            is_ordered.then_some((interval, rest.trim()))
        }
        Second::Unreadable => None,
    }
}

/// What follows the separator of a range.
enum Second<'a> {
    /// Nothing: the range has one end.
    Open,
    Number(f64, &'a str),
    Unreadable,
}

/// The second end of a range; nothing, if no separator follows the first.
fn split_range(text: &str, first: f64) -> Option<Second<'_>> {
    const SEPARATORS: [&str; 8] = ["--", "-", "～", "~", "至", "to ", "..", "…"];
    // From -5 to -2 is `-5--2`. Before a number that is not negative, two dashes are one separator.
    if first < 0.0
        && let Some(rest) = text.strip_prefix('-').filter(|it| it.starts_with('-'))
    {
        let second = read_number(rest);
        return Some(second.map_or(Second::Unreadable, |(it, rest)| Second::Number(it, rest)));
    }
    let second = SEPARATORS.iter().find_map(|it| text.strip_prefix(it))?;
    if second.trim().is_empty() {
        return Some(Second::Open);
    }
    let second = read_number(second.trim_start());
    Some(second.map_or(Second::Unreadable, |(it, rest)| Second::Number(it, rest)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparator {
    Below,
    AtMost,
    Equal,
    AtLeast,
    Above,
}

/// A comparator before a number, in small letters.
const PREFIXES: &[(&str, Comparator)] = &[
    ("<=", Comparator::AtMost),
    ("=<", Comparator::AtMost),
    ("≤", Comparator::AtMost),
    ("≦", Comparator::AtMost),
    ("< or =", Comparator::AtMost),
    ("<or=", Comparator::AtMost),
    ("< or equal to ", Comparator::AtMost),
    ("less than or equal to ", Comparator::AtMost),
    ("up to ", Comparator::AtMost),
    ("at most ", Comparator::AtMost),
    (">=", Comparator::AtLeast),
    ("=>", Comparator::AtLeast),
    ("≥", Comparator::AtLeast),
    ("≧", Comparator::AtLeast),
    ("> or =", Comparator::AtLeast),
    (">or=", Comparator::AtLeast),
    ("> or equal to ", Comparator::AtLeast),
    ("greater than or equal to ", Comparator::AtLeast),
    ("at least ", Comparator::AtLeast),
    ("<", Comparator::Below),
    ("less than ", Comparator::Below),
    ("below ", Comparator::Below),
    ("小于", Comparator::Below),
    ("低于", Comparator::Below),
    (">", Comparator::Above),
    ("greater than ", Comparator::Above),
    ("more than ", Comparator::Above),
    ("above ", Comparator::Above),
    ("大于", Comparator::Above),
    ("高于", Comparator::Above),
    ("=", Comparator::Equal),
];

/// A comparator behind a number.
const SUFFIXES: &[(&str, Comparator)] = &[
    ("or less", Comparator::AtMost),
    ("or lower", Comparator::AtMost),
    ("or below", Comparator::AtMost),
    ("or more", Comparator::AtLeast),
    ("or greater", Comparator::AtLeast),
    ("or higher", Comparator::AtLeast),
    ("or above", Comparator::AtLeast),
];

fn read_comparator(text: &str) -> (Comparator, &str) {
    let text = text.trim_start();
    read_form(text, PREFIXES).unwrap_or((Comparator::Equal, text))
}

/// One of these forms at the beginning of a text, whatever its case.
fn read_form<'a>(text: &'a str, forms: &[(&str, Comparator)]) -> Option<(Comparator, &'a str)> {
    forms.iter().find_map(|(form, comparator)| {
        let (start, rest) = text.split_at_checked(form.len())?;
        start.eq_ignore_ascii_case(form).then_some((*comparator, rest))
    })
}

const fn by_comparator(comparator: Comparator, value: f64) -> Interval {
    let open = Some(End { value, is_included: false });
    let closed = Some(End { value, is_included: true });
    match comparator {
        Comparator::Below => Interval { low: None, high: open },
        Comparator::AtMost => Interval { low: None, high: closed },
        Comparator::Equal => Interval { low: closed, high: closed },
        Comparator::AtLeast => Interval { low: closed, high: None },
        Comparator::Above => Interval { low: open, high: None },
    }
}

fn read_number(text: &str) -> Option<(f64, &str)> {
    let sign = usize::from(text.starts_with(['-', '+']));
    let digits = text.get(sign..)?;
    let length = digits.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(digits.len());
    // `1..2` is two numbers and a separator.
    let length = digits.find("..").map_or(length, |it| it.min(length));
    let (number, rest) = text.split_at_checked(sign + length)?;
    let value: f64 = number.parse().ok()?;
    value.is_finite().then_some((value, rest))
}

#[cfg(test)]
mod tests;
