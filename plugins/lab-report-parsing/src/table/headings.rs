//! Lines that are headings of columns.

use super::lines::Line;
use crate::vocabulary::roles::{Role, role};

/// Longest heading, in words as they are recognised: Chinese comes letter by letter.
const WORDS_MAX: usize = 6;

/// Words that are farther apart, in heights of their letters, are two headings.
const GAP: f32 = 1.0;

/// A heading and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heading {
    /// What its column holds.
    pub(crate) role: Role,
    /// Left edge.
    pub(crate) left: f32,
    /// Right edge.
    pub(crate) right: f32,
}

/// The headings of a line: none, unless two are known, and all there have to be may be among them.
pub(crate) fn headings(line: &Line) -> Option<Vec<Heading>> {
    let mut found: Vec<Heading> = Vec::new();
    let mut at = 0;
    while let Some(word) = line.get(at) {
        let (heading, taken) = first(line.get(at..).unwrap_or_default());
        at += taken;
        match (heading, found.last_mut()) {
            (Some(heading), _) => found.push(heading),
            (None, Some(last))
                if last.role == Role::Unknown && word.left - last.right < GAP * word.height() =>
            {
                last.right = word.right;
            }
            (None, _) => {
                let (left, right) = (word.left, word.right);
                found.push(Heading { role: Role::Unknown, left, right });
            }
        }
    }
    let has = |role| found.iter().any(|it| it.role == role);
    let needed = [Role::Name, Role::Result];
    let known = [Role::Name, Role::Result, Role::Reference, Role::Unit];
    let missing = needed.iter().filter(|it| !has(**it)).count();
    let unknown = found.iter().filter(|it| it.role == Role::Unknown).count();
    let count = known.iter().filter(|it| has(**it)).count();
    (count >= 2 && missing <= unknown.min(1)).then_some(found)
}

/// The longest heading at the beginning of words, and how many of them it takes.
fn first(words: &[crate::page::Word]) -> (Option<Heading>, usize) {
    for count in (1..=WORDS_MAX.min(words.len())).rev() {
        let taken = words.get(..count).unwrap_or_default();
        let (Some(from), Some(to)) = (taken.first(), taken.last()) else { continue };
        if taken.array_windows().any(|[a, b]| b.left - a.right > GAP * a.height()) {
            continue;
        }
        let text: String = taken.iter().map(|it| it.text.as_str()).collect();
        if let Some(role) = role(&text) {
            return (Some(Heading { role, left: from.left, right: to.right }), count);
        }
    }
    (None, 1)
}
