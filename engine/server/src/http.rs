//! `/healthz` and `/metrics`, and `/api` for people who review and for pages that come over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use contracts::Intake;
use metrics_exporter_prometheus::PrometheusHandle;
use orchestrator::{IntakeService, ReviewDesk};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use self::problem::Problem;

mod documents;
mod entry;
mod problem;
mod reviews;

/// Most calls to `/api` at once, and how long one may take with all it sends.
const CALLS_MAX: usize = 32;
const CALL_MAX: Duration = Duration::from_mins(2);

#[derive(Clone)]
struct Shared {
    intake: Arc<IntakeService>,
    metrics: PrometheusHandle,
}

/// Answers until the future is dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    intake: Arc<IntakeService>,
    metrics: PrometheusHandle,
    desk: ReviewDesk,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(show_metrics))
        .with_state(Shared { intake: Arc::clone(&intake), metrics })
        .merge(interface(intake, desk));
    axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>()).await
}

/// Lets a call in if there is a place for it: what it sends is in memory until it is answered (SEC-38).
async fn bound(
    State(places): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let _place = places.try_acquire().map_err(|_| Problem::Unavailable)?;
    // Who sends no further gives the place back.
    tokio::time::timeout(CALL_MAX, next.run(request)).await.map_err(|_| Problem::Unavailable)
}

/// `/api`, for those who have a token.
fn interface(intake: Arc<IntakeService>, desk: ReviewDesk) -> Router {
    let documents = Router::new()
        .route("/api/documents", post(documents::keep))
        .layer(DefaultBodyLimit::max(documents::FILE_MAX))
        .with_state(intake);
    let letting_in = middleware::from_fn_with_state(desk.clone(), entry::let_in);
    let places = Arc::new(Semaphore::new(CALLS_MAX));
    let bounding = middleware::from_fn_with_state(places, bound);
    // The last layer is asked first.
    documents.merge(reviews::routes(desk)).layer(letting_in).layer(bounding)
}

/// Whether somebody new may come. Says no more than that (SEC-56).
async fn health(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    match shared.intake.is_admitting() {
        Ok(()) => (StatusCode::OK, "ok\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable\n"),
    }
}

/// Counts, for somebody on this machine.
async fn show_metrics(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> (StatusCode, String) {
    if !peer.ip().is_loopback() {
        return (StatusCode::FORBIDDEN, String::new());
    }
    (StatusCode::OK, shared.metrics.render())
}
