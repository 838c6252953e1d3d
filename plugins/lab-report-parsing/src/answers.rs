//! Questions about a report: the result of one entry (PAP-11), and the list of abnormal entries
//! (PAP-12).

use std::collections::BTreeMap;

use domain::{Abnormality, LabRow};
use encoding::laboratory::reference_range;
use encoding::laboratory::unit::folded_text;
use plugin_api::{Context, NodeError};
use plugin_toolkit::answer::parse_json;
use serde::Deserialize;

use crate::page::Page;
use crate::prompts::{PromptTask, Prompts};
use crate::reading::ask_about_page;
use crate::row::meaning_of_mark;

/// A text in the form in which answers are compared: full-width characters folded, lower case, no
/// white space, one dash for all marks of ranges.
pub(crate) fn normalized(text: &str) -> String {
    let folded = folded_text(text).to_lowercase();
    folded
        .chars()
        .filter(|it| !it.is_whitespace())
        .map(|it| if matches!(it, '~' | '～' | '–' | '—') { '-' } else { it })
        .collect()
}

/// Whether the model reads a result as it is in a row, which has no decimal commas.
pub(crate) fn is_same_value(by_model: &str, result: &str) -> bool {
    let [read, result] = [by_model, result].map(normalized);
    read == result || read.replace(',', ".") == result
}

/// The rows that a question names: those of exactly this name, or else those whose name contains
/// it.
pub(crate) fn rows_named<'a>(rows: &'a [LabRow], question: &str) -> Vec<&'a LabRow> {
    let name = normalized(question);
    let exact: Vec<&LabRow> = rows.iter().filter(|it| normalized(&it.entry_name) == name).collect();
    if !exact.is_empty() || name.is_empty() {
        return exact;
    }
    rows.iter().filter(|it| normalized(&it.entry_name).contains(&name)).collect()
}

/// The result of an entry, as the model reads it on a page.
pub(crate) fn result_by_model(
    context: &Context<'_>,
    prompts: &Prompts,
    question: &str,
    page: &Page,
) -> Result<String, NodeError> {
    let quoted: String = question.chars().filter(|it| !matches!(it, '"' | '\n')).collect();
    let prompt = prompts.of(PromptTask::Question, page).text;
    let prompt = format!("{prompt}\n\"{quoted}\"");
    Ok(ask_about_page(context, &prompt, page)?.answer.trim().to_owned())
}

/// An entry that the model calls abnormal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct AbnormalEntry {
    #[serde(default)]
    pub(crate) result: String,
    #[serde(default)]
    pub(crate) reference: String,
    #[serde(default)]
    pub(crate) abnormality: String,
}

/// The entries of a page that the model calls abnormal, by name.
pub(crate) fn abnormal_by_model(
    context: &Context<'_>,
    prompts: &Prompts,
    page: &Page,
) -> Result<BTreeMap<String, AbnormalEntry>, NodeError> {
    let prompt = prompts.of(PromptTask::Abnormal, page);
    let answer = ask_about_page(context, &prompt.text, page)?;
    Ok(parse_json(&answer.answer)?)
}

/// The differences between the model's list of abnormal entries and the rows. Whether an entry is
/// abnormal is computed from its result and reference; what cannot be computed is for a person.
pub(crate) fn differences(
    rows: &[LabRow],
    by_model: &BTreeMap<String, AbnormalEntry>,
) -> Vec<String> {
    let mut differences = Vec::new();
    for row in rows {
        let name = normalized(&row.entry_name);
        let listed = by_model.iter().find(|(it, _)| normalized(it) == name);
        match listed {
            Some((_, entry)) => differences.extend(difference(row, entry)),
            None if row.abnormality.is_abnormal() => {
                differences.push(format!("the model does not name {}", row.entry_name));
            }
            None => {}
        }
    }
    for name in by_model.keys() {
        let is_row = rows.iter().any(|it| normalized(&it.entry_name) == normalized(name));
        if !is_row {
            differences.push(format!("the model names {name}, which is no row"));
        }
    }
    differences
}

