//! Tests of the rows of ORU: their keys, and those that do not hold any more.

use contracts::Output;
use domain::OutputKind;

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
    let taken_out = domain::LabRow { key: 3, ..fixture.results.laboratory[0].clone() };
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
