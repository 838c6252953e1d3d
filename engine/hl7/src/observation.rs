//! Reads OBX and what belongs to it: name, value, unit and flags of the segment itself; panel,
//! specimen and time of its order; the notes behind it (HL7-60).
//!
//! In ORU, the specimens of an order (SPM) come behind its results; in `OUL_R22` and `OUL_R23` a
//! specimen comes first, and holds for the orders behind it.

use domain::{Circumstances, FLAG_SEPARATOR, ObservedAt};
use encoding::laboratory::unit;
use jiff::Timestamp;

use crate::message::{Message, Repetition, Segment};
use crate::time::timestamp;

/// Events whose messages begin with a specimen, not with an order.
const BY_SPECIMEN: &[&str] = &["R22", "R23"];

/// What the segments of a patient say of each observation among them.
pub(crate) struct Surroundings<'a> {
    message: &'a Message,
    orders: Vec<OrderContext<'a>>,
    /// The texts of the specimens, in order.
    specimens: Vec<String>,
    /// For each segment, the place of its order.
    places: Vec<usize>,
    /// For each segment, the notes on it.
    notes: Vec<Vec<String>>,
}

/// What an order says of its observations.
#[derive(Default)]
struct OrderContext<'a> {
    /// OBR.
    request: Option<&'a Segment>,
    /// SPM, each with its place among those of the patient.
    specimens: Vec<(usize, &'a Segment)>,
    /// The notes on the order and its specimens.
    notes: Vec<String>,
    has_observations: bool,
}

/// What a note is about.
#[derive(Clone, Copy)]
enum NoteTarget {
    /// The patient, the visit, or nothing that is known.
    Other,
    Order,
    /// The observation at this place.
    Observation(usize),
}

