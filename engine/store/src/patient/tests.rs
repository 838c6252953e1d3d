//! Tests of identity: identifiers, merges in any order, links, and the reversal of a merge.

use std::collections::{BTreeMap, BTreeSet};

use contracts::{
    Encounter, InstanceRecord, InstanceStore as _, MergeKind, MessageEffect, MessageStore as _,
};
use domain::{DemographicsChange, Order, OrderAction, OrderKey, OrderKind, PatientId};
use uuid::Uuid;

use crate::patient::identity::{self, Authorities, IdentityDomains, Sender};
use crate::patient::unmerge::UnmergeError;
use crate::testing::{TestStore, instance, message, names, order_number, ordered, patient_id};

fn merges(survivor: &str, source: &str) -> MessageEffect {
    MessageEffect::Merge {
        kind: MergeKind::Merge,
        survivor: patient_id(survivor),
        source: patient_id(source),
        demographics: DemographicsChange::default(),
    }
}

async fn send(test: &TestStore, control_id: &str, effects: Vec<MessageEffect>) {
    test.intake.store_message(message(control_id, effects)).await.unwrap();
}

/// The value of the identifier of the root of the patient with this identifier.
async fn root_of(test: &TestStore, value: &str) -> String {
    test.value(&format!(
        "select p.value from patient_identifier i join patient p on p.id = patient_root(i.patient)
         where i.value = '{value}'"
    ))
    .await
}

async fn key_of(test: &TestStore, value: &str) -> Uuid {
    let query = format!("select patient from patient_identifier where value = '{value}'");
    test.value(&query).await.parse().unwrap()
}

#[tokio::test]
async fn an_identifier_stays_with_the_patient_it_was_first_used_for() {
    let test = TestStore::new().await;
    send(&test, "1", vec![names("P1", "Doe^Jane")]).await;
    send(&test, "2", vec![names("P1", "Doe^Janet")]).await;
    assert_eq!(test.count("patient").await, 1);
    assert_eq!(test.value("select demographics ->> 'name' from patient").await, "Doe^Janet");
    let updates = "audit.event where kind = 'patient_updated'";
    assert_eq!(test.count(updates).await, 1);
}

/// Two issuers, of which some senders know `OTHER` by its OID.
fn authorities() -> Authorities {
    Authorities {
        default_issuer: Some("HOSPITAL".to_owned()),
        senders: BTreeMap::new(),
        names: BTreeMap::from([("1.2.3.111".to_owned(), "OTHER".to_owned())]),
    }
}

fn several_domains() -> IdentityDomains {
    IdentityDomains::Many(authorities())
}

const RIS: Sender<'_> = Sender::Hl7 { application: "RIS", facility: "H" };
const CT: Sender<'_> = Sender::Dicom { calling_ae: "CT1" };

#[test]
fn din_60_a_site_with_one_domain_ignores_issuers_and_one_with_several_does_not() {
    let several = several_domains();
    let key = |issuer: &str| {
        let id = PatientId { value: "P1".to_owned(), issuer: issuer.to_owned() };
        assert_eq!(IdentityDomains::Single.of(RIS).key(&id).issuer, "");
        several.of(RIS).key(&id).issuer
    };
    assert_eq!(key(""), "HOSPITAL");
    assert_eq!(key("OTHER"), "OTHER");
    // The site knows the name of one OID and not of the other.
    assert_eq!(key("1.2.3.111"), "OTHER");
    assert_eq!(key("1.2.3.222"), "1.2.3.222");
}

#[test]
fn din_60_an_identifier_without_an_issuer_is_its_senders_own() {
    let senders = [("CT1", "HOSP"), ("LIS|H", "1.2.3.111")];
    let senders = senders.map(|(sender, issuer)| (sender.to_owned(), issuer.to_owned())).into();
    let several =
        IdentityDomains::Many(Authorities { default_issuer: None, senders, ..authorities() });
    let bare = patient_id("P1");
    let issuer = |sender| several.of(sender).key(&bare).issuer;
    let hl7 = |application, facility| Sender::Hl7 { application, facility };
    assert_eq!(issuer(CT), "HOSP");
    assert_eq!(issuer(hl7("LIS", "H")), "OTHER");
    let own = [RIS, hl7("RIS", "I"), hl7("LIS", "I"), Sender::Dicom { calling_ae: "RIS" }];
    let own: BTreeSet<String> = own.map(issuer).into();
    assert_eq!(own.len(), 4);
    // No authority can be named as a sender is.
    let forged = PatientId { value: "P1".to_owned(), issuer: issuer(RIS) };
    assert_ne!(several.of(CT).key(&forged).issuer, issuer(RIS));
}

