//! What people see on the terminal. The one place that prints.

use std::error::Error;
use std::io::Write as _;

use domain::ErrorChain;
use serde::Serialize;

/// Why a command did not do what it was asked: shown whole, with what to do.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure in these words.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A failure with its causes.
    pub(crate) fn from_error(what: &str, error: &dyn Error) -> Self {
        Self(format!("{what}: {}", ErrorChain(error)))
    }

    /// What it says.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Shows it.
    pub(crate) fn print(&self) {
        // Without a terminal there is nobody to tell.
        _ = writeln!(std::io::stderr(), "isocenter: {}", self.0);
    }
}

/// Shows a line. Whoever reads may stop reading, as `head` does: then there is nobody to show to.
pub(crate) fn line(text: impl std::fmt::Display) {
    _ = writeln!(std::io::stdout(), "{text}");
}

/// Shows something as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    line(text.map_err(|error| Failure::from_error("cannot show this", &error))?);
    Ok(())
}

/// Shows rows under their headings, each column as wide as it has to be.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|it| it.get(column)).map(|it| it.chars().count());
        cells.max().unwrap_or_default().max(headings.get(column).map_or(0, |it| it.len()))
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let show = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> =
            cells.zip(&widths).map(|(it, width)| format!("{it:<width$}")).collect();
        line(padded.join("  ").trim_end());
    };
    show(&mut headings.iter().copied());
    for row in rows {
        show(&mut row.iter().map(String::as_str));
    }
    if rows.is_empty() {
        line("(none)");
    }
}
