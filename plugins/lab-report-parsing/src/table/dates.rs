//! The dates of columns. Of several columns with dates, the newest has the results, and the others
//! are history.

/// Year, month and day.
pub(crate) type Date = [u16; 3];

/// Month names, by their first letters.
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// A date in the two ways in which it may be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrintedDate {
    day_first: Option<Date>,
    month_first: Option<Date>,
}

/// The newest of several dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    /// Its place.
    pub(crate) at: usize,
    /// Whether it is the newest in whatever way the dates are meant.
    pub(crate) is_certain: bool,
}

impl PrintedDate {
    /// The date that a word is.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        let word = word.trim_matches(|it: char| !it.is_alphanumeric());
        let is_between = |it: char| matches!(it, '.' | '/' | '-' | '年' | '月' | '日');
        let parts: Vec<&str> = word.split(is_between).filter(|it| !it.is_empty()).collect();
        let [first, second, third] = parts.as_slice() else { return None };
        if let Some(month) = month_named(second) {
            let date = date(year(third)?, month, first.parse().ok()?)?;
            return Some(Self { day_first: Some(date), month_first: Some(date) });
        }
        let has_figures = |it: &&&str| it.bytes().all(|it| it.is_ascii_digit());
        if parts.iter().filter(has_figures).count() < 3 {
            return None;
        }
        let number = |it: &str| it.parse::<u16>().ok();
        if first.len() == 4 {
            let date = date(number(first)?, number(second)?, number(third)?)?;
            return Some(Self { day_first: Some(date), month_first: Some(date) });
        }
        let year = year(third)?;
        let day_first = date(year, number(second)?, number(first)?);
        // Points stand between day and month only in this order.
        let month_first =
            date(year, number(first)?, number(second)?).filter(|_| !word.contains('.'));
        let found = Self { day_first, month_first };
        (day_first.is_some() || month_first.is_some()).then_some(found)
    }

    /// All that it may mean.
    pub(crate) fn readings(self) -> impl Iterator<Item = Date> {
        let month_first = self.month_first.filter(|it| self.day_first != Some(*it));
        self.day_first.into_iter().chain(month_first)
    }
}

/// The newest of some dates: each with its place.
pub(crate) fn newest(dates: &[(usize, PrintedDate)]) -> Option<Newest> {
    let all = |reading: fn(&PrintedDate) -> Option<Date>| -> Option<Vec<(Date, usize)>> {
        dates.iter().map(|(at, it)| Some((reading(it)?, *at))).collect()
    };
    let readings = [all(|it| it.day_first), all(|it| it.month_first)];
    let found = readings.iter().flatten().filter_map(|dates| {
        let last = dates.iter().max()?;
        let is_only = dates.iter().filter(|it| it.0 == last.0).count() == 1;
        Some(Newest { at: last.1, is_certain: is_only })
    });
    let found: Vec<Newest> = found.collect();
    let first = found.first().copied();
    let Some(first) = first else {
        return dates.first().map(|it| Newest { at: it.0, is_certain: false });
    };
    let is_certain = found.iter().all(|it| it.at == first.at && it.is_certain);
    Some(Newest { is_certain, ..first })
}

fn month_named(text: &str) -> Option<u16> {
    let start = text.get(..3)?.to_lowercase();
    let at = MONTHS.iter().position(|it| *it == start)?;
    u16::try_from(at + 1).ok()
}

fn year(text: &str) -> Option<u16> {
    let year: u16 = text.parse().ok()?;
    match text.len() {
        4 => Some(year),
        2 => Some(2000 + year),
        _ => None,
    }
}

fn date(year: u16, month: u16, day: u16) -> Option<Date> {
    let is_date =
        (1900..2200).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    is_date.then_some([year, month, day])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(dates: &[&str], at: usize, is_certain: bool) {
        let dates: Vec<(usize, PrintedDate)> = dates
            .iter()
            .enumerate()
            .map(|(at, it)| (at, PrintedDate::parse(it).unwrap()))
            .collect();
        assert_eq!(newest(&dates), Some(Newest { at, is_certain }), "{dates:?}");
    }

    #[test]
    fn pap_10_the_newest_of_dated_columns_is_found() {
        check(&["01.12.2025", "03.01.2026"], 1, true);
        check(&["03.01.2026", "01.12.2025", "31.12.25"], 0, true);
        check(&["2025-12-01", "2026-01-03"], 1, true);
        check(&["2025年12月01日", "2026年1月3日"], 1, true);
        check(&["03-Jan-2026", "01-Dec-2025"], 0, true);
        check(&["12/25/2025", "01/03/2026"], 1, true);
        check(&["25/12/2025", "03/01/2026"], 1, true);
    }

    #[test]
    fn pap_10_dates_that_may_be_meant_in_two_ways_are_not_certain() {
        // The second is newer with the day first, the first with the month first.
        check(&["02/01/2026", "01/02/2026"], 1, false);
        check(&["03.01.2026", "03.01.2026"], 1, false);
    }

    #[test]
    fn pap_10_what_is_no_date_is_none() {
        for word in ["Result", "3.5", "32.01.2026", "1.13.2026", "12.3.4", "3-5", "10-12-14-16", ""]
        {
            assert_eq!(PrintedDate::parse(word), None, "{word}");
        }
    }
}
