//! The FHIR R4 transaction bundle of a result (OUT-70..73). The server finds every resource by its
//! identifier, so that the same bundle sent twice changes nothing.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{
    Attestation, Code, Finding, InputInstance, LabRow, Measurement, NoResult, ObservedAt, Order,
    PersonName, ResultStatus, Segment, derived_uid,
};
use jiff::Timestamp;
use serde_json::{Number, Value, json};
use uuid::Uuid;

use crate::hl7::laboratory::{span, statements};
use crate::hl7::view::own_filler;
use crate::input::{ReportError, ReportInput};
use crate::layout::narrative::{IMPRESSION, Narrative, ReportType};
use crate::layout::pdf;

/// The system of the identifiers of the engine.
const SYSTEM: &str = "urn:isocenter:result";

/// Coding systems by coding scheme (PS3.16, 8; HL7 terminology).
const SYSTEMS: [(&str, &str); 4] = [
    ("SCT", "http://snomed.info/sct"),
    ("LN", "http://loinc.org"),
    ("DCM", "http://dicom.nema.org/resources/ontology/DCM"),
    ("UCUM", "http://unitsofmeasure.org"),
];

/// The id of the bundle, the same on every attempt.
pub(crate) fn id(input: &ReportInput<'_>) -> String {
    uuid_of(input, "bundle").to_string()
}

/// Encodes the bundle of a run.
///
/// # Errors
///
/// Fails if no page can be made.
pub(crate) fn encode(input: &ReportInput<'_>) -> Result<Value, ReportError> {
    let mut entries = vec![device(input)];
    if let Some(study) = &input.context.study {
        entries.push(imaging_study(input, &study.uid));
    }
    let mut references = Vec::new();
    for observation in observations(input) {
        references.push(reference(input, &observation.name));
        entries.push(entry(input, &observation.name, observation.resource));
    }
    entries.push(entry(input, "report", report(input, references)?));
    entries.push(provenance(input));
    Ok(json!({
        "resourceType": "Bundle",
        "id": id(input),
        "type": "transaction",
        "timestamp": instant(input.created_at()),
        "entry": entries,
    }))
}

/// The identifier of a resource: the same for every version of a result, so that each replaces the
/// one before.
fn identifier(input: &ReportInput<'_>, name: &str) -> String {
    format!("{}-{name}", own_filler(input.results))
}

/// The UUID of a resource in the bundle, derived from the name of the result.
fn uuid_of(input: &ReportInput<'_>, name: &str) -> Uuid {
    let uid = derived_uid(&["fhir", &input.results.name(), name]);
    let number = uid.rsplit('.').next().and_then(|it| it.parse().ok()).unwrap_or_default();
    Uuid::from_u128(number)
}

fn url(input: &ReportInput<'_>, name: &str) -> String {
    format!("urn:uuid:{}", uuid_of(input, name))
}

fn reference(input: &ReportInput<'_>, name: &str) -> Value {
    json!({ "reference": url(input, name) })
}

/// The entry that creates a resource, or replaces the one with its identifier (OUT-73).
fn entry(input: &ReportInput<'_>, name: &str, mut resource: Value) -> Value {
    let kind = resource.get("resourceType").and_then(Value::as_str).unwrap_or_default().to_owned();
    let identifier = identifier(input, name);
    put(&mut resource, "identifier", json!([{ "system": SYSTEM, "value": identifier }]));
    json!({
        "fullUrl": url(input, name),
        "resource": resource,
        "request": { "method": "PUT", "url": format!("{kind}?identifier={SYSTEM}|{identifier}") },
    })
}

/// The status of a resource whose own is `status` (R4, diagnostic-report-status and
/// observation-status).
fn fhir_status(input: &ReportInput<'_>, status: &'static str) -> &'static str {
    let is_final = input.results.status == ResultStatus::Signed;
    if is_final && input.is_correction() { "corrected" } else { status }
}

/// The device: the engine with the algorithms that worked on the run.
fn device(input: &ReportInput<'_>) -> Value {
    let engine = &input.context.engine;
    let versions: Vec<Value> = input
        .results
        .algorithms
        .iter()
        .map(|it| json!({ "value": format!("{} {}", it.name, it.version) }))
        .chain([json!({ "value": engine.version })])
        .collect();
    let resource = json!({
        "resourceType": "Device",
        "status": "active",
        "manufacturer": engine.manufacturer,
        "serialNumber": engine.serial,
        "deviceName": [{ "name": engine.model, "type": "model-name" }],
        "version": versions,
    });
    entry(input, "device", resource)
}

