//! The values that the templates of HL7 messages are filled in with: ORU^R01 (HL7 v2.5.1, 7.3.1;
//! HL7-50..53, HL7-60) and MDM (9.3).

use domain::{Code, Measurement, NameGroup, NoResult, PatientId, PersonName, ResultSet, Segment};
use encoding::hl7::escape::Delimiters;
use jiff::Timestamp;
use serde::Serialize;

use crate::hl7::changes::{self, ChangeView};
use crate::hl7::laboratory::{self, LabView};
pub(crate) use crate::hl7::orders::own_filler;
use crate::hl7::orders::{GroupView, OrderRow, Statuses, groups, orders};
use crate::input::{ReportContext, ReportInput};
use crate::layout::narrative::{PLACES, ReportType, no_findings, region};
use crate::recipient::Recipient;

/// The values of a template. Field names are the names that templates use.
#[derive(Serialize)]
pub(crate) struct View<'a> {
    pub(crate) header: HeaderView<'a>,
    pub(crate) control_id: &'a str,
    pub(crate) time: String,
    pub(crate) run: String,
    pub(crate) banner: &'a str,
    pub(crate) status: &'a str,
    pub(crate) observation_status: &'a str,
    pub(crate) report: CodeView,
    pub(crate) patient: PatientRow,
    /// The orders that the report answers, and what is written below each.
    pub(crate) groups: Vec<GroupView>,
    pub(crate) orders: Vec<OrderRow>,
    pub(crate) study_uid: String,
    pub(crate) findings: String,
    pub(crate) changes: Vec<ChangeView>,
    pub(crate) measurements: Vec<MeasurementRow>,
    pub(crate) laboratory: Vec<LabView>,
    pub(crate) producer: String,
    pub(crate) document: Option<DocumentView>,
    pub(crate) notice: Notice,
}

/// Fields of the MSH segment (HL7 v2.5.1, 2.14.9).
#[derive(Default, Serialize)]
pub(crate) struct HeaderView<'a> {
    /// Name of the destination in the site file.
    destination: &'a str,
    sending_application: &'a str,
    sending_facility: &'a str,
    receiving_application: &'a str,
    receiving_facility: &'a str,
    character_set: &'a str,
}

impl<'a> HeaderView<'a> {
    fn new(recipient: &'a Recipient) -> Self {
        Self {
            destination: &recipient.destination,
            sending_application: &recipient.sending_application,
            sending_facility: &recipient.sending_facility,
            receiving_application: &recipient.preferences.application,
            receiving_facility: &recipient.preferences.facility,
            character_set: &recipient.preferences.character_set,
        }
    }
}

/// The document of a document message (HL7 v2.5.1, 9.6.1).
#[derive(Clone, Serialize)]
pub(crate) struct Notice {
    /// MSH-9.2: the trigger event, which is what happened to the document.
    pub(crate) event: &'static str,
    /// MSH-9.3.
    pub(crate) structure: &'static str,
    /// TXA-12.
    pub(crate) number: String,
    /// TXA-13: the document it replaces.
    pub(crate) parent: String,
    /// TXA-17.
    pub(crate) completion: &'static str,
    /// TXA-19.
    pub(crate) availability: &'static str,
    /// The person who has signed as `family^given`, delimiters included; empty before.
    pub(crate) signed_by: String,
    /// The same person as `&family&given`, the first component of OBR-32.
    pub(crate) interpreter: String,
    /// When the person signed; empty before.
    pub(crate) signed_at: String,
}

/// The report itself, in one of its forms.
#[derive(Serialize)]
pub(crate) struct DocumentView {
    /// OBX-2.
    pub(crate) value_type: &'static str,
    /// The text, for the type `FT`.
    pub(crate) text: String,
    /// The pages in base 64, for the type `ED`.
    pub(crate) pdf: String,
}

/// A code and its text.
#[derive(Serialize)]
pub(crate) struct CodeView {
    pub(crate) code: String,
    pub(crate) text: String,
}

/// PID.
#[derive(Serialize)]
pub(crate) struct PatientRow {
    pub(crate) id: String,
    pub(crate) issuer: String,
    /// HD of PID-3.4, delimiters included: the name of the issuer, or its OID.
    pub(crate) authority: String,
    /// XPN, delimiters included.
    pub(crate) name: String,
    pub(crate) birth_date: String,
    pub(crate) sex: String,
}

/// OBX of a measurement.
#[derive(Serialize)]
pub(crate) struct MeasurementRow {
    pub(crate) code: Code,
    pub(crate) of: String,
    pub(crate) value: String,
    pub(crate) unit: Code,
    /// OBX-4.
    pub(crate) key: u32,
    /// OBX-11.
    pub(crate) status: &'static str,
}

