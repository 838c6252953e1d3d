//! Reads the rows of a table from the lines below its headings.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::Entry;
use super::comments::{LineKind, is_sentence, kind};
use super::headings::{Heading, headings};
use super::lines::{Line, lines, text};
use super::placement::{are_of_two_lines, is_on_row};
use super::plausibility::has_two_values;
use crate::doubt::Doubt;
use crate::page::spots::Spot;
use crate::page::{Page, UNREAD, Word};
use crate::vocabulary::roles::Role;
use crate::vocabulary::units::is_like_unit;

/// Upper bound of the distance of a line to the one that it continues, in heights of its letters.
const CONTINUATION_DISTANCE_MAX: f32 = 1.9;

/// One of several tables side by side: its headings, and the range of its horizontal positions.
struct Panel {
    headings: Vec<Heading>,
    inside: Range<f32>,
}

/// A column, up to its right edge.
struct Column {
    role: Role,
    until: f32,
    is_doubtful: bool,
}

/// The rows of a document. A page without headings continues the table of the page before.
pub(crate) fn entries(pages: &[Page]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut last: Vec<Heading> = Vec::new();
    for page in pages {
        let lines = lines(&page.words);
        let tables = tables(&lines, &mut last);
        for (headings, body) in tables {
            for panel in panels(&headings) {
                entries.extend(rows(&panel, body, &page.spots));
            }
        }
    }
    entries.retain(|it| !it.name.is_empty() && !it.result.is_empty());
    entries
}

/// Headings with the lines below them, up to the next headings.
fn tables<'a>(lines: &'a [Line], last: &mut Vec<Heading>) -> Vec<(Vec<Heading>, &'a [Line])> {
    let starts: Vec<(usize, Vec<Heading>)> =
        lines.iter().enumerate().filter_map(|(at, it)| Some((at, headings(it)?))).collect();
    if starts.is_empty() && !last.is_empty() {
        return vec![(last.clone(), lines)];
    }
    let mut tables = Vec::new();
    for (index, (at, found)) in starts.iter().enumerate() {
        let to = starts.get(index + 1).map_or(lines.len(), |(it, _)| *it);
        tables.push((found.clone(), lines.get(at + 1..to).unwrap_or_default()));
        last.clone_from(found);
    }
    tables
}

/// Splits headings into tables side by side: a new one begins with each repeated role.
fn panels(headings: &[Heading]) -> Vec<Panel> {
    let mut panels: Vec<Vec<Heading>> = Vec::new();
    for heading in headings {
        let is_again = |panel: &Vec<Heading>| {
            !matches!(heading.role, Role::Other | Role::Unknown)
                && panel.iter().any(|it| it.role == heading.role)
        };
        match panels.last_mut() {
            Some(panel) if !is_again(panel) => panel.push(heading.clone()),
            _ => panels.push(vec![heading.clone()]),
        }
    }
    // A column before a repeated heading belongs to the table that this heading opens: 序号, 项目, 结果,
    // 序号, 项目, 结果.
    for at in 1..panels.len() {
        let (left, right) = panels.split_at_mut(at);
        if let (Some(left), Some(right)) = (left.last_mut(), right.first_mut())
            && left.last().is_some_and(|it| it.role == Role::Other)
            && left.first().is_some_and(|it| it.role == Role::Other)
            && let Some(number) = left.pop()
        {
            right.insert(0, number);
        }
    }
    let edges: Vec<f32> = panels
        .iter()
        .map(|it| it.first().map_or(0.0, |it| it.left))
        .skip(1)
        .chain([f32::MAX])
        .collect();
    let mut from = f32::MIN;
    let with_edges = panels.into_iter().zip(edges).map(|(headings, to)| {
        let inside = from..to;
        from = to;
        Panel { headings, inside }
    });
    with_edges.collect()
}

/// The rows of one table. Comments between them do not end it. Below a line that does, only lines
/// that have all columns of a row are rows, and they are doubted.
fn rows(panel: &Panel, body: &[Line], spots: &[Spot]) -> Vec<Entry> {
    let is_inside = |it: &&Word| panel.inside.contains(&it.middle());
    let inside = |line: &Line| -> Line { line.iter().filter(is_inside).cloned().collect() };
    let body: Vec<(LineKind, Line)> = body.iter().map(|it| (kind(it), inside(it))).collect();
    let end = body.iter().position(|it| it.0 == LineKind::End).unwrap_or(body.len());
    let above = body.get(..end).unwrap_or_default();
    let is_cells = |it: &&(LineKind, Line)| it.0 == LineKind::Row && !is_sentence(&it.1);
    let cells: Vec<Line> = above.iter().filter(is_cells).map(|it| it.1.clone()).collect();
    let mut columns = columns(&panel.headings, &cells);
    assign_unknown_roles(&mut columns, &cells);
    let has_small_names = has_small_names(&cells, &columns);
    let mut rows = Rows { spots, has_small_names, ..Rows::default() };
    for (at, (kind, line)) in body.iter().enumerate().filter(|(_, it)| !it.1.is_empty()) {
        let is_comment = *kind != LineKind::Row || is_comment(line, &columns);
        if is_comment || rows.continues_comment(line, &columns) {
            rows.add_comment(line);
        } else if at < end {
            rows.add_line(line, &columns);
        } else if is_whole(&cells_of(line, &columns)) {
            rows.add_line(line, &columns);
            if let Some(row) = rows.done.last_mut() {
                row.doubts.insert(Doubt::BelowEnd);
            }
        }
    }
    remove_row_numbers(&mut rows.done);
    rows.done
}

