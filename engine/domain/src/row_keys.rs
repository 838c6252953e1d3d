//! The keys of rows (OBX-4): with OBX-3, they tell a receiver which row of an earlier version a row
//! replaces (HL7-53). Pure.
//!
//! A key is a number among the rows of the same name, given once and stored with its row: the one
//! that the laboratory gave (OBX-4), if it is a number that no other row of the name has. A row that
//! is taken out takes its key along: no other row gets it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{Code, Finding, LabRow, Laterality, NodeOutput, Segment};

/// Upper bound of a number of the laboratory that becomes a key.
const SUB_ID_MAX: u32 = 1_000_000;

/// What OBX-3 states of a row: rows of different names need no key to be told apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum RowName {
    /// A row of a laboratory report.
    Laboratory { code: String, scheme: String, name: String },
    /// The measurements of a segment. The code of OBX-3 tells what was measured, and not in what:
    /// all segments share one sequence of keys.
    Segment,
}

impl RowName {
    fn of_row(row: &LabRow) -> Self {
        let LabRow { code, scheme, entry_name, .. } = row;
        Self::Laboratory { code: code.clone(), scheme: scheme.clone(), name: entry_name.clone() }
    }
}

/// A key with the name that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RowKey {
    name: RowName,
    number: u32,
}

/// The keys of an output; rows without one have the number zero.
fn keys(output: &NodeOutput) -> impl Iterator<Item = RowKey> {
    let rows = output.laboratory.iter();
    let rows = rows.map(|it| RowKey { name: RowName::of_row(it), number: it.key });
    let segments = segments(output);
    rows.chain(segments.map(|it| RowKey { name: RowName::Segment, number: it.key }))
}

fn segments(output: &NodeOutput) -> impl Iterator<Item = &Segment> {
    output.segmentations.iter().flat_map(|it| &it.segments)
}

/// What became of a finding, as a row of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangeRow {
    /// The finding (OBX-3).
    pub finding: Code,
    /// The key (OBX-4): a number for the side, and a second one where a finding is stated more than
    /// once for a side. So it is the same in every version.
    pub key: String,
    /// What became of it (OBX-5).
    pub change: Code,
}

/// The findings of which a change is stated.
pub fn changes(findings: &[Finding]) -> Vec<ChangeRow> {
    let mut rows: Vec<ChangeRow> = Vec::new();
    for finding in findings {
        let Some(change) = &finding.change else { continue };
        let side = match finding.laterality {
            None => 1,
            Some(Laterality::Left) => 2,
            Some(Laterality::Right) => 3,
            Some(Laterality::Bilateral) => 4,
        };
        let is_taken =
            |key: &String| rows.iter().any(|it| it.finding == finding.code && it.key == *key);
        let further = (2_u32..).map(|it| format!("{side}.{it}"));
        let key = [side.to_string()].into_iter().chain(further).find(|it| !is_taken(it));
        rows.push(ChangeRow {
            finding: finding.code.clone(),
            key: key.unwrap_or_default(),
            change: change.clone(),
        });
    }
    rows
}

/// Gives every row without a key one that no row of the same name has or had in `earlier`.
pub fn number<'a>(output: &mut NodeOutput, earlier: impl IntoIterator<Item = &'a NodeOutput>) {
    let mut numbering = Numbering::default();
    earlier.into_iter().flat_map(keys).for_each(|it| numbering.note(it));
    keys(output).for_each(|it| numbering.note(it));
    for row in output.laboratory.iter_mut().filter(|it| it.key == 0) {
        row.key = numbering.of_laboratory(row).unwrap_or_default();
    }
    for row in &mut output.laboratory {
        row.key = numbering.key(RowName::of_row(row), row.key);
    }
    for segment in output.segmentations.iter_mut().flat_map(|it| &mut it.segments) {
        segment.key = numbering.key(RowName::Segment, segment.key);
    }
}

#[derive(Default)]
struct Numbering {
    /// The highest number of each name.
    highest: BTreeMap<RowName, u32>,
    /// The keys that rows had before.
    noted: BTreeSet<RowKey>,
    /// The keys of the rows so far.
    given: BTreeSet<RowKey>,
}

impl Numbering {
    fn note(&mut self, key: RowKey) {
        let highest = self.highest.entry(key.name.clone()).or_default();
        *highest = key.number.max(*highest);
        self.noted.insert(key);
    }

