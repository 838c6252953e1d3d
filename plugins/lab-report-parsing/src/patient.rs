//! Whom the pages of a document name as their patient (PAP-10).
//!
//! - [`labels`]: the labels of `patient.yaml` and of the site; [`values`]: what stands behind them.
//!
//! A plugin is not told whose a document is: what is found here goes to the engine, which compares
//! it with the patient whom the document is filed under, and keeps nothing of it.

pub(crate) mod labels;
mod values;

use domain::{OnDoubt, PatientFacts, StatedIdentifier, StatedPatient};
use encoding::laboratory::unit::folded_text;

use self::labels::{LabelRole, PatientLabels, comparable};
use crate::page::Page;
use crate::sources::Paper;
use crate::table::headings::headings;
use crate::table::lines::{Line, cells, lines, text};
use crate::vocabulary::is_han;

/// Upper bound of the distance of a value to the label above it, in heights of its letters.
const BELOW_DISTANCE_MAX: f32 = 2.5;

/// A patient whom a page names.
#[derive(Clone, Default)]
pub(crate) struct PagePatient {
    /// As the engine compares them.
    pub(crate) stated: StatedPatient,
    /// The age, as an age string (AS) of DICOM; empty if it is not stated.
    pub(crate) age: String,
}

/// The patients whom the pages of documents name, page by page.
pub(crate) fn of_papers(
    papers: &[Paper],
    labels: &PatientLabels,
    on_doubt: OnDoubt,
) -> Vec<PagePatient> {
    let pages = papers.iter().flat_map(|it| &it.pages).zip(1..);
    let mut all = Vec::new();
    for (page, number) in pages {
        for mut patient in of_page(page, labels) {
            patient.stated.page = number;
            patient.stated.is_recognised = page.is_recognised;
            patient.stated.on_doubt = on_doubt;
            all.push(patient);
        }
    }
    all
}

/// Age and sex that all pages agree on; the rest from what is known otherwise.
pub(crate) fn facts(patients: &[PagePatient], known: &PatientFacts) -> PatientFacts {
    let only = |values: Vec<&str>, known: &str| -> String {
        let mut values: Vec<&str> = values.into_iter().filter(|it| !it.is_empty()).collect();
        values.dedup();
        match values.as_slice() {
            [] => known.to_owned(),
            [value] => (*value).to_owned(),
            _ => String::new(),
        }
    };
    let sexes = patients.iter().map(|it| it.stated.sex.as_str()).collect();
    let sex = only(sexes, &known.sex);
    // A page that contradicts what is known leaves it open.
    let is_other = !sex.is_empty() && !known.sex.is_empty() && sex != known.sex;
    PatientFacts {
        age: only(patients.iter().map(|it| it.age.as_str()).collect(), &known.age),
        sex: if is_other { String::new() } else { sex },
    }
}

/// A labelled value of a page.
struct Field {
    role: LabelRole,
    label: String,
    value: String,
}

/// The patients whom a page names. A second name or date of birth begins another patient.
fn of_page(page: &Page, labels: &PatientLabels) -> Vec<PagePatient> {
    let mut all: Vec<PagePatient> = Vec::new();
    let mut current = PagePatient::default();
    for field in fields(page, labels) {
        let before = current.clone();
        if !current.take(&field, labels) {
            all.push(before);
            current = PagePatient::default();
            current.take(&field, labels);
        }
    }
    all.push(current);
    all.retain(|it| it.stated != StatedPatient::default() || !it.age.is_empty());
    all
}

impl PagePatient {
    /// Takes over a field. False if it is of another patient: its name or date of birth is known,
    /// and different.
    fn take(&mut self, field: &Field, labels: &PatientLabels) -> bool {
        let value = field.value.as_str();
        let stated = &mut self.stated;
        match field.role {
            LabelRole::Name | LabelRole::PlainName => {
                let Some(name) = values::name(value, labels) else { return true };
                if stated.name.is_empty() {
                    stated.name = name;
                } else {
                    return comparable(&stated.name) == comparable(&name);
                }
            }
            LabelRole::BirthDate => {
                let dates = values::birth_dates(value);
                if stated.birth_dates.is_empty() {
                    stated.birth_dates = dates;
                } else {
                    return dates.is_empty() || stated.birth_dates == dates;
                }
            }
            LabelRole::Sex => self.take_sex(value, labels),
            LabelRole::Age => self.take_age(values::age(value)),
            LabelRole::SexAndAge => {
                self.take_sex(value, labels);
                self.take_age(values::age_beside_sex(value));
            }
            LabelRole::Identifier(at) => {
                let words = labels.identifier(at);
                let Some((known, value)) = words.zip(values::identifier(value)) else {
                    return true;
                };
                let authority = known.authority.clone();
                // Labels of one kind are one: `MRN`, `Medical record number`.
                let label = known.words.first().unwrap_or(&field.label).clone();
                stated.identifiers.push(StatedIdentifier { value, authority, label });
            }
            LabelRole::Other => {}
        }
        true
    }

