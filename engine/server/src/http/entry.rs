//! Who is admitted to `/api`: people with a token, calling from this machine.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use orchestrator::ReviewService;

use super::problem::Problem;

/// Admits a caller with a valid token, from this machine only: a token must not cross a network in
/// plain text. Handlers find the [`contracts::Reviewer`] in the request.
pub(super) async fn admit(
    State(reviews): State<ReviewService>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if !peer.ip().is_loopback() {
        return Err(Problem::Remote);
    }
    let token = bearer(request.headers()).ok_or(Problem::Unauthorized)?.to_owned();
    let reviewer = reviews.authenticate(&token).await?.ok_or(Problem::Unauthorized)?;
    request.extensions_mut().insert(reviewer);
    Ok(next.run(request).await)
}

/// The token of an `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
    }

    #[test]
    fn only_a_bearer_header_carries_a_token() {
        assert_eq!(bearer(&headers("Bearer iso_x")), Some("iso_x"));
        assert_eq!(bearer(&headers("Basic iso_x")), None);
        assert_eq!(bearer(&headers("iso_x")), None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
