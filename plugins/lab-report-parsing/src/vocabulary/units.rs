//! Units as laboratories print them, and corrections of misread ones.

use encoding::laboratory::unit::{canonical, folded_text, spellings};

/// Units that laboratories print, beside those of the table of UCUM spellings.
const UNITS: &[&str] = &[
    "{cells}/uL",
    "{titer}",
    "{Ratio}",
    "pg/{cell}",
    "g/mL",
    "ug/g",
    "mg/g",
    "mg/24h",
    "g/24h",
    "mmol/24h",
    "copies/mL",
    "IU/mL",
    "S/CO",
    "COI",
    "AU/mL",
    "RU/mL",
    "kU/L",
    "mOsm/kg",
    "/HP",
    "/LP",
    "cells/uL",
    "个/uL",
    "mm/1h",
    "mL/min",
    "nmol/min",
    "ng/(mL·h)",
    "10^6/uL",
    "10^3/uL",
    "10^9/L",
    "10^12/L",
    "10*6/uL",
    "10*3/uL",
    "10*9/L",
    "10*12/L",
    "sec",
    "INR",
];

/// Whether a text is exactly a unit.
pub(crate) fn is_unit(text: &str) -> bool {
    canonical(text).is_ucum || UNITS.contains(&text)
}

/// Whether a text is a unit, or a misread one.
pub(crate) fn is_like_unit(text: &str) -> bool {
    text.chars().any(char::is_alphabetic) && is_unit(&unit(text)) || text == "%"
}

/// The unit that a text most likely was before recognition. A text that is equally near to two
/// units is not changed.
pub(crate) fn unit(cell: &str) -> String {
    let close: String = folded_text(cell).chars().filter(|it| !it.is_whitespace()).collect();
    let close = close.trim_matches(['|', '_', '.', ',']).to_owned();
    if close.is_empty() || is_unit(&close) {
        return close;
    }
    let is_percent = ["Yo", "yo", "%o", "°/o"].contains(&close.as_str());
    if is_percent || close.ends_with('%') && close.chars().count() <= 3 {
        return "%".to_owned();
    }
    let key = alike(&close);
    // Twice the letters that differ; a stroke that was lost counts as half of one.
    let allowed = match key.chars().count() {
        0..2 => 0,
        2 => 1,
        it => 2 * (it / 4).clamp(1, 3),
    };
    let distance = |spelt: &str| {
        let other = alike(spelt);
        if other.replace('/', "") == key { 1 } else { 2 * strsim::levenshtein(&other, &key) }
    };
    let known = UNITS.iter().map(|it| (*it, *it)).chain(spellings());
    let begins_other = |it: &str| alike(it).chars().next() != key.chars().next();
    let mut near: Vec<(usize, bool, String)> = known
        .map(|(spelt, unit)| (distance(spelt), begins_other(spelt), canonical(unit).text))
        .collect();
    near.sort_unstable();
    near.dedup();
    match near.as_slice() {
        [(least, begins, unit), (next, other, _), ..]
            if *least <= allowed && (least, begins) < (next, other) =>
        {
            unit.clone()
        }
        _ => close,
    }
}

/// Letters that are printed alike, as one.
fn alike(text: &str) -> String {
    let one = |it: char| match it {
        'l' | 'I' | '|' | 'L' | 'i' => '1',
        'o' | 'O' => '0',
        'μ' | 'µ' => 'u',
        '×' | 'X' => 'x',
        '*' | '^' => '^',
        '9' | 'q' => 'g',
        '5' | 'S' => 's',
        it => it.to_ascii_lowercase(),
    };
    text.chars().map(one).collect()
}
