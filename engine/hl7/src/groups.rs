//! The groups of a message: the patient that a segment is about, and the order (HL7-24).
//!
//! A message is a list of segments; what belongs together follows from their order. The structures
//! of the standard differ in what may repeat, and agree in how a group begins: that of a patient
//! with PID (`PATIENT_RESULT` of `ORU_R01`, `PATIENT` of `ORM_O01` and `ADT_A39`), that of an order with
//! ORC, or with OBR where the order has no ORC. Whatever reads patients, orders or results takes its
//! segments from here, so that nothing of one patient is taken for that of another.

use domain::PatientId;

use crate::message::{ErrorCode, Message, Problem, Segment};
use crate::patient::{Comparison, patient_id};

/// Segments that are always about a patient: before any PID they are about one who is not named.
const ABOUT_A_PATIENT: &[&str] = &["ORC", "OBR", "OBX", "MRG"];

/// The ORC-1 of results that are older than the order they come with (table 0119).
const PRIOR_RESULTS: &str = "PR";

/// The segments about one patient.
#[derive(Default)]
pub(crate) struct PatientGroup<'a> {
    /// PID; nothing for what comes before any.
    pub(crate) pid: Option<&'a Segment>,
    /// Its place among the PID of the message, from 1; 0 for what comes before any.
    number: usize,
    /// All segments, PID included. With the first patient are MSH and what else begins a message.
    pub(crate) segments: Vec<&'a Segment>,
}

/// The segments of one order.
pub(crate) struct OrderGroup<'a> {
    /// The ORC that says what is to be done: its own, or that of the order before it. Senders write
    /// one ORC before several OBR, and mean all of them.
    pub(crate) control: Option<&'a Segment>,
    /// Its own segments, from ORC or OBR to the next.
    segments: Vec<&'a Segment>,
}

/// The groups of the patients of a message, in order: at least one for a message with segments.
pub(crate) fn patients(message: &Message) -> Vec<PatientGroup<'_>> {
    let mut groups: Vec<PatientGroup<'_>> = Vec::new();
    let mut number = 0;
    for segment in message.segments() {
        let is_patient = segment.name == "PID";
        number += usize::from(is_patient);
        match groups.last_mut() {
            Some(group) if !is_patient || group.is_before_patient() => group.add(segment, number),
            _ => {
                let mut group = PatientGroup::default();
                group.add(segment, number);
                groups.push(group);
            }
        }
    }
    groups
}

/// The patient of a message that may be about one only. Nothing, if it names none.
///
/// # Errors
///
/// Fails if another group is about another patient, or may be: what it holds would be filed under
/// the first.
pub(crate) fn only_patient(
    message: &Message,
    groups: &[PatientGroup<'_>],
    comparison: &Comparison<'_>,
) -> Result<Option<PatientId>, Problem> {
    let Some((first, others)) = groups.split_first() else { return Ok(None) };
    let patient = first.patient(message)?;
    for group in others {
        let other = group.patient(message)?;
        let both = other.as_ref().zip(patient.as_ref());
        if !both.is_some_and(|(one, other)| comparison.is_same_patient(one, other)) {
            return Err(group.is_of_another_patient());
        }
    }
    Ok(patient)
}

impl<'a> PatientGroup<'a> {
    fn add(&mut self, segment: &'a Segment, number: usize) {
        if segment.name == "PID" {
            self.pid = Some(segment);
            self.number = number;
        }
        self.segments.push(segment);
    }

    /// Whether these are segments that begin a message, of which the next PID says the patient.
    fn is_before_patient(&self) -> bool {
        self.pid.is_none()
            && !self.segments.iter().any(|it| ABOUT_A_PATIENT.contains(&it.name.as_str()))
    }

    /// The first segment of this name.
    pub(crate) fn segment(&self, name: &str) -> Option<&'a Segment> {
        self.named(name).next()
    }

    /// The segments of this name, in order.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = &'a Segment> {
        self.segments.iter().copied().filter(move |it| it.name == name)
    }

    /// The patient that PID names.
    pub(crate) fn patient(&self, message: &Message) -> Result<Option<PatientId>, Problem> {
        Ok(self.pid.map(|it| patient_id(message, it)).transpose()?.flatten())
    }

    fn is_of_another_patient(&self) -> Problem {
        let text = format!(
            "PID {} does not name the patient of what comes before it: a message may be about one",
            self.number
        );
        let location = format!("PID^{}^3", self.number);
        Problem::wrong(ErrorCode::ApplicationInternalError, location, text)
    }

    /// The orders, in order (`ORM_O01`, `OMG_O19`, `OML_O21`, `OMI_O23`).
    pub(crate) fn orders(&self) -> Vec<OrderGroup<'a>> {
        let mut orders: Vec<OrderGroup<'a>> = Vec::new();
        for segment in &self.segments {
            match segment.name.as_str() {
                "ORC" => {
                    orders.push(OrderGroup { control: Some(segment), segments: vec![segment] });
                }
                "OBR" if orders.last().is_none_or(OrderGroup::has_request) => {
                    let control = orders.last().and_then(|it| it.control);
                    orders.push(OrderGroup { control, segments: vec![segment] });
                }
                _ => {
                    if let Some(order) = orders.last_mut() {
                        order.segments.push(segment);
                    }
                }
            }
        }
        orders
    }

    /// Whether these are results that are older than the orders of the message (`PRIOR_RESULT` of
    /// `OMG_O19` and `OML_O21`): only there a second PID may follow an order, and ORC may be missing.
    pub(crate) fn is_prior_result(&self, message: &Message) -> bool {
        let orders = self.orders();
        self.number > 1
            && matches!(message.msh(9, 1).as_str(), "OMG" | "OML")
            && !orders.is_empty()
            && orders.iter().all(|it| it.control.is_none() || it.is_prior_result(message))
    }
}

