//! Finds the observation of a message that a row of a report was made of: its order is named, and
//! its status is kept where the row states what the laboratory has stated (HL7-51, HL7-64). Pure.
//!
//! Plugins do not see order numbers, and what they say of a status proves nothing: rows are
//! compared with the message itself.

use domain::{LabRow, LaboratoryStatus, Observation, RowSource};
use encoding::laboratory::unit;

/// The rows of a draft, each with its observation.
pub(super) struct RowSources<'a> {
    found: Vec<Source<'a>>,
}

struct Source<'a> {
    row: &'a LabRow,
    observation: &'a Observation,
}

impl<'a> RowSources<'a> {
    /// Compares the rows of a draft with the observations of its message.
    pub(super) fn of(draft: &'a [LabRow], observations: &'a [Observation]) -> Self {
        let source = |place: usize, row: &'a LabRow| {
            let observation = observation_of(draft, place, observations)?;
            Some(Source { row, observation })
        };
        let rows = draft.iter().enumerate();
        Self { found: rows.filter_map(|(place, row)| source(place, row)).collect() }
    }

    /// Notes on each row where it comes from. A row that a person has changed is known by its name
    /// and key: it still answers its order.
    pub(super) fn note_on(&self, rows: &mut [LabRow]) {
        for row in rows {
            let mut found = self.found.iter();
            let found = found.find(|it| it.row.has_name_of(row) && it.row.key == row.key);
            row.source = found.map(|it| RowSource {
                order: it.observation.order(),
                status: status(row, it.observation),
            });
        }
    }
}

/// The observation that a row of a draft was made of. Nothing, if there is none, or if there are
/// several and it cannot be told which.
fn observation_of<'a>(
    draft: &[LabRow],
    place: usize,
    observations: &'a [Observation],
) -> Option<&'a Observation> {
    let row = draft.get(place)?;
    let stating: Vec<&Observation> =
        observations.iter().filter(|it| is_stated_by(row, it)).collect();
    let first = *stating.first()?;
    let is_alike = |other: &&LabRow| stating.iter().all(|it| is_stated_by(other, it));
    if draft.iter().filter(is_alike).count() == stating.len() {
        return stating.get(draft.iter().take(place).filter(is_alike).count()).copied();
    }
    stating.iter().all(|it| it.order() == first.order()).then_some(first)
}

/// Whether an observation states what a row does: name and value, or that there is none any more.
fn is_stated_by(row: &LabRow, observation: &Observation) -> bool {
    let Observation { code, scheme, sub_id, circumstances, .. } = observation;
    let name = if observation.name.is_empty() { code } else { &observation.name };
    let is_named = row.entry_name == *name
        && row.code == *code
        && row.scheme == *scheme
        && row.sub_id == *sub_id
        && row.circumstances == *circumstances;
    let is_value = !observation.value.is_empty() && row.result == observation.value;
    is_named && row.withdrawn == observation.no_result() && (row.withdrawn.is_some() || is_value)
}

/// The status of an observation, if a row states what it does. A flag that the engine has computed,
/// and a unit in other words than its notation, are not what the laboratory has stated.
fn status(row: &LabRow, observation: &Observation) -> Option<LaboratoryStatus> {
    let Observation { reference, flag, .. } = observation;
    let is_unchanged = is_stated_by(row, observation)
        && row.withdrawn.is_none()
        && row.reference == *reference
        && row.unit == unit::canonical(&observation.unit).text
        && row.flag_received == *flag
        && row.flags() == row.received_flags()
        && row.doubt.is_empty();
    LaboratoryStatus::parse(&observation.status).filter(|_| is_unchanged)
}

#[cfg(test)]
mod tests {
    use domain::{Abnormality, NoResult, OrderNumber};

    use super::*;

    fn observation(value: &str, status: &str, filler: &str) -> Observation {
        Observation {
            code: "2823-3".to_owned(),
            name: "Potassium".to_owned(),
            scheme: "LN".to_owned(),
            value: value.to_owned(),
            unit: "mmol/l".to_owned(),
            reference: "3.5-5.1".to_owned(),
            flag: "N".to_owned(),
            status: status.to_owned(),
            filler: Some(OrderNumber { number: filler.to_owned(), ..OrderNumber::default() }),
            ..Observation::default()
        }
    }

