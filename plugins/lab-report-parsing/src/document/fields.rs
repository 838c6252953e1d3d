//! The fields of a document: what stands behind their labels, on one line or on several, and the
//! items of lists and tables.

use std::collections::BTreeMap;

use super::kind::{ItemEntry, Kind, is_word};
use super::layout::{DocumentCell, DocumentLine};
use crate::vocabulary::is_han;

/// Upper bound of the words, and of the Chinese characters, of a label that is not known.
const UNKNOWN_LABEL_WORDS_MAX: usize = 4;
const UNKNOWN_LABEL_CHARACTERS_MAX: usize = 10;

/// Beginnings of lines that end every field.
const ENDS: &[&str] = &[
    "electronically signed",
    "signed by",
    "dictated by",
    "reported by",
    "end of report",
    "radiologist:",
    "physician:",
    "attending:",
    "consultant:",
    "报告日期",
    "报告时间",
    "审核时间",
    "医师签名",
    "医生签名",
    "报告医师",
    "报告医生",
    "审核医师",
    "审核医生",
    "签名",
];

/// Values of fields, by name.
pub(crate) type Fields = BTreeMap<String, String>;

/// The fields of a document.
#[derive(Default)]
pub(crate) struct FoundFields {
    /// Those that there are once.
    pub(crate) fields: Fields,
    /// Those of each item.
    pub(crate) items: Vec<Fields>,
}

/// Reads the fields of a document of a kind.
pub(crate) fn fields(lines: &[DocumentLine], kind: &Kind) -> FoundFields {
    let mut labels: Vec<Label<'_>> = Vec::new();
    for (field, entry) in &kind.fields {
        let all = entry.labels().iter().map(|it| Label {
            letters: it.chars().map(lower).collect(),
            field,
            is_text: entry.is_text(),
        });
        labels.extend(all);
    }
    labels.sort_by_key(|it| std::cmp::Reverse(it.letters.len()));
    let found = FoundFields::default();
    let mut reader = FieldReader { kind, labels, open: None, columns: Vec::new(), found };
    for line in lines {
        reader.add_line(line);
    }
    reader.found
}

/// A label of a field.
struct Label<'a> {
    letters: Vec<char>,
    field: &'a str,
    is_text: bool,
}

/// A label with a colon in a text, in characters: where it begins, and where its value does.
struct Mark<'a> {
    start: usize,
    end: usize,
    /// Nothing for a label that is not known.
    field: Option<&'a str>,
    is_text: bool,
}

/// The field that the next text belongs to.
#[derive(Clone, Copy)]
struct Open<'a> {
    field: &'a str,
    is_text: bool,
    /// Whether it has no value yet.
    is_empty: bool,
}

struct FieldReader<'a> {
    kind: &'a Kind,
    labels: Vec<Label<'a>>,
    open: Option<Open<'a>>,
    /// The columns of a table of items: each with its left edge.
    columns: Vec<(&'a str, f32)>,
    found: FoundFields,
}

fn lower(it: char) -> char {
    it.to_lowercase().next().unwrap_or(it)
}

impl<'a> FieldReader<'a> {
    fn add_line(&mut self, line: &DocumentLine) {
        let start: String = line.text.to_lowercase();
        if ENDS.iter().any(|it| start.trim_start().starts_with(it)) {
            self.open = None;
            self.columns.clear();
            return;
        }
        if self.open_table(line) {
            return;
        }
        let has_label = line.cells.iter().any(|it| !self.marks(&it.text).is_empty());
        if !self.columns.is_empty() {
            if has_label {
                self.columns.clear();
            } else {
                self.add_row(line);
                return;
            }
        }
        for (index, cell) in line.cells.iter().enumerate() {
            let may_continue = if index == 0 { line.may_continue } else { false };
            self.add_cell(&cell.text, index == 0, may_continue);
        }
    }

