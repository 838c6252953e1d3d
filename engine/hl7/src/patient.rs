//! Reads who a message is about: patient identifiers and demographics from PID and MRG (HL7 v2.5.1,
//! 3.4.2 and 3.4.9).

use contracts::PatientAuthorities;
use domain::{DemographicsChange, PatientId};

use crate::message::{ErrorCode, Message, Problem, Repetition, Segment};

/// The problem of a message that needs a patient identifier and has none.
pub(crate) fn missing_patient() -> Problem {
    Problem::wrong(ErrorCode::RequiredFieldMissing, "PID^1^3", "no patient identifier in PID-3")
}

/// The authority that assigned an identifier (CX.4): its name, or its universal ID where it has no
/// name. The two are one text, since sites name an authority in either way (HL7 v2.5.1, 2.A.33).
fn authority(identifier: Repetition<'_>) -> String {
    let name = identifier.subcomponent(4, 1);
    if name.trim().is_empty() { identifier.subcomponent(4, 2) } else { name }
}

/// A patient identifier with its type (CX.5, table 0203).
pub(crate) struct Identifier {
    pub(crate) id: PatientId,
    /// `MR`, `PI`, …, or nothing.
    pub(crate) identifier_type: String,
}

impl Identifier {
    /// Whether both are of one type, or one names none.
    pub(crate) fn has_type_of(&self, other: &Self) -> bool {
        self.identifier_type == other.identifier_type
            || self.identifier_type.is_empty()
            || other.identifier_type.is_empty()
    }
}

/// The patient identifiers in a field of PID or MRG.
///
/// # Errors
///
/// Fails if one of them or its authority cannot be decoded: the identifier must not be mistaken for
/// another patient's.
pub(crate) fn identifiers(
    message: &Message,
    segment: &Segment,
    field: usize,
) -> Result<Vec<Identifier>, Problem> {
    let identifier = |it: Repetition<'_>| {
        let id = PatientId::new(&it.component(1), &authority(it))?;
        Some(Identifier { id, identifier_type: it.component(5) })
    };
    let is_damaged = |it: Repetition<'_>| {
        it.component(1).contains('\u{fffd}') || authority(it).contains('\u{fffd}')
    };
    if message.repetitions(segment, field).any(is_damaged) {
        let location = format!("{}^1^{field}", segment.name);
        let text = "a patient identifier cannot be decoded";
        return Err(Problem::wrong(ErrorCode::DataTypeError, location, text));
    }
    Ok(message.repetitions(segment, field).filter_map(identifier).collect())
}

/// Compares the identifiers of one message as the site does.
pub(crate) struct Comparison<'a> {
    authorities: &'a dyn PatientAuthorities,
    application: String,
    facility: String,
}

impl<'a> Comparison<'a> {
    pub(crate) fn of(message: &Message, authorities: &'a dyn PatientAuthorities) -> Self {
        Self { authorities, application: message.msh(3, 1), facility: message.msh(4, 1) }
    }

    /// Whether one authority assigned both identifiers.
    pub(crate) fn is_same_authority(&self, one: &PatientId, other: &PatientId) -> bool {
        let authority = |id| self.authorities.authority(&self.application, &self.facility, id);
        authority(one) == authority(other)
    }

    /// Whether both identifiers are those of one patient.
    pub(crate) fn is_same_patient(&self, one: &PatientId, other: &PatientId) -> bool {
        one.value == other.value && self.is_same_authority(one, other)
    }
}

/// The identifier of a patient: the medical record number (type `MR`) if there is one, else the
/// first of PID-3, else PID-2.
pub(crate) fn patient_id(
    message: &Message,
    segment: &Segment,
) -> Result<Option<PatientId>, Problem> {
    let mut found = identifiers(message, segment, 3)?;
    if found.is_empty() {
        found = identifiers(message, segment, 2)?;
    }
    Ok(preferred(&found).map(|it| it.id.clone()))
}

