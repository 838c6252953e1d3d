//! Reference ranges that depend on sex or age (HL7-62): `M 13-17 F 12-15`, `男 130-175 女 115-150`,
//! `18-60 岁: 3-5; >60 岁: 2-4`.
//!
//! A reference is taken apart at the words for groups of patients. The range of a group is used only
//! where sex and age are known well enough to say that the patient belongs to it, and to no other.

use std::sync::LazyLock;

use domain::PatientFacts;
use regex::Regex;

use super::unit::folded_text;

/// The range that holds for a patient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatientRange {
    /// The whole reference: it names no groups.
    Whole,
    /// The range of the group that the patient belongs to.
    OfGroup(String),
    /// It depends on sex or age, and which range holds is not known.
    Unknown,
}

/// Days of a year and of a month, on average.
const YEAR: f64 = 365.25;
const MONTH: f64 = YEAR / 12.0;

/// Words for a sex, in small letters.
const MALE: &[&str] = &["males", "male", "men", "man", "boys", "boy", "m", "♂", "男性", "男"];
const FEMALE: &[&str] =
    &["females", "female", "women", "woman", "girls", "girl", "f", "w", "♀", "女性", "女"];

/// Words for an age, in small letters. Laboratories do not agree where childhood ends: between 14
/// and 18 years it is not known.
const AGES: &[(&str, AgeGroup)] = &[
    ("adults", ADULT),
    ("adult", ADULT),
    ("成年人", ADULT),
    ("成人", ADULT),
    ("children", CHILD),
    ("child", CHILD),
    ("儿童", CHILD),
    ("小儿", CHILD),
    ("infants", INFANT),
    ("infant", INFANT),
    ("婴儿", INFANT),
    ("newborns", NEWBORN),
    ("newborn", NEWBORN),
    ("neonates", NEWBORN),
    ("neonate", NEWBORN),
    ("新生儿", NEWBORN),
];

const ADULT: AgeGroup = AgeGroup {
    surely: Days { from: 18.0 * YEAR, to: f64::MAX },
    maybe: Days { from: 14.0 * YEAR, to: f64::MAX },
};

const CHILD: AgeGroup = AgeGroup {
    surely: Days { from: YEAR, to: 14.0 * YEAR },
    maybe: Days { from: 0.0, to: 18.0 * YEAR },
};

const INFANT: AgeGroup =
    AgeGroup { surely: Days { from: 29.0, to: YEAR }, maybe: Days { from: 0.0, to: 2.0 * YEAR } };

const NEWBORN: AgeGroup =
    AgeGroup { surely: Days { from: 0.0, to: 28.0 }, maybe: Days { from: 0.0, to: 31.0 } };

/// A sex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sex {
    Male,
    Female,
}

/// Ages in days: those that are surely meant, and those that may be.
#[derive(Clone, Copy, Debug, PartialEq)]
struct AgeGroup {
    surely: Days,
    maybe: Days,
}

/// A time from one day to another, which is excluded.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Days {
    from: f64,
    to: f64,
}

/// Patients of one sex or age, with their range.
#[derive(Clone, Debug, Default, PartialEq)]
struct Group {
    sex: Option<Sex>,
    age: Option<AgeGroup>,
    range: String,
}

/// What a word says of a group.
#[derive(Clone, Copy)]
enum Marker {
    Sex(Sex),
    Age(AgeGroup),
}

/// Whether a patient belongs to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Membership {
    Yes,
    No,
    NotKnown,
}

/// The range of a reference that holds for a patient.
pub fn range_for(reference: &str, patient: &PatientFacts) -> PatientRange {
    let groups = groups(&folded_text(reference));
    let are_ranges = groups.iter().all(|it| it.range.contains(|it: char| it.is_ascii_digit()));
    if groups.is_empty() || !are_ranges {
        return PatientRange::Whole;
    }
    let sex = match patient.sex.as_str() {
        "M" => Some(Sex::Male),
        "F" => Some(Sex::Female),
        _ => None,
    };
    let age = age_in_days(&patient.age);
    let mut of_patient: Vec<&str> = Vec::new();
    let mut is_certain = true;
    for group in &groups {
        match group.has(sex, age) {
            Membership::Yes => of_patient.push(&group.range),
            Membership::No => {}
            Membership::NotKnown => {
                is_certain = false;
                of_patient.push(&group.range);
            }
        }
    }
    of_patient.dedup();
    match of_patient.as_slice() {
        [range] if is_certain || (groups.len() > 1 && are_alike(&groups)) => {
            PatientRange::OfGroup((*range).to_owned())
        }
        _ => PatientRange::Unknown,
    }
}

