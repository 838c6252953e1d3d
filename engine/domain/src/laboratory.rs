use serde::{Deserialize, Serialize};

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
    /// OBX-5 as text; structured numerics are written together: `<0.5`, `1:128`.
    pub value: String,
    /// OBX-6.1.
    pub unit: String,
    /// OBX-7.
    pub reference: String,
    /// OBX-8, first repetition, as the sender set it.
    pub flag: String,
    /// OBX-11.
    pub status: String,
}

/// A row of a laboratory report: the four columns of the paper, and what the engine makes of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabRow {
    /// What was measured.
    pub entry_name: String,
    /// What came out, as received.
    pub result: String,
    /// What is usual, as received.
    pub reference: String,
    /// In which unit: canonical (UCUM) if it is known, as received if not (HL7-61).
    pub unit: String,
    /// Code of what was measured, and its scheme. Empty if none was sent.
    pub code: String,
    /// Scheme of `code`.
    pub scheme: String,
    /// The flag computed from result and reference (HL7-63).
    pub abnormality: Abnormality,
    /// The flag as the sender set it.
    pub flag_received: String,
    /// Whether the sender's flag says something else than ours (PAP-12).
    pub disagrees: bool,
    /// Why a person has to look at it, if it was read from paper and is not sure (PAP-31).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doubt: String,
}

/// What comparing a result with its reference says (table 0078, HL7-63).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Abnormality {
    /// Within its range, or negative where negative is usual. 阴性, N.
    Normal,
    /// Below its range. 偏低, L.
    Low,
    /// Above its range. 偏高, H.
    High,
    /// Positive where negative is usual, or otherwise not as usual. 阳性 / 异常, A.
    Abnormal,
    /// Cannot be told. Never means normal.
    Unknown,
}

impl Abnormality {
    /// Whether it is known not to be as usual.
    pub const fn is_abnormal(self) -> bool {
        matches!(self, Self::Low | Self::High | Self::Abnormal)
    }

    /// OBX-8 for it; empty when it cannot be told, never `N` (HL7-63).
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
