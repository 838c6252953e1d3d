//! The values that the template of ORU is filled in with for laboratory rows (HL7-53, HL7-60).

use domain::{FLAG_SEPARATOR, LabRow, LaboratoryStatus, NoResult, ObservedAt};
use encoding::hl7::escape::Delimiters;
use serde::Serialize;

use crate::input::ReportInput;

/// OBX of a laboratory row, and the notes behind it.
#[derive(Serialize)]
pub(crate) struct LabView {
    pub(crate) value_type: &'static str,
    #[serde(flatten)]
    pub(crate) row: LabRow,
    /// OBX-5, with its escape sequences.
    pub(crate) value: String,
    /// OBX-8, delimiters included.
    pub(crate) flag: String,
    /// OBX-11.
    pub(crate) status: &'static str,
    /// OBX-14; empty if the laboratory states no time.
    pub(crate) observed: String,
    pub(crate) notes: Vec<NoteView>,
    /// Whether it states what the laboratory has stated, and has the status of the laboratory.
    pub(crate) is_passed_on: bool,
    /// What is said of it until a person has signed; empty in the list of all rows.
    pub(crate) label: &'static str,
}

/// NTE.
#[derive(Serialize)]
pub(crate) struct NoteView {
    /// NTE-2 (table 0105).
    pub(crate) source: &'static str,
    pub(crate) text: String,
}

/// The rows of an order: each with the status of the laboratory where it is passed on as that has
/// stated it, and with the status of the report where not (HL7-51).
pub(crate) fn stated(
    input: &ReportInput<'_>,
    status: &'static str,
    rows: &[LabRow],
) -> Vec<LabView> {
    let mut rows: Vec<LabView> = rows.iter().map(|it| stated_row(input, status, it)).collect();
    if input.status.is_withdrawn {
        rows.iter_mut().for_each(LabView::clear);
    }
    rows
}

fn stated_row(input: &ReportInput<'_>, status: &'static str, sent: &LabRow) -> LabView {
    let view = row(sent, status);
    let of_laboratory = sent.source.as_ref().and_then(|it| it.status);
    let Some(of_laboratory) = of_laboratory.filter(|_| !input.status.is_withdrawn) else {
        return LabView { label: input.label(), ..view };
    };
    let is_verified = input.status.is_verified();
    let status = match of_laboratory {
        // A person answers for it.
        LaboratoryStatus::Final if is_verified => status,
        _ => of_laboratory.code(),
    };
    let label = if is_verified { "" } else { input.context.engine.language.passed_on_label() };
    LabView { status, label, is_passed_on: true, ..view }
}

/// Rows that people have taken out, to be deleted by their receivers (HL7-53).
pub(crate) fn deleted(input: &ReportInput<'_>, rows: &[LabRow]) -> Vec<LabView> {
    let status = NoResult::Deleted.status();
    let deleted = rows.iter().map(|it| {
        let mut deleted = LabView { status, label: input.label(), ..row(it, status) };
        deleted.clear();
        deleted
    });
    deleted.collect()
}

/// All laboratory rows, for templates that do not group them; without their values, if the result
/// was withdrawn. Those that were taken out follow, to be deleted (HL7-53), where the receiver may
/// have them.
pub(crate) fn rows(
    input: &ReportInput<'_>,
    status: &'static str,
    has_former_rows: bool,
) -> Vec<LabView> {
    let rows = input.results.laboratory.iter();
    let mut rows: Vec<LabView> = rows.map(|it| row(it, status)).collect();
    if input.status.is_withdrawn {
        rows.iter_mut().for_each(LabView::clear);
    }
    if has_former_rows {
        rows.extend(deleted(input, &input.context.taken_out.rows));
    }
    rows
}

impl LabView {
    /// Leaves nothing but the name of the row.
    fn clear(&mut self) {
        self.row.result.clear();
        self.value.clear();
        self.flag.clear();
        self.notes.clear();
    }
}

/// A laboratory row. Its type is NM only for a pure decimal (HL7-60), and FT for several lines. One
/// that the laboratory took back has the status of that, whatever the status of the others.
pub(crate) fn row(row: &LabRow, status: &'static str) -> LabView {
    let is_number = row.result.parse::<f64>().is_ok_and(f64::is_finite)
        && row.result.chars().all(|it| it.is_ascii_digit() || ".+-".contains(it));
    let escaped = |it: &str| Delimiters::default().escaped(it);
    let flags: Vec<String> = row.flags().iter().map(|it| escaped(it)).collect();
    let lines: Vec<String> = row.result.lines().map(escaped).collect();
    let value_type = match lines.len() {
        _ if is_number => "NM",
        0 | 1 => "ST",
        _ => "FT",
    };
    let observed = row.circumstances.observed_at.as_ref().filter(|it| it.is_dtm());
    LabView {
        value_type,
        value: lines.join("\\.br\\"),
        row: row.clone(),
        flag: flags.join(&FLAG_SEPARATOR.to_string()),
        status: row.withdrawn.map_or(status, NoResult::status),
        observed: observed.map(|it| it.text.clone()).unwrap_or_default(),
        notes: notes(row),
        is_passed_on: false,
        label: "",
    }
}

/// The notes of the laboratory on a row, and what else it states of the row that no field of OBX
/// holds. Its notes are of the source `L` (table 0105), the others of `P`.
fn notes(row: &LabRow) -> Vec<NoteView> {
    let own = row.circumstances.notes.iter();
    let own = own.map(|it| NoteView { source: "L", text: it.clone() });
    own.chain(statements(row).into_iter().map(|text| NoteView { source: "P", text })).collect()
}

