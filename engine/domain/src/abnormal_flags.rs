//! The flags that a report states of a laboratory row (OBX-8, table 0078): computed where they can
//! be, and those of the laboratory where they cannot, or where they say more (HL7-63).

use crate::{Abnormality, LabRow};

/// Between the flags of one row, as between the repetitions of OBX-8.
pub const FLAG_SEPARATOR: char = '~';

/// A flag on the scale from low to high.
struct Scaled {
    /// How it is sent or printed.
    mark: &'static str,
    meaning: Abnormality,
    /// How it is written (table 0078).
    code: &'static str,
    /// Whether somebody has to act at once. Such a flag is never replaced by a lesser one.
    is_critical: bool,
}

impl Scaled {
    const fn usual(mark: &'static str, meaning: Abnormality) -> Self {
        Self { mark, meaning, code: meaning.flag(), is_critical: false }
    }

    const fn critical(mark: &'static str, meaning: Abnormality, code: &'static str) -> Self {
        Self { mark, meaning, code, is_critical: true }
    }

    const fn quality(mark: &'static str, meaning: Abnormality) -> Self {
        Self { mark, meaning, code: mark, is_critical: false }
    }
}

const SCALE: [Scaled; 22] = [
    Scaled::usual("N", Abnormality::Normal),
    Scaled::quality("NEG", Abnormality::Normal),
    Scaled::usual("H", Abnormality::High),
    Scaled::usual("↑", Abnormality::High),
    Scaled::usual("▲", Abnormality::High),
    Scaled::usual("高", Abnormality::High),
    Scaled::usual("偏高", Abnormality::High),
    Scaled::critical("HH", Abnormality::High, "HH"),
    Scaled::critical("HHH", Abnormality::High, "HHH"),
    Scaled::critical("↑↑", Abnormality::High, "HH"),
    Scaled::usual("L", Abnormality::Low),
    Scaled::usual("↓", Abnormality::Low),
    Scaled::usual("▼", Abnormality::Low),
    Scaled::usual("低", Abnormality::Low),
    Scaled::usual("偏低", Abnormality::Low),
    Scaled::critical("LL", Abnormality::Low, "LL"),
    Scaled::critical("LLL", Abnormality::Low, "LLL"),
    Scaled::critical("↓↓", Abnormality::Low, "LL"),
    Scaled::usual("A", Abnormality::Abnormal),
    Scaled::quality("POS", Abnormality::Abnormal),
    Scaled::usual("异常", Abnormality::Abnormal),
    Scaled::critical("AA", Abnormality::Abnormal, "AA"),
];

/// Flags that do not say that a result is unusual: susceptible, not detected, better.
const HARMLESS: [&str; 4] = ["S", "VS", "ND", "B"];

fn scaled(mark: &str) -> Option<&'static Scaled> {
    let mark = mark.to_uppercase();
    SCALE.iter().find(|it| it.mark == mark)
}

impl LabRow {
    /// The flags of the row (OBX-8). Where nothing can be computed, they are those of the
    /// laboratory; where something can, a critical flag of the laboratory, and one that is not about
    /// low and high, stand beside it.
    pub fn flags(&self) -> Vec<String> {
        if self.withdrawn.is_some() {
            return Vec::new();
        }
        let received = self.received_flags();
        let criticals: Vec<&Scaled> =
            received.iter().filter_map(|it| scaled(it)).filter(|it| it.is_critical).collect();
        let mut flags: Vec<String> = Vec::new();
        let mut add = |flag: &str| {
            if !flag.is_empty() && !flags.iter().any(|it| it == flag) {
                flags.push(flag.to_owned());
            }
        };
        let is_general = criticals.iter().all(|it| it.meaning == Abnormality::Abnormal);
        let is_directed = matches!(self.abnormality, Abnormality::Low | Abnormality::High);
        if criticals.is_empty() || (is_general && is_directed) {
            add(self.abnormality.flag());
        }
        for mark in &received {
            match scaled(mark) {
                Some(known) if known.is_critical => add(known.code),
                Some(known) => {
                    let is_less = criticals.iter().any(|it| it.meaning == known.meaning);
                    if self.abnormality == Abnormality::Unknown && !is_less {
                        add(known.code);
                    }
                }
                None => add(mark),
            }
        }
        flags
    }

    /// The flags as the sender set them.
    pub fn received_flags(&self) -> Vec<&str> {
        let flags = self.flag_received.split(FLAG_SEPARATOR).map(str::trim);
        flags.filter(|it| !it.is_empty()).collect()
    }

    /// The flags by which the laboratory says that the result is unusual.
    pub fn warnings(&self) -> Vec<&str> {
        let is_warning = |it: &&str| match scaled(it) {
            Some(known) => known.meaning.is_abnormal(),
            None => !HARMLESS.contains(&it.to_uppercase().as_str()),
        };
        self.received_flags().into_iter().filter(is_warning).collect()
    }

    /// Whether a person has to see the row: by its value, or because the laboratory says so and the
    /// engine cannot tell, or because it says that somebody has to act at once.
    pub fn is_marked(&self) -> bool {
        let is_critical = |it: &&str| scaled(it).is_some_and(|it| it.is_critical);
        self.abnormality.is_abnormal()
            || self.received_flags().iter().any(is_critical)
            || (self.abnormality == Abnormality::Unknown && !self.warnings().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(abnormality: Abnormality, received: &str) -> LabRow {
        let flag_received = received.to_owned();
        LabRow { result: "7.4".to_owned(), abnormality, flag_received, ..LabRow::default() }
    }

    #[track_caller]
    fn check(computed: Abnormality, received: &str, expected: &str) {
        assert_eq!(
            row(computed, received).flags().join("~"),
            expected,
            "{received} and {computed:?}"
        );
    }

    #[test]
    fn hl7_63_the_flag_of_the_laboratory_stays_where_nothing_can_be_computed() {
        for flag in ["H", "L", "HH", "LL", "AA", "R", "I", "S", "U", "HHH", ">", "*", "H~U"] {
            check(Abnormality::Unknown, flag, flag);
        }
        check(Abnormality::Unknown, "L~LL", "LL");
        check(Abnormality::Unknown, "↑", "H");
        check(Abnormality::Unknown, "", "");
        check(Abnormality::Unknown, " h ", "H");
    }

    #[test]
    fn hl7_63_a_critical_flag_never_becomes_less() {
        check(Abnormality::High, "HH", "HH");
        check(Abnormality::High, "H", "H");
        check(Abnormality::High, "N", "H");
        check(Abnormality::High, "AA", "H~AA");
        check(Abnormality::High, "HHH", "HHH");
        check(Abnormality::Low, "L~LL", "LL");
        check(Abnormality::Low, "LL~D", "LL~D");
        check(Abnormality::Normal, "HH", "HH");
        check(Abnormality::Normal, "H", "N");
        check(Abnormality::Abnormal, "AA", "AA");
        check(Abnormality::Abnormal, "R", "A~R");
    }

    #[test]
    fn hl7_63_what_the_laboratory_marks_is_shown_to_a_person() {
        for flag in ["HH", "AA", "R", "H", "A", "W"] {
            assert!(row(Abnormality::Unknown, flag).is_marked(), "{flag}");
        }
        for flag in ["", "N", "S", "ND", "NEG"] {
            assert!(!row(Abnormality::Unknown, flag).is_marked(), "{flag}");
        }
        assert!(row(Abnormality::Normal, "LL").is_marked());
        assert!(!row(Abnormality::Normal, "L").is_marked());
    }
}
