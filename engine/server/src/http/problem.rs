//! Why a call to `/api` is refused, as the caller sees it: a status, and `{ "problem": "…" }`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use contracts::{ReviewRefusal, StoreError};
use domain::ErrorChain;
use serde::Serialize;
use tracing::error;

/// The number of seconds after which the caller may try again.
const RETRY_AFTER: &str = "5";

/// Why a call is refused.
#[derive(Debug)]
pub(super) enum Problem {
    /// There is no token, or it is not valid now.
    Unauthorized,
    /// The call comes over a network on which others may listen.
    Remote,
    /// The decision cannot be made.
    Refused(ReviewRefusal),
    /// The body cannot be read.
    Unreadable(String),
    /// The file is of no accepted type.
    UnsupportedType,
    /// The body is longer than any may be here.
    TooLong {
        /// The limit.
        bytes_max: usize,
    },
    /// The engine cannot accept it now, and may later.
    Unavailable,
}

/// The body of a refusal.
#[derive(Serialize)]
struct Body {
    problem: String,
}

impl Problem {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Remote | Self::Refused(ReviewRefusal::Forbidden(_)) => StatusCode::FORBIDDEN,
            Self::Refused(ReviewRefusal::Unknown(_)) => StatusCode::NOT_FOUND,
            Self::Refused(ReviewRefusal::Conflict(_)) => StatusCode::CONFLICT,
            Self::Refused(ReviewRefusal::Invalid(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unreadable(_) => StatusCode::BAD_REQUEST,
            Self::UnsupportedType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unavailable | Self::Refused(ReviewRefusal::Unavailable(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Unauthorized => "a valid token is needed".to_owned(),
            Self::Remote => "only from this machine: put a proxy with TLS before it".to_owned(),
            Self::Refused(refusal) => refusal.to_string(),
            Self::Unreadable(text) => text.clone(),
            Self::UnsupportedType => "a file is a PDF, a PNG or a JPEG".to_owned(),
            Self::TooLong { bytes_max } => format!("a body here has at most {bytes_max} bytes"),
            Self::Unavailable => "nothing more can be accepted now: try again".to_owned(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, Json(Body { problem: self.text() })).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        error!(error = %ErrorChain(&error), "a review cannot continue");
        Self::Unavailable
    }
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        error!(%error, "a mask cannot be read or stored");
        Self::Unavailable
    }
}

impl From<ReviewRefusal> for Problem {
    fn from(refusal: ReviewRefusal) -> Self {
        Self::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_is_turned_away_learns_when_to_try_again() {
        let response = Problem::Unavailable.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], RETRY_AFTER);
        let other = Problem::UnsupportedType.into_response();
        assert!(!other.headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn every_refusal_of_a_review_has_its_own_status() {
        let text = || "why".to_owned();
        for (refusal, status) in [
            (ReviewRefusal::Unknown(text()), 404),
            (ReviewRefusal::Forbidden(text()), 403),
            (ReviewRefusal::Conflict(text()), 409),
            (ReviewRefusal::Invalid(text()), 422),
            (ReviewRefusal::Unavailable(text()), 503),
        ] {
            assert_eq!(Problem::from(refusal).status().as_u16(), status);
        }
    }

    #[test]
    fn the_body_names_the_problem() {
        let body = serde_json::to_string(&Body { problem: Problem::Unauthorized.text() });
        assert_eq!(body.unwrap(), r#"{"problem":"a valid token is needed"}"#);
    }

    #[test]
    fn every_status_is_documented() {
        let api = include_str!("../../API.md");
        let text = || "why".to_owned();
        for problem in [
            Problem::Unauthorized,
            Problem::Remote,
            Problem::Refused(ReviewRefusal::Unknown(text())),
            Problem::Refused(ReviewRefusal::Conflict(text())),
            Problem::Refused(ReviewRefusal::Invalid(text())),
            Problem::Unreadable(text()),
            Problem::UnsupportedType,
            Problem::TooLong { bytes_max: 1 },
            Problem::Unavailable,
        ] {
            let status = problem.status().as_u16().to_string();
            assert!(api.contains(&status), "API.md does not document {status}");
        }
    }
}
