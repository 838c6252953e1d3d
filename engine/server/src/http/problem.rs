//! Why a call to `/api` is not answered, as the caller sees it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use contracts::{ReviewRefusal, StoreError};
use domain::ErrorChain;
use serde_json::json;
use tracing::error;

/// After how many seconds somebody may come again.
const RETRY_AFTER: &str = "5";

/// Why a call is not answered.
pub(super) enum Problem {
    /// No token, or one that is not valid now.
    NotLetIn,
    /// Not over a network that anybody may listen to.
    TooFar,
    /// The decision cannot be.
    Refused(ReviewRefusal),
    /// What was sent is no result.
    Unreadable(String),
    /// The file is of no type that is taken.
    UnknownType,
    /// It may be later.
    Unavailable,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::NotLetIn => (StatusCode::UNAUTHORIZED, "a valid token is needed".to_owned()),
            Self::TooFar => {
                let text = "only from this machine: put a proxy with TLS before it";
                (StatusCode::FORBIDDEN, text.to_owned())
            }
            Self::Refused(refusal) => {
                let status = match refusal {
                    ReviewRefusal::Unknown(_) => StatusCode::NOT_FOUND,
                    ReviewRefusal::Forbidden(_) => StatusCode::FORBIDDEN,
                    ReviewRefusal::Conflict(_) => StatusCode::CONFLICT,
                    ReviewRefusal::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
                };
                (status, refusal.to_string())
            }
            Self::Unreadable(text) => (StatusCode::BAD_REQUEST, text),
            Self::UnknownType => {
                let text = "a file is a PDF, a PNG or a JPEG";
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, text.to_owned())
            }
            Self::Unavailable => {
                let text = "nothing more can be taken just now: try again";
                (StatusCode::SERVICE_UNAVAILABLE, text.to_owned())
            }
        };
        let mut response = (status, Json(json!({ "problem": text }))).into_response();
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
        error!(error = %ErrorChain(&error), "a review cannot go on");
        Self::Unavailable
    }
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        error!(%error, "a mask cannot be read or kept");
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
    fn who_is_turned_away_is_told_when_to_try_again() {
        let response = Problem::Unavailable.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], RETRY_AFTER);
        let other = Problem::UnknownType.into_response();
        assert!(!other.headers().contains_key(header::RETRY_AFTER));
    }
}
