//! FHIR R4 transaction bundle (OUT-70..73): every resource is found again by its identifier, so that the same
//! bundle sent twice changes nothing.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{Abnormality, Code, LabRow, derived_uid};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dataset::made_at;
use crate::messages::own_filler;
use crate::narrative::{IMAGING, Narrative, kind};
use crate::pdf;
use crate::status::{BANNER, VOID};
use crate::writing::{ReportError, Writing};

/// Under which our identifiers are.
const SYSTEM: &str = "urn:isocenter:result";

/// Coding systems of code schemes (PS3.16, 8; HL7 terminology).
const SYSTEMS: [(&str, &str); 4] = [
    ("SCT", "http://snomed.info/sct"),
    ("LN", "http://loinc.org"),
    ("DCM", "http://dicom.nema.org/resources/ontology/DCM"),
    ("UCUM", "http://unitsofmeasure.org"),
];

/// Name of the bundle, the same on every try.
pub(crate) fn id(writing: &Writing<'_>) -> String {
    uuid_of(writing, "bundle").to_string()
}

/// Writes the bundle of a run.
///
/// # Errors
///
/// Fails if no page can be made.
pub(crate) fn bundle(writing: &Writing<'_>) -> Result<Value, ReportError> {
    let mut entries = vec![device(writing)];
    if let Some(study) = &writing.about.study {
        entries.push(imaging_study(writing, &study.uid));
    }
    let observations = observations(writing);
    let names: Vec<String> = observations.iter().map(|(name, _)| name.clone()).collect();
    entries.extend(observations.into_iter().map(|(name, it)| entry(writing, &name, it)));
    entries.push(entry(writing, "report", report(writing, &names)?));
    entries.push(provenance(writing));
    Ok(json!({
        "resourceType": "Bundle",
        "id": id(writing),
        "type": "transaction",
        "timestamp": instant(made_at(writing.results)),
        "entry": entries,
    }))
}

/// The same for every version of a run, so that each replaces the one before.
fn identifier(writing: &Writing<'_>, name: &str) -> String {
    format!("{}-{name}", own_filler(writing.results))
}

fn uuid_of(writing: &Writing<'_>, name: &str) -> Uuid {
    let uid = derived_uid(&["fhir", &writing.results.name(), name]);
    let number = uid.rsplit('.').next().and_then(|it| it.parse().ok()).unwrap_or_default();
    Uuid::from_u128(number)
}

fn url(writing: &Writing<'_>, name: &str) -> String {
    format!("urn:uuid:{}", uuid_of(writing, name))
}

fn reference(writing: &Writing<'_>, name: &str) -> Value {
    json!({ "reference": url(writing, name) })
}

/// Makes it, or replaces what has its identifier (OUT-73).
fn entry(writing: &Writing<'_>, name: &str, mut resource: Value) -> Value {
    let kind = resource.get("resourceType").and_then(Value::as_str).unwrap_or_default().to_owned();
    let identifier = identifier(writing, name);
    put(&mut resource, "identifier", json!([{ "system": SYSTEM, "value": identifier }]));
    json!({
        "fullUrl": url(writing, name),
        "resource": resource,
        "request": { "method": "PUT", "url": format!("{kind}?identifier={SYSTEM}|{identifier}") },
    })
}

/// What made it: the engine with everything that worked on the run.
fn device(writing: &Writing<'_>) -> Value {
    let engine = &writing.about.engine;
    let versions: Vec<Value> = writing
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
    entry(writing, "device", resource)
}

/// The study, unless the receiver knows it.
fn imaging_study(writing: &Writing<'_>, uid: &str) -> Value {
    let value = format!("urn:oid:{uid}");
    let resource = json!({
        "resourceType": "ImagingStudy",
        "identifier": [{ "system": "urn:dicom:uid", "value": value }],
        "status": "available",
        "subject": subject(writing),
    });
    json!({
        "fullUrl": url(writing, "study"),
        "resource": resource,
        "request": {
            "method": "POST",
            "url": "ImagingStudy",
            "ifNoneExist": format!("identifier=urn:dicom:uid|{value}"),
        },
    })
}