/// What is stored of P1 after an image and a message, both without an issuer.
async fn patients_of_ct_and_ris(domains: IdentityDomains, birth_date: &str) -> TestStore {
    let test = TestStore::with_domains(domains).await;
    let mut image = instance(1, 1, 1);
    image.demographics.birth_date = "19700101".to_owned();
    test.intake.store_instance(image).await.unwrap();
    let demographics = DemographicsChange {
        birth_date: Some(birth_date.to_owned()),
        ..DemographicsChange::default()
    };
    send(&test, "1", vec![MessageEffect::Patient { id: patient_id("P1"), demographics }]).await;
    test
}

#[tokio::test]
async fn din_60_bare_identifiers_of_two_senders_are_two_patients() {
    let domains = IdentityDomains::Many(Authorities::default());
    let test = patients_of_ct_and_ris(domains, "19800101").await;
    assert_eq!(test.count("patient").await, 2);
    let first = "select demographics ->> 'birth_date' from patient order by created_at limit 1";
    assert_eq!(test.value(first).await, "19700101");
    assert_eq!(test.count("identity_collision").await, 0);
}

#[tokio::test]
async fn din_60_one_identifier_with_two_birth_dates_is_a_finding_of_doctor() {
    for (domains, birth_date, collisions) in [
        (IdentityDomains::Single, "19800101", 1),
        (several_domains(), "19800101", 1),
        (several_domains(), "19700101", 0),
    ] {
        let test = patients_of_ct_and_ris(domains, birth_date).await;
        assert_eq!(test.count("patient").await, 1);
        assert_eq!(test.count("identity_collision").await, collisions);
        let checks = test.store.examine().await.unwrap();
        let check = checks.iter().find(|it| it.name == "no identifier is that of two patients");
        assert_eq!(check.unwrap().is_good, collisions == 0);
    }
}

#[tokio::test]
async fn din_60_a_correction_by_the_same_sender_is_no_collision() {
    let test = TestStore::with_domains(several_domains()).await;
    for (number, birth_date) in [("1", "19700101"), ("2", "19700102")] {
        let demographics = DemographicsChange {
            birth_date: Some(birth_date.to_owned()),
            ..DemographicsChange::default()
        };
        send(&test, number, vec![MessageEffect::Patient { id: patient_id("P1"), demographics }])
            .await;
    }
    assert_eq!(test.count("identity_collision").await, 0);
}

#[tokio::test]
async fn hl7_37_an_identifier_of_two_patients_needs_its_authority() {
    let test = TestStore::with_domains(several_domains()).await;
    let of_other = PatientId { value: "P1".to_owned(), issuer: "OTHER".to_owned() };
    let demographics = DemographicsChange::default();
    let named = MessageEffect::Patient { id: of_other, demographics };
    send(&test, "1", vec![names("P1", "Doe^Jane"), named]).await;
    send(&test, "2", vec![merges("P1", "P2")]).await;
    let ann = &test.holder("Lee^Ann", 1).await;
    let unclear = test.store.ask_unmerge("P2", "P1", ann).await.unwrap_err();
    assert!(matches!(unclear, UnmergeError::Ambiguous(value) if value == "P1"));
    let apart = test.store.ask_unmerge("P2", "P1^OTHER", ann).await.unwrap_err();
    assert!(matches!(apart, UnmergeError::NotMerged));
    test.store.ask_unmerge("P2", "P1^HOSPITAL", ann).await.unwrap();
}

#[tokio::test]
async fn the_same_identifier_of_two_issuers_is_two_patients() {
    let domains = several_domains();
    let test = TestStore::with_domains(domains).await;
    let mut other = patient_id("P1");
    other.issuer = "OTHER".to_owned();
    let of_other =
        MessageEffect::Patient { id: other, demographics: DemographicsChange::default() };
    send(&test, "1", vec![names("P1", "Doe^Jane")]).await;
    send(&test, "2", vec![of_other]).await;
    assert_eq!(test.count("patient").await, 2);
}

