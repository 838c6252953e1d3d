//! Rules of the workspace that no compiler checks.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the way to say no"
)]

mod catalogue;
mod circles;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Most lines a source file may have before it is two files.
const FILE_LINES_MAX: usize = 600;

/// Most lines of a function, as clippy counts them where it is asked to.
const FUNCTION_LINES_MAX: usize = 80;

/// The floors of the engine, from the ground up. A crate may only lean on the floors below its own.
const FLOORS: &[&[&str]] = &[
    &["domain"],
    &["encoding", "supervisor"],
    &["contracts", "cpu-kernels", "evaluation", "imaging", "plugin-api", "workflow"],
    &["citrus-v", "plugin-toolkit", "report"],
    &[
        "archive",
        "dimse",
        "hl7",
        "http-destinations",
        "inference",
        "orchestrator",
        "plugin-host",
        "store",
    ],
    &["simulators", "upkeep"],
    &["server", "xtask"],
];

/// What a plugin may lean on.
const OFFERED_TO_PLUGINS: &[&str] =
    &["domain", "encoding", "evaluation", "imaging", "plugin-api", "plugin-toolkit"];

/// Folders that a newcomer opens, each with a page that says what is in it.
const FOLDERS_WITH_README: &[&str] =
    &[".", "engine", "plugins", "workflows", "migrations", "templates", "tests"];

#[test]
fn a_crate_leans_only_on_the_floors_below() {
    let floor_of: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(n, names)| names.iter().map(move |it| (*it, n)))
        .collect();
    let mut wrong = Vec::new();
    for (name, dependencies) in crates_in("engine") {
        let Some(floor) = floor_of.get(name.as_str()) else {
            wrong.push(format!("`{name}` stands on no floor: add it to FLOORS"));
            continue;
        };
        let ours = dependencies.iter().filter_map(|it| Some((it, floor_of.get(it.as_str())?)));
        let sideways = ours.filter(|(_, below)| floor <= below);
        wrong.extend(sideways.map(|(it, _)| format!("`{name}` may not depend on `{it}`")));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_plugin_leans_only_on_what_is_offered_to_plugins() {
    let engine: BTreeSet<String> = crates_in("engine").into_keys().collect();
    for (name, dependencies) in crates_in("plugins") {
        let taken = dependencies.iter().filter(|it| engine.contains(*it));
        let beyond: Vec<_> =
            taken.filter(|it| !OFFERED_TO_PLUGINS.contains(&it.as_str())).collect();
        assert!(beyond.is_empty(), "`{name}` depends on {beyond:?}");
    }
}

#[test]
fn a_file_fits_in_the_head() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|path| (fs::read_to_string(&path).unwrap().lines().count(), path))
        .filter(|(lines, _)| *lines > FILE_LINES_MAX)
        .collect();
    assert_eq!(long, []);
}

/// A function here is what rustfmt leaves between `fn` and a brace at the same depth.
#[test]
fn a_function_fits_on_a_screen() {
    let mut long = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let depth = line.len() - line.trim_start().len();
            let is_function = [
                "fn ",
                "pub fn ",
                "pub(crate) fn ",
                "async fn ",
                "pub async fn ",
                "pub(crate) async fn ",
            ]
            .iter()
            .any(|it| line.trim_start().starts_with(it));
            if !is_function || line.trim_end().ends_with([';', '}']) {
                continue;
            }
            let end = format!("{}}}", " ".repeat(depth));
            let length = lines[start..].iter().position(|it| **it == end).unwrap_or_default();
            if length > FUNCTION_LINES_MAX {
                long.push(format!("{}:{}: {length} lines", path.display(), start + 1));
            }
        }
    }
    assert_eq!(long, Vec::<String>::new());
}

/// A reader who opens a file learns first what is in it.
#[test]
fn every_file_opens_with_what_is_in_it() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//! "))
        .collect();
    assert_eq!(silent, Vec::<PathBuf>::new());
}

