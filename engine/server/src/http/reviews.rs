//! `/api`: people's work on results (OUT-80..83). Every call needs a token; answers are JSON, masks bytes.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use contracts::{ReviewRefusal, ReviewVersion, Reviewer};
use domain::{Meaning, NodeOutput};
use jiff::Timestamp;
use orchestrator::{Current, Decision, ReviewDesk};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::problem::Problem;

/// Most bytes of a result that somebody sends.
const CONTENT_MAX: usize = 16 << 20;

/// Most bytes of a mask.
const MASK_MAX: usize = 512 << 20;

/// The routes.
pub(crate) fn routes(desk: ReviewDesk) -> Router {
    Router::new()
        .route("/api/reviews", get(list))
        .route("/api/runs/{run}/result", get(show).put(edit))
        .route("/api/runs/{run}/{decision}", post(decide))
        .layer(DefaultBodyLimit::max(CONTENT_MAX))
        .route("/api/runs/{run}/masks/{digest}", get(mask))
        .route("/api/masks", put(keep_mask).layer(DefaultBodyLimit::max(MASK_MAX)))
        .with_state(desk)
}

async fn list(
    State(desk): State<ReviewDesk>,
    Extension(by): Extension<Reviewer>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(desk.open(&by).await?)))
}

async fn show(
    State(desk): State<ReviewDesk>,
    Extension(by): Extension<Reviewer>,
    Path(run): Path<Uuid>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(shown(&desk.look(run, &by).await??)))
}

fn shown(current: &Current) -> Value {
    let view = &current.view;
    let version = |it: &ReviewVersion| {
        json!({
            "version": it.attestation.version, "state": it.state, "by": it.attestation.by,
            "at": it.attestation.at, "meaning": it.attestation.meaning,
            "digest": it.attestation.digest, "content": it.content,
        })
    };
    let lock = view.lock.as_ref().map(|(who, until)| json!({"by": who.person, "until": until}));
    json!({
        "run": view.run.id,
        "workflow": view.run.workflow,
        "study": view.run.study,
        "waits": view.open,
        "state": view.versions.last().map(|it| it.state),
        "digest": current.digest,
        "content": current.content,
        "versions": view.versions.iter().map(version).collect::<Vec<_>>(),
        "lock": lock,
    })
}

/// Takes in a decision, and answers with the result as it stands then.
async fn taken_in(
    desk: &ReviewDesk,
    run: Uuid,
    by: &Reviewer,
    decision: Decision,
) -> Result<Json<Value>, Problem> {
    desk.decide(run, by, decision, Timestamp::now()).await??;
    Ok(Json(shown(&desk.look(run, by).await??)))
}

/// Reads what was sent. A misspelt key is an error, for it was meant to say something.
fn read<T: for<'a> Deserialize<'a>>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::Unreadable(error.to_string()))
}

/// Signing repeats the token: who signs is there, not only their open window (21 CFR 11.200).
async fn check_token(desk: &ReviewDesk, by: &Reviewer, token: &str) -> Result<(), Problem> {
    let again = desk.let_in(token).await?;
    if again.is_some_and(|it| it.token == by.token) { Ok(()) } else { Err(Problem::NotLetIn) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditBody {
    seen: String,
    content: Box<NodeOutput>,
}

async fn edit(
    State(desk): State<ReviewDesk>,
    Extension(by): Extension<Reviewer>,
    Path(run): Path<Uuid>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let EditBody { seen, content } = read(&body)?;
    taken_in(&desk, run, &by, Decision::Edit { seen, content }).await
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

/// Everything that is decided and is no edit.
async fn decide(
    State(desk): State<ReviewDesk>,
    Extension(by): Extension<Reviewer>,
    Path((run, what)): Path<(Uuid, String)>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let (decision, token) = match what.as_str() {
        "claim" => (Decision::Claim, None),
        "release" => (Decision::Release, None),
        "sign" => {
            let SignBody { seen, meaning, token } = read(&body)?;
            (Decision::Sign { seen, meaning }, Some(token))
        }
        "amend" => {
            let AmendBody { seen, content, reason, token } = read(&body)?;
            (Decision::Amend { seen, content, reason }, Some(token))
        }
        "reject" => {
            let ReasonBody { seen, reason, token } = read(&body)?;
            (Decision::Reject { seen, reason }, Some(token))
        }
        "withdraw" => {
            let ReasonBody { seen, reason, token } = read(&body)?;
            (Decision::Withdraw { seen, reason }, Some(token))
        }
        _ => return Err(ReviewRefusal::Unknown("there is no such call".to_owned()).into()),
    };
    if let Some(token) = token {
        check_token(&desk, &by, &token).await?;
    }
    taken_in(&desk, run, &by, decision).await
}

async fn mask(
    State(desk): State<ReviewDesk>,
    Extension(by): Extension<Reviewer>,
    Path((run, digest)): Path<(Uuid, String)>,
) -> Result<Response, Problem> {
    let current = desk.look(run, &by).await??;
    let bits = desk.mask(&current, &digest).await?;
    let bits =
        bits.ok_or_else(|| ReviewRefusal::Unknown("the result has no such mask".to_owned()))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bits).into_response())
}

async fn keep_mask(State(desk): State<ReviewDesk>, body: Bytes) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(desk.keep_mask(body.to_vec()).await?)))
}
