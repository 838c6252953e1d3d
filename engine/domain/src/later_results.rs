//! Results that a laboratory reports again: corrected, withdrawn, or final after preliminary
//! (HL7-53, HL7-60). Pure.
//!
//! A result is known by its order and its code: OBR-3 with its assigner, OBX-3 and OBX-4. Of two
//! messages that report it, the later one holds, whichever arrived first.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::{ExchangedDocument, Observation};

/// What an earlier message holds, as far as it is in force.
#[derive(Clone, Debug)]
pub struct KnownDocument {
    /// The document.
    pub document: ExchangedDocument,
    /// Whether its message arrived later, and was decided on first.
    pub arrived_later: bool,
}

/// What a message means beside the messages that were decided on before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Combined {
    /// The document in force: what the message states, and what stays valid of the documents that
    /// it replaces.
    pub document: ExchangedDocument,
    /// The places of the documents that it replaces.
    pub replaced: Vec<usize>,
    /// The place of the document that had corrected all results of the message before it arrived.
    pub outdated_by: Option<usize>,
    /// Whether it reports results again and it cannot be told which.
    pub is_ambiguous: bool,
    /// Whether it only repeats what is in force.
    pub is_repeated: bool,
}

/// What a result is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ResultKey<'a> {
    number: &'a str,
    /// What assigned the number, as assigners are compared.
    assigner: [&'a str; 3],
    code: &'a str,
    scheme: &'a str,
    sub_id: &'a str,
}

impl<'a> ResultKey<'a> {
    /// The key of an observation; nothing, if no other can be known to be the same.
    fn of(observation: &'a Observation) -> Option<Self> {
        let filler = observation.filler.as_ref()?;
        let Observation { code, name, scheme, sub_id, .. } = observation;
        let code = if code.is_empty() { name } else { code };
        let number = &filler.number;
        let assigner = filler.assigner.key();
        (!code.is_empty()).then_some(Self { number, assigner, code, scheme, sub_id })
    }
}

/// What one document states of one result: mostly one observation.
struct Statement<'a> {
    /// The place of the document; nothing for the message itself.
    source: Option<usize>,
    arrived_later: bool,
    observations: Vec<&'a Observation>,
}

impl Statement<'_> {
    /// Whether it holds rather than another that was decided on before.
    fn holds_over(&self, other: &Statement<'_>) -> bool {
        let by_time = self.stated_at().zip(other.stated_at()).map(|(one, two)| one.cmp(&two));
        match by_time.unwrap_or(Ordering::Equal).then(self.rank().cmp(&other.rank())) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => self.arrived_later || !other.arrived_later,
        }
    }

    fn stated_at(&self) -> Option<jiff::Timestamp> {
        self.observations.iter().filter_map(|it| it.stated_at).max()
    }

    fn rank(&self) -> u8 {
        self.observations.iter().map(|it| rank(it)).max().unwrap_or_default()
    }

    /// Whether it can be told which of its observations are those of another: there are as many, or
    /// they are the lines of one text.
    fn is_comparable_with(&self, other: &Statement<'_>) -> bool {
        let is_text = |it: &&Observation| matches!(it.value_type.as_str(), "TX" | "FT");
        let both = || self.observations.iter().chain(&other.observations).copied();
        self.observations.len() == other.observations.len() || both().all(|it| is_text(&it))
    }

    /// Whether it states the same, whenever it was stated and however its order is written.
    fn says_the_same_as(&self, other: &Statement<'_>) -> bool {
        let bare = |observation: &&Observation| Observation {
            stated_at: None,
            is_reported: false,
            filler: None,
            placer: None,
            accession: String::new(),
            ..Observation::clone(observation)
        };
        self.observations.iter().map(bare).eq(other.observations.iter().map(bare))
    }

    /// Whether receivers may have a value of it.
    fn is_reported(&self) -> bool {
        self.observations.iter().any(|it| it.is_reported || it.no_result().is_none())
    }
}

/// How final a status is (OBX-11): of two statements of the same time, the more final one is later.
fn rank(observation: &Observation) -> u8 {
    if observation.no_result().is_some() {
        return 2;
    }
    match observation.status.trim() {
        "C" => 2,
        "P" | "R" | "S" => 0,
        _ => 1,
    }
}

