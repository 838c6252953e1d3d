//! Laboratory results become a table with flags that the engine computes (HL7-60..64, PAP-12).

use serde_json::json;
use system_tests::api::{call, token};
use system_tests::{Hospital, SiteOptions, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn pap_12_results_become_a_table_and_false_flags_are_marked() {
    let hospital = Hospital::open().await;
    let message = "MSH|^~\\&|LIS|HOSP|ISOCENTER|AI|20260115||ORU^R01^ORU_R01|L1|P|2.5.1||||||UNICODE UTF-8\r\
        PID|1||77^^^HOSP^MR||WANG^XIAODONG\r\
        OBR|1|PL9|FL9|58410-2^CBC panel^LN\r\
        OBX|1|NM|6690-2^Leukocytes^LN^WBC^白细胞^L|1|12.3|×10⁹/L|3.5-9.5|N|||F\r\
        OBX|2|SN|1988-5^CRP^LN|1|<^0.5|mg/L|<5.0|N|||F\r\
        OBX|3|ST|5804-0^Protein Ur Ql^LN|1|1+||Negative|A|||F\r\
        OBX|4|ED|18748-4^Report^LN|1|^application^pdf^Base64^JVBERi0=||||||F";

    assert_eq!(hospital.send_message(message).await, "AA");
    let runs = hospital.ended_runs(1).await;

    let run = hospital.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]);
    let rows = run["outputs"]["table"]["laboratory"].as_array().unwrap();
    let columns = ["entry_name", "result", "reference", "unit", "abnormality"];
    let row = |index: usize| columns.map(|name| rows[index][name].as_str().unwrap());
    let disagreements: Vec<bool> =
        rows.iter().map(|it| it["disagrees"].as_bool().unwrap()).collect();
    assert_eq!(row(0), ["Leukocytes", "12.3", "3.5-9.5", "10*9/L", "high"]);
    assert_eq!(row(1), ["CRP", "<0.5", "<5.0", "mg/L", "normal"]);
    assert_eq!(row(2), ["Protein Ur Ql", "1+", "Negative", "", "abnormal"]);
    assert_eq!(disagreements, [true, false, false]);
    let [oru] = hospital.ehr.received().try_into().unwrap();
    assert!(oru.contains("|12.3|10*9/L|3.5-9.5|H|||R|"), "{oru}");
    assert!(oru.contains("PID|1||77^^^HOSP^MR"), "{oru}");
}

/// Field cases h02, h04, h05, h13 and h14 in one message.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_60_units_flags_specimens_times_and_notes_reach_the_ehr() {
    let hospital = Hospital::open().await;
    let text = "MSH|^~\\&|LIS|HOSP|ISOCENTER|AI|20260115||ORU^R01|W1|P|2.5.1||||||8859/1\r\
        PID|1||77^^^HOSP^MR||Lef\\XE8\\vre^Ren\\XE9\\e\r\
        OBR|1|P1|F1|GLU^Glucose panel^L|||20260103080000||||||||SER^Serum\r\
        OBX|1|NM|GLU^Glucose^L|1|7.4|10^3/uL||HH|||F\r\
        OBR|2|P2|F2|GLU^Glucose panel^L|||20260103081000||||||||CSF^Cerebrospinal fluid\r\
        OBX|1|NM|GLU^Glucose^L|1|21|mg/dL|-9.5|L~LL|||F\rNTE|1|L|Phoned to ward 3.\r\
        OBX|2|CE|600-7^Bacteria^LN|1.1|^^^ECOLI^Escherichia coli^L~^^^SA^S. aureus^L||||||C\r\
        OBX|3|NM|K^Potassium^L||||3.5-5.1||||F\rNTE|1|L|Clotted.";

    assert_eq!(hospital.send_message(text).await, "AA");
    hospital.ended_runs(1).await;

    let [oru] = hospital.ehr.received().try_into().unwrap();
    assert!(oru.contains("||Lefèvre^Renée|"), "{oru}");
    let rows = [
        "|GLU^Glucose^L|1|7.4|10*3/uL||HH|||F|||20260103080000|",
        "|GLU^Glucose^L|2|21|mg/dL|-9.5|LL|||R|||20260103081000|",
        "|600-7^Bacteria^LN|1|Escherichia coli\\.br\\S. aureus||||||C|||20260103081000|",
        "|20260103080000|20260103081000|",
        "|L|Phoned to ward 3.",
        "|P|Specimen: SER, Serum",
        "|P|Specimen: CSF, Cerebrospinal fluid",
        "|P|Sub-ID of the laboratory: 1.1",
        "|P|Status of the laboratory: C",
        "Without a value: Potassium. Note: Clotted.",
        "Glucose: 7.4 10*3/uL is marked HH by the laboratory.",
    ];
    for row in rows {
        assert!(oru.contains(row), "{row}: {oru}");
    }
    assert!(!oru.contains("No findings"), "{oru}");
}

