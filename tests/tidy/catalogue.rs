//! The names of events and tasks stand in the catalogue of `domain` and nowhere else.
//!
//! Production code refers to a kind by its type, so that a kind that is renamed or removed does not
//! compile. Only SQL names kinds as text; each such name must be one of the catalogue.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use domain::{EventKind, TaskKind};

use crate::{root, sources};

/// Words before a kind in SQL that compares kinds of events.
const KIND_COMPARISONS: [&str; 4] = [".kind = '", ".kind in ('", "and kind = '", "where kind = '"];

/// Codes of rejected nodes that are spelled like an event. They are another list of names.
const REJECTION_CODES: [&str; 2] = ["images_removed", "model_refused"];

/// Sources that run in a hospital, without their tests, and without the catalogue itself.
fn production_code() -> Vec<(PathBuf, String)> {
    let is_production = |path: &PathBuf| {
        let text = path.to_string_lossy();
        text.contains("/src/")
            && !text.contains("/domain/src/")
            && !text.contains("/tests/")
            && !text.ends_with("/tests.rs")
    };
    let without_tests = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text.split("#[cfg(test)]").next().unwrap_or_default().to_owned())
    };
    sources().into_iter().filter(is_production).map(without_tests).collect()
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
    // A name of one word, such as `delivered`, is also the name of other things.
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
