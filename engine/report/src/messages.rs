//! What HL7 messages say, for the templates that write them: ORU^R01 (HL7 v2.5.1, 7.3.1; HL7-50..53, HL7-60)
//! and MDM (9.3).

use domain::{Code, LabRow, Order, Person, ResultSet};
use encoding::hl7::escape::Delimiters;
use jiff::Timestamp;
use serde::Serialize;

use crate::dataset::made_at;
use crate::narrative::{IMAGING, kind, region};
use crate::recipient::Recipient;
use crate::status::{BANNER, VOID, Words};
use crate::writing::{About, Writing};

/// Decimal places of measurements: a thousandth of a mL.
const PLACES: usize = 3;

#[derive(Serialize)]
pub(crate) struct View<'a> {
    pub(crate) header: HeaderView<'a>,
    pub(crate) control_id: &'a str,
    pub(crate) time: String,
    pub(crate) run: String,
    pub(crate) banner: &'a str,
    pub(crate) status: &'a str,
    pub(crate) observation_status: &'a str,
    pub(crate) report: CodeView<'a>,
    pub(crate) patient: PatientRow,
    pub(crate) orders: Vec<OrderRow>,
    pub(crate) study_uid: String,
    pub(crate) findings: String,
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

/// What a document message says of its document (HL7 v2.5.1, 9.6.1).
#[derive(Clone, Serialize)]
pub(crate) struct Notice {
    /// MSH-9.2: what happened to the document.
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
    /// Who has signed, as `family^given`, delimiters included; empty, as long as nobody has.
    pub(crate) signed_by: String,
    /// The same as `&family&given`, the first component of OBR-32.
    pub(crate) interpreter: String,
    /// When.
    pub(crate) signed_at: String,
}

/// The report itself, in one of its forms.
#[derive(Serialize)]
pub(crate) struct DocumentView {
    /// OBX-2.
    pub(crate) value_type: &'static str,
    pub(crate) text: String,
    /// In base 64.
    pub(crate) pdf: String,
}

#[derive(Serialize)]
pub(crate) struct CodeView<'a> {
    pub(crate) code: &'a str,
    pub(crate) text: &'a str,
}

#[derive(Serialize)]
pub(crate) struct PatientRow {
    pub(crate) id: String,
    pub(crate) issuer: String,
    /// XPN, delimiters included.
    pub(crate) name: String,
    pub(crate) birth_date: String,
    pub(crate) sex: String,
}

#[derive(Serialize)]
pub(crate) struct OrderRow {
    pub(crate) placer: String,
    pub(crate) filler: String,
    pub(crate) accession: String,
    pub(crate) requested_procedure: String,
    pub(crate) code: String,
    pub(crate) text: String,
    pub(crate) scheme: String,
    pub(crate) observed: String,
}

#[derive(Serialize)]
pub(crate) struct MeasurementRow {
    pub(crate) code: Code,
    pub(crate) of: String,
    pub(crate) value: String,
    pub(crate) unit: Code,
}

#[derive(Serialize)]
pub(crate) struct LabView {
    pub(crate) value_type: &'static str,
    #[serde(flatten)]
    pub(crate) row: LabRow,
    pub(crate) flag: &'static str,
}

/// What a message about a result says.
pub(crate) fn view<'a>(
    writing: &Writing<'a>,
    control_id: &'a str,
    document: Option<DocumentView>,
) -> View<'a> {
    let Writing { results, about, words, recipient, .. } = *writing;
    let (order_status, observation_status) = statuses(writing);
    let time = hl7_time(made_at(results));
    let (code, text) = kind(results, about);
    let names: Vec<String> =
        results.algorithms.iter().map(|it| format!("{} {}", it.name, it.version)).collect();
    View {
        header: HeaderView::new(recipient),
        control_id,
        run: results.run.to_string(),
        banner: if words.is_void {
            VOID
        } else if words.needs_banner {
            BANNER
        } else {
            ""
        },
        status: order_status,
        observation_status,
        report: CodeView { code, text },
        patient: patient(about),
        orders: orders(results, about, &time),
        study_uid: about.study.as_ref().map(|it| it.uid.clone()).unwrap_or_default(),
        findings: findings(results, words),
        measurements: measurements(results, words),
        laboratory: results.laboratory.iter().map(|it| taken_back(laboratory(it), words)).collect(),
        notice: notice(writing),
        producer: names.join(", "),
        document,
        time,
    }
}

