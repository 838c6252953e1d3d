//! The HTTP interface: `/healthz`, `/metrics`, and `/api` for people who review and for documents.
//!
//! * `bodies`: how much of what callers send is in memory at once.
//! * `entry`: who is admitted to `/api`, by token.
//! * `reviews`: results and the decisions about them.
//! * `documents`: pages that arrive over HTTP.
//! * `problem`: why a call is refused, as the caller sees it.
#![doc = include_str!("../API.md")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use contracts::Admission as _;
use metrics_exporter_prometheus::PrometheusHandle;
use orchestrator::{IntakeService, ReviewService};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use self::bodies::BodyBudget;
pub(crate) use self::bodies::{BodyLimits, HttpConfig};
use self::problem::Problem;

mod bodies;
mod documents;
mod entry;
mod problem;
mod reviews;

/// The greatest number of calls to `/api` at once.
const CALLS_MAX: usize = 32;

/// The longest a call may take, with everything it sends.
const CALL_TIME_MAX: Duration = Duration::from_mins(2);

/// What the HTTP interface answers from.
#[derive(Clone)]
pub(crate) struct HttpServices {
    /// Where documents are accepted, and whether anything is.
    pub(crate) intake: Arc<IntakeService>,
    /// The counters for `/metrics`.
    pub(crate) metrics: PrometheusHandle,
    /// Results that await a decision.
    pub(crate) reviews: ReviewService,
    /// What callers may send.
    pub(crate) bodies: BodyLimits,
}

/// Answers until the future is dropped.
pub(crate) async fn serve(listener: TcpListener, services: HttpServices) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(show_metrics))
        .with_state(services.clone())
        .merge(api(services));
    axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>()).await
}

/// Bounds the calls in flight: the body of each is in memory until it is answered (SEC-38).
async fn limit_calls(
    State(permits): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let _permit = permits.try_acquire().map_err(|_| Problem::Unavailable)?;
    // A caller that stops sending gives its permit back.
    tokio::time::timeout(CALL_TIME_MAX, next.run(request)).await.map_err(|_| Problem::Unavailable)
}

/// `/api`, for people with a token.
fn api(services: HttpServices) -> Router {
    let HttpServices { intake, reviews, bodies, .. } = services;
    let budget = BodyBudget::new(bodies);
    let charge =
        middleware::from_fn_with_state(budget.of_route(documents::FILE_BYTES_MAX), bodies::charge);
    let documents = Router::new()
        .route(documents::ROUTE, post(documents::accept))
        .layer(DefaultBodyLimit::max(documents::FILE_BYTES_MAX))
        .layer(charge)
        .with_state(intake);
    let admission = middleware::from_fn_with_state(reviews.clone(), entry::admit);
    let permits = Arc::new(Semaphore::new(CALLS_MAX));
    let limit = middleware::from_fn_with_state(permits, limit_calls);
    // The layer that is added last runs first.
    documents.merge(reviews::routes(reviews, &budget)).layer(admission).layer(limit)
}

/// Whether new senders are accepted. Discloses no more than that (SEC-56).
async fn health(State(services): State<HttpServices>) -> (StatusCode, &'static str) {
    match services.intake.check_admitting() {
        Ok(()) => (StatusCode::OK, "ok\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable\n"),
    }
}

/// The counters, for callers on this machine.
async fn show_metrics(
    State(services): State<HttpServices>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> (StatusCode, String) {
    if !peer.ip().is_loopback() {
        return (StatusCode::FORBIDDEN, String::new());
    }
    (StatusCode::OK, services.metrics.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documentation of the interface.
    const API: &str = include_str!("../API.md");

    #[test]
    fn every_route_is_documented() {
        let decisions = ["claim", "release", "sign", "reject", "amend", "withdraw"];
        let decisions = decisions.map(|it| reviews::DECISION.replace("{decision}", it));
        let routes = [reviews::REVIEWS, reviews::RESULT, reviews::MASK, reviews::MASKS];
        let routes = routes.into_iter().chain([documents::ROUTE]).map(str::to_owned);
        for route in routes.chain(decisions) {
            let written = route.replace("{run}", "RUN").replace("{digest}", "SHA256");
            // The table names `/release` after `/claim`, without repeating what comes before it.
            let last = written.rsplit_once('/').map_or("", |it| it.1);
            let is_named = API.contains(&format!("{written}`"))
                || API.contains(&format!("{written}?"))
                || API.contains(&format!("`/{last}`"));
            assert!(is_named, "API.md does not document {written}");
        }
    }
}
