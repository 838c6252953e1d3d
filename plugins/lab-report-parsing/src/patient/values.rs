//! Reads what stands behind the labels of a page: names, dates of birth, ages, numbers.

use super::labels::PatientLabels;
use crate::table::dates::PrintedDate;
use crate::vocabulary::is_han;

/// Upper bound of the words of a name.
const NAME_WORDS_MAX: usize = 6;

/// Upper bound of the characters of a Chinese name without a dot in it.
const CHINESE_NAME_MAX: usize = 4;

/// The name that a value begins with. What follows it is left out: numbers, the sex, brackets.
pub(crate) fn name(value: &str, labels: &PatientLabels) -> Option<String> {
    let value = value.split(['(', '[', ';', '|']).next().unwrap_or_default();
    let mut words: Vec<String> = Vec::new();
    for token in value.split([' ', ',', '，', '、', '\u{3000}']).filter(|it| !it.is_empty()) {
        let has_figure = token.chars().any(|it| it.is_ascii_digit());
        let token = if token.contains(is_han) { chinese_part(token) } else { token.to_owned() };
        let word = token.trim_matches(['.', '-', '/', ':', '_']).to_lowercase();
        // What stands behind the colon of a label that is not known is no name.
        if labels.is_no_name(&word) || token.ends_with(':') {
            break;
        }
        if has_figure && !token.contains(is_han) {
            break;
        }
        let is_sex = labels.sex(&word).is_some() && word.chars().count() != 1;
        if is_sex || matches!(word.as_str(), "男" | "女") {
            break;
        }
        words.push(token);
        if has_figure {
            break;
        }
    }
    let letters = words.concat().chars().filter(|it| it.is_alphabetic()).count();
    let chinese = words.concat().chars().filter(|it| is_han(*it)).count();
    let has_dot = words.iter().any(|it| it.contains(['·', '•']));
    let is_plausible = letters >= 2
        && words.len() <= NAME_WORDS_MAX
        && (chinese <= CHINESE_NAME_MAX + 2 || has_dot);
    is_plausible.then(|| words.join(" "))
}

/// The part of a token that is a Chinese name: `李小梅女45岁` has the sex and the age behind it.
fn chinese_part(token: &str) -> String {
    let mut name = String::new();
    let mut letters = token.chars().peekable();
    while let Some(letter) = letters.next() {
        let next = letters.peek().copied();
        let is_end = next.is_none_or(|it| it.is_ascii_digit() || "性,/".contains(it));
        let is_sex = matches!(letter, '男' | '女') && is_end && name.chars().count() >= 2;
        if is_sex || letter.is_ascii_digit() {
            break;
        }
        name.push(letter);
    }
    name
}

/// All dates that a value may begin with, as `YYYYMMDD`, `YYYYMM` or `YYYY`.
pub(crate) fn birth_dates(value: &str) -> Vec<String> {
    let value = value.trim();
    // `1950年 1月 1日` is one date.
    let joined: String = if value.contains('年') {
        value.chars().filter(|it| !it.is_whitespace()).collect()
    } else {
        value.to_owned()
    };
    let is_end = |it: char| it.is_whitespace() || matches!(it, ',' | ';' | '(' | ')');
    let tokens: Vec<&str> = joined.split(is_end).filter(|it| !it.is_empty()).take(3).collect();
    let Some(first) = tokens.first() else { return Vec::new() };
    let figures = first.bytes().take_while(u8::is_ascii_digit).count();
    if figures == 8 && first.len() == 8 {
        return vec![(*first).to_owned()];
    }
    let readings = readings(first);
    if !readings.is_empty() {
        return readings;
    }
    if let [first, second, third] = tokens.as_slice() {
        for order in [[first, second, third], [second, first, third]] {
            let found = self::readings(&order.map(|it| it.trim_end_matches('.')).join("-"));
            if !found.is_empty() {
                return found;
            }
        }
    }
    partial_date(first).into_iter().collect()
}

fn readings(text: &str) -> Vec<String> {
    let Some(date) = PrintedDate::parse(text) else { return Vec::new() };
    let has_century = text.split(|it: char| !it.is_ascii_digit()).any(|it| it.len() == 4);
    let all = date.readings().flat_map(|[year, month, day]| {
        // A year of two figures may be of either century.
        let other = (!has_century).then(|| format!("{:04}{month:02}{day:02}", year - 100));
        [Some(format!("{year:04}{month:02}{day:02}")), other]
    });
    let mut all: Vec<String> = all.flatten().collect();
    all.dedup();
    all
}

/// `1950年1月`, `1950-01`, `1950`.
fn partial_date(text: &str) -> Option<String> {
    let text = text.trim_end_matches('月').trim_end_matches('年');
    let mut parts = text.split(['-', '/', '.', '年']);
    let year = parts.next().filter(|it| it.len() == 4)?;
    let is_year = year.parse().is_ok_and(|it: u16| (1900..2200).contains(&it));
    let month: Option<u8> = match parts.next() {
        Some(month) => Some(month.parse().ok().filter(|it| (1..=12).contains(it))?),
        None => None,
    };
    let is_whole = is_year && parts.next().is_none();
    is_whole.then(|| month.map_or(year.to_owned(), |month| format!("{year}{month:02}")))
}

