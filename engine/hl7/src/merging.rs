//! Reads ADT messages that change patient identity: merges, changes of identifiers, moves and links
//! (HL7 v2.5.1, 3.3 and 3.6; HL7-30 to HL7-32).

use contracts::{Encounter, MergeKind, MessageEffect};

use crate::groups::PatientGroup;
use crate::message::{ErrorCode, Message, Problem, Segment};
use crate::patient::{
    Comparison, Identifier, demographics, identifiers, missing_patient, patient_id, preferred,
};

/// The changes of identity that an ADT event makes. Nothing, if it only describes a patient.
///
/// # Errors
///
/// Fails if something is missing or contradictory.
pub(crate) fn identity_effects(
    message: &Message,
    groups: &[PatientGroup<'_>],
    event: &str,
    comparison: &Comparison<'_>,
) -> Result<Option<Vec<MessageEffect>>, Problem> {
    let effects = match event {
        // A36 merges the account as well.
        "A36" => {
            let mut effects = merges(message, groups, comparison, MergeKind::Merge)?;
            effects.extend(renumbered(message, groups, Encounter::Account)?);
            effects
        }
        "A18" | "A30" | "A34" | "A39" | "A40" => {
            merges(message, groups, comparison, MergeKind::Merge)?
        }
        "A46" | "A47" => merges(message, groups, comparison, MergeKind::Rename)?,
        "A43" => merges(message, groups, comparison, MergeKind::Move)?,
        "A35" | "A41" | "A49" => renumbered(message, groups, Encounter::Account)?,
        "A42" | "A50" => renumbered(message, groups, Encounter::Visit)?,
        "A44" => moved(message, groups, Encounter::Account)?,
        "A45" => moved(message, groups, Encounter::Visit)?,
        "A24" => vec![linked(message, groups, comparison, true)?],
        "A37" => vec![linked(message, groups, comparison, false)?],
        _ => return Ok(None),
    };
    Ok(Some(effects))
}

/// The merges of a message: each PID with the MRG after it.
fn merges(
    message: &Message,
    groups: &[PatientGroup<'_>],
    comparison: &Comparison<'_>,
    kind: MergeKind,
) -> Result<Vec<MessageEffect>, Problem> {
    let mut effects = Vec::new();
    for group in groups {
        for mrg in group.named("MRG") {
            let pid = group.pid.ok_or_else(missing_patient)?;
            effects.extend(merge(message, comparison, kind, pid, mrg)?);
        }
    }
    if effects.is_empty() {
        return Err(Problem::wrong(
            ErrorCode::RequiredFieldMissing,
            "MRG^1",
            "a merge without an MRG segment",
        ));
    }
    Ok(effects)
}

/// The merges of one PID and MRG: identifiers merge only with those of the same type and authority
/// (HL7-31).
fn merge(
    message: &Message,
    comparison: &Comparison<'_>,
    kind: MergeKind,
    pid: &Segment,
    mrg: &Segment,
) -> Result<Vec<MessageEffect>, Problem> {
    let survivors = identifiers(message, pid, 3)?;
    let sources = identifiers(message, mrg, 1)?;
    if survivors.is_empty() {
        return Err(missing_patient());
    }
    if sources.is_empty() {
        return Err(Problem::wrong(
            ErrorCode::RequiredFieldMissing,
            "MRG^1^1",
            "no patient identifier in MRG-1",
        ));
    }
    let mut effects = Vec::new();
    for source in sources {
        // A change of identifier may change its authority (3.3.47); a merge stays within one.
        let is_compatible = |survivor: &&Identifier| {
            survivor.has_type_of(&source)
                && (kind == MergeKind::Rename
                    || comparison.is_same_authority(&survivor.id, &source.id))
        };
        let compatible: Vec<&Identifier> = survivors.iter().filter(is_compatible).collect();
        let of_same_type = compatible.iter().copied().find(|it| {
            !source.identifier_type.is_empty() && it.identifier_type == source.identifier_type
        });
        let Some(survivor) = of_same_type.or_else(|| preferred(compatible)) else {
            let text = "PID-3 and MRG-1 are of different types or authorities";
            return Err(Problem::wrong(ErrorCode::UnknownKeyIdentifier, "MRG^1^1", text));
        };
        effects.push(MessageEffect::Merge {
            kind,
            survivor: survivor.id.clone(),
            source: source.id,
            demographics: demographics(message, pid),
        });
    }
    Ok(effects)
}

/// The numbers of an account or visit in a message; each may be empty.
struct EncounterNumbers {
    /// PID-18 or PV1-19.
    current: String,
    /// MRG-3 or MRG-5.
    prior: String,
}

/// The groups with a PID: each is about one patient.
fn of_patients<'a, 'b>(
    groups: &'b [PatientGroup<'a>],
) -> impl Iterator<Item = &'b PatientGroup<'a>> {
    groups.iter().filter(|it| it.pid.is_some())
}

fn numbers(message: &Message, group: &PatientGroup<'_>, what: Encounter) -> EncounterNumbers {
    let (segment, field, merged) = match what {
        Encounter::Account => ("PID", 18, 3),
        Encounter::Visit => ("PV1", 19, 5),
    };
    let value = |name: &str, field| {
        group.segment(name).map(|it| message.value(it, field, 1)).unwrap_or_default()
    };
    EncounterNumbers { current: value(segment, field), prior: value("MRG", merged) }
}

/// The changes of number of each patient, where the message names both numbers. Without both there
/// is nothing to change: accounts and visits are stored only with orders.
fn renumbered(
    message: &Message,
    groups: &[PatientGroup<'_>],
    what: Encounter,
) -> Result<Vec<MessageEffect>, Problem> {
    let mut effects = Vec::new();
    for group in of_patients(groups) {
        let EncounterNumbers { current: new, prior: old } = numbers(message, group, what);
        let is_change = !new.is_empty() && !old.is_empty() && new != old;
        if is_change {
            let patient = group.patient(message)?.ok_or_else(missing_patient)?;
            effects.push(MessageEffect::RenumberEncounter { patient, what, old, new });
        }
    }
    Ok(effects)
}

/// The accounts or visits that move, one for each patient that they move to.
fn moved(
    message: &Message,
    groups: &[PatientGroup<'_>],
    what: Encounter,
) -> Result<Vec<MessageEffect>, Problem> {
    let effects = of_patients(groups).map(|it| moved_to(message, it, what));
    let effects: Vec<MessageEffect> = effects.collect::<Result<_, _>>()?;
    if effects.is_empty() { Err(missing_patient()) } else { Ok(effects) }
}

fn moved_to(
    message: &Message,
    group: &PatientGroup<'_>,
    what: Encounter,
) -> Result<MessageEffect, Problem> {
    let EncounterNumbers { current, prior } = numbers(message, group, what);
    let number = if prior.is_empty() { current } else { prior };
    if number.is_empty() {
        let text = "no number of the account or visit that is to move";
        return Err(Problem::wrong(ErrorCode::RequiredFieldMissing, "MRG^1", text));
    }
    let target = group.patient(message)?.ok_or_else(missing_patient)?;
    let mrg = group.segment("MRG").map(|it| identifiers(message, it, 1)).transpose()?;
    let source = preferred(mrg.iter().flatten()).map(|it| it.id.clone());
    let source = source.ok_or_else(|| {
        Problem::wrong(ErrorCode::RequiredFieldMissing, "MRG^1^1", "no patient identifier in MRG-1")
    })?;
    Ok(MessageEffect::MoveEncounter { what, number, source, target })
}

/// A link of the patients in the first two PID segments, or its end.
fn linked(
    message: &Message,
    groups: &[PatientGroup<'_>],
    comparison: &Comparison<'_>,
    is_linked: bool,
) -> Result<MessageEffect, Problem> {
    let mut ids = Vec::new();
    for pid in groups.iter().filter_map(|it| it.pid) {
        ids.push(patient_id(message, pid)?.ok_or_else(missing_patient)?);
    }
    match ids.as_slice() {
        [one, other, ..] if !comparison.is_same_patient(one, other) => {
            Ok(MessageEffect::Link { one: one.clone(), other: other.clone(), is_linked })
        }
        _ => Err(Problem::wrong(
            ErrorCode::RequiredFieldMissing,
            "PID^2^3",
            "a link needs two patients",
        )),
    }
}

#[cfg(test)]
mod tests {
    use contracts::PatientAuthorities;
    use domain::PatientId;
    use encoding::hl7::charset::Hl7Charset;

    use super::*;

    /// A site that knows one authority under an OID and a name.
    #[derive(Debug)]
    struct Site;

    impl PatientAuthorities for Site {
        fn authority(&self, _application: &str, _facility: &str, id: &PatientId) -> String {
            if id.issuer == "1.2.3" { "HOSP".to_owned() } else { id.issuer.clone() }
        }
    }

    fn of(event: &str, rest: &str) -> Result<Vec<MessageEffect>, Problem> {
        let text = format!("MSH|^~\\&|ADT|H|ISO|H|20260101||ADT^{event}|M1|P|2.5.1\r{rest}");
        let message = Message::parse(text.as_bytes(), Hl7Charset::Utf8).unwrap();
        crate::mapping::effects(&message, &Site)
    }

    fn id(value: &str) -> PatientId {
        PatientId::new(value, "HOSP").unwrap()
    }

    const BOTH: &str = "PID|1||2^^^HOSP^MR||DOE^JANE|||||||||||||A2\rMRG|1^^^HOSP^MR||A1||V1";

    #[test]
    fn hl7_30_every_kind_of_merge_is_the_same_merge() {
        for (event, expected) in [
            ("A18", MergeKind::Merge),
            ("A34", MergeKind::Merge),
            ("A40", MergeKind::Merge),
            ("A47", MergeKind::Rename),
            ("A43", MergeKind::Move),
        ] {
            let found = of(event, BOTH).unwrap();
            let [MessageEffect::Merge { kind, survivor, source, .. }] = found.as_slice() else {
                panic!("{event}")
            };
            assert_eq!((*kind, survivor, source), (expected, &id("2"), &id("1")), "{event}");
        }
        assert_eq!(of("A36", BOTH).unwrap().len(), 2);
    }

    #[test]
    fn hl7_31_a_merge_across_authorities_or_types_is_refused() {
        for mrg in ["1^^^OTHER^MR", "1^^^HOSP^SS"] {
            let problem = of("A40", &format!("PID|1||2^^^HOSP^MR\rMRG|{mrg}")).unwrap_err();
            assert_eq!((problem.code.number(), problem.is_final), (204, false));
        }
        assert_eq!(of("A40", "PID|1||2^^^HOSP^MR").unwrap_err().code.number(), 101);
        assert!(of("A47", "PID|1||2^^^HOSP^MR\rMRG|1^^^OTHER^MR").is_ok());
    }

    #[test]
    fn hl7_31_an_authority_is_the_same_under_its_oid_and_under_its_name() {
        for (pid, mrg) in [("HOSP", "&1.2.3&ISO"), ("&1.2.3&ISO", "HOSP")] {
            let rest = format!("PID|1||2^^^{pid}^MR\rMRG|1^^^{mrg}^MR");
            for event in ["A40", "A43", "A34"] {
                assert_eq!(of(event, &rest).unwrap().len(), 1, "{event} {pid}");
            }
        }
        let other = "PID|1||2^^^HOSP^MR\rMRG|1^^^&1.2.4&ISO^MR";
        assert_eq!(of("A40", other).unwrap_err().code.number(), 204);
        // Two names of one patient are no two patients.
        let same = "PID|1||1^^^HOSP^MR\rPID|2||1^^^&1.2.3&ISO^MR";
        assert_eq!(of("A24", same).unwrap_err().code.number(), 101);
        assert_eq!(of("A08", same).map(|it| it.len()), Ok(2));
    }

    #[test]
    fn hl7_32_accounts_and_visits_move_and_change_their_number() {
        let moved = of("A44", BOTH).unwrap();
        let expected = MessageEffect::MoveEncounter {
            what: Encounter::Account,
            number: "A1".to_owned(),
            source: id("1"),
            target: id("2"),
        };
        assert_eq!(moved, [expected]);
        let (old, new) = ("A1".to_owned(), "A2".to_owned());
        let what = Encounter::Account;
        let renumbered = MessageEffect::RenumberEncounter { patient: id("2"), what, old, new };
        assert_eq!(of("A41", BOTH).unwrap(), [renumbered]);
        let nobody = BOTH.replace("2^^^HOSP^MR", "");
        assert_eq!(of("A41", &nobody).unwrap_err().code.number(), 101);
        assert_eq!(of("A42", BOTH).unwrap(), []);
        assert_eq!(
            of("A45", "PID|1||2^^^HOSP^MR\rMRG|1^^^HOSP^MR").unwrap_err().code.number(),
            101
        );
    }

    #[test]
    fn hl7_32_every_patient_of_a_message_is_moved_or_renumbered() {
        let second = BOTH.replace("2^^^HOSP", "4^^^HOSP").replace("1^^^HOSP", "3^^^HOSP");
        let both = format!("{BOTH}\r{}", second.replace("PID|1", "PID|2"));
        let patients = |event: &str| -> Vec<PatientId> {
            let patient = |effect| match effect {
                MessageEffect::MoveEncounter { target, .. } => target,
                MessageEffect::RenumberEncounter { patient, .. } => patient,
                other => panic!("{other:?}"),
            };
            of(event, &both).unwrap().into_iter().map(patient).collect()
        };
        assert_eq!(patients("A44"), [id("2"), id("4")]);
        assert_eq!(patients("A41"), [id("2"), id("4")]);
        // What is wrong with one of them is said, and none moves.
        let wrong = both.replace("MRG|3^^^HOSP^MR", "MRG|");
        assert_eq!(of("A44", &wrong).unwrap_err().location, "MRG^1^1");
        assert_eq!(of("A44", "MRG|1^^^HOSP^MR||A1").unwrap_err().code.number(), 101);
    }

    /// Under another identifier than the one that images and orders come with, it would be another
    /// patient.
    #[test]
    fn hl7_31_of_several_identifiers_the_one_the_patient_is_known_by_counts() {
        let survivor = |pid: &str, mrg: &str| {
            let found = of("A40", &format!("PID|1||{pid}\rMRG|{mrg}")).unwrap();
            let [MessageEffect::Merge { survivor, .. }] = found.as_slice() else { panic!() };
            survivor.value.clone()
        };
        let several = "9^^^HOSP^PI~2^^^HOSP^MR~8^^^HOSP";
        assert_eq!(survivor(several, "1^^^HOSP"), "2");
        assert_eq!(survivor(several, "1^^^HOSP^MR"), "2");
        assert_eq!(survivor(several, "1^^^HOSP^PI"), "9");
        assert_eq!(survivor("9^^^HOSP^PI~8^^^HOSP", "1^^^HOSP"), "9");
        let moved = of("A44", "PID|1||2^^^HOSP^MR\rMRG|9^^^HOSP^PI~1^^^HOSP^MR||A1").unwrap();
        let [MessageEffect::MoveEncounter { source, .. }] = moved.as_slice() else { panic!() };
        assert_eq!(source, &id("1"));
    }

    #[test]
    fn links_name_two_patients() {
        let two = "PID|1||1^^^HOSP^MR\rPID|2||2^^^HOSP^MR";
        let link = |is_linked| MessageEffect::Link { one: id("1"), other: id("2"), is_linked };
        assert_eq!(of("A24", two).unwrap(), [link(true)]);
        assert_eq!(of("A37", two).unwrap(), [link(false)]);
        assert_eq!(of("A24", "PID|1||1^^^HOSP^MR").unwrap_err().code.number(), 101);
    }
}
