//! Builds a row of a laboratory report: its unit in UCUM, and whether its result is abnormal by its
//! reference (HL7-61, HL7-63, PAP-12).

use domain::{Abnormality, Code, FLAG_SEPARATOR, Finding, LabRow, PatientFacts, Presence};
use encoding::laboratory::patient_range::{PatientRange, range_for};
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
/// normal. Of a reference that depends on sex or age, the range of the patient is used; the row has
/// the whole reference, and a note that names the range.
pub(crate) fn row(fields: &Fields<'_>, patient: &PatientFacts) -> LabRow {
    let unit = unit::canonical(fields.unit).text;
    let range = range_for(fields.reference, patient);
    let usual = match &range {
        PatientRange::Whole => fields.reference,
        PatientRange::OfGroup(range) => range,
        PatientRange::Unknown => "",
    };
    let abnormality = reference_range::compare(fields.result, usual, &unit);
    let mut row = LabRow {
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
        ..LabRow::default()
    };
    if let PatientRange::OfGroup(range) = range {
        let note = format!("Compared with {range}, the range for the sex and age of the patient.");
        row.circumstances.notes.push(note);
    }
    row
}

/// Whether one of the sender's flags contradicts the computed abnormality. What either side leaves
/// open is no contradiction.
fn disagrees(computed: Abnormality, flags: &str) -> bool {
    let mut sent = flags.split(FLAG_SEPARATOR).filter_map(|it| meaning_of_mark(it.trim()));
    sent.any(|sent| match (computed, sent) {
        (Abnormality::Unknown, _) => false,
        // `A` states that a result is abnormal, but not in which direction.
        (computed, Abnormality::Abnormal) => !computed.is_abnormal(),
        (Abnormality::Abnormal, sent) => !sent.is_abnormal(),
        (computed, sent) => computed != sent,
    })
}

/// The meaning of a mark: of HL7 table 0078, or as laboratories print it. `阴性` (negative) is normal
/// only where negative is usual, so it has no meaning on its own.
pub(crate) fn meaning_of_mark(mark: &str) -> Option<Abnormality> {
    match mark {
        "N" | "NEG" => Some(Abnormality::Normal),
        "H" | "HH" | "HHH" | ">" | "↑" | "↑↑" | "▲" | "高" | "偏高" => {
            Some(Abnormality::High)
        }
        "L" | "LL" | "LLL" | "<" | "↓" | "↓↓" | "▼" | "低" | "偏低" => {
            Some(Abnormality::Low)
        }
        "A" | "AA" | "POS" | "阳性" | "异常" => Some(Abnormality::Abnormal),
        _ => None,
    }
}

/// The finding of a row that is not as usual, by its reference or by the laboratory.
pub(crate) fn finding(row: &LabRow) -> Option<Finding> {
    if row.withdrawn.is_some() || !row.is_marked() {
        return None;
    }
    let LabRow { entry_name, result, reference, unit, .. } = row;
    let value = format!("{result} {unit}").trim_end().replace('\n', "; ");
    let direction = match row.abnormality {
        Abnormality::High => "above",
        Abnormality::Low => "below",
        Abnormality::Abnormal => "not as in",
        Abnormality::Normal | Abnormality::Unknown => "",
    };
    let marks = row.warnings().join(", ");
    let text = if direction.is_empty() {
        format!("{entry_name}: {value} is marked {marks} by the laboratory.")
    } else {
        format!("{entry_name}: {value} is {direction} the reference {reference}.")
    };
    let code = Code::new("263654008", "SCT", "Abnormal");
    Some(Finding {
        code,
        site: None,
        laterality: None,
        presence: Presence::Present,
        change: None,
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(result: &str, unit: &str, reference: &str, flag: &str, expected: (&str, bool)) {
        let fields = Fields { name: "Leukocytes", result, reference, unit, flag };
        let row = row(&fields, &PatientFacts::default());
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
        check("2", "10^9/L", "3.5-9.5", "L~LL", ("L", false));
        check("2", "10^9/L", "3.5-9.5", "L~HH", ("L", true));
    }

    #[test]
    fn hl7_63_what_the_laboratory_marks_is_a_finding_where_nothing_can_be_computed() {
        let text = |result, reference, flag| {
            let fields = Fields { name: "Troponin T", result, reference, unit: "ng/mL", flag };
            finding(&row(&fields, &PatientFacts::default())).map(|it| it.text)
        };
        let marked = text("2.4", "", "HH").unwrap();
        assert_eq!(marked, "Troponin T: 2.4 ng/mL is marked HH by the laboratory.");
        assert!(text("2.4", "0-5", "HH").unwrap().contains("marked HH"));
        assert!(text("7", "0-5", "HH").unwrap().contains("above the reference 0-5"));
        assert_eq!(text("2.4", "", "N"), None);
        assert_eq!(text("2.4", "", ""), None);
    }

    #[test]
    fn hl7_62_a_range_of_the_patients_sex_and_age_is_used_and_named() {
        let haemoglobin = |sex: &str| {
            let patient = PatientFacts { sex: sex.to_owned(), age: String::new() };
            let reference = "男 130-175 女 115-150";
            let fields = Fields { name: "Hb", result: "125", reference, unit: "g/L", flag: "" };
            row(&fields, &patient)
        };
        let man = haemoglobin("M");
        assert_eq!(
            (man.abnormality, man.reference.as_str()),
            (Abnormality::Low, "男 130-175 女 115-150")
        );
        assert!(man.circumstances.notes[0].contains("130-175"), "{:?}", man.circumstances);
        assert_eq!(haemoglobin("F").abnormality, Abnormality::Normal);
        let unknown = haemoglobin("");
        assert_eq!(unknown.abnormality, Abnormality::Unknown);
        assert!(unknown.circumstances.notes.is_empty());
    }
}
