//! Our model with the interface that servers of language models share.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::{InferAnswer, InferRequest};
use futures_util::{Stream, stream};
use inference::openai::{self, Asked, Label};
use inference::{InferFault, ModelStore, SharedModel, Start};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::args::ServeModelFlags;
use crate::config::Config;
use crate::output::{Failure, line};

/// Most bytes of a request.
const BODY_BYTES_MAX: usize = 64 << 20;

/// What is served.
#[derive(Clone)]
struct Served {
    model: Arc<SharedModel>,
    /// Least and most pixels of a picture.
    pixels: [u64; 2],
}

/// Serves until it is ended.
pub(crate) async fn serve(flags: &ServeModelFlags) -> Result<(), Failure> {
    let failed =
        |error: &dyn std::error::Error| Failure::from_error("the model cannot be served", error);
    if !flags.listen.ip().is_loopback() {
        // Nobody is asked who they are here.
        let text =
            "a model is served on this machine only: put a proxy that knows its users before it";
        return Err(Failure::new(text));
    }
    let store = ModelStore::new(Config::read(&flags.place)?.data(&flags.place).join("models"));
    let card = store.card(&flags.name).map_err(|it| failed(&it))?;
    let engine = std::env::current_exe().map_err(|it| failed(&it))?;
    let checkpoint = store.checkpoint(&flags.name);
    let model = SharedModel::start(Start { engine, checkpoint, card, compute: flags.device });
    let listener = TcpListener::bind(flags.listen).await.map_err(|it| failed(&it))?;
    let address: SocketAddr = listener.local_addr().map_err(|it| failed(&it))?;
    line(format_args!("ready http={address}"));
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(complete))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Served { model, pixels: flags.pixels.bounds() });
    axum::serve(listener, routes).await.map_err(|it| failed(&it))
}

async fn models(State(served): State<Served>) -> Json<Value> {
    let card = served.model.card();
    let one = json!({
        "id": card.name, "object": "model", "owned_by": card.source, "digest": card.digest,
        "warning": card.warning(),
    });
    Json(json!({"object": "list", "data": [one]}))
}

async fn complete(State(served): State<Served>, body: Bytes) -> Response {
    let Served { model, pixels } = served;
    let Asked { request, is_streamed } = match openai::request(&body, &model.card().name) {
        Ok(asked) => asked,
        Err(fault) => return refused(&fault),
    };
    let request = InferRequest { pixels: Some(pixels), ..request };
    let label = Label {
        id: format!("chatcmpl-{}", Uuid::now_v7().simple()),
        created: Timestamp::now().as_second(),
        model: model.card().name.clone(),
    };
    if is_streamed {
        return streamed(&model, request, label).await;
    }
    match model.infer(request).await {
        Ok(answer) => Json(openai::response(&answer, &label)).into_response(),
        Err(fault) => refused(&fault),
    }
}

fn refused(fault: &InferFault) -> Response {
    (status(fault), Json(openai::fault(fault))).into_response()
}

/// An answer that is being said.
struct Saying {
    words: mpsc::Receiver<String>,
    answer: Answering,
    label: Label,
    /// What to send next, before anything that is said from now on.
    next: Vec<Value>,
    is_first: bool,
    is_over: bool,
}

/// The question at work; it is taken back if nobody wants the rest of the answer.
struct Answering(JoinHandle<Result<InferAnswer, InferFault>>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends each word as it is said. What fails before the first word fails as with a whole answer.
async fn streamed(model: &Arc<SharedModel>, request: InferRequest, label: Label) -> Response {
    if let Err(error) = request.check() {
        return refused(&error.into());
    }
    let (listener, words) = mpsc::channel(request.sampling.tokens_max + 1);
    let asked = Arc::clone(model);
    let answer = tokio::spawn(async move { asked.infer_heard(request, listener).await });
    let answer = Answering(answer);
    let mut saying =
        Saying { words, answer, label, next: Vec::new(), is_first: true, is_over: false };
    if let Err(fault) = saying.listen().await {
        return refused(&fault);
    }
    Sse::new(saying.events()).keep_alive(KeepAlive::default()).into_response()
}

impl Saying {
    /// Waits for further words, or for the end.
    async fn listen(&mut self) -> Result<(), InferFault> {
        if let Some(text) = self.words.recv().await {
            self.next.push(openai::piece(&text, self.is_first, &self.label));
            self.is_first = false;
            return Ok(());
        }
        self.is_over = true;
        let gone = |_| InferFault::unavailable("the engine is closing");
        let answer = (&mut self.answer.0).await.map_err(gone)??;
        if self.is_first {
            self.next.push(openai::piece("", true, &self.label));
        }
        self.next.push(openai::last_piece(&answer, &self.label));
        Ok(())
    }

    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(Some(self), |saying| async move {
            let mut saying = saying?;
            if saying.next.is_empty()
                && !saying.is_over
                && let Err(fault) = saying.listen().await
            {
                saying.next.push(openai::fault(&fault));
            }
            if saying.next.is_empty() {
                return Some((Ok(Event::default().data("[DONE]")), None));
            }
            let event = Event::default().data(saying.next.remove(0).to_string());
            Some((Ok(event), Some(saying)))
        })
    }
}

const fn status(fault: &InferFault) -> StatusCode {
    if fault.is_retryable { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST }
}