/// The difference between a row and the model's entry of it; nothing if both say the same.
fn difference(row: &LabRow, by_model: &AbnormalEntry) -> Option<String> {
    let name = &row.entry_name;
    if !is_same_value(&by_model.result, &row.result) {
        return Some(format!("{name}: the model reads {}", by_model.result));
    }
    let computed = row.abnormality;
    // From the result and reference that the model has read.
    let recomputed = reference_range::compare(&by_model.result, &by_model.reference, &row.unit);
    if is_same_abnormality(computed, &by_model.abnormality)
        && (recomputed == computed || recomputed == Abnormality::Unknown)
    {
        return None;
    }
    let computed = match computed {
        Abnormality::Unknown => "it cannot be told",
        Abnormality::Normal => "it is as usual",
        Abnormality::High => "it is high",
        Abnormality::Low => "it is low",
        Abnormality::Abnormal => "it is not as usual",
    };
    let listed = &by_model.abnormality;
    Some(format!("{name}: the model says {listed}, by result and reference {computed}"))
}

/// Whether the model's mark of an abnormality means the computed one.
fn is_same_abnormality(computed: Abnormality, mark: &str) -> bool {
    let meant = match mark {
        // A negative result is abnormal where a positive one is usual.
        "阴性" => Some(Abnormality::Abnormal),
        _ => meaning_of_mark(mark),
    };
    match (computed, meant) {
        (Abnormality::Unknown, _) | (_, None) => false,
        (computed, Some(Abnormality::Abnormal)) => computed.is_abnormal(),
        (computed, Some(meant)) => computed == meant,
    }
}

#[cfg(test)]
mod tests {
    use domain::PatientFacts;

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
            row(&Fields { name, result, reference, unit, flag: "" }, &PatientFacts::default())
        };
        all.map(row).to_vec()
    }

    #[test]
    fn pap_11_one_entry_is_found_by_its_name_however_it_is_spelt() {
        let rows = rows();
        let found = |it: &str| {
            rows_named(&rows, it).iter().map(|it| it.result.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found("白细胞"), "12.3");
        assert_eq!(found(" 白 细胞 "), "12.3");
        assert_eq!(found("蛋白"), "130 1+");
        assert_eq!(found("钾"), "");
        assert_eq!(normalized("３.5 ～ ９.５"), normalized("3.5-9.5"));
        assert_eq!(normalized("Ｎegative"), normalized("NEGATIVE"));
    }

    #[test]
    fn pap_12_what_the_model_calls_abnormal_is_computed_anew() {
        let listed = |text: &str| parse_json::<BTreeMap<String, AbnormalEntry>>(text).unwrap();
        let right = "```json\n{\"白细胞\": {\"result\": \"12.3\", \"reference\": \"3.5～9.5\", \
             \"abnormality\": \"偏高\"}, \"尿蛋白\": {\"result\": \"1+\", \"reference\": \"阴性\", \
             \"abnormality\": \"阳性\"}}\n```";
        assert_eq!(differences(&rows(), &listed(right)), Vec::<String>::new());
        let wrong = "{\"白细胞\": {\"result\": \"12.3\", \"reference\": \"3.5-9.5\", \
             \"abnormality\": \"偏低\"}, \"血红蛋白\": {\"result\": \"13.0\"}, \"钾\": {}}";
        let expected = [
            "白细胞: the model says 偏低, by result and reference it is high",
            "血红蛋白: the model reads 13.0",
            "the model does not name 尿蛋白",
            "the model names 钾, which is no row",
        ];
        assert_eq!(differences(&rows(), &listed(wrong)), expected);
        assert!(parse_json::<BTreeMap<String, AbnormalEntry>>("none").is_err());
    }
}
