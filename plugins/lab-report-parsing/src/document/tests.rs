//! The requirements on documents of any kind: PAP-13.

use super::*;
use crate::page::Word;

/// A page with these lines: cells are set apart by `|`.
fn page(lines: &[&str]) -> Page {
    let mut words = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let top = at as f32 * 18.0;
        for (column, text) in line.split('|').enumerate().filter(|it| !it.1.is_empty()) {
            let left = 10.0 + 250.0 * column as f32;
            let right = left + 5.0 * text.chars().count() as f32;
            let text = text.to_owned();
            words.push(Word { text, left, top, right, bottom: top + 10.0, chinese: None });
        }
    }
    Page { words, ..Page::default() }
}

fn read(pages: &[Page]) -> Document {
    Document::by_letters(pages, &kinds(&[]).unwrap())
}

fn kind(lines: &[&str]) -> String {
    read(&[page(lines)]).kind
}

fn map(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn pap_13_a_prescription_is_known_and_its_fields_are_found() {
    let found = read(&[page(&[
        "市第一医院 处方笺",
        "临床诊断：肺部感染",
        "药品名称: 阿莫西林胶囊   规格: 0.25g   单位: 盒",
        "数量：2   用法用量：口服 一日三次 每次0.5g",
    ])]);
    assert_eq!(found.kind, "prescription");
    assert_eq!(found.fields, map(&[("diagnosis", "肺部感染")]));
    let drug = map(&[
        ("directions", "口服 一日三次 每次0.5g"),
        ("drug", "阿莫西林胶囊"),
        ("quantity", "2"),
        ("specification", "0.25g"),
        ("unit", "盒"),
    ]);
    assert_eq!(found.items, std::slice::from_ref(&drug));
    // A model that writes the fields of the only drug among the others says the same.
    let mut fields = drug;
    fields.extend(found.fields.clone());
    let model = Document { kind: "prescription".to_owned(), fields, ..Document::default() };
    let model = model.with_items_apart(&kinds(&[]).unwrap());
    assert_eq!(differences(&found, &model), Vec::<String>::new());
    let mut other = model.clone();
    other.items[0].insert("quantity".to_owned(), "20".to_owned());
    assert_eq!(differences(&found, &other), ["1. quantity: the model reads 20"]);
    let kind = "imaging_report".to_owned();
    let other = Document { kind, ..Document::default() };
    assert_eq!(differences(&found, &other), ["the model takes it for imaging_report"]);
}

#[test]
fn pap_13_other_kinds_are_told_apart_in_both_languages() {
    assert_eq!(
        kind(&["Radiology report", "Findings: clear", "Impression: normal"]),
        "imaging_report"
    );
    assert_eq!(kind(&["出院小结", "入院诊断：肺炎", "出院诊断：肺炎"]), "discharge_summary");
    assert_eq!(kind(&["Laboratory report", "Test Result Reference range"]), "laboratory_report");
    assert_eq!(
        kind(&["胸部CT检查报告单", "检查部位：胸部", "影像所见：双肺清晰"]),
        "imaging_report"
    );
    assert_eq!(kind(&["CT of the chest", "Findings:", "Lungs are clear."]), "imaging_report");
}

/// `ct` is in collected, doctor, direct, lactate, reactive and function; `rx` in marx, `sig` in
/// significant.
#[test]
fn pap_13_letters_within_a_word_are_no_word() {
    let laboratory = [
        "Riverside Laboratory Report",
        "Doctor: Direct Marx|Collected: 2026-01-03",
        "Test|Result|Unit|Reference range",
        "Lactate|1.1|mmol/L|0.5-2.2",
        "C-reactive protein|3|mg/L|<5",
        "Liver function: no significant change; direct bilirubin not detected",
    ];
    assert_eq!(kind(&laboratory), "laboratory_report");
    let discharge = [
        "Discharge summary",
        "Admitted: 2026-01-03|Discharged: 2026-01-09",
        "Doctor: Direct Marx",
        "Admission diagnosis: pneumonia",
        "Hospital course: CT of the chest showed an infiltrate. Laboratory results: CRP 120.",
        "Discharge medications: amoxicillin, one tablet daily",
    ];
    assert_eq!(kind(&discharge), "discharge_summary");
}

#[test]
fn pap_13_weak_or_divided_evidence_is_no_kind() {
    assert_eq!(kind(&["Dear colleague"]), "");
    assert_eq!(kind(&["Dear colleague", "the CT was clear and the result is fine"]), "");
    assert_eq!(kind(&["Prescription", "Discharge summary"]), "");
    assert_eq!(kind(&["患者须知", "请按时服药"]), "");
    assert_eq!(kind(&[]), "");
}

#[test]
fn pap_13_a_value_goes_on_over_lines_and_pages() {
    let first = page(&[
        "Radiology report",
        "Examination: CT chest",
        "FINDINGS",
        "Lungs: suspicious nodule in the",
        "left upper lobe, pneu-",
        "monia in the right",
        "Page 1 of 2",
    ]);
    let second = page(&[
        "Radiology report",
        "lower lobe.",
        "Impression:",
        "Pneumonia. Suspicious nodule.",
        "Follow-up in 3 months.",
        "Electronically signed by G. House",
        "Page 2 of 2",
    ]);
    let found = read(&[first, second]);
    let expected = map(&[
        ("examination", "CT chest"),
        (
            "findings",
            "Lungs: suspicious nodule in the left upper lobe, pneumonia in the right lower lobe.",
        ),
        ("impression", "Pneumonia. Suspicious nodule. Follow-up in 3 months."),
    ]);
    assert_eq!(found.fields, expected);
}

#[test]
fn pap_13_a_value_goes_on_over_lines_in_chinese() {
    let found = read(&[page(&[
        "影像诊断报告",
        "检查部位：胸部",
        "影像所见：双肺纹理增多，右下肺见",
        "斑片状阴影。",
        "影像诊断：右下肺",
        "肺炎。",
        "报告医师：王伟",
    ])]);
    let expected = map(&[
        ("examination", "胸部"),
        ("findings", "双肺纹理增多，右下肺见斑片状阴影。"),
        ("impression", "右下肺肺炎。"),
    ]);
    // Full-width marks are folded.
    let folded = |it: &Fields| -> Fields {
        it.iter().map(|(a, b)| (a.clone(), encoding::laboratory::unit::folded_text(b))).collect()
    };
    assert_eq!(found.fields, folded(&expected));
}

#[test]
fn pap_13_several_drugs_are_several_items() {
    let drugs = |found: &Document, field: &str| -> Vec<String> {
        found.items.iter().map(|it| it.get(field).cloned().unwrap_or_default()).collect()
    };
    let labelled = read(&[page(&[
        "处方笺",
        "药品名称：阿莫西林胶囊|规格：0.25g|数量：2",
        "用法用量：口服 一日三次",
        "药品名称：布洛芬缓释胶囊|规格：0.3g|数量：1",
        "用法用量：口服 一日两次",
    ])]);
    assert_eq!(drugs(&labelled, "drug"), ["阿莫西林胶囊", "布洛芬缓释胶囊"]);
    assert_eq!(drugs(&labelled, "directions"), ["口服 一日三次", "口服 一日两次"]);
    let table = read(&[page(&[
        "Prescription",
        "Medication|Strength|Quantity|Directions",
        "Amoxicillin|500 mg|21|1 capsule",
        "|||three times daily",
        "Ibuprofen|400 mg|10|as needed",
    ])]);
    assert_eq!(drugs(&table, "drug"), ["Amoxicillin", "Ibuprofen"]);
    assert_eq!(drugs(&table, "quantity"), ["21", "10"]);
    assert_eq!(drugs(&table, "directions"), ["1 capsule three times daily", "as needed"]);
    let list = read(&[page(&[
        "Prescription",
        "Diagnosis: pneumonia",
        "1. Amoxicillin 500 mg capsules",
        "Sig: 1 capsule three times daily|Dispense: 21",
        "2. Ibuprofen 400 mg tablets",
        "Sig: as needed|Dispense: 10",
    ])]);
    let expected = ["Amoxicillin 500 mg capsules", "Ibuprofen 400 mg tablets"];
    assert_eq!(drugs(&list, "drug"), expected);
    assert_eq!(drugs(&list, "quantity"), ["21", "10"]);
    assert_eq!(list.fields, map(&[("diagnosis", "pneumonia")]));
}

#[test]
fn pap_13_drugs_with_the_same_directions_on_two_pages_keep_them() {
    let drug = |name: &str| format!("药品名称：{name}");
    let first = [drug("阿莫西林胶囊"), "用法用量：口服 一日三次".to_owned()];
    let second = ["第2页".to_owned(), drug("布洛芬缓释胶囊"), first[1].clone()];
    let lines = |all: &[String]| page(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let title = ["处方笺".to_owned()];
    let found =
        read(&[lines(&[&title[..], &first].concat()), lines(&[&second[..], &title].concat())]);
    assert_eq!(found.items.len(), 2, "{found:?}");
    assert!(found.items.iter().all(|it| it.len() == 2), "{found:?}");
}

#[test]
fn pap_13_another_label_with_the_same_ending_is_another_field() {
    let found = read(&[page(&["Prescription", "Family diagnosis: diabetes", "Sig: daily"])]);
    assert_eq!(found.fields, Fields::new());
    let found = read(&[page(&["处方笺", "初步诊断：感冒", "用法：口服"])]);
    assert_eq!(found.fields, Fields::new());
}

#[test]
fn pap_13_a_site_adds_kinds_words_and_labels() {
    let own: Vec<Kind> = serde_saphyr::from_str(
        "[{ kind: referral, titles: [Referral letter], fields: { reason: [Reason] } },
          { kind: prescription, titles: [Rezept], fields: { drug: [Arzneimittel] } }]",
    )
    .unwrap();
    let kinds = kinds(&own).unwrap();
    let read = |lines: &[&str]| Document::by_letters(&[page(lines)], &kinds);
    let letter = read(&["Referral letter", "Reason: cough"]);
    assert_eq!((letter.kind.as_str(), letter.fields), ("referral", map(&[("reason", "cough")])));
    let recipe = read(&["Rezept", "Arzneimittel: Ibuprofen", "Sig: daily"]);
    assert_eq!(recipe.kind, "prescription");
    assert_eq!(recipe.items, [map(&[("directions", "daily"), ("drug", "Ibuprofen")])]);
}

#[test]
fn pap_13_what_the_model_reads_on_several_pages_is_one_document() {
    let kinds = kinds(&[]).unwrap();
    let page = |text: &str| serde_json::from_str::<Document>(text).unwrap();
    let mut document = Document::default();
    document.add_page(
        page(r#"{"kind": "imaging_report", "fields": {"findings": "A nodule", "examination": "CT"}}"#),
        &kinds,
    );
    document
        .add_page(page(r#"{"fields": {"findings": "on the left.", "impression": ""}}"#), &kinds);
    assert_eq!(
        document.fields,
        map(&[("examination", "CT"), ("findings", "A nodule on the left.")])
    );
}