/// Whether all groups have one range.
fn are_alike(groups: &[Group]) -> bool {
    groups.array_windows().all(|[a, b]| a.range == b.range)
}

impl Group {
    fn has(&self, sex: Option<Sex>, age: Option<Days>) -> Membership {
        let by_sex = match (self.sex, sex) {
            (None, _) => Membership::Yes,
            (Some(_), None) => Membership::NotKnown,
            (Some(wanted), Some(sex)) if wanted == sex => Membership::Yes,
            (Some(_), Some(_)) => Membership::No,
        };
        let by_age = match (self.age, age) {
            (None, _) => Membership::Yes,
            (Some(_), None) => Membership::NotKnown,
            (Some(wanted), Some(age)) => wanted.has(age),
        };
        match (by_sex, by_age) {
            (Membership::No, _) | (_, Membership::No) => Membership::No,
            (Membership::Yes, Membership::Yes) => Membership::Yes,
            _ => Membership::NotKnown,
        }
    }
}

impl AgeGroup {
    const fn exactly(days: Days) -> Self {
        Self { surely: days, maybe: days }
    }

    fn has(self, age: Days) -> Membership {
        if age.from >= self.surely.from && age.to <= self.surely.to {
            Membership::Yes
        } else if age.to <= self.maybe.from || age.from >= self.maybe.to {
            Membership::No
        } else {
            Membership::NotKnown
        }
    }
}

/// The time in which a patient has an age (AS): `045Y` is a year long.
fn age_in_days(age: &str) -> Option<Days> {
    let (number, unit) = age.split_at_checked(age.len().checked_sub(1)?)?;
    let number: f64 = number.parse::<u16>().ok()?.into();
    let unit = match unit {
        "Y" => YEAR,
        "M" => MONTH,
        "W" => 7.0,
        "D" => 1.0,
        _ => return None,
    };
    Some(Days { from: number * unit, to: (number + 1.0) * unit })
}

/// The groups of a reference. The range of a group stands behind its words, or, in brackets, the
/// words behind the range.
fn groups(text: &str) -> Vec<Group> {
    let marks = marks(text);
    let Some((first, _, first_mark)) = marks.first() else { return Vec::new() };
    let is_behind = text.get(..*first).unwrap_or_default().contains(|it: char| it.is_ascii_digit());
    let mut groups: Vec<Group> = Vec::new();
    let mut open = Group::default();
    let mut from = 0;
    for (at, (start, end, marker)) in marks.iter().enumerate() {
        match marker {
            Marker::Sex(sex) => open.sex = Some(*sex),
            Marker::Age(age) => open.age = Some(*age),
        }
        let next = marks.get(at + 1).map_or(text.len(), |it| it.0);
        let range = if is_behind {
            text.get(from..*start).map(trimmed).unwrap_or_default()
        } else {
            text.get(*end..next).map(trimmed).unwrap_or_default()
        };
        from = *end;
        if range.is_empty() {
            // Another word for the same group follows, or, where words stand behind their range,
            // belongs to the group before.
            if is_behind && let Some(last) = groups.last_mut() {
                last.sex = open.sex.or(last.sex);
                last.age = open.age.or(last.age);
                open = Group::default();
            }
            continue;
        }
        range.clone_into(&mut open.range);
        inherit(&mut open, groups.last(), *first_mark);
        groups.push(std::mem::take(&mut open));
    }
    groups
}

/// What a group has of the one before it: in `Adult M 13-17 F 12-15`, the second is of adults as
/// well. Only what the first group names first goes on.
fn inherit(group: &mut Group, last: Option<&Group>, first_mark: Marker) {
    let Some(last) = last.filter(|it| it.sex.is_some() && it.age.is_some()) else { return };
    match first_mark {
        Marker::Age(_) if group.age.is_none() => group.age = last.age,
        Marker::Sex(_) if group.sex.is_none() => group.sex = last.sex,
        Marker::Age(_) | Marker::Sex(_) => {}
    }
}

