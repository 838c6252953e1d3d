//! Points in time (TS, DTM) as messages state them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Digits of a time to the minute, and to the second.
const MINUTE_DIGITS: usize = 12;
const SECOND_DIGITS: usize = 14;

/// A time, if it is precise to the minute. Without an offset it is in the time zone of the machine.
/// A date alone orders nothing (HL7-25).
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    let (digits, offset) = match text.find(['+', '-']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let digits: String =
        digits.split('.').next().unwrap_or_default().chars().take(SECOND_DIGITS).collect();
    if digits.len() < MINUTE_DIGITS || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let civil = DateTime::strptime("%Y%m%d%H%M%S", format!("{digits:0<14}")).ok()?;
    if offset.is_empty() {
        return civil.to_zoned(TimeZone::system()).ok().map(|it| it.timestamp());
    }
    let whole = format!("{} {offset}", civil.strftime("%Y%m%d%H%M%S"));
    Timestamp::strptime("%Y%m%d%H%M%S %z", whole).ok()
}