/// The study, created unless the receiver has it.
fn imaging_study(input: &ReportInput<'_>, uid: &str) -> Value {
    let value = format!("urn:oid:{uid}");
    let resource = json!({
        "resourceType": "ImagingStudy",
        "identifier": [{ "system": "urn:dicom:uid", "value": value }],
        "status": "available",
        "subject": subject(input),
    });
    json!({
        "fullUrl": url(input, "study"),
        "resource": resource,
        "request": {
            "method": "POST",
            "url": "ImagingStudy",
            "ifNoneExist": format!("identifier=urn:dicom:uid|{value}"),
        },
    })
}

/// The patient, by the identifier that the receiver knows.
fn subject(input: &ReportInput<'_>) -> Value {
    let patient = &input.context.patient;
    let mut subject = json!({ "type": "Patient" });
    if !patient.value.is_empty() {
        let mut identifier = json!({ "value": patient.value });
        if let Some(oid) = patient.issuer_oid() {
            put(&mut identifier, "system", json!(format!("urn:oid:{oid}")));
        } else if !patient.issuer.is_empty() {
            put(&mut identifier, "assigner", json!({ "display": patient.issuer }));
        }
        put(&mut subject, "identifier", identifier);
    }
    let name = PersonName::parse(&input.context.demographics.name).display_name();
    if !name.is_empty() {
        put(&mut subject, "display", json!(name));
    }
    subject
}

/// Sets an element of a resource.
fn put(resource: &mut Value, name: &str, value: Value) {
    if let Some(parts) = resource.as_object_mut() {
        parts.insert(name.to_owned(), value);
    }
}

/// Removes an element of a resource.
fn remove(resource: &mut Value, name: &str) {
    if let Some(parts) = resource.as_object_mut() {
        parts.remove(name);
    }
}

/// A `CodeableConcept`. A code without a value is text alone.
fn concept(code: &Code) -> Value {
    let system = SYSTEMS.iter().find(|(scheme, _)| *scheme == code.scheme).map(|(_, it)| *it);
    if code.value.is_empty() {
        return json!({ "text": code.meaning });
    }
    let mut coding = json!({ "code": code.value, "display": code.meaning });
    if let Some(system) = system {
        put(&mut coding, "system", json!(system));
    }
    json!({ "coding": [coding], "text": code.meaning })
}

/// The security label: whether a machine or a person asserts the result (OUT-71).
fn meta(input: &ReportInput<'_>) -> Value {
    let label = if input.status.needs_banner {
        let system = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";
        json!({ "system": system, "code": "AIAST" })
    } else {
        let system = "http://hl7.org/fhir/uv/aitransparency/CodeSystem/AddedProvenanceCS";
        json!({ "system": system, "code": "CLINAST_AIRPT" })
    };
    json!({ "security": [label] })
}

/// An observation, with its name in the bundle.
struct NamedObservation {
    name: String,
    resource: Value,
}

/// Findings, measurements and laboratory rows.
fn observations(input: &ReportInput<'_>) -> Vec<NamedObservation> {
    let results = input.results;
    let mut observations = Vec::new();
    for (index, it) in results.findings.iter().enumerate() {
        let name = format!("finding-{index}");
        observations.push(NamedObservation { name, resource: finding(input, it) });
    }
    let segments = results.segmentations.iter().flat_map(|it| &it.segments);
    for (index, segment) in segments.enumerate() {
        for (position, it) in segment.measurements.iter().enumerate() {
            let name = format!("measurement-{index}-{position}");
            let resource = measurement(input, segment, it);
            observations.push(NamedObservation { name, resource });
        }
    }
    for (index, row) in results.laboratory.iter().enumerate() {
        let name = format!("row-{index}");
        observations.push(NamedObservation { name, resource: laboratory_row(input, row) });
    }
    observations
}

