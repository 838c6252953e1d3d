//! Reads who a message is about: patient identifiers and demographics from PID and MRG (HL7 v2.5.1,
//! 3.4.2 and 3.4.9).

use domain::{DemographicsChange, PatientId};

use crate::message::{ErrorCode, Message, Problem, Repetition, Segment};

/// The problem of a message that needs a patient identifier and has none.
pub(crate) fn missing_patient() -> Problem {
    Problem::wrong(ErrorCode::RequiredFieldMissing, "PID^1^3", "no patient identifier in PID-3")
}

/// A patient identifier with its type (CX.5, table 0203).
pub(crate) struct Identifier {
    pub(crate) id: PatientId,
    /// `MR`, `PI`, …, or nothing.
    pub(crate) identifier_type: String,
}

/// The patient identifiers in a field of PID or MRG.
///
/// # Errors
///
/// Fails if one of them cannot be decoded: it must not be mistaken for another patient.
pub(crate) fn identifiers(
    message: &Message,
    segment: &Segment,
    field: usize,
) -> Result<Vec<Identifier>, Problem> {
    let identifier = |it: Repetition<'_>| {
        let id = PatientId::new(&it.component(1), &it.component(4))?;
        Some(Identifier { id, identifier_type: it.component(5) })
    };
    let is_damaged = |it: Repetition<'_>| it.component(1).contains('\u{fffd}');
    if message.repetitions(segment, field).any(is_damaged) {
        return Err(Problem::wrong(
            ErrorCode::DataTypeError,
            "PID^1^3",
            "a patient identifier cannot be decoded",
        ));
    }
    Ok(message.repetitions(segment, field).filter_map(identifier).collect())
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
    let index = found.iter().position(|it| it.identifier_type == "MR").unwrap_or_default();
    Ok(found.into_iter().nth(index).map(|it| it.id))
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
