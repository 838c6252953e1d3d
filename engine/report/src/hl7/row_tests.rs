//! Tests of the rows of ORU: their keys, and those that do not hold any more.

use contracts::Output;
use domain::{
    Code, LabRow, LaboratoryOrder, LaboratoryStatus, Laterality, OrderNumber, OutputKind,
    ResultStatus, ReviewState, RowSource,
};

use crate::fixture::Fixture;

fn one(fixture: &Fixture, kind: OutputKind) -> Output {
    fixture.compose(&[kind]).unwrap().remove(0)
}

fn message(fixture: &Fixture, kind: OutputKind) -> String {
    String::from_utf8(one(fixture, kind).bytes).unwrap()
}

#[test]
fn hl7_53_rows_keep_their_keys_and_those_taken_out_are_deleted() {
    let mut fixture = Fixture::new().laboratory();
    fixture.results.laboratory[0].key = 7;
    let taken_out = LabRow { key: 3, ..fixture.results.laboratory[0].clone() };
    fixture.context.taken_out.rows = vec![taken_out];
    let rows = |oru: &str| -> Vec<[String; 3]> {
        let rows = oru.split('\r').filter(|it| it.contains("Glucose"));
        rows.map(|it| [4, 5, 11].map(|at| it.split('|').nth(at).unwrap().to_owned())).collect()
    };
    let text = |all: &[[&str; 3]]| -> Vec<[String; 3]> {
        all.iter().map(|it| it.map(str::to_owned)).collect()
    };
    let first = fixture.compose(&[OutputKind::Oru]).unwrap();
    let oru = String::from_utf8(first[0].bytes.clone()).unwrap();
    assert_eq!(rows(&oru), text(&[["7", "7.8", "R"]]), "{oru}");

    let mut again = Fixture::new().laboratory().sent_before(&first, true);
    again.results.laboratory[0].key = 7;
    again.context.taken_out = fixture.context.taken_out.clone();
    let oru = message(&again, OutputKind::Oru);
    assert_eq!(rows(&oru), text(&[["7", "7.8", "R"], ["3", "", "D"]]), "{oru}");
}

#[test]
fn hl7_60_what_the_laboratory_took_back_is_stated_without_its_value() {
    let mut fixture = Fixture::new().laboratory();
    let row = &mut fixture.results.laboratory[0];
    row.result.clear();
    row.abnormality = domain::Abnormality::Unknown;
    row.withdrawn = Some(domain::NoResult::Wrong);
    let oru = message(&fixture, OutputKind::Oru);
    let line = oru.split('\r').find(|it| it.contains("Glucose")).unwrap();
    assert_eq!((line.split('|').nth(5), line.split('|').nth(11)), (Some(""), Some("W")));
    let bundle = String::from_utf8(one(&fixture, OutputKind::Fhir).bytes).unwrap();
    assert!(bundle.contains("entered-in-error") && !bundle.contains("7.8"), "{bundle}");
}

/// A row of an order of the laboratory, as that stated it or not.
fn sourced(name: &str, filler: &str, status: Option<LaboratoryStatus>) -> LabRow {
    let row = Fixture::new().laboratory().results.laboratory.remove(0);
    let filler = OrderNumber { number: filler.to_owned(), ..OrderNumber::default() };
    let placer = OrderNumber { number: format!("P{}", filler.number), ..OrderNumber::default() };
    let order = LaboratoryOrder { placer, filler, accession: "A&1".to_owned() };
    LabRow { entry_name: name.to_owned(), source: Some(RowSource { order, status }), ..row }
}

fn with_rows(status: ResultStatus, rows: &[LabRow]) -> Fixture {
    let mut fixture = Fixture::with_status(status).laboratory();
    fixture.context.study = None;
    fixture.results.laboratory = rows.to_vec();
    fixture
}

/// Each OBR as its status (OBR-25) with those of its rows (name and OBX-11).
fn groups(oru: &str) -> Vec<String> {
    let mut groups: Vec<String> = Vec::new();
    for line in oru.split('\r') {
        let fields: Vec<&str> = line.split('|').collect();
        match fields[0] {
            "OBR" => groups.push(fields[25].to_owned()),
            "OBX" => {
                let name = fields[3].split('^').nth(1).unwrap();
                let group = groups.last_mut().unwrap();
                *group = format!("{group} {name}={}", fields[11]);
            }
            _ => {}
        }
    }
    groups
}