    fn take_sex(&mut self, value: &str, labels: &PatientLabels) {
        if let Some(sex) = values::sex(value, labels)
            && self.stated.sex.is_empty()
        {
            sex.clone_into(&mut self.stated.sex);
        }
    }

    fn take_age(&mut self, age: Option<String>) {
        if self.age.is_empty() {
            self.age = age.unwrap_or_default();
        }
    }
}

/// A part of a line between two gaps.
struct Cell {
    text: String,
    left: f32,
    top: f32,
    height: f32,
    /// Whether its language is not certain.
    is_uncertain: bool,
}

impl Cell {
    fn of(words: &Line) -> Option<Self> {
        let first = words.first()?;
        Some(Self {
            text: folded_text(&text(words)).trim().to_owned(),
            left: first.left,
            top: first.top,
            height: first.height(),
            is_uncertain: words.iter().any(|it| it.chinese.is_some()),
        })
    }
}

/// The labelled values of a page, in reading order.
fn fields(page: &Page, labels: &PatientLabels) -> Vec<Field> {
    let lines = lines(&page.words);
    let table = lines.iter().position(|it| headings(it).is_some()).unwrap_or(lines.len());
    let cells_of = |line: &Line| cells(line).iter().filter_map(Cell::of).collect();
    let rows: Vec<Vec<Cell>> = lines.iter().map(cells_of).collect();
    let mut fields = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let is_above = at < table;
        let below = rows.get(at + 1).filter(|_| at + 1 != table);
        let below = below.map(Vec::as_slice).unwrap_or_default();
        for (index, cell) in row.iter().enumerate() {
            let next = row.get(index + 1);
            let near = Near { next, below, labels };
            let marks = marks(&cell.text, labels, is_above, page.is_recognised);
            if let Some(role) = labels.whole(&cell.text) {
                let is_trusted = is_above && (role != LabelRole::PlainName || near.is_in_form(row));
                let value = near.value(cell).filter(|_| is_trusted);
                fields.extend(value.map(|value| Field { role, label: cell.text.clone(), value }));
                continue;
            }
            fields.extend(fields_of(cell, &marks, &near));
        }
    }
    fields
}

/// The values of the labels of a cell.
fn fields_of(cell: &Cell, marks: &[Mark], near: &Near<'_>) -> Vec<Field> {
    let letters: Vec<char> = cell.text.chars().collect();
    let mut fields = Vec::new();
    for (index, mark) in marks.iter().enumerate() {
        let end = marks.get(index + 1).map_or(letters.len(), |it| it.start);
        let value: String = letters.get(mark.end..end).unwrap_or_default().iter().collect();
        let value = value.trim();
        let is_last = end == letters.len();
        let value = if value.is_empty() && is_last { near.value(cell) } else { Some(value.into()) };
        let is_name = matches!(mark.role, LabelRole::Name | LabelRole::PlainName);
        // A name in letters that may be others is no name.
        if let Some(value) = value.filter(|_| !(is_name && cell.is_uncertain)) {
            fields.push(Field { role: mark.role, label: mark.label.clone(), value });
        }
    }
    fields
}

/// What stands beside and below a cell.
struct Near<'a> {
    next: Option<&'a Cell>,
    below: &'a [Cell],
    labels: &'a PatientLabels,
}

