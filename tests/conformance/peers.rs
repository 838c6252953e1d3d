//! The reading of sentences beside that of `medspaCy`, which implements the same published rules
//! (`ConText`) with its own words, on the same sentences and findings.
//!
//! `medspaCy` tells presence, history, hypothesis and family, and not what became of a finding. Only
//! what both can tell is compared: change is left out, and "resolved" counts as absent. "Not
//! assessed" has no word there, and is counted as wrong where it is expected.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use claims::Vocabulary;
use system_tests::not_run;

/// Names of what became of a finding, which only one of the two tells.
const STATES: [&str; 5] = ["new", "increased", "decreased", "unchanged", "resolved"];

/// Right, missing and wrong claims.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    right: u32,
    faults: u32,
}

impl Tally {
    fn add(&mut self, expected: &[String], found: &[String]) {
        let mut missing = expected.to_vec();
        for claim in found {
            match missing.iter().position(|it| it == claim) {
                Some(at) => {
                    missing.remove(at);
                    self.right += 1;
                }
                None => self.faults += 1,
            }
        }
        self.faults += u32::try_from(missing.len()).unwrap();
    }

    fn f1(self) -> f64 {
        2.0 * f64::from(self.right) / (2.0 * f64::from(self.right) + f64::from(self.faults))
    }
}

/// A claim in the words of the file, without its change.
fn without_state(claim: &str) -> String {
    claim.split(' ').filter(|it| !STATES.contains(it)).collect::<Vec<_>>().join(" ")
}

/// The claims of a column, without their changes.
fn column(text: &str) -> Vec<String> {
    let claims = text.trim().split(';').map(str::trim).filter(|it| !it.is_empty() && *it != "-");
    claims.map(without_state).collect()
}

#[test]
fn pap_15_sentences_are_read_no_worse_than_by_medspacy_on_any_kind() {
    let python = env::var_os("ISOCENTER_PEERS").map(PathBuf::from).filter(|it| it.exists());
    let Some(python) = python else {
        return not_run("ISOCENTER_PEERS names no interpreter with medspaCy");
    };
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let sentences = root.join("engine/claims/tests/sentences.en.tsv");

    let mut medspacy = Command::new(python);
    medspacy.arg(root.join("tests/conformance/context.py"));
    let output =
        medspacy.arg(root.join("engine/claims/data/concepts.tsv")).arg(&sentences).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let theirs = String::from_utf8(output.stdout).unwrap();
    let set = fs::read_to_string(sentences).unwrap();
    let lines: Vec<&str> = set.lines().filter(|it| !it.starts_with('#')).collect();
    assert_eq!(lines.len(), theirs.lines().count());
    let mut kinds: BTreeMap<&str, [Tally; 2]> = BTreeMap::new();
    for (line, their) in lines.iter().zip(theirs.lines()) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [kind, sentence, expected] = columns.try_into().unwrap();
        let expected = column(expected);
        let claims = Vocabulary::standard().claims(sentence);
        let own: Vec<String> = claims.iter().map(|it| without_state(&it.to_string())).collect();
        let [ours, peers] = kinds.entry(kind).or_default();
        ours.add(&expected, &own);
        peers.add(&expected, &column(their));
    }
    let worse: Vec<String> = kinds
        .into_iter()
        .inspect(|(kind, tallies)| {
            println!("{kind}: F1 {:.3}, medspaCy {:.3}", tallies[0].f1(), tallies[1].f1());
        })
        .filter(|(_, tallies)| tallies[0].f1() < tallies[1].f1())
        .map(|(kind, tallies)| format!("{kind}: {tallies:?}"))
        .collect();
    assert_eq!(worse, Vec::<String>::new());
}
