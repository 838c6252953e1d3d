//! Maps messages to their effects: patients, orders, documents, changes of identity (HL7-30 to
//! HL7-43, and the table of `standards.md` §2.4).
//!
//! Nothing is stored here: [`effects`] reads a message and returns what the intake has to apply.

use contracts::MessageEffect;
use domain::{Order, OrderAction, OrderKey, PatientId};

use crate::document::document;
use crate::merging::identity_effects;
use crate::message::{ErrorCode, Message, Problem, Segment};
use crate::patient::{demographics, missing_patient, patient_id};

/// Values of ORC-1 that cancel an order (table 0119).
const CANCELLING: &[&str] = &["CA", "OC", "DC", "CR", "OD", "DR"];

/// The effects of `message`. A message without effects is stored all the same, and may start a
/// workflow.
///
/// # Errors
///
/// Fails if something is missing or contradictory. Nothing may be changed then.
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
        let requires_patient = message.msh(9, 1) == "ADT";
        match patient_id(message, patient)? {
            Some(id) => {
                let demographics = demographics(message, patient);
                effects.insert(0, MessageEffect::Patient { id, demographics });
            }
            None if requires_patient => return Err(missing_patient()),
            None => {}
        }
    }
    Ok(effects)
}

/// The orders of a message. The segments of one order go from its ORC, or its OBR where there is no
/// ORC, to the next.
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
        return Err(Problem::wrong(
            ErrorCode::RequiredFieldMissing,
            "ORC",
            "an order message without ORC or OBR",
        ));
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
    use encoding::hl7::charset::Hl7Charset;

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
