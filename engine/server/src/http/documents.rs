//! `POST /api/documents`: pages that come over HTTP, kept like a message that carries a file.

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use contracts::{Answers, Intake, MessageArrival, MessageEffect, Reviewer};
use domain::{Attachment, ExchangedDocument, MessageType, PatientId};
use orchestrator::IntakeService;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::problem::Problem;

/// Most bytes of a file.
pub(super) const FILE_MAX: usize = 32 << 20;

/// What these messages are called, as `message.type` in conditions.
const MESSAGE_TYPE: &str = "HTTP^DOC";

/// How files begin, and what they are then.
const TYPES: [(&[u8], &str); 3] = [
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
];

/// What is said about a file beside it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct About {
    /// Whose it is.
    patient: String,
    /// Who gave that number.
    #[serde(default)]
    issuer: String,
    /// The order it belongs to.
    #[serde(default)]
    accession: String,
    /// What it is called.
    #[serde(default)]
    name: String,
    /// The sender's number of it: what comes twice under one number is kept once.
    #[serde(default)]
    number: String,
}

/// Keeps a file. The answer is given only when it is kept.
pub(super) async fn keep(
    State(intake): State<Arc<IntakeService>>,
    Extension(by): Extension<Reviewer>,
    Query(about): Query<About>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    intake.is_admitting().map_err(|_| Problem::Unavailable)?;
    let known = TYPES.iter().find(|(start, _)| body.starts_with(start));
    let (_, media_type) = known.ok_or(Problem::UnknownType)?;
    let patient = PatientId::new(&about.patient, &about.issuer)
        .ok_or_else(|| Problem::Unreadable("`patient` is no number".to_owned()))?;
    let sha256 = hex::encode(Sha256::digest(&body));
    let number = if about.number.is_empty() { sha256.clone() } else { about.number.clone() };
    let answer = json!({ "number": number, "sha256": sha256, "type": media_type });
    let document = ExchangedDocument {
        message_type: MESSAGE_TYPE.to_owned(),
        attachments: vec![Attachment {
            name: about.name,
            media_type: (*media_type).to_owned(),
            base64: BASE64_STANDARD.encode(&body),
        }],
        ..ExchangedDocument::default()
    };
    let patient = Some(patient);
    let effects = vec![MessageEffect::Document { patient, document, accession: about.accession }];
    let arrival = MessageArrival {
        address: "HTTP".to_owned(),
        connection: None,
        raw: body.to_vec(),
        sha256,
        sending_application: by.person.name,
        sending_facility: by.person.organization,
        message_type: MessageType::new("HTTP", "DOC"),
        control_id: number,
        said_at: None,
        effects,
        answers: Answers { first: Some(answer.to_string().into_bytes()), application: None },
        acknowledgement_code: "201".to_owned(),
        problem: None,
    };
    intake.note_message(arrival).await.map_err(|_| Problem::Unavailable)?;
    Ok((StatusCode::CREATED, Json(answer)))
}