/// OBR-25 and OBX-11. What is sent anew with the same content replaces what the receiver has (table 0123).
fn statuses(writing: &Writing<'_>) -> (&'static str, &'static str) {
    let Writing { results, about, words, .. } = *writing;
    let version = results.attested.as_ref().map_or(0, |it| it.version);
    let is_again = about.before.as_ref().is_some_and(|it| it.is_own && it.version == version);
    let replaces = results.amends.is_some_and(|it| it.is_replaced);
    if !words.is_void && (is_again || replaces && about.before.is_some()) {
        return ("C", "C");
    }
    (words.order, words.observation)
}

/// Family and given name with a delimiter between.
fn name_of(person: &Person, delimiter: &str) -> String {
    let name = person.dicom_name();
    let part =
        |at: usize| Delimiters::default().escaped(name.split('^').nth(at).unwrap_or_default());
    format!("{}{delimiter}{}", part(0), part(1))
}

/// What happened to the document: new, edited while nobody had signed it, replaced, or taken back.
fn notice(writing: &Writing<'_>) -> Notice {
    let Writing { results, about, words, .. } = *writing;
    let first = own_filler(results);
    let number = |it: u32| if it == 0 { first.clone() } else { format!("{first}.{it}") };
    // A replacement is a document of its own; an edit of an unsigned one keeps its number (9.3).
    let replaced = results.attested.as_ref().and_then(|it| it.replaces);
    let is_replacement = replaced.is_some() && !words.is_void;
    let current = results.attested.as_ref().map_or(0, |it| it.document);
    let event = match (&about.before, words.is_void, is_replacement) {
        (_, true, _) => "T11",
        (None, ..) => "T02",
        (Some(_), _, true) => "T10",
        // Another run that adds to what it has is a document of its own.
        (Some(before), ..) if !before.is_own && results.known_as() == results.run => "T02",
        (Some(_), ..) => "T08",
    };
    let signed = results.attested.as_ref().filter(|it| it.meaning.is_some() && !words.is_void);
    Notice {
        event,
        // Table 0354: those with content are MDM_T02, the others MDM_T01.
        structure: if words.is_void { "MDM_T01" } else { "MDM_T02" },
        number: number(current),
        parent: replaced.filter(|_| is_replacement).map(number).unwrap_or_default(),
        completion: words.document,
        availability: if words.is_void {
            "CA"
        } else if words.needs_banner {
            "UN"
        } else {
            "AV"
        },
        signed_by: signed.map(|it| name_of(&it.by, "^")).unwrap_or_default(),
        interpreter: signed.map(|it| format!("&{}", name_of(&it.by, "&"))).unwrap_or_default(),
        signed_at: signed.map(|it| hl7_time(it.at)).unwrap_or_default(),
    }
}

fn patient(about: &About) -> PatientRow {
    let escape = |it: &str| Delimiters::default().escaped(it);
    // DICOM has prefix before suffix, HL7 suffix before prefix. Groups of DICOM are repetitions.
    let groups: Vec<&str> = about.demographics.name.split('=').collect();
    let name = |(index, group): (usize, &&str)| {
        let part = |at: usize| escape(group.split('^').nth(at).unwrap_or_default());
        let parts = [0, 1, 2, 4, 3].map(part).join("^");
        let parts = parts.trim_end_matches('^').to_owned();
        if groups.len() == 1 {
            return parts;
        }
        let kind = ["A", "I", "P"].get(index).copied().unwrap_or_default();
        let missing = 7_usize.saturating_sub(parts.matches('^').count());
        format!("{parts}{}{kind}", "^".repeat(missing))
    };
    let names: Vec<String> =
        groups.iter().enumerate().filter(|(_, it)| !it.is_empty()).map(name).collect();
    PatientRow {
        id: about.patient.value.clone(),
        issuer: about.patient.issuer.clone(),
        name: names.join("~"),
        birth_date: about.demographics.birth_date.clone(),
        sex: about.demographics.sex.clone(),
    }
}