/// The values of a message about a result.
pub(crate) fn view<'a>(
    input: &ReportInput<'a>,
    control_id: &'a str,
    document: Option<DocumentView>,
) -> View<'a> {
    let ReportInput { results, context, recipient, .. } = *input;
    let statuses = Statuses::of(input);
    let report = ReportType::of(input).code();
    let algorithms: Vec<String> =
        results.algorithms.iter().map(|it| format!("{} {}", it.name, it.version)).collect();
    let time = hl7_time(input.created_at());
    View {
        header: HeaderView::new(recipient),
        control_id,
        run: results.run.to_string(),
        banner: input.label(),
        status: statuses.order,
        observation_status: statuses.observation,
        report: CodeView { code: report.value, text: report.meaning },
        patient: patient(context),
        groups: groups(input, &statuses, &time, has_former_rows(input)),
        orders: orders(input, &time),
        study_uid: context.study.as_ref().map(|it| it.uid.clone()).unwrap_or_default(),
        findings: findings(input),
        changes: changes::rows(input, statuses.observation, has_former_rows(input)),
        measurements: measurements(input, statuses.observation),
        laboratory: laboratory::rows(input, statuses.observation, has_former_rows(input)),
        notice: notice(input),
        producer: algorithms.join(", "),
        document,
        time,
    }
}

/// What happened to the document (HL7 v2.5.1, 9.5): the trigger event of an MDM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DocumentEvent {
    /// T02: a document that the receiver does not have.
    New,
    /// T08: an edit before anybody had signed; the document keeps its number.
    Edited,
    /// T10: a document of its own that replaces another.
    Replaced,
    /// T11: a cancellation, without content.
    Cancelled,
}

impl DocumentEvent {
    fn of(input: &ReportInput<'_>) -> Self {
        let ReportInput { results, context, status, .. } = input;
        if status.is_withdrawn {
            return Self::Cancelled;
        }
        let Some(previous) = &context.previous else { return Self::New };
        if results.attested.as_ref().is_some_and(|it| it.replaces.is_some()) {
            return Self::Replaced;
        }
        // Another run that adds to what the receiver has is a document of its own.
        let is_addition = !previous.is_of_this_run && results.known_as() == results.run;
        if is_addition { Self::New } else { Self::Edited }
    }

    /// MSH-9.2.
    const fn trigger(self) -> &'static str {
        match self {
            Self::New => "T02",
            Self::Edited => "T08",
            Self::Replaced => "T10",
            Self::Cancelled => "T11",
        }
    }

    /// MSH-9.3 (table 0354): with content `MDM_T02`, without `MDM_T01`.
    const fn structure(self) -> &'static str {
        match self {
            Self::New | Self::Edited | Self::Replaced => "MDM_T02",
            Self::Cancelled => "MDM_T01",
        }
    }
}

fn notice(input: &ReportInput<'_>) -> Notice {
    let ReportInput { results, status, .. } = input;
    let event = DocumentEvent::of(input);
    let attested = results.attested.as_ref().filter(|_| !status.is_withdrawn);
    let replaced = attested.and_then(|it| it.replaces);
    let signed = attested.filter(|it| it.meaning.is_some());
    let signer = signed.map(|it| PersonName::parse(&it.by.dicom_name()));
    let signer = signer.as_ref().and_then(|it| it.groups().first());
    Notice {
        event: event.trigger(),
        structure: event.structure(),
        number: document_number(results, results.attested.as_ref().map_or(0, |it| it.document)),
        parent: replaced.map(|it| document_number(results, it)).unwrap_or_default(),
        completion: status.document,
        availability: if status.is_withdrawn {
            "CA"
        } else if status.needs_banner {
            "UN"
        } else {
            "AV"
        },
        signed_by: signer.map(|it| family_and_given(it, "^")).unwrap_or_default(),
        interpreter: signer.map(|it| format!("&{}", family_and_given(it, "&"))).unwrap_or_default(),
        signed_at: signed.map(|it| hl7_time(it.at)).unwrap_or_default(),
    }
}

/// TXA-12. A replacement is a document with a number of its own (9.3).
fn document_number(results: &ResultSet, document: u32) -> String {
    let filler = own_filler(results);
    if document == 0 { filler } else { format!("{filler}.{document}") }
}

/// Family and given name with a delimiter between.
fn family_and_given(name: &NameGroup, delimiter: &str) -> String {
    format!("{}{delimiter}{}", escaped(name.family()), escaped(name.given()))
}

fn escaped(text: &str) -> String {
    Delimiters::default().escaped(text)
}

fn patient(context: &ReportContext) -> PatientRow {
    PatientRow {
        id: context.patient.value.clone(),
        issuer: context.patient.issuer.clone(),
        authority: hierarchic_designator(&context.patient),
        name: extended_person_name(&PersonName::parse(&context.demographics.name)),
        birth_date: context.demographics.birth_date.clone(),
        sex: context.demographics.sex.clone(),
    }
}

/// The issuer of an identifier as HD (HL7 v2.5.1, 2.A.33): a name in the first component, an OID in the
/// second with its type. They are subcomponents of CX.4.
fn hierarchic_designator(id: &PatientId) -> String {
    match id.issuer_oid() {
        Some(oid) => format!("&{}&ISO", escaped(oid)),
        None => escaped(&id.issuer),
    }
}

