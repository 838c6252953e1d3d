//! A FHIR server that accepts transactions (R4, 3.1.0.11).
//!
//! A bundle is a transaction: the server applies all of it or nothing, and says so entry by entry
//! (`transaction_response`).

mod transaction_response;

use std::path::PathBuf;

use async_trait::async_trait;
use contracts::{Destination, Output, SendError, Sent};
use domain::{OutputFormat, OutputKind};
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::client::{self, OpenError};

/// Longest diagnostic text of a server that is quoted, in characters.
const DIAGNOSTICS_MAX: usize = 500;

/// Configuration of a FHIR server as a destination: the value of `fhir` below `destinations.NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FhirConfig {
    /// Base address of the server: `https://ehr.hospital.example/fhir`.
    pub url: String,
    /// A file with the key that the server accepts as a bearer token.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
}

impl FhirConfig {
    /// Checks what can be checked without reading a file.
    ///
    /// # Errors
    ///
    /// Fails if `url` is no address of HTTP.
    pub fn check(&self) -> Result<(), OpenError> {
        client::check_url(&self.url)
    }

    /// The destination that this configuration describes.
    ///
    /// # Errors
    ///
    /// Fails if the key cannot be read, or the system has no certificates to verify servers with.
    pub fn open(&self) -> Result<FhirDestination, OpenError> {
        let key = self.key_file.as_deref().map(client::read_key).transpose()?;
        Ok(FhirDestination { url: self.url.clone(), key, client: client::client()? })
    }
}

/// A FHIR server that accepts transactions.
pub struct FhirDestination {
    url: String,
    key: Option<String>,
    client: Client,
}

impl FhirDestination {
    async fn post(&self, bundle: &[u8]) -> Result<(), SendError> {
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/fhir+json; charset=utf-8")
            .header("accept", "application/fhir+json")
            .body(bundle.to_vec());
        let request = match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        let answer = client::answer(request).await?;
        let status = answer.status();
        let body = client::body(answer).await;
        if status.is_success() {
            return transaction_response::check(status, &body?, entry_count(bundle));
        }
        let outcome = body.ok().and_then(|it| serde_json::from_slice::<Value>(&it).ok());
        let diagnostics = outcome.and_then(|it| diagnostics(&it)).unwrap_or_default();
        let text = format!("the server answered {status} {diagnostics}").trim_end().to_owned();
        Err(send_error(status, text))
    }
}

/// How many entries a bundle of ours has.
fn entry_count(bundle: &[u8]) -> usize {
    let bundle = serde_json::from_slice::<Value>(bundle).unwrap_or_default();
    bundle.get("entry").and_then(Value::as_array).map_or(0, Vec::len)
}

/// Which attempts could still succeed (OUT-73).
fn send_error(status: StatusCode, text: String) -> SendError {
    if client::is_retryable(status) {
        return SendError::Retryable(text);
    }
    match status {
        // Another client was writing the same resource.
        StatusCode::CONFLICT => SendError::NotApplied(text),
        _ => SendError::Refused(text),
    }
}

/// The diagnostics of the first issue of an `OperationOutcome` that is an error, or else of its
/// first issue (R4, 2.37).
fn diagnostics(outcome: &Value) -> Option<String> {
    let issues = outcome.get("issue")?.as_array()?;
    let issue = issues.iter().find(|it| is_error(it)).or_else(|| issues.first())?;
    let text = issue.get("diagnostics").or_else(|| issue.get("details")?.get("text"))?;
    Some(quoted(text.as_str()?))
}

fn is_error(issue: &Value) -> bool {
    let severity = issue.get("severity").and_then(Value::as_str);
    matches!(severity, Some("fatal" | "error"))
}

/// The text of a server as it is quoted: printable, and not longer than people read.
fn quoted(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).take(DIAGNOSTICS_MAX).collect()
}

#[async_trait]
impl Destination for FhirDestination {
    fn takes(&self, kind: OutputKind) -> bool {
        match kind.format() {
            OutputFormat::Fhir => true,
            OutputFormat::Dicom | OutputFormat::Hl7 | OutputFormat::Json => false,
        }
    }

    async fn send(&self, _: &str, _: &str, outputs: &[Output]) -> Result<Sent, SendError> {
        for output in outputs {
            self.post(&output.bytes).await?;
        }
        Ok(Sent::Acknowledged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_73_what_may_pass_is_tried_again_and_nothing_else() {
        let send_error = |code: u16| send_error(StatusCode::from_u16(code).unwrap(), String::new());
        for code in [408, 429, 500, 502, 503] {
            assert!(matches!(send_error(code), SendError::Retryable(_)), "{code}");
        }
        assert!(matches!(send_error(409), SendError::NotApplied(_)));
        for code in [301, 400, 401, 403, 404, 412, 422] {
            assert!(matches!(send_error(code), SendError::Refused(_)), "{code}");
        }
        let outcome = serde_json::json!({"issue": [{"diagnostics": "no\u{7} such patient"}]});
        assert_eq!(diagnostics(&outcome).as_deref(), Some("no such patient"));
    }

    #[test]
    fn a_fhir_server_takes_bundles_and_nothing_else() {
        let config = FhirConfig { url: "http://127.0.0.1:1".to_owned(), key_file: None };
        let destination = config.open().unwrap();
        let taken: Vec<OutputKind> =
            OutputKind::requestable().filter(|kind| destination.takes(*kind)).collect();
        assert_eq!(taken, [OutputKind::Fhir]);
    }
}