fn finding(input: &ReportInput<'_>, finding: &Finding) -> Value {
    let mut resource = observation(input, &finding.code);
    if !input.status.is_withdrawn {
        put(&mut resource, "valueCodeableConcept", concept(&finding.presence.code()));
        put(&mut resource, "note", json!([{ "text": finding.text }]));
        if let Some(change) = &finding.change {
            let name = concept(&Finding::change_name());
            let component = json!({ "code": name, "valueCodeableConcept": concept(change) });
            put(&mut resource, "component", json!([component]));
        }
    }
    if let Some(site) = body_site(finding) {
        put(&mut resource, "bodySite", site);
    }
    resource
}

/// Where a finding is. Its side is in the text: R4 has no element for it, and a further coding would be
/// another name of the same place.
fn body_site(finding: &Finding) -> Option<Value> {
    let side = finding.laterality.map(|it| it.code().meaning);
    let place = finding.site.as_ref().map(|it| it.meaning.clone());
    let texts: Vec<String> = place.into_iter().chain(side).collect();
    if texts.is_empty() {
        return None;
    }
    let mut site = finding.site.as_ref().map_or_else(|| json!({}), concept);
    put(&mut site, "text", json!(texts.join(", ")));
    Some(site)
}

fn measurement(input: &ReportInput<'_>, segment: &Segment, measurement: &Measurement) -> Value {
    let mut resource = observation(input, &measurement.code);
    // The label tells apart what has one code: two lesions, or both kidneys.
    let mut site = concept(&segment.kind);
    put(&mut site, "text", json!(segment.label));
    put(&mut resource, "bodySite", site);
    if !input.status.is_withdrawn {
        let quantity = json!({
            "value": measurement.value,
            "unit": measurement.unit.meaning,
            "system": "http://unitsofmeasure.org",
            "code": measurement.unit.value,
        });
        put(&mut resource, "valueQuantity", quantity);
    }
    resource
}

/// An observation without its value.
fn observation(input: &ReportInput<'_>, code: &Code) -> Value {
    let mut resource = json!({
        "resourceType": "Observation",
        "meta": meta(input),
        "status": fhir_status(input, input.status.fhir_observation),
        "code": concept(code),
        "subject": subject(input),
        "effectiveDateTime": instant(input.results.concluded),
        "device": reference(input, "device"),
    });
    if input.context.study.is_some() {
        put(&mut resource, "derivedFrom", json!([reference(input, "study")]));
    }
    resource
}

fn laboratory_row(input: &ReportInput<'_>, row: &LabRow) -> Value {
    let code = Code::new(&row.code, &row.scheme, &row.entry_name);
    let mut resource = observation(input, &code);
    let about = &row.circumstances;
    // The time of processing is not that of a specimen.
    match about.observed_at.as_ref().and_then(date_time) {
        Some(time) => put(&mut resource, "effectiveDateTime", json!(time)),
        None => remove(&mut resource, "effectiveDateTime"),
    }
    if !about.specimen.is_empty() {
        let specimen = json!({ "type": "Specimen", "display": about.specimen });
        put(&mut resource, "specimen", specimen);
    }
    if let Some(reason) = row.withdrawn {
        put(&mut resource, "status", json!(withdrawn_status(reason)));
        return resource;
    }
    if input.status.is_withdrawn {
        return resource;
    }
    let mut notes = about.notes.clone();
    if let Some(Quantity { quantity, is_exact }) = quantity(row) {
        put(&mut resource, "valueQuantity", quantity);
        if !is_exact {
            notes.push(format!("As received: {}", row.result));
        }
    } else {
        put(&mut resource, "valueString", json!(row.result));
        if !row.unit.is_empty() {
            notes.push(format!("Unit: {}", row.unit));
        }
    }
    if !row.reference.is_empty() {
        put(&mut resource, "referenceRange", json!([{ "text": row.reference }]));
    }
    let interpretations: Vec<Value> = row.flags().iter().map(|it| interpretation(it)).collect();
    if !interpretations.is_empty() {
        put(&mut resource, "interpretation", json!(interpretations));
    }
    notes.extend(statements(row));
    let notes: Vec<Value> = notes.iter().map(|it| json!({ "text": it })).collect();
    if !notes.is_empty() {
        put(&mut resource, "note", json!(notes));
    }
    resource
}

/// Significant digits that a number keeps in any reader.
const DIGITS_MAX: usize = 15;

