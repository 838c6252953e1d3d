use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ResultStatus;

/// Somebody who may decide about results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// As it is printed under a report (21 CFR 11.50), or `family^given^middle^prefix^suffix`.
    pub name: String,
    /// For whom they sign.
    pub organization: String,
    /// What they are here: `radiologist`, `laboratory`, `physician`.
    pub role: String,
}

impl Person {
    /// The name as PS3.5, 6.2 writes it. Of a printed name the last word is the family's.
    pub fn dicom_name(&self) -> String {
        if self.name.contains('^') {
            return self.name.clone();
        }
        match self.name.trim().rsplit_once(' ') {
            Some((given, family)) => format!("{family}^{given}"),
            None => self.name.trim().to_owned(),
        }
    }

    /// The name as people read it.
    pub fn printed_name(&self) -> String {
        if !self.name.contains('^') {
            return self.name.trim().to_owned();
        }
        let part = |at: usize| self.name.split('^').nth(at).unwrap_or_default();
        let parts = [part(3), part(1), part(2), part(0), part(4)];
        parts.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// What somebody made of a result (OUT-80).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewState {
    /// Changed, and not signed.
    Edited,
    /// Signed.
    Signed,
    /// Changed after it was signed, and signed again (OUT-83).
    Amended,
    /// A draft that is not to be used.
    Rejected,
    /// Taken back after it was signed.
    Withdrawn,
}

impl ReviewState {
    /// As the database spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Signed => "signed",
            Self::Amended => "amended",
            Self::Rejected => "rejected",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// How far the result may be trusted then.
    pub const fn status(self) -> ResultStatus {
        match self {
            Self::Edited => ResultStatus::HumanEdited,
            Self::Signed => ResultStatus::Signed,
            Self::Amended => ResultStatus::Amended,
            Self::Rejected | Self::Withdrawn => ResultStatus::Withdrawn,
        }
    }
}

/// What a signature says of what is signed (21 CFR 11.50; OUT-82).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// It is right as it was drafted.
    Approved,
    /// It is right as the person has changed it.
    Corrected,
    /// It is wrong, and not to be used.
    Rejected,
}

impl Meaning {
    /// As reports print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Corrected => "corrected",
            Self::Rejected => "rejected",
        }
    }
}

/// Who stands for a state of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// Who.
    pub by: Person,
    /// Which of the states it is that people have given the result, from 1.
    pub version: u32,
    /// Which document it is, as of document messages: one that was signed is replaced by another.
    pub document: u32,
    /// The document it replaces.
    pub replaces: Option<u32>,
    /// When.
    pub at: Timestamp,
    /// What the signature means, if it is one.
    pub meaning: Option<Meaning>,
    /// SHA-256 of the content it is bound to, in hex (21 CFR 11.70).
    pub digest: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printed_and_written_for_dicom() {
        let person = |name: &str| Person {
            name: name.to_owned(),
            organization: "H".to_owned(),
            role: "radiologist".to_owned(),
        };
        assert_eq!(person("Jane Mary Doe").dicom_name(), "Doe^Jane Mary");
        assert_eq!(person("Doe^Jane^^Dr").printed_name(), "Dr Jane Doe");
        assert_eq!(person("王小东").dicom_name(), "王小东");
    }
}