/// A new kind of output must not compile until every place that decides by kind has been looked at.
#[test]
fn no_match_over_output_kinds_has_a_wildcard() {
    let mut wrong = Vec::new();
    for path in production_sources() {
        let text = fs::read_to_string(&path).unwrap();
        for (line, arms) in matches_in(&text) {
            let is_over_kinds = arms.iter().any(|it| it.trim_start().starts_with("OutputKind::"));
            let has_wildcard = arms.iter().any(|it| {
                let pattern = it.trim_start();
                pattern.starts_with("_ =>") || pattern.starts_with("_ if ")
            });
            if is_over_kinds && has_wildcard {
                wrong.push(format!("{}:{line}", path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Every `match` of a file: its line, and the first line of each of its arms. An arm is what is
/// indented one step deeper than the `match`, as rustfmt leaves it.
fn matches_in(text: &str) -> Vec<(usize, Vec<String>)> {
    let lines: Vec<&str> = text.lines().collect();
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let is_match = line.contains("match ") && line.trim_end().ends_with('{');
        if !is_match || line.trim_start().starts_with("//") {
            continue;
        }
        let own = depth(line);
        let body = lines[number + 1..].iter().take_while(|it| it.is_empty() || depth(it) > own);
        let arms = body.filter(|it| depth(it) == own + 4).map(|it| (*it).to_owned()).collect();
        found.push((number + 1, arms));
    }
    found
}

#[test]
fn every_folder_says_what_is_in_it() {
    for folder in FOLDERS_WITH_README {
        let readme = root().join(folder).join("README.md");
        let text = fs::read_to_string(&readme).unwrap_or_default();
        assert!(text.starts_with("# "), "{} does not say what is there", readme.display());
    }
}

#[test]
fn every_crate_has_a_paragraph_in_the_map() {
    let map = fs::read_to_string(root().join("engine/README.md")).unwrap();
    for name in crates_in("engine").keys() {
        assert!(map.contains(&format!("`{name}`")), "engine/README.md does not know `{name}`");
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let manifests =
        packages().into_iter().map(|it| it["manifest_path"].as_str().unwrap().to_owned());
    for manifest in manifests {
        let text = fs::read_to_string(&manifest).unwrap();
        assert!(text.contains("[lints]\nworkspace = true"), "{manifest} has lints of its own");
    }
}

#[test]
fn migrations_are_numbered_and_open_with_plain_words() {
    let folder = root().join("migrations");
    let mut files = sql_files(&folder);
    let permissions = folder.join("permissions.sql");
    files.retain(|it| *it != permissions);
    for (index, path) in files.iter().enumerate() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with(&format!("{:04}_", index + 1)), "{name} is out of order");
    }
    assert!(!files.is_empty());
    for path in files.into_iter().chain([permissions]).chain(sql_files(&folder.join("functions"))) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("-- "), "{} explains nothing", path.display());
    }
}

fn sql_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == "sql"));
    files.sort();
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![root().join("engine"), root().join("plugins"), root().join("tests")];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The sources of the engine and its plugins, without their tests and benches.
fn production_sources() -> Vec<PathBuf> {
    let is_test = |it: &PathBuf| {
        let path = it.strip_prefix(root()).unwrap();
        let mut parts = path.components().map(|it| it.as_os_str().to_string_lossy());
        path.starts_with("tests")
            || path.ends_with("tests.rs")
            || parts.any(|it| it == "tests" || it == "benches")
    };
    sources().into_iter().filter(|it| !is_test(it)).collect()
}

fn packages() -> Vec<serde_json::Value> {
    let output = Command::new(env::var_os("CARGO").unwrap())
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The crates under `folder`, each with what it depends on outside of its tests.
fn crates_in(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let folder = root().join(folder);
    packages()
        .into_iter()
        .filter(|it| Path::new(it["manifest_path"].as_str().unwrap()).starts_with(&folder))
        .map(|package| {
            let all = package["dependencies"].as_array().unwrap().iter();
            let built = all.filter(|it| it["kind"].is_null());
            let names = built.map(|it| it["name"].as_str().unwrap().to_owned()).collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}
