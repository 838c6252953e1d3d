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
    let name = if observation.name.is_empty() { &observation.code } else { &observation.name };
    let fields = Fields {
        name,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_without_a_result_is_no_row() {
        let empty = Observation { value_type: "NM".to_owned(), ..Observation::default() };
        assert_eq!(row_of(&empty), None);
        let value = "x".to_owned();
        let document = Observation { value_type: "ED".to_owned(), value, ..Observation::default() };
        assert_eq!(row_of(&document), None);
    }
}
