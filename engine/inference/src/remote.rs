//! A model on another machine, asked over HTTP with the interface of [`crate::openai`] (PAP-01).
//!
//! Faults that a retry may cure are retried with exponential backoff. After `FAILURES_MAX`
//! failures in a row the circuit breaker opens, and no request is sent for `BREAKER_OPEN_TIME`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{InferRequest, InferResponse};
use reqwest::{Client, StatusCode, redirect};
use serde_json::Value;
use tracing::warn;

use crate::frame::FRAME_BYTES_MAX;
use crate::openai;
use crate::wire::{FaultKind, InferFault};

/// The maximum number of attempts for a request.
const ATTEMPTS_MAX: u32 = 3;

/// The pause after the first attempt; it doubles with each further one.
const BACKOFF: Duration = Duration::from_millis(250);

/// The number of failures in a row that opens the circuit breaker.
const FAILURES_MAX: u32 = 5;

/// How long the circuit breaker stays open.
const BREAKER_OPEN_TIME: Duration = Duration::from_secs(30);

/// The time limit for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The time limit for the response to a request that specifies no deadline.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(5);

/// Where a remote model is, and how requests to it are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteConfig {
    /// The base of its address, such as `https://models.hospital.example/v1`.
    pub url: String,
    /// The name of the model on that server.
    pub name: String,
    /// The bearer token for the server.
    pub key: Option<String>,
    /// Lower and upper bound on the pixels of a picture as the server resizes it (`MIN_PIXELS`,
    /// `MAX_PIXELS`). If they are known, cited boxes are mapped to the picture (PAP-04).
    pub pixels: Option<[u64; 2]>,
    /// The person of the site who has released the model for clinical use; none: it is not
    /// released.
    pub clinical_use_decided_by: Option<String>,
}

/// Why an attempt gave no response, and whether an immediate retry could.
struct AttemptError {
    fault: InferFault,
    is_transient: bool,
}

impl AttemptError {
    fn transient(reason: String) -> Self {
        Self { fault: InferFault::unavailable(reason), is_transient: true }
    }
}

/// The circuit breaker: counts failures, and while it is open no request is sent.
#[derive(Debug, Default)]
struct CircuitBreaker {
    failures: u32,
    open_until: Option<Instant>,
}

/// A model on another machine.
pub struct RemoteModel {
    config: RemoteConfig,
    client: Client,
    breaker: Mutex<CircuitBreaker>,
}

impl RemoteModel {
    /// Prepares the client; no request is sent yet. Redirects are never followed (SEC-33).
    ///
    /// # Errors
    ///
    /// Fails if the HTTP client cannot be set up.
    pub fn new(config: RemoteConfig) -> Result<Arc<Self>, reqwest::Error> {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Arc::new(Self { config, client, breaker: Mutex::default() }))
    }

    /// Sends a request, with retries after transient faults.
    ///
    /// # Errors
    ///
    /// Returns the reason if there is no response, and whether a later retry could help.
    pub async fn infer(&self, request: &InferRequest) -> Result<InferResponse, InferFault> {
        request.check()?;
        let started = Instant::now();
        let body = openai::request_body(request, &self.config.name);
        let limit = request.deadline_ms.map_or(RESPONSE_TIMEOUT, Duration::from_millis);
        let mut pause = BACKOFF;
        for attempt in 1.. {
            self.check_breaker()?;
            let remaining = limit.saturating_sub(started.elapsed());
            if remaining.is_zero() {
                break;
            }
            let outcome = self.attempt(&body, remaining).await;
            // A short deadline of the caller is no failure of the server.
            let is_expired = started.elapsed() >= limit && request.deadline_ms.is_some();
            if !is_expired {
                self.record(outcome.as_ref().err());
            }
            match outcome {
                Ok(value) => return self.read(&value, request, started),
                Err(error) if !error.is_transient || attempt >= ATTEMPTS_MAX => {
                    return Err(error.fault);
                }
                Err(error) => {
                    let reason_bytes = error.fault.reason.len();
                    warn!(attempt, reason_bytes, "the model's server did not respond");
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(match request.deadline_ms {
            Some(_) => InferFault::deadline_exceeded(),
            None => InferFault::unavailable("the model's server took too long"),
        })
    }

    async fn attempt(&self, body: &Value, limit: Duration) -> Result<Value, AttemptError> {
        let url = format!("{}/chat/completions", self.config.url.trim_end_matches('/'));
        let mut request = self.client.post(url).timeout(limit).json(body);
        if let Some(key) = &self.config.key {
            request = request.bearer_auth(key);
        }
        let mut response = request.send().await.map_err(|it| connection_failed(&it))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|it| connection_failed(&it))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > FRAME_BYTES_MAX as usize {
                let reason = "the response is longer than any may be".to_owned();
                return Err(AttemptError::transient(reason));
            }
        }
        let json: Result<Value, _> = serde_json::from_slice(&bytes);
        if status.is_success() {
            return json.map_err(|error| {
                AttemptError::transient(format!("the response is no JSON: {error}"))
            });
        }
        Err(error_of_status(status, json.ok().as_ref()))
    }

    /// Reads the response and adds what the site knows of the model.
    fn read(
        &self,
        value: &Value,
        request: &InferRequest,
        started: Instant,
    ) -> Result<InferResponse, InferFault> {
        let mut response = openai::parse_response(value, request, self.config.pixels)?;
        response.milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        response.model.clone_from(&self.config.name);
        if self.config.clinical_use_decided_by.is_none() {
            response.warning = Some("not for clinical use".to_owned());
        }
        Ok(response)
    }

    /// Fails while the circuit breaker is open.
    fn check_breaker(&self) -> Result<(), InferFault> {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        match breaker.open_until {
            Some(until) if until > Instant::now() => Err(InferFault::unavailable(format!(
                "the model's server failed {FAILURES_MAX} times and is left alone"
            ))),
            _ => Ok(()),
        }
    }

    /// Records the outcome of an attempt in the circuit breaker. A refusal is no failure: the
    /// server works.
    fn record(&self, error: Option<&AttemptError>) {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        if error.is_none_or(|it| !it.fault.is_retryable()) {
            *breaker = CircuitBreaker::default();
            return;
        }
        breaker.failures += 1;
        if breaker.failures >= FAILURES_MAX {
            breaker.open_until = Some(Instant::now() + BREAKER_OPEN_TIME);
            // One more failure after that opens it again.
            breaker.failures = FAILURES_MAX - 1;
        }
    }
}

fn connection_failed(error: &reqwest::Error) -> AttemptError {
    AttemptError::transient(format!("the model's server does not answer: {error}"))
}

/// The error of a response with another status than success.
fn error_of_status(status: StatusCode, body: Option<&Value>) -> AttemptError {
    let message = body.and_then(|it| it.pointer("/error/message")?.as_str()).unwrap_or_default();
    // These mean that the request is at fault; with all others the server has to be repaired first.
    let is_refusal = matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    );
    let kind = if is_refusal { FaultKind::Refused } else { FaultKind::Unavailable };
    let is_transient = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    let reason = format!("the model's server says {status}: {message}");
    AttemptError { fault: InferFault { kind, reason }, is_transient }
}
