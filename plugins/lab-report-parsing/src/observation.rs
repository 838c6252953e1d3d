//! Rows that were received as observations of a message (OBX).

use domain::{Circumstances, ExchangedDocument, LabRow, NoResult, Observation, PatientFacts};

use crate::row::{Fields, row};

/// Value types (OBX-2) of a document, not of a result.
const FILE_TYPES: &[&str] = &["ED", "RP"];

/// What a message states as observations.
#[derive(Debug, Default)]
pub struct Received {
    /// A row for each result, in order.
    pub rows: Vec<LabRow>,
    /// What a reader has to know beside the rows: among others what is no row, and why.
    pub remarks: Vec<String>,
}

impl Received {
    /// Reads the observations of a message about a patient.
    pub fn of(document: &ExchangedDocument, patient: &PatientFacts) -> Self {
        let observations = &document.observations;
        Self {
            rows: observations.iter().filter_map(|it| row_of(it, patient)).collect(),
            remarks: observations.iter().filter_map(remark_of).collect(),
        }
    }
}

/// The row of an observation; nothing if it has no result. One that takes back what was reported
/// before is a row without a value, which says so.
fn row_of(observation: &Observation, patient: &PatientFacts) -> Option<LabRow> {
    if is_file(observation) {
        return None;
    }
    if let Some(reason) = observation.no_result() {
        let is_row = observation.is_reported && reason.takes_back();
        return is_row.then(|| withdrawn_row(observation, reason));
    }
    if observation.value.is_empty() {
        return None;
    }
    let fields = Fields {
        name: name_of(observation),
        result: &observation.value,
        reference: &observation.reference,
        unit: &observation.unit,
        flag: &observation.flag,
    };
    Some(with_origin(observation, row(&fields, patient)))
}

fn withdrawn_row(observation: &Observation, reason: NoResult) -> LabRow {
    let fields = Fields {
        name: name_of(observation),
        result: "",
        reference: "",
        unit: &observation.unit,
        flag: "",
    };
    LabRow {
        withdrawn: Some(reason),
        ..with_origin(observation, row(&fields, &PatientFacts::default()))
    }
}

/// A row with what its message says of it beside its columns.
fn with_origin(observation: &Observation, row: LabRow) -> LabRow {
    let notes = [observation.circumstances.notes.clone(), row.circumstances.notes.clone()].concat();
    LabRow {
        code: observation.code.clone(),
        scheme: observation.scheme.clone(),
        sub_id: observation.sub_id.clone(),
        status_received: observation.status.trim().to_owned(),
        circumstances: Circumstances { notes, ..observation.circumstances.clone() },
        ..row
    }
}

fn is_file(observation: &Observation) -> bool {
    FILE_TYPES.contains(&observation.value_type.as_str())
}

fn name_of(observation: &Observation) -> &str {
    if observation.name.is_empty() { &observation.code } else { &observation.name }
}

/// A remark on an observation that is no row, or whose status says that it is not the final or not
/// the first one. What the laboratory notes on it follows, where there is no row for it.
fn remark_of(observation: &Observation) -> Option<String> {
    let name = name_of(observation);
    if let Some(reason) = observation.no_result() {
        return Some(with_notes(
            observation,
            format!("Not a result: {name}, {}.", reason.reason()),
        ));
    }
    if observation.is_pointer() {
        let text = format!("Not read: {name}, a pointer to a document elsewhere.");
        return Some(with_notes(observation, text));
    }
    if is_file(observation) {
        let has_notes = !observation.circumstances.notes.is_empty();
        return has_notes.then(|| with_notes(observation, format!("On the document {name}.")));
    }
    if observation.value.is_empty() {
        return Some(with_notes(observation, format!("Without a value: {name}.")));
    }
    match observation.status.trim() {
        "C" => Some(format!("Corrected by its sender (C): {name}.")),
        "P" => Some(format!("Preliminary (P): {name}.")),
        _ => None,
    }
}

