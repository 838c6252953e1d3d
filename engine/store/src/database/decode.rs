//! Decoding of columns: times, UIDs and counts.

use jiff::Timestamp;

use crate::error::{Result, inconsistent};

/// A time from `micros(...)`, which gives microseconds since 1970 in UTC.
pub(crate) fn timestamp(micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|_| inconsistent("a time is out of range"))
}

/// A time that may be null.
pub(crate) fn timestamp_or_none(micros: Option<i64>) -> Result<Option<Timestamp>> {
    micros.map(timestamp).transpose()
}

/// A UID that the engine itself has written.
pub(crate) fn uid<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| inconsistent("a stored UID is not one"))
}

/// A count from `count(*)`, which is never negative.
pub(crate) fn count(number: i64) -> usize {
    usize::try_from(number).unwrap_or_default()
}

/// The variant whose name a column holds. `parse` is that of a `named_enum!`.
pub(crate) fn named<T>(name: &str, parse: fn(&str) -> Option<T>) -> Result<T> {
    parse(name).ok_or_else(|| inconsistent(format!("`{name}` is no name that is stored here")))
}
