//! Rows that came as observations of a message.

use domain::{LabRow, Observation};

use crate::row::{Fields, row};

/// Kinds of value (OBX-2) that are a result and not a document or an address.
const RESULTS: &[&str] =
    &["NM", "SN", "ST", "TX", "FT", "CE", "CWE", "CNE", "CF", "NR", "IS", "ID", "DT", "TS", ""];

/// The row of an observation, if it has a result.
pub(crate) fn received(observation: &Observation) -> Option<LabRow> {
    let is_result = RESULTS.contains(&observation.value_type.as_str());
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
    let (code, scheme) = (observation.code.clone(), observation.scheme.clone());
    Some(LabRow { code, scheme, ..row(&fields) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_without_a_result_is_no_row() {
        let empty = Observation { value_type: "NM".to_owned(), ..Observation::default() };
        assert_eq!(received(&empty), None);
        let value = "x".to_owned();
        let document = Observation { value_type: "ED".to_owned(), value, ..Observation::default() };
        assert_eq!(received(&document), None);
    }
}
