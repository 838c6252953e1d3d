//! Numbers and what assigned them: identifiers of patients and orders that several authorities,
//! departments and senders give alike (DIN-60, DIN-61, HL7-40, HL7-43).

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use serde_json::Value;
use simulators::phantom::Phantom;
use system_tests::{Hospital, SiteOptions, eventually};

/// A study of a patient, with its own accession number and UIDs.
fn phantom(patient: &str, accession: &str) -> Phantom {
    Phantom {
        slices: 3,
        patient_id: patient.to_owned(),
        patient_name: format!("OF^{accession}"),
        accession: accession.to_owned(),
        seed: accession.to_owned(),
        ..Phantom::default()
    }
}

/// The files of a study, with an issuer of the Patient ID.
fn files_of(phantom: &Phantom, issuer: &str) -> Vec<Vec<u8>> {
    phantom.files_with(|_, set| {
        let issuer = PrimitiveValue::from(issuer);
        set.put(DataElement::new(tags::ISSUER_OF_PATIENT_ID, VR::LO, issuer));
    })
}

async fn send(hospital: &Hospital, files: &[Vec<u8>]) {
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    // What is flagged is stored with a warning.
    hospital.modality().store(&files).await.unwrap();
}

/// An order message of a sender: `kind`, PID-3, ORC, and the rest of the order.
fn order(sender: &str, kind: &str, patient: &str, rest: &str) -> String {
    let id = uuid::Uuid::now_v7().simple().to_string();
    format!(
        "MSH|^~\\&|{sender}|HOSP|ISOCENTER|AI|20260102||{kind}|{}|P|2.5.1\r\
         PID|1||{patient}||DOE^JANE||19700101|F\r{rest}",
        id.split_at(12).1,
    )
}

/// The message to the EHR about an accession number.
fn report_of(hospital: &Hospital, accession: &str) -> String {
    let received = hospital.ehr.received();
    let found = received.iter().find(|it| it.contains(&format!("|{accession}|")));
    assert!(found.is_some(), "no report of {accession}: {received:?}");
    found.unwrap().clone()
}

async fn with_identity(identity: &str) -> Hospital {
    Hospital::with(SiteOptions { identity, ..SiteOptions::default() }).await
}

fn tasks_of(hospital: &Hospital, kind: &str) -> Vec<Value> {
    let tasks = hospital.ask(&["task", "list"]);
    tasks.as_array().unwrap().iter().filter(|it| it["kind"] == kind).cloned().collect()
}

/// DIN-60: what the site leaves unsaid joins nobody. The order and the images name one study, and
/// each names a patient of its sender's own.
#[tokio::test(flavor = "multi_thread")]
async fn din_60_bare_identifiers_of_two_senders_do_not_meet_unless_the_site_says_so() {
    let phantom = phantom("4711", "MANY1");
    let rest = format!("ORC|NW|1\rOBR|1\rZDS|{}", phantom.study_uid());
    let order = order("RIS", "ORM^O01", "4711", &rest);

    let hospital = with_identity("{ domains: many }").await;
    assert_eq!(hospital.send_message(&order).await, "AA");
    hospital.send(&phantom).await;
    eventually("the conflict", async || tasks_of(&hospital, "identity_conflict").pop()).await;
    assert!(hospital.pacs.received().is_empty() && hospital.ehr.received().is_empty());
    drop(hospital);

    let hospital = with_identity("{ senders: { CT1: HOSP, RIS|HOSP: HOSP } }").await;
    assert_eq!(hospital.send_message(&order).await, "AA");
    hospital.send(&phantom).await;
    hospital.ended_runs(1).await;
    assert!(report_of(&hospital, "MANY1").contains("\rORC|RE|1|"));
}

