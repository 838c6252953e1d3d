//! Imaging orders of the RIS, and the keys that find the order of a study.

use serde::{Deserialize, Serialize};

use crate::{OrderNumber, PatientId, StudyInstanceUid, named_enum};

/// Most characters of an Accession Number (0008,0050; VR `SH`).
pub const ACCESSION_MAX: usize = 16;

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
    /// An order that says nothing but whom it is for and by what it is found again.
    pub fn new(action: OrderAction, patient: Option<PatientId>, key: OrderKey) -> Self {
        Self {
            action,
            patient,
            key,
            procedure_code: String::new(),
            procedure: String::new(),
            procedure_scheme: String::new(),
            priority: String::new(),
            modality: String::new(),
            reason: String::new(),
            status: String::new(),
            account: String::new(),
            visit: String::new(),
        }
    }

    /// Whether images may have to find it by an accession number that they cannot carry whole
    /// (HL7-41).
    pub fn is_accession_too_long(&self) -> bool {
        let is_of_images = self.key.kind != OrderKind::Laboratory;
        is_of_images && self.key.accession.chars().count() > ACCESSION_MAX
    }

    /// Takes over what a later message says, and keeps what it leaves open (HL7-21).
    #[must_use]
    pub fn updated(self, newer: Self) -> Self {
        let one = |old: String, new: String| if new.is_empty() { old } else { new };
        let key = OrderKey {
            placer: self.key.placer.updated(newer.key.placer),
            filler: self.key.filler.updated(newer.key.filler),
            kind: newer.key.kind.or(self.key.kind),
            accession: one(self.key.accession, newer.key.accession),
            accession_issuer: one(self.key.accession_issuer, newer.key.accession_issuer),
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
    pub placer: OrderNumber,
    /// ORC-3 / OBR-3.
    pub filler: OrderNumber,
    /// Which kind of department does what is asked for: departments number their orders alike.
    #[serde(default)]
    pub kind: OrderKind,
    /// IPC-1 or OBR-18.
    pub accession: String,
    /// What assigned the accession number, IPC-1.2 or IPC-1.3; empty if nothing is named.
    #[serde(default)]
    pub accession_issuer: String,
    /// OBR-19 or IPC-2.
    pub requested_procedure: String,
    /// ZDS-1 or IPC-3.
    pub study: Option<StudyInstanceUid>,
}

named_enum! {
    /// Which kind of department does what an order asks for.
    #[derive(Default)]
    pub enum OrderKind {
        /// Nothing in the message says so.
        #[default]
        Unknown = "unknown",
        /// Imaging.
        Imaging = "imaging",
        /// Laboratory: images are never those of such an order unless it names their study.
        Laboratory = "laboratory",
    }
}

impl OrderKind {
    /// This, or `other` where nothing says so.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        match self {
            Self::Unknown => other,
            Self::Imaging | Self::Laboratory => self,
        }
    }
}

named_enum! {
    /// Why it is uncertain which order a message means: nothing is changed then, and a person
    /// decides.
    pub enum OrderConflict {
        /// Its numbers are those of several orders.
        SeveralOrders = "several_orders",
        /// One of its numbers is that of an order whose other number is another.
        OtherNumber = "other_number",
        /// Its numbers are those of an order for another patient.
        OtherPatient = "other_patient",
    }
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
