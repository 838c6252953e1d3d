//! Laboratory results: observations as they are received, and the rows that reports show.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{LaboratoryOrder, OrderNumber, RowSource, named_enum};

/// One OBX as it was received (HL7 v2, 7.4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// OBX-2: `NM`, `SN`, `ST`, `CWE`, …
    pub value_type: String,
    /// OBX-3.1, or OBX-3.4 if the first triplet is empty.
    pub code: String,
    /// OBX-3.2, or OBX-3.5.
    pub name: String,
    /// OBX-3.3, or OBX-3.6.
    pub scheme: String,
    /// OBX-5 as text, a line for each repetition; structured numerics are written together: `<0.5`,
    /// `1:128`.
    pub value: String,
    /// OBX-6: its code, or the whole field where senders write `10^3/uL`.
    pub unit: String,
    /// OBX-7.
    pub reference: String,
    /// OBX-8 as the sender set it, `~` between repetitions.
    pub flag: String,
    /// OBX-11.
    pub status: String,
    /// OBX-4: tells observations with the same code apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sub_id: String,
    /// The laboratory's number of the order that it answers (OBR-3 or ORC-3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filler: Option<OrderNumber>,
    /// The number that the one who ordered gave the order (OBR-2 or ORC-2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placer: Option<OrderNumber>,
    /// The accession number of the order (OBR-18).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub accession: String,
    /// When the laboratory stated it: OBR-22, or MSH-7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated_at: Option<Timestamp>,
    /// Whether an earlier message has reported it. The engine finds that out; no message states it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_reported: bool,
    /// Panel, specimen, time and notes.
    #[serde(default, skip_serializing_if = "crate::Circumstances::is_empty")]
    pub circumstances: crate::Circumstances,
}

impl Observation {
    /// Whether it only says where a document is (OBX-2 `RP`).
    pub fn is_pointer(&self) -> bool {
        self.value_type == "RP"
    }

    /// The order that it answers.
    pub fn order(&self) -> LaboratoryOrder {
        LaboratoryOrder {
            placer: self.placer.clone().unwrap_or_default(),
            filler: self.filler.clone().unwrap_or_default(),
            accession: self.accession.clone(),
        }
    }

    /// Why it is no result, if its status says that it is none (HL7-60). Every other status, and
    /// none at all, leaves the value a result.
    pub fn no_result(&self) -> Option<NoResult> {
        match self.status.trim().to_ascii_uppercase().as_str() {
            "D" => Some(NoResult::Deleted),
            "W" => Some(NoResult::Wrong),
            "X" => Some(NoResult::Unobtainable),
            "N" => Some(NoResult::NotAsked),
            "I" => Some(NoResult::Pending),
            "O" => Some(NoResult::OrderOnly),
            _ => None,
        }
    }
}

named_enum! {
    /// Why an observation is no result (OBX-11, table 0085).
    pub enum NoResult {
        /// `D`: its sender deletes it.
        Deleted = "deleted",
        /// `W`: its sender withdraws it as wrong, for instance because it is of another patient.
        Wrong = "wrong",
        /// `X`: no result can be obtained.
        Unobtainable = "unobtainable",
        /// `N`: it was not asked for.
        NotAsked = "not_asked",
        /// `I`: the specimen is there, and the result is not.
        Pending = "pending",
        /// `O`: it describes what was ordered.
        OrderOnly = "order_only",
    }
}