impl<'a> Surroundings<'a> {
    /// Reads the segments of one patient.
    pub(crate) fn of(message: &'a Message, segments: &[&'a Segment]) -> Self {
        let is_oul = message.msh(9, 1) == "OUL";
        let is_by_specimen = is_oul && BY_SPECIMEN.contains(&message.msh(9, 2).as_str());
        let mut found = Self {
            message,
            orders: vec![OrderContext::default()],
            specimens: Vec::new(),
            places: Vec::new(),
            notes: vec![Vec::new(); segments.len()],
        };
        let mut target = NoteTarget::Other;
        for (at, segment) in segments.iter().copied().enumerate() {
            match segment.name.as_str() {
                // In OUL, the ORC of an order comes after its OBR.
                "ORC" if !is_oul => found.orders.push(OrderContext::default()),
                "OBR" => found.add_request(segment, is_by_specimen),
                "SPM" => found.add_specimen(segment, is_by_specimen),
                "OBX" => {
                    if let Some(order) = found.orders.last_mut() {
                        order.has_observations = true;
                    }
                }
                "NTE" => found.add_note(segment, target),
                _ => {}
            }
            target = match segment.name.as_str() {
                "ORC" | "OBR" | "SPM" => NoteTarget::Order,
                "OBX" => NoteTarget::Observation(at),
                "PID" | "PV1" | "ORG" => NoteTarget::Other,
                _ => target,
            };
            found.places.push(found.orders.len().saturating_sub(1));
        }
        found
    }

    /// Adds an OBR: to the order that its ORC or specimen has begun, or as an order of its own.
    fn add_request(&mut self, request: &'a Segment, is_by_specimen: bool) {
        let before = self.orders.last_mut();
        let open = before.filter(|it| it.request.is_none() && !it.has_observations);
        if let Some(order) = open {
            order.request = Some(request);
            return;
        }
        let specimens = match self.orders.last() {
            Some(order) if is_by_specimen => order.specimens.clone(),
            _ => Vec::new(),
        };
        self.orders.push(OrderContext {
            request: Some(request),
            specimens,
            ..OrderContext::default()
        });
    }

    fn add_specimen(&mut self, segment: &'a Segment, is_by_specimen: bool) {
        let number = self.specimens.len();
        let text = specimen_text(self.message, segment);
        let is_again = !text.is_empty() && self.specimens.contains(&text);
        let text = if is_again { format!("{text} (specimen {})", number + 1) } else { text };
        self.specimens.push(text);
        if is_by_specimen {
            self.orders.push(OrderContext::default());
        }
        if let Some(order) = self.orders.last_mut() {
            order.specimens.push((number, segment));
        }
    }

    fn add_note(&mut self, segment: &Segment, target: NoteTarget) {
        let text = self.message.text(segment, 3).trim().to_owned();
        let notes = match target {
            NoteTarget::Other => None,
            NoteTarget::Order => self.orders.last_mut().map(|it| &mut it.notes),
            NoteTarget::Observation(at) => self.notes.get_mut(at),
        };
        if let Some(notes) = notes.filter(|_| !text.is_empty()) {
            notes.push(text);
        }
    }

    /// What is stated of the observation at this place, but for its order.
    pub(crate) fn circumstances(&self, at: usize, obx: &Segment) -> Circumstances {
        let message = self.message;
        let nothing = OrderContext::default();
        let place = self.places.get(at).copied().unwrap_or_default();
        let order = self.orders.get(place).unwrap_or(&nothing);
        let of_request = |field| {
            let first = order.request.and_then(|it| message.repetitions(it, field).next());
            first.map(|it| it.components()).unwrap_or_default()
        };
        let specimens =
            order.specimens.iter().filter_map(|(number, _)| self.specimens.get(*number));
        let specimens: Vec<&str> =
            specimens.map(String::as_str).filter(|it| !it.is_empty()).collect();
        let specimen = if specimens.is_empty() {
            described(of_request(15).iter().flat_map(|it| it.split('&')))
        } else {
            specimens.join("; ")
        };
        let mut notes = order.notes.clone();
        notes.extend(original_texts(message, obx));
        notes.extend(self.notes.get(at).into_iter().flatten().cloned());
        Circumstances {
            panel: coded_text(&of_request(4)),
            specimen,
            observed_at: self.observed_at(order, obx),
            notes,
            order: None,
        }
    }

    /// OBX-14, or else OBR-7 or SPM-17. A time that says the same more precisely is better.
    fn observed_at(&self, order: &OrderContext<'_>, obx: &Segment) -> Option<ObservedAt> {
        let message = self.message;
        let own = message.value(obx, 14, 1);
        let of_request = order.request.map(|it| message.value(it, 7, 1)).unwrap_or_default();
        let of_specimen = order
            .specimens
            .iter()
            .map(|(_, it)| message.value(it, 17, 1))
            .find(|it| !it.is_empty());
        let stated = [own, of_request, of_specimen.unwrap_or_default()];
        let first = stated.iter().find(|it| !it.is_empty())?;
        let text =
            stated.iter().find(|it| it.len() > first.len() && it.starts_with(first.as_str()));
        let text = text.unwrap_or(first).clone();
        let instant = instant(message, &text);
        Some(ObservedAt { text, instant })
    }
}

/// The point in time that a text states. Without an offset it is in the time zone of the message
/// (MSH-7), or of the machine.
fn instant(message: &Message, text: &str) -> Option<Timestamp> {
    let offset_at = |text: &str| text.find(['+', '-']);
    if offset_at(text).is_some() {
        return timestamp(text);
    }
    let sent = message.msh(7, 1);
    let offset = offset_at(&sent).and_then(|at| sent.get(at..)).unwrap_or_default();
    timestamp(&format!("{text}{offset}"))
}

/// A specimen as text: its type (SPM-4) with modifiers, additives and the site it is from.
fn specimen_text(message: &Message, spm: &Segment) -> String {
    let parts = [4, 5, 6, 8].map(|field| {
        let texts = message.repetitions(spm, field).map(|it| coded_text(&it.components()));
        texts.collect::<Vec<_>>()
    });
    described(parts.iter().flatten().map(String::as_str))
}

/// Texts beside each other, each once.
fn described<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for text in texts.map(str::trim).filter(|it| !it.is_empty() && *it != "\"\"") {
        if !parts.contains(&text) {
            parts.push(text);
        }
    }
    parts.join(", ")
}

/// The name of an observation (OBX-3).
#[derive(Default)]
pub(crate) struct Name {
    pub(crate) code: String,
    pub(crate) text: String,
    pub(crate) scheme: String,
}

