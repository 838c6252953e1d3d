//! Copies of workflows that wait less for more of a study: a demonstration and tests send whole
//! studies, and nobody wants to wait minutes for the end of silence.

use std::fs;
use std::io;
use std::path::Path;

/// How long the copies wait after the last instance.
pub const SHORT_WAIT: &str = "2s";

/// What stands before the wait in a workflow file.
const QUIET: &str = "quiet: ";

/// Copies the workflow files of a folder into another, which is created. Only the wait for more of a
/// study differs from the originals.
///
/// # Errors
///
/// Fails if a file cannot be read or written.
pub fn copy_with_short_wait(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let file = entry?.path();
        if let Some(name) = file.file_name()
            && file.extension().is_some_and(|it| it == "yaml")
        {
            fs::write(to.join(name), with_short_wait(&fs::read_to_string(&file)?))?;
        }
    }
    Ok(())
}

/// The text of a workflow file with [`SHORT_WAIT`] for every `quiet`.
pub fn with_short_wait(text: &str) -> String {
    let mut parts = text.split(QUIET);
    let mut short = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|it: char| !it.is_ascii_alphanumeric()).unwrap_or(part.len());
        short.push_str(QUIET);
        short.push_str(SHORT_WAIT);
        short.push_str(part.get(end..).unwrap_or_default());
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_wait_of_a_workflow_is_changed() {
        let text =
            "on: { study: { complete: { quiet: 180s, at_most: { after: 10m } } } }\nquiet: 1m";
        let short =
            "on: { study: { complete: { quiet: 2s, at_most: { after: 10m } } } }\nquiet: 2s";
        assert_eq!(with_short_wait(text), short);
        assert_eq!(with_short_wait("on: { message: {} }"), "on: { message: {} }");
    }

    /// The words of a text, without the one after each `quiet:`.
    fn words_without_waits(text: &str) -> Vec<&str> {
        let mut words = Vec::new();
        let mut is_wait = false;
        for word in text.split([' ', ',']) {
            if !is_wait {
                words.push(word);
            }
            is_wait = word == "quiet:";
        }
        words
    }

    #[test]
    fn din_50_copies_of_the_shipped_workflows_differ_in_their_wait_only() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workflows");
        let folder = std::env::temp_dir().join(format!("isocenter-copies-{}", std::process::id()));
        copy_with_short_wait(&root, &folder).unwrap();
        let mut waits = 0;
        for entry in fs::read_dir(&root).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_none_or(|it| it != "yaml") {
                continue;
            }
            let original = fs::read_to_string(&file).unwrap();
            let copy = fs::read_to_string(folder.join(file.file_name().unwrap())).unwrap();
            assert_eq!(words_without_waits(&original), words_without_waits(&copy), "{file:?}");
            assert_eq!(original.contains(QUIET), original != copy, "{file:?}");
            waits += copy.matches("quiet: 2s").count();
        }
        fs::remove_dir_all(folder).unwrap();
        assert_eq!(waits, 5);
    }
}
