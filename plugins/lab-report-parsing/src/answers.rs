//! Questions about a report: one entry (PAP-11), and what is not as usual (PAP-12).

use std::collections::BTreeMap;

use domain::{Abnormality, LabRow};
use encoding::reference_range;
use encoding::unit::folded_text;
use plugin_api::{Context, NodeError};
use serde::Deserialize;

use crate::page::Page;
use crate::reading::asked;
use crate::row::meant;

/// A text in the form in which answers are compared: full-width letters folded, small letters, no blanks, marks of
/// ranges alike.
pub(crate) fn plain(text: &str) -> String {
    let folded = folded_text(text).to_lowercase();
    let bare = folded.chars().filter(|it| !it.is_whitespace());
    bare.map(|it| if matches!(it, '~' | '～' | '–' | '—') { '-' } else { it }).collect()
}

/// The rows that a question is about: of the very name, or else of names that hold it.
pub(crate) fn about<'a>(rows: &'a [LabRow], question: &str) -> Vec<&'a LabRow> {
    let key = plain(question);
    let named = |it: &&LabRow| plain(&it.entry_name) == key;
    let exact: Vec<&LabRow> = rows.iter().filter(named).collect();
    if !exact.is_empty() || key.is_empty() {
        return exact;
    }
    rows.iter().filter(|it| plain(&it.entry_name).contains(&key)).collect()
}

/// What the model says is the result of an entry.
pub(crate) fn simple(
    context: &Context<'_>,
    question: &str,
    page: &Page,
) -> Result<String, NodeError> {
    let quoted: String = question.chars().filter(|it| !matches!(it, '"' | '\n')).collect();
    let prompt = format!("{}\n\"{quoted}\"", include_str!("../prompts/question.txt").trim());
    Ok(asked(context, &prompt, page)?.answer.trim().to_owned())
}

/// What is said of one abnormal entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Abnormal {
    #[serde(default)]
    pub(crate) result: String,
    #[serde(default)]
    pub(crate) reference: String,
    #[serde(default)]
    pub(crate) abnormality: String,
}

/// The entries that the model calls abnormal.
pub(crate) fn complex(
    context: &Context<'_>,
    page: &Page,
) -> Result<BTreeMap<String, Abnormal>, NodeError> {
    let said = asked(context, include_str!("../prompts/abnormal.txt"), page)?;
    json(&said.answer)
}

/// JSON in an answer, with or without a fence around it.
pub(crate) fn json<T: for<'a> Deserialize<'a>>(answer: &str) -> Result<T, NodeError> {
    let inner = answer.trim().trim_start_matches("```json").trim_matches('`').trim();
    serde_json::from_str(inner).map_err(|error| {
        NodeError::rejected("answer_unreadable", format!("the answer is no JSON: {error}"))
    })
}

/// Where the model's list of abnormal entries and the rows differ. Whether an entry is abnormal is computed from
/// its result and reference; what cannot be computed is for a person.
pub(crate) fn differences(rows: &[LabRow], said: &BTreeMap<String, Abnormal>) -> Vec<String> {
    let mut differences = Vec::new();
    for row in rows {
        let name = plain(&row.entry_name);
        let entry = said.iter().find(|(it, _)| plain(it) == name).map(|(_, it)| it);
        match (row.abnormality, entry) {
            (Abnormality::Normal, None) => {}
            (ours, None) if ours.is_abnormal() => {
                differences.push(format!("the model does not name {}", row.entry_name));
            }
            (_, None) => {}
            (ours, Some(entry)) => differences.extend(differs(row, ours, entry)),
        }
    }
    let is_unknown = |name: &&String| !rows.iter().any(|it| plain(&it.entry_name) == plain(name));
    let unknown = said.keys().filter(is_unknown);
    differences.extend(unknown.map(|it| format!("the model names {it}, which is no row")));
    differences
}

fn differs(row: &LabRow, ours: Abnormality, said: &Abnormal) -> Option<String> {
    let name = &row.entry_name;
    let theirs = match said.abnormality.as_str() {
        // Negative where positive is usual is not as usual.
        "阴性" => Some(Abnormality::Abnormal),
        it => meant(it),
    };
    let computed = reference_range::compare(&said.result, &said.reference, &row.unit);
    if plain(&said.result) != plain(&row.result) {
        return Some(format!("{name}: the model reads {}", said.result));
    }
    let is_same = match (ours, theirs) {
        (Abnormality::Unknown, _) | (_, None) => false,
        (ours, Some(Abnormality::Abnormal)) => ours.is_abnormal(),
        (ours, Some(theirs)) => ours == theirs,
    };
    if is_same && (computed == ours || computed == Abnormality::Unknown) {
        return None;
    }
    let ours = match ours {
        Abnormality::Unknown => "it cannot be told",
        Abnormality::Normal => "it is as usual",
        Abnormality::High => "it is high",
        Abnormality::Low => "it is low",
        Abnormality::Abnormal => "it is not as usual",
    };
    Some(format!("{name}: the model says {}, by result and reference {ours}", said.abnormality))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Fields, row};

    fn rows() -> Vec<LabRow> {
        let all = [
            ["白细胞", "12.3", "3.5-9.5", "10^9/L"],
            ["血红蛋白", "130", "115-150", "g/L"],
            ["尿蛋白", "1+", "阴性", ""],
            ["二聚体", "0.6", "", "mg/L"],
        ];
        let row = |[name, result, reference, unit]: [&str; 4]| {
            row(&Fields { name, result, reference, unit, flag: "" })
        };
        all.map(row).to_vec()
    }

    #[test]
    fn pap_11_one_entry_is_found_by_its_name_however_it_is_spelt() {
        let rows = rows();
        let found = |it: &str| {
            about(&rows, it).iter().map(|it| it.result.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found("白细胞"), "12.3");
        assert_eq!(found(" 白 细胞 "), "12.3");
        assert_eq!(found("蛋白"), "130 1+");
        assert_eq!(found("钾"), "");
        assert_eq!(plain("３.5 ～ ９.５"), plain("3.5-9.5"));
        assert_eq!(plain("Ｎegative"), plain("NEGATIVE"));
    }

    #[test]
    fn pap_12_what_the_model_calls_abnormal_is_computed_anew() {
        let said = |text: &str| json::<BTreeMap<String, Abnormal>>(text).unwrap();
        let right = "```json\n{\"白细胞\": {\"result\": \"12.3\", \"reference\": \"3.5～9.5\", \
             \"abnormality\": \"偏高\"}, \"尿蛋白\": {\"result\": \"1+\", \"reference\": \"阴性\", \
             \"abnormality\": \"阳性\"}}\n```";
        assert_eq!(differences(&rows(), &said(right)), Vec::<String>::new());
        let wrong = "{\"白细胞\": {\"result\": \"12.3\", \"reference\": \"3.5-9.5\", \
             \"abnormality\": \"偏低\"}, \"血红蛋白\": {\"result\": \"13.0\"}, \"钾\": {}}";
        let expected = [
            "白细胞: the model says 偏低, by result and reference it is high",
            "血红蛋白: the model reads 13.0",
            "the model does not name 尿蛋白",
            "the model names 钾, which is no row",
        ];
        assert_eq!(differences(&rows(), &said(wrong)), expected);
        assert!(json::<BTreeMap<String, Abnormal>>("none").is_err());
    }
}
