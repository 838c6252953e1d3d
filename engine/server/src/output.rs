//! What people see on the terminal. The one place that prints.
//!
//! Results go to standard output, as tables or as JSON. A [`Failure`] goes to standard error: one
//! line that says what failed and why, and where there is a way out, a second line `hint: …`.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use contracts::StoreError;
use domain::ErrorChain;
use serde::Serialize;

/// Why a command failed, and what the operator can do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure with this text.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None }
    }

    /// A failure of `what`, with the whole chain of its causes.
    pub(crate) fn from_error(what: &str, error: &dyn Error) -> Self {
        Self::new(format!("{what}: {}", ErrorChain(error)))
    }

    /// The database failed.
    pub(crate) fn database(error: &StoreError) -> Self {
        Self::from_error("the database does not answer", error)
    }

    /// The same with a way out, shown on a line of its own.
    #[must_use]
    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// What failed and why, without the hint.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Shows it on standard error.
    pub(crate) fn print(&self) {
        // Without a terminal there is nowhere to show it.
        _ = write!(std::io::stderr(), "{}", self.rendered());
    }

    fn rendered(&self) -> String {
        let hint = self.hint.as_ref().map(|it| format!("hint: {it}\n"));
        format!("isocenter: {}\n{}", self.text, hint.unwrap_or_default())
    }
}

/// Shows a line. A reader may have closed the pipe, as `head` does; then there is nobody to show
/// to.
pub(crate) fn line(text: impl std::fmt::Display) {
    _ = writeln!(std::io::stdout(), "{text}");
}

/// Shows a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    line(text.map_err(|error| Failure::from_error("cannot show this", &error))?);
    Ok(())
}

/// Shows a list as the operator asked for it: as JSON, or as a table with a row of `cells` for
/// each.
pub(crate) fn list<T: Serialize>(
    as_json: bool,
    rows: &[T],
    headings: &[&str],
    cells: impl Fn(&T) -> Vec<String>,
) -> Result<ExitCode, Failure> {
    if as_json {
        json(&rows)?;
    } else {
        let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
        line(table(headings, &rows));
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the outcome of a decision. The exit code is 1 if there was nothing to decide.
pub(crate) fn decision(is_done: bool, done: &str, not_done: &str) -> ExitCode {
    line(if is_done { done } else { not_done });
    exit_code(is_done)
}

/// The exit code of a command that found what it looked for, or did not.
pub(crate) fn exit_code(is_good: bool) -> ExitCode {
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Rows under their headings, each column as wide as its widest cell.
fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(|it| (*it).to_owned()).collect();
    let widths: Vec<usize> =
        (0..headings.len()).map(|column| width(column, &headings, rows)).collect();
    let mut lines = vec![padded(&headings, &widths)];
    lines.extend(rows.iter().map(|it| padded(it, &widths)));
    if rows.is_empty() {
        lines.push("(none)".to_owned());
    }
    lines.join("\n")
}

fn width(column: usize, headings: &[String], rows: &[Vec<String>]) -> usize {
    let cells = rows.iter().map(Vec::as_slice).chain([headings]);
    cells.filter_map(|it| it.get(column)).map(|it| it.chars().count()).max().unwrap_or_default()
}

fn padded(cells: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> =
        cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    cells.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [row(&["1", "Müller"]), row(&["1000", "X"])];
        assert_eq!(table(&["run", "name"], &rows), "run   name\n1     Müller\n1000  X");
    }

    #[test]
    fn a_list_without_rows_says_so() {
        assert_eq!(table(&["run"], &[]), "run\n(none)");
    }

    #[test]
    fn lines_do_not_end_in_blanks() {
        let rows = [row(&["a", ""]), row(&["", "b"])];
        for line in table(&["x", "y"], &rows).lines() {
            assert_eq!(line, line.trim_end());
        }
    }

    #[test]
    fn a_hint_stands_on_a_line_of_its_own() {
        let failure = Failure::new("there is no run 7");
        assert_eq!(failure.rendered(), "isocenter: there is no run 7\n");
        let failure = failure.with_hint("isocenter runs");
        assert_eq!(failure.rendered(), "isocenter: there is no run 7\nhint: isocenter runs\n");
        assert_eq!(failure.text(), "there is no run 7");
    }

    #[test]
    fn a_failure_names_every_cause() {
        let cause = std::io::Error::other("no such device");
        let failure = Failure::from_error("cannot start", &cause);
        assert_eq!(failure.text(), "cannot start: no such device");
    }
}
