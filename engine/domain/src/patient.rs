//! Patients: their identifiers and demographics, none of which is shown by mistake (SEC-37).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::uid::is_uid;

/// A patient identifier together with the authority that assigned it (DIN-60).
///
/// Two identifiers belong to one patient only if both parts agree: `123` of one hospital is not
/// `123` of another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PatientId {
    /// The identifier, PID-3.1 or (0010,0020).
    pub value: String,
    /// The assigning authority, PID-3.4 or (0010,0021): its name, or its OID where the sender names it
    /// by its OID only. Empty if none is named.
    pub issuer: String,
}

impl fmt::Debug for PatientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PatientId(..)")
    }
}

impl fmt::Debug for Demographics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Demographics(..)")
    }
}

impl PatientId {
    /// An identifier, or nothing if `value` is blank, or if it or its issuer was not fully decoded
    /// (DIN-74): it would be one of another authority.
    pub fn new(value: &str, issuer: &str) -> Option<Self> {
        let value = value.trim();
        if value.is_empty() || value.contains('\u{fffd}') || issuer.contains('\u{fffd}') {
            return None;
        }
        Some(Self { value: value.to_owned(), issuer: issuer.trim().to_owned() })
    }

    /// The issuer, if it is an OID and not a name: messages and objects have another field for it.
    pub fn issuer_oid(&self) -> Option<&str> {
        let is_oid = self.issuer.contains('.') && is_uid(&self.issuer);
        is_oid.then_some(self.issuer.as_str())
    }
}

/// The demographics of a patient, as far as reports show them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demographics {
    /// Name in the form `family^given^middle^prefix^suffix`, ideographic groups after `=`.
    pub name: String,
    /// Date of birth, `YYYYMMDD`.
    pub birth_date: String,
    /// `M`, `F`, `O` or empty.
    pub sex: String,
}

/// A change of demographics by a message: `None` leaves a field as it is, an empty text deletes it
/// (HL7-21).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DemographicsChange {
    /// Name, as in [`Demographics`].
    pub name: Option<String>,
    /// Date of birth, `YYYYMMDD`.
    pub birth_date: Option<String>,
    /// `M`, `F` or `O`.
    pub sex: Option<String>,
}

impl fmt::Debug for DemographicsChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DemographicsChange(..)")
    }
}

impl Demographics {
    /// Takes over what a message says, and keeps what it leaves open.
    #[must_use]
    pub fn changed(mut self, change: &DemographicsChange) -> Self {
        for (kept, new) in [
            (&mut self.name, &change.name),
            (&mut self.birth_date, &change.birth_date),
            (&mut self.sex, &change.sex),
        ] {
            if let Some(new) = new {
                kept.clone_from(new);
            }
        }
        self
    }

    /// Whether these are hardly those of the same person: birth date or sex differ, or, where one of
    /// the two has no birth date, the family name.
    pub fn is_of_somebody_else(&self, other: &Self) -> bool {
        let differs = |one: &str, other: &str| {
            !one.is_empty() && !other.is_empty() && !one.eq_ignore_ascii_case(other)
        };
        let has_dates = !self.birth_date.is_empty() && !other.birth_date.is_empty();
        differs(&self.birth_date, &other.birth_date)
            || differs(&self.sex, &other.sex)
            || (!has_dates && differs(family(&self.name), family(&other.name)))
    }

    /// Fills in what is not known from somebody who is the same.
    #[must_use]
    pub fn or(mut self, other: &Self) -> Self {
        for (kept, known) in [
            (&mut self.name, &other.name),
            (&mut self.birth_date, &other.birth_date),
            (&mut self.sex, &other.sex),
        ] {
            if kept.is_empty() {
                kept.clone_from(known);
            }
        }
        self
    }
}

/// The family name of the first representation.
fn family(name: &str) -> &str {
    name.split(['^', '=']).next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_37_debug_shows_nothing_of_the_patient() {
        let id = PatientId::new("4711", "HOSP").unwrap();
        let demographics = Demographics { name: "DOE^JANE".to_owned(), ..Demographics::default() };
        let shown = format!("{id:?} {demographics:?}");
        assert_eq!(shown, "PatientId(..) Demographics(..)");
    }

    #[test]
    fn din_60_an_issuer_is_a_name_or_an_oid() {
        let oid_of = |issuer| PatientId::new("7", issuer).unwrap().issuer_oid().map(str::to_owned);
        assert_eq!(oid_of("1.2.3.111").as_deref(), Some("1.2.3.111"));
        for name in ["", "HOSP", "1", "hospital.example", "1..2", "1.02"] {
            assert_eq!(oid_of(name), None, "{name}");
        }
    }

    #[test]
    fn din_74_what_cannot_be_decoded_identifies_nobody() {
        assert_eq!(PatientId::new("47\u{fffd}1", "HOSP"), None);
        assert_eq!(PatientId::new("  ", "HOSP"), None);
        assert_eq!(PatientId::new("4711", "HO\u{fffd}P"), None);
    }

    #[test]
    fn din_60_demographics_that_differ_are_of_somebody_else() {
        let of = |name: &str, birth_date: &str, sex: &str| Demographics {
            name: name.to_owned(),
            birth_date: birth_date.to_owned(),
            sex: sex.to_owned(),
        };
        let jane = of("DOE^JANE", "19700101", "F");
        for (other, expected) in [
            (of("Doe^Janet", "19700101", "F"), false),
            (of("ROE^JANE", "19700101", ""), false),
            (of("DOE^JANE", "", ""), false),
            (of("", "", ""), false),
            (of("ROE^JANE", "", "F"), true),
            (of("DOE^JANE", "19700102", "F"), true),
            (of("DOE^JANE", "19700101", "M"), true),
        ] {
            assert_eq!(jane.is_of_somebody_else(&other), expected);
            assert_eq!(other.is_of_somebody_else(&jane), expected);
        }
    }

    #[test]
    fn hl7_21_what_a_message_leaves_open_stays_and_what_it_deletes_goes() {
        let known = Demographics {
            name: "DOE^JANE".to_owned(),
            sex: "F".to_owned(),
            ..Demographics::default()
        };
        let change = DemographicsChange {
            birth_date: Some("19700101".to_owned()),
            sex: Some(String::new()),
            ..DemographicsChange::default()
        };
        let changed = known.clone().changed(&change);
        assert_eq!((changed.name, changed.birth_date.as_str()), (known.name, "19700101"));
        assert_eq!(changed.sex, "");
    }
}
