//! Sentences of reports with what they claim: how much of it is read right, by language and kind.
//!
//! The sentences (`sentences.*.tsv`) were written before the rules. Every second one is held out: the
//! rules were made to fit the others only. A claim is right if finding, presence, temporality,
//! experiencer and state are right.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic, and prints its scores for the reader"
)]

use std::collections::BTreeMap;

use claims::Vocabulary;

const ENGLISH: &str = include_str!("sentences.en.tsv");
const CHINESE: &str = include_str!("sentences.zh.tsv");

/// What F1 must be at least.
const FLOOR: f64 = 0.95;

/// How often claims were right, missing and wrong.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    right: u32,
    missing: u32,
    wrong: u32,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.right += other.right;
        self.missing += other.missing;
        self.wrong += other.wrong;
    }

    fn f1(self) -> f64 {
        let both = 2.0 * f64::from(self.right);
        both / (both + f64::from(self.missing + self.wrong))
    }
}

fn graded(sentence: &str, expected: &str) -> Tally {
    let mut expected: Vec<&str> =
        expected.split(';').map(str::trim).filter(|it| *it != "-").collect();
    let found: Vec<String> =
        Vocabulary::standard().claims(sentence).iter().map(ToString::to_string).collect();
    let mut tally = Tally::default();
    for claim in &found {
        if let Some(at) = expected.iter().position(|it| it == claim) {
            expected.remove(at);
            tally.right += 1;
        } else {
            tally.wrong += 1;
        }
    }
    tally.missing = u32::try_from(expected.len()).unwrap();
    tally
}

/// Grades a set, prints F1 by kind, and returns that of the fitted and of the held-out half.
fn grade(name: &str, set: &str) -> [Tally; 2] {
    let mut halves = [Tally::default(); 2];
    let mut kinds: BTreeMap<&str, Tally> = BTreeMap::new();
    let lines = set.lines().filter(|it| !it.starts_with('#'));
    for (number, line) in lines.enumerate() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [kind, sentence, expected] = columns.try_into().unwrap();
        let tally = graded(sentence, expected);
        halves.get_mut(number % 2).unwrap().add(tally);
        kinds.entry(kind).or_default().add(tally);
        if number % 2 == 0 && tally.wrong + tally.missing > 0 {
            let found: Vec<String> =
                Vocabulary::standard().claims(sentence).iter().map(ToString::to_string).collect();
            println!(
                "{name} {kind}: {sentence}\n    expected {expected}\n    found    {}",
                found.join("; ")
            );
        }
    }
    for (kind, tally) in kinds {
        println!("{name} {kind}: F1 {:.3} ({tally:?})", tally.f1());
    }
    halves
}

#[track_caller]
fn check(name: &str, set: &str, at_least: usize) {
    assert!(set.lines().filter(|it| !it.starts_with('#')).count() >= at_least);
    let [fitted, held_out] = grade(name, set);
    println!("{name}: F1 {:.3} fitted, {:.3} held out", fitted.f1(), held_out.f1());
    assert!(fitted.f1() >= FLOOR && held_out.f1() >= FLOOR, "{fitted:?}, {held_out:?}");
}

#[test]
fn pap_15_sentences_in_english_are_read_right() {
    check("English", ENGLISH, 300);
}

#[test]
fn pap_15_sentences_in_chinese_are_read_right() {
    check("Chinese", CHINESE, 150);
}

/// The sentences that the rules knew before there was a set.
#[test]
fn pap_15_claims_know_denial_doubt_and_both_languages() {
    for (text, expected) in [
        ("No pneumothorax.", "pneumothorax=absent"),
        ("Small left pleural effusion.", "pleural effusion=present"),
        ("Possible pneumonia in the right base.", "pneumonia=possible"),
        ("No effusion but a nodule.", "pleural effusion=absent; nodule=present"),
        ("右肺见结节。未见气胸。", "nodule=present; pneumothorax=absent"),
        ("Lungs are clear.", "-"),
        ("Cannot rule out pneumothorax.", "pneumothorax=possible"),
        ("不能排除气胸", "pneumothorax=possible"),
        ("No change in the large right pneumothorax.", "pneumothorax=present unchanged"),
        ("未见骨折，左侧气胸", "fracture=absent; pneumothorax=present"),
        ("Pneumothorax is not seen.", "pneumothorax=absent"),
        ("Massive effusion.", "pleural effusion=present"),
        (
            "No left pneumothorax, small right pneumothorax.",
            "pneumothorax=absent; pneumothorax=present",
        ),
        (
            "No effusion, pneumothorax or consolidation.",
            "pleural effusion=absent; pneumothorax=absent; consolidation=absent",
        ),
    ] {
        let tally = graded(text, expected);
        assert_eq!(tally.missing + tally.wrong, 0, "{text}");
    }
}
