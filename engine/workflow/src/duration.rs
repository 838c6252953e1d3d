//! Spans of time as files specify them: `500ms`, `20s`, `10m`, `4h`, `30d`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Reads a span of time. `None`, if the text is none.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let at = text.find(|it: char| !it.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(at)?;
    let number: u64 = number.parse().ok()?;
    let seconds = match unit.trim() {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

/// Deserializes a span of time that a file may leave out.
///
/// # Errors
///
/// Fails if it is none.
pub fn optional<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Duration>, D::Error> {
    deserialize(source).map(Some)
}

/// Deserializes a span of time.
///
/// # Errors
///
/// Fails if the text is none.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(source)?;
    parse(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("`{text}` is not a duration such as `20s`, `10m` or `4h`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_with_a_unit() {
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse("20s"), Some(Duration::from_secs(20)));
        assert_eq!(parse("10 m"), Some(Duration::from_mins(10)));
        assert_eq!(parse("4h"), Some(Duration::from_hours(4)));
        assert_eq!(parse("30d"), Some(Duration::from_hours(720)));
    }

    #[test]
    fn what_has_no_unit_or_is_too_long_is_no_span() {
        for text in [
            "",
            "20",
            "s",
            "-5s",
            "5 weeks",
            "20.5s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