/// One row per order; one without an order, so that the report can be filed (HL7-42, DIN-65).
fn orders(results: &ResultSet, about: &About, time: &str) -> Vec<OrderRow> {
    let study = about.study.clone().unwrap_or_default();
    let observed = match (study.date.as_str(), study.time.get(..6)) {
        ("", _) => time.to_owned(),
        (date, Some(time)) => format!("{date}{time}"),
        (date, None) => date.to_owned(),
    };
    let row = |order: &Order| OrderRow {
        placer: order.key.placer.clone(),
        filler: if order.key.filler.is_empty() {
            own_filler(results)
        } else {
            order.key.filler.clone()
        },
        accession: if order.key.accession.is_empty() {
            study.accession.clone()
        } else {
            order.key.accession.clone()
        },
        requested_procedure: order.key.requested_procedure.clone(),
        code: order.procedure_code.clone(),
        text: order.procedure.clone(),
        scheme: order.procedure_scheme.clone(),
        observed: observed.clone(),
    };
    // A table made by a machine never goes out under the numbers of the laboratory (HL7-64).
    let is_imaging = kind(results, about) == IMAGING;
    if is_imaging && !about.orders.is_empty() {
        return about.orders.iter().map(row).collect();
    }
    let (code, text) = kind(results, about);
    vec![OrderRow {
        placer: String::new(),
        filler: own_filler(results),
        accession: study.accession.clone(),
        requested_procedure: String::new(),
        code: code.to_owned(),
        text: text.to_owned(),
        scheme: "LN".to_owned(),
        observed,
    }]
}

/// The same report always has the same number, so that a receiver replaces it (HL7-53).
pub(crate) fn own_filler(results: &ResultSet) -> String {
    results.known_as().simple().to_string().chars().take(20).collect()
}

/// What was found, and what is said in prose. That there is nothing is only said where nobody says anything.
fn findings(results: &ResultSet, words: Words) -> String {
    if words.is_void {
        return String::new();
    }
    let findings = results.findings.iter().map(|it| it.text.clone());
    let prose = results.sections.iter().map(|it| format!("{}:\n{}", it.title.meaning, it.text));
    let regions = results.regions.iter().map(region);
    let lines: Vec<String> = findings.chain(prose).chain(regions).collect();
    if lines.is_empty() { "No findings.".to_owned() } else { lines.join("\n") }
}

/// A row without its value, if the result was taken back.
fn taken_back(mut row: LabView, words: Words) -> LabView {
    if words.is_void {
        row.row.result.clear();
        row.flag = "";
    }
    row
}

fn measurements(results: &ResultSet, words: Words) -> Vec<MeasurementRow> {
    let segments = results.segmentations.iter().flat_map(|it| &it.segments);
    let row = |of: &str, it: &domain::Measurement| MeasurementRow {
        code: it.code.clone(),
        of: of.to_owned(),
        value: if words.is_void { String::new() } else { format!("{:.PLACES$}", it.value) },
        unit: it.unit.clone(),
    };
    segments.flat_map(|it| it.measurements.iter().map(|m| row(&it.label, m))).collect()
}

pub(crate) fn laboratory(row: &LabRow) -> LabView {
    // NM only for a pure decimal (HL7-60).
    let is_number = row.result.parse::<f64>().is_ok_and(f64::is_finite)
        && row.result.chars().all(|it| it.is_ascii_digit() || ".+-".contains(it));
    let value_type = if is_number { "NM" } else { "ST" };
    LabView { value_type, row: row.clone(), flag: row.abnormality.flag() }
}

pub(crate) fn hl7_time(at: Timestamp) -> String {
    format!("{}+0000", at.strftime("%Y%m%d%H%M%S"))
}