/// Of the identifiers of one patient, the one that the patient is known by: the medical record
/// number, or else the first.
pub(crate) fn preferred<'a>(
    found: impl IntoIterator<Item = &'a Identifier, IntoIter: Clone>,
) -> Option<&'a Identifier> {
    let mut found = found.into_iter();
    found.clone().find(|it| it.identifier_type == "MR").or_else(|| found.next())
}

/// The demographics in PID. An empty field leaves what is stored; `""` deletes it (HL7-21).
pub(crate) fn demographics(message: &Message, segment: &Segment) -> DemographicsChange {
    let change = |field: usize, value: String| {
        let is_deleted = segment.field(field).starts_with("\"\"");
        (is_deleted || !value.is_empty()).then_some(value)
    };
    let name = name(message, segment);
    let birth_date: String = message.value(segment, 7, 1).chars().take(8).collect();
    let is_date = birth_date.len() == 8 && birth_date.bytes().all(|it| it.is_ascii_digit());
    let sex = match message.value(segment, 8, 1).as_str() {
        "M" => "M",
        "F" => "F",
        "" | "U" => "",
        _ => "O",
    };
    DemographicsChange {
        name: change(5, if name.contains('\u{fffd}') { String::new() } else { name }),
        birth_date: change(7, if is_date { birth_date } else { String::new() }),
        sex: change(8, sex.to_owned()),
    }
}

/// The name as DICOM writes it: groups by the representation code of XPN-8 (table 0465).
fn name(message: &Message, segment: &Segment) -> String {
    let mut groups = [String::new(), String::new(), String::new()];
    for repetition in message.repetitions(segment, 5) {
        // HL7 has suffix before prefix, DICOM prefix before suffix.
        let parts = [1, 2, 3, 5, 4].map(|number| repetition.component(number)).join("^");
        let group = match repetition.component(8).as_str() {
            "I" => 1,
            "P" => 2,
            _ => 0,
        };
        if let Some(empty) = groups.get_mut(group).filter(|it| it.is_empty()) {
            parts.trim_end_matches('^').clone_into(empty);
        }
    }
    groups.join("=").trim_end_matches('=').to_owned()
}

#[cfg(test)]
mod tests {
    use encoding::hl7::charset::Hl7Charset;

    use super::*;

    fn patient_of(identifier: &str) -> Result<Option<PatientId>, Problem> {
        let header = "MSH|^~\\&|RIS|H|ISO|H|20260101||ADT^A08|M1|P|2.5.1|||||||UNICODE UTF-8";
        let mut bytes = format!("{header}\rPID|1||").into_bytes();
        // `?` stands for a byte that is no UTF-8.
        bytes.extend(identifier.bytes().map(|it| if it == b'?' { 0xFF } else { it }));
        let message = Message::parse(&bytes, Hl7Charset::Utf8).unwrap();
        patient_id(&message, message.segment("PID").unwrap())
    }

    #[test]
    fn din_60_an_authority_may_be_named_by_its_oid_only() {
        for (identifier, issuer) in [
            ("4711^^^HOSP^MR", "HOSP"),
            ("4711^^^HOSP&1.2.3.111&ISO^MR", "HOSP"),
            ("4711^^^&1.2.3.111&ISO^MR", "1.2.3.111"),
            ("4711^^^&1.2.3.222&ISO^MR", "1.2.3.222"),
            ("4711^^^1.2.3.111^MR", "1.2.3.111"),
            ("4711", ""),
        ] {
            assert_eq!(patient_of(identifier).unwrap().unwrap().issuer, issuer, "{identifier}");
        }
    }

    /// Without its authority the identifier would be one of the default authority.
    #[test]
    fn din_60_an_authority_that_cannot_be_decoded_identifies_nobody() {
        for identifier in ["4711^^^HO?P^MR", "4711^^^&1.2.?&ISO^MR", "47?1^^^HOSP^MR"] {
            let problem = patient_of(identifier).unwrap_err();
            assert_eq!(problem.code, ErrorCode::DataTypeError, "{identifier}");
            assert_eq!(problem.location, "PID^1^3", "{identifier}");
        }
    }
}
