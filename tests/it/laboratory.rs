//! Laboratory results become a table with flags of our own (HL7-60..64, PAP-12).

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
    let row = |at: usize| {
        let it = &rows[at];
        let text = |name: &str| it[name].as_str().unwrap().to_owned();
        (
            text("entry_name"),
            text("result"),
            text("reference"),
            text("unit"),
            text("abnormality"),
            it["disagrees"].as_bool().unwrap(),
        )
    };
    let of = |a: &str, b: &str, c: &str, d: &str, e: &str, f: bool| {
        (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned(), e.to_owned(), f)
    };
    assert_eq!(rows.len(), 3);
    assert_eq!(row(0), of("Leukocytes", "12.3", "3.5-9.5", "10*9/L", "high", true));
    assert_eq!(row(1), of("CRP", "<0.5", "<5.0", "mg/L", "normal", false));
    assert_eq!(row(2), of("Protein Ur Ql", "1+", "Negative", "", "abnormal", false));
    let [oru] = hospital.ehr.received().try_into().unwrap();
    assert!(oru.contains("|12.3|10*9/L|3.5-9.5|H|||R|"), "{oru}");
    assert!(oru.contains("PID|1||77^^^HOSP^MR"), "{oru}");
}
