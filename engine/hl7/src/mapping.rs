//! What messages mean (HL7-30..31, HL7-40..43, and the table of `standards.md` §2.4). Pure.

use contracts::MessageEffect;
use domain::{
    Demographics, ExchangedDocument, Observation, Order, OrderAction, OrderKey, PatientId,
};

use crate::message::{Message, Problem, Repetition, Segment};

/// What ORC-1 says when an order is taken back (table 0119).
const CANCELLING: &[&str] = &["CA", "OC", "DC", "CR", "OD", "DR"];

/// What `message` asks to change.
///
/// # Errors
///
/// Says what is missing or contradicts itself. Nothing may be changed.
pub fn effects(message: &Message) -> Result<Vec<MessageEffect>, Problem> {
    let mut effects = match (message.msh(9, 1).as_str(), message.msh(9, 2).as_str()) {
        ("ADT", "A40") => return merges(message),
        ("ADT", _) => Vec::new(),
        ("ORM", "O01") | ("OMI", "O23") => orders(message)?,
        ("ORU", "R01") => vec![document(message)],
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

fn missing_patient() -> Problem {
    Problem::wrong(101, "PID^1^3", "no patient identifier in PID-3")
}

/// An identifier with its type, PID-3 or MRG-1.
struct Identifier {
    id: PatientId,
    kind: String,
}

fn identifiers(
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
fn patient_id(message: &Message, segment: &Segment) -> Result<Option<PatientId>, Problem> {
    let mut found = identifiers(message, segment, 3)?;
    if found.is_empty() {
        found = identifiers(message, segment, 2)?;
    }
    let index = found.iter().position(|it| it.kind == "MR").unwrap_or_default();
    Ok(found.into_iter().nth(index).map(|it| it.id))
}

fn demographics(message: &Message, segment: &Segment) -> Demographics {
    let name = message.repetitions(segment, 5).next();
    let parts = |it: Repetition<'_>| [1, 2, 3, 5, 4].map(|number| it.component(number)).join("^");
    let name = name.map(parts).unwrap_or_default();
    let name = name.trim_end_matches('^');
    let birth_date: String = message.value(segment, 7, 1).chars().take(8).collect();
    let is_date = birth_date.len() == 8 && birth_date.bytes().all(|it| it.is_ascii_digit());
    let sex = match message.value(segment, 8, 1).as_str() {
        "M" => "M",
        "F" => "F",
        "" | "U" => "",
        _ => "O",
    };
    Demographics {
        name: if name.contains('\u{fffd}') { String::new() } else { name.to_owned() },
        birth_date: if is_date { birth_date } else { String::new() },
        sex: sex.to_owned(),
    }
}

/// Each PID with the MRG after it (ADT^A40).
fn merges(message: &Message) -> Result<Vec<MessageEffect>, Problem> {
    let mut effects = Vec::new();
    let mut survivor: Option<&Segment> = None;
    for segment in message.segments() {
        match segment.name.as_str() {
            "PID" => survivor = Some(segment),
            "MRG" => {
                let pid = survivor.ok_or_else(missing_patient)?;
                effects.extend(merge(message, pid, segment)?);
            }
            _ => {}
        }
    }
    if effects.is_empty() {
        return Err(Problem::wrong(101, "MRG^1", "a merge without an MRG segment"));
    }
    Ok(effects)
}

/// Identifiers merge with those of the same type and authority only (HL7-31).
fn merge(message: &Message, pid: &Segment, mrg: &Segment) -> Result<Vec<MessageEffect>, Problem> {
    let survivors = identifiers(message, pid, 3)?;
    let sources = identifiers(message, mrg, 1)?;
    if survivors.is_empty() {
        return Err(missing_patient());
    }
    if sources.is_empty() {
        return Err(Problem::wrong(101, "MRG^1^1", "no patient identifier in MRG-1"));
    }
    let mut effects = Vec::new();
    for source in sources {
        let is_alike = |it: &&Identifier| {
            it.id.issuer == source.id.issuer
                && (it.kind == source.kind || it.kind.is_empty() || source.kind.is_empty())
        };
        let Some(survivor) = survivors.iter().find(is_alike) else {
            let text = "PID-3 and MRG-1 are of different types or authorities";
            return Err(Problem::wrong(204, "MRG^1^1", text));
        };
        effects.push(MessageEffect::Merge {
            survivor: survivor.id.clone(),
            source: source.id,
            demographics: demographics(message, pid),
        });
    }
    Ok(effects)
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
    let order = |group: Vec<&Segment>| order(message, &group, patient.clone());
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
    }
}

fn document(message: &Message) -> MessageEffect {
    let pid = message.segment("PID");
    let patient = pid.and_then(|it| patient_id(message, it).ok().flatten());
    let observations =
        message.segments().iter().filter(|it| it.name == "OBX").map(|it| observation(message, it));
    let message_type = format!("{}^{}", message.msh(9, 1), message.msh(9, 2));
    let document = ExchangedDocument { message_type, observations: observations.collect() };
    let request = message.segment("OBR");
    let accession = request.map(|it| message.value(it, 18, 1)).unwrap_or_default();
    MessageEffect::Document { patient, document, accession }
}

fn observation(message: &Message, obx: &Segment) -> Observation {
    let either = |field, first, second| {
        let value = message.value(obx, field, first);
        if value.is_empty() { message.value(obx, field, second) } else { value }
    };
    let value_type = message.value(obx, 2, 1);
    Observation {
        code: either(3, 1, 4),
        name: either(3, 2, 5),
        scheme: either(3, 3, 6),
        value: observed(message, obx, &value_type),
        unit: either(6, 1, 2),
        reference: message.text(obx, 7).trim().to_owned(),
        flag: message.value(obx, 8, 1),
        status: message.value(obx, 11, 1),
        value_type,
    }
}

/// OBX-5 as text, by its type (HL7-60).
fn observed(message: &Message, obx: &Segment, value_type: &str) -> String {
    match value_type {
        // Comparator, first number, separator, second number (2.A.70).
        "SN" => (1..=4).map(|number| message.value(obx, 5, number)).collect(),
        "CE" | "CWE" | "CNE" | "CF" => {
            let text = message.value(obx, 5, 2);
            if text.is_empty() { message.value(obx, 5, 1) } else { text }
        }
        // Documents travel beside the table, not in it.
        "ED" | "RP" => String::new(),
        _ => message.text(obx, 5).trim().to_owned(),
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

    fn id(value: &str) -> PatientId {
        PatientId::new(value, "HOSP").unwrap()
    }

    #[test]
    fn hl7_30_a_merge_names_survivor_and_source() {
        let found = of("ADT^A40", "PID|1||2^^^HOSP^MR||DOE^JANE\rMRG|1^^^HOSP^MR").unwrap();
        let [MessageEffect::Merge { survivor, source, .. }] = found.as_slice() else { panic!() };
        assert_eq!((survivor, source), (&id("2"), &id("1")));
    }

    #[test]
    fn hl7_31_a_merge_across_authorities_or_types_is_refused() {
        for mrg in ["1^^^OTHER^MR", "1^^^HOSP^SS"] {
            let problem = of("ADT^A40", &format!("PID|1||2^^^HOSP^MR\rMRG|{mrg}")).unwrap_err();
            assert_eq!((problem.code, problem.is_final), (204, false));
        }
        assert_eq!(of("ADT^A40", "PID|1||2^^^HOSP^MR").unwrap_err().code, 101);
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
