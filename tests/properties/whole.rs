//! Generated messages and images through a real engine, and what its receivers get.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use serde_json::Value;
use simulators::phantom::Phantom;
use system_tests::generators::dicom::Identity;
use system_tests::generators::hl7::{Header, HeaderFault, Person, Results, Row};
use system_tests::{Hospital, SiteOptions, eventually, study};

/// How many messages are sent.
const MESSAGES: u32 = 40;

/// How many studies are sent.
const STUDIES: usize = 6;

const TABLE: &str = "
workflow: table
on: { message: { type: ORU^R01 } }
nodes: { table: { plugin: lab-report-parsing } }
deliver: [{ to: ehr, what: [oru], after: [table] }]
";

const BONE: &str = "
workflow: bone
on: { study: { complete: { quiet: 500ms } } }
nodes: { bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } } }
deliver: [{ to: ehr, what: [oru], after: [bone] }]
";

/// The authority that is meant where none is named: none of those that are.
const DEFAULT: &str = "DEFAULT";

const IDENTITY: &str = "{ domains: many, default_issuer: DEFAULT }";

/// A message, and what has to come of it.
struct Sent {
    text: String,
    results: Results,
    fault: HeaderFault,
}

/// A message whose numbers no other message has.
fn message(random: &mut Rng, number: u32) -> Sent {
    let id = format!("WHOLE{number}");
    let mut results = Results::any(random, &id);
    let mut value = number * 100;
    for row in results.groups.iter_mut().flat_map(|it| &mut it.rows) {
        value += 1;
        *row = Row::number(value).with_status(row.status);
    }
    let fault = if random.u8(..5) == 0 {
        random.choice(HeaderFault::ALL).unwrap()
    } else {
        HeaderFault::None
    };
    let sound = results.written();
    let (_, body) = sound.split_once('\r').unwrap();
    let header = Header::of("ORU^R01", &id).with_fault(fault);
    Sent { text: header.written() + body, results, fault }
}

/// The patient of a report: identifier, and authority by name or OID; empty for the default one.
fn patient(report: &str) -> (String, String) {
    let pid = report.split('\r').find(|it| it.starts_with("PID|")).unwrap();
    let parts: Vec<&str> = pid.split('|').nth(3).unwrap().split('^').collect();
    let authority = parts[3].split('&').find(|it| !it.is_empty()).unwrap_or_default();
    let authority = if authority == DEFAULT { "" } else { authority };
    (parts[0].to_owned(), authority.to_owned())
}

fn key(person: &Person) -> (String, String) {
    (person.identifier.clone(), person.authority.text().to_owned())
}

/// The numbers of the rows of a report.
fn numbers(report: &str) -> Vec<String> {
    let rows = report.split('\r').filter(|it| it.starts_with("OBX|"));
    let rows = rows.map(|it| it.split('|').collect::<Vec<_>>());
    rows.filter(|it| it[3].contains("^Test ")).map(|it| it[5].to_owned()).collect()
}

async fn send_all(hospital: &Hospital, sent: &[Sent]) {
    for message in sent {
        let code = hospital.send_message(&message.text).await;
        let is_sound = message.fault == HeaderFault::None && message.results.is_of_one();
        assert_eq!(code == "AA", is_sound, "{code}: {:?}\n{}", message.fault, message.text);
    }
}

/// Sends studies of generated identities. Returns who each is of, by its Study Instance UID.
async fn send_studies(hospital: &Hospital, random: &mut Rng) -> BTreeMap<String, (String, String)> {
    let mut sent = BTreeMap::new();
    for number in 0..STUDIES {
        let identity = Identity::any(random);
        let phantom = Phantom { size: 64, pixel: 6.0, ..study(&format!("whole {number}")) };
        let files = phantom.files_with(|_, set| identity.apply_to(set));
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        hospital.modality().store(&files).await.unwrap();
        sent.insert(phantom.study_uid(), (identity.patient_id, identity.issuer.to_owned()));
    }
    sent
}

/// Whether all runs and deliveries have ended.
fn is_over(hospital: &Hospital, runs: usize) -> bool {
    let all = hospital.ask(&["runs", "--limit", "1000"]);
    let all = all.as_array().unwrap();
    let deliveries = hospital.ask(&["delivery", "list", "--limit", "1000"]);
    let is_open = |it: &Value| it["state"] == "queued" || it["state"] == "sending";
    all.len() >= runs
        && all.iter().all(|it| it["status"] != "running")
        && !deliveries.as_array().unwrap().iter().any(is_open)
}

/// No report has a number of another patient, none comes twice, none is missing, and what is no
/// result by its status does not come at all.
fn check_numbers(reports: &[String], sent: &[Sent]) {
    let mut expected = BTreeMap::<String, (String, String)>::new();
    for message in sent.iter().filter(|it| it.fault == HeaderFault::None && it.results.is_of_one())
    {
        for group in &message.results.groups {
            let rows = group.rows.iter().filter(|it| it.is_result());
            expected.extend(rows.map(|it| (it.value.clone(), key(&group.person))));
        }
    }
    let mut seen = BTreeSet::new();
    for report in reports {
        let patient = patient(report);
        for number in numbers(report) {
            assert_eq!(expected.get(&number), Some(&patient), "{number} is not of {report}");
            assert!(seen.insert(number), "delivered twice: {report}");
        }
    }
    let missing: Vec<&String> = expected.keys().filter(|it| !seen.contains(*it)).collect();
    assert_eq!(missing, Vec::<&String>::new(), "never delivered");
}

/// Whatever was refused and could be read is kept with its reason.
fn check_refusals(hospital: &Hospital, sent: &[Sent]) {
    for message in sent.iter().filter(|it| it.fault == HeaderFault::None && !it.results.is_of_one())
    {
        let why = hospital.ask(&["why", &message.results.control_id]);
        let problem = why["messages"][0]["problem"].as_str().unwrap_or_default();
        let number = message.results.first_other().unwrap();
        assert!(problem.contains(&format!("PID {number}")), "{problem}: {}", message.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn din_60_and_hl7_24_what_is_generated_goes_out_once_and_to_the_right_patient() {
    let workflows = [("table", TABLE), ("bone", BONE)];
    let options =
        SiteOptions { workflows: &workflows, identity: IDENTITY, ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;
    let mut random = Rng::with_seed(20_261_130);
    let sent: Vec<Sent> = (1..=MESSAGES).map(|it| message(&mut random, it)).collect();

    send_all(&hospital, &sent).await;
    let studies = send_studies(&hospital, &mut random).await;

    let is_sound = |it: &&Sent| it.fault == HeaderFault::None && it.results.is_of_one();
    let runs = sent.iter().filter(is_sound).count() + STUDIES;
    eventually("everything to end", async || is_over(&hospital, runs).then_some(())).await;
    let reports = hospital.ehr.received();
    check_numbers(&reports, &sent);
    check_refusals(&hospital, &sent);
    for (study, patient_sent) in studies {
        let of_study: Vec<&String> = reports.iter().filter(|it| it.contains(&study)).collect();
        assert_eq!(of_study.len(), 1, "{study}");
        assert_eq!(patient(of_study[0]), patient_sent, "{}", of_study[0]);
    }
}
