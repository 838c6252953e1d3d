//! `/api`: people review results (OUT-80..83). Every call needs a token; answers are JSON, masks
//! are bytes.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use contracts::{OpenReview, ReviewLock, ReviewRefusal, ReviewVersion, Reviewer};
use domain::{
    ArtifactRef, Meaning, NodeOutput, Person, ReviewState, StudyInstanceUid, WorkflowRef,
};
use jiff::Timestamp;
use orchestrator::{CurrentResult, ReviewDecision, ReviewService};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::bodies::{self, BodyBudget};
use super::problem::Problem;

// The paths of the calls, documented in `API.md`.
pub(super) const REVIEWS: &str = "/api/reviews";
pub(super) const RESULT: &str = "/api/runs/{run}/result";
pub(super) const DECISION: &str = "/api/runs/{run}/{decision}";
pub(super) const MASK: &str = "/api/runs/{run}/masks/{digest}";
pub(super) const MASKS: &str = "/api/masks";

/// The upper bound of a result that is sent here, in bytes.
const CONTENT_BYTES_MAX: usize = 16 << 20;

/// The routes for people who review.
pub(super) fn routes(reviews: ReviewService, budget: &BodyBudget) -> Router {
    let charge =
        |bytes_max| middleware::from_fn_with_state(budget.of_route(bytes_max), bodies::charge);
    let mask_bytes_max = budget.mask_bytes_max();
    let masks =
        put(store_mask).layer(DefaultBodyLimit::max(mask_bytes_max)).layer(charge(mask_bytes_max));
    Router::new()
        .route(REVIEWS, get(list))
        .route(RESULT, get(show).put(edit))
        .route(DECISION, post(decide))
        .layer(DefaultBodyLimit::max(CONTENT_BYTES_MAX))
        .layer(charge(CONTENT_BYTES_MAX))
        .route(MASK, get(mask))
        .route(MASKS, masks)
        .with_state(reviews)
}

/// A result as it stands, with its history.
#[derive(Serialize)]
struct ResultView {
    run: Uuid,
    workflow: WorkflowRef,
    study: Option<StudyInstanceUid>,
    /// Nodes that wait for a person.
    waits: Vec<String>,
    /// The state of the newest version. Nothing, for a draft.
    state: Option<ReviewState>,
    /// The run whose signed result stands until this one is signed.
    signed_before: Option<Uuid>,
    /// SHA-256 of the content: a decision repeats it as `seen`.
    digest: String,
    content: NodeOutput,
    versions: Vec<VersionView>,
    lock: Option<LockView>,
}

/// What a person made of a result.
#[derive(Serialize)]
struct VersionView {
    version: u32,
    state: ReviewState,
    by: Person,
    at: Timestamp,
    meaning: Option<Meaning>,
    digest: String,
    content: NodeOutput,
}

/// Who has claimed a result.
#[derive(Serialize)]
struct LockView {
    by: Person,
    until: Timestamp,
}

impl From<CurrentResult> for ResultView {
    fn from(current: CurrentResult) -> Self {
        let CurrentResult { view, content, digest } = current;
        Self {
            run: view.run.id,
            workflow: view.run.workflow,
            study: view.run.study,
            waits: view.open,
            state: view.versions.last().map(|it| it.state),
            signed_before: view.standing.map(|it| it.run),
            digest,
            content,
            versions: view.versions.into_iter().map(VersionView::from).collect(),
            lock: view.lock.map(LockView::from),
        }
    }
}

impl From<ReviewLock> for LockView {
    fn from(lock: ReviewLock) -> Self {
        Self { by: lock.holder.person, until: lock.until }
    }
}

impl From<ReviewVersion> for VersionView {
    fn from(version: ReviewVersion) -> Self {
        let ReviewVersion { state, attestation, content } = version;
        Self {
            version: attestation.version,
            state,
            by: attestation.by,
            at: attestation.at,
            meaning: attestation.meaning,
            digest: attestation.digest,
            content,
        }
    }
}

async fn list(
    State(reviews): State<ReviewService>,
    Extension(by): Extension<Reviewer>,
) -> Result<Json<Vec<OpenReview>>, Problem> {
    Ok(Json(reviews.open_reviews(&by).await?))
}

async fn show(
    State(reviews): State<ReviewService>,
    Extension(by): Extension<Reviewer>,
    Path(run): Path<Uuid>,
) -> Result<Json<ResultView>, Problem> {
    Ok(Json(reviews.current(run, &by).await??.into()))
}

/// Carries out a decision, and answers with the result as it stands then.
async fn decided(
    reviews: &ReviewService,
    run: Uuid,
    by: &Reviewer,
    decision: ReviewDecision,
) -> Result<Json<ResultView>, Problem> {
    reviews.decide(run, by, decision, Timestamp::now()).await??;
    Ok(Json(reviews.current(run, by).await??.into()))
}

/// Parses a body. A misspelt key is an error: the caller meant something by it.
fn read<T: for<'a> Deserialize<'a>>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::Unreadable(error.to_string()))
}

