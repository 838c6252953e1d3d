//! Tables of laboratory reports: from words with their places to rows of four columns (PAP-10).

pub(crate) mod headings;
pub(crate) mod layout;
pub(crate) mod lines;
pub(crate) mod markdown;
pub(crate) mod wording;

use crate::page::Page;

/// A row of a report, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What was measured.
    pub(crate) name: String,
    /// What came out.
    pub(crate) result: String,
    /// What is usual.
    pub(crate) reference: String,
    /// In which unit.
    pub(crate) unit: String,
    /// The mark of the laboratory: `H`, `↓`, `*`, 偏高.
    pub(crate) flag: String,
}

/// The rows of a document, put right by rule.
pub(crate) fn entries(pages: &[Page]) -> Vec<Entry> {
    let is_recognised = pages.iter().any(|it| it.is_recognised);
    let rows = layout::entries(pages).into_iter();
    rows.map(|it| wording::settled(it, is_recognised)).collect()
}
