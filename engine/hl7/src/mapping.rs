//! What messages mean (HL7-30..31, HL7-40..43, and the table of `standards.md` §2.4). Pure.

use contracts::MessageEffect;
use domain::{DemographicsChange, Order, OrderAction, OrderKey, PatientId};

use crate::document::document;
use crate::merging::identity_effects;
use crate::message::{Message, Problem, Repetition, Segment};

/// What ORC-1 says when an order is taken back (table 0119).
const CANCELLING: &[&str] = &["CA", "OC", "DC", "CR", "OD", "DR"];

/// What `message` asks to change. A message that nothing follows from is kept all the same, and may
/// start a workflow.
///
/// # Errors
///
/// Says what is missing or contradicts itself. Nothing may be changed.
pub fn effects(message: &Message) -> Result<Vec<MessageEffect>, Problem> {
    let mut effects = match (message.msh(9, 1).as_str(), message.msh(9, 2).as_str()) {
        ("ADT", event) => match identity_effects(message, event)? {
            Some(effects) => return Ok(effects),
            None => Vec::new(),
        },
        ("ORM", "O01") | ("OMI", "O23") | ("OMG", "O19") | ("OML", "O21") => orders(message)?,
        ("ORU" | "OUL" | "MDM", _) => vec![document(message)],
        _ => return Ok(Vec::new()),
    };
    if let Some(patient) = message.segment("PID") {
        let needs_one = message.msh(9, 1) == "ADT";
        match patient_id(message, patient)? {
            Some(id) => {
                let demographics = demographics(message, patient);
                effects.insert(0, MessageEffect::Patient { id, demographics });
            }
            None if needs_one => return Err(missing_patient()),
            None => {}
        }
    }
    Ok(effects)
}

pub(crate) fn missing_patient() -> Problem {
    Problem::wrong(101, "PID^1^3", "no patient identifier in PID-3")
}

/// An identifier with its type, PID-3 or MRG-1.
pub(crate) struct Identifier {
    pub(crate) id: PatientId,
    pub(crate) kind: String,
}

pub(crate) fn identifiers(
    message: &Message,
    segment: &Segment,
    field: usize,
) -> Result<Vec<Identifier>, Problem> {
    let identifier = |it: Repetition<'_>| {
        let id = PatientId::new(&it.component(1), &it.component(4))?;
        Some(Identifier { id, kind: it.component(5) })
    };
    let is_damaged = |it: Repetition<'_>| it.component(1).contains('\u{fffd}');
    if message.repetitions(segment, field).any(is_damaged) {
        return Err(Problem::wrong(102, "PID^1^3", "a patient identifier cannot be decoded"));
    }
    Ok(message.repetitions(segment, field).filter_map(identifier).collect())
}

/// The medical record number if one is named so, else the first identifier, else PID-2.
pub(crate) fn patient_id(
    message: &Message,
    segment: &Segment,
) -> Result<Option<PatientId>, Problem> {
    let mut found = identifiers(message, segment, 3)?;
    if found.is_empty() {
        found = identifiers(message, segment, 2)?;
    }
    let index = found.iter().position(|it| it.kind == "MR").unwrap_or_default();
    Ok(found.into_iter().nth(index).map(|it| it.id))
}

/// What PID says of the patient. What is left open stays, what is `""` goes (HL7-21).
pub(crate) fn demographics(message: &Message, segment: &Segment) -> DemographicsChange {
    let is_deleted = |field: usize| segment.field(field).starts_with("\"\"");
    let one = |field: usize, value: String| {
        let is_said = is_deleted(field) || !value.is_empty();
        is_said.then_some(value)
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
        name: one(5, if name.contains('\u{fffd}') { String::new() } else { name }),
        birth_date: one(7, if is_date { birth_date } else { String::new() }),
        sex: one(8, sex.to_owned()),
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
        if let Some(kept) = groups.get_mut(group).filter(|it| it.is_empty()) {
            parts.trim_end_matches('^').clone_into(kept);
        }
    }
    groups.join("=").trim_end_matches('=').to_owned()
}

/// The segments of one order: from its ORC, or OBR where there is none, to the next.
fn orders(message: &Message) -> Result<Vec<MessageEffect>, Problem> {
    let patient = match message.segment("PID") {
        Some(pid) => patient_id(message, pid)?,
        None => None,
    };
    let mut groups: Vec<Vec<&Segment>> = Vec::new();
    for segment in message.segments() {
        let has_request = groups.last().is_some_and(|it| it.iter().any(|it| it.name == "OBR"));
        match segment.name.as_str() {
            "ORC" => groups.push(vec![segment]),
            "OBR" if groups.is_empty() || has_request => groups.push(vec![segment]),
            "MSH" | "PID" | "PV1" => {}
            _ => {
                if let Some(group) = groups.last_mut() {
                    group.push(segment);
                }
            }
        }
    }
    let account = message.segment("PID").map(|it| message.value(it, 18, 1)).unwrap_or_default();
    let visit = message.segment("PV1").map(|it| message.value(it, 19, 1)).unwrap_or_default();
    let order = |group: Vec<&Segment>| Order {
        account: account.clone(),
        visit: visit.clone(),
        ..order(message, &group, patient.clone())
    };
    let found: Vec<MessageEffect> =
        groups.into_iter().map(|it| MessageEffect::Order(Box::new(order(it)))).collect();
    if found.is_empty() {
        return Err(Problem::wrong(101, "ORC", "an order message without ORC or OBR"));
    }
    Ok(found)
}