/// Checks the token that a signature repeats: the signer is present, not only their open window
/// (21 CFR 11.200).
async fn check_token(reviews: &ReviewService, by: &Reviewer, token: &str) -> Result<(), Problem> {
    let signer = reviews.authenticate(token).await?;
    if signer.is_some_and(|it| it.token == by.token) { Ok(()) } else { Err(Problem::Unauthorized) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditBody {
    seen: String,
    content: Box<NodeOutput>,
}

async fn edit(
    State(reviews): State<ReviewService>,
    Extension(by): Extension<Reviewer>,
    Path(run): Path<Uuid>,
    body: Bytes,
) -> Result<Json<ResultView>, Problem> {
    let EditBody { seen, content } = read(&body)?;
    decided(&reviews, run, &by, ReviewDecision::Edit { seen_digest: seen, content }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignBody {
    seen: String,
    meaning: Meaning,
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReasonBody {
    seen: String,
    reason: String,
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AmendBody {
    seen: String,
    content: Box<NodeOutput>,
    reason: String,
    token: String,
}

/// Every decision that is no edit.
async fn decide(
    State(reviews): State<ReviewService>,
    Extension(by): Extension<Reviewer>,
    Path((run, name)): Path<(Uuid, String)>,
    body: Bytes,
) -> Result<Json<ResultView>, Problem> {
    let DecisionCall { decision, signed_with } = DecisionCall::parse(&name, &body)?;
    if let Some(token) = signed_with {
        check_token(&reviews, &by, &token).await?;
    }
    decided(&reviews, run, &by, decision).await
}

/// A decision as it was called for.
#[derive(Debug)]
struct DecisionCall {
    decision: ReviewDecision,
    /// The token that a signature repeats.
    signed_with: Option<String>,
}

impl DecisionCall {
    fn parse(name: &str, body: &Bytes) -> Result<Self, Problem> {
        Ok(match name {
            "claim" => Self { decision: ReviewDecision::Claim, signed_with: None },
            "release" => Self { decision: ReviewDecision::Release, signed_with: None },
            "sign" => {
                let SignBody { seen, meaning, token } = read(body)?;
                Self {
                    decision: ReviewDecision::Sign { seen_digest: seen, meaning },
                    signed_with: Some(token),
                }
            }
            "amend" => {
                let AmendBody { seen, content, reason, token } = read(body)?;
                let decision = ReviewDecision::Amend { seen_digest: seen, content, reason };
                Self { decision, signed_with: Some(token) }
            }
            "reject" => {
                let ReasonBody { seen, reason, token } = read(body)?;
                Self {
                    decision: ReviewDecision::Reject { seen_digest: seen, reason },
                    signed_with: Some(token),
                }
            }
            "withdraw" => {
                let ReasonBody { seen, reason, token } = read(body)?;
                Self {
                    decision: ReviewDecision::Withdraw { seen_digest: seen, reason },
                    signed_with: Some(token),
                }
            }
            _ => return Err(ReviewRefusal::Unknown("there is no such call".to_owned()).into()),
        })
    }
}

async fn mask(
    State(reviews): State<ReviewService>,
    Extension(by): Extension<Reviewer>,
    Path((run, digest)): Path<(Uuid, String)>,
) -> Result<Response, Problem> {
    let current = reviews.current(run, &by).await??;
    let bits = reviews.mask(&current, &digest).await?;
    let bits =
        bits.ok_or_else(|| ReviewRefusal::Unknown("the result has no such mask".to_owned()))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bits).into_response())
}

async fn store_mask(
    State(reviews): State<ReviewService>,
    body: Bytes,
) -> Result<Json<ArtifactRef>, Problem> {
    Ok(Json(reviews.store_mask(body.into()).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, body: &'static str) -> Result<DecisionCall, Problem> {
        DecisionCall::parse(name, &Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn a_signature_repeats_the_token() {
        let body = r#"{"seen": "ab", "meaning": "approved", "token": "iso_x"}"#;
        let call = parse("sign", body).unwrap();
        assert_eq!(call.signed_with.as_deref(), Some("iso_x"));
        assert!(matches!(call.decision, ReviewDecision::Sign { .. }));
        let without = r#"{"seen": "ab", "meaning": "approved"}"#;
        assert!(matches!(parse("sign", without), Err(Problem::Unreadable(_))));
    }

    #[test]
    fn a_claim_needs_no_body_and_no_token() {
        let call = parse("claim", "").unwrap();
        assert!(matches!(call.decision, ReviewDecision::Claim) && call.signed_with.is_none());
    }

    #[test]
    fn a_misspelt_key_or_an_unknown_decision_is_refused() {
        let body = r#"{"seen": "ab", "raeson": "x", "token": "iso_x"}"#;
        assert!(matches!(parse("reject", body), Err(Problem::Unreadable(_))));
        let refused = parse("approve", "{}");
        assert!(matches!(refused, Err(Problem::Refused(ReviewRefusal::Unknown(_)))));
    }

    #[test]
    fn a_lock_is_shown_with_its_person_and_its_end() {
        let by = Person {
            name: "Doe^Jane".to_owned(),
            organization: "City Hospital".to_owned(),
            role: "radiologist".to_owned(),
        };
        let shown = serde_json::to_value(LockView { by, until: Timestamp::UNIX_EPOCH }).unwrap();
        assert_eq!(shown["by"]["name"], "Doe^Jane");
        assert_eq!(shown["until"], "1970-01-01T00:00:00Z");
    }
}