    fn add_cell(&mut self, text: &str, is_line_start: bool, may_continue: bool) {
        if let Some((field, is_text)) = self.whole_label(text) {
            self.open_field(field, is_text);
            return;
        }
        let letters: Vec<char> = text.chars().collect();
        let part = |from: usize, to: usize| -> String {
            letters.get(from..to).unwrap_or_default().iter().collect::<String>().trim().to_owned()
        };
        let mut marks = self.marks(text);
        // `Lungs: clear` is a part of the findings.
        if self.open.is_some_and(|it| it.is_text) {
            marks.retain(|it| it.field.is_some());
        }
        let first = marks.first().map_or(letters.len(), |it| it.start);
        let before = part(0, first);
        if !before.is_empty() && !self.start_numbered_item(&before, is_line_start) {
            self.continue_field(&before, is_line_start, may_continue);
        }
        for (index, mark) in marks.iter().enumerate() {
            let to = marks.get(index + 1).map_or(letters.len(), |it| it.start);
            match mark.field {
                Some(field) => {
                    self.open_field(field, mark.is_text);
                    self.append(&part(mark.end, to));
                }
                None => self.open = None,
            }
        }
    }

    /// The known labels of a text with their colons, and an unknown one at its beginning.
    fn marks(&self, text: &str) -> Vec<Mark<'a>> {
        let letters: Vec<char> = text.chars().map(lower).collect();
        let mut marks: Vec<Mark<'a>> = Vec::new();
        let mut at = 0;
        while at < letters.len() {
            match self.label_at(&letters, at, !marks.is_empty()) {
                Some(mark) => {
                    at = mark.end;
                    marks.push(mark);
                }
                None => at += 1,
            }
        }
        let first = marks.first().map_or(letters.len(), |it| it.start);
        if let Some(end) = unknown_label(letters.get(..first).unwrap_or_default()) {
            marks.insert(0, Mark { start: 0, end, field: None, is_text: false });
        }
        marks
    }

    fn label_at(&self, letters: &[char], at: usize, is_in_value: bool) -> Option<Mark<'a>> {
        let is_here = |it: &&Label<'a>| {
            let end = at + it.letters.len();
            letters.get(at..end) == Some(it.letters.as_slice())
                && is_word(letters, at, it.letters.len())
        };
        // Behind one or two other words it is the end of another label: `Final diagnosis`, `初步诊断`.
        let before: String = letters.get(..at)?.iter().collect();
        let words = before.split_whitespace().filter(|it| it.contains(char::is_alphabetic)).count();
        if (1..=2).contains(&words) && !is_in_value && !before.contains(':') {
            return None;
        }
        let label = self.labels.iter().find(is_here)?;
        let end = at + label.letters.len();
        let spaces = letters.get(end..)?.iter().take_while(|it| it.is_whitespace()).count();
        let colon = end + spaces;
        let is_label = letters.get(colon) == Some(&':');
        let Label { field, is_text, .. } = label;
        is_label.then_some(Mark {
            start: at,
            end: colon + 1,
            field: Some(*field),
            is_text: *is_text,
        })
    }

    /// The field of a label that a whole text is, with or without a colon: a heading.
    fn whole_label(&self, text: &str) -> Option<(&'a str, bool)> {
        let text = text.trim().trim_end_matches(':').trim_end();
        let letters: Vec<char> = text.chars().map(lower).collect();
        let label = self.labels.iter().find(|it| it.letters == letters)?;
        Some((label.field, label.is_text))
    }

    fn open_field(&mut self, field: &'a str, is_text: bool) {
        let starts = self.kind.items.as_ref().is_some_and(|it| it.starts == field);
        if starts {
            self.found.items.push(Fields::new());
        }
        self.open = Some(Open { field, is_text, is_empty: true });
    }

    /// Adds text to the open field, where it is the field's next.
    fn continue_field(&mut self, text: &str, is_line_start: bool, may_continue: bool) {
        let Some(open) = self.open else { return };
        let is_next = open.is_empty || open.is_text || (is_line_start && may_continue);
        if is_next {
            self.append(text);
        } else if is_line_start {
            self.open = None;
        }
    }

    fn append(&mut self, text: &str) {
        let Some(open) = &mut self.open else { return };
        if text.is_empty() {
            return;
        }
        let field = open.field;
        let is_first = std::mem::take(&mut open.is_empty);
        let is_of_item = self.kind.is_of_item(field);
        if is_of_item && self.found.items.is_empty() {
            self.found.items.push(Fields::new());
        }
        let target = match self.found.items.last_mut() {
            Some(item) if is_of_item => item,
            _ => &mut self.found.fields,
        };
        match target.get_mut(field) {
            // The first of several values of one name is kept.
            Some(_) if is_first => self.open = None,
            Some(value) => join(value, text),
            None => {
                target.insert(field.to_owned(), text.to_owned());
            }
        }
    }

    /// Begins an item at `1. Amoxicillin 500 mg`. False if a text is nothing of the kind.
    fn start_numbered_item(&mut self, text: &str, is_line_start: bool) -> bool {
        let Some(ItemEntry { starts, .. }) = &self.kind.items else { return false };
        let number = text.chars().take_while(char::is_ascii_digit).count();
        let rest = text.get(number..).unwrap_or_default();
        let rest = rest.strip_prefix(['.', ')', '、']).map(str::trim_start);
        let Some(rest) = rest.filter(|_| is_line_start && (1..=2).contains(&number)) else {
            return false;
        };
        let is_open_text = self.open.is_some_and(|it| it.is_text);
        if is_open_text || !rest.starts_with(char::is_alphabetic) {
            return false;
        }
        let Some((field, _)) = self.kind.fields.get_key_value(starts) else { return false };
        self.open_field(field, false);
        self.append(rest);
        true
    }

    /// Whether a line is the headings of a table of items, of which the rows follow.
    fn open_table(&mut self, line: &DocumentLine) -> bool {
        let Some(items) = &self.kind.items else { return false };
        let column = |cell: &DocumentCell| {
            let (field, _) = self.whole_label(&cell.text).filter(|_| !cell.text.ends_with(':'))?;
            self.kind.is_of_item(field).then_some((field, cell.left))
        };
        let columns: Vec<(&'a str, f32)> = line.cells.iter().filter_map(column).collect();
        let is_table = columns.len() >= 2 && columns.iter().any(|it| it.0 == items.starts);
        if is_table {
            self.columns = columns;
            self.open = None;
        }
        is_table
    }

    /// Adds a row of a table of items: one without its first field continues the row before.
    fn add_row(&mut self, line: &DocumentLine) {
        let Some(items) = &self.kind.items else { return };
        let column_of = |cell: &DocumentCell| {
            let middle = f32::midpoint(cell.left, cell.right);
            let mut before = self.columns.iter().filter(|it| it.1 <= middle);
            before.next_back().map(|it| it.0)
        };
        let cells = line.cells.iter().filter_map(|it| Some((column_of(it)?, it.text.as_str())));
        let cells: Vec<(&str, &str)> = cells.collect();
        if cells.iter().any(|it| it.0 == items.starts) {
            self.found.items.push(Fields::new());
        }
        let Some(item) = self.found.items.last_mut() else { return };
        for (field, text) in cells {
            match item.get_mut(field) {
                Some(value) => join(value, text),
                None => {
                    item.insert(field.to_owned(), text.to_owned());
                }
            }
        }
    }
}

