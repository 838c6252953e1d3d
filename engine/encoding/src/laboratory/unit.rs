//! Units of measurement in their UCUM form (HL7-61). Values are never converted.

/// Known spellings, in small letters, and their UCUM codes.
const SPELLINGS: &[(&str, &str)] = &[
    ("10^9/l", "10*9/L"),
    ("10*9/l", "10*9/L"),
    ("x10^9/l", "10*9/L"),
    ("x10*9/l", "10*9/L"),
    ("x10e9/l", "10*9/L"),
    ("x109/l", "10*9/L"),
    ("10e9/l", "10*9/L"),
    ("10e+9/l", "10*9/L"),
    ("g/l(giga)", "10*9/L"),
    ("10^12/l", "10*12/L"),
    ("10*12/l", "10*12/L"),
    ("x10^12/l", "10*12/L"),
    ("x10*12/l", "10*12/L"),
    ("x10e12/l", "10*12/L"),
    ("10e12/l", "10*12/L"),
    ("x1012/l", "10*12/L"),
    ("10^3/ul", "10*3/uL"),
    ("10*3/ul", "10*3/uL"),
    ("x10^3/ul", "10*3/uL"),
    ("x10*3/ul", "10*3/uL"),
    ("x10e3/ul", "10*3/uL"),
    ("10e3/ul", "10*3/uL"),
    ("k/ul", "10*3/uL"),
    ("thou/ul", "10*3/uL"),
    ("10^6/ul", "10*6/uL"),
    ("10*6/ul", "10*6/uL"),
    ("x10^6/ul", "10*6/uL"),
    ("x10*6/ul", "10*6/uL"),
    ("x10e6/ul", "10*6/uL"),
    ("10e6/ul", "10*6/uL"),
    ("m/ul", "10*6/uL"),
    ("mill/ul", "10*6/uL"),
    ("umol/l", "umol/L"),
    ("mmol/l", "mmol/L"),
    ("nmol/l", "nmol/L"),
    ("pmol/l", "pmol/L"),
    ("mg/dl", "mg/dL"),
    ("g/dl", "g/dL"),
    ("gm/dl", "g/dL"),
    ("ug/dl", "ug/dL"),
    ("ng/dl", "ng/dL"),
    ("mg/l", "mg/L"),
    ("g/l", "g/L"),
    ("ug/l", "ug/L"),
    ("ng/l", "ng/L"),
    ("ng/ml", "ng/mL"),
    ("pg/ml", "pg/mL"),
    ("ug/ml", "ug/mL"),
    ("mg/ml", "mg/mL"),
    ("meq/l", "meq/L"),
    ("mmol/mol", "mmol/mol"),
    ("iu/l", "[IU]/L"),
    ("[iu]/l", "[IU]/L"),
    ("iu/ml", "[IU]/mL"),
    ("[iu]/ml", "[IU]/mL"),
    ("miu/l", "m[IU]/L"),
    ("m[iu]/l", "m[IU]/L"),
    ("miu/ml", "m[IU]/mL"),
    ("uiu/ml", "u[IU]/mL"),
    ("u[iu]/ml", "u[IU]/mL"),
    ("u/l", "U/L"),
    ("u/ml", "U/mL"),
    ("ukat/l", "ukat/L"),
    ("%", "%"),
    ("percent", "%"),
    ("fl", "fL"),
    ("pg", "pg"),
    ("s", "s"),
    ("sec", "s"),
    ("seconds", "s"),
    ("mm/h", "mm/h"),
    ("mm/hr", "mm/h"),
    ("ml/min", "mL/min"),
    ("ml/min/1.73m2", "mL/min/{1.73_m2}"),
    ("ml/min/1.73m^2", "mL/min/{1.73_m2}"),
    ("ml/min/{1.73_m2}", "mL/min/{1.73_m2}"),
    ("mmhg", "mm[Hg]"),
    ("mm[hg]", "mm[Hg]"),
    ("/hpf", "/[HPF]"),
    ("/lpf", "/[LPF]"),
    ("/ul", "/uL"),
    ("10^5/ul", "10*5/uL"),
    ("cells/mm^3", "{cells}/mm3"),
    ("kg/m2", "kg/m2"),
    ("kg/m^2", "kg/m2"),
    ("ratio", "{ratio}"),
    ("cel", "Cel"),
    ("kg", "kg"),
    ("cm", "cm"),
];

/// A unit, in its UCUM form if it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// UCUM code, or the text that was received.
    pub text: String,
    /// Whether `text` is UCUM.
    pub is_ucum: bool,
}

/// The unit that `text` names. An unknown one stays as it is.
pub fn canonical(text: &str) -> Unit {
    let key: String = text.chars().map(folded).filter(|it| !it.is_whitespace()).collect();
    let key = key.to_lowercase();
    // `G/L` is giga per litre, `g/L` is gram per litre: here the case carries the meaning.
    if folded_text(text).trim() == "G/L" {
        return Unit { text: "10*9/L".to_owned(), is_ucum: true };
    }
    match SPELLINGS.iter().find(|(spelling, _)| *spelling == key) {
        Some((_, ucum)) => Unit { text: (*ucum).to_owned(), is_ucum: true },
        None => Unit { text: text.trim().to_owned(), is_ucum: false },
    }
}

