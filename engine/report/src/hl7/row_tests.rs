//! Tests of the rows of ORU: their keys, and those that do not hold any more.

use contracts::Output;
use domain::{
    AnsweredOrder, Circumstances, Code, LabRow, Laterality, OrderNumber, OutputKind, ResultStatus,
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

fn row_of(name: &str, placer: &str, filler: &str) -> LabRow {
    let number = |number: &str| OrderNumber { number: number.to_owned(), ..OrderNumber::default() };
    let order = AnsweredOrder { placer: number(placer), filler: number(filler) };
    LabRow {
        entry_name: name.to_owned(),
        result: "1".to_owned(),
        key: 1,
        circumstances: Circumstances { order: Some(order), ..Circumstances::default() },
        ..LabRow::default()
    }
}

/// Each OBR with its numbers (OBR-2, OBR-3, OBR-29), and the names of the observations below it.
fn ordered(oru: &str) -> Vec<([String; 3], Vec<String>)> {
    let mut orders: Vec<([String; 3], Vec<String>)> = Vec::new();
    for segment in oru.split('\r') {
        let field = |at: usize| segment.split('|').nth(at).unwrap_or_default().to_owned();
        if segment.starts_with("OBR|") {
            orders.push(([field(2), field(3), field(29)], Vec::new()));
        } else if segment.starts_with("OBX|") {
            let name = field(3).split('^').nth(1).unwrap().to_owned();
            assert_eq!(field(1), (orders.last().unwrap().1.len() + 1).to_string(), "{segment}");
            orders.last_mut().unwrap().1.push(name);
        }
    }
    orders
}

#[test]
fn hl7_42_rows_of_several_orders_of_a_laboratory_do_not_share_an_obr() {
    let mut fixture = Fixture::new().laboratory();
    fixture.context.study = None;
    let rows = [
        row_of("Glucose", "P1", "F1"),
        row_of("Sodium", "P2", "F2"),
        row_of("Potassium", "P2", "F2"),
        row_of("Lactate", "P1", "F1"),
    ];
    fixture.results.laboratory = rows[..1].to_vec();
    let one = ordered(&message(&fixture, OutputKind::Oru));
    let [(numbers, names)] = one.as_slice() else { panic!("{one:?}") };
    assert_eq!((numbers[0].as_str(), numbers[2].as_str()), ("", "P1^F1"));
    assert_eq!(*names, ["Procedure findings", "Glucose"]);
    let own = numbers[1].clone();

    fixture.results.laboratory = rows.to_vec();
    let sent = fixture.compose(&[OutputKind::Oru]).unwrap();
    let orders = ordered(std::str::from_utf8(&sent[0].bytes).unwrap());
    let parents: Vec<&str> = orders.iter().map(|it| it.0[2].as_str()).collect();
    assert_eq!(parents, ["", "P1^F1", "P2^F2"]);
    let names: Vec<&[String]> = orders.iter().map(|it| it.1.as_slice()).collect();
    assert_eq!(names[0], ["Procedure findings"]);
    assert_eq!(names[1], ["Glucose", "Lactate"]);
    assert_eq!(names[2], ["Sodium", "Potassium"]);
    assert_eq!(orders[0].0[1], own, "the report keeps its number");
    // Never under the numbers of the laboratory (HL7-64), and each under one of its own.
    assert!(orders.iter().all(|it| it.0[0].is_empty() && !it.0[1].starts_with('F')));
    assert!(orders[1].0[1] != orders[2].0[1] && orders[1].0[1] != own);
    assert_eq!(ordered(&message(&fixture, OutputKind::Mdm)).len(), 1);

    // A person takes the rows of one order out: the other keeps its number.
    let mut again = fixture.clone().sent_before(&sent, true);
    again.results.laboratory.retain(|it| it.entry_name != "Glucose" && it.entry_name != "Lactate");
    again.context.taken_out.rows = vec![rows[0].clone(), rows[3].clone()];
    let later = ordered(&message(&again, OutputKind::Oru));
    assert_eq!(later.iter().map(|it| &it.0[1]).collect::<Vec<_>>().len(), 3);
    let number = |orders: &[([String; 3], Vec<String>)], parent: &str| {
        orders.iter().find(|it| it.0[2] == parent).unwrap().0[1].clone()
    };
    for parent in ["P1^F1", "P2^F2"] {
        assert_eq!(number(&later, parent), number(&orders, parent));
    }
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