/// The age that a value begins with, as an age string (AS) of DICOM: `045Y`, `011M`.
pub(crate) fn age(value: &str) -> Option<String> {
    let value = value.trim();
    let figures = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = value.split_at_checked(figures)?;
    let number: u16 = number.parse().ok().filter(|it| *it < 150)?;
    let unit = rest.trim_start().to_lowercase();
    let begins = |all: &[&str]| all.iter().any(|it| unit.starts_with(it));
    let is_bare = !unit.starts_with(|it: char| it.is_alphabetic());
    if begins(&["个月", "月", "mo", "mth"]) {
        Some(format!("{number:03}M"))
    } else if begins(&["天", "日", "d"]) {
        Some(format!("{number:03}D"))
    } else if begins(&["周", "w"]) {
        Some(format!("{number:03}W"))
    } else if is_bare || begins(&["岁", "y", "a ", "j"]) {
        Some(format!("{number:03}Y"))
    } else {
        None
    }
}

/// The sex that a value names among its first words.
pub(crate) fn sex(value: &str, labels: &PatientLabels) -> Option<&'static str> {
    let is_end = |it: char| it.is_whitespace() || matches!(it, '/' | ',' | ';' | '(' | ')' | '.');
    let mut tokens = value.split(is_end).filter(|it| !it.is_empty()).take(2);
    tokens.find_map(|it| labels.sex(it))
}

/// The age among the first words of a value that names the sex as well: `F/45`.
pub(crate) fn age_beside_sex(value: &str) -> Option<String> {
    value.split(['/', ',', ' ']).filter(|it| !it.is_empty()).take(3).find_map(age)
}

/// The number that a value begins with.
pub(crate) fn identifier(value: &str) -> Option<String> {
    let is_end = |it: char| it.is_whitespace() || matches!(it, ',' | ';' | '(');
    let token = value.trim().split(is_end).next()?;
    let token = token.trim_matches(|it: char| !it.is_alphanumeric() && it != '*');
    let has_figure = token.chars().any(|it| it.is_ascii_digit());
    (has_figure && token.chars().count() >= 3).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(value: &str) -> Option<String> {
        name(value, PatientLabels::standard())
    }

    #[test]
    fn pap_10_a_name_ends_where_something_else_begins() {
        for (value, expected) in [
            ("Jane Doe", "Jane Doe"),
            ("DOE, JANE (F) 01/01/1980", "DOE JANE"),
            ("Mary Sample 45y", "Mary Sample"),
            ("Jane F", "Jane F"),
            ("Jane Doe female", "Jane Doe"),
            ("李小梅 女 45岁", "李小梅"),
            ("李小梅女45岁", "李小梅"),
            ("李小梅 Li Xiaomei", "李小梅 Li Xiaomei"),
            ("阿依古丽·买买提", "阿依古丽·买买提"),
        ] {
            assert_eq!(named(value).as_deref(), Some(expected), "{value}");
        }
        for value in ["", "45", "information", "F", "is a 45 year old man", "12345678"] {
            assert_eq!(named(value), None, "{value}");
        }
    }

    #[test]
    fn pap_10_a_birth_date_is_read_in_all_ways_it_may_mean() {
        for (value, expected) in [
            ("01.02.1950", &["19500201"][..]),
            ("01/02/1950", &["19500201", "19500102"]),
            ("1950-02-01 (76 y)", &["19500201"]),
            ("19500201", &["19500201"]),
            ("1950年2月1日", &["19500201"]),
            ("1950年 2月 1日", &["19500201"]),
            ("1 Feb 1950", &["19500201"]),
            ("Feb 1, 1950", &["19500201"]),
            ("01.02.50", &["20500201", "19500201"]),
            ("1950年2月", &["195002"]),
            ("1950", &["1950"]),
            ("unknown", &[]),
            ("45 years", &[]),
        ] {
            assert_eq!(birth_dates(value), expected, "{value}");
        }
    }

    #[test]
    fn pap_10_ages_and_numbers_are_read() {
        let ages = ["45", "45岁", "45 years", "11个月", "3 mo", "12 days", "0045x", "none"];
        let ages = ages.map(|it| age(it).unwrap_or_default());
        assert_eq!(ages, ["045Y", "045Y", "045Y", "011M", "003M", "012D", "", ""]);
        assert_eq!(age_beside_sex("F / 45Y").as_deref(), Some("045Y"));
        assert_eq!(identifier("0004711 Ward 3").as_deref(), Some("0004711"));
        assert_eq!(identifier("n/a"), None);
    }
}
