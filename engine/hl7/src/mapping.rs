//! Maps messages to their effects: patients, orders, documents, changes of identity (HL7-30 to
//! HL7-43, and the table of `standards.md` §2.4).
//!
//! Nothing is stored here: [`effects`] reads a message and returns what the intake has to apply.

use contracts::{MessageEffect, PatientAuthorities};
use domain::{Order, OrderAction, OrderKey, PatientId};

use crate::document::document;
use crate::groups::{self, OrderGroup, PatientGroup, only_patient};
use crate::merging::identity_effects;
use crate::message::{ErrorCode, Message, Problem};
use crate::order_number::{accession, kind, order_number};
use crate::patient::{Comparison, demographics, missing_patient, patient_id};

/// Values of ORC-1 that cancel an order (table 0119). An order that is replaced (RP, RQ, RU) counts
/// as cancelled; the one in its place comes as RO.
const CANCELLING: &[&str] = &["CA", "OC", "DC", "CR", "OD", "DR", "RP", "RQ", "RU"];

/// Values of ORC-1 that only report or ask for the status of an order, or say that it stays as it
/// is because it cannot be replaced, changed, cancelled or discontinued (table 0119).
const STATUS_UPDATES: &[&str] = &["SC", "SR", "SS", "UM", "UX", "UC", "UD"];

/// Values of ORC-5 of an order that is cancelled, discontinued or replaced (table 0038).
const CANCELLED: &[&str] = &["CA", "DC", "RP"];

/// The effects of `message`, at a site that compares `authorities`. A message without effects is
/// stored all the same, and may start a workflow.
///
/// # Errors
///
/// Fails if something is missing or contradictory, or if the message is about several patients and
/// its structure holds one. Nothing may be changed then.
pub fn effects(
    message: &Message,
    authorities: &dyn PatientAuthorities,
) -> Result<Vec<MessageEffect>, Problem> {
    let comparison = Comparison::of(message, authorities);
    let mut groups = groups::patients(message);
    let message_type = message.message_type();
    match (message_type.code.as_str(), message_type.trigger.as_str()) {
        ("ADT", event) => {
            if let Some(effects) = identity_effects(message, &groups, event, &comparison)? {
                return Ok(effects);
            }
            // Two patients swap their beds: only the first is brought up to date.
            if event == "A17" {
                groups.retain(|it| it.pid.is_some());
                groups.truncate(1);
            }
            let patient = only_patient(message, &groups, &comparison)?;
            // Events about beds and equipment have no PID.
            if patient.is_none() && groups.iter().any(|it| it.pid.is_some()) {
                return Err(missing_patient());
            }
            patients(message, &groups)
        }
        ("ORM", "O01") | ("OMI", "O23") | ("OMG", "O19") | ("OML", "O21") => {
            groups.retain(|it| !it.is_prior_result(message));
            let patient = only_patient(message, &groups, &comparison)?;
            let mut effects = patients(message, &groups)?;
            effects.extend(orders(message, &groups, patient.as_ref())?);
            Ok(effects)
        }
        ("ORU" | "OUL" | "MDM", _) => {
            let patient = only_patient(message, &groups, &comparison)?;
            let mut effects = patients(message, &groups)?;
            effects.push(document(message, &groups, patient)?);
            Ok(effects)
        }
        _ => Ok(Vec::new()),
    }
}

