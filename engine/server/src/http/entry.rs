//! Who is let in to `/api`.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use orchestrator::ReviewDesk;

use super::problem::Problem;

/// Lets those in who have a token, and call from this machine: a token must not cross a network in the open.
pub(super) async fn let_in(
    State(desk): State<ReviewDesk>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if !peer.ip().is_loopback() {
        return Err(Problem::TooFar);
    }
    let token = bearer(request.headers()).ok_or(Problem::NotLetIn)?.to_owned();
    let reviewer = desk.let_in(&token).await?.ok_or(Problem::NotLetIn)?;
    request.extensions_mut().insert(reviewer);
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}