/// What the laboratory states of a row, in words, where the field of a report says something else
/// or there is none.
pub(crate) fn statements(row: &LabRow) -> Vec<String> {
    let about = &row.circumstances;
    let time = about.observed_at.as_ref().filter(|it| !it.is_dtm()).map(ObservedAt::printed);
    let sub_id = Some(&row.sub_id).filter(|it| **it != row.key.to_string()).cloned();
    let status = Some(&row.status_received).filter(|it| *it != "F" && row.withdrawn.is_none());
    let flags = Some(row.flag_received.replace(FLAG_SEPARATOR, ", ")).filter(|_| row.disagrees);
    let stated = [
        ("Panel", Some(about.panel.clone())),
        ("Specimen", Some(about.specimen.clone())),
        ("Time of observation", time),
        ("Sub-ID of the laboratory", sub_id),
        ("Status of the laboratory", status.cloned()),
        ("Flag of the laboratory", flags),
    ];
    let stated = stated.into_iter().filter_map(|(name, value)| Some((name, value?)));
    stated
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}: {value}"))
        .collect()
}

/// From when to when the rows of a report were observed.
pub(crate) struct Span<'a> {
    pub(crate) first: &'a ObservedAt,
    pub(crate) last: &'a ObservedAt,
}

/// The time of the rows. Nothing, if the time of one is not stated, or times cannot be ordered.
pub(crate) fn span(rows: &[LabRow]) -> Option<Span<'_>> {
    let times = rows.iter().map(|it| it.circumstances.observed_at.as_ref());
    let times: Vec<&ObservedAt> = times.collect::<Option<_>>()?;
    let first = *times.first()?;
    if times.iter().all(|it| **it == *first) {
        return first.is_dtm().then_some(Span { first, last: first });
    }
    if times.iter().any(|it| it.instant.is_none() || !it.is_dtm()) {
        return None;
    }
    let first = times.iter().min_by_key(|it| it.instant)?;
    let last = times.iter().max_by_key(|it| it.instant)?;
    Some(Span { first, last })
}

/// The specimen that all rows are of; empty if they are of several, or of none that is known.
pub(crate) fn specimen(rows: &[LabRow]) -> String {
    let first = rows.first().map(|it| it.circumstances.specimen.as_str()).unwrap_or_default();
    let is_of_all = rows.iter().all(|it| it.circumstances.specimen == first);
    if is_of_all { first.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use domain::{Abnormality, Circumstances};

    use super::*;

    fn sent(result: &str) -> LabRow {
        LabRow {
            entry_name: "Glucose".to_owned(),
            result: result.to_owned(),
            unit: "mmol/L".to_owned(),
            abnormality: Abnormality::Normal,
            key: 1,
            ..LabRow::default()
        }
    }

    fn at(hour: &str) -> ObservedAt {
        let instant = format!("2026-01-03T{hour}:00:00Z").parse().ok();
        ObservedAt { text: format!("20260103{hour}"), instant }
    }

    #[test]
    fn hl7_60_only_a_pure_decimal_is_numeric() {
        for (result, value_type) in
            [("5.2", "NM"), ("-1", "NM"), ("<5", "ST"), ("1e3", "ST"), ("", "ST"), ("5\r\n6", "FT")]
        {
            assert_eq!(row(&sent(result), "R").value_type, value_type, "{result}");
        }
    }

    #[test]
    fn hl7_60_what_no_field_holds_is_told_behind_the_row() {
        let mut about = Circumstances { specimen: "Serum".to_owned(), ..Circumstances::default() };
        about.notes = vec!["Phoned".to_owned()];
        about.observed_at = Some(ObservedAt { text: "morning".to_owned(), instant: None });
        let row = row(
            &LabRow {
                sub_id: "1.1".to_owned(),
                status_received: "C".to_owned(),
                flag_received: "H~U".to_owned(),
                disagrees: true,
                circumstances: about,
                ..sent("5.2")
            },
            "R",
        );
        let notes: Vec<String> =
            row.notes.iter().map(|it| format!("{} {}", it.source, it.text)).collect();
        let expected = [
            "L Phoned",
            "P Specimen: Serum",
            "P Time of observation: morning",
            "P Sub-ID of the laboratory: 1.1",
            "P Status of the laboratory: C",
            "P Flag of the laboratory: H, U",
        ];
        assert_eq!(notes, expected);
        assert_eq!((row.observed.as_str(), row.flag.as_str()), ("", "N~U"));
    }

    #[test]
    fn hl7_60_a_row_that_says_all_in_its_fields_has_no_note() {
        let plain = LabRow {
            sub_id: "1".to_owned(),
            status_received: "F".to_owned(),
            flag_received: "N".to_owned(),
            ..sent("5.2")
        };
        assert!(row(&plain, "R").notes.is_empty());
    }

    #[test]
    fn hl7_60_a_report_is_of_the_times_and_the_specimen_of_its_rows() {
        let with = |time: Option<ObservedAt>, specimen: &str| LabRow {
            circumstances: Circumstances {
                observed_at: time,
                specimen: specimen.to_owned(),
                ..Circumstances::default()
            },
            ..sent("5.2")
        };
        let early = with(Some(at("08")), "Serum");
        let late = with(Some(at("09")), "Serum");
        let rows = [late, early];
        let found = span(&rows).map(|it| (it.first.text.clone(), it.last.text.clone())).unwrap();
        assert_eq!(found, ("2026010308".to_owned(), "2026010309".to_owned()));
        assert_eq!(specimen(&rows), "Serum");
        let rows = [with(None, "Serum"), with(Some(at("08")), "Plasma")];
        assert!(span(&rows).is_none());
        assert_eq!(specimen(&rows), "");
    }
}
