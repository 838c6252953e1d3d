//! The names of events and tasks are written in the catalogue of `domain` only.
//!
//! Production code refers to a kind by its type, so that code with a renamed or removed kind does
//! not compile. SQL refers to kinds by name; each such name must be in the catalogue.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use contracts::NodeState;
use domain::{CommitmentState, DeliveryState, EventKind, ReviewState, RunStatus, TaskKind};

use crate::{root, sources};

/// What precedes the name of a kind in SQL that compares kinds of events.
const KIND_COMPARISONS: [&str; 4] = [".kind = '", ".kind in ('", "and kind = '", "where kind = '"];

/// What precedes the name of a state in SQL.
const STATE_COMPARISONS: [&str; 8] = [
    " state = '",
    " state in ('",
    ".state = '",
    ".state in ('",
    " status = '",
    " status in ('",
    ".status = '",
    ".status in ('",
];

/// Codes of rejected nodes with the name of an event. They belong to another list of names.
const REJECTION_CODES: [&str; 2] = ["images_removed", "model_refused"];

/// The sources of the program and its plugins with their text, without tests, and without the
/// catalogue itself.
fn production_code() -> Vec<(PathBuf, String)> {
    let mut code = Vec::new();
    for path in sources() {
        let name = path.to_string_lossy().into_owned();
        if !name.contains("/src/")
            || name.contains("/domain/src/")
            || name.contains("/tests/")
            || name.ends_with("/tests.rs")
        {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
        code.push((path, text));
    }
    code
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
}

#[test]
fn every_kind_of_event_and_task_is_recorded_somewhere() {
    let code = production_code();
    let used: BTreeSet<&str> = code.iter().flat_map(|(_, text)| words(text)).collect();

    let events = EventKind::ALL.iter().map(|kind| format!("{kind:?}"));
    let tasks = TaskKind::ALL.iter().map(|kind| format!("{kind:?}"));
    let unused: Vec<String> = events.chain(tasks).filter(|it| !used.contains(&**it)).collect();

    assert_eq!(unused, Vec::<String>::new(), "kinds that nothing records");
}

#[test]
fn no_kind_of_event_or_task_is_written_as_text() {
    let events = EventKind::ALL.iter().map(|kind| kind.name());
    let tasks = TaskKind::ALL.iter().map(|kind| kind.name());
    // A name of one word, such as `delivered`, may have another meaning.
    let is_distinct = |name: &&str| name.contains('_') && !REJECTION_CODES.contains(name);
    let names: Vec<&str> = events.chain(tasks).filter(is_distinct).collect();

    let mut found = Vec::new();
    for (path, text) in production_code() {
        for name in &names {
            if text.contains(&format!("\"{name}\"")) {
                found.push(format!("{}: \"{name}\"", path.display()));
            }
        }
    }

    assert_eq!(found, Vec::<String>::new(), "use the type of the event or task");
}

#[test]
fn sql_names_only_kinds_of_the_catalogue() {
    let migrations = root().join("migrations");
    let functions = fs::read_dir(migrations.join("functions")).unwrap();
    let files = fs::read_dir(&migrations).unwrap().chain(functions).map(|it| it.unwrap().path());
    let sql = files.filter(|path| path.extension().is_some_and(|it| it == "sql"));
    let sql = sql.map(|path| (path.clone(), fs::read_to_string(path).unwrap()));

    let mut wrong = Vec::new();
    for (path, text) in sql.chain(production_code()) {
        for name in KIND_COMPARISONS.iter().flat_map(|before| compared(&text, before)) {
            if EventKind::parse(name).is_none() {
                wrong.push(format!("{}: {name}", path.display()));
            }
        }
    }

    assert_eq!(wrong, Vec::<String>::new(), "no kind of event has this name");
}

#[test]
fn sql_names_only_states_that_exist() {
    let functions = fs::read_dir(root().join("migrations/functions")).unwrap();
    let sql = functions.map(|it| it.unwrap().path());
    let sql = sql.map(|path| (path.clone(), fs::read_to_string(path).unwrap()));
    let is_state = |name: &str| {
        RunStatus::parse(name).is_some()
            || NodeState::parse(name).is_some()
            || DeliveryState::parse(name).is_some()
            || CommitmentState::parse(name).is_some()
            || ReviewState::parse(name).is_some()
    };

    let mut wrong = Vec::new();
    for (path, text) in sql.chain(production_code()) {
        for name in STATE_COMPARISONS.iter().flat_map(|before| compared(&text, before)) {
            if !is_state(name) {
                wrong.push(format!("{}: {name}", path.display()));
            }
        }
    }

    assert_eq!(wrong, Vec::<String>::new(), "no state has this name");
}

/// The quoted names that follow `before`: one, or the list up to the closing parenthesis.
fn compared<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let mut names = Vec::new();
    for after in text.split(before).skip(1) {
        if before.ends_with("('") {
            let list = after.split(')').next().unwrap_or_default();
            let is_name = |part: &&str| part.contains(|letter: char| letter.is_alphabetic());
            names.extend(list.split('\'').filter(is_name));
        } else {
            names.extend(after.split('\'').next());
        }
    }
    names
}
