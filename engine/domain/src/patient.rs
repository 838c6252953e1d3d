use serde::{Deserialize, Serialize};

/// What a hospital calls a patient: an identifier and who gave it (DIN-60).
///
/// Two identifiers are of one patient only if both halves agree: `123` of one hospital is not
/// `123` of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PatientId {
    /// The identifier, PID-3.1 or (0010,0020).
    pub value: String,
    /// The assigning authority, PID-3.4 or (0010,0021). Empty if nobody is named.
    pub issuer: String,
}

impl PatientId {
    /// An identifier, or nothing if `value` is blank or was not fully decoded (DIN-74).
    pub fn new(value: &str, issuer: &str) -> Option<Self> {
        let value = value.trim();
        if value.is_empty() || value.contains('\u{fffd}') {
            return None;
        }
        Some(Self { value: value.to_owned(), issuer: issuer.trim().to_owned() })
    }
}

/// Who a patient is, as far as reports have to say so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demographics {
    /// Name in the form `family^given^middle^prefix^suffix`, ideographic groups after `=`.
    pub name: String,
    /// Date of birth, `YYYYMMDD`.
    pub birth_date: String,
    /// `M`, `F`, `O` or empty.
    pub sex: String,
}

impl Demographics {
    /// Takes over what `newer` says and keeps what it leaves open (HL7-21).
    #[must_use]
    pub fn updated(mut self, newer: &Self) -> Self {
        for (kept, new) in [
            (&mut self.name, &newer.name),
            (&mut self.birth_date, &newer.birth_date),
            (&mut self.sex, &newer.sex),
        ] {
            if !new.is_empty() {
                kept.clone_from(new);
            }
        }
        self
    }
}
