//! A row, with what the engine makes of it: its unit in UCUM, and whether it is as usual (HL7-61, HL7-63, PAP-12).

use domain::{Abnormality, Code, Finding, LabRow, Presence};
use encoding::{reference_range, unit};

/// What a row says in its own words.
pub(crate) struct Fields<'a> {
    pub(crate) name: &'a str,
    pub(crate) result: &'a str,
    pub(crate) reference: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) flag: &'a str,
}

/// The row. Values are never converted; what cannot be compared is not called normal.
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
    }
}

/// Whether the sender says something else. What either side leaves open is no disagreement.
fn disagrees(ours: Abnormality, received: &str) -> bool {
    let Some(theirs) = meant(received) else { return false };
    match (ours, theirs) {
        (Abnormality::Unknown, _) => false,
        // `A` says that something is wrong, not in which direction.
        (ours, Abnormality::Abnormal) => !ours.is_abnormal(),
        (Abnormality::Abnormal, theirs) => !theirs.is_abnormal(),
        (ours, theirs) => ours != theirs,
    }
}

/// What a mark means: of table 0078, or as laboratories print it. `阴性` is normal only where negative is
/// usual, so it says nothing here.
pub(crate) fn meant(mark: &str) -> Option<Abnormality> {
    match mark {
        "N" | "NEG" => Some(Abnormality::Normal),
        "H" | "HH" | ">" | "↑" | "↑↑" | "▲" | "高" | "偏高" => Some(Abnormality::High),
        "L" | "LL" | "<" | "↓" | "↓↓" | "▼" | "低" | "偏低" => Some(Abnormality::Low),
        "A" | "AA" | "POS" | "阳性" | "异常" => Some(Abnormality::Abnormal),
        _ => None,
    }
}

/// What a row that is not as usual says in words.
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
    Some(Finding { code, site: None, presence: Presence::Present, text })
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