impl Near<'_> {
    /// The value of a label that is a cell of its own.
    fn value(&self, label: &Cell) -> Option<String> {
        let is_value = |it: &&Cell| {
            let is_label = self.labels.whole(&it.text).is_some();
            !is_label && !it.text.contains(':') && !it.is_uncertain
        };
        if let Some(next) = self.next.filter(is_value) {
            return Some(next.text.clone());
        }
        let is_below = |it: &&Cell| {
            (it.left - label.left).abs() <= 1.5 * label.height
                && it.top - label.top <= BELOW_DISTANCE_MAX * label.height
        };
        let below = self.below.iter().find(is_below).filter(is_value)?;
        Some(below.text.clone())
    }

    /// Whether a line has labels that only a form about a patient has.
    fn is_in_form(&self, row: &[Cell]) -> bool {
        let role = |it: &Cell| {
            self.labels
                .whole(&it.text)
                .or_else(|| self.labels.at_start(&comparable(&it.text)).map(|it| it.1))
        };
        let is_of_patient = |it: LabelRole| match it {
            LabelRole::BirthDate
            | LabelRole::Sex
            | LabelRole::Age
            | LabelRole::SexAndAge
            | LabelRole::Identifier(_) => true,
            LabelRole::Name | LabelRole::PlainName | LabelRole::Other => false,
        };
        row.iter().filter_map(role).any(is_of_patient)
    }
}

/// A label in a text, in characters: where it begins, and where its value does.
struct Mark {
    start: usize,
    end: usize,
    role: LabelRole,
    label: String,
}

/// The labels in a text. Without a colon behind it, a label counts where its value cannot be
/// anything else.
fn marks(text: &str, labels: &PatientLabels, is_above: bool, is_recognised: bool) -> Vec<Mark> {
    let plain: Vec<char> = comparable(text).chars().collect();
    let mut marks: Vec<Mark> = Vec::new();
    let mut at = 0;
    while at < plain.len() {
        let found = is_boundary(&plain, at, !marks.is_empty()).then(|| {
            let rest: String = plain.get(at..).unwrap_or_default().iter().collect();
            let (label, role) = labels.at_start(&rest)?;
            mark_at(&plain, at, label, role, is_above, labels)
        });
        let Some(mut mark) = found.flatten() else {
            at += 1;
            continue;
        };
        // `Name` behind other words is the end of an unknown label: `Midwife name: ...`.
        if mark.role == LabelRole::PlainName && at > 0 && marks.is_empty() {
            mark.role = LabelRole::Other;
        }
        at = mark.end.max(at + 1);
        marks.push(mark);
    }
    if marks.is_empty() && is_recognised {
        marks.extend(misread_mark(&plain, labels));
    }
    marks
}

/// Whether a label may begin here. Chinese has no gaps: a label may follow the value of another.
fn is_boundary(plain: &[char], at: usize, is_in_value: bool) -> bool {
    let Some(before) = at.checked_sub(1).and_then(|it| plain.get(it)) else { return true };
    let here = plain.get(at).copied().unwrap_or(' ');
    if is_han(here) {
        return is_in_value || !is_han(*before);
    }
    is_han(*before) || !before.is_alphanumeric()
}

fn mark_at(
    plain: &[char],
    start: usize,
    label: &str,
    role: LabelRole,
    is_above: bool,
    labels: &PatientLabels,
) -> Option<Mark> {
    let behind = start + label.chars().count();
    let is_space = |it: &&char| it.is_whitespace() || **it == '.';
    let spaces = plain.get(behind..)?.iter().take_while(is_space).count();
    let end = behind + spaces;
    let mark = |end| Some(Mark { start, end, role, label: label.to_owned() });
    if plain.get(end) == Some(&':') {
        return mark(end + 1);
    }
    let value: String = plain.get(end..)?.iter().collect();
    let is_certain = match role {
        LabelRole::BirthDate => !values::birth_dates(&value).is_empty(),
        LabelRole::Age => is_above && values::age(&value).is_some(),
        LabelRole::Sex => is_above && values::sex(&value, labels).is_some(),
        LabelRole::SexAndAge => is_above && values::age_beside_sex(&value).is_some(),
        LabelRole::Identifier(_) => {
            is_above
                && value.starts_with(|it: char| it.is_ascii_digit())
                && values::identifier(&value).is_some()
        }
        // `姓名李小梅`: recognition loses the colon.
        LabelRole::Name | LabelRole::PlainName => {
            is_above && start == 0 && label.ends_with('名') && value.starts_with(is_han)
        }
        LabelRole::Other => false,
    };
    if is_certain { mark(end) } else { None }
}

/// A label at the beginning of which one letter was misread.
fn misread_mark(plain: &[char], labels: &PatientLabels) -> Option<Mark> {
    let colon = plain.iter().position(|it| *it == ':')?;
    let label: String = plain.get(..colon)?.iter().collect();
    let label = label.trim().to_owned();
    let role = labels.nearly(&label)?;
    Some(Mark { start: 0, end: colon + 1, role, label })
}

#[cfg(test)]
mod tests;