impl<'a> OrderGroup<'a> {
    fn has_request(&self) -> bool {
        self.segment("OBR").is_some()
    }

    /// The first of its own segments of this name.
    pub(crate) fn segment(&self, name: &str) -> Option<&'a Segment> {
        self.segments.iter().copied().find(|it| it.name == name)
    }

    /// A component of the ORC that says what is to be done.
    pub(crate) fn control(&self, message: &Message, field: usize) -> String {
        self.control.map(|it| message.value(it, field, 1)).unwrap_or_default()
    }

    /// Whether it is no order: results that are older than the order they come with.
    pub(crate) fn is_prior_result(&self, message: &Message) -> bool {
        self.control(message, 1) == PRIOR_RESULTS
    }
}

#[cfg(test)]
mod tests {
    use contracts::AuthoritiesAsWritten;
    use encoding::hl7::charset::Hl7Charset;

    use super::*;

    fn parsed(kind: &str, rest: &str) -> Message {
        let text = format!("MSH|^~\\&|LAB|H|ISO|H|20260101||{kind}|M1|P|2.5.1\r{rest}");
        Message::parse(text.as_bytes(), Hl7Charset::Utf8).unwrap()
    }

    fn names(segments: &[&Segment]) -> String {
        segments.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn hl7_24_each_pid_begins_the_group_of_its_patient() {
        let rest = "PID|1||7\rPV1|1\rORC|RE\rOBR|1\rOBX|1\rNTE|1\rSPM|1\rOBR|2\rOBX|1\r\
            PID|2||8\rOBR|1\rOBX|1";
        let message = parsed("ORU^R01", rest);
        let groups: Vec<String> = patients(&message).iter().map(|it| names(&it.segments)).collect();
        let expected =
            ["MSH PID PV1 ORC OBR OBX NTE SPM OBR OBX".to_owned(), "PID OBR OBX".to_owned()];
        assert_eq!(groups, expected);
    }

    #[test]
    fn hl7_24_what_comes_before_any_pid_is_of_nobody_unless_it_begins_the_message() {
        let split = |rest: &str| {
            let message = parsed("ORU^R01", rest);
            let groups = patients(&message);
            groups.iter().map(|it| (it.number, names(&it.segments))).collect::<Vec<_>>()
        };
        assert_eq!(split("NTE|1\rPV1|1\rPID|1||7"), [(1, "MSH NTE PV1 PID".to_owned())]);
        let expected = [(0, "MSH OBR OBX".to_owned()), (1, "PID OBR".to_owned())];
        assert_eq!(split("OBR|1\rOBX|1\rPID|1||7\rOBR|1"), expected);
    }

    #[track_caller]
    fn check_patient(rest: &str, expected: Result<Option<&str>, &str>) {
        let message = parsed("ORU^R01", rest);
        let comparison = Comparison::of(&message, &AuthoritiesAsWritten);
        let found = only_patient(&message, &patients(&message), &comparison);
        let found = found.as_ref().map(|it| it.as_ref().map(|it| it.value.as_str()));
        let expected = expected.map_err(str::to_owned);
        assert_eq!(found.map_err(|it| it.location.to_string()), expected, "{rest}");
    }

    #[test]
    fn hl7_24_a_message_about_one_patient_may_say_so_again() {
        check_patient("OBR|1", Ok(None));
        check_patient("PID|1||7^^^H^MR\rOBR|1", Ok(Some("7")));
        check_patient("PID|1||7^^^H^MR\rOBR|1\rPID|2||9^^^H^PI~7^^^H^MR\rOBR|2", Ok(Some("7")));
        check_patient("PID|1||7^^^H^MR\rOBR|1\rPID|2||8^^^H^MR\rOBR|2", Err("PID^2^3"));
        check_patient("PID|1||7^^^H^MR\rOBR|1\rPID|2||7^^^X^MR\rOBR|2", Err("PID^2^3"));
        check_patient("PID|1||7\rPID|2||7\rPID|3||8\rOBR|1", Err("PID^3^3"));
        check_patient("PID|1||7\rOBR|1\rPID|2\rOBR|2", Err("PID^2^3"));
        check_patient("PID|1\rOBR|1\rPID|2\rOBR|2", Err("PID^2^3"));
        check_patient("OBR|1\rOBX|1\rPID|1||7\rOBR|1", Err("PID^1^3"));
    }

    #[test]
    fn hl7_43_obr_without_an_orc_stand_under_the_one_before_them() {
        let rest = "PID|1||7\rORC|CA|P1\rOBR|1\rZDS|1\rOBR|2\rORC|NW|P3\rOBR|3";
        let message = parsed("ORM^O01", rest);
        let groups = patients(&message);
        let orders = groups[0].orders();
        let found: Vec<String> = orders
            .iter()
            .map(|it| format!("{}: {}", it.control(&message, 1), names(&it.segments)))
            .collect();
        assert_eq!(found, ["CA: ORC OBR ZDS", "CA: OBR", "NW: ORC OBR"]);
    }
}