#[tokio::test]
async fn hl7_35_a_merge_is_reported_for_both_patients() {
    let test = TestStore::new().await;
    send(&test, "1", vec![merges("P1", "P2")]).await;
    assert_eq!(root_of(&test, "P2").await, "P1");
    let query = "select body ->> 'action' as action, patient from audit.event
        where kind = 'patients_merged' order by position";
    let events = test.rows(query).await;
    let actions: Vec<&str> = events.iter().map(|it| it["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["U", "D"]);
    assert_ne!(events[0]["patient"], events[1]["patient"]);
}

#[tokio::test]
async fn chains_of_merges_end_the_same_in_any_order() {
    let links = [("P2", "P1"), ("P3", "P2"), ("P4", "P3")];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let test = TestStore::new().await;
        for at in order {
            let (survivor, source) = links[at];
            send(&test, &format!("{at}"), vec![merges(survivor, source)]).await;
        }
        for value in ["P1", "P2", "P3", "P4"] {
            assert_eq!(root_of(&test, value).await, "P4", "{value} in {order:?}");
        }
    }
}

#[tokio::test]
async fn hl7_33_a_merged_patient_fills_in_what_the_survivor_leaves_open() {
    let test = TestStore::new().await;
    let born = MessageEffect::Patient {
        id: patient_id("P2"),
        demographics: DemographicsChange {
            birth_date: Some("19600102".to_owned()),
            ..DemographicsChange::default()
        },
    };
    send(&test, "1", vec![names("P1", "Doe^Jane")]).await;
    send(&test, "2", vec![born]).await;
    send(&test, "3", vec![merges("P1", "P2")]).await;

    let mut connection = test.store.pool.acquire().await.unwrap();
    let root = key_of(&test, "P1").await;
    let view = identity::view(&mut connection, root).await.unwrap();
    assert_eq!(view.identifier.value, "P1");
    assert_eq!(view.demographics.name, "Doe^Jane");
    assert_eq!(view.demographics.birth_date, "19600102");
}

#[tokio::test]
async fn hl7_37_a_merge_is_reversed_by_two_people_and_not_by_one() {
    let test = TestStore::new().await;
    send(&test, "1", vec![merges("P1", "P2")]).await;
    let ann = test.holder("Lee^Ann", 1).await;
    let bob = test.holder("Ray^Bob", 2).await;
    let request = test.store.ask_unmerge("P2", "P1", &ann).await.unwrap();
    assert_eq!(test.store.unmerge_requests().await.unwrap()[0].asked_by, "Lee^Ann");

    // Neither the same token nor another one of the same person is a second person.
    for same in [ann, test.holder("Ann Lee", 3).await] {
        let refused = test.store.approve_unmerge(request, &same).await.unwrap_err();
        assert!(matches!(refused, UnmergeError::SamePerson(name) if name == "Lee^Ann"));
    }
    assert_eq!(root_of(&test, "P2").await, "P1");

    test.store.approve_unmerge(request, &bob).await.unwrap();
    assert_eq!(root_of(&test, "P2").await, "P2");
    assert!(test.store.unmerge_requests().await.unwrap().is_empty());
    let again = test.store.approve_unmerge(request, &bob).await.unwrap_err();
    assert!(matches!(again, UnmergeError::NoRequest));
    let unmerged = test.rows("select body from audit.event where kind = 'patients_unmerged'").await;
    assert_eq!(unmerged[0]["body"]["detail"]["issued_by"], "it");
    assert_eq!(unmerged[0]["body"]["actor"]["id"], "Ray^Bob");
}

#[tokio::test]
async fn hl7_37_a_request_under_an_account_name_is_not_approved() {
    let test = TestStore::new().await;
    send(&test, "1", vec![merges("P1", "P2")]).await;
    let ann = test.holder("Lee^Ann", 1).await;
    let request = test.store.ask_unmerge("P2", "P1", &ann).await.unwrap();
    // As requests were stored before tokens were asked for.
    test.execute_as_owner("update unmerge_request set asked_token = null, asked_by = 'ann'").await;

    let bob = test.holder("Ray^Bob", 2).await;
    let refused = test.store.approve_unmerge(request, &bob).await.unwrap_err();

    assert!(matches!(refused, UnmergeError::WithoutToken));
    assert_eq!(root_of(&test, "P2").await, "P1");
}

#[tokio::test]
async fn only_a_merge_can_be_reversed() {
    let test = TestStore::new().await;
    send(&test, "1", vec![names("P1", "Doe^Jane")]).await;
    send(&test, "2", vec![names("P2", "Roe^Jane")]).await;
    let ann = test.holder("Lee^Ann", 1).await;
    let unknown = test.store.ask_unmerge("P3", "P1", &ann).await.unwrap_err();
    assert!(matches!(unknown, UnmergeError::Unknown(value) if value == "P3"));
    let apart = test.store.ask_unmerge("P2", "P1", &ann).await.unwrap_err();
    assert!(matches!(apart, UnmergeError::NotMerged));
}

#[tokio::test]
async fn hl7_30_a_link_moves_nothing() {
    let test = TestStore::new().await;
    let link =
        MessageEffect::Link { one: patient_id("P1"), other: patient_id("P2"), is_linked: true };
    send(&test, "1", vec![link]).await;
    assert_eq!(root_of(&test, "P1").await, "P1");
    assert_eq!(root_of(&test, "P2").await, "P2");
    assert_eq!(test.count("patient_link where is_linked").await, 1);
}

/// An order of account 77 of a patient.
fn order(patient: &str, accession: &str) -> MessageEffect {
    let key = OrderKey {
        placer: order_number(accession),
        kind: OrderKind::Imaging,
        accession: accession.to_owned(),
        ..OrderKey::default()
    };
    let order = Order::new(OrderAction::Place, Some(patient_id(patient)), key);
    MessageEffect::Order(Box::new(Order { account: "77".to_owned(), ..order }))
}

#[tokio::test]
async fn hl7_32_an_account_moves_with_its_orders_and_only_from_its_patient() {
    let test = TestStore::new().await;
    send(&test, "1", vec![order("P1", "A1")]).await;
    send(&test, "2", vec![order("P3", "A3")]).await;
    let moves = MessageEffect::MoveEncounter {
        what: Encounter::Account,
        number: "77".to_owned(),
        source: patient_id("P1"),
        target: patient_id("P2"),
    };
    send(&test, "3", vec![moves]).await;

    let p2 = key_of(&test, "P2").await;
    assert_eq!(test.count(&format!("imaging_order where patient = '{p2}'")).await, 1);
    let p3 = key_of(&test, "P3").await;
    assert_eq!(test.count(&format!("imaging_order where patient = '{p3}'")).await, 1);
    assert_eq!(test.count("audit.event where kind = 'account_moved'").await, 1);
}

/// The studies of a patient, by the accession number of their images.
async fn studies_of(test: &TestStore, value: &str) -> Vec<String> {
    let patient = key_of(test, value).await;
    let query = format!("select accession from study where patient = '{patient}' order by 1");
    let rows = test.rows(&query).await;
    rows.iter().map(|it| it["accession"].as_str().unwrap().to_owned()).collect()
}

/// A study may be found by another number than its own, and may answer an order that stays.
#[tokio::test]
async fn hl7_32_an_account_takes_along_the_studies_that_only_its_orders_ask_for() {
    let test = TestStore::new().await;
    let by_placer = InstanceRecord {
        accession: "NONE".to_owned(),
        placer: "A1".to_owned(),
        ..instance(1, 1, 1)
    };
    let of_both = InstanceRecord {
        accession: "A2".to_owned(),
        requested_accessions: vec!["A3".to_owned()],
        ..instance(2, 2, 2)
    };
    let of_another = InstanceRecord { accession: "A3".to_owned(), ..instance(3, 3, 3) };
    for record in [by_placer, of_both, of_another] {
        test.intake.store_instance(record).await.unwrap();
    }
    send(&test, "1", vec![order("P1", "A1")]).await;
    send(&test, "2", vec![order("P1", "A2")]).await;
    let key = OrderKey {
        placer: order_number("A3"),
        kind: OrderKind::Imaging,
        accession: "A3".to_owned(),
        ..OrderKey::default()
    };
    send(&test, "3", vec![ordered(OrderAction::Place, "P1", key)]).await;
    let moves = MessageEffect::MoveEncounter {
        what: Encounter::Account,
        number: "77".to_owned(),
        source: patient_id("P1"),
        target: patient_id("P2"),
    };
    send(&test, "4", vec![moves]).await;

    assert_eq!(studies_of(&test, "P2").await, ["NONE"]);
    assert_eq!(studies_of(&test, "P1").await, ["A2", "A3"]);
}

#[tokio::test]
async fn hl7_32_an_account_is_renumbered_for_its_patient_only() {
    let test = TestStore::new().await;
    send(&test, "1", vec![order("P1", "A1")]).await;
    send(&test, "2", vec![order("P2", "A2")]).await;
    let renumbered = MessageEffect::RenumberEncounter {
        patient: patient_id("P1"),
        what: Encounter::Account,
        old: "77".to_owned(),
        new: "78".to_owned(),
    };
    send(&test, "3", vec![renumbered]).await;

    let account_of = async |value: &str| {
        let patient = key_of(&test, value).await;
        test.value(&format!("select account from imaging_order where patient = '{patient}'")).await
    };
    assert_eq!(account_of("P1").await, "78");
    assert_eq!(account_of("P2").await, "77");

    // A later message that names no account leaves the new number.
    let key =
        OrderKey { placer: order_number("A1"), kind: OrderKind::Imaging, ..OrderKey::default() };
    send(&test, "4", vec![ordered(OrderAction::UpdateStatus, "P1", key)]).await;
    assert_eq!(account_of("P1").await, "78");
}
