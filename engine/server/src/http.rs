//! `/healthz` and `/metrics`, and `/api` for people who review.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::routing::get;
use contracts::Intake;
use metrics_exporter_prometheus::PrometheusHandle;
use orchestrator::{IntakeService, ReviewDesk};
use tokio::net::TcpListener;

mod reviews;

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
        .with_state(Shared { intake, metrics })
        .merge(reviews::routes(desk));
    axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>()).await
}

/// Whether anything can be taken. Says no more than that (SEC-56).
async fn health(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    match shared.intake.is_open() {
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
