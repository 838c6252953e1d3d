use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A span of time as files spell it: `500ms`, `20s`, `10m`, `4h`.
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

/// Reads a span of time as `20s` or `4h` where there may be none.
///
/// # Errors
///
/// Fails if it is none.
pub fn optional<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Duration>, D::Error> {
    deserialize(source).map(Some)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(source)?;
    parse(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("`{text}` is not a duration such as `20s`, `10m` or `4h`"))
    })
}