fn with_notes(observation: &Observation, mut text: String) -> String {
    for note in &observation.circumstances.notes {
        text.push_str(" Note: ");
        text.push_str(note);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hl7_60_an_observation_that_is_no_result_is_a_remark_without_its_value() {
        let glucose = |status: &str| Observation {
            code: "2345-7".to_owned(),
            value: "512".to_owned(),
            status: status.to_owned(),
            ..Observation::default()
        };
        let remark = "Not a result: 2345-7, withdrawn as wrong by its sender (W).";
        assert_eq!(remark_of(&glucose("W")).as_deref(), Some(remark));
        assert_eq!(remark_of(&glucose("F")), None);
        let remark = "Corrected by its sender (C): 2345-7.";
        assert_eq!(remark_of(&glucose("C")).as_deref(), Some(remark));
    }

    #[test]
    fn hl7_60_a_result_that_is_taken_back_is_a_row_that_says_so_where_it_was_reported() {
        let potassium = |status: &str, is_reported| Observation {
            value_type: "NM".to_owned(),
            code: "2823-3".to_owned(),
            value: "7.9".to_owned(),
            reference: "3.5-5.1".to_owned(),
            status: status.to_owned(),
            is_reported,
            ..Observation::default()
        };
        let row = row_of(&potassium("W", true), &PatientFacts::default()).unwrap();
        assert_eq!((row.result.as_str(), row.withdrawn), ("", Some(NoResult::Wrong)));
        assert_eq!((row.reference.as_str(), row.abnormality.flag()), ("", ""));
        assert_eq!(row_of(&potassium("W", false), &PatientFacts::default()), None);
        assert_eq!(row_of(&potassium("I", true), &PatientFacts::default()), None);
        assert_eq!(
            row_of(&potassium("C", true), &PatientFacts::default()).unwrap().withdrawn,
            None
        );
    }

    fn observed(value_type: &str, value: &str) -> Observation {
        Observation {
            value_type: value_type.to_owned(),
            name: "Potassium".to_owned(),
            value: value.to_owned(),
            status: "F".to_owned(),
            ..Observation::default()
        }
    }

    #[test]
    fn hl7_60_a_result_of_any_type_is_a_row_and_what_is_none_is_told() {
        for value_type in ["NM", "SN", "CE", "DTM", "TM", "NA", "XPN", ""] {
            let observation = observed(value_type, "4.1");
            assert_eq!(
                row_of(&observation, &PatientFacts::default()).unwrap().result,
                "4.1",
                "{value_type}"
            );
            assert_eq!(remark_of(&observation), None, "{value_type}");
        }
        let mut empty = observed("NM", "");
        empty.circumstances.notes = vec!["clotted".to_owned()];
        assert_eq!(row_of(&empty, &PatientFacts::default()), None);
        assert_eq!(remark_of(&empty).unwrap(), "Without a value: Potassium. Note: clotted");
        let pointer = remark_of(&observed("RP", "")).unwrap();
        assert_eq!(pointer, "Not read: Potassium, a pointer to a document elsewhere.");
        assert_eq!(remark_of(&observed("ED", "")), None);
    }

    #[test]
    fn hl7_60_a_row_has_what_its_message_says_of_it() {
        let mut observation = observed("NM", "4.1");
        observation.sub_id = "1.1".to_owned();
        observation.circumstances.specimen = "Serum".to_owned();
        let row = row_of(&observation, &PatientFacts::default()).unwrap();
        assert_eq!((row.sub_id.as_str(), row.status_received.as_str()), ("1.1", "F"));
        assert_eq!(row.circumstances, observation.circumstances);
    }

    #[test]
    fn an_observation_without_a_result_is_no_row() {
        let empty = Observation { value_type: "NM".to_owned(), ..Observation::default() };
        assert_eq!(row_of(&empty, &PatientFacts::default()), None);
        let value = "x".to_owned();
        let document = Observation { value_type: "ED".to_owned(), value, ..Observation::default() };
        assert_eq!(row_of(&document, &PatientFacts::default()), None);
    }
}
