//! Builds a row of a laboratory report: its unit in UCUM, and whether its result is abnormal by its
//! reference (HL7-61, HL7-63, PAP-12).

use domain::{Abnormality, Code, Finding, LabRow, Presence};
use encoding::laboratory::{reference_range, unit};

/// The fields of a row as they were printed or sent.
pub(crate) struct Fields<'a> {
    pub(crate) name: &'a str,
    pub(crate) result: &'a str,
    pub(crate) reference: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) flag: &'a str,
}

/// Builds a row. Values are never converted; a result that cannot be compared is unknown, and never
/// normal.
pub(crate) fn row(fields: &Fields<'_>) -> LabRow {
    let unit = unit::canonical(fields.unit).text;
    let abnormality = reference_range::compare(fields.result, fields.reference, &unit);
    LabRow {
        entry_name: fields.name.to_owned(),
        result: fields.result.to_owned(),
        reference: fields.reference.to_owned(),
        unit,
        code: String::new(),
        scheme: String::new(),
        abnormality,
        flag_received: fields.flag.to_owned(),
        disagrees: disagrees(abnormality, fields.flag),
        doubt: String::new(),
        withdrawn: None,
        key: 0,
    }
}

/// Whether the sender's flag contradicts the computed abnormality. What either side leaves open is
/// no contradiction.
fn disagrees(computed: Abnormality, flag: &str) -> bool {
    let Some(sent) = meaning_of_mark(flag) else { return false };
    match (computed, sent) {
        (Abnormality::Unknown, _) => false,
        // `A` states that a result is abnormal, but not in which direction.
        (computed, Abnormality::Abnormal) => !computed.is_abnormal(),
        (Abnormality::Abnormal, sent) => !sent.is_abnormal(),
        (computed, sent) => computed != sent,
    }
}

/// The meaning of a mark: of HL7 table 0078, or as laboratories print it. `阴性` (negative) is normal
/// only where negative is usual, so it has no meaning on its own.
pub(crate) fn meaning_of_mark(mark: &str) -> Option<Abnormality> {
    match mark {
        "N" | "NEG" => Some(Abnormality::Normal),
        "H" | "HH" | ">" | "↑" | "↑↑" | "▲" | "高" | "偏高" => Some(Abnormality::High),
        "L" | "LL" | "<" | "↓" | "↓↓" | "▼" | "低" | "偏低" => Some(Abnormality::Low),
        "A" | "AA" | "POS" | "阳性" | "异常" => Some(Abnormality::Abnormal),
        _ => None,
    }
}

/// The finding of an abnormal row; nothing for a row that is normal or unknown.
pub(crate) fn finding(row: &LabRow) -> Option<Finding> {
    let direction = match row.abnormality {
        Abnormality::High => "above",
        Abnormality::Low => "below",
        Abnormality::Abnormal => "not as in",
        Abnormality::Normal | Abnormality::Unknown => return None,
    };
    let LabRow { entry_name, result, reference, unit, .. } = row;
    let text = format!("{entry_name}: {result} {unit} is {direction} the reference {reference}.");
    let code = Code::new("263654008", "SCT", "Abnormal");
    Some(Finding { code, site: None, laterality: None, presence: Presence::Present, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(result: &str, unit: &str, reference: &str, flag: &str, expected: (&str, bool)) {
        let row = row(&Fields { name: "Leukocytes", result, reference, unit, flag });
        assert_eq!((row.abnormality.flag(), row.disagrees), expected);
    }

    #[test]
    fn pap_12_the_flag_is_recomputed_and_compared_with_the_senders() {
        check("12.3", "10^9/L", "3.5-9.5", "H", ("H", false));
        check("12.3", "10^9/L", "3.5-9.5", "N", ("H", true));
        check("12.3", "10^9/L", "3.5-9.5", "A", ("H", false));
        check("12.3", "10^9/L", "3.5-9.5", "偏低", ("H", true));
        check("6", "10^9/L", "3.5-9.5 ×10⁹/L", "", ("N", false));
        check("6", "10^9/L", "3.5-9.5 g/L", "H", ("", false));
        check("1+", "", "Negative", "A", ("A", false));
        check("1+", "", "Negative", "N", ("A", true));
    }
}