/// Whether an observation reports a value or takes one back.
fn is_statement(observation: &Observation) -> bool {
    observation.no_result().is_none_or(crate::NoResult::takes_back)
}

/// Combines the document of a message with those of messages that were decided on before it, in
/// the order of their arrival. Only documents of the same patient may be given.
pub fn combine(arrived: &ExchangedDocument, known: &[KnownDocument]) -> Combined {
    let own = statements(arrived, None, false);
    let all: Vec<BTreeMap<ResultKey<'_>, Statement<'_>>> = known
        .iter()
        .enumerate()
        .map(|(place, it)| statements(&it.document, Some(place), it.arrived_later))
        .collect();
    let is_shared = |place: &usize| {
        all.get(*place).is_some_and(|them| them.keys().any(|key| own.contains_key(key)))
    };
    let shared: Vec<usize> = (0..all.len()).filter(is_shared).collect();
    let alone = Combined { document: arrived.clone(), ..Combined::default() };
    if shared.is_empty() {
        return alone;
    }
    let mut in_force = BTreeMap::new();
    for (place, statements) in all.into_iter().enumerate() {
        if shared.contains(&place) {
            add(&mut in_force, statements);
        }
    }
    let is_ambiguous = own
        .iter()
        .any(|(key, mine)| in_force.get(key).is_some_and(|it| !mine.is_comparable_with(it)));
    if is_ambiguous {
        return Combined { is_ambiguous, ..alone };
    }
    let reported: Vec<ResultKey<'_>> =
        in_force.iter().filter(|(_, it)| it.is_reported()).map(|(key, _)| *key).collect();
    let has_unkeyed =
        arrived.observations.iter().any(|it| is_statement(it) && ResultKey::of(it).is_none());
    // The content of a file is not compared.
    let is_repeated = !has_unkeyed
        && arrived.attachments.is_empty()
        && own
            .iter()
            .all(|(key, mine)| in_force.get(key).is_some_and(|it| mine.says_the_same_as(it)));
    let keys: Vec<ResultKey<'_>> = own.keys().copied().collect();
    add(&mut in_force, own);
    let winners = keys.iter().map(|key| in_force.get(key).and_then(|it| it.source));
    if !has_unkeyed && winners.clone().all(|it| it.is_some()) {
        let outdated_by = winners.flatten().max();
        return Combined { outdated_by, ..alone };
    }
    let rest = shared.iter().filter_map(|place| known.get(*place)).map(|it| &it.document);
    let document = document_in_force(arrived, &in_force, &reported, rest);
    Combined { document, replaced: shared, is_repeated, ..Combined::default() }
}

/// The statements of a document, by what they are about.
fn statements(
    document: &ExchangedDocument,
    source: Option<usize>,
    arrived_later: bool,
) -> BTreeMap<ResultKey<'_>, Statement<'_>> {
    let mut all: BTreeMap<ResultKey<'_>, Statement<'_>> = BTreeMap::new();
    for observation in document.observations.iter().filter(|it| is_statement(it)) {
        let Some(key) = ResultKey::of(observation) else { continue };
        let statement = all.entry(key).or_insert_with(|| Statement {
            source,
            arrived_later,
            observations: Vec::new(),
        });
        statement.observations.push(observation);
    }
    all
}

/// Adds statements to those in force: of two about one result, the later one stays.
fn add<'a>(
    in_force: &mut BTreeMap<ResultKey<'a>, Statement<'a>>,
    statements: BTreeMap<ResultKey<'a>, Statement<'a>>,
) {
    for (key, statement) in statements {
        if in_force.get(&key).is_none_or(|it| statement.holds_over(it)) {
            in_force.insert(key, statement);
        }
    }
}

