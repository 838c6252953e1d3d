//! Tables of laboratory reports: from words with their positions to rows of four columns (PAP-10).
//!
//! - [`lines`]: words as lines; [`headings`]: lines that are the headings of columns; [`dates`]: the
//!   dates of columns, of which the newest has the results;
//! - [`comments`]: lines that are no rows;
//! - [`layout`]: the rows below the headings, by columns;
//! - [`markdown`]: the rows of a table that the model has written;
//! - [`numbers`]: decimal commas and separators of thousands;
//! - [`placement`]: where words and doubtful places stand on a row;
//! - [`wording`]: corrections of cells by rule;
//! - [`plausibility`]: rows that cannot be right.

pub(crate) mod comments;
pub(crate) mod dates;
pub(crate) mod headings;
pub(crate) mod layout;
pub(crate) mod lines;
pub(crate) mod markdown;
pub(crate) mod numbers;
pub(crate) mod placement;
pub(crate) mod plausibility;
pub(crate) mod wording;

use std::collections::BTreeSet;

use crate::doubt::Doubt;
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
    /// Why the row has to be checked.
    pub(crate) doubts: BTreeSet<Doubt>,
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
    let mut entries: Vec<Entry> = entries.map(|it| wording::corrected(it, is_recognised)).collect();
    if is_recognised {
        for entry in &mut entries {
            entry.doubts.extend(plausibility::misread(entry));
        }
        plausibility::doubt_missing(&mut entries);
    }
    entries
}
