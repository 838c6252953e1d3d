//! Documents in messages, in every form that senders choose.

use crate::case::run;
use crate::message::{Answered, reports_of};
use crate::site::Kind;

/// The rows of the PDF of the case.
const ROWS: [(&str, &str); 3] =
    [("Leukocytes", "12.3"), ("Hemoglobin", "135"), ("Platelets", "210")];

fn has_rows(sent: &Answered) -> bool {
    let rows = sent.rows();
    let has = |name: &str, value: &str| rows.iter().any(|it| it.0 == name && it.1 == value);
    ROWS.iter().all(|(name, value)| has(name, value))
}

#[test]
fn field_h10_documents_in_messages() {
    run(Kind::Hospital, "h10-documents-in-messages", async |site, case| {
        let hospital = &site.hospital;
        let read = ["a-hex", "b-untyped", "c-no-type", "d-type-only", "h-good", "j-base64-breaks"];
        for name in read {
            let sent = case.send(hospital, &format!("{name}.hl7")).await;
            let seen = format!("{} {:?} {}", sent.code, sent.rows(), sent.told());
            case.check(name, has_rows(&sent), seen);
        }
        let sent = case.send(hospital, "f-chunks.hl7").await;
        let told = sent.told();
        let is_told = !told.is_empty() && !told.contains("Invalid");
        case.check("f-chunks", has_rows(&sent) || is_told, told);
        let sent = case.send(hospital, "e-as-text.hl7").await;
        let is_sent = reports_of(hospital, "H10E").iter().any(|it| it.text.contains("JVBERi0"));
        case.check("e-as-text", !is_sent, "base64 goes out as a result");
        let is_told = has_rows(&sent) || !sent.told().is_empty();
        case.check("e-as-text is read or told", is_told, &sent.why);
        for name in ["g-pointer", "i-broken-base64"] {
            let sent = case.send(hospital, &format!("{name}.hl7")).await;
            let told = sent.told();
            let is_true = !told.is_empty() && !told.contains("neither a result nor a paper");
            case.check(name, is_true, told);
        }
        let sent = case.send(hospital, "k-results-and-hex.hl7").await;
        let reports = reports_of(hospital, "H10K");
        let has_potassium = reports.iter().any(|it| it.row("4.1").is_some());
        case.check("k-results-and-hex", has_potassium, sent.told());
    });
}