/// The arrived document, with what is in force in the place of what it states, and the remaining
/// observations of the documents that it replaces after them.
fn document_in_force<'a>(
    arrived: &'a ExchangedDocument,
    in_force: &BTreeMap<ResultKey<'a>, Statement<'a>>,
    reported: &[ResultKey<'a>],
    replaced: impl Iterator<Item = &'a ExchangedDocument>,
) -> ExchangedDocument {
    let mut observations: Vec<Observation> = Vec::new();
    let mut written = Vec::new();
    let own = arrived.observations.len();
    let earlier = replaced.flat_map(|it| &it.observations).filter(|it| is_statement(it));
    for (place, observation) in arrived.observations.iter().chain(earlier).enumerate() {
        let key = ResultKey::of(observation).filter(|_| is_statement(observation));
        let statement = key.and_then(|key| Some((key, in_force.get(&key)?)));
        let Some((key, statement)) = statement else {
            // Without a key, only an equal one is known to be the same.
            if place < own || !observations.contains(observation) {
                observations.push(observation.clone());
            }
            continue;
        };
        if written.contains(&key) {
            continue;
        }
        written.push(key);
        let is_reported = reported.contains(&key);
        let copies = statement
            .observations
            .iter()
            .map(|it| Observation { is_reported, ..Observation::clone(it) });
        observations.extend(copies);
    }
    ExchangedDocument { observations, ..arrived.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Assigner, OrderNumber};

    fn number_of(namespace: &str, universal_id: &str) -> OrderNumber {
        let assigner = Assigner::Authority {
            namespace: namespace.to_owned(),
            universal_id: universal_id.to_owned(),
            universal_id_type: String::new(),
        };
        OrderNumber { number: "F1".to_owned(), assigner }
    }

    /// An observation: code, value, status and time (an hour of one day, or nothing).
    fn observation(code: &str, value: &str, status: &str, hour: Option<u8>) -> Observation {
        let stated_at = hour.map(|it| format!("2026-01-03T{it:02}:15:00Z").parse().unwrap());
        Observation {
            code: code.to_owned(),
            value: value.to_owned(),
            status: status.to_owned(),
            filler: Some(number_of("LAB", "")),
            stated_at,
            ..Observation::default()
        }
    }

    fn document(observations: &[Observation]) -> ExchangedDocument {
        let observations = observations.to_vec();
        ExchangedDocument { observations, ..ExchangedDocument::default() }
    }

    fn known(observations: &[Observation]) -> KnownDocument {
        KnownDocument { document: document(observations), arrived_later: false }
    }

    /// The observations of a document as `code value status`, with `+` where it was reported.
    fn lines(document: &ExchangedDocument) -> Vec<String> {
        let lines = document.observations.iter().map(|observation| {
            let Observation { code, value, status, is_reported, .. } = observation;
            let mark = if *is_reported { "+" } else { "" };
            format!("{code} {value} {status}{mark}")
        });
        lines.collect()
    }

    #[test]
    fn hl7_53_a_correction_replaces_its_value_and_leaves_the_others() {
        let panel =
            [observation("K", "7.9", "F", Some(11)), observation("Na", "140", "F", Some(11))];
        let correction = document(&[observation("K", "4.9", "C", Some(12))]);

        let combined = combine(&correction, &[known(&panel)]);

        assert_eq!(lines(&combined.document), ["K 4.9 C+", "Na 140 F+"]);
        assert_eq!((combined.replaced, combined.outdated_by), (vec![0], None));
    }

    #[test]
    fn hl7_53_a_correction_that_arrives_before_its_original_holds() {
        let correction = known(&[observation("K", "4.9", "C", Some(12))]);
        let original = document(&[observation("K", "7.9", "F", Some(11))]);
        assert_eq!(combine(&original, std::slice::from_ref(&correction)).outdated_by, Some(0));

        let panel =
            [observation("K", "7.9", "F", Some(11)), observation("Na", "140", "F", Some(11))];
        let combined = combine(&document(&panel), &[correction]);
        assert_eq!(lines(&combined.document), ["K 4.9 C+", "Na 140 F"]);
        assert_eq!(combined.replaced, [0]);

        // Without times, the status decides.
        let correction = known(&[observation("K", "4.9", "C", None)]);
        let original = document(&[observation("K", "7.9", "F", None)]);
        assert_eq!(combine(&original, &[correction]).outdated_by, Some(0));
    }

    #[test]
    fn hl7_60_a_withdrawal_takes_back_what_was_reported_and_only_that() {
        for status in ["W", "D", "X"] {
            let withdrawal = document(&[observation("K", "", status, Some(12))]);
            let reported = known(&[observation("K", "7.9", "F", Some(11))]);
            let combined = combine(&withdrawal, &[reported]);
            assert_eq!(lines(&combined.document), [format!("K  {status}+")], "{status}");

            let combined = combine(&withdrawal, &[]);
            assert_eq!(lines(&combined.document), [format!("K  {status}")], "{status}");
        }
        // One that arrives before what it withdraws.
        let withdrawal = known(&[observation("K", "", "W", Some(12))]);
        let original = document(&[observation("K", "7.9", "F", Some(11))]);
        assert_eq!(combine(&original, std::slice::from_ref(&withdrawal)).outdated_by, Some(0));
        // A result after a withdrawal is one.
        let again = document(&[observation("K", "4.9", "F", Some(13))]);
        assert_eq!(lines(&combine(&again, &[withdrawal]).document), ["K 4.9 F"]);
    }

    #[test]
    fn hl7_53_results_of_another_order_code_or_part_stay_apart() {
        let earlier = known(&[observation("K", "7.9", "F", Some(11))]);
        let mut other = observation("K", "4.9", "C", Some(12));
        other.filler = Some(number_of("MB", ""));
        let mut part = observation("K", "4.9", "C", Some(12));
        part.sub_id = "2".to_owned();
        let mut unnumbered = observation("K", "4.9", "C", Some(12));
        unnumbered.filler = None;
        for it in [other, part, unnumbered, observation("Na", "140", "C", Some(12))] {
            let arrived = document(&[it]);
            let expected = Combined { document: arrived.clone(), ..Combined::default() };
            assert_eq!(combine(&arrived, std::slice::from_ref(&earlier)), expected);
        }
    }

    #[test]
    fn hl7_53_an_authority_is_the_same_with_and_without_its_universal_id() {
        let earlier = known(&[observation("K", "7.9", "F", Some(11))]);
        let mut again = observation("K", "7.9", "F", Some(12));
        again.filler = Some(number_of("LAB", "1.2.3"));
        let combined = combine(&document(&[again]), &[earlier]);
        assert_eq!((combined.replaced, combined.is_repeated), (vec![0], true));
    }

    #[test]
    fn hl7_53_which_of_several_is_corrected_is_not_guessed() {
        let both = [observation("Glc", "5", "F", Some(9)), observation("Glc", "9", "F", Some(9))];
        let correction = document(&[observation("Glc", "6", "C", Some(12))]);
        let combined = combine(&correction, &[known(&both)]);
        assert!(combined.is_ambiguous);
        assert_eq!((combined.replaced, combined.document), (vec![], correction));
    }

    #[test]
    fn hl7_53_what_is_sent_again_unchanged_corrects_nothing() {
        let earlier = known(&[observation("K", "7.9", "F", Some(11))]);
        let again = document(&[observation("K", "7.9", "F", Some(12))]);
        assert!(combine(&again, std::slice::from_ref(&earlier)).is_repeated);
        let corrected = document(&[observation("K", "4.9", "C", Some(12))]);
        assert!(!combine(&corrected, &[earlier]).is_repeated);
    }

    #[test]
    fn hl7_53_lines_of_a_text_are_replaced_together() {
        let line = |text: &str, hour| Observation {
            value_type: "TX".to_owned(),
            ..observation("Findings", text, "F", Some(hour))
        };
        let earlier = known(&[line("one", 11), line("two", 11)]);
        let addendum = document(&[line("one", 12), line("two", 12), line("three", 12)]);
        let combined = combine(&addendum, &[earlier]);
        assert_eq!((combined.is_ambiguous, combined.replaced), (false, vec![0]));
        assert_eq!(combined.document.observations.len(), 3);
    }

    #[test]
    fn hl7_53_what_is_pending_says_nothing_about_a_result() {
        let earlier = known(&[observation("K", "7.9", "F", Some(11))]);
        let pending = document(&[observation("K", "", "I", Some(12))]);
        assert_eq!(combine(&pending, &[earlier]).replaced, Vec::<usize>::new());
    }
}
