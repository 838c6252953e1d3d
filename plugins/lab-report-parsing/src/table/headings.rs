//! Finds lines that are the headings of columns.

use super::dates::{PrintedDate, newest};
use super::lines::Line;
use crate::page::Word;
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
    /// The date in it.
    pub(crate) date: Option<PrintedDate>,
    /// Whether it is not certain that its column has the newest results.
    pub(crate) is_doubtful: bool,
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
            (Some(heading), Some(last))
                if last.role == Role::Unknown && last.date.is_some() && is_next(last, word) =>
            {
                last.role = heading.role;
                last.right = heading.right;
            }
            (Some(heading), _) => found.push(heading),
            (None, Some(last)) if is_next(last, word) && continues(last, word) => {
                last.right = word.right;
                last.date = last.date.or(dated(word).date);
            }
            (None, _) => found.push(dated(word)),
        }
    }
    let has = |role| found.iter().any(|it| it.role == role);
    let needed = [Role::Name, Role::Result];
    let known = [Role::Name, Role::Result, Role::Reference, Role::Unit];
    let missing = needed.iter().filter(|it| !has(**it)).count();
    let unknown = found.iter().filter(|it| it.role == Role::Unknown).count();
    let count = known.iter().filter(|it| has(**it)).count();
    if count < 2 || missing > unknown.min(1) {
        return None;
    }
    choose_newest(&mut found);
    Some(found)
}

fn is_next(last: &Heading, word: &Word) -> bool {
    word.left - last.right < GAP_MAX * word.height()
}

/// Whether a word that is no heading by itself is a part of the heading before it.
fn continues(last: &Heading, word: &Word) -> bool {
    let is_date = last.role == Role::Result && last.date.is_none() && dated(word).date.is_some();
    last.role == Role::Unknown || is_date
}

/// The heading that a word is: `03.01.2026`, `Result 03.01.2026`, or one that is not known.
fn dated(word: &Word) -> Heading {
    let date = word.text.split_whitespace().find_map(PrintedDate::parse);
    let others = word.text.split_whitespace().filter(|it| PrintedDate::parse(it).is_none());
    let name = others.collect::<Vec<_>>().concat();
    let role = role(&name).filter(|_| date.is_some()).unwrap_or(Role::Unknown);
    Heading { role, left: word.left, right: word.right, date, is_doubtful: false }
}

/// Of dated columns, gives the role of the result to the newest: the others are history, as all are
/// beside a column of results without a date.
fn choose_newest(headings: &mut [Heading]) {
    // Tables side by side have columns of their own.
    if headings.iter().filter(|it| it.role == Role::Name).count() > 1 {
        return;
    }
    let may_be_result = |it: &Heading| matches!(it.role, Role::Result | Role::Unknown);
    let dates: Vec<(usize, PrintedDate)> = headings
        .iter()
        .enumerate()
        .filter(|(_, it)| may_be_result(it))
        .filter_map(|(at, it)| Some((at, it.date?)))
        .collect();
    let has_result = headings.iter().any(|it| it.role == Role::Result && it.date.is_none());
    let newest = newest(&dates).filter(|_| !has_result);
    for (at, _) in dates {
        let Some(heading) = headings.get_mut(at) else { continue };
        let is_newest = newest.is_some_and(|it| it.at == at);
        heading.role = if is_newest { Role::Result } else { Role::Other };
        heading.is_doubtful = newest.is_some_and(|it| !it.is_certain);
    }
}

/// The longest heading at the beginning of some words, and the number of its words.
fn first(words: &[Word]) -> (Option<Heading>, usize) {
    for count in (1..=WORDS_MAX.min(words.len())).rev() {
        let taken = words.get(..count).unwrap_or_default();
        let (Some(from), Some(to)) = (taken.first(), taken.last()) else { continue };
        if taken.array_windows().any(|[a, b]| b.left - a.right > GAP_MAX * a.height()) {
            continue;
        }
        let text: String = taken.iter().map(|it| it.text.as_str()).collect();
        if let Some(role) = role(&text) {
            let heading =
                Heading { role, left: from.left, right: to.right, date: None, is_doubtful: false };
            return (Some(heading), count);
        }
    }
    (None, 1)
}