/// Whether a line is a sentence that begins at the names and runs over the columns behind them.
fn is_comment(line: &Line, columns: &[Column]) -> bool {
    let edge = columns.iter().find(|it| it.role == Role::Name).map_or(f32::MAX, |it| it.until);
    let Some(first) = line.first() else { return false };
    let right = line.last().map_or(0.0, |it| it.right);
    is_sentence(line) && first.left < edge && right > edge + first.height()
}

/// Whether names of rows begin with small letters in this table.
fn has_small_names(cells: &[Line], columns: &[Column]) -> bool {
    let rows = cells.iter().map(|it| cells_of(it, columns));
    let names: Vec<String> = rows
        .filter(|it| !it.result.is_empty())
        .map(|it| it.name)
        .filter(|it| !it.is_empty())
        .collect();
    let small = names.iter().filter(|it| starts_small(it)).count();
    small * 2 > names.len()
}

/// Whether a line has all that a row has: a name, a result, and a unit or a reference.
fn is_whole(entry: &Entry) -> bool {
    let has_more = !entry.unit.is_empty() || looks_like(&entry.reference, Role::Reference);
    !entry.name.is_empty() && looks_like(&entry.result, Role::Result) && has_more
}

/// The cells of a line, by their columns.
fn cells_of(line: &Line, columns: &[Column]) -> Entry {
    let mut cells: BTreeMap<Role, Vec<Word>> = BTreeMap::new();
    for word in line {
        let role = role_at(columns, word.middle());
        cells.entry(role).or_default().push(word.clone());
    }
    if let Some([name]) = cells.get_mut(&Role::Name).map(Vec::as_mut_slice)
        && let Some(chinese) = name.chinese.take()
    {
        name.text = chinese;
    }
    let cell = |role| cells.get(&role).map(|it| text(it)).unwrap_or_default();
    let is_doubtful = columns.iter().any(|it| it.role == Role::Result && it.is_doubtful);
    Entry {
        name: cell(Role::Name),
        result: cell(Role::Result),
        reference: cell(Role::Reference),
        unit: cell(Role::Unit),
        flag: cell(Role::Flag),
        doubts: is_doubtful.then_some(Doubt::Undated).into_iter().collect(),
    }
}

/// The role of the column at this place of a line.
fn role_at(columns: &[Column], x: f32) -> Role {
    columns.iter().find(|it| x < it.until).map_or(Role::Other, |it| it.role)
}

/// Why the row of a line may be wrong, by what is printed around its words.
fn doubts_of(line: &Line, columns: &[Column], spots: &[Spot]) -> BTreeSet<Doubt> {
    let is_own = |x: f32| role_at(columns, x) != Role::Other;
    let own: Vec<&Word> = line.iter().filter(|it| is_own(it.middle())).collect();
    let near = spots.iter().filter(|it| is_own(it.across()) && is_on_row(it, &own));
    let mut doubts: BTreeSet<Doubt> = near.map(|it| it.doubt).collect();
    if are_of_two_lines(&own) {
        doubts.insert(Doubt::TwoLines);
    }
    doubts
}

/// Whether a line has ink where its result should be.
fn has_unread_result(line: &Line, columns: &[Column], spots: &[Spot]) -> bool {
    let words: Vec<&Word> = line.iter().collect();
    let is_ink = |it: &&Spot| it.doubt == Doubt::UnreadInk && is_on_row(it, &words);
    spots.iter().filter(is_ink).any(|it| role_at(columns, it.across()) == Role::Result)
}

/// Removes row numbers from names, where the heading of their column was not read. They are
/// recognised by counting up.
fn remove_row_numbers(entries: &mut [Entry]) {
    let number = |it: &Entry| {
        let (number, name) = it.name.split_once(' ')?;
        let number: usize = number.trim_end_matches(['.', ')', '、']).parse().ok()?;
        Some((number, name.trim().to_owned()))
    };
    let numbers: Vec<usize> = entries.iter().filter_map(number).map(|it| it.0).collect();
    let counts = numbers.array_windows().filter(|[a, b]| b.wrapping_sub(*a) == 1).count();
    if numbers.len() < 3
        || numbers.len() * 10 < entries.len() * 7
        || counts * 10 < numbers.len() * 6
    {
        return;
    }
    for entry in entries {
        if let Some((_, name)) = number(entry) {
            entry.name = name;
        }
    }
}

