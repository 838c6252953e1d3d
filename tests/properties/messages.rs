//! Generated messages, as they are parsed and understood.

use contracts::MessageEffect;
use domain::{ExchangedDocument, Observation, Order, OrderAction, PatientId};
use encoding::hl7::charset::Hl7Charset;
use fastrand::Rng;
use hl7::receiver::judge;
use hl7::{Message, Problem, Rules};
use proptest::prelude::*;
use system_tests::generators::hl7::{Header, HeaderFault, Orders, Person, Results};

/// What a message means, or why it is refused.
fn understood(text: &str) -> Result<Vec<MessageEffect>, Problem> {
    judge(text.as_bytes(), &Rules::default())?.effects
}

fn is_of(id: &PatientId, person: &Person) -> bool {
    id.value == person.identifier && id.issuer == person.authority.text()
}

/// The patients that effects are about.
fn patients(effects: &[MessageEffect]) -> Vec<PatientId> {
    let patient = |effect: &MessageEffect| match effect {
        MessageEffect::Patient { id, .. } => Some(id.clone()),
        MessageEffect::Order(order) => order.patient.clone(),
        MessageEffect::Document { patient, .. } => patient.clone(),
        _ => None,
    };
    effects.iter().filter_map(patient).collect()
}

fn document(effects: &[MessageEffect]) -> &ExchangedDocument {
    let document = effects.iter().find_map(|it| match it {
        MessageEffect::Document { document, .. } => Some(document),
        _ => None,
    });
    document.unwrap_or_else(|| panic!("no document"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// HL7-24, DIN-60: results of several patients in one message are refused, and the PID that is
    /// named is the first that differs. Everything else is of the patient of its PID.
    #[test]
    fn hl7_24_no_two_patients_meet_in_a_message(seed in any::<u64>()) {
        let results = Results::any(&mut Rng::with_seed(seed), "M1");
        match (understood(&results.written()), results.first_other()) {
            (Ok(effects), None) => {
                let person = &results.groups[0].person;
                let patients = patients(&effects);
                prop_assert!(!patients.is_empty());
                prop_assert!(patients.iter().all(|it| is_of(it, person)), "{}", results.written());
            }
            (Err(problem), Some(number)) => {
                prop_assert_eq!(problem.code.number(), 207);
                prop_assert_eq!(problem.location, format!("PID^{number}^3"));
            }
            (Ok(_), Some(number)) => prop_assert!(false, "PID {number} of another patient"),
            (Err(problem), None) => prop_assert!(false, "refused: {problem}"),
        }
    }

    /// HL7-22, HL7-60: every value, unit and status arrives as it was sent, whatever delimiters are
    /// in it, and what is no result by its status is none.
    #[test]
    fn hl7_60_no_value_is_changed(seed in any::<u64>()) {
        let results = Results::any(&mut Rng::with_seed(seed), "M1");
        if !results.is_of_one() {
            return Ok(());
        }
        let effects = understood(&results.written()).unwrap();
        let document = document(&effects);
        let seen = |it: &Observation| {
            let no_result = it.no_result().is_some();
            (it.name.clone(), it.value.clone(), it.unit.clone(), it.status.clone(), !no_result)
        };
        let seen: Vec<_> = document.observations.iter().map(seen).collect();
        let sent: Vec<_> = results
            .rows()
            .into_iter()
            .map(|it| {
                let texts = [it.unit, it.status].map(str::to_owned);
                let [unit, status] = texts;
                (it.name.clone(), it.value.clone(), unit, status, it.is_result())
            })
            .collect();
        prop_assert_eq!(seen, sent);
    }

    /// HL7-43: what ORC-1 or ORC-5 cancels is cancelled with every OBR under it, and nothing else.
    #[test]
    fn hl7_43_exactly_what_is_cancelled_is_cancelled(seed in any::<u64>()) {
        let orders = Orders::any(&mut Rng::with_seed(seed), "M1");
        let effects = understood(orders.written()).unwrap();
        let found: Vec<&Order> = effects
            .iter()
            .filter_map(|it| match it {
                MessageEffect::Order(order) => Some(order.as_ref()),
                _ => None,
            })
            .collect();
        prop_assert_eq!(found.len(), orders.orders.len());
        for (order, sent) in found.into_iter().zip(&orders.orders) {
            prop_assert_eq!(order.action == OrderAction::Cancel, sent.is_cancelled);
            prop_assert_eq!(&order.key.accession, &sent.accession);
            prop_assert!(order.patient.as_ref().is_some_and(|it| is_of(it, &orders.person)));
        }
    }

    /// HL7-10: each fault of a header is refused with its own code, and the text names the field.
    #[test]
    fn hl7_10_each_refusal_gives_the_true_reason(
        seed in any::<u64>(),
        fault in prop::sample::select(HeaderFault::ALL.as_slice()),
    ) {
        let results = Results::any(&mut Rng::with_seed(seed), "M1");
        if !results.is_of_one() {
            return Ok(());
        }
        let sound = results.written();
        let (_, body) = sound.split_once('\r').unwrap();
        let header = Header::of("ORU^R01", "M1").with_fault(fault);
        let problem = understood(&(header.written() + body)).err();
        prop_assert_eq!(problem.as_ref().map(|it| it.code.number()), fault.code());
        let text = problem.map(|it| it.text).unwrap_or_default();
        prop_assert!(text.contains(fault.field()), "{text}");
        // Nothing that is told may show a patient.
        let person = &results.groups[0].person;
        prop_assert!(!text.contains(person.name));
    }

    /// HL7-20: wherever a message is cut, it is understood or refused, and never taken for another
    /// patient's.
    #[test]
    fn hl7_20_a_message_that_is_cut_is_of_nobody_else(seed in any::<u64>(), at in 0.0..1.0_f64) {
        let results = Results::any(&mut Rng::with_seed(seed), "M1");
        let text = results.written();
        let length = (text.len() as f64 * at) as usize;
        let Ok(judged) = judge(&text.as_bytes()[..length], &Rules::default()) else {
            return Ok(());
        };
        let Ok(effects) = judged.effects else { return Ok(()) };
        for id in patients(&effects) {
            let is_known = results.groups.iter().any(|it| is_of(&id, &it.person));
            // Cut inside PID-3, an identifier may be shorter than it was, or without its authority.
            let is_cut = results.groups.iter().any(|it| it.person.identifier.starts_with(&id.value));
            prop_assert!(is_known || is_cut);
        }
    }
}

/// What the generator states is what is written: the properties would be of something else.
#[test]
fn generated_messages_are_of_every_kind() {
    let mut random = Rng::with_seed(1);
    let all: Vec<Results> =
        (0..500).map(|number| Results::any(&mut random, &format!("M{number}"))).collect();
    let mixed = all.iter().filter(|it| !it.is_of_one()).count();
    assert!((50..250).contains(&mixed), "{mixed}");
    assert!(all.iter().any(|it| it.rows().iter().any(|row| !row.is_result())));
    for results in &all {
        let message = Message::parse(results.written().as_bytes(), Hl7Charset::Utf8).unwrap();
        assert_eq!(message.msh(10, 1), results.control_id);
    }
}
