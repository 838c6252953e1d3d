//! Compares a laboratory result with its reference range (HL7-60, HL7-62, HL7-63; PAP-12).
//!
//! Results and references are intervals: `12.3` is one number, `<0.5` all numbers below it. A
//! result inside its reference is normal, entirely below it low, entirely above it high; anything
//! else is unknown.

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

/// Compares a result with its reference.
///
/// `unit` is the unit of the result; a reference that names another one cannot be compared. What
/// cannot be read is [`Abnormality::Unknown`], never normal.
pub fn compare(result: &str, reference: &str, unit: &str) -> Abnormality {
    let (Some(result), Some(reference)) = (read(result, unit), read(reference, unit)) else {
        return Abnormality::Unknown;
    };
    match (result, reference) {
        (Statement::Numbers(result), Statement::Numbers(usual))
        | (Statement::Titer(result), Statement::Titer(usual)) => place(result, usual),
        (Statement::Negative, Statement::Negative) | (Statement::Positive, Statement::Positive) => {
            Abnormality::Normal
        }
        (Statement::Positive, Statement::Negative) | (Statement::Negative, Statement::Positive) => {
            Abnormality::Abnormal
        }
        (Statement::Words(result), Statement::Words(usual)) if result == usual => {
            Abnormality::Normal
        }
        _ => Abnormality::Unknown,
    }
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
    if comparator != Comparator::Equal {
        return Some((by_comparator(comparator, first), rest.trim()));
    }
    let after = rest.trim_start();
    let separators = ["--", "-", "～", "~", "至", "to ", "..", "…"];
    let split = separators.iter().find_map(|it| after.strip_prefix(it));
    let included = |value| Some(End { value, is_included: true });
    let Some(second) = split else {
        return Some((Interval { low: included(first), high: included(first) }, after.trim()));
    };
    if second.trim().is_empty() {
        return Some((Interval { low: included(first), high: None }, ""));
    }
    let (last, rest) = read_number(second.trim_start())?;
    let is_ordered = first <= last;
    is_ordered.then_some((Interval { low: included(first), high: included(last) }, rest.trim()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparator {
    Below,
    AtMost,
    Equal,
    AtLeast,
    Above,
}

fn read_comparator(text: &str) -> (Comparator, &str) {
    let forms = [
        ("<=", Comparator::AtMost),
        ("=<", Comparator::AtMost),
        ("≤", Comparator::AtMost),
        ("up to ", Comparator::AtMost),
        (">=", Comparator::AtLeast),
        ("=>", Comparator::AtLeast),
        ("≥", Comparator::AtLeast),
        ("<", Comparator::Below),
        (">", Comparator::Above),
        ("=", Comparator::Equal),
    ];
    let text = text.trim_start();
    let found = forms.iter().find_map(|(form, it)| Some((*it, text.strip_prefix(form)?)));
    found.unwrap_or((Comparator::Equal, text))
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
