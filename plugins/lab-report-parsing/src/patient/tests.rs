//! The requirements on the patient whom a page names: PAP-10.

use super::*;
use crate::page::Word;

/// A page with these lines: cells are set apart by `|`.
fn page(lines: &[&str]) -> Page {
    let mut words = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let top = 50.0 + 20.0 * at as f32;
        for (column, text) in line.split('|').enumerate() {
            let left = 50.0 + 150.0 * column as f32;
            let right = left + 5.0 * text.chars().count() as f32;
            let text = text.to_owned();
            words.push(Word { text, left, top, right, bottom: top + 11.0, chinese: None });
        }
    }
    Page { words, ..Page::default() }
}

fn found(page: &Page) -> Vec<PagePatient> {
    of_page(page, PatientLabels::standard())
}

#[track_caller]
fn check(lines: &[&str], name: &str, birth_date: &str, sex: &str, number: &str) {
    let found = found(&page(lines));
    let [only] = found.as_slice() else { panic!("{} patients in {lines:?}", found.len()) };
    let stated = &only.stated;
    assert_eq!(stated.name, name, "{lines:?}");
    let first = |it: &[String]| it.first().cloned().unwrap_or_default();
    assert_eq!(first(&stated.birth_dates), birth_date, "{lines:?}");
    assert_eq!(stated.sex, sex, "{lines:?}");
    let numbers: Vec<&str> = stated.identifiers.iter().map(|it| it.value.as_str()).collect();
    assert_eq!(numbers.join(" "), number, "{lines:?}");
}

const TABLE: &str = "Test|Result|Unit|Reference";

#[test]
fn pap_10_the_patient_of_a_page_is_read_in_english() {
    check(
        &["Patient: ALPHA, Anna born 01.01.1950", TABLE, "Sodium|140|mmol/L|136-145"],
        "ALPHA Anna",
        "19500101",
        "",
        "",
    );
    check(
        &["Name: Jane Doe|Sex: F|Age: 45", "MRN: 0004711|Specimen: Serum", TABLE],
        "Jane Doe",
        "",
        "F",
        "0004711",
    );
    check(
        &["Patient name|DOB|Sex|MRN", "Jane Doe|01/02/1980|Female|4711", TABLE],
        "Jane Doe",
        "19800201",
        "F",
        "4711",
    );
    check(&["Patient|Jane Doe|DOB|1 Jan 1980"], "Jane Doe", "19800101", "", "");
    check(&["Patient name:", "Jane Doe", TABLE], "Jane Doe", "", "", "");
    check(
        &["Jane DOB 01/01/1980 MRN 4711", "Doctor name: Gregory House", TABLE],
        "",
        "19800101",
        "",
        "4711",
    );
    check(&["Sex/Age: M/34", "Midwife name: Mary Moss"], "", "", "M", "");
}

#[test]
fn pap_10_the_patient_of_a_page_is_read_in_chinese() {
    check(
        &[
            "姓名：李小梅|性别：女|出生日期：1980年1月2日|病历号：123456",
            "检验项目|结果|单位|参考区间",
        ],
        "李小梅",
        "19800102",
        "F",
        "123456",
    );
    check(&["姓名：李小梅 性别：女 年龄：45岁 科室：内科"], "李小梅", "", "F", "");
    check(&["姓名:李小梅性别:女住院号:0012345"], "李小梅", "", "F", "0012345");
    check(&["姓名李小梅", "送检医生：王伟 母亲姓名：张芳"], "李小梅", "", "", "");
    check(&["患者姓名 李小梅"], "李小梅", "", "", "");
}

#[test]
fn pap_10_what_is_no_name_of_a_patient_is_none() {
    for lines in [
        &["Name|Ergebnis|Einheit", "Natrium|140|mmol/l"][..],
        &[TABLE, "Patient comment|none|-|-"],
        &["Patient information", "Verified by: J. Smith"],
        &["Hospital name: Riverside", "Referring physician: Gregory House"],
        &["Patient: is a 45 year old man with cough"],
        &["审核者：张敏 检验者：王伟"],
    ] {
        let found = found(&page(lines));
        assert!(found.iter().all(|it| it.stated.name.is_empty()), "{lines:?}");
    }
}

/// Field case p01, G: and two patients on one page.
#[test]
fn pap_10_two_patients_on_one_page_are_two() {
    let lines = [
        "Patient: ALPHA, Anna|DOB: 01.01.1950",
        TABLE,
        "Sodium|140|mmol/L|136-145",
        "Patient: BETA, Bert|DOB: 02.02.1960",
        TABLE,
    ];
    let found = found(&page(&lines));
    let names: Vec<&str> = found.iter().map(|it| it.stated.name.as_str()).collect();
    assert_eq!(names, ["ALPHA Anna", "BETA Bert"]);
    let difference = found[0].stated.compared_with_page(&found[1].stated);
    assert_eq!(difference.conflicts.len(), 2);
    let twice = ["Patient: ALPHA, Anna", TABLE, "Patient: Alpha, Anna"];
    assert_eq!(of_page(&page(&twice), PatientLabels::standard()).len(), 1);
}

#[test]
fn pap_10_a_label_with_a_misread_letter_is_known_on_a_recognised_page() {
    let recognised = Page { is_recognised: true, ..page(&["Patlent: Jane Doe", TABLE]) };
    assert_eq!(found(&recognised)[0].stated.name, "Jane Doe");
    assert!(found(&page(&["Patlent: Jane Doe", TABLE])).is_empty());
}

#[test]
fn pap_10_sex_and_age_are_those_of_the_pages_or_else_of_the_message() {
    let known = PatientFacts { age: "040Y".to_owned(), sex: "M".to_owned() };
    assert_eq!(facts(&[], &known), known);
    let woman = found(&page(&["Name: Jane Doe|Sex: F|Age: 45"]));
    let unknown = PatientFacts::default();
    let expected = PatientFacts { age: "045Y".to_owned(), sex: "F".to_owned() };
    assert_eq!(facts(&woman, &unknown), expected);
    // The page contradicts the message.
    assert_eq!(facts(&woman, &known).sex, "");
}