    fn row(value: &str, key: u32) -> LabRow {
        LabRow {
            entry_name: "Potassium".to_owned(),
            code: "2823-3".to_owned(),
            scheme: "LN".to_owned(),
            result: value.to_owned(),
            unit: "mmol/L".to_owned(),
            reference: "3.5-5.1".to_owned(),
            flag_received: "N".to_owned(),
            abnormality: Abnormality::Normal,
            key,
            ..LabRow::default()
        }
    }

    /// Order number and status of the source of each row.
    fn sources(draft: &[LabRow], rows: &[LabRow], all: &[Observation]) -> Vec<Option<String>> {
        let mut rows = rows.to_vec();
        RowSources::of(draft, all).note_on(&mut rows);
        let text = |source: RowSource| {
            let status = source.status.map_or("-", LaboratoryStatus::code);
            format!("{} {status}", source.order.filler.text())
        };
        rows.into_iter().map(|it| it.source.map(text)).collect()
    }

    fn source(row: &LabRow, observation: &Observation) -> Option<String> {
        let rows = std::slice::from_ref(row);
        sources(rows, rows, std::slice::from_ref(observation)).remove(0)
    }

    #[test]
    fn hl7_64_a_row_that_states_what_the_laboratory_has_stated_has_its_status() {
        for (status, expected) in
            [("F", "F"), ("C", "C"), ("P", "P"), ("R", "R"), ("S", "-"), ("", "-"), ("A", "-")]
        {
            let found = source(&row("4.9", 1), &observation("4.9", status, "F1"));
            assert_eq!(found.unwrap(), format!("F1 {expected}"), "{status}");
        }
    }

    #[test]
    fn hl7_51_a_row_that_states_anything_else_has_no_status_of_the_laboratory() {
        let good = row("4.9", 1);
        let computed = LabRow { abnormality: Abnormality::High, ..good.clone() };
        let unit = LabRow { unit: "mg/dL".to_owned(), ..good.clone() };
        let reference = LabRow { reference: "3.5-5.5".to_owned(), ..good.clone() };
        let doubtful = LabRow { doubt: "blurred".to_owned(), ..good.clone() };
        for changed in [computed, unit, reference, doubtful] {
            let found = source(&changed, &observation("4.9", "F", "F1"));
            assert_eq!(found.as_deref(), Some("F1 -"), "{changed:?}");
        }
        for other in [
            LabRow { result: "5.9".to_owned(), ..good.clone() },
            LabRow { entry_name: "Sodium".to_owned(), ..good.clone() },
            LabRow { withdrawn: Some(NoResult::Wrong), ..good },
        ] {
            assert_eq!(source(&other, &observation("4.9", "F", "F1")), None, "{other:?}");
        }
    }

    #[test]
    fn hl7_53_a_row_that_a_person_has_changed_stays_with_its_order() {
        let draft = [row("4.9", 1)];
        let edited = [row("5.9", 1), row("4.9", 2)];
        let found = sources(&draft, &edited, &[observation("4.9", "F", "F1")]);
        assert_eq!(found, [Some("F1 -".to_owned()), None]);
    }

    #[test]
    fn hl7_64_equal_results_of_two_orders_are_each_of_its_own() {
        let both = [observation("4.9", "F", "F1"), observation("4.9", "C", "F2")];
        let rows = [row("4.9", 1), row("4.9", 2)];
        let expected = [Some("F1 F".to_owned()), Some("F2 C".to_owned())];
        assert_eq!(sources(&rows, &rows, &both), expected);
        // With one row of two it cannot be told which.
        assert_eq!(sources(&rows[..1], &rows[..1], &both), [None]);
    }

    #[test]
    fn hl7_64_a_result_that_is_taken_back_is_of_its_order() {
        let taken = LabRow { withdrawn: Some(NoResult::Wrong), ..row("", 1) };
        let found = source(&taken, &observation("7.9", "W", "F1"));
        assert_eq!(found.as_deref(), Some("F1 -"));
    }
}