#[test]
fn hl7_64_what_a_laboratory_has_stated_keeps_its_status_and_its_order_is_named() {
    use LaboratoryStatus::{Corrected, Final, Preliminary};
    let rows = [
        sourced("K", "F1", Some(Corrected)),
        sourced("Na", "F1", Some(Final)),
        sourced("CRP", "F2", Some(Preliminary)),
        sourced("TSH", "F3", None),
        LabRow { source: None, ..sourced("Read", "", None) },
    ];
    let oru = message(&with_rows(ResultStatus::AiDraft, &rows), OutputKind::Oru);
    let expected =
        ["C K=C Na=F", "P CRP=P", "R TSH=R", "R Procedure findings=R Read=R"].map(str::to_owned);
    assert_eq!(groups(&oru), expected, "{oru}");

    let obr: Vec<Vec<&str>> = oru
        .split('\r')
        .filter(|it| it.starts_with("OBR"))
        .map(|it| it.split('|').collect())
        .collect();
    // A receiver takes it for no result of the laboratory: only OBR-29 has its numbers.
    assert_eq!((obr[0][2], obr[0][18], obr[0][29]), ("", "A\\T\\1", "PF1^F1"));
    assert_eq!(obr[0][4], "11502-2^Laboratory report^LN");
    let numbers: std::collections::BTreeSet<&str> = obr.iter().map(|it| it[3]).collect();
    assert_eq!(numbers.len(), 4, "{numbers:?}");
    assert!(numbers.iter().all(|it| it.len() == 20), "{numbers:?}");
    // Nothing says of a value of the laboratory that a machine has made it.
    let potassium = oru.split('\r').skip_while(|it| !it.contains("^K^")).take(2);
    let potassium: Vec<&str> = potassium.collect();
    assert!(!potassium[0].contains("AI^"), "{potassium:?}");
    assert!(potassium[1].contains("Passed on from the laboratory unchanged"), "{potassium:?}");
}

#[test]
fn hl7_51_a_signature_ends_no_preliminary_result_of_the_laboratory() {
    use LaboratoryStatus::{Final, NotVerified, Preliminary};
    let rows = [
        sourced("K", "F1", Some(Final)),
        sourced("Na", "F1", None),
        sourced("CRP", "F2", Some(Preliminary)),
        sourced("TSH", "F3", Some(NotVerified)),
    ];
    let signed = with_rows(ResultStatus::Signed, &rows);
    let statuses = |fixture: &Fixture| groups(&message(fixture, OutputKind::Oru));
    let expected = ["F K=F Na=F", "P CRP=P", "R TSH=R", "F Procedure findings=F"];
    assert_eq!(statuses(&signed), expected);
    let sent = signed.compose(&[OutputKind::Oru]).unwrap();
    let again = signed.clone().sent_before(&sent, true).sent_as(ReviewState::Signed);
    assert_eq!(statuses(&again)[0], "C K=C Na=C");
    let withdrawn = with_rows(ResultStatus::Withdrawn, &rows).sent_before(&sent, true);
    let expected = ["X K=W Na=W", "X CRP=W", "X TSH=W", "X Procedure findings=W"];
    assert_eq!(statuses(&withdrawn), expected);
}

