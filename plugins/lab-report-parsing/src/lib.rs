//! Makes a table of a laboratory report, and says what is not as usual.
//!
//! ```yaml
//! table: { plugin: lab-report-parsing }
//! ```
//!
//! Reads the observations of an ORU message. Each numeric, structured or textual observation with
//! a result becomes a row with the paper's four columns (`entry_name`, `result`, `reference`,
//! `unit`); units are brought to UCUM where they are known, values are never converted. Whether a
//! row is abnormal is computed anew from result and reference (HL7-63, PAP-12); where the sender's
//! flag says otherwise the row is marked as disagreeing. Where nothing can be computed the flag
//! stays empty: it never means normal.

use domain::{Abnormality, Code, Finding, LabRow, NodeInput, NodeOutput, Observation, Presence};
use encoding::{reference_range, unit};
use plugin_api::{Context, NodeError, Plugin, export_plugin};
use serde::Deserialize;

/// Kinds of value (OBX-2) that are a result and not a document or an address.
const RESULTS: &[&str] =
    &["NM", "SN", "ST", "TX", "FT", "CE", "CWE", "CNE", "CF", "NR", "IS", "ID", "DT", "TS", ""];

/// Makes tables of reports.
pub struct Table;

/// What a workflow sets under `with:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {}

impl Plugin for Table {
    const NAME: &'static str = "lab-report-parsing";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    type Settings = Settings;

    fn process(_: &Context<'_>, _: &Settings, input: NodeInput) -> Result<NodeOutput, NodeError> {
        let document = input
            .document
            .ok_or_else(|| NodeError::rejected("no_document", "there is no message to read"))?;
        let received = document.observations.len();
        let laboratory: Vec<LabRow> = document.observations.iter().filter_map(row).collect();
        if laboratory.is_empty() {
            let reason = format!("none of {received} observations has a result");
            return Err(NodeError::rejected("no_results", reason));
        }
        let findings = laboratory.iter().filter_map(finding).collect();
        Ok(NodeOutput { laboratory, findings, ..NodeOutput::default() })
    }
}

fn row(observation: &Observation) -> Option<LabRow> {
    let is_result = RESULTS.contains(&observation.value_type.as_str());
    if !is_result || observation.value.is_empty() {
        return None;
    }
    let unit = unit::canonical(&observation.unit).text;
    let abnormality = reference_range::compare(&observation.value, &observation.reference, &unit);
    let entry_name =
        if observation.name.is_empty() { &observation.code } else { &observation.name };
    Some(LabRow {
        entry_name: entry_name.clone(),
        result: observation.value.clone(),
        reference: observation.reference.clone(),
        unit,
        code: observation.code.clone(),
        scheme: observation.scheme.clone(),
        abnormality,
        flag_received: observation.flag.clone(),
        disagrees: disagrees(abnormality, &observation.flag),
    })
}

/// Whether the sender says something else. What either side leaves open is no disagreement.
fn disagrees(ours: Abnormality, received: &str) -> bool {
    let theirs = match received {
        "N" | "NEG" => Abnormality::Normal,
        "H" | "HH" | ">" => Abnormality::High,
        "L" | "LL" | "<" => Abnormality::Low,
        "A" | "AA" | "POS" => Abnormality::Abnormal,
        _ => return false,
    };
    let is_abnormal =
        |it| matches!(it, Abnormality::High | Abnormality::Low | Abnormality::Abnormal);
    match (ours, theirs) {
        (Abnormality::Unknown, _) => false,
        // `A` says that something is wrong, not in which direction.
        (ours, Abnormality::Abnormal) => !is_abnormal(ours),
        (Abnormality::Abnormal, theirs) => !is_abnormal(theirs),
        (ours, theirs) => ours != theirs,
    }
}

fn finding(row: &LabRow) -> Option<Finding> {
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

export_plugin!(Table);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, unit: &str, reference: &str, flag: &str, expected: (&str, bool)) {
        let observation = Observation {
            value_type: "NM".to_owned(),
            code: "6690-2".to_owned(),
            name: "Leukocytes".to_owned(),
            value: value.to_owned(),
            unit: unit.to_owned(),
            reference: reference.to_owned(),
            flag: flag.to_owned(),
            ..Observation::default()
        };
        let row = row(&observation).unwrap();
        assert_eq!((row.abnormality.flag(), row.disagrees), expected);
    }

    #[test]
    fn pap_12_the_flag_is_recomputed_and_compared_with_the_senders() {
        check("12.3", "10^9/L", "3.5-9.5", "H", ("H", false));
        check("12.3", "10^9/L", "3.5-9.5", "N", ("H", true));
        check("12.3", "10^9/L", "3.5-9.5", "A", ("H", false));
        check("6", "10^9/L", "3.5-9.5 ×10⁹/L", "", ("N", false));
        check("6", "10^9/L", "3.5-9.5 g/L", "H", ("", false));
        check("1+", "", "Negative", "A", ("A", false));
        check("1+", "", "Negative", "N", ("A", true));
    }

    #[test]
    fn an_observation_without_a_result_is_no_row() {
        assert_eq!(
            row(&Observation { value_type: "NM".to_owned(), ..Observation::default() }),
            None
        );
        let document = Observation {
            value_type: "ED".to_owned(),
            value: "x".to_owned(),
            ..Observation::default()
        };
        assert_eq!(row(&document), None);
    }
}
