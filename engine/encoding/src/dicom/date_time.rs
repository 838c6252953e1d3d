//! Dates and times (PS3.5, 6.2), and the forms of ACR-NEMA that a reader still has to accept.

/// A date (DA); nothing if the text is no day of a calendar.
pub fn date(text: &str) -> Option<String> {
    let text = text.trim();
    // ACR-NEMA: `2026.01.31`.
    let digits = match text.split('.').collect::<Vec<_>>().as_slice() {
        [year, month, day] if [year.len(), month.len(), day.len()] == [4, 2, 2] => {
            [*year, *month, *day].concat()
        }
        _ => text.to_owned(),
    };
    if digits.len() != 8 {
        return None;
    }
    let year = number(digits.get(..4)?)?;
    let month = number(digits.get(4..6)?)?;
    let day = number(digits.get(6..)?)?;
    (1..=days_of(year, month)?).contains(&day).then_some(digits)
}

/// A time of day with hours, minutes and seconds (TM); nothing if the text is none. Of a fraction
/// of a second, as many digits are kept as a value holds.
pub fn time(text: &str) -> Option<String> {
    let text = text.trim();
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    // ACR-NEMA: `10:15:30`.
    let digits = match clock.split(':').collect::<Vec<_>>().as_slice() {
        [hours, minutes, seconds] if [hours, minutes, seconds].iter().all(|it| it.len() == 2) => {
            [*hours, *minutes, *seconds].concat()
        }
        _ => clock.to_owned(),
    };
    if digits.len() != 6 || !fraction.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let hours = number(digits.get(..2)?)?;
    let minutes = number(digits.get(2..4)?)?;
    // 60 is a leap second.
    let seconds = number(digits.get(4..)?)?;
    let fraction: String = fraction.chars().take(6).collect();
    let is_time = hours < 24 && minutes < 60 && seconds <= 60;
    let separator = if fraction.is_empty() { "" } else { "." };
    is_time.then(|| format!("{digits}{separator}{fraction}"))
}

fn number(digits: &str) -> Option<u32> {
    // `parse` takes a sign.
    digits.bytes().all(|it| it.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn days_of(year: u32, month: u32) -> Option<u32> {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if is_leap { 29 } else { 28 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn din_76_a_date_is_a_day_of_the_calendar_in_either_form() {
        for (text, expected) in [
            ("20260131", Some("20260131")),
            ("20260131 ", Some("20260131")),
            ("2026.01.31", Some("20260131")),
            ("20240229", Some("20240229")),
            ("20260229", None),
            ("19700000", None),
            ("00000000", None),
            ("20261301", None),
            ("2026-01-31", None),
            ("2026", None),
            ("+2260131", None),
            ("2026013\u{661}", None),
        ] {
            assert_eq!(date(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn din_76_a_time_has_seconds_in_either_form_and_a_fraction_that_fits() {
        for (text, expected) in [
            ("101530", Some("101530")),
            ("101530.25", Some("101530.25")),
            ("101530.123456789", Some("101530.123456")),
            ("10:15:30", Some("101530")),
            ("235960", Some("235960")),
            ("240000", None),
            ("259900", None),
            ("1015", None),
            ("10:15", None),
            ("101530.x", None),
            ("", None),
        ] {
            assert_eq!(time(text).as_deref(), expected, "{text}");
        }
    }
}
