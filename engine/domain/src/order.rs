use serde::{Deserialize, Serialize};

use crate::{PatientId, StudyInstanceUid};

/// What the RIS asked for (ORM^O01, OMI^O23).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Whether it is new, changed or taken back.
    pub action: OrderAction,
    /// Whom it is for.
    pub patient: Option<PatientId>,
    /// By what it is found again.
    pub key: OrderKey,
    /// Code of what was asked for, OBR-4.1.
    pub procedure_code: String,
    /// Words for what was asked for, OBR-4.2.
    pub procedure: String,
    /// Coding scheme of the code, OBR-4.3.
    pub procedure_scheme: String,
    /// `S` (stat), `A` (as soon as possible), `R` (routine) and others of table 0485.
    pub priority: String,
    /// Modality asked for, OBR-24 or IPC-5.
    pub modality: String,
    /// Why it was asked for, OBR-31 or OBR-13.
    pub reason: String,
}

/// What an order can be found by (HL7-40).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderKey {
    /// ORC-2 / OBR-2.
    pub placer: String,
    /// ORC-3 / OBR-3.
    pub filler: String,
    /// OBR-18 or IPC-1.
    pub accession: String,
    /// OBR-19 or IPC-2.
    pub requested_procedure: String,
    /// ZDS-1 or IPC-3.
    pub study: Option<StudyInstanceUid>,
}

/// What ORC-1 asks to do with an order (table 0119).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderAction {
    /// New, or changed: the last word holds.
    Place,
    /// Taken back: nothing may leave for it (HL7-43).
    Cancel,
}
