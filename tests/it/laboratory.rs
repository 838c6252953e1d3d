//! Laboratory results become a table with flags that the engine computes (HL7-60..64, PAP-12).

use system_tests::Hospital;

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
