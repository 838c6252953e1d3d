//! The values that the template of ORU is filled in with for what became of findings (OUT-31).

use domain::NoResult;
use domain::row_keys::{ChangeRow, changes};
use serde::Serialize;

use crate::input::ReportInput;

/// OBX of what became of a finding: OBX-3 is the finding, OBX-5 the change, both in codes.
#[derive(Serialize)]
pub(crate) struct ChangeView {
    #[serde(flatten)]
    pub(crate) row: ChangeRow,
    /// Whether OBX-5 is left empty: the result was withdrawn, or the row taken out.
    pub(crate) is_void: bool,
    /// OBX-11.
    pub(crate) status: &'static str,
}

/// The findings of which a change is stated. Those that were taken out follow, to be deleted
/// (HL7-53), where the receiver may have them.
pub(crate) fn rows(
    input: &ReportInput<'_>,
    status: &'static str,
    has_former_rows: bool,
) -> Vec<ChangeView> {
    let is_void = input.status.is_withdrawn;
    let stated = changes(&input.results.findings).into_iter();
    let stated = stated.map(|row| ChangeView { row, is_void, status });
    let taken_out = input.context.taken_out.changes.iter().filter(|_| has_former_rows);
    let deleted = taken_out.map(|row| ChangeView {
        row: row.clone(),
        is_void: true,
        status: NoResult::Deleted.status(),
    });
    stated.chain(deleted).collect()
}
