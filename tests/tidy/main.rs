//! Rules of the workspace that neither the compiler nor clippy checks.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by a panic")]

mod catalogue;
mod circles;
mod decoding;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Maximum number of lines of a source file.
const FILE_LINES_MAX: usize = 600;

/// Maximum number of lines of a function, as in `clippy::too_many_lines`.
const FUNCTION_LINES_MAX: usize = 80;

/// The floors of the engine, from the ground up. A crate may only depend on lower floors.
const FLOORS: &[&[&str]] = &[
    &["domain"],
    &["claims", "encoding", "page-models", "pp-ocr", "supervisor"],
    &["contracts", "cpu-kernels", "evaluation", "imaging", "plugin-api", "workflow"],
    &["citrus-v", "plugin-toolkit", "report", "training-data"],
    &[
        "archive",
        "dimse",
        "hl7",
        "http-destinations",
        "inference",
        "orchestrator",
        "phantoms",
        "plugin-host",
        "store",
        "training",
    ],
    &["simulators", "upkeep"],
    &["server", "xtask"],
];

/// Crates of the engine that a plugin may depend on.
const OFFERED_TO_PLUGINS: &[&str] = &[
    "claims",
    "domain",
    "encoding",
    "evaluation",
    "imaging",
    "page-models",
    "plugin-api",
    "plugin-toolkit",
    "pp-ocr",
];

/// Folders that must have a README with a description of their content.
const FOLDERS_WITH_README: &[&str] =
    &[".", "engine", "plugins", "workflows", "migrations", "templates", "tests"];

#[test]
fn a_crate_leans_only_on_the_floors_below() {
    let floor_of: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, names)| names.iter().map(move |name| (*name, floor)))
        .collect();
    let mut wrong = Vec::new();
    for (name, dependencies) in crates_in("engine") {
        let Some(floor) = floor_of.get(name.as_str()) else {
            wrong.push(format!("`{name}` stands on no floor: add it to FLOORS"));
            continue;
        };
        let own = dependencies.iter().filter_map(|it| Some((it, floor_of.get(it.as_str())?)));
        let forbidden = own.filter(|(_, other)| floor <= other);
        wrong.extend(forbidden.map(|(it, _)| format!("`{name}` may not depend on `{it}`")));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_plugin_leans_only_on_what_is_offered_to_plugins() {
    let engine: BTreeSet<String> = crates_in("engine").into_keys().collect();
    for (name, dependencies) in crates_in("plugins") {
        let of_engine = dependencies.iter().filter(|it| engine.contains(*it));
        let forbidden: Vec<_> =
            of_engine.filter(|it| !OFFERED_TO_PLUGINS.contains(&it.as_str())).collect();
        assert!(forbidden.is_empty(), "`{name}` depends on {forbidden:?}");
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

/// As rustfmt formats it, a function ends with a brace at the indentation of its `fn`.
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

/// The first line of each file is a `//!` comment that describes its content.
#[test]
fn every_file_opens_with_what_is_in_it() {
    let undescribed: Vec<_> = sources()
        .into_iter()
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//! "))
        .collect();
    assert_eq!(undescribed, Vec::<PathBuf>::new());
}

/// A new kind of output must not compile until every decision by kind has been reviewed.
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

/// Every `match` of a file: its line, and the first line of each of its arms. As rustfmt formats
/// it, an arm is indented by one step more than its `match`.
fn matches_in(text: &str) -> Vec<(usize, Vec<String>)> {
    let lines: Vec<&str> = text.lines().collect();
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let is_match = line.contains("match ") && line.trim_end().ends_with('{');
        if !is_match || line.trim_start().starts_with("//") {
            continue;
        }
        let start = depth(line);
        let body = lines[number + 1..].iter().take_while(|it| it.is_empty() || depth(it) > start);
        let arms = body.filter(|it| depth(it) == start + 4).map(|it| (*it).to_owned()).collect();
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
fn no_file_at_the_root_is_empty() {
    for entry in fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let is_file = entry.file_type().unwrap().is_file();
        let is_empty = entry.metadata().unwrap().len() == 0;
        assert!(!(is_file && is_empty), "{} is empty", entry.path().display());
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

/// Every Rust file of the engine, the plugins and the tests.
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

/// The sources of the engine and the plugins, without tests and benches.
fn production_sources() -> Vec<PathBuf> {
    sources().into_iter().filter(|it| !is_test(it)).collect()
}

fn is_test(path: &Path) -> bool {
    let path = path.strip_prefix(root()).unwrap();
    let mut parts = path.components().map(|it| it.as_os_str().to_string_lossy());
    path.starts_with("tests")
        || path.ends_with("tests.rs")
        || parts.any(|it| it == "tests" || it == "benches")
}

/// The packages of the workspace, as `cargo metadata` describes them.
fn packages() -> Vec<serde_json::Value> {
    let output = Command::new(env::var_os("CARGO").unwrap())
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The crates under `folder`, each with its dependencies without dev-dependencies.
fn crates_in(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let folder = root().join(folder);
    packages()
        .into_iter()
        .filter(|it| Path::new(it["manifest_path"].as_str().unwrap()).starts_with(&folder))
        .map(|package| {
            let all = package["dependencies"].as_array().unwrap().iter();
            let normal = all.filter(|it| it["kind"].is_null());
            let names = normal.map(|it| it["name"].as_str().unwrap().to_owned()).collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}
