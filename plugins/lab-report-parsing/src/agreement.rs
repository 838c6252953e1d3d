//! Compares two readings of a paper (PAP-31): a row that both have read alike is certain, every
//! other row is for a person to check.

use evaluation::documents::{Field, Row, match_rows};

use crate::table::{Entry, ReadEntry};

/// The comparison of two readings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// The rows of the first reading, each with its differences from the second.
    pub(crate) rows: Vec<ReadEntry>,
    /// Rows of the second reading that the first one does not have.
    pub(crate) only_in_second: Vec<Entry>,
}

/// Compares the reading of the letters with that of the model. Spelling does not matter: `10^9/L`
/// is `10*9/L`.
pub(crate) fn compare(by_letters: Vec<Entry>, by_model: &[Entry]) -> Agreement {
    let matches = match_rows(&evaluation_rows(&by_letters), &evaluation_rows(by_model));
    let mut agreement = Agreement::default();
    for (index, entry) in by_letters.into_iter().enumerate() {
        let matched = matches.iter().find(|it| it.first == index);
        let doubt = match matched.and_then(|it| Some((by_model.get(it.second)?, &it.differing))) {
            Some((other, differing)) => differences(other, differing),
            None => "the model does not read it".to_owned(),
        };
        agreement.rows.push(ReadEntry { entry, doubt });
    }
    for (index, entry) in by_model.iter().enumerate() {
        if matches.iter().all(|it| it.second != index) {
            agreement.only_in_second.push(entry.clone());
        }
    }
    agreement
}

/// The fields that the model reads otherwise, as one text; empty if there is none.
fn differences(by_model: &Entry, differing: &[Field]) -> String {
    let differences: Vec<String> = differing
        .iter()
        .map(|field| {
            let (name, value) = match field {
                Field::EntryName => ("name", &by_model.name),
                Field::Result => ("result", &by_model.result),
                Field::Reference => ("reference", &by_model.reference),
                Field::Unit => ("unit", &by_model.unit),
            };
            match value.as_str() {
                "" => format!("the model reads no {name}"),
                value => format!("the model reads the {name} as {value}"),
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
        let found = compare(letters.map(entry).to_vec(), &model);
        let doubts: Vec<&str> = found.rows.iter().map(|it| it.doubt.as_str()).collect();
        let expected = [
            "",
            "",
            "the model reads the result as 25.0; the model reads no unit",
            "the model does not read it",
        ];
        assert_eq!(doubts, expected);
        assert_eq!(found.only_in_second, [entry(["ESR", "7", "<20", "mm/h"])]);
    }
}