    /// The number that the laboratory gave to a row, if no other row of the name has or had it.
    fn of_laboratory(&mut self, row: &LabRow) -> Option<u32> {
        let number = row.sub_id.parse::<u32>().ok().filter(|it| (1..=SUB_ID_MAX).contains(it))?;
        let key = RowKey { name: RowName::of_row(row), number };
        let is_free = !self.noted.contains(&key);
        self.note(key);
        is_free.then_some(number)
    }

    /// The key of the next row: the one that it has, unless it has none or another row has it.
    fn key(&mut self, name: RowName, number: u32) -> u32 {
        let key = RowKey { name, number };
        if number > 0 && self.given.insert(key.clone()) {
            return number;
        }
        let highest = self.highest.entry(key.name.clone()).or_default();
        *highest = highest.saturating_add(1);
        let number = *highest;
        self.given.insert(RowKey { number, ..key });
        number
    }
}

/// Gives rows without a key that of the same row in `before`, as far as that can be known: who edits
/// a result need not know of keys. Where some rows have keys, a row without one is new.
pub fn inherit(output: &mut NodeOutput, before: &NodeOutput) {
    inherit_segments(output, before);
    if output.laboratory.iter().any(|it| it.key > 0) {
        return;
    }
    let mut held = BTreeSet::new();
    let mut unkeyed: BTreeMap<RowName, usize> = BTreeMap::new();
    for row in &output.laboratory {
        *unkeyed.entry(RowName::of_row(row)).or_default() += 1;
    }
    for row in &mut output.laboratory {
        let name = RowName::of_row(row);
        let is_only = unkeyed.get(&name) == Some(&1);
        let is_free = |known: &&LabRow| {
            let key = RowKey { name: RowName::of_row(known), number: known.key };
            key.name == name && key.number > 0 && !held.contains(&key)
        };
        let free: Vec<&LabRow> = before.laboratory.iter().filter(is_free).collect();
        let equal = free.iter().find(|it| ***it == LabRow { key: it.key, ..row.clone() });
        let only = free.first().filter(|_| is_only && free.len() == 1);
        if let Some(number) = equal.or(only).map(|it| it.key) {
            row.key = number;
            held.insert(RowKey { name, number });
        }
    }
}