/// PID-5 (XPN). The representations of DICOM are repetitions in HL7, with a code in XPN-8 if there are
/// several (table 4000).
fn extended_person_name(name: &PersonName) -> String {
    let has_several = name.groups().len() > 1;
    let mut repetitions = Vec::new();
    for (index, group) in name.groups().iter().enumerate().filter(|(_, it)| !it.is_empty()) {
        // DICOM has the prefix before the suffix, HL7 the suffix before the prefix.
        let parts = [group.family(), group.given(), group.middle(), group.suffix(), group.prefix()];
        let parts = parts.map(escaped).join("^");
        let parts = parts.trim_end_matches('^');
        if !has_several {
            return parts.to_owned();
        }
        let representation = ["A", "I", "P"].get(index).copied().unwrap_or_default();
        let missing = 7_usize.saturating_sub(parts.matches('^').count());
        repetitions.push(format!("{parts}{}{representation}", "^".repeat(missing)));
    }
    repetitions.join("~")
}

/// Findings, prose and regions. That there are no findings is stated only where there is no prose.
fn findings(input: &ReportInput<'_>) -> String {
    if input.status.is_withdrawn {
        return String::new();
    }
    let results = input.results;
    let findings = results.findings.iter().map(|it| it.text.clone());
    let prose = results.sections.iter().map(|it| format!("{}:\n{}", it.title.meaning, it.text));
    let regions = results.regions.iter().map(region);
    let lines: Vec<String> = findings.chain(prose).chain(regions).collect();
    if lines.is_empty() { no_findings(results).to_owned() } else { lines.join("\n") }
}

/// OBX-11 of a row that people took out (table 0085): the receiver deletes it.
const DELETED: &str = NoResult::Deleted.status();

/// Whether the receiver may have rows that were taken out since.
fn has_former_rows(input: &ReportInput<'_>) -> bool {
    input.context.previous.is_some() && !input.status.is_withdrawn
}

/// The measurements of all segments; without their values, if the result was withdrawn. Those of
/// segments that were taken out follow, to be deleted (HL7-53).
fn measurements(input: &ReportInput<'_>, status: &'static str) -> Vec<MeasurementRow> {
    let mut rows = Vec::new();
    for segment in input.results.segmentations.iter().flat_map(|it| &it.segments) {
        rows.extend(segment.measurements.iter().map(|it| measurement_row(segment, it, status)));
    }
    if input.status.is_withdrawn {
        for row in &mut rows {
            row.value.clear();
        }
    }
    for segment in input.context.taken_out.segments.iter().filter(|_| has_former_rows(input)) {
        let deleted = segment.measurements.iter().map(|measurement| MeasurementRow {
            value: String::new(),
            ..measurement_row(segment, measurement, DELETED)
        });
        rows.extend(deleted);
    }
    rows
}

fn measurement_row(
    segment: &Segment,
    measurement: &Measurement,
    status: &'static str,
) -> MeasurementRow {
    MeasurementRow {
        code: measurement.code.clone(),
        of: segment.label.clone(),
        value: format!("{:.PLACES$}", measurement.value),
        unit: measurement.unit.clone(),
        key: segment.key,
        status,
    }
}

/// A point in time (TS), in UTC.
pub(crate) fn hl7_time(at: Timestamp) -> String {
    format!("{}+0000", at.strftime("%Y%m%d%H%M%S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_documents_are_those_the_output_kind_lists() {
        use DocumentEvent::{Cancelled, Edited, New, Replaced};
        let written = [New, Edited, Replaced, Cancelled].map(|it| format!("MDM^{}", it.trigger()));
        assert_eq!(written.as_slice(), domain::OutputKind::Mdm.hl7_messages());
    }

    #[track_caller]
    fn check_name(dicom: &str, hl7: &str) {
        assert_eq!(extended_person_name(&PersonName::parse(dicom)), hl7);
    }

    #[test]
    fn a_name_of_one_representation_has_no_code_for_it() {
        check_name("DOE^JANE", "DOE^JANE");
        check_name("DOE", "DOE");
        check_name("", "");
    }

    #[test]
    fn the_suffix_comes_before_the_prefix_in_hl7() {
        check_name("DOE^JANE^Q^DR^MD", "DOE^JANE^Q^MD^DR");
        check_name("DOE^JANE^^DR", "DOE^JANE^^^DR");
    }

    #[test]
    fn representations_are_repetitions_with_their_code() {
        check_name("Yamada^Tarou=山田^太郎", "Yamada^Tarou^^^^^^A~山田^太郎^^^^^^I");
        check_name("=山田^太郎", "山田^太郎^^^^^^I");
    }

    #[test]
    fn delimiters_in_a_name_are_escaped() {
        check_name("DOE & SON^JANE|X", "DOE \\T\\ SON^JANE\\F\\X");
    }

    #[test]
    fn times_are_in_utc() {
        let at: Timestamp = "2026-11-20T10:30:00+01:00".parse().unwrap();
        assert_eq!(hl7_time(at), "20261120093000+0000");
    }
}