/// The columns of a table. Neighbouring columns meet where the fewest words are, between their
/// headings.
fn columns(headings: &[Heading], body: &[Line]) -> Vec<Column> {
    let mut headings = headings.to_vec();
    headings.sort_by(|a, b| a.left.total_cmp(&b.left));
    let words: Vec<&Word> = body.iter().flatten().collect();
    let columns = headings.iter().enumerate().map(|(at, heading)| {
        let next = headings.get(at + 1);
        let until = next.map_or(f32::MAX, |next| gutter(heading, next, &words));
        Column { role: heading.role, until, is_doubtful: heading.is_doubtful }
    });
    columns.collect()
}

/// Gives columns with an unknown heading a role that is missing and that their cells look like.
fn assign_unknown_roles(columns: &mut [Column], body: &[Line]) {
    let mut from = f32::MIN;
    for at in 0..columns.len() {
        let Some(Column { role, until, .. }) = columns.get(at) else { continue };
        let inside = from..*until;
        from = *until;
        if *role != Role::Unknown {
            continue;
        }
        let cells = body.iter().filter_map(|line| {
            let inside = line.iter().filter(|it| inside.contains(&it.middle()));
            let cell: Vec<Word> = inside.cloned().collect();
            (!cell.is_empty()).then(|| text(&cell))
        });
        let cells: Vec<String> = cells.collect();
        let is_free = |it: &Role| !columns.iter().any(|column| column.role == *it);
        let likely = |it: &Role| {
            let like = cells.iter().filter(|cell| looks_like(cell, *it)).count();
            like * 5 >= cells.len() * 3 && like > 0
        };
        let roles = [Role::Reference, Role::Unit, Role::Result, Role::Name];
        let found = roles.into_iter().filter(is_free).find(likely).unwrap_or(Role::Other);
        if let Some(column) = columns.get_mut(at) {
            column.role = found;
        }
    }
}

/// Whether a cell looks like one of a column of this role.
fn looks_like(cell: &str, role: Role) -> bool {
    let has_figure = cell.contains(|it: char| it.is_ascii_digit());
    let folded = encoding::laboratory::unit::folded_text(cell);
    let is_quality = ["阴性", "阳性", "Negative", "Positive"].contains(&folded.as_str());
    match role {
        Role::Reference => {
            let inner = folded.get(1..).unwrap_or_default();
            let is_range = inner.contains(['-', '~']) || folded.contains(" to ");
            has_figure && (is_range || folded.starts_with(['<', '>', '≤', '≥'])) || is_quality
        }
        Role::Unit => is_like_unit(&folded),
        Role::Result => {
            let number = folded.trim_start_matches(['<', '>', '≤', '≥', '=', '+', '-']);
            number.starts_with(|it: char| it.is_ascii_digit()) || is_quality
        }
        Role::Name => folded.chars().filter(|it| it.is_alphabetic()).count() >= 1 && !is_quality,
        Role::Flag | Role::Other | Role::Unknown => false,
    }
}

/// The position between two columns that crosses the fewest words.
fn gutter(heading: &Heading, next: &Heading, words: &[&Word]) -> f32 {
    const STEPS: u16 = 120;
    let from = f32::midpoint(heading.left, heading.right);
    let to = f32::midpoint(next.left, next.right);
    let place = |it: u16| from + (to - from) * f32::from(it) / f32::from(STEPS);
    let covered = |it: u16| {
        let x = place(it);
        let on_word = words.iter().filter(|it| it.left < x && x < it.right).count();
        let on_heading = [heading, next].iter().filter(|it| it.left < x && x < it.right).count();
        on_word * 4 + on_heading
    };
    let counts: Vec<usize> = (0..=STEPS).map(covered).collect();
    let min = counts.iter().min().copied().unwrap_or(0);
    // The widest of the emptiest gaps.
    let mut best = (0, 0);
    let mut start = None;
    for (at, count) in counts.iter().chain([&usize::MAX]).enumerate() {
        match (start, *count == min) {
            (None, true) => start = Some(at),
            (Some(first), false) => {
                if at - first > best.1 - best.0 {
                    best = (first, at);
                }
                start = None;
            }
            _ => {}
        }
    }
    let middle = usize::midpoint(best.0, best.1.saturating_sub(1));
    place(u16::try_from(middle).unwrap_or(STEPS / 2))
}

