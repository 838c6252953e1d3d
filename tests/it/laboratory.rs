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
