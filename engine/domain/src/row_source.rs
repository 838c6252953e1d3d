//! What the message of a laboratory says of a row that was made of one of its observations.

use crate::OrderNumber;

/// Where a row comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowSource {
    /// The order that its observation answers.
    pub order: LaboratoryOrder,
    /// The status of its observation, if the row states what the observation does; nothing, if it
    /// states anything else.
    pub status: Option<LaboratoryStatus>,
}

/// The numbers of an order of a laboratory; those that are not known are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaboratoryOrder {
    /// The number of the one who ordered (OBR-2).
    pub placer: OrderNumber,
    /// The number of the laboratory (OBR-3).
    pub filler: OrderNumber,
    /// Accession number (OBR-18).
    pub accession: String,
}

impl LaboratoryOrder {
    /// What tells it from other orders; nothing, if it has no number.
    pub fn key(&self) -> Option<[&str; 4]> {
        let number = [&self.filler, &self.placer].into_iter().find(|it| !it.is_empty());
        if let Some(number) = number {
            let [authority, application, facility] = number.assigner.key();
            return Some([&number.number, authority, application, facility]);
        }
        (!self.accession.is_empty()).then_some([&self.accession, "", "", ""])
    }
}

/// A status of an observation with a value that a report passes on (OBX-11, table 0085).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaboratoryStatus {
    /// `F`: final.
    Final,
    /// `C`: it corrects a final result.
    Corrected,
    /// `P`: preliminary.
    Preliminary,
    /// `R`: entered, and not verified.
    NotVerified,
}

impl LaboratoryStatus {
    /// The status that a laboratory sent. Nothing for every other one, and for none at all.
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "F" => Some(Self::Final),
            "C" => Some(Self::Corrected),
            "P" => Some(Self::Preliminary),
            "R" => Some(Self::NotVerified),
            _ => None,
        }
    }

    /// The status in OBX-11.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Final => "F",
            Self::Corrected => "C",
            Self::Preliminary => "P",
            Self::NotVerified => "R",
        }
    }
}
