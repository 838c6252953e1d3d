//! No dependency cycles between the files of a crate.
//!
//! Files are the modules of a crate. An arrow leads from a file to each file whose items it names,
//! by `use` or by a path in the code. A name that `lib.rs` or a `mod.rs` re-exports counts as an
//! item of the file that defines it. A `mod` declaration is no arrow, and tests do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::{production_sources, root};

/// The module of each file of a crate, `a::b`, and the text of the file without its tests.
type Modules = BTreeMap<String, String>;

#[test]
fn no_circle_of_files() {
    let mut circles = Vec::new();
    for (name, modules) in crates() {
        let arrows = arrows(&modules);
        circles.extend(circles_in(&arrows).into_iter().map(|it| format!("{name}: {it:?}")));
    }
    assert_eq!(circles, Vec::<String>::new());
}

/// The modules of each crate of the project, by the folder of the crate.
fn crates() -> BTreeMap<String, Modules> {
    let mut crates: BTreeMap<String, Modules> = BTreeMap::new();
    for path in production_sources() {
        let path = path.strip_prefix(root()).unwrap().to_owned();
        let text = path.to_string_lossy().into_owned();
        let Some((name, file)) = text.split_once("/src/") else { continue };
        let source = without_tests(&fs::read_to_string(root().join(&path)).unwrap());
        crates.entry(name.to_owned()).or_default().insert(module_of(file), source);
    }
    crates
}

/// The module of a file: `a/b.rs` and `a/b/mod.rs` are `a::b`. The root, `lib.rs` or `main.rs`, has
/// an empty name.
fn module_of(file: &str) -> String {
    let file = Path::new(file).with_extension("");
    let parts: Vec<String> = file.iter().map(|it| it.to_string_lossy().into_owned()).collect();
    let parts = match parts.split_last() {
        Some((last, rest)) if last == "mod" => rest.to_vec(),
        Some((last, rest)) if rest.is_empty() && (last == "lib" || last == "main") => Vec::new(),
        _ => parts,
    };
    parts.join("::")
}

/// The text up to its tests, without comments.
pub(crate) fn without_tests(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let code = text.get(..end).unwrap_or(text).lines();
    let code = code.filter(|it| !it.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// Which modules each module uses.
fn arrows(modules: &Modules) -> BTreeMap<String, BTreeSet<String>> {
    let mut exports: BTreeMap<String, String> = BTreeMap::new();
    for (module, text) in modules {
        for path in used_paths(text, "pub use ").chain(used_paths(text, "pub(crate) use ")) {
            let path = absolute(&path, module, modules);
            if let Some((target, name)) = path.as_deref().and_then(|it| it.rsplit_once("::")) {
                let exported =
                    if module.is_empty() { String::new() } else { format!("{module}::") };
                if let Some(target) = longest_module(target, modules) {
                    exports.insert(format!("{exported}{name}"), target);
                }
            }
        }
    }
    let mut arrows = BTreeMap::new();
    for (module, text) in modules {
        let is_front = modules.keys().any(|it| it.starts_with(&format!("{module}::")));
        let mut targets = BTreeSet::new();
        for path in used_paths(text, "use ").chain(inline_paths(text)) {
            let Some(path) = absolute(&path, module, modules) else { continue };
            let target = exports.get(&path).cloned();
            let Some(target) = target.or_else(|| longest_module(&path, modules)) else { continue };
            // A re-export from a child module is no use by the parent.
            let is_below = module.is_empty() || target.starts_with(&format!("{module}::"));
            if target != *module && !(is_below && (is_front || module.is_empty())) {
                targets.insert(target);
            }
        }
        arrows.insert(module.clone(), targets);
    }
    arrows
}

/// Every path of the `use` statements with this beginning, with their braces expanded.
fn used_paths<'a>(text: &'a str, beginning: &'a str) -> impl Iterator<Item = String> + 'a {
    let lines = text.match_indices(beginning).filter(move |(at, _)| {
        let before = text.get(..*at).unwrap_or_default();
        before.is_empty() || before.ends_with('\n') || before.ends_with(' ')
    });
    lines.flat_map(move |(at, _)| {
        let rest = text.get(at + beginning.len()..).unwrap_or_default();
        let statement = rest.split(';').next().unwrap_or_default();
        let mut paths = Vec::new();
        expand("", &statement.replace(char::is_whitespace, " "), &mut paths);
        paths
    })
}

/// Expands `a::{b, c::d}` to `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    if let Some((head, inner)) = tree.split_once('{') {
        let inner = inner.rsplit_once('}').map_or(inner, |it| it.0);
        let mut depth = 0;
        let mut start = 0;
        for (at, letter) in inner.char_indices().chain([(inner.len(), ',')]) {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    let part = inner.get(start..at).unwrap_or_default();
                    expand(&format!("{prefix}{}", head.trim()), part, paths);
                    start = at + 1;
                }
                _ => {}
            }
        }
    } else if !tree.is_empty() {
        let path = tree.split(" as ").next().unwrap_or(tree);
        paths.push(format!("{prefix}{path}").replace(' ', "").replace("::self", ""));
    }
}