/// A range without what sets it apart from the words around it.
fn trimmed(text: &str) -> &str {
    let text = text.trim_matches(|it: char| it.is_whitespace() || ":=;,|/()[]{}、。;".contains(it));
    text.trim()
}

/// The words for groups in a text: where each begins and ends.
fn marks(text: &str) -> Vec<(usize, usize, Marker)> {
    let lower = text.to_lowercase();
    if lower.len() != text.len() {
        return Vec::new();
    }
    let mut marks = Vec::new();
    let mut at = 0;
    while let Some(rest) = lower.get(at..) {
        let Some(letter) = rest.chars().next() else { break };
        let before = lower.get(..at).and_then(|it| it.chars().next_back());
        match marker(rest, before) {
            Some((marker, length)) => {
                marks.push((at, at + length, marker));
                at += length;
            }
            None => at += letter.len_utf8(),
        }
    }
    marks
}

/// The word for a group that a text begins with, in small letters, and its length.
fn marker(text: &str, before: Option<char>) -> Option<(Marker, usize)> {
    if let Some(found) = age_marker(text, before) {
        return Some(found);
    }
    let is_word = |word: &str| {
        let Some(rest) = text.strip_prefix(word) else { return false };
        let is_latin = word.is_ascii();
        let is_apart =
            !before.is_some_and(|it| it.is_ascii_alphanumeric() || matches!(it, '/' | '^' | '.'));
        !is_latin
            || (is_apart && !rest.starts_with(|it: char| it.is_ascii_alphanumeric() || it == '/'))
    };
    let sexes = [(MALE, Sex::Male), (FEMALE, Sex::Female)];
    for (words, sex) in sexes {
        if let Some(word) = words.iter().find(|it| is_word(it)) {
            return Some((Marker::Sex(sex), word.len()));
        }
    }
    let (word, age) = AGES.iter().find(|it| is_word(it.0))?;
    Some((Marker::Age(*age), word.len()))
}