impl NoResult {
    /// The status in OBX-11.
    pub const fn status(self) -> &'static str {
        match self {
            Self::Deleted => "D",
            Self::Wrong => "W",
            Self::Unobtainable => "X",
            Self::NotAsked => "N",
            Self::Pending => "I",
            Self::OrderOnly => "O",
        }
    }

    /// Whether a value that was reported before does not hold any more.
    pub const fn takes_back(self) -> bool {
        match self {
            Self::Deleted | Self::Wrong | Self::Unobtainable => true,
            Self::NotAsked | Self::Pending | Self::OrderOnly => false,
        }
    }

    /// Whether a result that was sent before is taken back.
    pub const fn is_withdrawal(self) -> bool {
        match self {
            Self::Deleted | Self::Wrong => true,
            Self::Unobtainable | Self::NotAsked | Self::Pending | Self::OrderOnly => false,
        }
    }

    /// The reason in words, for the reader of a report.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Deleted => "deleted by its sender (D)",
            Self::Wrong => "withdrawn as wrong by its sender (W)",
            Self::Unobtainable => "no result can be obtained (X)",
            Self::NotAsked => "not asked for (N)",
            Self::Pending => "pending (I)",
            Self::OrderOnly => "a description of the order (O)",
        }
    }
}

/// A row of a laboratory report: the four columns of the paper, and what the engine derives from
/// them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabRow {
    /// The analyte: what was measured.
    pub entry_name: String,
    /// The value, as received.
    pub result: String,
    /// The reference range, as received.
    pub reference: String,
    /// The unit: in UCUM if it is known, as received if not (HL7-61).
    pub unit: String,
    /// Code of the analyte. Empty if none was sent.
    pub code: String,
    /// Coding scheme of `code`.
    pub scheme: String,
    /// The flag computed from result and reference (HL7-63).
    pub abnormality: Abnormality,
    /// The flags as the sender set them, `~` between.
    pub flag_received: String,
    /// Whether the sender's flag contradicts the computed one (PAP-12).
    pub disagrees: bool,
    /// Why a person has to look at the row, if it was read from paper and is uncertain (PAP-31).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doubt: String,
    /// Why the laboratory took back what it had reported before. The row has no value then: it
    /// tells receivers that theirs does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<NoResult>,
    /// OBX-4 as received. It ties rows together, such as an isolate and its susceptibilities.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sub_id: String,
    /// OBX-11 as received.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status_received: String,
    /// Panel, specimen, time and notes, as received.
    #[serde(default, skip_serializing_if = "crate::Circumstances::is_empty")]
    pub circumstances: crate::Circumstances,
    /// Its key among the rows of the same name (OBX-4), which it keeps in every version. Zero until
    /// the engine stores it.
    #[serde(default)]
    pub key: u32,
    /// The observation that it was made of. The engine finds that out when it composes a report:
    /// no plugin states it, and it is not stored.
    #[serde(skip)]
    pub source: Option<RowSource>,
}

impl LabRow {
    /// Whether receivers know both rows under one name: OBX-3.
    pub fn has_name_of(&self, other: &Self) -> bool {
        self.code == other.code
            && self.scheme == other.scheme
            && self.entry_name == other.entry_name
    }
}

/// How a value compares with its reference range (table 0078, HL7-63).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Abnormality {
    /// The value is within its range, or negative where negative is usual. 阴性, N.
    Normal,
    /// The value is below its range. 偏低, L.
    Low,
    /// The value is above its range. 偏高, H.
    High,
    /// Positive where negative is usual, or otherwise not as usual. 阳性 / 异常, A.
    Abnormal,
    /// The two cannot be compared. It never means normal.
    #[default]
    Unknown,
}

impl Abnormality {
    /// Whether the value is known to be outside of what is usual.
    pub const fn is_abnormal(self) -> bool {
        matches!(self, Self::Low | Self::High | Self::Abnormal)
    }

    /// The abnormal flag (OBX-8); empty when unknown, never `N` (HL7-63).
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Normal => "N",
            Self::Low => "L",
            Self::High => "H",
            Self::Abnormal => "A",
            Self::Unknown => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hl7_60_a_status_without_a_result_is_told_from_all_others() {
        let standing = |status: &str| {
            let status = status.to_owned();
            Observation { status, ..Observation::default() }.no_result()
        };
        for status in ["D", "W", "X", "N", "I", "O", "w", " X "] {
            assert!(standing(status).is_some(), "{status}");
        }
        for status in ["", "P", "C", "F", "R", "S", "U", "A", "B", "V", "?"] {
            assert_eq!(standing(status), None, "{status}");
        }
    }
}