/// The name of an observation: the code and scheme of one triplet, and the first text.
pub(crate) fn name(message: &Message, obx: &Segment) -> Name {
    let Some(field) = message.repetitions(obx, 3).next() else { return Name::default() };
    let component = |number| field.component(number);
    let text = [2, 5, 9].map(component).into_iter().find(|it| !it.is_empty());
    let first = if component(1).is_empty() && !component(4).is_empty() { 4 } else { 1 };
    let scheme = component(first + 2);
    Name { code: component(first), text: text.unwrap_or_default(), scheme }
}

/// The flags (OBX-8) as they were sent.
pub(crate) fn flags(message: &Message, obx: &Segment) -> String {
    let flags = message.repetitions(obx, 8).map(|field| {
        let codes = [1, 4, 2].map(|it| field.component(it).trim().to_owned());
        codes.into_iter().find(|it| !it.is_empty()).unwrap_or_default()
    });
    let flags: Vec<String> = flags.filter(|it| !it.is_empty()).collect();
    flags.join(&FLAG_SEPARATOR.to_string())
}

/// The unit (OBX-6).
pub(crate) fn unit_of(message: &Message, obx: &Segment) -> String {
    let field = message.repetitions(obx, 6).next();
    let components = field.map(|it| it.components()).unwrap_or_default();
    unit::of_components(&components, message.delimiters.component)
}

/// OBX-5 as text, by its type (HL7-60): a line for each repetition.
pub(crate) fn value(message: &Message, obx: &Segment, value_type: &str) -> String {
    if matches!(value_type, "ED" | "RP") {
        return String::new();
    }
    let repetitions = message.repetitions(obx, 5).map(|it| repetition(&it, value_type));
    let text = repetitions.collect::<Vec<_>>().join("\n");
    let text = text.trim();
    // The explicit null.
    if text == "\"\"" { String::new() } else { text.to_owned() }
}

fn repetition(field: &Repetition<'_>, value_type: &str) -> String {
    match value_type {
        "" | "NM" | "ST" | "TX" | "FT" | "IS" | "ID" | "SI" | "GTS" => field.all(),
        // Comparator, first number, separator, second number (2.A.70).
        "SN" => (1..=4).map(|number| field.component(number)).collect(),
        "CE" | "CWE" | "CNE" | "CF" => coded_text(&field.components()),
        "DT" | "TM" | "DTM" | "TS" => field.component(1),
        "NR" => range(&field.components()),
        "DR" => field.components().join(" to "),
        // Places count, even empty ones.
        "NA" | "MA" => field.components().join("; "),
        _ => {
            let parts = field.components().into_iter().filter(|it| !it.is_empty());
            parts.collect::<Vec<_>>().join(" ")
        }
    }
}

/// From the first number to the second (2.A.46); one may be missing.
fn range(components: &[String]) -> String {
    let end = |at: usize| components.get(at).map(String::as_str).unwrap_or_default();
    match (end(0), end(1)) {
        ("", high) => format!("<={high}"),
        (low, "") => format!(">={low}"),
        (low, high) => format!("{low}-{high}"),
    }
}

/// The places of the texts of a coded value, and of its codes, the best first: the two triplets, the
/// original text, and the second alternate of later versions.
const TEXTS: [usize; 4] = [1, 4, 8, 10];
const CODES: [usize; 3] = [0, 3, 9];

/// A coded value as text: its text, or its code where it has none.
fn coded_text(components: &[String]) -> String {
    let places = TEXTS.into_iter().chain(CODES);
    let mut parts = places.filter_map(|at| components.get(at)).map(|it| it.trim());
    parts.find(|it| !it.is_empty()).unwrap_or_default().to_owned()
}

/// The original texts of coded values (CWE.9) that say something else than their codes.
fn original_texts(message: &Message, obx: &Segment) -> Vec<String> {
    if !matches!(message.value(obx, 2, 1).as_str(), "CWE" | "CNE") {
        return Vec::new();
    }
    let original = |field: Repetition<'_>| {
        let components = field.components();
        let text = components.get(8)?.trim().to_owned();
        let is_more = !text.is_empty() && text != coded_text(&components);
        is_more.then(|| format!("Original text: {text}"))
    };
    message.repetitions(obx, 5).filter_map(original).collect()
}

#[cfg(test)]
mod tests;
