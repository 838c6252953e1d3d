//! Our model with the interface that servers of language models share.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use inference::{InferFault, InferRequest, ModelStore, SharedModel, openai};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
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
    let model = SharedModel::start(engine, store.checkpoint(&flags.name), card);
    let listener = TcpListener::bind(flags.listen).await.map_err(|it| failed(&it))?;
    let address: SocketAddr = listener.local_addr().map_err(|it| failed(&it))?;
    line(format_args!("ready http={address}"));
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(complete))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Served { model, pixels: [flags.min_pixels, flags.max_pixels] });
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

async fn complete(State(served): State<Served>, body: Bytes) -> (StatusCode, Json<Value>) {
    let Served { model, pixels } = served;
    let answer = match openai::request(&body, &model.card().name) {
        Ok(request) => model.infer(InferRequest { pixels: Some(pixels), ..request }).await,
        Err(fault) => Err(fault),
    };
    match answer {
        Ok(answer) => {
            let id = format!("chatcmpl-{}", Uuid::now_v7().simple());
            let created = Timestamp::now().as_second();
            (StatusCode::OK, Json(openai::response(&answer, &id, created)))
        }
        Err(fault) => (status(&fault), Json(openai::fault(&fault))),
    }
}

const fn status(fault: &InferFault) -> StatusCode {
    if fault.is_retryable { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST }
}