/// Every path in the code that begins with `crate::` or `super::`.
fn inline_paths(text: &str) -> impl Iterator<Item = String> + '_ {
    let starts = ["crate::", "super::"].into_iter().flat_map(|it| text.match_indices(it));
    starts.filter_map(|(at, _)| {
        let before = text.get(..at)?.chars().next_back();
        if before.is_some_and(|it| it.is_alphanumeric() || it == '_' || it == ':') {
            return None;
        }
        let rest = text.get(at..)?;
        let is_part = |it: char| it.is_alphanumeric() || it == '_' || it == ':';
        let end = rest.find(|it| !is_part(it)).unwrap_or(rest.len());
        Some(rest.get(..end)?.trim_end_matches(':').to_owned())
    })
}

/// Resolves `crate`, `super` and `self`. Returns `None` for paths of other crates.
fn absolute(path: &str, module: &str, modules: &Modules) -> Option<String> {
    if let Some(rest) = path.strip_prefix("crate::") {
        return Some(rest.to_owned());
    }
    let mut base: Vec<&str> = module.split("::").filter(|it| !it.is_empty()).collect();
    let mut rest = path;
    if let Some(after) = path.strip_prefix("self::") {
        rest = after;
    } else if path.starts_with("super::") {
        while let Some(after) = rest.strip_prefix("super::") {
            base.pop();
            rest = after;
        }
    } else {
        // A child module may be named without `self`.
        let first = path.split("::").next()?;
        let child = [&base[..], &[first]].concat().join("::");
        if !modules.contains_key(&child) {
            return None;
        }
    }
    Some([&base[..], &[rest]].concat().join("::"))
}

/// The file of a path: the longest prefix of the path that is a module.
fn longest_module(path: &str, modules: &Modules) -> Option<String> {
    let mut path = path;
    loop {
        if modules.contains_key(path) {
            return Some(path.to_owned());
        }
        path = path.rsplit_once("::")?.0;
    }
}

/// The strongly connected components of a graph that have a cycle. Computed by reachability, which
/// is fast enough for the number of files of a crate.
fn circles_in(arrows: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<Vec<String>> {
    let reach: BTreeMap<&String, BTreeSet<String>> =
        arrows.keys().map(|it| (it, reachable(it, arrows))).collect();
    let mut circles = BTreeSet::new();
    for (module, targets) in &reach {
        if targets.contains(*module) {
            let is_in = |it: &&String| targets.contains(*it) && reach[*it].contains(*module);
            circles.insert(reach.keys().copied().filter(|it| is_in(it)).cloned().collect());
        }
    }
    circles
}

fn reachable(from: &str, arrows: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut pending = vec![from.to_owned()];
    while let Some(module) = pending.pop() {
        for target in arrows.get(&module).into_iter().flatten() {
            if found.insert(target.clone()) {
                pending.push(target.clone());
            }
        }
    }
    found
}

fn modules(texts: &[(&str, &str)]) -> Modules {
    texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// Checks the rule itself, with files that use each other directly and through a re-export.
#[test]
fn a_circle_is_found() {
    let direct = modules(&[
        ("", "mod a;\nmod b;"),
        ("a", "use crate::b::B;\npub struct A;"),
        ("b", "fn b() -> crate::a::A { crate::a::A }"),
    ]);
    assert_eq!(circles_in(&arrows(&direct)).len(), 1);
    let through_reexports = modules(&[
        ("", "mod a;\nmod b;\npub use a::{A, C};\npub use b::B;"),
        ("a", "use crate::B;"),
        ("b", "use crate::{A, C as D};"),
    ]);
    assert_eq!(circles_in(&arrows(&through_reexports)).len(), 1);
    let straight = modules(&[
        ("", "mod a;\nmod b;\npub use a::A;"),
        ("a", "pub struct A;"),
        ("b", "use crate::A;\n#[cfg(test)]\nmod tests {}"),
    ]);
    assert!(circles_in(&arrows(&straight)).is_empty());
}
