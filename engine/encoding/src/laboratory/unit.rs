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
    fn hl7_61_an_unknown_unit_stays_as_it_is() {
        assert_eq!(canonical(" furlong "), Unit { text: "furlong".to_owned(), is_ucum: false });
    }
}