/// Comparators of a quantity (R4, quantity-comparator), and how results write them.
const COMPARATORS: [(&str, &str); 6] =
    [("<=", "<="), ("≤", "<="), ("<", "<"), (">=", ">="), ("≥", ">="), (">", ">")];

/// A result that is a number, with or without a comparator; nothing for every other one, and for a
/// number with more digits than its receiver may keep.
fn quantity(row: &LabRow) -> Option<Quantity> {
    let result = row.result.trim();
    let compared =
        COMPARATORS.iter().find_map(|(form, code)| Some((*code, result.strip_prefix(form)?)));
    let number = compared.map_or(result, |it| it.1.trim_start());
    let is_decimal = number.chars().all(|it| it.is_ascii_digit() || ".+-".contains(it));
    let is_short = number.chars().filter(char::is_ascii_digit).count() <= DIGITS_MAX;
    let value = decimal(number).filter(|_| is_decimal && is_short)?;
    let printed = value.to_string();
    let is_exact = printed == number;
    let mut quantity = json!({ "value": value });
    if !row.unit.is_empty() {
        put(&mut quantity, "unit", json!(row.unit));
    }
    if let Some((code, _)) = compared {
        put(&mut quantity, "comparator", json!(code));
    }
    Some(Quantity { quantity, is_exact })
}

/// A quantity, and whether its number is written as the laboratory has written it.
struct Quantity {
    quantity: Value,
    is_exact: bool,
}

/// A number: as it is written, if JSON can write it so.
fn decimal(text: &str) -> Option<Value> {
    let written = serde_json::from_str::<Number>(text).ok().map(Value::Number);
    written.or_else(|| {
        let value: f64 = text.parse().ok()?;
        Number::from_f64(value).map(Value::Number)
    })
}

/// The codes of flags (v3-ObservationInterpretation).
const INTERPRETATIONS: [&str; 22] = [
    "N", "L", "LL", "H", "HH", "A", "AA", "U", "D", "B", "W", "S", "R", "I", "MS", "VS", "POS",
    "NEG", "ND", "IND", "<", ">",
];

/// A flag. One without a code in FHIR is text.
fn interpretation(flag: &str) -> Value {
    if !INTERPRETATIONS.contains(&flag) {
        return json!({ "text": flag });
    }
    let system = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
    json!({ "coding": [{ "system": system, "code": flag }] })
}

/// The time of an observation (R4, `dateTime`): without an instant, the date alone.
fn date_time(at: &ObservedAt) -> Option<String> {
    at.instant.map(instant).or_else(|| at.date())
}

/// The time that a report is about: for a laboratory that of its rows, if they state one.
fn effective(input: &ReportInput<'_>, resource: &mut Value) {
    let rows = &input.results.laboratory;
    if rows.is_empty() {
        put(resource, "effectiveDateTime", json!(instant(input.results.concluded)));
        return;
    }
    let Some(span) = span(rows) else { return };
    let [first, last] = [span.first, span.last].map(date_time);
    match (first, last) {
        (Some(first), Some(last)) if first == last => {
            put(resource, "effectiveDateTime", json!(first));
        }
        (Some(first), Some(last)) => {
            put(resource, "effectivePeriod", json!({ "start": first, "end": last }));
        }
        _ => {}
    }
}

/// `Observation.status` of a result that the laboratory took back.
const fn withdrawn_status(reason: NoResult) -> &'static str {
    match reason {
        NoResult::Deleted | NoResult::Wrong => "entered-in-error",
        NoResult::Unobtainable | NoResult::NotAsked | NoResult::Pending | NoResult::OrderOnly => {
            "cancelled"
        }
    }
}

