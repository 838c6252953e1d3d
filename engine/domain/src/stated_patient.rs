//! Whose a page says it is, and whether that is the patient whom it is filed under (PAP-10).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name_likeness::{Likeness, compare_names};
use crate::{Demographics, PatientId, named_enum};

named_enum! {
    /// What identifies a patient on a page.
    pub enum IdentityField {
        /// The name.
        Name = "name",
        /// The date of birth.
        BirthDate = "birth_date",
        /// An identifier.
        Identifier = "identifier",
        /// The sex.
        Sex = "sex",
    }
}

/// What becomes of a document whose patient is doubtful.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDoubt {
    /// It is rejected: a person has to look.
    #[default]
    Reject,
    /// The doubt is marked, for the person who reviews.
    Mark,
}

/// A patient as a page names them. Plugins are not told whom a document is filed under: they state
/// whom its pages name, and the engine compares.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatedPatient {
    /// Number of the page in the document, from one.
    pub page: u32,
    /// The name as printed, or as `family^given`. Empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The date of birth, `YYYYMMDD`, `YYYYMM` or `YYYY`: all that the printed one may mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub birth_dates: Vec<String>,
    /// `M` or `F`; empty if it is not stated.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sex: String,
    /// The identifiers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identifiers: Vec<StatedIdentifier>,
    /// Whether it was recognised in a picture, so that letters may be misread.
    #[serde(default)]
    pub is_recognised: bool,
    /// What becomes of the document if its patient is doubtful.
    #[serde(default)]
    pub on_doubt: OnDoubt,
}

/// An identifier as a page prints it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatedIdentifier {
    /// The number.
    pub value: String,
    /// The authority that assigned it, where that is known: an issuer of the site. Without one, a
    /// number that differs means nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub authority: String,
    /// The label that it stands behind: two pages of a document with one label mean one authority.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
}

/// The patient whom a document is filed under.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FiledPatient {
    /// Name, date of birth and sex.
    pub demographics: Demographics,
    /// All identifiers, of those who were merged as well.
    pub identifiers: Vec<PatientId>,
}

impl fmt::Debug for StatedPatient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StatedPatient(..)")
    }
}

impl fmt::Debug for StatedIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StatedIdentifier(..)")
    }
}

impl fmt::Debug for FiledPatient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FiledPatient(..)")
    }
}

/// Where two statements about a patient differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityDifference {
    /// The fields that cannot be those of one person.
    pub conflicts: Vec<IdentityField>,
    /// The fields that may be.
    pub doubts: Vec<IdentityField>,
}

impl StatedPatient {
    /// Compares with the patient whom the document is filed under.
    pub fn compared_with(&self, filed: &FiledPatient) -> IdentityDifference {
        let of = |it: &PatientId| StatedIdentifier {
            value: it.value.clone(),
            authority: it.issuer.clone(),
            label: String::new(),
        };
        let known = Self {
            name: filed.demographics.name.clone(),
            birth_dates: vec![filed.demographics.birth_date.clone()],
            sex: filed.demographics.sex.clone(),
            identifiers: filed.identifiers.iter().map(of).collect(),
            ..Self::default()
        };
        self.compared_with_page(&known)
    }

    /// Compares with the patient of another page.
    pub fn compared_with_page(&self, other: &Self) -> IdentityDifference {
        let is_misread = self.is_recognised || other.is_recognised;
        let name = compare_names(&self.name, &other.name, is_misread);
        let birth_date = compare_dates(&self.birth_dates, &other.birth_dates, is_misread);
        let identifier = compare_identifiers(&self.identifiers, &other.identifiers, is_misread);
        let mut difference = IdentityDifference::default();
        match name {
            Likeness::Unknown | Likeness::Same => {}
            Likeness::Near => difference.doubts.push(IdentityField::Name),
            // A new family name: the rest has to tell that it is the same person.
            Likeness::OtherFamily
                if birth_date == Likeness::Same && identifier != Likeness::Different =>
            {
                difference.doubts.push(IdentityField::Name);
            }
            Likeness::OtherFamily | Likeness::Different => {
                difference.conflicts.push(IdentityField::Name);
            }
        }
        for (field, likeness) in
            [(IdentityField::BirthDate, birth_date), (IdentityField::Identifier, identifier)]
        {
            match likeness {
                Likeness::Unknown | Likeness::Same => {}
                Likeness::Near => difference.doubts.push(field),
                Likeness::OtherFamily | Likeness::Different => difference.conflicts.push(field),
            }
        }
        if is_other_sex(&self.sex, &other.sex) {
            difference.doubts.push(IdentityField::Sex);
        }
        difference
    }
}

fn is_other_sex(one: &str, other: &str) -> bool {
    let is_told = |it: &str| matches!(it, "M" | "F");
    is_told(one) && is_told(other) && one != other
}

/// Compares dates, of which each side may have several readings and may be less precise.
fn compare_dates(one: &[String], other: &[String], is_misread: bool) -> Likeness {
    let usable = |it: &&String| {
        let is_date = it.len() >= 4 && it.bytes().all(|it| it.is_ascii_digit());
        // What systems write for a date that they do not know.
        let is_filler = it.as_str() < "19000102" || it.starts_with("9999");
        is_date && !is_filler
    };
    let day = |it: &String| it.get(..8).unwrap_or(it).to_owned();
    let one: Vec<String> = one.iter().filter(usable).map(day).collect();
    let other: Vec<String> = other.iter().filter(usable).map(day).collect();
    if one.is_empty() || other.is_empty() {
        return Likeness::Unknown;
    }
    let pairs = || one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
    if pairs().any(|(a, b)| a.starts_with(b.as_str()) || b.starts_with(a.as_str())) {
        return Likeness::Same;
    }
    let differ_in_one = |a: &str, b: &str| {
        a.len() == b.len() && a.bytes().zip(b.bytes()).filter(|(a, b)| a != b).count() == 1
    };
    if is_misread && pairs().any(|(a, b)| differ_in_one(a, b)) {
        return Likeness::Near;
    }
    Likeness::Different
}

