//! A model that another machine has, asked over HTTP (PAP-01).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{InferAnswer, InferRequest};
use reqwest::{Client, StatusCode, redirect};
use serde_json::Value;
use tracing::warn;

use crate::frame::FRAME_BYTES_MAX;
use crate::openai;
use crate::wire::InferFault;

/// How often a question is asked if it may help.
const TRIES_MAX: u32 = 3;

/// Wait after the first try; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(250);

/// Failures in a row after which nobody is asked for a while.
const FAILURES_MAX: u32 = 5;

/// How long that is.
const REST: Duration = Duration::from_secs(30);

/// Longest wait for a connection, and for an answer where the question names no deadline.
const CONNECT_MAX: Duration = Duration::from_secs(10);
const ANSWER_MAX: Duration = Duration::from_mins(5);

/// Where a model is, and what it is called there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteConfig {
    /// The beginning of its address: `https://models.hospital.example/v1`.
    pub url: String,
    /// Its name there.
    pub name: String,
    /// What proves that we may ask.
    pub key: Option<String>,
    /// Least and most pixels of a picture as the server shows it to the model (`MIN_PIXELS`, `MAX_PIXELS`): where
    /// they are known, boxes of answers are placed on the picture (PAP-04).
    pub pixels: Option<[u64; 2]>,
    /// Who of the site has decided that it may be used for patients. Nobody: it may not.
    pub clinical_use_decided_by: Option<String>,
}

/// Why a try gave no answer, and whether another one right away may.
struct Trouble {
    fault: InferFault,
    may_help: bool,
}

/// How asking fared of late; while it is open nobody is asked.
#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
}

/// A model on another machine.
pub struct RemoteModel {
    config: RemoteConfig,
    client: Client,
    breaker: Mutex<Breaker>,
}

impl RemoteModel {
    /// Knows where the model is. Nothing is asked yet. No answer that points elsewhere is followed
    /// (SEC-33).
    ///
    /// # Errors
    ///
    /// Fails if the system has no means to ask.
    pub fn new(config: RemoteConfig) -> Result<Arc<Self>, reqwest::Error> {
        let client = Client::builder()
            .connect_timeout(CONNECT_MAX)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Arc::new(Self { config, client, breaker: Mutex::default() }))
    }

    /// Asks it, more than once if that may help.
    ///
    /// # Errors
    ///
    /// Says why there is no answer, and whether there may be one another time.
    pub async fn infer(&self, request: &InferRequest) -> Result<InferAnswer, InferFault> {
        request.check()?;
        let (begin, body) = (Instant::now(), openai::body(request, &self.config.name));
        let limit = request.deadline_ms.map_or(ANSWER_MAX, Duration::from_millis);
        let mut pause = PAUSE;
        for attempt in 1.. {
            self.check_breaker()?;
            let rest = limit.saturating_sub(begin.elapsed());
            if rest.is_zero() {
                break;
            }
            let outcome = self.ask(&body, rest).await;
            let is_late = begin.elapsed() >= limit;
            // That somebody was in a hurry says nothing of the server.
            if !(is_late && request.deadline_ms.is_some()) {
                self.note(outcome.as_ref().err());
            }
            match outcome {
                Ok(value) => return self.read(&value, request, begin),
                Err(Trouble { fault, may_help }) if !may_help || attempt >= TRIES_MAX => {
                    return Err(fault);
                }
                Err(trouble) => {
                    let reason_bytes = trouble.fault.reason.len();
                    warn!(attempt, reason_bytes, "the model did not answer");
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(match request.deadline_ms {
            Some(_) => InferFault::late(),
            None => InferFault::unavailable("the model's server took too long"),
        })
    }

    async fn ask(&self, body: &Value, limit: Duration) -> Result<Value, Trouble> {
        let url = format!("{}/chat/completions", self.config.url.trim_end_matches('/'));
        let mut request = self.client.post(url).timeout(limit).json(body);
        if let Some(key) = &self.config.key {
            request = request.bearer_auth(key);
        }
        let again = |text: String| Trouble { fault: InferFault::unavailable(text), may_help: true };
        let broken = |error| again(format!("the model's server does not answer: {error}"));
        let mut response = request.send().await.map_err(broken)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(more) = response.chunk().await.map_err(broken)? {
            bytes.extend_from_slice(&more);
            if bytes.len() > FRAME_BYTES_MAX as usize {
                return Err(again("the answer is longer than any may be".to_owned()));
            }
        }
        let said: Result<Value, _> = serde_json::from_slice(&bytes);
        if status.is_success() {
            return said.map_err(|it| again(format!("the answer is no JSON: {it}")));
        }
        let message =
            said.ok().and_then(|it| Some(it.pointer("/error/message")?.as_str()?.to_owned()));
        let reason = format!("the model's server says {status}: {}", message.unwrap_or_default());
        // The question is at fault with these; with all others somebody has to mend something first.
        let is_of_question = [400, 413, 422].contains(&status.as_u16());
        let may_help = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        Err(Trouble { fault: InferFault { is_retryable: !is_of_question, reason }, may_help })
    }

    fn read(
        &self,
        value: &Value,
        request: &InferRequest,
        begin: Instant,
    ) -> Result<InferAnswer, InferFault> {
        let mut answer = openai::answer(value, request, self.config.pixels)?;
        answer.milliseconds = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        answer.model.clone_from(&self.config.name);
        answer.warning = match self.config.clinical_use_decided_by {
            Some(_) => answer.warning,
            None => Some("not for clinical use".to_owned()),
        };
        Ok(answer)
    }

    /// Fails while the breaker is open.
    fn check_breaker(&self) -> Result<(), InferFault> {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        match breaker.open_until {
            Some(until) if until > Instant::now() => {
                let text =
                    format!("the model's server failed {FAILURES_MAX} times and is left alone");
                Err(InferFault::unavailable(text))
            }
            _ => Ok(()),
        }
    }

    /// Takes in how a try went. Refusing is an answer, too.
    fn note(&self, trouble: Option<&Trouble>) {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_none_or(|it| !it.fault.is_retryable) {
            *breaker = Breaker::default();
            return;
        }
        breaker.failures += 1;
        if breaker.failures >= FAILURES_MAX {
            breaker.open_until = Some(Instant::now() + REST);
            // One failure more opens it again.
            breaker.failures = FAILURES_MAX - 1;
        }
    }
}
