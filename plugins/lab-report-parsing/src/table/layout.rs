//! Reads the rows of a table from the lines below its headings.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Entry;
use super::headings::{Heading, headings};
use super::lines::{Line, lines, text};
use crate::page::{Page, Word};
use crate::vocabulary::roles::Role;
use crate::vocabulary::units::is_like_unit;

/// Upper bound of the distance of a line to the one that it continues, in heights of its letters.
const CONTINUATION_DISTANCE_MAX: f32 = 1.9;

/// Beginnings of a line with a colon that ends a table.
const END_LABELS: &[&str] = &[
    "备注",
    "检验者",
    "审核者",
    "检验医师",
    "检验日期",
    "报告时间",
    "报告日期",
    "采样时间",
    "接收时间",
    "采集时间",
    "送检",
    "注",
    "说明",
    "建议",
    "note",
    "comment",
    "remark",
    "report",
    "verified",
    "authoris",
    "authoriz",
    "collect",
    "receiv",
    "print",
    "approved",
    "technician",
    "signature",
    "performed",
    "specimen",
];

/// Beginnings of a line without a colon that ends a table.
const END_PHRASES: &[&str] =
    &["本报告", "此报告", "end of report", "this report", "page ", "* ", "第1页", "** "];

/// One of several tables side by side: its headings, and the range of its horizontal positions.
struct Panel {
    headings: Vec<Heading>,
    inside: Range<f32>,
}

/// A column, up to its right edge.
struct Column {
    role: Role,
    until: f32,
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
                entries.extend(rows(&panel, body));
            }
        }
    }
    entries.retain(|it| !it.name.is_empty() && !it.result.is_empty());
    entries
}

/// Headings with the lines below them, up to the next headings or the end of the table.
fn tables<'a>(lines: &'a [Line], last: &mut Vec<Heading>) -> Vec<(Vec<Heading>, &'a [Line])> {
    let starts: Vec<(usize, Vec<Heading>)> =
        lines.iter().enumerate().filter_map(|(at, it)| Some((at, headings(it)?))).collect();
    let end = |from: usize, to: usize| {
        let body = lines.get(from..to).unwrap_or_default();
        body.iter().position(is_end).map_or(body, |it| body.get(..it).unwrap_or_default())
    };
    if starts.is_empty() && !last.is_empty() {
        return vec![(last.clone(), end(0, lines.len()))];
    }
    let mut tables = Vec::new();
    for (index, (at, found)) in starts.iter().enumerate() {
        let to = starts.get(index + 1).map_or(lines.len(), |(it, _)| *it);
        tables.push((found.clone(), end(at + 1, to)));
        last.clone_from(found);
    }
    tables
}

fn is_end(line: &Line) -> bool {
    let text = encoding::laboratory::unit::folded_text(&text(line)).to_lowercase();
    let is_keyed = |it: &&str| {
        let key = text.split(':').next().unwrap_or_default();
        text.starts_with(*it) && text.contains(':') && key.chars().count() <= 24
    };
    END_LABELS.iter().any(is_keyed) || END_PHRASES.iter().any(|it| text.starts_with(it))
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

/// The rows of one table.
fn rows(panel: &Panel, body: &[Line]) -> Vec<Entry> {
    let is_inside = |it: &&Word| panel.inside.contains(&it.middle());
    let body: Vec<Line> =
        body.iter().map(|line| line.iter().filter(is_inside).cloned().collect()).collect();
    let mut columns = columns(&panel.headings, &body);
    assign_unknown_roles(&mut columns, &body);
    let mut rows = Rows::default();
    for line in body.iter().filter(|it| !it.is_empty()) {
        rows.add_line(line, &columns);
    }
    remove_row_numbers(&mut rows.done);
    rows.done
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
        Column { role: heading.role, until }
    });
    columns.collect()
}

/// Gives columns with an unknown heading a role that is missing and that their cells look like.
fn assign_unknown_roles(columns: &mut [Column], body: &[Line]) {
    let mut from = f32::MIN;
    for at in 0..columns.len() {
        let Some(Column { role, until }) = columns.get(at) else { continue };
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
struct Rows {
    done: Vec<Entry>,
    /// A name without a result, which may follow on the next line, and the lower edge of the name.
    waiting: Option<(String, f32)>,
    /// Lower edge of the previous line.
    bottom: f32,
}

impl Rows {
    fn add_line(&mut self, line: &Line, columns: &[Column]) {
        let mut cells: BTreeMap<Role, Vec<Word>> = BTreeMap::new();
        for word in line {
            let column = columns.iter().find(|it| word.middle() < it.until);
            let role = column.map_or(Role::Other, |it| it.role);
            cells.entry(role).or_default().push(word.clone());
        }
        if let Some([name]) = cells.get_mut(&Role::Name).map(Vec::as_mut_slice)
            && let Some(chinese) = name.chinese.take()
        {
            name.text = chinese;
        }
        let cell = |role| cells.get(&role).map(|it| text(it)).unwrap_or_default();
        let mut entry = Entry {
            name: cell(Role::Name),
            result: cell(Role::Result),
            reference: cell(Role::Reference),
            unit: cell(Role::Unit),
            flag: cell(Role::Flag),
        };
        let top = line.iter().map(|it| it.top).fold(f32::MAX, f32::min);
        let height = line.iter().map(Word::height).fold(0.0, f32::max);
        let is_close = |bottom: f32| top - bottom < (CONTINUATION_DISTANCE_MAX - 1.0) * height;
        if entry.result.is_empty() {
            self.continue_row(entry, is_close(self.bottom), top + height);
        } else {
            if let Some((name, bottom)) = self.waiting.take()
                && entry.name.is_empty()
                && is_close(bottom)
            {
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
            Some(row) if is_close && more.name.is_empty() => {
                join(&mut row.reference, &more.reference);
                join(&mut row.unit, &more.unit);
            }
            Some(row) if is_close && (is_unfinished(row) || starts_small(&more.name)) => {
                join(&mut row.name, &more.name);
                join(&mut row.reference, &more.reference);
                join(&mut row.unit, &more.unit);
            }
            _ if !more.name.is_empty() => self.waiting = Some((more.name, bottom)),
            _ => {}
        }
    }
}

fn starts_small(name: &str) -> bool {
    name.starts_with(|it: char| it.is_lowercase() || it == '(' || it == '[')
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
