//! Tables of laboratory reports: from words with their positions to rows of four columns (PAP-10).
//!
//! - [`lines`]: words as lines; [`headings`]: lines that are the headings of columns; [`dates`]: the
//!   dates of columns, of which the newest has the results;
//! - [`comments`]: lines that are no rows;
//! - [`layout`]: the rows below the headings, by columns;
//! - [`markdown`]: the rows of a table that the model has written;
//! - [`numbers`]: decimal commas and separators of thousands;
//! - [`wording`]: corrections of cells by rule, and cells that cannot be right.

pub(crate) mod comments;
pub(crate) mod dates;
pub(crate) mod headings;
pub(crate) mod layout;
pub(crate) mod lines;
pub(crate) mod markdown;
pub(crate) mod numbers;
pub(crate) mod wording;

use crate::page::Page;

/// A row of a report, as it is printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Name of the entry.
    pub(crate) name: String,
    /// Result.
    pub(crate) result: String,
    /// Reference range.
    pub(crate) reference: String,
    /// Unit.
    pub(crate) unit: String,
    /// Mark of the laboratory: `H`, `↓`, `*`, 偏高.
    pub(crate) flag: String,
    /// Why the row has to be checked, by its place on the page.
    pub(crate) doubt: Option<Misplaced>,
}

/// Why a row may not be one of the table, or its result another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misplaced {
    /// It is below a line that ends the table.
    BelowEnd,
    /// The newest of dated columns is not certain.
    Undated,
    /// The line above may be the first of its name, or the heading of a section.
    BelowName,
}

impl Misplaced {
    /// The reason for people.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::BelowEnd => "it stands below the end of the table",
            Self::BelowName => "its name may begin in the line above",
            Self::Undated => "which of the dated columns is the newest is not certain",
        }
    }
}

/// A row of a paper, with the reasons why it has to be checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadEntry {
    pub(crate) entry: Entry,
    /// Reasons, joined by semicolons; empty if there is none.
    pub(crate) doubt: String,
}

impl ReadEntry {
    /// A row without a doubt.
    pub(crate) const fn certain(entry: Entry) -> Self {
        Self { entry, doubt: String::new() }
    }

    /// Adds a reason why the row has to be checked.
    pub(crate) fn add_doubt(&mut self, reason: &str) {
        if !self.doubt.is_empty() {
            self.doubt.push_str("; ");
        }
        self.doubt.push_str(reason);
    }
}

/// The rows of a document, corrected by rule.
pub(crate) fn entries(pages: &[Page]) -> Vec<Entry> {
    let is_recognised = pages.iter().any(|it| it.is_recognised);
    let entries = layout::entries(pages).into_iter();
    entries.map(|it| wording::corrected(it, is_recognised)).collect()
}