/// The unit that the components of a coded field name (OBX-6).
///
/// Many laboratories write `10^3/uL` without an escape sequence: its caret separates components.
/// Where the first component is no unit without what follows, the whole is the unit. Where it is a
/// code that is not known, and a text beside it is a known unit, that text is.
pub fn of_components(components: &[String], separator: char) -> String {
    let component = |at: usize| components.get(at).map(|it| it.trim()).unwrap_or_default();
    let [first, second] = [component(0), component(1)];
    if first.is_empty() {
        let others = [1, 3, 4].map(component);
        return others.into_iter().find(|it| !it.is_empty()).unwrap_or_default().to_owned();
    }
    if second.is_empty() {
        return first.to_owned();
    }
    let whole = format!("{first}{separator}{second}");
    let is_known = |it: &str| canonical(it).is_ucum;
    let is_power = second.len() == 1 && second.bytes().all(|it| it.is_ascii_digit());
    if is_known(&whole) || (is_base(first) && is_exponent(second)) || (is_power && is_bare(first)) {
        return whole;
    }
    let others = [1, 3, 4].map(component);
    let text = others.into_iter().find(|it| is_known(it)).filter(|_| !is_known(first));
    text.unwrap_or(first).to_owned()
}

/// Whether a text is the base of a power alone: `10`, `x10`.
fn is_base(text: &str) -> bool {
    let text = folded_text(text).to_lowercase();
    text.trim_start_matches('x').trim() == "10"
}

/// Whether a text begins with the exponent of a power: `3/uL`, `12/L`, `-6`.
fn is_exponent(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+']);
    let rest = digits.trim_start_matches(|it: char| it.is_ascii_digit());
    rest.len() < digits.len()
        && digits.len() - rest.len() <= 2
        && (rest.is_empty() || rest.starts_with(['/', ' ', '.', '*']))
}

/// Whether a text ends with a length, which may have a power: `mL/min/1.73m`, `/mm`, `cm`.
fn is_bare(text: &str) -> bool {
    let last = text.rsplit(['/', '.', ' ', '*']).next().unwrap_or_default();
    let last = last.trim_start_matches(|it: char| it.is_ascii_digit());
    matches!(last.to_lowercase().as_str(), "m" | "cm" | "mm" | "dm" | "um")
}

/// All known spellings, in small letters, each with its UCUM code.
pub fn spellings() -> impl Iterator<Item = (&'static str, &'static str)> {
    SPELLINGS.iter().copied()
}

/// `text` with full-width and superscript characters in their plain form (NFKC for what occurs).
pub fn folded_text(text: &str) -> String {
    text.chars().map(folded).collect()
}

fn folded(character: char) -> char {
    match character {
        // Full-width forms stand 0xFEE0 above ASCII.
        '\u{ff01}'..='\u{ff5e}' => {
            char::from_u32(u32::from(character) - 0xFEE0).unwrap_or(character)
        }
        '\u{3000}' | '\u{a0}' => ' ',
        '⁰' => '0',
        '¹' => '1',
        '²' => '2',
        '³' => '3',
        '⁴'..='⁹' => char::from_u32(u32::from(character) - 0x2070 + 0x30).unwrap_or(character),
        'µ' | 'μ' => 'u',
        '×' | '✕' => 'x',
        '–' | '—' | '−' => '-',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(spellings: &[&str], ucum: &str) {
        for spelling in spellings {
            assert_eq!(canonical(spelling), Unit { text: ucum.to_owned(), is_ucum: true });
        }
    }

    #[test]
    fn hl7_61_spellings_come_to_one_form() {
        check(&["10^9/L", "×10⁹/L", "10E9/L", "G/L", "10*9/L"], "10*9/L");
        check(&["10^12/L", "×10¹²/L"], "10*12/L");
        check(&["μmol/L", "µmol/L", "umol/l", "ｕｍｏｌ/L"], "umol/L");
        check(&["IU/L", "[IU]/L"], "[IU]/L");
        check(&["U/L"], "U/L");
        check(&["％", "%"], "%");
        check(&["g/L"], "g/L");
    }

    #[test]
    fn hl7_61_a_bare_caret_does_not_cut_a_unit() {
        for (field, unit) in [
            ("10^3/uL", "10^3/uL"),
            ("10^9/L", "10^9/L"),
            ("x10^6/uL", "x10^6/uL"),
            ("X 10^6/uL", "X 10^6/uL"),
            ("10^5/HPF", "10^5/HPF"),
            ("mL/min/1.73m^2", "mL/min/1.73m^2"),
            ("kg/m^2", "kg/m^2"),
            ("cells/mm^3", "cells/mm^3"),
            ("cm^2", "cm^2"),
            ("10^-6", "10^-6"),
            ("^g/dL^UCUM", "g/dL"),
            ("^^^^mg/L", "mg/L"),
            ("mg/dL^milligrams per deciliter^UCUM", "mg/dL"),
            ("10*3/uL^10^3/uL^UCUM", "10*3/uL"),
            ("10^3/uL^10^3/uL^L", "10^3/uL"),
            ("cm^2 decimals^L", "cm"),
            ("g^1", "g"),
            ("77^mmol/L^L", "mmol/L"),
            ("furlong^a length^L", "furlong"),
            ("", ""),
        ] {
            let components: Vec<String> = field.split('^').map(str::to_owned).collect();
            assert_eq!(of_components(&components, '^'), unit, "{field}");
        }
    }

    #[test]
    fn hl7_61_an_unknown_unit_stays_as_it_is() {
        assert_eq!(canonical(" furlong "), Unit { text: "furlong".to_owned(), is_ucum: false });
    }
}
