//! Rows that were received as observations of a message (OBX).

use domain::{LabRow, Observation};

use crate::row::{Fields, row};

/// Value types (OBX-2) of a result, and not of a document or an address.
const RESULT_TYPES: &[&str] =
    &["NM", "SN", "ST", "TX", "FT", "CE", "CWE", "CNE", "CF", "NR", "IS", "ID", "DT", "TS", ""];

/// The row of an observation; nothing if it has no result.
pub(crate) fn row_of(observation: &Observation) -> Option<LabRow> {
    let is_result = RESULT_TYPES.contains(&observation.value_type.as_str());
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

fn name_of(observation: &Observation) -> &str {
    if observation.name.is_empty() { &observation.code } else { &observation.name }
}

/// A remark on an observation whose status says that it is no result.
pub(crate) fn remark_of(observation: &Observation) -> Option<String> {
    let reason = observation.no_result()?.reason();
    Some(format!("Not a result: {}, {reason}.", name_of(observation)))
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
