//! Two readings of a page, held against one another (PAP-31): what both say stands, the rest is for a person.

use evaluation::documents::{Row, matched};

use crate::table::Entry;

/// What came of two readings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// The rows of the first reading, each with why it is doubtful, or nothing.
    pub(crate) rows: Vec<(Entry, String)>,
    /// Rows that only the second has.
    pub(crate) others: Vec<Entry>,
}

/// Names of the fields, in the order in which they are compared.
const FIELDS: [&str; 4] = ["name", "result", "reference", "unit"];

/// Holds the reading of the letters against that of the model. Spelling does not matter: `10^9/L` is `10*9/L`.
pub(crate) fn agreed(letters: Vec<Entry>, model: &[Entry]) -> Agreement {
    let pairs = matched(&rows(&letters), &rows(model));
    let doubt = |at: usize| {
        let Some((_, other, same)) = pairs.iter().find(|(it, ..)| *it == at) else {
            return "the model does not read it".to_owned();
        };
        let Some(other) = model.get(*other) else { return String::new() };
        let read = [&other.name, &other.result, &other.reference, &other.unit];
        let differ = FIELDS.iter().zip(read).zip(same).filter(|(_, is_same)| !**is_same);
        let words = differ.map(|((field, read), _)| match read.as_str() {
            "" => format!("the model reads no {field}"),
            read => format!("the model reads the {field} as {read}"),
        });
        words.collect::<Vec<_>>().join("; ")
    };
    let doubts: Vec<String> = (0..letters.len()).map(doubt).collect();
    let is_other = |at: &usize| !pairs.iter().any(|(_, it, _)| it == at);
    let others = (0..model.len()).filter(is_other).filter_map(|it| model.get(it).cloned());
    Agreement { others: others.collect(), rows: letters.into_iter().zip(doubts).collect() }
}

fn rows(entries: &[Entry]) -> Vec<Row> {
    let row = |it: &Entry| Row {
        entry_name: it.name.clone(),
        result: it.result.clone(),
        reference: it.reference.clone(),
        unit: it.unit.clone(),
    };
    entries.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry([name, result, reference, unit]: [&str; 4]) -> Entry {
        let [name, result, reference, unit] = [name, result, reference, unit].map(str::to_owned);
        Entry { name, result, reference, unit, flag: String::new() }
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
        let found = agreed(letters.map(entry).to_vec(), &model);
        let doubts: Vec<&str> = found.rows.iter().map(|(_, doubt)| doubt.as_str()).collect();
        let expected = [
            "",
            "",
            "the model reads the result as 25.0; the model reads no unit",
            "the model does not read it",
        ];
        assert_eq!(doubts, expected);
        assert_eq!(found.others, [entry(["ESR", "7", "<20", "mm/h"])]);
    }
}