/// An age in figures that a text begins with: `18-60 岁`, `>60 y`, `60 years and over`.
fn age_marker(text: &str, before: Option<char>) -> Option<(Marker, usize)> {
    static AGE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let from_to = r"(?:(?P<from>\d{1,3}) ?(?:-|~|to|至|到) ?(?P<to>\d{1,3}))";
        let sign = r"(?:(?P<sign><=|>=|<|>|≤|≥) ?(?P<bound>\d{1,3}))";
        let unit = r"(?P<unit>周岁|岁|years|year|yrs|yr|y|个月|月|months|month|mos|mo|天|日|days|day|周|weeks|wk)";
        let open = r"(?P<open> ?(?:及?以上|及?以下|\+|and over|and above|and older|old))?";
        let pattern = format!(r"^(?:{from_to}|{sign}|(?P<alone>\d{{1,3}})) ?{unit}{open}");
        Regex::new(&pattern).ok()
    });
    if before.is_some_and(|it| it.is_ascii_alphanumeric() || matches!(it, '.' | ',' | '-')) {
        return None;
    }
    let found = AGE.as_ref()?.captures(text)?;
    let whole = found.get(0)?;
    let rest = text.get(whole.end()..)?;
    if whole.as_str().ends_with(|it: char| it.is_ascii_alphabetic())
        && rest.starts_with(|it: char| it.is_ascii_alphanumeric() || it == '/')
    {
        return None;
    }
    let unit = match found.name("unit")?.as_str() {
        "周岁" | "岁" | "years" | "year" | "yrs" | "yr" | "y" => YEAR,
        "天" | "日" | "days" | "day" => 1.0,
        "周" | "weeks" | "wk" => 7.0,
        _ => MONTH,
    };
    let number = |name: &str| -> Option<f64> {
        found.name(name)?.as_str().parse::<u16>().ok().map(f64::from)
    };
    let days = if let (Some(from), Some(to)) = (number("from"), number("to")) {
        Days { from: from * unit, to: (to + 1.0) * unit }
    } else if let Some(bound) = number("bound") {
        match found.name("sign")?.as_str() {
            "<" => Days { from: 0.0, to: bound * unit },
            "<=" | "≤" => Days { from: 0.0, to: (bound + 1.0) * unit },
            ">" => Days { from: (bound + 1.0) * unit, to: f64::MAX },
            _ => Days { from: bound * unit, to: f64::MAX },
        }
    } else {
        let alone = number("alone")?;
        match found.name("open")?.as_str().trim() {
            "以下" => Days { from: 0.0, to: alone * unit },
            "及以下" => Days { from: 0.0, to: (alone + 1.0) * unit },
            "old" => return None,
            _ => Days { from: alone * unit, to: f64::MAX },
        }
    };
    Some((Marker::Age(AgeGroup::exactly(days)), whole.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reference: &str, cases: &[(&str, &str, Option<&str>)]) {
        for (sex, age, expected) in cases {
            let patient = PatientFacts { sex: (*sex).to_owned(), age: (*age).to_owned() };
            let expected = match expected {
                Some(range) => PatientRange::OfGroup((*range).to_owned()),
                None => PatientRange::Unknown,
            };
            assert_eq!(range_for(reference, &patient), expected, "{reference}: {sex} {age}");
        }
    }

    #[test]
    fn hl7_62_a_range_of_a_sex_is_used_if_the_sex_is_known() {
        for reference in [
            "M 13-17 F 12-15",
            "M: 13-17; F: 12-15",
            "Male 13-17, Female 12-15",
            "men 13-17 women 12-15",
            "男 13-17 女 12-15",
            "男:13-17女:12-15",
            "男性：13-17；女性：12-15",
            "13-17 (M) 12-15 (F)",
            "13-17(男),12-15(女)",
        ] {
            let cases = [("M", "", Some("13-17")), ("F", "", Some("12-15"))];
            check(reference, &cases);
            check(reference, &[("", "045Y", None), ("O", "", None)]);
        }
        check("M 13-17 g/dL F 12-15 g/dL", &[("F", "", Some("12-15 g/dL"))]);
        check("男 <10 女 <10", &[("", "", Some("<10"))]);
    }

    #[test]
    fn hl7_62_a_range_of_an_age_is_used_if_the_age_is_known() {
        let cases = [
            ("", "045Y", Some("3-5")),
            ("", "005Y", Some("4-8")),
            ("", "016Y", None),
            ("", "", None),
        ];
        check("Adult 3-5 Child 4-8", &cases);
        check("成人 3-5 儿童 4-8", &cases);
        let cases = [
            ("", "030Y", Some("3-5")),
            ("", "061Y", Some("2-4")),
            ("", "017Y", None),
            ("", "", None),
        ];
        check("18-60岁: 3-5; >60岁: 2-4", &cases);
        check("18-60 y 3-5 60 years and over 2-4", &[("", "030Y", Some("3-5"))]);
        check(
            "18-60 y 3-5 60 years and over 2-4",
            &[("", "060Y", None), ("", "070Y", Some("2-4"))],
        );
        check(
            "0-28天 10-20 1-12个月 5-9",
            &[("", "003M", Some("5-9")), ("", "012D", Some("10-20"))],
        );
    }

    #[test]
    fn hl7_62_sex_and_age_together_select_one_range() {
        let cases = [
            ("M", "045Y", Some("13-17")),
            ("F", "045Y", Some("12-15")),
            ("M", "006Y", Some("11-13")),
            ("", "006Y", Some("11-13")),
            ("", "045Y", None),
            ("F", "", None),
        ];
        check("Adult M 13-17 F 12-15 Child 11-13", &cases);
        check("成人男 13-17 女 12-15 儿童 11-13", &cases);
    }

    #[test]
    fn hl7_62_what_names_no_group_is_one_range() {
        let patient = PatientFacts { sex: "F".to_owned(), age: "045Y".to_owned() };
        for reference in [
            "3.5-9.5",
            "",
            "<5 mg/L",
            "Negative",
            "0-20 mm/h",
            "10-14 days",
            "3.5-9.5 fmol/L",
            "M",
            "1:80",
            "阴性",
            "5-10 mm",
        ] {
            assert_eq!(range_for(reference, &patient), PatientRange::Whole, "{reference}");
        }
    }
}