/// DIN-60: 4711 of two authorities is two patients, each with its name. One of the authorities is
/// known by an OID to some.
#[tokio::test(flavor = "multi_thread")]
async fn din_60_one_identifier_of_two_authorities_is_two_patients() {
    let hospital = with_identity("{ names: { 1.2.3.111: NORTH } }").await;
    let north = phantom("4711", "NORTH1");
    let south = phantom("4711", "SOUTH1");
    for (phantom, patient, sex) in
        [(&north, "4711^^^&1.2.3.111&ISO^MR", "F"), (&south, "4711^^^SOUTH^MR", "M")]
    {
        let rest = format!("ORC|NW|1^{sex}\rOBR|1\rZDS|{}", phantom.study_uid());
        let order = order("RIS", "ORM^O01", patient, &rest).replace("|F\r", &format!("|{sex}\r"));
        assert_eq!(hospital.send_message(&order).await, "AA");
    }
    send(&hospital, &files_of(&north, "NORTH")).await;
    send(&hospital, &files_of(&south, "SOUTH")).await;
    hospital.ended_runs(2).await;

    for (accession, authority, sex) in [("NORTH1", "&1.2.3.111&ISO", "F"), ("SOUTH1", "SOUTH", "M")]
    {
        let report = report_of(&hospital, accession);
        assert!(report.contains(&format!("PID|1||4711^^^{authority}")), "{report}");
        assert!(report.contains(&format!("|19700101|{sex}")), "{report}");
        assert!(report.contains(&format!("\rORC|RE|1^{sex}|")), "{report}");
    }
}

/// HL7-31: the two identifiers of a merge are of one authority, which has an OID and a name.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_31_a_merge_names_its_authority_by_oid_and_by_name() {
    let hospital = with_identity("{ names: { 1.2.3.111: NORTH } }").await;
    let merge = |survivor: &str, source: &str| {
        let rest = format!("MRG|1^^^{source}^MR");
        order("ADT", "ADT^A40", &format!("2^^^{survivor}^MR"), &rest)
    };
    assert_eq!(hospital.send_message(&merge("&1.2.3.111&ISO", "NORTH")).await, "AA");
    assert_eq!(hospital.send_message(&merge("NORTH", "SOUTH")).await, "AE");
    let events = hospital.ask(&["audit", "show", "--limit", "500"]);
    let merged = events.as_array().unwrap().iter().filter(|it| it["kind"] == "patients_merged");
    assert_eq!(merged.count(), 2, "the survivor and the source: {events}");
}

/// DIN-60: the number would be one of the default authority.
#[tokio::test(flavor = "multi_thread")]
async fn din_60_an_issuer_that_cannot_be_decoded_never_becomes_the_default_one() {
    let hospital = Hospital::open().await;
    let phantom = phantom("4711", "DAMAGED1");
    let files = phantom.files_with(|_, set| {
        // No UTF-8, which the data set names as its character set.
        let issuer = PrimitiveValue::from(vec![b'H', 0xFF, b'S', b'P']);
        set.put(DataElement::new(tags::ISSUER_OF_PATIENT_ID, VR::UN, issuer));
    });
    send(&hospital, &files).await;
    let why = eventually("the study", async || {
        let why = hospital.ask(&["why", "DAMAGED1"]);
        why["studies"][0]["study"]["study"].is_string().then_some(why)
    })
    .await;
    assert_eq!(why["studies"][0]["study"]["patient"], Value::Null, "{why}");
    assert!(hospital.ehr.received().is_empty());
}

/// HL7-40: 1001 of two departments is two orders, and the EHR gets each number back whole.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_40_an_order_number_of_two_departments_comes_back_whole() {
    let hospital = Hospital::open().await;
    for (namespace, patient, accession) in [("ED", "A", "H18ACC1"), ("ICU", "B", "H18ACC2")] {
        let filler = format!("F-{accession}^RIS^1.2.3.4^ISO");
        let rest = format!(
            "ORC|NW|1001^{namespace}|{filler}\rOBR|1|1001^{namespace}|{filler}|1^CT^L{}{accession}",
            "|".repeat(14),
        );
        let order = order("EHR", "ORM^O01", patient, &rest);
        assert_eq!(hospital.send_message(&order).await, "AA");
        hospital.send(&phantom(patient, accession)).await;
    }
    hospital.ended_runs(2).await;

    for (namespace, patient, accession) in [("ED", "A", "H18ACC1"), ("ICU", "B", "H18ACC2")] {
        let report = report_of(&hospital, accession);
        assert!(report.contains(&format!("PID|1||{patient}^")), "{report}");
        let filler = format!("F-{accession}^RIS^1.2.3.4^ISO");
        let orc = format!("\rORC|RE|1001^{namespace}|{filler}\r");
        let obr = format!("\rOBR|1|1001^{namespace}|{filler}|");
        assert!(report.contains(&orc) && report.contains(&obr), "{report}");
    }
    assert_eq!(tasks_of(&hospital, "order_conflict"), Vec::<Value>::new());
}

