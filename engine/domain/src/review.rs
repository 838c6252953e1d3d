//! Review: who decides about results, what a decision makes of a result, what a signature means.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Actor, ResultStatus, named_enum};

/// A person who may decide about results.
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
    /// Whether somebody of this name may be the same person: family and given name are alike,
    /// however they are written. Two people who share a name are not told apart.
    pub fn may_be(&self, name: &str) -> bool {
        let other = Self { name: name.to_owned(), ..self.clone() };
        self.plain_name() == other.plain_name()
    }

    /// Family and given name, in small letters and with single blanks.
    fn plain_name(&self) -> Vec<String> {
        let name = self.dicom_name();
        let words = |it: &str| it.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        name.split('^').take(2).map(words).filter(|it| !it.is_empty()).collect()
    }

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

/// A person, as a valid token names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHolder {
    /// The key of the token.
    pub token: Uuid,
    /// Name, organization and role.
    pub person: Person,
    /// The account that created the token.
    pub issued_by: String,
}

impl TokenHolder {
    /// Whom the trail names for what they decide.
    pub fn actor(&self) -> Actor {
        Actor::person(&self.person.name)
    }
}

named_enum! {
    /// What a person made of a result (OUT-80).
    pub enum ReviewState {
        /// Changed, and not signed.
        Edited = "edited",
        /// Signed.
        Signed = "signed",
        /// Changed after it was signed, and signed again (OUT-83).
        Amended = "amended",
        /// A draft that is not to be used.
        Rejected = "rejected",
        /// Withdrawn after it was signed.
        Withdrawn = "withdrawn",
    }
}

impl ReviewState {
    /// How far the result may be trusted then.
    pub const fn status(self) -> ResultStatus {
        match self {
            Self::Edited => ResultStatus::HumanEdited,
            Self::Signed => ResultStatus::Signed,
            Self::Amended => ResultStatus::Amended,
            Self::Rejected | Self::Withdrawn => ResultStatus::Withdrawn,
        }
    }

    /// Whether a person answers for the result with a signature.
    pub const fn is_signed(self) -> bool {
        matches!(self, Self::Signed | Self::Amended)
    }

    /// The position of the version in force among the versions of a result, oldest first. A signed
    /// version stands until another is signed or it is withdrawn: what a person edits or rejects
    /// after failed steps were tried again is about a proposal (OUT-83).
    pub fn in_force(versions: &[Self]) -> Option<usize> {
        let last = versions.len().checked_sub(1)?;
        let ends_proposal = |it: &Self| it.is_signed() || *it == Self::Withdrawn;
        let decided = versions.iter().rposition(ends_proposal);
        let signed = decided.filter(|at| versions.get(*at).is_some_and(|it| it.is_signed()));
        Some(signed.unwrap_or(last))
    }
}

named_enum! {
    /// What a signature means (21 CFR 11.50; OUT-82).
    pub enum Meaning {
        /// The result is right as it was drafted.
        Approved = "approved",
        /// The result is right as the person changed it.
        Corrected = "corrected",
        /// The result is wrong and not to be used.
        Rejected = "rejected",
    }
}

/// Who is responsible for a version of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// The person who edited, signed, rejected or withdrew it.
    pub by: Person,
    /// Number of the version, from 1.
    pub version: u32,
    /// Number of the document in document messages: a signed document is replaced by another.
    pub document: u32,
    /// Number of the document that this one replaces.
    pub replaces: Option<u32>,
    /// When the person decided.
    pub at: Timestamp,
    /// What the signature means, if it was signed.
    pub meaning: Option<Meaning>,
    /// SHA-256 of the content that the signature is bound to, in hex (21 CFR 11.70).
    pub digest: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hl7_37_another_spelling_is_no_second_person() {
        let person = |name: &str| Person {
            name: name.to_owned(),
            organization: "H".to_owned(),
            role: "physician".to_owned(),
        };
        for name in ["Doe^Jane", "Jane Doe", "DOE^JANE^^Dr", " doe^ jane "] {
            assert!(person("Doe^Jane").may_be(name), "{name}");
        }
        for name in ["Roe^Jane", "Doe^John", "Doe"] {
            assert!(!person("Doe^Jane").may_be(name), "{name}");
        }
    }

    #[test]
    fn out_83_a_signed_version_stands_until_another_is_signed_or_it_is_withdrawn() {
        use ReviewState::{Amended, Edited, Rejected, Signed, Withdrawn};
        let in_force =
            |versions: &[ReviewState]| ReviewState::in_force(versions).map(|at| (at, versions[at]));
        assert_eq!(in_force(&[]), None);
        assert_eq!(in_force(&[Edited]), Some((0, Edited)));
        assert_eq!(in_force(&[Edited, Signed]), Some((1, Signed)));
        assert_eq!(in_force(&[Signed, Edited]), Some((0, Signed)));
        assert_eq!(in_force(&[Signed, Edited, Rejected]), Some((0, Signed)));
        assert_eq!(in_force(&[Signed, Edited, Signed, Amended]), Some((3, Amended)));
        assert_eq!(in_force(&[Signed, Withdrawn]), Some((1, Withdrawn)));
        assert_eq!(in_force(&[Signed, Withdrawn, Edited]), Some((2, Edited)));
        assert_eq!(in_force(&[Rejected]), Some((0, Rejected)));
    }

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