/// The patient, by what the receiver calls them.
fn subject(writing: &Writing<'_>) -> Value {
    let patient = &writing.about.patient;
    let mut subject = json!({ "type": "Patient" });
    if !patient.value.is_empty() {
        let mut identifier = json!({ "value": patient.value });
        if !patient.issuer.is_empty() {
            put(&mut identifier, "assigner", json!({ "display": patient.issuer }));
        }
        put(&mut subject, "identifier", identifier);
    }
    let name = writing.about.demographics.name.replace(['^', '='], " ");
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    if !name.is_empty() {
        put(&mut subject, "display", json!(name));
    }
    subject
}

/// Sets a part of a resource.
fn put(resource: &mut Value, name: &str, value: Value) {
    if let Some(parts) = resource.as_object_mut() {
        parts.insert(name.to_owned(), value);
    }
}

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

/// Whether a machine asserts it (OUT-71).
fn meta(writing: &Writing<'_>) -> Value {
    let label = if writing.words.needs_banner {
        ("http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "AIAST")
    } else {
        ("http://hl7.org/fhir/uv/aitransparency/CodeSystem/AddedProvenanceCS", "CLINAST_AIRPT")
    };
    json!({ "security": [{ "system": label.0, "code": label.1 }] })
}

/// Findings, measurements and rows of the laboratory, by name.
fn observations(writing: &Writing<'_>) -> Vec<(String, Value)> {
    let results = writing.results;
    let is_void = writing.words.is_void;
    let mut all = Vec::new();
    for (index, it) in results.findings.iter().enumerate() {
        let mut one = observation(writing, &it.code);
        if !is_void {
            put(&mut one, "valueCodeableConcept", concept(&it.presence.code()));
            put(&mut one, "note", json!([{ "text": it.text }]));
        }
        if let Some(site) = &it.site {
            put(&mut one, "bodySite", concept(site));
        }
        all.push((format!("finding-{index}"), one));
    }
    let segments = results.segmentations.iter().flat_map(|it| &it.segments);
    for (index, segment) in segments.enumerate() {
        for (at, it) in segment.measurements.iter().enumerate() {
            let mut one = observation(writing, &it.code);
            put(&mut one, "bodySite", concept(&segment.kind));
            if !is_void {
                put(
                    &mut one,
                    "valueQuantity",
                    json!({
                        "value": it.value, "unit": it.unit.meaning,
                        "system": "http://unitsofmeasure.org", "code": it.unit.value,
                    }),
                );
            }
            all.push((format!("measurement-{index}-{at}"), one));
        }
    }
    for (index, row) in results.laboratory.iter().enumerate() {
        all.push((format!("row-{index}"), laboratory(writing, row)));
    }
    all
}

fn observation(writing: &Writing<'_>, code: &Code) -> Value {
    let mut resource = json!({
        "resourceType": "Observation",
        "meta": meta(writing),
        "status": writing.words.fhir_observation,
        "code": concept(code),
        "subject": subject(writing),
        "effectiveDateTime": instant(writing.results.concluded),
        "device": reference(writing, "device"),
    });
    if writing.about.study.is_some() {
        put(&mut resource, "derivedFrom", json!([reference(writing, "study")]));
    }
    resource
}

fn laboratory(writing: &Writing<'_>, row: &LabRow) -> Value {
    let code = Code::new(&row.code, &row.scheme, &row.entry_name);
    let mut one = observation(writing, &code);
    if writing.words.is_void {
        return one;
    }
    match row.result.parse::<f64>() {
        Ok(value) if value.is_finite() => {
            put(&mut one, "valueQuantity", json!({ "value": value, "unit": row.unit }));
        }
        _ => put(&mut one, "valueString", json!(row.result)),
    }
    if !row.reference.is_empty() {
        put(&mut one, "referenceRange", json!([{ "text": row.reference }]));
    }
    if row.abnormality != Abnormality::Unknown {
        let system = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
        let flag = row.abnormality.flag();
        put(
            &mut one,
            "interpretation",
            json!([{ "coding": [{ "system": system, "code": flag }] }]),
        );
    }
    one
}

fn report(writing: &Writing<'_>, observations: &[String]) -> Result<Value, ReportError> {
    let Writing { results, about, words, .. } = *writing;
    let narrative = Narrative::of(results, about, words);
    let code = kind(results, about);
    let category = if code == IMAGING { "RAD" } else { "LAB" };
    let shown = if words.is_void { VOID.to_owned() } else { narrative.text() };
    let system = "http://terminology.hl7.org/CodeSystem/v2-0074";
    let mut resource = json!({
        "resourceType": "DiagnosticReport",
        "meta": meta(writing),
        "text": { "status": "generated", "div": division(&shown) },
        "status": words.report,
        "category": [{ "coding": [{ "system": system, "code": category }] }],
        "code": concept(&Code::new(code.0, "LN", code.1)),
        "subject": subject(writing),
        "effectiveDateTime": instant(results.concluded),
        "issued": instant(made_at(results)),
        "result": observations.iter().map(|it| reference(writing, it)).collect::<Vec<_>>(),
    });
    if observations.is_empty() {
        resource.as_object_mut().map(|it| it.remove("result"));
    }
    if about.study.is_some() {
        put(&mut resource, "imagingStudy", json!([reference(writing, "study")]));
    }
    let orders = about.orders.iter().filter(|it| !it.key.accession.is_empty());
    let order = |it: &domain::Order| json!({ "type": "ServiceRequest", "identifier": { "value": it.key.accession } });
    let orders: Vec<Value> = orders.map(order).collect();
    if !orders.is_empty() {
        put(&mut resource, "basedOn", json!(orders));
    }
    if let Some(attested) = results.attested.as_ref().filter(|it| it.meaning.is_some()) {
        let who = json!([{ "type": "Practitioner", "display": attested.by.printed_name() }]);
        put(&mut resource, "resultsInterpreter", who);
    }
    if words.is_void {
        return Ok(resource);
    }
    let impression = results.sections.iter().find(|it| it.title.value == "19005-8");
    let conclusion = impression.map(|it| it.text.clone());
    let banner = words.needs_banner.then(|| BANNER.to_owned());
    let conclusion: Vec<String> = banner.into_iter().chain(conclusion).collect();
    if !conclusion.is_empty() {
        put(&mut resource, "conclusion", json!(conclusion.join("\n")));
    }
    if !writing.fonts.is_empty() {
        let pages = pdf::encode(&narrative, writing.fonts)?;
        let data = BASE64_STANDARD.encode(pages);
        put(
            &mut resource,
            "presentedForm",
            json!([{ "contentType": "application/pdf", "data": data, "title": narrative.title }]),
        );
    }
    Ok(resource)
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

/// Who and what it comes from (OUT-72). It is named by its own id: R4 has no identifier for it.
fn provenance(writing: &Writing<'_>) -> Value {
    let results = writing.results;
    let role = |code: &str| {
        let system = "http://terminology.hl7.org/CodeSystem/provenance-participant-type";
        json!({ "coding": [{ "system": system, "code": code }] })
    };
    let mut agents = vec![json!({ "type": role("author"), "who": reference(writing, "device") })];
    if let Some(attested) = &results.attested {
        let code = if attested.meaning.is_some() { "verifier" } else { "author" };
        let who = json!({ "type": "Practitioner", "display": attested.by.printed_name() });
        agents.push(json!({ "type": role(code), "who": who }));
    }
    let entity = |it: &domain::InputInstance| {
        let instance = format!("urn:oid:{}", it.instance);
        let what = json!({ "identifier": { "system": "urn:dicom:uid", "value": instance } });
        json!({ "role": "source", "what": what })
    };
    let entities: Vec<Value> = results.inputs.iter().map(entity).collect();
    let id = uuid_of(writing, "provenance").to_string();
    let mut resource = json!({
        "resourceType": "Provenance",
        "id": id,
        "target": [reference(writing, "report")],
        "recorded": instant(made_at(results)),
        "agent": agents,
    });
    if !entities.is_empty() {
        put(&mut resource, "entity", json!(entities));
    }
    json!({
        "fullUrl": url(writing, "provenance"),
        "resource": resource,
        "request": { "method": "PUT", "url": format!("Provenance/{id}") },
    })
}

fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
