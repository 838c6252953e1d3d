//! Compares two readings of a paper (PAP-31): a row that both have read alike is certain, every
//! other row is for a person to check.

use evaluation::documents::{Field, Row, match_rows};

use crate::table::{Entry, ReadEntry};

/// A reading of a paper.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    /// Who has read, as the subject of a sentence.
    pub(crate) reader: &'a str,
    /// The rows.
    pub(crate) entries: &'a [Entry],
}

/// The comparison of two readings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// The rows of the first reading, each with its differences from the second.
    pub(crate) rows: Vec<ReadEntry>,
    /// Rows of the second reading that the first one does not have.
    pub(crate) only_in_second: Vec<Entry>,
}

/// Compares a reading with a second one. Spelling does not matter: `10^9/L` is `10*9/L`.
pub(crate) fn compare(first: Vec<Entry>, second: Reading<'_>) -> Agreement {
    let matches = match_rows(&evaluation_rows(&first), &evaluation_rows(second.entries));
    let mut agreement = Agreement::default();
    for (index, mut entry) in first.into_iter().enumerate() {
        let matched = matches.iter().find(|it| it.first == index);
        let other = matched.and_then(|it| Some((second.entries.get(it.second)?, &it.differing)));
        let doubt = match other {
            Some((other, differing)) => {
                entry.doubts.extend(&other.doubts);
                differences(second.reader, other, differing)
            }
            None => format!("{} does not read it", second.reader),
        };
        let mut row = ReadEntry { entry, doubt };
        row.confirm_letters();
        agreement.rows.push(row);
    }
    for (index, entry) in second.entries.iter().enumerate() {
        if matches.iter().all(|it| it.second != index) {
            agreement.only_in_second.push(entry.clone());
        }
    }
    agreement
}

impl Agreement {
    /// Whether two readings differ in anything.
    pub(crate) fn has_doubts(&self) -> bool {
        !self.only_in_second.is_empty() || self.rows.iter().any(|it| !it.doubt.is_empty())
    }

    /// Removes the doubt about each row that a third reader reads as the first one does: two that
    /// are independent have read it alike.
    pub(crate) fn confirm(&mut self, third: &[Entry]) {
        let rows: Vec<Entry> = self.rows.iter().map(|it| it.entry.clone()).collect();
        let matches = match_rows(&evaluation_rows(&rows), &evaluation_rows(third));
        for found in matches.iter().filter(|it| it.differing.is_empty()) {
            if let Some(row) = self.rows.get_mut(found.first) {
                row.doubt.clear();
                row.confirm_letters();
            }
        }
    }
}

impl ReadEntry {
    /// Removes the doubts about letters, if no reader reads the row otherwise.
    fn confirm_letters(&mut self) {
        if self.doubt.is_empty() {
            self.entry.doubts.retain(|it| !it.is_of_letters());
        }
    }
}

/// The fields that `reader` reads otherwise, as one text; empty if there is none.
fn differences(reader: &str, other: &Entry, differing: &[Field]) -> String {
    let differences: Vec<String> = differing
        .iter()
        .map(|field| {
            let (name, value) = match field {
                Field::EntryName => ("name", &other.name),
                Field::Result => ("result", &other.result),
                Field::Reference => ("reference", &other.reference),
                Field::Unit => ("unit", &other.unit),
            };
            match value.as_str() {
                "" => format!("{reader} reads no {name}"),
                value => format!("{reader} reads the {name} as {value}"),
            }
        })
        .collect();
    differences.join("; ")
}

fn evaluation_rows(entries: &[Entry]) -> Vec<Row> {
    entries
        .iter()
        .map(|entry| Row {
            entry_name: entry.name.clone(),
            result: entry.result.clone(),
            reference: entry.reference.clone(),
            unit: entry.unit.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry([name, result, reference, unit]: [&str; 4]) -> Entry {
        let [name, result, reference, unit] = [name, result, reference, unit].map(str::to_owned);
        Entry { name, result, reference, unit, ..Entry::default() }
    }

    #[test]
    fn pap_31_what_both_read_stands_and_the_rest_is_doubted() {
        let letters = [
            ["WBC", "12.3", "3.5-9.5", "10^9/L"],
            ["HGB", "130", "115～150", "g/L"],
            ["PLT", "250", "125-350", "10^9/L"],
            ["CRP", "5", "<8", "mg/L"],
        ];
        let model = [
            ["HGB", "130", "115-150", "g/L"],
            ["WBC", "12.3", "3.5-9.5", "10*9/L"],
            ["PLT", "25.0", "125-350", ""],
            ["ESR", "7", "<20", "mm/h"],
        ];
        let model: Vec<Entry> = model.map(entry).to_vec();
        let second = Reading { reader: "the model", entries: &model };
        let mut found = compare(letters.map(entry).to_vec(), second);
        let doubts: Vec<&str> = found.rows.iter().map(|it| it.doubt.as_str()).collect();
        let expected = [
            "",
            "",
            "the model reads the result as 25.0; the model reads no unit",
            "the model does not read it",
        ];
        assert_eq!(doubts, expected);
        assert_eq!(found.only_in_second, [entry(["ESR", "7", "<20", "mm/h"])]);
        assert!(found.has_doubts());

        // A third reader that reads one of them as the first does.
        let third = [entry(["PLT", "250", "125-350", "10*9/L"]), entry(["CRP", "6", "<8", "mg/L"])];
        found.confirm(&third);
        let doubts: Vec<&str> = found.rows.iter().map(|it| it.doubt.as_str()).collect();
        assert_eq!(doubts, ["", "", "", "the model does not read it"]);
    }
}
