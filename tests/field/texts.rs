//! Character sets of messages, under all the names that senders give them.

use std::fs;

use crate::case::run;
use crate::images::python_lines;
use crate::message::{reports_of, send, why};
use crate::site::Kind;

#[test]
fn field_h08_japanese_msh18() {
    run(Kind::Hospital, "h08-japanese-msh18", async |site, case| {
        let hospital = &site.hospital;
        let sent = case.send(hospital, "in.hl7").await;

        case.check("taken", sent.code == "AA", &sent.answer);
        let reports = reports_of(hospital, "9999013");
        case.check("one report", reports.len() == 1, reports.len());
        let name = reports.first().map(|it| it.field("PID", 5)).unwrap_or_default();
        case.check("name", name.contains("宮本^太郎"), name);
        for (value, test) in [("7.1", "総蛋白"), ("陰性", "尿糖")] {
            let row = reports.first().and_then(|it| it.row(value)).unwrap_or_default();
            case.check(format!("row of {value}"), row.name == test, format!("`{}`", row.name));
        }
    });
}

/// Names that leave no doubt.
const UNDOUBTED: [&str; 17] = [
    "8859/1",
    "ISO-8859-1",
    "WINDOWS-1252",
    "windows-1252",
    "8859-1",
    "ISO8859-1",
    "8859/15",
    "ISO-8859-15",
    "ISO IR6",
    "ISO IR14",
    "UNICODE UTF-8",
    "UTF-8",
    "GB2312",
    "GBK",
    "GB 18030-2000",
    "KS X 1001",
    "ASCII",
];

/// The name that a message in this character set states.
fn name_in(term: &str) -> &'static str {
    match term {
        "GB2312" | "GBK" | "GB 18030-2000" => "王^小东",
        "KS X 1001" => "홍^길동",
        "ISO IR6" | "ISO IR14" | "ASCII" => "DOE^JANE",
        _ => "MÜLLER^JÖRG",
    }
}

/// The case sends an ADT for each name. An ORU of the same patient without a name shows how it was
/// read.
#[test]
fn field_h09_names_of_character_sets() {
    run(Kind::Hospital, "h09-names-of-character-sets", async |site, case| {
        let hospital = &site.hospital;
        let answers = python_lines(site, case, "run.py");
        let terms = fs::read_to_string(case.folder.join("names.txt")).unwrap();
        for (number, term) in terms.lines().enumerate() {
            let patient = format!("H09{number:02}");
            let answer = answers.get(number).cloned().unwrap_or_default();
            if answer.contains("MSA|AA|") {
                let oru = format!(
                    "MSH|^~\\&|LAB|HOSP|ISO|HOSP|20260103101500||ORU^R01|{patient}R|P|2.5.1\n\
                     PID|1||{patient}^^^HOSP^MR\nOBR|1|P|F|24323-8^Panel^LN\n\
                     OBX|1|NM|2823-3^Potassium^LN||4.1|mmol/L|3.5-5.1|N|||F\n"
                );
                send(hospital, oru.as_bytes()).await;
                let reports = reports_of(hospital, &patient);
                let name = reports.first().map(|it| it.field("PID", 5)).unwrap_or_default();
                case.check(term, name == name_in(term), format!("{name}; {answer}"));
                continue;
            }
            let kept = why(hospital, &patient);
            let is_kept = !kept["messages"].as_array().is_none_or(Vec::is_empty);
            let is_right = answer.contains("MSA|AE|") && answer.contains("102") && is_kept;
            let is_right = is_right && !UNDOUBTED.contains(&term);
            case.check(term, is_right, format!("kept: {is_kept}; {answer}"));
        }
    });
}
