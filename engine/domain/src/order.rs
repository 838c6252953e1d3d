//! Imaging orders of the RIS, and the keys that find the order of a study.

use serde::{Deserialize, Serialize};

use crate::{PatientId, StudyInstanceUid, named_enum};

/// An imaging order of the RIS (ORM^O01, OMI^O23).
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
    /// How far it is, ORC-5 (table 0038): `SC`, `IP`, `CM`, …
    #[serde(default)]
    pub status: String,
    /// Account number, PID-18.
    #[serde(default)]
    pub account: String,
    /// Visit number, PV1-19.
    #[serde(default)]
    pub visit: String,
}

impl Order {
    /// Takes over what a later message says, and keeps what it leaves open (HL7-21).
    #[must_use]
    pub fn updated(self, newer: Self) -> Self {
        let one = |old: String, new: String| if new.is_empty() { old } else { new };
        let key = OrderKey {
            placer: one(self.key.placer, newer.key.placer),
            filler: one(self.key.filler, newer.key.filler),
            accession: one(self.key.accession, newer.key.accession),
            requested_procedure: one(self.key.requested_procedure, newer.key.requested_procedure),
            study: newer.key.study.or(self.key.study),
        };
        Self {
            action: newer.action.after(self.action),
            patient: newer.patient.or(self.patient),
            key,
            procedure_code: one(self.procedure_code, newer.procedure_code),
            procedure: one(self.procedure, newer.procedure),
            procedure_scheme: one(self.procedure_scheme, newer.procedure_scheme),
            priority: one(self.priority, newer.priority),
            modality: one(self.modality, newer.modality),
            reason: one(self.reason, newer.reason),
            status: one(self.status, newer.status),
            account: one(self.account, newer.account),
            visit: one(self.visit, newer.visit),
        }
    }

    /// Whether the examination is over (ORC-5).
    pub fn is_examined(&self) -> bool {
        self.status == "CM"
    }
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

/// What ORC-1 asks to do with an order (table 0119), with the status in ORC-5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderAction {
    /// New, or changed: the last word holds.
    Place,
    /// Taken back: nothing may leave for it (HL7-43).
    Cancel,
    /// Only its status changes: an order that was cancelled stays cancelled.
    UpdateStatus,
}

impl OrderAction {
    /// What holds after this action, when `earlier` held before.
    #[must_use]
    pub const fn after(self, earlier: Self) -> Self {
        match self {
            Self::Place | Self::Cancel => self,
            Self::UpdateStatus => earlier,
        }
    }
}

named_enum! {
    /// The rules that find the order of a study, in order: the first that finds any decides
    /// (HL7-40).
    pub enum OrderMatch {
        /// The order names the Study Instance UID.
        StudyInstanceUid = "study_instance_uid",
        /// Both have the same accession number.
        AccessionNumber = "accession_number",
        /// Both have the same filler or placer order number.
        OrderNumber = "order_number",
        /// Both have the same Requested Procedure ID and patient.
        RequestedProcedure = "requested_procedure",
    }
}