/// HL7-43: the laboratory cancels its F1001, and radiology's F1001 goes on.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_43_a_cancellation_of_the_laboratory_does_not_reach_radiology() {
    let hospital = Hospital::open().await;
    let phantom = phantom("A", "RAD1");
    let rest = format!("ORC|NW||F1001\rOBR|1||F1001|1^CT^L\rZDS|{}", phantom.study_uid());
    assert_eq!(hospital.send_message(&order("HIS", "ORM^O01", "A", &rest)).await, "AA");
    for sender in ["HIS", "LIS"] {
        let rest = "ORC|CA||F1001||CA\rOBR|1||F1001|58410-2^CBC^LN";
        assert_eq!(hospital.send_message(&order(sender, "OML^O21", "A", rest)).await, "AA");
    }
    hospital.send(&phantom).await;
    hospital.ended_runs(1).await;
    assert!(report_of(&hospital, "RAD1").contains("\rORC|RE||F1001\r"));
}

/// HL7-40: a message with the numbers of two orders changes neither, and goes to a person.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_40_a_message_with_the_numbers_of_two_orders_goes_to_a_person() {
    let hospital = Hospital::open().await;
    for (rest, expected) in [("ORC|NW|P1^EHR\rOBR|1", 0), ("ORC|NW||F2^RIS\rOBR|1", 0)] {
        assert_eq!(hospital.send_message(&order("EHR", "ORM^O01", "A", rest)).await, "AA");
        assert_eq!(tasks_of(&hospital, "order_conflict").len(), expected);
    }
    let both = order("EHR", "ORM^O01", "A", "ORC|CA|P1^EHR|F2^RIS\rOBR|1");
    assert_eq!(hospital.send_message(&both).await, "AA");
    assert_eq!(tasks_of(&hospital, "order_conflict").len(), 1);
    for number in ["P1", "F2"] {
        let why = hospital.ask(&["why", number]);
        assert_eq!(why["orders"][0]["cancelled"], false, "{why}");
    }
    let events = hospital.ask(&["audit", "show", "--limit", "500"]);
    let told = |it: &Value| it["kind"] == "order_conflicting";
    assert!(events.as_array().unwrap().iter().any(told));
}

/// DIN-61: images of another patient under a known Study Instance UID are kept, told, and worked on
/// by nothing.
#[tokio::test(flavor = "multi_thread")]
async fn din_61_images_of_another_patient_in_a_known_study_are_told_and_never_worked_on() {
    let hospital = Hospital::open().await;
    let own = phantom("A", "MIXED1");
    let foreign = Phantom { patient_id: "B".to_owned(), ..own.clone() };
    let foreign = foreign.files_with(|slice, set| {
        let uid = PrimitiveValue::from(format!("1.2.826.0.1.3680043.10.77.{}", slice + 1));
        set.put(DataElement::new(tags::SOP_INSTANCE_UID, VR::UI, uid));
    });
    let files = [own.files(), foreign].concat();
    send(&hospital, &files).await;
    let runs = hospital.ended_runs(1).await;

    let [task] = tasks_of(&hospital, "instance_flagged").try_into().unwrap();
    assert_eq!(task["subject"]["study"], own.study_uid(), "{task}");
    let events = hospital.ask(&["audit", "show", "--limit", "500"]);
    let kinds = events.as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap());
    assert_eq!(kinds.filter(|it| *it == "instance_flagged").count(), 3);
    let run = hospital.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]);
    assert_eq!(run["run"]["status"], "completed", "{run}");
    // Nothing that was made refers to them, nor to their patient.
    assert!(!run.to_string().contains("1.2.826.0.1.3680043.10.77."), "{run}");
    assert!(report_of(&hospital, "MIXED1").contains("PID|1||A^"));
    let marker = b"1.2.826.0.1.3680043.10.77.";
    for made in hospital.pacs.received() {
        let bytes = std::fs::read(&made.path).unwrap();
        assert!(!bytes.windows(marker.len()).any(|it| it == marker), "{}", made.sop_class);
    }
}
