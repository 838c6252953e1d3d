use std::time::Duration;

use async_trait::async_trait;
use contracts::{Destination, DestinationKind, Output, SendError, Sent};
use domain::ErrorChain;
use reqwest::{Client, StatusCode, redirect};
use serde_json::Value;

/// Longest wait for a connection, and for an answer.
const CONNECT_MAX: Duration = Duration::from_secs(10);
const ANSWER_MAX: Duration = Duration::from_mins(2);

/// Longest word of a server that is repeated.
const WORD_MAX: usize = 500;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FhirConfig {
    /// Its base: `https://ehr.hospital.example/fhir`.
    pub url: String,
    /// What proves that we may send.
    pub key: Option<String>,
}

/// Why a server cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum FhirError {
    /// The client cannot be made.
    #[error("no client for FHIR can be made")]
    Client(#[from] reqwest::Error),
}

/// A FHIR server that takes transactions.
pub struct FhirDestination {
    config: FhirConfig,
    client: Client,
}

impl FhirDestination {
    /// A destination at this address.
    ///
    /// # Errors
    ///
    /// Fails if the system has no certificates to judge servers by.
    pub fn new(config: FhirConfig) -> Result<Self, FhirError> {
        // What names another place than the site file is not followed (SEC-31).
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_MAX)
            .timeout(ANSWER_MAX)
            .build()?;
        Ok(Self { config, client })
    }

    async fn post(&self, bundle: &[u8]) -> Result<(), SendError> {
        let request = self
            .client
            .post(&self.config.url)
            .header("content-type", "application/fhir+json; charset=utf-8")
            .header("accept", "application/fhir+json")
            .body(bundle.to_vec());
        let request = match &self.config.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        let answer = request
            .send()
            .await
            .map_err(|error| SendError::Retryable(ErrorChain(&error.without_url()).to_string()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let word = answer.json::<Value>().await.ok().and_then(|it| said(&it)).unwrap_or_default();
        let text = format!("the server answered {status} {word}").trim_end().to_owned();
        Err(judged(status, text))
    }
}

/// What another try could help with (OUT-73).
fn judged(status: StatusCode, text: String) -> SendError {
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => SendError::Retryable(text),
        _ if status.is_server_error() => SendError::Retryable(text),
        // Somebody else was writing the same.
        StatusCode::CONFLICT => SendError::NotApplied(text),
        _ => SendError::Refused(text),
    }
}

/// The first word of an `OperationOutcome`.
fn said(outcome: &Value) -> Option<String> {
    let issue = outcome.get("issue")?.get(0)?;
    let text = issue.get("diagnostics").or_else(|| issue.get("details")?.get("text"))?;
    Some(text.as_str()?.chars().filter(|it| !it.is_control()).take(WORD_MAX).collect())
}

#[async_trait]
impl Destination for FhirDestination {
    fn kind(&self) -> DestinationKind {
        DestinationKind::Fhir
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
        let judged = |code: u16| judged(StatusCode::from_u16(code).unwrap(), String::new());
        for code in [408, 429, 500, 502, 503] {
            assert!(matches!(judged(code), SendError::Retryable(_)), "{code}");
        }
        assert!(matches!(judged(409), SendError::NotApplied(_)));
        for code in [301, 400, 401, 403, 404, 412, 422] {
            assert!(matches!(judged(code), SendError::Refused(_)), "{code}");
        }
        let outcome = serde_json::json!({"issue": [{"diagnostics": "no\u{7} such patient"}]});
        assert_eq!(said(&outcome).as_deref(), Some("no such patient"));
    }
}