fn order(message: &Message, group: &[&Segment], patient: Option<PatientId>) -> Order {
    let value = |name: &str, field, component| {
        let segment = group.iter().find(|it| it.name == name);
        segment.map(|it| message.value(it, field, component)).unwrap_or_default()
    };
    let first =
        |values: &[String]| values.iter().find(|it| !it.is_empty()).cloned().unwrap_or_default();
    let study = first(&[value("IPC", 3, 1), value("ZDS", 1, 1)]);
    let key = OrderKey {
        placer: first(&[value("ORC", 2, 1), value("OBR", 2, 1)]),
        filler: first(&[value("ORC", 3, 1), value("OBR", 3, 1)]),
        accession: first(&[value("IPC", 1, 1), value("OBR", 18, 1)]).trim().to_owned(),
        requested_procedure: first(&[value("IPC", 2, 1), value("OBR", 19, 1)]),
        study: study.trim().parse().ok(),
    };
    let is_cancelled = CANCELLING.contains(&value("ORC", 1, 1).as_str());
    Order {
        action: if is_cancelled { OrderAction::Cancel } else { OrderAction::Place },
        patient,
        key,
        procedure_code: value("OBR", 4, 1),
        procedure: value("OBR", 4, 2),
        procedure_scheme: value("OBR", 4, 3),
        priority: first(&[
            value("TQ1", 9, 1),
            value("OBR", 27, 6),
            value("ORC", 7, 6),
            value("OBR", 5, 1),
        ]),
        modality: first(&[value("IPC", 5, 1), value("OBR", 24, 1)]),
        reason: first(&[value("OBR", 31, 2), value("OBR", 13, 1)]),
        status: value("ORC", 5, 1),
        account: String::new(),
        visit: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use encoding::hl7_charset::Hl7Charset;

    use super::*;

    fn of(kind: &str, rest: &str) -> Result<Vec<MessageEffect>, Problem> {
        let text = format!("MSH|^~\\&|RIS|H|ISO|H|20260101||{kind}|M1|P|2.5.1\r{rest}");
        effects(&Message::parse(text.as_bytes(), Hl7Charset::Utf8).unwrap())
    }

    #[test]
    fn hl7_21_what_is_null_goes_and_what_is_empty_stays() {
        let found = of("ADT^A08", "PID|1||7^^^HOSP^MR||DOE^JANE||\"\"|").unwrap();
        let [MessageEffect::Patient { demographics, .. }] = found.as_slice() else { panic!() };
        assert_eq!(demographics.name.as_deref(), Some("DOE^JANE"));
        assert_eq!((demographics.birth_date.as_deref(), &demographics.sex), (Some(""), &None));
    }

    #[test]
    fn names_in_several_scripts_become_the_groups_of_one() {
        let pid =
            "PID|1||7^^^HOSP^MR||Yamada^Tarou^^^^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P";
        let found = of("ADT^A08", pid).unwrap();
        let [MessageEffect::Patient { demographics, .. }] = found.as_slice() else { panic!() };
        assert_eq!(demographics.name.as_deref(), Some("Yamada^Tarou=山田^太郎=やまだ^たろう"));
    }

    #[test]
    fn hl7_40_orders_carry_their_keys() {
        let orm = "PID|1||7^^^HOSP^MR\rORC|NW|P1|F1\rOBR|1|P1|F1|36643-5^XR Chest^LN\
            ||||||||||||||ACC1|RP1||||||||^^^^^S\rZDS|1.2.3^Application^DICOM";
        let found = of("ORM^O01", orm).unwrap();
        let [MessageEffect::Patient { .. }, MessageEffect::Order(order)] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(order.key.accession, "ACC1");
        assert_eq!(order.key.study.as_ref().unwrap().as_str(), "1.2.3");
        assert_eq!(order.priority, "S");

        let omi = "PID|1||7^^^HOSP^MR\rORC|CA|P1|F1\rTQ1|||||||||R\rOBR|1\rIPC|ACC2|RP2|1.2.4|S|CT";
        let found = of("OMI^O23", omi).unwrap();
        let MessageEffect::Order(order) = &found[1] else { panic!() };
        assert_eq!((order.action, order.key.accession.as_str()), (OrderAction::Cancel, "ACC2"));
        assert_eq!(order.modality, "CT");
    }

    #[test]
    fn hl7_60_observations_are_read_by_their_type() {
        let oru = "PID|1||7^^^HOSP^MR\rOBR|1\r\
            OBX|1|NM|6690-2^Leukocytes^LN||12.3|10*9/L^^UCUM|3.5-9.5|H|||F\r\
            OBX|2|SN|1988-5^CRP^LN||<^0.5|mg/L|<5.0|N|||F\r\
            OBX|3|SN|5048-4^ANA^LN||^1^:^128||<1:40\r\
            OBX|4|CWE|5778-6^Color^LN||371244009^Yellow^SCT||||||F";
        let found = of("ORU^R01", oru).unwrap();
        let MessageEffect::Document { document, .. } = &found[1] else { panic!() };
        let values: Vec<&str> = document.observations.iter().map(|it| it.value.as_str()).collect();
        assert_eq!(values, ["12.3", "<0.5", "1:128", "Yellow"]);
    }
}
