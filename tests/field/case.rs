//! A case: what is checked, and whether it is right where it has to be.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use system_tests::{not_run, reference};

use crate::awaited::AWAITED;
use crate::site::{Kind, Site};

/// A case folder of the reference material, with the checks that were made on it.
pub(crate) struct Case {
    /// The name of the folder.
    pub(crate) name: &'static str,
    /// Its path.
    pub(crate) folder: PathBuf,
    checks: Vec<Check>,
}

/// Something that the README of a case says is right.
struct Check {
    name: String,
    /// What was seen instead, if it is wrong.
    fault: Option<String>,
}

/// Runs the test of a case on an engine of this kind. Without reference material, or where that has
/// no such case, the calling test is listed as not run.
pub(crate) fn run(kind: Kind, name: &'static str, test: impl AsyncFnOnce(&Site, &mut Case)) {
    let Some(reference) = reference() else { return };
    let folder = reference.join("field").join(name);
    if !folder.exists() {
        not_run(&format!("the reference material has no case {name}"));
        return;
    }
    let site: Arc<Site> = Site::shared(kind);
    let mut case = Case { name, folder, checks: Vec::new() };
    site.runtime.block_on(test(&site, &mut case));
    case.judge();
}

/// Longest text of what was seen, in characters.
const SEEN_MAX: usize = 1200;

/// Text on one line.
fn shown(text: &str) -> String {
    let one_line = text.replace(['\r', '\n'], " / ");
    one_line.chars().take(SEEN_MAX).collect()
}

impl Case {
    /// Notes whether what the README says is right holds, and what was seen.
    pub(crate) fn check(&mut self, name: impl Into<String>, holds: bool, seen: impl Display) {
        let name = name.into();
        let fault = (!holds).then(|| shown(&seen.to_string()));
        if let Some(fault) = &fault {
            println!("{} / {name}: wrong: {fault}", self.name);
        }
        self.checks.push(Check { name, fault });
    }

    /// Panics unless exactly those checks are wrong that are awaited.
    fn judge(&self) {
        assert!(!self.checks.is_empty(), "nothing was checked");
        let wrong = self.surprises(&awaited(self.name).collect::<Vec<_>>());
        assert!(wrong.is_empty(), "{}:\n  {}", self.name, wrong.join("\n  "));
    }

    /// The checks that are not as they are expected to be: wrong, unless awaited.
    fn surprises(&self, awaited: &[&str]) -> Vec<String> {
        let mut surprises = Vec::new();
        for check in &self.checks {
            let is_awaited = awaited.contains(&check.name.as_str());
            match &check.fault {
                Some(fault) if !is_awaited => surprises.push(format!("{}: {fault}", check.name)),
                None if is_awaited => surprises.push(format!(
                    "{}: this is right now; delete it in tests/field/awaited.rs",
                    check.name
                )),
                _ => {}
            }
        }
        for name in awaited {
            if !self.checks.iter().any(|it| it.name == *name) {
                surprises.push(format!("{name}: awaited, and there is no such check"));
            }
        }
        surprises
    }
}

/// The checks of a case that are known to be wrong.
fn awaited(case: &str) -> impl Iterator<Item = &'static str> {
    AWAITED.iter().filter(move |it| it.case == case).flat_map(|it| it.checks).copied()
}

#[test]
fn a_check_is_as_expected_or_the_test_fails() {
    let mut case = Case { name: "none", folder: PathBuf::new(), checks: Vec::new() };
    case.check("right", true, "");
    case.check("wrong", false, "seen");

    assert_eq!(case.surprises(&["wrong"]), Vec::<String>::new());
    assert_eq!(case.surprises(&[]), ["wrong: seen"]);
    let [mended, gone] = case.surprises(&["right", "wrong", "gone"]).try_into().unwrap();
    assert!(mended.contains("right: this is right now; delete it"), "{mended}");
    assert!(gone.contains("there is no such check"), "{gone}");
}