/// What the PID segments of a message state about its patient. The same again is stated once.
fn patients(message: &Message, groups: &[PatientGroup<'_>]) -> Result<Vec<MessageEffect>, Problem> {
    let mut effects = Vec::new();
    for pid in groups.iter().filter_map(|it| it.pid) {
        let Some(id) = patient_id(message, pid)? else { continue };
        let effect = MessageEffect::Patient { id, demographics: demographics(message, pid) };
        if effects.last() != Some(&effect) {
            effects.push(effect);
        }
    }
    Ok(effects)
}

/// The orders of a message, without the results of earlier orders that come with them.
fn orders(
    message: &Message,
    groups: &[PatientGroup<'_>],
    patient: Option<&PatientId>,
) -> Result<Vec<MessageEffect>, Problem> {
    let mut effects = Vec::new();
    for group in groups {
        let account = group.pid.map(|it| message.value(it, 18, 1)).unwrap_or_default();
        let visit = group.segment("PV1").map(|it| message.value(it, 19, 1)).unwrap_or_default();
        for order_group in group.orders().iter().filter(|it| !it.is_prior_result(message)) {
            let order = Order {
                patient: patient.cloned(),
                account: account.clone(),
                visit: visit.clone(),
                ..order(message, order_group)?
            };
            effects.push(MessageEffect::Order(Box::new(order)));
        }
    }
    if effects.is_empty() {
        return Err(Problem::wrong(
            ErrorCode::RequiredFieldMissing,
            "ORC",
            "an order message without ORC or OBR",
        ));
    }
    Ok(effects)
}

/// The order of a group, without its patient and encounter.
fn order(message: &Message, group: &OrderGroup<'_>) -> Result<Order, Problem> {
    let value = |name: &str, field, component| {
        group.segment(name).map(|it| message.value(it, field, component)).unwrap_or_default()
    };
    let first =
        |values: &[String]| values.iter().find(|it| !it.is_empty()).cloned().unwrap_or_default();
    let study = first(&[value("IPC", 3, 1), value("ZDS", 1, 1)]);
    let accession = accession(message, group)?;
    let key = OrderKey {
        placer: order_number(message, group, 2)?,
        filler: order_number(message, group, 3)?,
        kind: kind(message, group),
        accession_issuer: accession.assigner.authority().to_owned(),
        accession: accession.number,
        requested_procedure: first(&[value("IPC", 2, 1), value("OBR", 19, 1)]),
        study: study.trim().parse().ok(),
    };
    let status = group.control(message, 5);
    Ok(Order {
        action: action(&group.control(message, 1), &status),
        patient: None,
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
        status,
        account: String::new(),
        visit: String::new(),
    })
}

/// What ORC-1 and ORC-5 mean for an order (HL7-43). A status cancels, and never takes that back.
fn action(control: &str, status: &str) -> OrderAction {
    if CANCELLING.contains(&control) || CANCELLED.contains(&status) {
        OrderAction::Cancel
    } else if STATUS_UPDATES.contains(&control) || (control.is_empty() && !status.is_empty()) {
        OrderAction::UpdateStatus
    } else {
        OrderAction::Place
    }
}

#[cfg(test)]
mod tests {
    use contracts::AuthoritiesAsWritten;
    use encoding::hl7::charset::Hl7Charset;

    use super::*;

    fn of(kind: &str, rest: &str) -> Result<Vec<MessageEffect>, Problem> {
        let text = format!("MSH|^~\\&|RIS|H|ISO|H|20260101||{kind}|M1|P|2.5.1\r{rest}");
        effects(&Message::parse(text.as_bytes(), Hl7Charset::Utf8).unwrap(), &AuthoritiesAsWritten)
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

    /// The results of two patients in one ORU^R01: legal, and taken from none.
    #[test]
    fn hl7_24_results_of_another_patient_are_refused_and_name_the_pid() {
        let oru = "PID|1||7^^^HOSP^MR\rOBR|1\rOBX|1|NM|2823-3^Potassium^LN||4.1\r\
            PID|2||8^^^HOSP^MR\rOBR|1\rOBX|1|NM|2823-3^Potassium^LN||7.4";
        for kind in ["ORU^R01", "OUL^R22", "MDM^T02", "ADT^A08"] {
            let problem = of(kind, oru).unwrap_err();
            assert_eq!((problem.code.number(), problem.is_final), (207, false), "{kind}");
            assert_eq!(problem.location, "PID^2^3", "{kind}");
            assert!(problem.text.contains("PID 2"), "{kind}: {problem}");
        }
        let orders = "PID|1||7^^^HOSP^MR\rORC|NW|P1\rOBR|1\rPID|2||8^^^HOSP^MR\rORC|NW|P2\rOBR|1";
        for kind in ["ORM^O01", "OMI^O23", "OMG^O19", "OML^O21"] {
            assert_eq!(of(kind, orders).unwrap_err().location, "PID^2^3", "{kind}");
        }
    }

    #[test]
    fn hl7_24_further_groups_of_the_same_patient_are_read_whole() {
        let oru = "PID|1||7^^^HOSP^MR||DOE^JANE\rOBR|1|||||||||||||||||A1\rOBX|1|NM|a||1\r\
            PID|2||7^^^HOSP^MR||DOE^JANE\rOBR|1\rOBX|1|NM|b||2";
        let found = of("ORU^R01", oru).unwrap();
        let [MessageEffect::Patient { .. }, MessageEffect::Document { document, accession, .. }] =
            found.as_slice()
        else {
            panic!("{found:?}")
        };
        let values: Vec<&str> = document.observations.iter().map(|it| it.value.as_str()).collect();
        assert_eq!((values, accession.as_str()), (vec!["1", "2"], "A1"));

        let orm = "PID|1||7^^^HOSP^MR\rPV1|1||||||||||||||||||V1\rORC|NW|P1\rOBR|1\r\
            PID|2||7^^^HOSP^MR\rPV1|1||||||||||||||||||V2\rORC|NW|P2\rOBR|1";
        assert_eq!(placed("ORM^O01", orm), ["Place P1 V1", "Place P2 V2"]);
    }

    /// The orders of a message: action, placer number and visit.
    fn placed(kind: &str, rest: &str) -> Vec<String> {
        let found = of(kind, rest).unwrap().into_iter();
        let orders = found.filter_map(|it| match it {
            MessageEffect::Order(order) => Some(order),
            _ => None,
        });
        let lines =
            orders.map(|it| format!("{:?} {} {}", it.action, it.key.placer.text(), it.visit));
        lines.map(|it| it.trim_end().to_owned()).collect()
    }

    /// `PRIOR_RESULT` of `OMG_O19` and `OML_O21`: the one place where a second PID follows an
    /// order.
    #[test]
    fn hl7_24_earlier_results_that_come_with_an_order_are_no_orders() {
        for prior in ["PID|1||6^^^OLD^MR\rORC|PR|P0", "ORC|PR|P0", "PID|1||6^^^OLD^MR"] {
            let rest = format!("PID|1||7\rORC|NW|P1\rOBR|1|P1\r{prior}\rOBR|1|P0\rOBX|1|NM|a||1");
            assert_eq!(placed("OML^O21", &rest), ["Place P1"], "{prior}");
        }
    }

    /// Patients who swap beds, and all events of several PID: as before.
    #[test]
    fn hl7_30_events_about_several_patients_name_several() {
        let two = "PID|1||7^^^H^MR\rPV1|1\rPID|2||8^^^H^MR\rPV1|1";
        let found = of("ADT^A17", two).unwrap();
        let [MessageEffect::Patient { id, .. }] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(id.value, "7");
        assert_eq!(of("ADT^A20", "NPU|1|U").unwrap(), []);
        let merges = "PID|1||7^^^H^MR\rMRG|5^^^H^MR||A1\rPID|2||8^^^H^MR\rMRG|6^^^H^MR||A2";
        for (event, count) in [("A30", 2), ("A34", 2), ("A40", 2), ("A43", 2), ("A44", 2)] {
            assert_eq!(of(&format!("ADT^{event}"), merges).unwrap().len(), count, "{event}");
        }
    }

    #[test]
    fn hl7_43_one_orc_cancels_every_request_under_it() {
        let orm = "PID|1||7\rORC|CA|P1|F1||CA\rOBR|1|P1|F1\rOBR|2|P2|F2\rORC|NW|P3\rOBR|1|P3";
        assert_eq!(placed("ORM^O01", orm), ["Cancel P1", "Cancel P2", "Place P3"]);
    }

    #[test]
    fn hl7_43_an_order_that_is_replaced_is_cancelled_and_the_one_in_its_place_is_placed() {
        for replaced in ["RP", "RQ", "RU"] {
            let orm = format!(
                "PID|1||7\rORC|{replaced}|P1|F1\rOBR|1|P1|F1\rOBR|2|P2|F2\r\
                 ORC|RO|P3|F3\rOBR|1|P3|F3\rORC|XO|P4\rOBR|1|P4"
            );
            let expected = ["Cancel P1", "Cancel P2", "Place P3", "Place P4"];
            assert_eq!(placed("ORM^O01", &orm), expected, "{replaced}");
        }
        check_action("ORC|SC|P1|||RP", "Cancel");
        check_action("ORC|UM|P1", "UpdateStatus");
        check_action("ORC|UC|P1|||IP", "UpdateStatus");
    }

    #[track_caller]
    fn check_action(orc: &str, expected: &str) {
        let found = placed("ORM^O01", &format!("PID|1||7\r{orc}\rOBR|1|P1"));
        assert_eq!(found, [format!("{expected} P1")], "{orc}");
    }

    #[test]
    fn hl7_43_a_status_cancels_and_opens_nothing_again() {
        check_action("ORC|SC|P1|||CA", "Cancel");
        check_action("ORC|XO|P1|||DC", "Cancel");
        check_action("ORC|DC|P1|||IP", "Cancel");
        check_action("ORC|SC|P1|||IP", "UpdateStatus");
        check_action("ORC|SC|P1|||CM", "UpdateStatus");
        check_action("ORC||P1|||SC", "UpdateStatus");
        check_action("ORC|NW|P1|||SC", "Place");
        check_action("ORC|XO|P1|||IP", "Place");
        check_action("ORC||P1", "Place");
    }
}
