//! What a message states about a laboratory result beside its value.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::OrderNumber;

/// Panel, specimen, time and notes of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circumstances {
    /// OBR-4: what was ordered, as text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub panel: String,
    /// The specimen, as text: SPM-4 with what describes it, or OBR-15.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub specimen: String,
    /// When the specimen was taken, or the patient examined: OBX-14, or else OBR-7 or SPM-17. It is
    /// never the time of processing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<ObservedAt>,
    /// The notes on the result (NTE-3), in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The order that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<AnsweredOrder>,
}

/// An order by the numbers that its results name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredOrder {
    /// The number of who ordered: OBR-2, or ORC-2.
    pub placer: OrderNumber,
    /// The number of the laboratory: OBR-3, or ORC-3.
    pub filler: OrderNumber,
}

impl Circumstances {
    /// Whether nothing is stated.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A time as a message states it, which may be less precise than a point in time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedAt {
    /// As received (DTM).
    pub text: String,
    /// The point in time; nothing, if it is not stated to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instant: Option<Timestamp>,
}

impl ObservedAt {
    /// The year, month and day as far as they are stated: `2026`, `2026-01`, `2026-01-03`. Nothing,
    /// if the text is no date.
    pub fn date(&self) -> Option<String> {
        let is_figure = |it: &char| it.is_ascii_digit();
        let digits: String = self.text.chars().take_while(is_figure).take(8).collect();
        let part = |from: usize, to: usize| digits.get(from..to);
        let is_within = |it: Option<&str>, max: u8| {
            it.and_then(|it| it.parse::<u8>().ok()).is_some_and(|it| (1..=max).contains(&it))
        };
        let year = part(0, 4)?;
        match digits.len() {
            4 | 5 => Some(year.to_owned()),
            6 | 7 if is_within(part(4, 6), 12) => Some(format!("{year}-{}", part(4, 6)?)),
            8 if is_within(part(4, 6), 12) && is_within(part(6, 8), 31) => {
                let date = format!("{year}-{}-{}", part(4, 6)?, part(6, 8)?);
                date.parse::<jiff::civil::Date>().ok().map(|_| date)
            }
            _ => None,
        }
    }

    /// Whether the text is a time of the standard (DTM): digits, a fraction, an offset.
    pub fn is_dtm(&self) -> bool {
        let (time, offset) = match self.text.find(['+', '-']) {
            Some(at) => self.text.split_at(at),
            None => (self.text.as_str(), "+0000"),
        };
        let (digits, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let are_figures = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
        let offset = offset.get(1..).unwrap_or_default();
        self.date().is_some()
            && are_figures(digits)
            && matches!(digits.len(), 4 | 6 | 8 | 10 | 12 | 14)
            && are_figures(fraction)
            && fraction.len() <= 4
            && are_figures(offset)
            && offset.len() == 4
    }

    /// The time for people: `2026-01-03 08:10`, or what is stated of it. As received, if it is no
    /// date.
    pub fn printed(&self) -> String {
        let Some(date) = self.date() else { return self.text.clone() };
        let part = |from: usize, to: usize| {
            let part = self.text.get(from..to)?;
            part.bytes().all(|it| it.is_ascii_digit()).then_some(part)
        };
        match (part(8, 10), part(10, 12)) {
            (Some(hour), Some(minute)) => format!("{date} {hour}:{minute}"),
            (Some(hour), None) => format!("{date} {hour}h"),
            _ => date,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, date: Option<&str>, printed: &str, is_dtm: bool) {
        let at = ObservedAt { text: text.to_owned(), instant: None };
        assert_eq!(
            (at.date().as_deref(), at.printed().as_str(), at.is_dtm()),
            (date, printed, is_dtm),
            "{text}"
        );
    }

    #[test]
    fn hl7_60_a_time_is_as_precise_as_it_is_stated() {
        check("2026", Some("2026"), "2026", true);
        check("202601", Some("2026-01"), "2026-01", true);
        check("20260103", Some("2026-01-03"), "2026-01-03", true);
        check("2026010308", Some("2026-01-03"), "2026-01-03 08h", true);
        check("20260103081000.5+0100", Some("2026-01-03"), "2026-01-03 08:10", true);
        check("20261340", None, "20261340", false);
        check("20260230", None, "20260230", false);
        check("morning", None, "morning", false);
        check("", None, "", false);
    }
}