/// A message of the laboratory: control id and the segments after MSH.
fn message(control_id: &str, rest: &str) -> String {
    format!("MSH|^~\\&|LIS|HOSP|ISOCENTER|AI|20260115||ORU^R01|{control_id}|P|2.5.1\r{rest}")
}

/// Order, patient and results of a test system: with the P behind it, the same is real.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_10_a_message_for_training_is_kept_and_changes_nothing() {
    let hospital = Hospital::open().await;
    let of = |kind: &str, id: &str, processing_id: &str, rest: &str| {
        format!(
            "MSH|^~\\&|LIS|HOSP|ISOCENTER|AI|20260115||{kind}|{id}|{processing_id}|2.5.1\r\
             PID|1||77^^^HOSP^MR||TEST^PATIENT\r{rest}"
        )
    };
    let result = "OBR|1\rOBX|1|NM|2823-3^Potassium^LN||4.1|mmol/L|3.5-5.1||||F";
    let order = "ORC|NW|P1\rOBR|1|P1|||||||||||||||A1";
    assert_eq!(hospital.send_message(&of("ORU^R01", "T1", "T", result)).await, "AA");
    assert_eq!(hospital.send_message(&of("ORM^O01", "T2", "D", order)).await, "AA");
    assert_eq!(hospital.send_message(&of("ORU^R01", "T3", "P", result)).await, "AA");
    hospital.ended_runs(1).await;

    for id in ["T1", "T2"] {
        let why = hospital.ask(&["why", id]);
        let message = &why["messages"][0];
        assert_eq!(message["flags"], serde_json::json!(["without_effect"]), "{why}");
        assert_eq!(why["message_runs"], serde_json::json!([]), "{why}");
    }
    let ended = hospital.ask(&["why", "T3"])["message_runs"].as_array().unwrap().len();
    assert_eq!(ended, 1);
    assert_eq!(hospital.command(&["why", "P1"]).status.code(), Some(1), "no order is placed");
    let events = hospital.ask(&["audit", "show"]);
    let told =
        events.as_array().unwrap().iter().filter(|it| it["kind"] == "message_without_effect");
    let mut ids: Vec<&str> =
        told.map(|it| it["body"]["detail"]["processing_id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["D", "T"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_24_results_of_two_patients_in_one_message_are_refused_and_kept() {
    let hospital = Hospital::open().await;
    let potassium = |patient: &str, value: &str| {
        format!(
            "PID|1||{patient}^^^HOSP^MR\rORC|RE\rOBR|1\r\
             OBX|1|NM|2823-3^Potassium^LN||{value}|mmol/L|3.5-5.1||||F\r"
        )
    };
    let two = format!("{}{}", potassium("A", "4.1"), potassium("B", "7.4"));

    assert_eq!(hospital.send_message(&message("TWO", &two)).await, "AE");
    let again = format!("{}{}", potassium("A", "4.1"), potassium("A", "4.2"));
    assert_eq!(hospital.send_message(&message("SAME", &again)).await, "AA");
    hospital.ended_runs(1).await;

    let why = hospital.ask(&["why", "TWO"]);
    let problem = why["messages"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("PID 2"), "{problem}");
    let [oru] = hospital.ehr.received().try_into().unwrap();
    assert!(oru.contains("|4.1|") && oru.contains("|4.2|") && !oru.contains("7.4"), "{oru}");
    assert!(oru.contains("PID|1||A^^^HOSP^MR"), "{oru}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_60_what_is_no_result_by_its_status_reaches_nobody_as_one() {
    let hospital = Hospital::open().await;
    let observations =
        [("4.1", "F"), ("512", "W"), ("118", "D"), ("9.9", "X"), ("33", "C"), ("31", "P")];
    let rows = observations.map(|(value, status)| {
        format!("OBX|1|NM|{value}-0^Of {status}^LN||{value}|mmol/L|1-40||||{status}\r")
    });
    let pending = "OBX|7|ST|1975-2^Bilirubin^LN||pending||||||I\rOBX|8|NM|2093-3^Sum^LN||0||||||N";
    let rest = format!("PID|1||A^^^HOSP^MR\rOBR|1\r{}{pending}", rows.concat());

    assert_eq!(hospital.send_message(&message("S1", &rest)).await, "AA");
    let runs = hospital.ended_runs(1).await;

    let run = hospital.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]);
    let rows = run["outputs"]["table"]["laboratory"].as_array().unwrap();
    let results: Vec<&str> = rows.iter().map(|it| it["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["4.1", "33", "31"]);
    let [oru] = hospital.ehr.received().try_into().unwrap();
    for value in ["|512|", "|118|", "|9.9|", "|pending|", "|0|"] {
        assert!(!oru.contains(value), "{value}: {oru}");
    }
    assert!(oru.contains("Not a result: Of W, withdrawn as wrong by its sender (W)."), "{oru}");

    let rest = "PID|1||A^^^HOSP^MR\rOBR|1\rOBX|1|NM|2823-3^Potassium^LN||4.1||||||";
    assert_eq!(hospital.send_message(&message("S2", &format!("{rest}I"))).await, "AA");
    assert_eq!(hospital.send_message(&message("S3", &format!("{rest}W"))).await, "AA");
    let runs = hospital.ended_runs(2).await;
    let ends: Vec<&str> = runs.iter().map(|it| it["status"].as_str().unwrap()).collect();
    assert!(ends.len() == 2 && ends.contains(&"failed"), "{ends:?}");
    assert_eq!(hospital.ehr.received().len(), 1);
}

/// A result of the laboratory: control id, time, patient, order number, and OBX from OBX-2 on.
fn potassium(control_id: &str, time: &str, patient: &str, number: &str, obx: &[&str]) -> String {
    let rows: Vec<String> =
        obx.iter().enumerate().map(|(at, it)| format!("OBX|{}|{it}\r", at + 1)).collect();
    format!(
        "MSH|^~\\&|LIS|HOSP|ISOCENTER|AI|20260115{time}||ORU^R01|{control_id}|P|2.5.1\r\
         PID|1||{patient}^^^HOSP^MR\rORC|RE|PL1|{number}\rOBR|1|PL1|{number}|24323-8^Panel^LN\r{}",
        rows.concat()
    )
}

/// The value (OBX-5) and status (OBX-11) of the potassium of a report, and its OBR-3.
fn potassium_of(oru: &str) -> [String; 3] {
    let field = |start: &str, has: &str, number: usize| {
        let line = oru.split('\r').find(|it| it.starts_with(start) && it.contains(has));
        line.and_then(|it| it.split('|').nth(number)).unwrap_or_default().to_owned()
    };
    [field("OBX", "2823-3", 5), field("OBX", "2823-3", 11), field("OBR", "", 3)]
}

const HIGH: &str = "NM|2823-3^Potassium^LN||7.9|mmol/L|3.5-5.1|HH|||F";
const SODIUM: &str = "NM|2951-2^Sodium^LN||140|mmol/L|136-145|N|||F";
const CORRECTED: &str = "NM|2823-3^Potassium^LN||4.9|mmol/L|3.5-5.1|N|||C";
const WITHDRAWN: &str = "NM|2823-3^Potassium^LN||7.9|mmol/L|||||W";

#[tokio::test(flavor = "multi_thread")]
async fn hl7_53_a_correction_of_the_laboratory_takes_the_place_of_what_it_corrects() {
    let hospital = Hospital::open().await;
    hospital.send_message(&potassium("C1", "1115", "A", "F1^LAB", &[HIGH, SODIUM])).await;
    hospital.ended_runs(1).await;
    // The same number of another patient, and of another laboratory, is another order.
    hospital.send_message(&potassium("C2", "1116", "B", "F1^LAB", &[HIGH])).await;
    hospital.ended_runs(2).await;
    hospital.send_message(&potassium("C3", "1117", "A", "F1^MICRO", &[HIGH])).await;
    hospital.ended_runs(3).await;

    hospital.send_message(&potassium("C4", "1215", "A", "F1^LAB", &[CORRECTED])).await;
    hospital.ended_runs(4).await;
    hospital.send_message(&potassium("C5", "1315", "A", "F1^LAB", &[WITHDRAWN])).await;
    hospital.ended_runs(5).await;

    let received = hospital.ehr.received();
    let all: Vec<[String; 3]> = received.iter().map(|it| potassium_of(it)).collect();
    assert_eq!(all.len(), 5, "{all:?}");
    let values: Vec<&str> = all.iter().map(|it| it[0].as_str()).collect();
    assert_eq!(values, ["7.9", "7.9", "7.9", "4.9", ""]);
    assert_eq!((all[0][1].as_str(), all[3][1].as_str()), ("F", "C"), "{}", received[3]);
    assert_eq!(all[4][1], "W", "{}", received[4]);
    assert!(received[3].contains("|PL1^F1&LAB|") || received[3].contains("|PL1^F1&LAB\r"));
    // The report is the same in the eyes of the receiver, and the others are not touched.
    assert_eq!((&all[3][2], &all[4][2]), (&all[0][2], &all[0][2]));
    assert!(all[1][2] != all[0][2] && all[2][2] != all[0][2] && all[1][2] != all[2][2]);
    for oru in &received[3..] {
        assert!(!oru.contains("7.9") && oru.contains("|140|"), "{oru}");
    }

    // What was withdrawn goes nowhere any more, even if a person asks for it.
    let deliveries = hospital.ask(&["delivery", "list"]);
    for id in deliveries.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()) {
        hospital.command(&["delivery", "resend", id]);
    }
    hospital.ended_runs(5).await;
    let again: Vec<[String; 3]> =
        hospital.ehr.received().split_off(5).iter().map(|it| potassium_of(it)).collect();
    let of_first = again.iter().filter(|it| it[2] == all[0][2]);
    assert_eq!(of_first.map(|it| it[0].as_str()).collect::<Vec<_>>(), [""], "{again:?}");
    let events = hospital.ask(&["audit", "show", "--limit", "500"]);
    let events = events.as_array().unwrap().iter();
    assert_eq!(events.filter(|it| it["kind"] == "result_superseded").count(), 2);
    let why = hospital.ask(&["why", "C1"]);
    assert!(why["messages"][0]["superseded_by"].is_string(), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_53_a_correction_that_arrives_before_its_original_stays() {
    let hospital = Hospital::open().await;
    hospital.send_message(&potassium("E1", "1215", "A", "F1^LAB", &[CORRECTED])).await;
    hospital.ended_runs(1).await;

    hospital.send_message(&potassium("E2", "1115", "A", "F1^LAB", &[HIGH])).await;
    hospital.send_message(&potassium("E3", "1115", "A", "F1^LAB", &[HIGH, SODIUM])).await;
    hospital.ended_runs(2).await;

    let received = hospital.ehr.received();
    let values: Vec<String> = received.iter().map(|it| potassium_of(it)[0].clone()).collect();
    assert_eq!(values, ["4.9", "4.9"]);
    assert!(received[1].contains("|140|"), "{}", received[1]);
    let why = hospital.ask(&["why", "E2"]);
    assert!(why["messages"][0]["superseded_by"].is_string(), "{why}");
    let events = hospital.ask(&["audit", "show", "--limit", "500"]).to_string();
    assert!(events.contains("had corrected its results before it arrived"), "{events}");
}

/// HL7-37: what was concluded from the results of two patients goes nowhere any more, once they are
/// two again, and a person under each of them is asked.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_37_a_report_on_the_results_of_two_patients_is_held_after_an_unmerge() {
    let hospital = Hospital::open().await;
    hospital.send_message(&potassium("U1", "1115", "A", "F1^LAB", &[HIGH, SODIUM])).await;
    hospital.ended_runs(1).await;
    let merge = "MSH|^~\\&|ADT|HOSP|ISO|AI|20260103||ADT^A40|U2|P|2.5.1\r\
        PID|1||B^^^HOSP^MR\rMRG|A^^^HOSP^MR";
    assert_eq!(hospital.send_message(merge).await, "AA");
    hospital.send_message(&potassium("U3", "1215", "B", "F1^LAB", &[CORRECTED])).await;
    hospital.ended_runs(2).await;
    let sent = hospital.ehr.received();
    assert_eq!(sent.len(), 2);
    assert!(sent[1].contains("|140|"), "one patient, one order: {}", sent[1]);

    let token_file = |name: &str| {
        let token = token(&hospital, "physician", name);
        hospital.scratch.write(name, &token).display().to_string()
    };
    let requested =
        hospital.command(&["patient", "unmerge", "A", "B", "--token", &token_file("Anna Lee")]);
    let request = String::from_utf8(requested.stdout).unwrap().lines().next().unwrap().to_owned();
    let approve = ["patient", "approve", &request, "--token", &token_file("Bert Ray")];
    assert!(hospital.command(&approve).status.success());

    let tasks = hospital.ask(&["task", "list"]);
    let asked = tasks.as_array().unwrap().iter().filter(|it| it["kind"] == "identity_conflict");
    let reasons: Vec<&str> = asked.map(|it| it["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons.len(), 2, "{tasks}");
    assert!(reasons.iter().all(|it| it.contains("U1") && it.contains("U3")), "{reasons:?}");
    let deliveries = hospital.ask(&["delivery", "list"]);
    for id in deliveries.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()) {
        hospital.command(&["delivery", "resend", id]);
    }
    eventually("the report to be held", async || {
        let all = hospital.ask(&["delivery", "list"]);
        let is_held = |it: &serde_json::Value| {
            it["state"] == "blocked" && it["reason"].as_str().unwrap().contains("another patient")
        };
        all.as_array()?.iter().any(is_held).then_some(())
    })
    .await;
    // A correction of one takes nothing over from the other, and is sent.
    hospital.send_message(&potassium("U4", "1315", "B", "F1^LAB", &[HIGH])).await;
    hospital.ended_runs(3).await;
    let again = hospital.ehr.received().split_off(2);
    let of_both = again.iter().filter(|it| it.contains("PID|1||B^") && it.contains("|140|"));
    assert_eq!(of_both.count(), 0, "{again:?}");
    assert!(again.iter().any(|it| it.contains("PID|1||B^") && it.contains("|7.9|")), "{again:?}");
}

const REVIEWED: &str = "
workflow: checked
on: { message: { type: [ORU^R01] } }
nodes:
  table: { plugin: lab-report-parsing }
  sign: { review: laboratory, after: [table] }
deliver:
  - { to: ehr, what: [oru], after: [sign] }
";

/// Signs the result that waits for a person.
async fn sign_next(hospital: &Hospital, token: &str) {
    let address = &hospital.engine.http;
    let open = eventually("a review", async || {
        let (_, open) = call(address, Some(token), ("GET", "/api/reviews"), None);
        open.as_array().filter(|it| !it.is_empty()).cloned()
    })
    .await;
    let path = |what: &str| format!("/api/runs/{}/{what}", open[0]["run"].as_str().unwrap());
    let (_, result) = call(address, Some(token), ("GET", &path("result")), None);
    let body = json!({ "seen": result["digest"], "meaning": "approved", "token": token });
    let (status, answer) = call(address, Some(token), ("POST", &path("sign")), Some(&body));
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_53_a_correction_of_a_signed_result_waits_for_a_person() {
    let workflows = [("checked", REVIEWED)];
    let options =
        SiteOptions { workflows: &workflows, allow_unverified: false, ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;
    let token = token(&hospital, "laboratory", "Reader^Ruth");
    hospital.send_message(&potassium("G1", "1115", "A", "F1^LAB", &[HIGH])).await;
    sign_next(&hospital, &token).await;
    hospital.ended_runs(1).await;

    hospital.send_message(&potassium("G2", "1215", "A", "F1^LAB", &[CORRECTED])).await;
    let task = eventually("the task", async || {
        let tasks = hospital.ask(&["task", "list"]);
        tasks.as_array()?.iter().find(|it| it["kind"] == "result_corrected").cloned()
    })
    .await;
    assert!(task["reason"].as_str().unwrap().contains("signed"), "{task}");
    assert_eq!(hospital.ehr.received().len(), 1);
    sign_next(&hospital, &token).await;
    hospital.ended_runs(2).await;

    let [first, second] = hospital.ehr.received().try_into().unwrap();
    let [value, status, number] = potassium_of(&first);
    assert_eq!([value.as_str(), status.as_str()], ["7.9", "F"], "{first}");
    assert_eq!(potassium_of(&second), ["4.9".to_owned(), "C".to_owned(), number], "{second}");
}
