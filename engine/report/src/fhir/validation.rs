//! Reads a bundle back and checks it: a transaction, each entry with a resource and a request, and no
//! reference within the bundle that leads nowhere.

use contracts::Output;
use serde_json::Value;

/// The problems of a bundle. Empty, if it may be sent.
pub(crate) fn problems(output: &Output) -> Vec<String> {
    let Ok(bundle) = serde_json::from_slice::<Value>(&output.bytes) else {
        return vec!["it is no JSON".to_owned()];
    };
    let mut problems = Vec::new();
    if text(&bundle, "/resourceType") != "Bundle" || text(&bundle, "/type") != "transaction" {
        problems.push("it is no transaction".to_owned());
    }
    let entries = bundle.get("entry").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let urls: Vec<&str> = entries.iter().map(|entry| text(entry, "/fullUrl")).collect();
    let mut references = Vec::new();
    for entry in entries {
        check_entry(entry, &mut problems);
        collect_references(entry, &mut references);
    }
    for reference in references {
        if reference.starts_with("urn:uuid:") && !urls.contains(&reference) {
            problems.push(format!("{reference} leads nowhere"));
        }
    }
    if !entries.iter().any(|entry| text(entry, "/resource/resourceType") == "DiagnosticReport") {
        problems.push("there is no DiagnosticReport".to_owned());
    }
    problems
}

fn check_entry(entry: &Value, problems: &mut Vec<String>) {
    let resource_type = text(entry, "/resource/resourceType");
    let has_request = !resource_type.is_empty()
        && !text(entry, "/request/method").is_empty()
        && text(entry, "/request/url").starts_with(resource_type);
    if !has_request {
        problems.push(format!("an entry of `{resource_type}` has no request for its type"));
    }
    if resource_type != "Provenance" && text(entry, "/resource/status").is_empty() {
        problems.push(format!("a {resource_type} has no status"));
    }
}

/// The text at a JSON pointer, or an empty one.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Adds the value of every `reference` in a value.
fn collect_references<'a>(value: &'a Value, references: &mut Vec<&'a str>) {
    match value {
        Value::Object(parts) => {
            references.extend(parts.get("reference").and_then(Value::as_str));
            parts.values().for_each(|part| collect_references(part, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"resourceType": "Bundle", "type": "transaction", "entry": [
        {"fullUrl": "urn:uuid:1", "request": {"method": "PUT", "url": "DiagnosticReport?x"},
         "resource": {"resourceType": "DiagnosticReport", "status": "final",
                      "result": [{"reference": "urn:uuid:2"}]}},
        {"fullUrl": "urn:uuid:2", "request": {"method": "PUT", "url": "Observation?x"},
         "resource": {"resourceType": "Observation", "status": "final"}}]}"#;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let output = Output {
            kind: domain::OutputKind::Fhir,
            id: "1".to_owned(),
            series: String::new(),
            sop_class: String::new(),
            bytes: text.as_bytes().to_vec(),
            stored: None,
        };
        assert_eq!(problems(&output), expected);
    }

    #[test]
    fn a_bundle_that_can_be_sent_has_no_problem() {
        check(GOOD, &[]);
    }

    #[test]
    fn a_reference_that_leads_nowhere_is_named() {
        let lost =
            GOOD.replace("{\"reference\": \"urn:uuid:2\"}", "{\"reference\": \"urn:uuid:3\"}");
        check(&lost, &["urn:uuid:3 leads nowhere"]);
    }

    #[test]
    fn an_entry_needs_a_status_and_a_request_for_its_type() {
        let without = GOOD.replacen(", \"status\": \"final\"", "", 1);
        check(&without, &["a DiagnosticReport has no status"]);
        let other = GOOD.replace("Observation?x", "Patient?x");
        check(&other, &["an entry of `Observation` has no request for its type"]);
    }

    #[test]
    fn only_a_transaction_with_a_report_is_sent() {
        check(&GOOD.replace("transaction", "batch"), &["it is no transaction"]);
        let without = r#"{"resourceType": "Bundle", "type": "transaction", "entry": []}"#;
        check(without, &["there is no DiagnosticReport"]);
        check("MSH|", &["it is no JSON"]);
    }
}
