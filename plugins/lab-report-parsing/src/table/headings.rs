//! Finds lines that are the headings of columns.

use super::lines::Line;
use crate::vocabulary::roles::{Role, role};

/// Upper bound of the words of a heading. Chinese is recognised character by character.
const WORDS_MAX: usize = 6;

/// Upper bound of a gap within a heading, in heights of its letters.
const GAP_MAX: f32 = 1.0;

/// A heading with its position.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heading {
    /// Role of its column.
    pub(crate) role: Role,
    /// Left edge.
    pub(crate) left: f32,
    /// Right edge.
    pub(crate) right: f32,
}

/// The headings of a line; nothing unless two of them are known, and name and result are among them
/// or may be the one that is unknown.
pub(crate) fn headings(line: &Line) -> Option<Vec<Heading>> {
    let mut found: Vec<Heading> = Vec::new();
    let mut at = 0;
    while let Some(word) = line.get(at) {
        let (heading, taken) = first(line.get(at..).unwrap_or_default());
        at += taken;
        match (heading, found.last_mut()) {
            (Some(heading), _) => found.push(heading),
            (None, Some(last))
                if last.role == Role::Unknown
                    && word.left - last.right < GAP_MAX * word.height() =>
            {
                last.right = word.right;
            }
            (None, _) => {
                let left = word.left;
                let right = word.right;
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

/// The longest heading at the beginning of some words, and the number of its words.
fn first(words: &[crate::page::Word]) -> (Option<Heading>, usize) {
    for count in (1..=WORDS_MAX.min(words.len())).rev() {
        let taken = words.get(..count).unwrap_or_default();
        let (Some(from), Some(to)) = (taken.first(), taken.last()) else { continue };
        if taken.array_windows().any(|[a, b]| b.left - a.right > GAP_MAX * a.height()) {
            continue;
        }
        let text: String = taken.iter().map(|it| it.text.as_str()).collect();
        if let Some(role) = role(&text) {
            return (Some(Heading { role, left: from.left, right: to.right }), count);
        }
    }
    (None, 1)
}
