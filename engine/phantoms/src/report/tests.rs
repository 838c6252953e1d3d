//! Reports against masks: read by the rules that read the reports of any model.

use std::collections::BTreeSet;

use claims::Vocabulary;
use domain::Presence;
use encoding::model_answer::{ModelAnswer, cited_boxes};
use encoding::report_text::ReportText;

use super::*;
use crate::{ct_slice, radiograph};

/// The name under which the rules know a kind of lesion.
fn concept(kind: LesionKind) -> &'static str {
    match kind {
        LesionKind::Nodule => "nodule",
        LesionKind::Mass => "mass",
        LesionKind::Consolidation => "consolidation",
        LesionKind::Effusion => "pleural effusion",
        LesionKind::Pneumothorax => "pneumothorax",
        LesionKind::Cardiomegaly => "cardiomegaly",
        LesionKind::Aneurysm => "aneurysm",
        LesionKind::LiverLesion => "liver lesion",
        LesionKind::HepaticCyst => "hepatic cyst",
        LesionKind::RenalCyst => "renal cyst",
        LesionKind::RenalCalculus => "urinary calculus",
    }
}

/// A finding and its side, as a mask or a report has it.
type Told = (String, Option<Side>);

/// What a text says is there, and what it denies.
fn claimed(text: &str) -> (BTreeSet<Told>, BTreeSet<String>) {
    let mut present = BTreeSet::new();
    let mut absent = BTreeSet::new();
    for claim in Vocabulary::standard().claims(text) {
        if claim.is_normality {
            continue;
        }
        match claim.presence {
            Presence::Present => {
                let sides = [(claim.sides.right, Side::Right), (claim.sides.left, Side::Left)];
                let named: Vec<Side> = sides.into_iter().filter(|it| it.0).map(|it| it.1).collect();
                assert!(named.len() < 2, "both sides in {}", claim.sentence);
                present.insert((claim.concept, named.first().copied()));
            }
            Presence::Absent => {
                absent.insert(claim.concept);
            }
            Presence::Possible | Presence::Unknown => panic!("doubt in {}", claim.sentence),
        }
    }
    (present, absent)
}

/// Every finding of the answer has a mask or is a denial, every mask is told, and every kind that
/// could be there is told or denied.
#[track_caller]
fn check(phantom: &Phantom, language: Language) {
    let report = report(phantom, language);
    let parsed = ModelAnswer::parse(&report.text);
    assert_eq!(parsed.flaws, [], "{}", report.text);
    let parts = ReportText::parse(&parsed.answer);
    let drawn: BTreeSet<Told> =
        phantom.lesions.iter().map(|it| (concept(it.kind).to_owned(), it.side)).collect();
    let (told, denied) = claimed(&parts.findings);
    assert_eq!(told, drawn, "{}", parts.findings);
    let all: BTreeSet<String> =
        phantom.view.kinds().iter().map(|it| concept(*it).to_owned()).collect();
    let there: BTreeSet<String> = drawn.iter().map(|it| it.0.clone()).collect();
    assert_eq!(denied, &all - &there, "{}", parts.findings);
    let (concluded, _) = claimed(&parts.impression);
    assert_eq!(concluded, drawn, "{}", parts.impression);
}

#[test]
fn pap_02_a_report_tells_every_mask_and_nothing_else() {
    for seed in 0..150 {
        for language in Language::ALL {
            check(&radiograph(seed, 96), language);
            check(&ct_slice(seed, 96), language);
        }
    }
}

/// The places filled in as ms-swift fills them, the thoughts cite every lesion by its box.
#[test]
fn pap_03_thoughts_cite_the_boxes_of_organs_and_lesions() {
    for seed in 0..60 {
        for phantom in [radiograph(seed, 96), ct_slice(seed, 96)] {
            for language in Language::ALL {
                let report = report(&phantom, language);
                let mut text = report.text.clone();
                for (label, corners) in report.labels.iter().zip(&report.boxes) {
                    text = text.replacen(REFERENCE, label, 1);
                    text = text.replacen(BBOX, &format!("{corners:?}"), 1);
                }
                let think = ModelAnswer::parse(&text).think.unwrap();
                let cited: Vec<(String, [f64; 4])> =
                    cited_boxes(&think).into_iter().map(|it| (it.label, it.corners)).collect();
                let boxes = report.boxes.iter().map(|it| it.map(f64::from));
                let expected: Vec<_> = report.labels.iter().cloned().zip(boxes).collect();
                assert_eq!(cited, expected, "{text}");
                for lesion in &phantom.lesions {
                    let corners = box_of(&lesion.mask).unwrap().map(f64::from);
                    assert!(expected.contains(&(lesion.label(language), corners)), "{text}");
                }
                assert!(cited_boxes(&ModelAnswer::parse(&text).answer).is_empty());
            }
        }
    }
}

/// Bones before lungs, lungs before the heart.
#[test]
fn pap_02_thoughts_follow_the_order_of_reading() {
    let report = report(&radiograph(1, 96), Language::English);
    let at = |label: &str| report.labels.iter().position(|it| it == label).unwrap();
    assert!(at("spine") < at("right lung"));
    assert!(at("right lung") < at("left lung"));
    assert!(at("left lung") < at("heart"));
}
