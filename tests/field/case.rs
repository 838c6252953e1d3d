//! A case: what is checked, and whether it is right where it has to be.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use system_tests::{not_run, reference};

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

    /// Panics if a check is wrong.
    fn judge(&self) {
        assert!(!self.checks.is_empty(), "nothing was checked");
        let wrong = self.faults();
        assert!(wrong.is_empty(), "{}:\n  {}", self.name, wrong.join("\n  "));
    }

    /// The checks that are wrong, each with what was seen.
    fn faults(&self) -> Vec<String> {
        let faults = self.checks.iter().filter_map(|check| {
            let fault = check.fault.as_ref()?;
            Some(format!("{}: {fault}", check.name))
        });
        faults.collect()
    }
}

#[test]
fn a_check_that_is_wrong_is_told_with_what_was_seen() {
    let mut case = Case { name: "none", folder: PathBuf::new(), checks: Vec::new() };
    case.check("right", true, "");
    case.check("wrong", false, "seen");
    assert_eq!(case.faults(), ["wrong: seen"]);
}