/// The report, with references to its observations.
fn report(input: &ReportInput<'_>, observations: Vec<Value>) -> Result<Value, ReportError> {
    let ReportInput { results, context, status, .. } = *input;
    let narrative = Narrative::new(input);
    let report_type = ReportType::of(input);
    let category = match report_type {
        ReportType::Imaging => "RAD",
        ReportType::Laboratory => "LAB",
    };
    let text = if status.is_withdrawn { input.label().to_owned() } else { narrative.text() };
    let system = "http://terminology.hl7.org/CodeSystem/v2-0074";
    let mut resource = json!({
        "resourceType": "DiagnosticReport",
        "language": input.language().tag(),
        "meta": meta(input),
        "text": { "status": "generated", "div": division(&text) },
        "status": fhir_status(input, status.fhir_report),
        "category": [{ "coding": [{ "system": system, "code": category }] }],
        "code": concept(&report_type.code()),
        "subject": subject(input),
        "issued": instant(input.created_at()),
    });
    effective(input, &mut resource);
    if !observations.is_empty() {
        put(&mut resource, "result", Value::Array(observations));
    }
    if context.study.is_some() {
        put(&mut resource, "imagingStudy", json!([reference(input, "study")]));
    }
    let orders = context.orders.iter().filter(|order| !order.key.accession.is_empty());
    let requests: Vec<Value> = orders.map(service_request).collect();
    if !requests.is_empty() {
        put(&mut resource, "basedOn", json!(requests));
    }
    if let Some(attested) = results.attested.as_ref().filter(|it| it.meaning.is_some()) {
        put(&mut resource, "resultsInterpreter", json!([practitioner(attested)]));
    }
    if !status.is_withdrawn {
        add_conclusion(&mut resource, input);
        add_pages(&mut resource, input, &narrative)?;
    }
    Ok(resource)
}

/// The order that the report answers, by its accession number.
fn service_request(order: &Order) -> Value {
    json!({ "type": "ServiceRequest", "identifier": { "value": order.key.accession } })
}

/// The person who has changed or signed the result.
fn practitioner(attested: &Attestation) -> Value {
    json!({ "type": "Practitioner", "display": attested.by.printed_name() })
}

/// Adds the banner and the impression.
fn add_conclusion(resource: &mut Value, input: &ReportInput<'_>) {
    let sections = &input.results.sections;
    let impression = sections.iter().find(|section| section.title.value == IMPRESSION);
    let banner = input.status.needs_banner.then_some(input.label());
    let conclusion: Vec<&str> =
        banner.into_iter().chain(impression.map(|section| section.text.as_str())).collect();
    if !conclusion.is_empty() {
        put(resource, "conclusion", json!(conclusion.join("\n")));
    }
}

/// Adds the report as pages, if there is a font to write them with.
fn add_pages(
    resource: &mut Value,
    input: &ReportInput<'_>,
    narrative: &Narrative,
) -> Result<(), ReportError> {
    if input.fonts.is_empty() {
        return Ok(());
    }
    let data = BASE64_STANDARD.encode(pdf::encode(narrative, input.fonts)?);
    let form = json!({ "contentType": "application/pdf", "data": data, "title": narrative.title });
    put(resource, "presentedForm", json!([form]));
    Ok(())
}

/// Text as XHTML, every character as itself (R4, 2.4.0).
fn division(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("<br/>"),
            it if it.is_control() => {}
            it => escaped.push(it),
        }
    }
    format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{escaped}</div>")
}

/// The provenance of the report (OUT-72). It has an id of its own: R4 has no identifier for it.
fn provenance(input: &ReportInput<'_>) -> Value {
    let results = input.results;
    let author = participant_role("author");
    let mut agents = vec![json!({ "type": author, "who": reference(input, "device") })];
    if let Some(attested) = &results.attested {
        let code = if attested.meaning.is_some() { "verifier" } else { "author" };
        agents.push(json!({ "type": participant_role(code), "who": practitioner(attested) }));
    }
    let id = uuid_of(input, "provenance").to_string();
    let mut resource = json!({
        "resourceType": "Provenance",
        "id": id,
        "target": [reference(input, "report")],
        "recorded": instant(input.created_at()),
        "agent": agents,
    });
    let sources: Vec<Value> = results.inputs.iter().map(source).collect();
    if !sources.is_empty() {
        put(&mut resource, "entity", json!(sources));
    }
    json!({
        "fullUrl": url(input, "provenance"),
        "resource": resource,
        "request": { "method": "PUT", "url": format!("Provenance/{id}") },
    })
}

fn participant_role(code: &str) -> Value {
    let system = "http://terminology.hl7.org/CodeSystem/provenance-participant-type";
    json!({ "coding": [{ "system": system, "code": code }] })
}

/// An image that the result rests on.
fn source(image: &InputInstance) -> Value {
    let value = format!("urn:oid:{}", image.instance);
    let what = json!({ "identifier": { "system": "urn:dicom:uid", "value": value } });
    json!({ "role": "source", "what": what })
}

/// A point in time (R4, `instant`), in UTC.
fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