/// Compares identifiers. Only those of one authority can differ.
fn compare_identifiers(
    one: &[StatedIdentifier],
    other: &[StatedIdentifier],
    is_misread: bool,
) -> Likeness {
    let pairs = || one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
    let number = |it: &StatedIdentifier| -> String {
        let digits = it.value.chars().filter(|it| it.is_alphanumeric());
        digits.collect::<String>().trim_start_matches('0').to_uppercase()
    };
    if pairs().any(|(a, b)| number(a) == number(b)) {
        return Likeness::Same;
    }
    let is_hidden = |it: &StatedIdentifier| it.value.contains(['*', '\u{fffd}']);
    let mut compared = pairs().filter(|(a, b)| is_of_one_authority(a, b));
    let Some((a, b)) = compared.find(|(a, b)| !is_hidden(a) && !is_hidden(b)) else {
        return Likeness::Unknown;
    };
    let is_near = is_misread && strsim::levenshtein(&number(a), &number(b)) <= 1;
    if is_near { Likeness::Near } else { Likeness::Different }
}

fn is_of_one_authority(one: &StatedIdentifier, other: &StatedIdentifier) -> bool {
    if !one.authority.is_empty() && !other.authority.is_empty() {
        return one.authority.eq_ignore_ascii_case(&other.authority);
    }
    !one.label.is_empty() && one.label == other.label
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(name: &str, birth_date: &str) -> StatedPatient {
        StatedPatient {
            name: name.to_owned(),
            birth_dates: vec![birth_date.to_owned()],
            ..StatedPatient::default()
        }
    }

    fn filed(name: &str, birth_date: &str) -> FiledPatient {
        FiledPatient {
            demographics: Demographics {
                name: name.to_owned(),
                birth_date: birth_date.to_owned(),
                sex: "F".to_owned(),
            },
            identifiers: vec![PatientId::new("0004711", "HOSP").unwrap()],
        }
    }

    #[track_caller]
    fn check(page: &StatedPatient, conflicts: &[IdentityField], doubts: &[IdentityField]) {
        let found = page.compared_with(&filed("DOE^JANE", "19800101"));
        assert_eq!((found.conflicts.as_slice(), found.doubts.as_slice()), (conflicts, doubts));
    }

    #[test]
    fn pap_10_another_name_or_another_birth_date_is_a_conflict() {
        let name = IdentityField::Name;
        let birth_date = IdentityField::BirthDate;
        check(&stated("Jane Doe", "19800101"), &[], &[]);
        check(&stated("Jane Doe", "1980"), &[], &[]);
        check(&stated("Jane Doe", ""), &[], &[]);
        check(&stated("Jane Doe", "19000101"), &[], &[]);
        check(&stated("John Doe", "19800101"), &[name], &[]);
        check(&stated("Jane Doe", "19800102"), &[birth_date], &[]);
        check(&stated("Anna Alpha", "19500101"), &[name, birth_date], &[]);
        // A married name, if the day of birth is the same.
        check(&stated("Jane Roe", "19800101"), &[], &[name]);
        check(&stated("Jane Roe", ""), &[name], &[]);
    }

    #[test]
    fn pap_10_a_near_miss_of_a_recognised_page_is_a_doubt() {
        let misread =
            |name: &str, date: &str| StatedPatient { is_recognised: true, ..stated(name, date) };
        check(&misread("Jane D0e", "19800101"), &[], &[]);
        check(&misread("Jahe Doe", "19800101"), &[], &[IdentityField::Name]);
        check(&misread("Jane Doe", "19800107"), &[], &[IdentityField::BirthDate]);
        check(&stated("Jane Doe", "19800107"), &[IdentityField::BirthDate], &[]);
        check(&misread("Bert Beta", "19800101"), &[IdentityField::Name], &[]);
    }

    #[test]
    fn pap_10_an_identifier_conflicts_with_one_of_its_authority_only() {
        let with = |value: &str, authority: &str| StatedPatient {
            identifiers: vec![StatedIdentifier {
                value: value.to_owned(),
                authority: authority.to_owned(),
                label: "MRN".to_owned(),
            }],
            ..stated("", "")
        };
        check(&with("4711", "HOSP"), &[], &[]);
        check(&with("4712", ""), &[], &[]);
        check(&with("4712", "LAB"), &[], &[]);
        check(&with("4712", "hosp"), &[IdentityField::Identifier], &[]);
        let near = StatedPatient { is_recognised: true, ..with("4712", "HOSP") };
        check(&near, &[], &[IdentityField::Identifier]);
        // Two pages with one label.
        let found = with("1", "").compared_with_page(&with("2", ""));
        assert_eq!(found.conflicts, [IdentityField::Identifier]);
    }

    #[test]
    fn pap_10_another_sex_is_a_doubt() {
        let page = StatedPatient { sex: "M".to_owned(), ..stated("Jane Doe", "") };
        check(&page, &[], &[IdentityField::Sex]);
    }

    #[test]
    fn sec_37_a_stated_patient_is_not_shown_by_mistake() {
        let identifiers = vec![StatedIdentifier::default()];
        let page = StatedPatient { identifiers, ..stated("Jane Doe", "") };
        assert_eq!(format!("{page:?}"), "StatedPatient(..)");
        assert_eq!(format!("{:?}", filed("DOE^JANE", "")), "FiledPatient(..)");
    }
}
