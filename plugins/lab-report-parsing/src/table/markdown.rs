//! Reads tables in Markdown, as the model writes them. Columns are identified by their headings,
//! and not by their order (PAP-10).

use super::Entry;
use crate::vocabulary::roles::{Role, role};

/// The rows of all tables in a text. A missing column is empty; a row without a name and a result
/// continues the one before. Nothing if there is no table with names and results.
pub(crate) fn entries(text: &str) -> Option<Vec<Entry>> {
    let mut roles: Vec<Option<Role>> = Vec::new();
    let mut entries: Vec<Entry> = Vec::new();
    let mut is_found = false;
    for line in text.lines() {
        let Some(cells) = cells(line) else { continue };
        let found: Vec<Option<Role>> = cells.iter().map(|it| role(it)).collect();
        let has = |it| found.contains(&Some(it));
        if has(Role::Name) && has(Role::Result) {
            roles = found;
            is_found = true;
            continue;
        }
        let is_rule = cells.iter().all(|it| it.chars().all(|it| "-: ".contains(it)));
        if roles.is_empty() || is_rule {
            continue;
        }
        let mut entry = Entry::default();
        for (role, cell) in roles.iter().zip(cells) {
            match role {
                Some(Role::Name) => entry.name = cell,
                Some(Role::Result) => entry.result = cell,
                Some(Role::Reference) => entry.reference = cell,
                Some(Role::Unit) => entry.unit = cell,
                Some(Role::Flag) => entry.flag = cell,
                Some(Role::Other | Role::Unknown) | None => {}
            }
        }
        add(&mut entries, entry);
    }
    entries.retain(|it| !it.name.is_empty() && !it.result.is_empty());
    is_found.then_some(entries)
}

/// Adds a row, or appends it to the one before if it continues that.
fn add(entries: &mut Vec<Entry>, entry: Entry) {
    match entries.last_mut() {
        Some(last) if entry.name.is_empty() && entry.result.is_empty() => {
            for (text, more) in
                [(&mut last.reference, entry.reference), (&mut last.unit, entry.unit)]
            {
                if !more.is_empty() {
                    *text = if text.is_empty() { more } else { format!("{text} {more}") };
                }
            }
        }
        _ => entries.push(entry),
    }
}

/// The cells between the vertical bars of a line. A bar after `\` belongs to the text.
fn cells(line: &str) -> Option<Vec<String>> {
    let line = line.trim().strip_prefix('|')?;
    let mut cells = Vec::new();
    let mut cell = String::new();
    let mut is_escaped = false;
    for letter in line.chars() {
        match letter {
            '\\' if !is_escaped => is_escaped = true,
            '|' if !is_escaped => cells.push(std::mem::take(&mut cell).trim().to_owned()),
            it => {
                if is_escaped && it != '|' {
                    cell.push('\\');
                }
                cell.push(it);
                is_escaped = false;
            }
        }
    }
    if !cell.trim().is_empty() {
        cells.push(cell.trim().to_owned());
    }
    Some(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[[&str; 4]]) {
        let found = entries(text).unwrap();
        let found: Vec<[&str; 4]> =
            found.iter().map(|it| [&*it.name, &*it.result, &*it.reference, &*it.unit]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn pap_10_both_orders_of_columns_are_the_same_rows() {
        let rows = [["白细胞", "12.3", "3.5-9.5", "10^9/L"], ["PLT", "250", "125-350", "10^9/L"]];
        check(
            "| entry_name | result | reference | unit |\n|---|---|---|---|\n\
             | 白细胞 | 12.3 | 3.5-9.5 | 10^9/L |\n| PLT | 250 | 125-350 | 10^9/L |",
            &rows,
        );
        check(
            "Here it is:\n|检验项目|结果|单位|参考范围|\n|:-|:-:|-|-|\n\
             |白细胞|12.3|10^9/L|3.5-9.5|\n|PLT|250|10^9/L|125-350|\n",
            &rows,
        );
    }

    #[test]
    fn pap_10_missing_columns_merged_rows_strokes_and_doubled_names_are_read() {
        check(
            "| Test | Result |\n|--|--|\n| A | 1 |\n| A | 2 |",
            &[["A", "1", "", ""], ["A", "2", "", ""]],
        );
        check(
            "| Test | Result | Reference |\n|-|-|-|\n| A\\|B | 1 | men 1-2 |\n| | | women 1-3 |",
            &[["A|B", "1", "men 1-2 women 1-3", ""]],
        );
        // Two pages, each with its headings.
        check(
            "| Test | Result |\n|-|-|\n| A | 1 |\n\n| Result | Test |\n|-|-|\n| 2 | B |",
            &[["A", "1", "", ""], ["B", "2", "", ""]],
        );
        assert_eq!(entries("I cannot read this page."), None);
        assert_eq!(entries("| a | b |\n|-|-|\n| 1 | 2 |"), None);
    }
}
