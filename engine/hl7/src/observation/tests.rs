//! The requirements on observations: HL7-22, HL7-60, HL7-61.

use contracts::MessageEffect;
use domain::Observation;

use crate::Rules;
use crate::receiver::judge;

/// The observations of a message, by its type and time, and the segments after MSH.
#[track_caller]
fn of(kind: &str, sent_at: &str, rest: &str) -> Vec<Observation> {
    let text = format!("MSH|^~\\&|LAB|H|ISO|H|{sent_at}||{kind}|M1|P|2.5.1\rPID|1||7^^^H\r{rest}");
    let effects = judge(text.as_bytes(), &Rules::default()).unwrap().effects.unwrap();
    let documents = effects.into_iter().filter_map(|it| match it {
        MessageEffect::Document { document, .. } => Some(document),
        _ => None,
    });
    documents.flat_map(|it| it.observations).collect()
}

fn oru(rest: &str) -> Vec<Observation> {
    of("ORU^R01", "20260103101500+0100", rest)
}

#[track_caller]
fn check_value(value_type: &str, written: &str, expected: &str) {
    let found = oru(&format!("OBR|1\rOBX|1|{value_type}|A^B^L||{written}||||||F"));
    assert_eq!(found[0].value, expected, "{value_type} {written}");
}

#[test]
fn hl7_60_a_value_of_every_type_is_read() {
    check_value("CE", "^^^ECOLI^Escherichia coli^L", "Escherichia coli");
    check_value("CE", "ECOLI^^L", "ECOLI");
    check_value("CE", "^^^ECOLI^^L", "ECOLI");
    check_value("CWE", "^A positive^L", "A positive");
    check_value("CWE", "^^^^^^^^Gram positive rods", "Gram positive rods");
    check_value("CWE", "1^^L^^^^^^Gram positive rods", "Gram positive rods");
    check_value("CWE", "1^One^L~2^Two^L", "One\nTwo");
    check_value("DT", "20251201", "20251201");
    check_value("DTM", "202512010815", "202512010815");
    check_value("TM", "0815", "0815");
    check_value("TS", "20251201^D", "20251201");
    check_value("NA", "1.1^1.2^^1.4", "1.1; 1.2; ; 1.4");
    check_value("NR", "1^5", "1-5");
    check_value("NR", "^5", "<=5");
    check_value("NR", "1^", ">=1");
    check_value("DR", "20251201^20251203", "20251201 to 20251203");
    check_value("SN", ">=^32", ">=32");
    check_value("SN", "^1^:^128", "1:128");
    check_value("NM", "5.10", "5.10");
    check_value("TX", "Line one~Line two \\T\\ three", "Line one\nLine two & three");
    check_value("CX", "0815^^^LAB", "0815 LAB");
    check_value("NM", "\"\"", "");
    check_value("ST", "10^5", "10^5");
}

#[test]
fn hl7_60_the_name_is_of_one_triplet() {
    let name = |obx_3: &str| {
        let found = oru(&format!("OBR|1\rOBX|1|NM|{obx_3}||1||||||F")).remove(0);
        [found.code, found.name, found.scheme].join(" ")
    };
    assert_eq!(name("K^Potassium^L^2823-3^Kalium^LN"), "K Potassium L");
    assert_eq!(name("^^^2823-3^Kalium^LN"), "2823-3 Kalium LN");
    // The scheme of the other triplet would make another analyte of the code.
    assert_eq!(name("K^Potassium^^2823-3^Kalium^LN"), "K Potassium ");
}

#[test]
fn hl7_63_all_flags_of_a_result_are_kept() {
    let flag = |obx_8: &str| oru(&format!("OBR|1\rOBX|1|NM|A||1|||{obx_8}|||F")).remove(0).flag;
    assert_eq!(flag("L~LL"), "L~LL");
    assert_eq!(flag("HH"), "HH");
    assert_eq!(flag("H^High^HL70078"), "H");
    assert_eq!(flag(""), "");
}

#[test]
fn hl7_60_panel_specimen_time_and_notes_are_of_their_result() {
    let found = oru("ORC|RE|P1|F1\rOBR|1|P1|F1|GLU^Glucose^L|||20260103080000||||||||SER^Serum\r\
         NTE|1|L|Fasting\rOBX|1|NM|GLU^Glucose^L||96||||||F\rOBX|2|NM|K||4||||||F|||202601030805\r\
         NTE|1|L|Hemolysed\rNTE|2|L|Repeated~twice\r\
         ORC|RE|P2|F2\rOBR|2|P2|F2|GLU^Glucose^L|||20260103081000\r\
         OBX|1|NM|GLU^Glucose^L||21||||||F|||20260103\rNTE|1|L|Phoned\r\
         SPM|1|||CSF^Cerebrospinal fluid^HL70487\rSPM|2|||CSF^Cerebrospinal fluid^HL70487");
    let lines = found.iter().map(|it| {
        let about = &it.circumstances;
        let time = about.observed_at.clone().unwrap();
        let instant = time.instant.unwrap();
        format!(
            "{} {} {} {} {instant} {:?}",
            it.value, about.panel, about.specimen, time.text, about.notes
        )
    });
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [
            "96 Glucose SER, Serum 20260103080000 2026-01-03T07:00:00Z [\"Fasting\"]",
            "4 Glucose SER, Serum 202601030805 2026-01-03T07:05:00Z \
             [\"Fasting\", \"Hemolysed\", \"Repeated\\ntwice\"]",
            "21 Glucose Cerebrospinal fluid; Cerebrospinal fluid (specimen 2) 20260103081000 \
             2026-01-03T07:10:00Z [\"Phoned\"]",
        ]
    );
}

#[test]
fn hl7_60_a_specimen_holds_for_the_orders_behind_it_where_it_comes_first() {
    let rest = "SPM|1|||BLD^Blood|||||||||||||20260103070000\rOBR|1||F1|A^First\rORC|RE||F1\r\
        OBX|1|NM|A||1||||||F\rOBR|2||F2|B^Second\rOBX|1|NM|B||2||||||F\rSPM|2|||UR^Urine\r\
        OBR|3||F3|C^Third\rOBX|1|NM|C||3||||||F";
    let lines = |kind: &str, rest: &str| -> Vec<String> {
        let found = of(kind, "20260103", rest);
        let about = found.iter().map(|it| (&it.value, &it.circumstances));
        about.map(|(value, it)| format!("{value} {} {}", it.panel, it.specimen)).collect()
    };
    assert_eq!(lines("OUL^R22", rest), ["1 First Blood", "2 Second Blood", "3 Third Urine"]);
    let rest = "OBR|1||F1|A^First\rORC|RE||F1\rOBX|1|NM|A||1||||||F\rSPM|1|||BLD^Blood\r\
        OBR|2||F2|B^Second\rOBX|1|NM|B||2||||||F\rSPM|2|||UR^Urine";
    assert_eq!(lines("OUL^R24", rest), ["1 First Blood", "2 Second Urine"]);
}

#[test]
fn hl7_60_no_time_of_processing_stands_for_one_that_is_not_stated() {
    let found = oru("OBR|1\rOBX|1|NM|A||1||||||F").remove(0);
    assert_eq!(found.circumstances.observed_at, None);
}

#[test]
fn hl7_60_an_original_text_is_not_lost_beside_its_code() {
    let found = oru("OBR|1\rOBX|1|CWE|A||1^One^L^^^^^^one or more||||||F").remove(0);
    assert_eq!((found.value.as_str(), found.circumstances.notes.len()), ("One", 1));
    assert_eq!(found.circumstances.notes[0], "Original text: one or more");
}
