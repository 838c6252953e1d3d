//! The requirements on association negotiation, DIN-01 to DIN-13.

use std::sync::Arc;

use contracts::Live;
use domain::Network;
use proptest::prelude::*;

use super::*;
use crate::config::{Peer, Timers};
use crate::sop_class;
use crate::transfer_syntax::{EXPLICIT_LITTLE_ENDIAN, LOSSLESS};

fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        ae_title: "ISOCENTER".parse().unwrap(),
        peers: Arc::new(Live::new(vec![Peer {
            ae_title: Some("CT1".parse().unwrap()),
            networks: Network::loopback(),
            associations_max: Some(2),
        }])),
        associations_max: 10,
        associations_per_peer_max: 4,
        pdu_bytes_max: 131_072,
        accept_unknown_storage: false,
        association_bytes_max: 8 << 20,
        timers: Timers::default(),
    }
}

fn request(called: &str, calling: &str, contexts: &[(u8, &str, &[&str])]) -> AssociationRQ {
    AssociationRQ {
        protocol_version: 1,
        calling_ae_title: calling.to_owned(),
        called_ae_title: called.to_owned(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: contexts
            .iter()
            .map(|(id, class, syntaxes)| PresentationContextProposed {
                id: *id,
                abstract_syntax: (*class).to_owned(),
                transfer_syntaxes: syntaxes.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        user_variables: vec![UserVariableItem::MaxLength(16_384)],
    }
}

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const ECHO: &[(u8, &str, &[&str])] = &[(1, sop_class::VERIFICATION, &[IMPLICIT_LITTLE_ENDIAN])];

fn bytes(request: AssociationRQ) -> Vec<u8> {
    let mut bytes = Vec::new();
    dicom_ul::pdu::write_pdu(&mut bytes, &Pdu::AssociationRQ(request)).unwrap();
    bytes
}

fn ask(request: AssociationRQ, load: Load) -> Answer {
    answer(&config(), load, "127.0.0.1".parse().unwrap(), &bytes(request))
}

/// Result, source and reason of a rejection, as on the wire.
fn rejection(answer: &Answer) -> Option<[u8; 3]> {
    let Answer::Reject(rejection) = answer else { return None };
    let mut bytes = Vec::new();
    dicom_ul::pdu::write_pdu(&mut bytes, &rejection.pdu()).unwrap();
    Some([bytes[7], bytes[8], bytes[9]])
}

#[test]
fn din_13_every_refusal_has_its_reason() {
    let free = Load::default();
    let good = || request("ISOCENTER", "CT1", ECHO);
    let version = AssociationRQ { protocol_version: 2, ..good() };
    let context = AssociationRQ { application_context_name: "1.2.3".to_owned(), ..good() };
    assert_eq!(rejection(&ask(version, free)), Some([1, 2, 2]));
    assert_eq!(rejection(&ask(context, free)), Some([1, 1, 2]));
    assert_eq!(rejection(&ask(request("OTHER", "CT1", ECHO), free)), Some([1, 1, 7]));
    assert_eq!(rejection(&ask(request("isocenter", "CT1", ECHO), free)), Some([1, 1, 7]));
    assert_eq!(rejection(&ask(request("ISOCENTER", "CT2", ECHO), free)), Some([1, 1, 3]));
    // DIN-01: sixteen spaces are no name. The library would not write them.
    let mut blank = bytes(good());
    blank[26..42].fill(b' ');
    let blank = answer(&config(), free, "127.0.0.1".parse().unwrap(), &blank);
    assert_eq!(rejection(&blank), Some([1, 1, 3]));
    let elsewhere = answer(&config(), free, "10.0.0.9".parse().unwrap(), &bytes(good()));
    assert_eq!(rejection(&elsewhere), Some([1, 1, 3]));
    assert_eq!(rejection(&ask(good(), Load { associations: 10, ..free })), Some([2, 3, 2]));
    assert_eq!(rejection(&ask(good(), Load { of_address: 4, ..free })), Some([2, 3, 2]));
    assert_eq!(rejection(&ask(good(), Load { of_ae_title: 2, ..free })), Some([2, 3, 2]));
    let storing = || request("ISOCENTER", "CT1", &[(1, CT, &[IMPLICIT_LITTLE_ENDIAN])]);
    let congested = Load { is_congested: true, ..free };
    assert_eq!(rejection(&ask(storing(), congested)), Some([2, 3, 1]));
    assert!(
        matches!(ask(good(), congested), Answer::Accept(..)),
        "C-ECHO is answered all the same"
    );
    assert!(matches!(ask(good(), free), Answer::Accept(..)));
}

#[test]
fn din_04_every_context_is_answered_and_bad_ids_end_the_association() {
    let private = "1.2.840.113619.4.30";
    let contexts: &[(u8, &str, &[&str])] = &[
        (1, CT, &[IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN]),
        (3, private, &[IMPLICIT_LITTLE_ENDIAN]),
        (5, CT, &["1.2.3.4"]),
        (255, CT, &["1.2.840.10008.1.2.4.50"]),
    ];
    let Answer::Accept(negotiated, pdu) =
        ask(request("ISOCENTER", "CT1", contexts), Load::default())
    else {
        panic!("not accepted")
    };
    let Pdu::AssociationAC(pdu) = *pdu else { panic!("{pdu:?}") };
    let reasons: Vec<u8> =
        pdu.presentation_contexts.iter().map(|it| it.reason.clone() as u8).collect();
    assert_eq!(reasons, [0, 3, 4, 0]);
    assert_eq!(negotiated.contexts.len(), 2);
    assert_eq!(negotiated.contexts[0].transfer_syntax, EXPLICIT_LITTLE_ENDIAN);
    assert_eq!(negotiated.send_bytes_max, 16_384);

    let even: &[(u8, &str, &[&str])] = &[(2, CT, &[IMPLICIT_LITTLE_ENDIAN])];
    let twice: &[(u8, &str, &[&str])] =
        &[(1, CT, &[IMPLICIT_LITTLE_ENDIAN]), (1, CT, &[EXPLICIT_LITTLE_ENDIAN])];
    for contexts in [even, twice] {
        let answer = ask(request("ISOCENTER", "CT1", contexts), Load::default());
        assert!(matches!(answer, Answer::Abort(..)));
    }
}

#[test]
fn din_06_an_association_without_a_usable_context_is_accepted_to_say_so() {
    let contexts: &[(u8, &str, &[&str])] = &[(1, "1.2.3", &[IMPLICIT_LITTLE_ENDIAN])];
    let answer = ask(request("ISOCENTER", "CT1", contexts), Load::default());
    assert!(matches!(answer, Answer::Accept(negotiated, _) if negotiated.contexts.is_empty()));
}

#[test]
fn din_05_lossless_goes_before_plain_and_plain_before_lossy() {
    let choice = |proposed: &[&str]| {
        let proposed: Vec<String> = proposed.iter().map(ToString::to_string).collect();
        TransferSyntaxChoice::LosslessFirst.choose(&proposed).map(ToOwned::to_owned)
    };
    let (lossless, lossy) = ("1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.50");
    assert_eq!(choice(&[IMPLICIT_LITTLE_ENDIAN, lossless]).as_deref(), Some(lossless));
    assert_eq!(choice(&[lossy, IMPLICIT_LITTLE_ENDIAN]).as_deref(), Some(IMPLICIT_LITTLE_ENDIAN));
    assert_eq!(choice(&[lossy]).as_deref(), Some(lossy));
    assert_eq!(choice(&["1.2.840.113619.5.2"]), None);
}

proptest! {
    #[test]
    fn sec_21_no_bytes_upset_the_door(mut noise in prop::collection::vec(any::<u8>(), 0..400), at in 0_usize..200) {
        let mut asked = bytes(request("ISOCENTER", "CT1", ECHO));
        let config = config();
        let address = "127.0.0.1".parse().unwrap();
        answer(&config, Load::default(), address, &noise);
        let at = at.min(asked.len() - 1);
        noise.truncate(asked.len() - at);
        asked.splice(at..at + noise.len(), noise);
        answer(&config, Load::default(), address, &asked);
    }
}

/// Every SOP class of the conformance statement is accepted, in every transfer syntax it names.
#[test]
fn din_04_what_the_conformance_statement_names_is_accepted() {
    let syntaxes = || LOSSLESS.iter().chain(&[EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN]);
    for class in sop_class::STORAGE {
        for syntax in syntaxes() {
            let offered = [*syntax];
            let wanted = [(1, class.uid, offered.as_slice())];
            let answer = ask(request("ISOCENTER", "CT1", &wanted), Load::default());
            let Answer::Accept(negotiated, _) = answer else { panic!("{}", class.name) };
            let context = PresentationContext {
                id: 1,
                abstract_syntax: class.uid.to_owned(),
                transfer_syntax: (*syntax).to_owned(),
                role: Role::Scp,
            };
            assert_eq!(negotiated.contexts, [context]);
        }
    }
    for class in [sop_class::VERIFICATION, sop_class::COMMITMENT] {
        let deflated = ["1.2.840.10008.1.2.1.99"];
        let plain = [IMPLICIT_LITTLE_ENDIAN];
        let wanted = [(1, class, plain.as_slice()), (3, class, &deflated)];
        let answer = ask(request("ISOCENTER", "CT1", &wanted), Load::default());
        let Answer::Accept(negotiated, _) = answer else { panic!("{class}") };
        assert_eq!(negotiated.contexts.len(), 1, "what is read at once comes plainly");
    }
}

#[test]
fn din_09_the_role_of_a_context_is_what_role_selection_left() {
    for (scu, scp, role) in
        [(true, false, Role::Scp), (false, true, Role::Scu), (true, true, Role::Both)]
    {
        let contexts: &[(u8, &str, &[&str])] =
            &[(1, sop_class::COMMITMENT, &[IMPLICIT_LITTLE_ENDIAN])];
        let mut asked = request("ISOCENTER", "CT1", contexts);
        asked.user_variables.push(UserVariableItem::ScuScpRoleSelectionSubItem(
            sop_class::COMMITMENT.to_owned(),
            RequestorRoles { scu, scp },
        ));
        let Answer::Accept(negotiated, _) = ask(asked, Load::default()) else { panic!() };
        assert_eq!(negotiated.contexts[0].role, role);
    }
}

#[test]
fn din_09_only_storage_commitment_changes_sides() {
    let role = |class: &str| {
        let roles = RequestorRoles { scu: true, scp: true };
        UserVariableItem::ScuScpRoleSelectionSubItem(class.to_owned(), roles)
    };
    let mut asked = request("ISOCENTER", "CT1", ECHO);
    asked.user_variables.extend([role(sop_class::COMMITMENT), role(CT)]);
    let Answer::Accept(_, pdu) = ask(asked, Load::default()) else { panic!() };
    let Pdu::AssociationAC(pdu) = *pdu else { panic!("{pdu:?}") };
    let granted: Vec<bool> = pdu
        .user_variables
        .iter()
        .filter_map(|it| match it {
            UserVariableItem::ScuScpRoleSelectionSubItem(_, roles) => Some(roles.scp),
            _ => None,
        })
        .collect();
    assert_eq!(granted, [true, false]);
}

#[test]
fn din_04_a_site_may_accept_storage_classes_that_nobody_knows() {
    let query = "1.2.840.10008.5.1.4.1.2.2.1";
    let contexts: &[(u8, &str, &[&str])] = &[
        (1, "1.2.840.113619.4.30", &[IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN]),
        (3, "1.2.840.10008.5.1.4.1.1.999", &[IMPLICIT_LITTLE_ENDIAN]),
        (5, query, &[IMPLICIT_LITTLE_ENDIAN]),
        (7, CT, &[IMPLICIT_LITTLE_ENDIAN]),
    ];
    for (accept_unknown_storage, expected) in [(false, [3, 3, 3, 0]), (true, [0, 0, 3, 0])] {
        let config = Config { accept_unknown_storage, ..config() };
        let asked = bytes(request("ISOCENTER", "CT1", contexts));
        let answer = answer(&config, Load::default(), "127.0.0.1".parse().unwrap(), &asked);
        let Answer::Accept(_, pdu) = answer else { panic!("not accepted") };
        let Pdu::AssociationAC(pdu) = *pdu else { panic!("{pdu:?}") };
        let reasons = pdu.presentation_contexts.iter().map(|it| it.reason.clone() as u8);
        assert_eq!(reasons.collect::<Vec<_>>(), expected);
    }
}