#[test]
fn hl7_53_each_order_keeps_its_number_and_a_row_taken_out_is_deleted_there() {
    let row = sourced("K", "F1", Some(LaboratoryStatus::Final));
    let other = LabRow { key: 2, ..sourced("K", "F2", Some(LaboratoryStatus::Final)) };
    let numbers = |oru: &str| -> Vec<String> {
        let lines = oru.split('\r').filter(|it| it.starts_with("OBR"));
        lines.map(|it| it.split('|').nth(3).unwrap().to_owned()).collect()
    };
    let first = with_rows(ResultStatus::AiDraft, &[row.clone(), other.clone()]);
    let sent = first.compose(&[OutputKind::Oru]).unwrap();
    let mut next = with_rows(ResultStatus::HumanEdited, &[other]).sent_before(&sent, true);
    next.context.taken_out.rows = vec![row];
    let before = numbers(&message(&first, OutputKind::Oru));
    let oru = message(&next, OutputKind::Oru);
    let after = numbers(&oru);
    assert_eq!([&before[1], &before[0], &before[2]], [&after[0], &after[1], &after[2]]);
    let expected = ["F K=F", "P K=D", "P Procedure findings=P"];
    assert_eq!(groups(&oru), expected);
    // A report that was withdrawn by the laboratory itself.
    let back = LabRow {
        withdrawn: Some(domain::NoResult::Wrong),
        result: String::new(),
        ..sourced("K", "F1", None)
    };
    let oru = message(&with_rows(ResultStatus::AiDraft, &[back]), OutputKind::Oru);
    assert_eq!(groups(&oru), ["C K=W", "R Procedure findings=R"]);
}

#[test]
fn out_31_what_became_of_a_finding_is_a_coded_row_that_keeps_its_key() {
    let changed = |fixture: &mut Fixture| {
        let finding = &mut fixture.results.findings[0];
        finding.change = Some(Code::new("35105006", "SCT", "Increased"));
        finding.laterality = Some(Laterality::Left);
    };
    let rows = |oru: &str| -> Vec<String> {
        oru.split('\r').filter(|it| it.contains("|CWE|")).map(str::to_owned).collect()
    };
    assert_eq!(rows(&message(&Fixture::new(), OutputKind::Oru)), Vec::<String>::new());
    let mut fixture = Fixture::new();
    changed(&mut fixture);
    let sent = fixture.compose(&[OutputKind::Oru]).unwrap();
    let oru = String::from_utf8(sent[0].bytes.clone()).unwrap();
    let [row] = rows(&oru).try_into().unwrap();
    let expected = "OBX|2|CWE|72704001^Fracture^SCT|2|35105006^Increased^SCT||||||R|";
    assert!(row.starts_with(expected), "{row}");

    // A person has taken it out of the draft that the receiver has.
    let mut again = Fixture::new().sent_before(&sent, true);
    again.context.taken_out.changes = domain::row_keys::changes(&fixture.results.findings);
    let [row] = rows(&message(&again, OutputKind::Oru)).try_into().unwrap();
    assert!(row.starts_with("OBX|2|CWE|72704001^Fracture^SCT|2|||||||D|"), "{row}");

    let mut withdrawn = Fixture::with_status(ResultStatus::Withdrawn).sent_before(&sent, true);
    changed(&mut withdrawn);
    let [row] = rows(&message(&withdrawn, OutputKind::Oru)).try_into().unwrap();
    assert!(row.starts_with("OBX|2|CWE|72704001^Fracture^SCT|2|||||||W|"), "{row}");

    let bundle = String::from_utf8(one(&fixture, OutputKind::Fhir).bytes).unwrap();
    let bundle: serde_json::Value = serde_json::from_str(&bundle).unwrap();
    let entries = bundle["entry"].as_array().unwrap().iter();
    let components: Vec<_> = entries
        .filter_map(|it| it["resource"].get("component"))
        .filter_map(|it| it.as_array())
        .collect();
    let [component] = components.as_slice() else { panic!("{components:?}") };
    assert_eq!(component[0]["code"]["coding"][0]["code"], "288533004");
    assert_eq!(component[0]["valueCodeableConcept"]["coding"][0]["code"], "35105006");
}

#[test]
fn out_31_two_changes_of_one_finding_and_side_have_two_keys() {
    let mut fixture = Fixture::new();
    fixture.results.findings[0].change = Some(Code::new("35105006", "SCT", "Increased"));
    let second = fixture.results.findings[0].clone();
    fixture.results.findings.push(second);
    let keys: Vec<String> =
        domain::row_keys::changes(&fixture.results.findings).into_iter().map(|it| it.key).collect();
    assert_eq!(keys, ["1", "1.2"]);
}
