//! Messages as their senders really write them: character sets, documents, headers (HL7-20 to
//! HL7-24, HL7-60).

use encoding::hl7::charset::Hl7Charset;
use hl7::MllpDestination;
use system_tests::{Hospital, SiteOptions};

/// A message of a laboratory: MSH-9, control id, MSH-18 and the segments after MSH.
fn message(kind: &str, id: &str, charset: &str, rest: &str) -> String {
    format!("MSH|^~\\&|LIS|HOSP|ISO|HOSP|20260103||{kind}|{id}|P|2.5||||||{charset}\r{rest}")
}

/// Japan's laboratories name ASCII first, by nothing, and JIS X 0208 as a further set.
#[tokio::test(flavor = "multi_thread")]
async fn hl7_23_names_and_rows_of_a_japanese_laboratory_arrive_whole() {
    let hospital = Hospital::open().await;
    // The second byte of the character for sugar is that of the field separator.
    let rest = "PID|1||9^^^HOSP^MR||宮本^太郎^^^^^L^I\rOBR|1|P|F|GEN^一般検査^L\r\
        OBX|1|NM|3B01^総蛋白^L||7.1|g/dL|6.7-8.3|N|||F\rOBX|2|ST|1A01^糖定性^L||陰性||陰性|N|||F";
    let text = message("ORU^R01", "J1", "~ISO IR87", rest);
    let japan = Hl7Charset::parse("ISO IR87", Hl7Charset::Utf8).unwrap();
    let peer = MllpDestination::new(hospital.engine.mllp.clone(), japan);

    peer.exchange(&text).await.unwrap();
    let runs = hospital.ended_runs(1).await;

    let run = hospital.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]);
    let rows = run["outputs"]["table"]["laboratory"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|it| it["entry_name"].as_str().unwrap()).collect();
    assert_eq!(names, ["総蛋白", "糖定性"]);
    let [oru] = hospital.ehr.received().try_into().unwrap();
    assert!(oru.contains("宮本^太郎"), "{oru}");
    assert_eq!(hospital.ask(&["why", "J1"])["messages"][0]["flags"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_60_a_document_starts_what_its_bytes_are_and_why_says_what_starts_nothing() {
    let document = "workflow: document
on: { document: { when: '\"application/pdf\" in message.media_types' } }
nodes: { table: { plugin: lab-report-parsing, retry: { attempts: 1 } } }
";
    let table = std::fs::read_to_string(system_tests::root().join("workflows/lab-table.yaml"));
    let table = table.unwrap();
    let files = [("document", document), ("lab-table", table.as_str())];
    let hospital =
        Hospital::with(SiteOptions { workflows: &files, ..SiteOptions::default() }).await;
    let send = async |id: &str, obx: &str| {
        let rest = format!("PID|1||9^^^HOSP^MR||DOE^JANE\rOBR|1\rOBX|1|{obx}||||||F");
        assert_eq!(hospital.send_message(&message("ORU^R01", id, "", &rest)).await, "AA");
    };
    let pdf = "JVBERi0x".repeat(10);
    send("PLAIN", &format!("ED|P^^L||^application^pdf^Base64^{pdf}")).await;
    send("UNTYPED", &format!("ED|P^^L||^^^^{pdf}")).await;
    send("TEXT", &format!("TX|P^^L||{pdf}")).await;
    send("HEX", "ED|P^^L||^application^pdf^Hex^255044462D312E33").await;
    send("POINTER", "RP|P^^L||server/report.pdf^LAB^application^pdf").await;
    let runs = hospital.ended_runs(4).await;

    assert!(runs.iter().all(|it| it["workflow"] == "document"), "{runs:?}");
    for (id, flags) in [
        ("PLAIN", vec![]),
        ("UNTYPED", vec!["document_encoding_differs"]),
        ("TEXT", vec!["document_as_text"]),
        ("HEX", vec![]),
        ("POINTER", vec!["document_by_pointer"]),
    ] {
        let message = &hospital.ask(&["why", id])["messages"][0];
        assert_eq!(message["flags"], serde_json::json!(flags), "{id}");
    }
    let why = hospital.command(&["why", "POINTER"]);
    let text = String::from_utf8(why.stdout).unwrap();
    assert!(text.contains("no workflow started on it"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_24_a_result_without_event_and_with_a_bare_segment_starts_its_workflow() {
    let hospital = Hospital::open().await;
    let rest = "PID|1||9^^^HOSP^MR||DOE^JANE\rPV1\rOBR|1\r\
        OBX|1|NM|2823-3^Potassium^LN||4.1|mmol/L|3.5-5.1|N|||F";

    assert_eq!(hospital.send_message(&message("ORU", "N1", "", rest)).await, "AA");
    let runs = hospital.ended_runs(1).await;

    assert_eq!(runs[0]["workflow"], "lab-table");
    let why = hospital.ask(&["why", "N1"]);
    assert_eq!(why["messages"][0]["message_type"], "ORU^R01");
    assert_eq!(why["messages"][0]["flags"], serde_json::json!(["event_missing"]));
}