/// A segment is known by its tracking ID.
fn inherit_segments(output: &mut NodeOutput, before: &NodeOutput) {
    for segment in output.segmentations.iter_mut().flat_map(|it| &mut it.segments) {
        let known = segments(before).find(|it| it.tracking_id == segment.tracking_id);
        if let Some(known) = known.filter(|_| segment.key == 0) {
            segment.key = known.key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Abnormality;

    fn row(name: &str, result: &str) -> LabRow {
        LabRow {
            entry_name: name.to_owned(),
            result: result.to_owned(),
            reference: String::new(),
            unit: String::new(),
            code: String::new(),
            scheme: String::new(),
            abnormality: Abnormality::Unknown,
            flag_received: String::new(),
            disagrees: false,
            doubt: String::new(),
            withdrawn: None,
            key: 0,
            ..LabRow::default()
        }
    }

    fn output(rows: &[LabRow]) -> NodeOutput {
        NodeOutput { laboratory: rows.to_vec(), ..NodeOutput::default() }
    }

    fn lines(output: &NodeOutput) -> Vec<String> {
        let rows = output.laboratory.iter();
        rows.map(|it| format!("{} {} {}", it.entry_name, it.result, it.key)).collect()
    }

    #[test]
    fn hl7_53_a_key_stays_with_its_row_when_an_earlier_one_is_taken_out() {
        let mut draft = output(&[row("Glc", "5"), row("K", "4"), row("Glc", "9"), row("Glc", "7")]);
        number(&mut draft, []);
        assert_eq!(lines(&draft), ["Glc 5 1", "K 4 1", "Glc 9 2", "Glc 7 3"]);

        let mut edited = draft.clone();
        edited.laboratory.remove(0);
        edited.laboratory.push(row("Glc", "6"));
        inherit(&mut edited, &draft);
        number(&mut edited, [&draft]);
        assert_eq!(lines(&edited), ["K 4 1", "Glc 9 2", "Glc 7 3", "Glc 6 4"]);

        // The highest was taken out: its key is not given again.
        let mut last = output(&edited.laboratory[..2]);
        last.laboratory.push(row("Glc", "8"));
        number(&mut last, [&draft, &edited]);
        assert_eq!(lines(&last), ["K 4 1", "Glc 9 2", "Glc 8 5"]);
    }

    #[test]
    fn hl7_53_measurements_of_two_segments_never_have_one_key_whatever_their_labels() {
        let segment = |label: &str| -> Segment {
            let code = serde_json::json!({"value": "1", "scheme": "SCT", "meaning": "x"});
            serde_json::from_value(serde_json::json!({
                "label": label, "category": code, "kind": code, "tracking_id": label,
                "mask": {"sha256": "", "bytes": 0}, "voxels": 1, "measurements": [],
            }))
            .unwrap()
        };
        let of = |labels: &[&str]| -> NodeOutput {
            let segments: Vec<Segment> = labels.iter().map(|it| segment(it)).collect();
            let geometry = serde_json::json!({
                "rows": 1, "columns": 1, "instances": [], "sop_class": "1.2", "lossy": false,
            });
            let segmentation = serde_json::json!({
                "series": "1.2", "geometry": geometry, "segments": segments,
                "algorithm": {"name": "", "version": "", "parameters": {}},
            });
            let segmentations = vec![serde_json::from_value(segmentation).unwrap()];
            NodeOutput { segmentations, ..NodeOutput::default() }
        };
        let keys =
            |output: &NodeOutput| -> Vec<u32> { segments(output).map(|it| it.key).collect() };
        let mut draft = of(&["lesion 1", "lesion 2", "liver"]);
        number(&mut draft, []);
        assert_eq!(keys(&draft), [1, 2, 3]);

        // The first was taken out: the others keep theirs, and a new one gets another.
        let mut edited = of(&["lesion 2", "liver", "spleen"]);
        inherit(&mut edited, &draft);
        number(&mut edited, [&draft]);
        assert_eq!(keys(&edited), [2, 3, 4]);
    }

    #[test]
    fn hl7_53_who_edits_without_keys_keeps_those_that_are_certain() {
        let mut draft = output(&[row("Glc", "5"), row("K", "4"), row("Glc", "9")]);
        number(&mut draft, []);
        let mut edited = output(&[row("K", "4.1"), row("Glc", "9")]);
        inherit(&mut edited, &draft);
        number(&mut edited, [&draft]);
        assert_eq!(lines(&edited), ["K 4.1 1", "Glc 9 2"]);
    }

    #[test]
    fn hl7_53_another_node_changes_no_key_that_was_given() {
        let mut first = output(&[row("K", "4")]);
        number(&mut first, []);
        let mut second = output(&[row("K", "5"), row("K", "6")]);
        number(&mut second, [&first]);
        assert_eq!(
            (lines(&first), lines(&second)),
            (vec!["K 4 1".to_owned()], vec!["K 5 2".to_owned(), "K 6 3".to_owned()])
        );
    }

    #[test]
    fn hl7_60_a_row_keeps_the_number_of_the_laboratory_where_it_is_its_own() {
        let with = |name: &str, result: &str, sub_id: &str| LabRow {
            sub_id: sub_id.to_owned(),
            ..row(name, result)
        };
        let mut first = output(&[
            with("Organism", "E. coli", "2"),
            with("Organism", "S. aureus", "1"),
            with("Organism", "none", "1"),
            row("Organism", "other"),
            with("Organism", "mixed", "1.1"),
        ]);
        number(&mut first, []);
        let expected = [2, 1, 3, 4, 5];
        let keys: Vec<u32> = first.laboratory.iter().map(|it| it.key).collect();
        assert_eq!(keys, expected);
        // A key that was given is not given again, whatever the laboratory says.
        let mut later = output(&[with("Organism", "K. pneumoniae", "2")]);
        number(&mut later, [&first]);
        assert_eq!(later.laboratory[0].key, 6);
    }

    #[test]
    fn hl7_53_two_rows_never_have_one_key() {
        let mut twice =
            output(&[LabRow { key: 2, ..row("K", "4") }, LabRow { key: 2, ..row("K", "5") }]);
        number(&mut twice, []);
        assert_eq!(lines(&twice), ["K 4 2", "K 5 3"]);
    }
}
