//! `isocenter model serve`: a model behind the interface that servers of language models share.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Args;
use domain::{InferRequest, InferResponse};
use futures_util::{Stream, stream};
use inference::openai::{self, ChatCompletion, ResponseMetadata};
use inference::{Compute, InferFault, LaunchConfig, ModelClient};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{PixelArgs, store, unusable};
use crate::commands::Execute;
use crate::installation::InstallationArgs;
use crate::output::{Failure, line};

/// The upper bound of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Serves a model on this machine with the interface that other servers have
/// (`POST /v1/chat/completions`).
#[derive(Args)]
pub(super) struct Serve {
    /// The name of the model.
    name: String,
    /// Where to listen, on this machine.
    #[arg(long, default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// The device: `cuda` for a GPU or not at all, `cpu`, or `auto` for a GPU if there is one.
    #[arg(long, default_value = "auto")]
    device: Compute,
    #[command(flatten)]
    pixels: PixelArgs,
    #[command(flatten)]
    installation: InstallationArgs,
}

impl Execute for Serve {
    async fn execute(self) -> Result<ExitCode, Failure> {
        if !self.listen.ip().is_loopback() {
            // Nobody has to name themselves here.
            return Err(Failure::new("a model is served on this machine only")
                .with_hint("put a proxy that knows its users before it"));
        }
        let store = store(&self.installation)?;
        let card = store.language_card(&self.name).map_err(|it| unusable(&it))?;
        let program = std::env::current_exe().map_err(|it| unusable(&it))?;
        let checkpoint = store.checkpoint(&self.name);
        let launch = LaunchConfig { program, checkpoint, card, compute: self.device };
        let model = ModelClient::start(launch);
        let listener = TcpListener::bind(self.listen).await.map_err(|it| unusable(&it))?;
        let address: SocketAddr = listener.local_addr().map_err(|it| unusable(&it))?;
        line(format_args!("ready http={address}"));
        let routes = routes(ServedModel { model, pixels: self.pixels.bounds() });
        axum::serve(listener, routes).await.map_err(|it| unusable(&it))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The model that answers, shared by all calls.
#[derive(Clone)]
struct ServedModel {
    model: Arc<ModelClient>,
    /// The lower and the upper bound of pixels of a picture.
    pixels: [u64; 2],
}

fn routes(served: ServedModel) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(complete))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(served)
}

async fn models(State(served): State<ServedModel>) -> Json<Value> {
    let card = served.model.card();
    let one = json!({
        "id": card.name, "object": "model", "owned_by": card.source, "digest": card.digest,
        "warning": card.warning(),
    });
    Json(json!({"object": "list", "data": [one]}))
}

async fn complete(State(served): State<ServedModel>, body: Bytes) -> Response {
    let ServedModel { model, pixels } = served;
    let parsed = openai::parse_request(&body, &model.card().name);
    let ChatCompletion { request, is_streamed } = match parsed {
        Ok(completion) => completion,
        Err(fault) => return refused(&fault),
    };
    let request = InferRequest { pixels: Some(pixels), ..request };
    let metadata = ResponseMetadata {
        id: format!("chatcmpl-{}", Uuid::now_v7().simple()),
        created: Timestamp::now().as_second(),
        model: model.card().name.clone(),
    };
    if is_streamed {
        return streamed(&model, request, metadata).await;
    }
    match model.infer(request).await {
        Ok(answer) => Json(openai::response(&answer, &metadata)).into_response(),
        Err(fault) => refused(&fault),
    }
}

fn refused(fault: &InferFault) -> Response {
    (status(fault), Json(openai::error_body(fault))).into_response()
}

/// An answer that is sent while it is generated.
struct StreamingAnswer {
    /// Pieces of text, in the order in which they are generated.
    pieces: mpsc::Receiver<String>,
    answer: AbortOnDrop,
    metadata: ResponseMetadata,
    /// Chunks to send before waiting for further pieces.
    pending: Vec<Value>,
    /// Whether no piece has been sent yet: the first chunk names the role.
    is_first: bool,
    is_complete: bool,
}

/// The request in flight. It is cancelled when the client closes the connection.
struct AbortOnDrop(JoinHandle<Result<InferResponse, InferFault>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends each piece as it is generated. A fault before the first piece is answered with a status,
/// like a fault of a whole answer.
async fn streamed(
    model: &Arc<ModelClient>,
    request: InferRequest,
    metadata: ResponseMetadata,
) -> Response {
    if let Err(error) = request.check() {
        return refused(&error.into());
    }
    let (subscriber, pieces) = mpsc::channel(request.sampling.tokens_max + 1);
    let model = Arc::clone(model);
    let answer = tokio::spawn(async move { model.infer_streaming(request, subscriber).await });
    let mut answer = StreamingAnswer {
        pieces,
        answer: AbortOnDrop(answer),
        metadata,
        pending: Vec::new(),
        is_first: true,
        is_complete: false,
    };
    if let Err(fault) = answer.advance().await {
        return refused(&fault);
    }
    Sse::new(answer.events()).keep_alive(KeepAlive::default()).into_response()
}

impl StreamingAnswer {
    /// Waits for the next piece, or for the end of the answer.
    async fn advance(&mut self) -> Result<(), InferFault> {
        if let Some(text) = self.pieces.recv().await {
            self.pending.push(openai::chunk(&text, self.is_first, &self.metadata));
            self.is_first = false;
            return Ok(());
        }
        self.is_complete = true;
        let answer = (&mut self.answer.0).await;
        let answer = answer.map_err(|_| InferFault::unavailable("the engine is closing"))??;
        if self.is_first {
            self.pending.push(openai::chunk("", true, &self.metadata));
        }
        self.pending.push(openai::last_chunk(&answer, &self.metadata));
        Ok(())
    }

    /// Every chunk as a server-sent event, and `[DONE]` at the end.
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(Some(self), |answer| async move {
            let mut answer = answer?;
            if answer.pending.is_empty()
                && !answer.is_complete
                && let Err(fault) = answer.advance().await
            {
                answer.pending.push(openai::error_body(&fault));
            }
            if answer.pending.is_empty() {
                return Some((Ok(Event::default().data("[DONE]")), None));
            }
            let event = Event::default().data(answer.pending.remove(0).to_string());
            Some((Ok(event), Some(answer)))
        })
    }
}

const fn status(fault: &InferFault) -> StatusCode {
    if fault.is_retryable() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fault_that_may_pass_invites_to_try_again() {
        let busy = InferFault::unavailable("full");
        assert_eq!(status(&busy), StatusCode::SERVICE_UNAVAILABLE);
        let wrong = InferFault::refused("unreadable");
        assert_eq!(status(&wrong), StatusCode::BAD_REQUEST);
    }
}
