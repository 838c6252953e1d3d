//! Rows that were received as observations of a message (OBX).

use domain::{LabRow, NoResult, Observation};

use crate::row::{Fields, row};

/// Value types (OBX-2) of a result, and not of a document or an address.
const RESULT_TYPES: &[&str] =
    &["NM", "SN", "ST", "TX", "FT", "CE", "CWE", "CNE", "CF", "NR", "IS", "ID", "DT", "TS", ""];

/// The row of an observation; nothing if it has no result. One that takes back what was reported
/// before is a row without a value, which says so.
pub(crate) fn row_of(observation: &Observation) -> Option<LabRow> {
    let is_result = RESULT_TYPES.contains(&observation.value_type.as_str());
    if is_result && let Some(reason) = observation.no_result() {
        let is_row = observation.is_reported && reason.takes_back();
        return is_row.then(|| withdrawn_row(observation, reason));
    }
    if !is_result || observation.value.is_empty() {
        return None;
    }
    let fields = Fields {
        name: name_of(observation),
        result: &observation.value,
        reference: &observation.reference,
        unit: &observation.unit,
        flag: &observation.flag,
    };
    Some(LabRow {
        code: observation.code.clone(),
        scheme: observation.scheme.clone(),
        ..row(&fields)
    })
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
        code: observation.code.clone(),
        scheme: observation.scheme.clone(),
        withdrawn: Some(reason),
        ..row(&fields)
    }
}

fn name_of(observation: &Observation) -> &str {
    if observation.name.is_empty() { &observation.code } else { &observation.name }
}

/// A remark on an observation whose status says that it is no result, or that it is not the final
/// or not the first one.
pub(crate) fn remark_of(observation: &Observation) -> Option<String> {
    let name = name_of(observation);
    if let Some(reason) = observation.no_result() {
        return Some(format!("Not a result: {name}, {}.", reason.reason()));
    }
    match observation.status.trim() {
        "C" => Some(format!("Corrected by its sender (C): {name}.")),
        "P" => Some(format!("Preliminary (P): {name}.")),
        _ => None,
    }
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
        let row = row_of(&potassium("W", true)).unwrap();
        assert_eq!((row.result.as_str(), row.withdrawn), ("", Some(NoResult::Wrong)));
        assert_eq!((row.reference.as_str(), row.abnormality.flag()), ("", ""));
        assert_eq!(row_of(&potassium("W", false)), None);
        assert_eq!(row_of(&potassium("I", true)), None);
        assert_eq!(row_of(&potassium("C", true)).unwrap().withdrawn, None);
    }

    #[test]
    fn an_observation_without_a_result_is_no_row() {
        let empty = Observation { value_type: "NM".to_owned(), ..Observation::default() };
        assert_eq!(row_of(&empty), None);
        let value = "x".to_owned();
        let document = Observation { value_type: "ED".to_owned(), value, ..Observation::default() };
        assert_eq!(row_of(&document), None);
    }
}