/// Rows under construction, line by line.
#[derive(Default)]
struct Rows<'a> {
    /// Places of the page where its words are not to be relied on.
    spots: &'a [Spot],
    done: Vec<Entry>,
    /// A name without a result, which may follow on the next line, and the lower edge of the name.
    waiting: Option<(String, f32)>,
    /// Lower edge of the previous line.
    bottom: f32,
    /// Whether the previous line was a comment.
    is_in_comment: bool,
    /// Whether a small letter may begin a name, and does not continue that of the line before.
    has_small_names: bool,
}

impl Rows<'_> {
    /// Passes over a comment. What follows it continues no row.
    fn add_comment(&mut self, line: &Line) {
        self.waiting = None;
        self.is_in_comment = true;
        self.bottom = line.iter().map(|it| it.bottom).fold(0.0, f32::max);
    }

    /// Whether a line is the next of a comment: close below it, without a result, and beginning
    /// with a small letter.
    fn continues_comment(&self, line: &Line, columns: &[Column]) -> bool {
        let entry = cells_of(line, columns);
        let top = line.iter().map(|it| it.top).fold(f32::MAX, f32::min);
        let height = line.iter().map(Word::height).fold(0.0, f32::max);
        self.is_in_comment
            && top - self.bottom < (CONTINUATION_DISTANCE_MAX - 1.0) * height
            && entry.result.is_empty()
            && (is_sentence(line) || starts_small(&entry.name))
    }

    fn add_line(&mut self, line: &Line, columns: &[Column]) {
        self.is_in_comment = false;
        let mut entry = cells_of(line, columns);
        entry.doubts.extend(doubts_of(line, columns, self.spots));
        if has_two_values(&entry.result) {
            entry.doubts.insert(Doubt::TwoValues);
        }
        let is_row = !entry.name.is_empty()
            && (is_like_unit(&entry.unit) || looks_like(&entry.reference, Role::Reference));
        if entry.result.is_empty() && is_row && has_unread_result(line, columns, self.spots) {
            entry.result = UNREAD.to_string();
        }
        let top = line.iter().map(|it| it.top).fold(f32::MAX, f32::min);
        let height = line.iter().map(Word::height).fold(0.0, f32::max);
        let is_close = |bottom: f32| top - bottom < (CONTINUATION_DISTANCE_MAX - 1.0) * height;
        if entry.result.is_empty() {
            self.continue_row(entry, is_close(self.bottom), top + height);
        } else {
            let may_continue = is_rest_of_name(&entry.name) && !self.has_small_names;
            if let Some((mut name, bottom)) = self.waiting.take()
                && (entry.name.is_empty() || may_continue)
                && is_close(bottom)
            {
                entry.doubts.extend(may_continue.then_some(Doubt::BelowName));
                join(&mut name, &entry.name);
                entry.name = name;
            }
            self.done.push(entry);
        }
        self.bottom = top + height;
    }

    /// Adds a line without a result: the continuation of the previous row, or the beginning of the
    /// next one.
    fn continue_row(&mut self, more: Entry, is_close: bool, bottom: f32) {
        let is_unfinished = |it: &Entry| {
            let open = |a, b| it.name.matches(a).count() > it.name.matches(b).count();
            open('(', ')') || open('[', ']') || it.name.ends_with(['-', ',', '/', '+'])
        };
        match self.done.last_mut() {
            Some(row) if is_close && more.name.is_empty() => add_second_line(row, more),
            Some(row) if is_close && (is_unfinished(row) || starts_small(&more.name)) => {
                add_second_line(row, more);
            }
            _ if !more.name.is_empty() => self.waiting = Some((more.name, bottom)),
            _ => {}
        }
    }
}

/// Whether a name may be the rest of one that begins in the line above: it begins with a word in
/// small letters, and not as `pH` or `eGFR` do.
fn is_rest_of_name(name: &str) -> bool {
    let word = name.split_whitespace().next().unwrap_or_default();
    word.chars().count() >= 4 && word.chars().all(char::is_lowercase)
}

fn starts_small(name: &str) -> bool {
    name.starts_with(|it: char| it.is_lowercase() || it == '(' || it == '[')
}

/// Adds the second line of a row. Two values in one cell are doubted: the line may be one of a row
/// without a name.
fn add_second_line(row: &mut Entry, more: Entry) {
    let is_second = |a: &str, b: &str| !a.is_empty() && !b.is_empty();
    if is_second(&row.reference, &more.reference) || is_second(&row.unit, &more.unit) {
        row.doubts.insert(Doubt::TwoLines);
    }
    join(&mut row.name, &more.name);
    join(&mut row.reference, &more.reference);
    join(&mut row.unit, &more.unit);
    row.doubts.extend(more.doubts);
}

fn join(text: &mut String, more: &str) {
    if more.is_empty() {
        return;
    }
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(more);
}

#[cfg(test)]
mod tests;