/// The end of a label that is not known, at the beginning of some letters: a few words and a colon.
fn unknown_label(letters: &[char]) -> Option<usize> {
    let colon = letters.iter().position(|it| *it == ':')?;
    let label: String = letters.get(..colon)?.iter().collect();
    let is_time = label.ends_with(|it: char| it.is_ascii_digit());
    let words = label.split_whitespace().count();
    let chinese = label.chars().filter(|it| is_han(*it)).count();
    let is_label = !is_time
        && (1..=UNKNOWN_LABEL_WORDS_MAX).contains(&words)
        && chinese <= UNKNOWN_LABEL_CHARACTERS_MAX
        && !label.contains([',', '.', ';', '，', '。', '、']);
    is_label.then_some(colon + 1)
}

/// Joins a text that goes on in another line: a word that was divided is one again, and Chinese has
/// no spaces.
fn join(text: &mut String, more: &str) {
    let next = more.chars().next();
    let is_divided = text.ends_with('-')
        && text.chars().rev().nth(1).is_some_and(char::is_alphabetic)
        && next.is_some_and(char::is_lowercase);
    if is_divided {
        text.pop();
    } else if !(text.ends_with(is_han) && next.is_some_and(is_han)) {
        text.push(' ');
    }
    text.push_str(more);
}
