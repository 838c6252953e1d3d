//! Reads what a FHIR server answers to a transaction (R4, 3.1.0.11.2).
//!
//! A status of success alone says nothing: a proxy answers so with a page to log in, and a server
//! with an `OperationOutcome` or with entries that failed. A transaction was applied only if the
//! answer is a `transaction-response` with an entry for each that was sent, in their order, and each
//! of them states success.

use contracts::SendError;
use reqwest::StatusCode;
use serde_json::Value;

use super::{diagnostics, quoted, send_error};

/// Checks the body of an answer with a status of success to a transaction of `sent` entries.
///
/// # Errors
///
/// Fails unless the whole transaction was applied. The error states whether another attempt could
/// help: where entries fail for several reasons, the one that can pass last decides.
pub(super) fn check(status: StatusCode, body: &[u8], sent: usize) -> Result<(), SendError> {
    let answer: Option<Value> = serde_json::from_slice(body).ok();
    let entries = match answer.as_ref().and_then(entries_of_response) {
        Some(entries) if entries.len() == sent => entries,
        Some(entries) => {
            let count = entries.len();
            return Err(unknown(status, &format!("{count} entries for {sent} that were sent")));
        }
        None => return Err(unknown(status, &description(body, answer.as_ref()))),
    };
    let failed: Vec<&Value> = entries.iter().filter(|it| !is_applied(it)).collect();
    let prefix = format!("the server did not apply {} of {sent} entries; ", failed.len());
    let errors = failed.iter().map(|entry| failure(&prefix, entry));
    // Of those that weigh the same, the first.
    errors.rev().max_by_key(severity).map_or(Ok(()), Err)
}

/// The entries of a `transaction-response`, if the answer is one.
fn entries_of_response(answer: &Value) -> Option<&[Value]> {
    let is_response = text(answer, "/resourceType") == "Bundle"
        && text(answer, "/type") == "transaction-response";
    let entries = answer.get("entry").and_then(Value::as_array);
    is_response.then(|| entries.map_or(&[][..], Vec::as_slice))
}

/// An answer that leaves open whether the transaction was applied. It is not sent again by itself:
/// whatever answers so, answers so again.
fn unknown(status: StatusCode, what: &str) -> SendError {
    SendError::Refused(format!(
        "the server answered {status} with {what}: it is not known whether it applied the \
         transaction"
    ))
}

/// What a body is that is no `transaction-response`, for people.
fn description(body: &[u8], answer: Option<&Value>) -> String {
    if body.iter().all(u8::is_ascii_whitespace) {
        return "an empty body".to_owned();
    }
    let Some(answer) = answer else {
        return format!("a body that is no JSON: `{}`", quoted(&String::from_utf8_lossy(body)));
    };
    match text(answer, "/resourceType") {
        "Bundle" => format!("a Bundle of the type `{}`", quoted(text(answer, "/type"))),
        "OperationOutcome" => {
            format!("an OperationOutcome: {}", diagnostics(answer).unwrap_or_default())
        }
        "" => "JSON that is no FHIR resource".to_owned(),
        other => format!("a resource of the type `{}`", quoted(other)),
    }
}

/// The status that an entry states, as a status of HTTP (R4, 3.1.0.11.2).
fn status_of(entry: &Value) -> Option<StatusCode> {
    let code = text(entry, "/response/status").get(..3)?.parse().ok()?;
    StatusCode::from_u16(code).ok()
}

fn is_applied(entry: &Value) -> bool {
    status_of(entry).is_some_and(|it| it.is_success())
}

/// Why an entry was not applied.
fn failure(prefix: &str, entry: &Value) -> SendError {
    let stated = match text(entry, "/response/status") {
        "" => "no status".to_owned(),
        stated => quoted(stated),
    };
    let outcome = entry.pointer("/response/outcome");
    let reason = outcome.and_then(diagnostics).unwrap_or_default();
    let text = format!("{prefix}{stated} {reason}").trim_end().to_owned();
    match status_of(entry) {
        Some(status) => send_error(status, text),
        None => SendError::Refused(text),
    }
}

/// How much stands in the way of another attempt.
fn severity(error: &SendError) -> u8 {
    match error {
        SendError::Retryable(_) => 0,
        SendError::NotApplied(_) => 1,
        SendError::Refused(_) => 2,
    }
}

/// The text at a JSON pointer, or an empty one.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(status: &str) -> Value {
        let issues = json!([{ "severity": "information", "diagnostics": "looked it up" },
            { "severity": "error", "diagnostics": "unknown patient" }]);
        json!({ "response": { "status": status,
            "outcome": { "resourceType": "OperationOutcome", "issue": issues } } })
    }

    fn response(entries: &[Value]) -> String {
        let kind = "transaction-response";
        json!({ "resourceType": "Bundle", "type": kind, "entry": entries }).to_string()
    }

    /// Checks an answer to a transaction of two entries.
    fn checked(body: &str) -> Result<(), SendError> {
        check(StatusCode::OK, body.as_bytes(), 2)
    }

    #[track_caller]
    fn check_refused(body: &str, expected: &str) {
        match checked(body) {
            Err(SendError::Refused(text)) => assert!(text.contains(expected), "{text}"),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn out_73_a_transaction_is_applied_only_if_every_entry_says_so() {
        let created = entry("201 Created");
        assert_eq!(checked(&response(&[created.clone(), entry("200")])), Ok(()));
        check_refused(
            &response(&[created.clone(), entry("422 Unprocessable Entity")]),
            "1 of 2 entries; 422 Unprocessable Entity unknown patient",
        );
        check_refused(&response(&[created.clone(), json!({})]), "entries; no status");
        check_refused(&response(&[created.clone(), entry("ok")]), "entries; ok");
        check_refused(&response(&[created]), "1 entries for 2");
    }

    #[test]
    fn out_73_entries_that_failed_decide_whether_another_attempt_is_made() {
        let busy = entry("503 Service Unavailable");
        let throttled = checked(&response(&[entry("429"), busy.clone()]));
        assert!(matches!(throttled, Err(SendError::Retryable(_))), "{throttled:?}");
        let conflict = checked(&response(&[entry("409 Conflict"), busy.clone()]));
        assert!(matches!(conflict, Err(SendError::NotApplied(_))), "{conflict:?}");
        check_refused(&response(&[busy, entry("400")]), "2 of 2 entries; 400");
    }

    #[test]
    fn out_73_a_success_that_is_no_response_to_a_transaction_is_none() {
        check_refused("", "200 OK with an empty body");
        check_refused("<html><body>Please log in</body></html>", "no JSON: `<html><body>Please");
        let outcome =
            json!({ "resourceType": "OperationOutcome", "issue": [{ "diagnostics": "no" }] });
        check_refused(&outcome.to_string(), "an OperationOutcome: no");
        let echo = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [1, 2] });
        check_refused(&echo.to_string(), "a Bundle of the type `transaction`");
        check_refused("{}", "no FHIR resource");
        check_refused("{\"resourceType\":\"Patient\"}", "the type `Patient`");
    }
}
