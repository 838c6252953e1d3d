//! `POST /api/documents`: pages that arrive over HTTP, stored like a message that carries a file.

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use contracts::{
    Admission as _, Answers, MessageArrival, MessageEffect, MessageIntake as _, Reviewer,
};
use domain::{Attachment, ExchangedDocument, MessageType, PatientId};
use orchestrator::IntakeService;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::problem::Problem;

/// The path of this call.
pub(super) const ROUTE: &str = "/api/documents";

/// The upper bound of a file, in bytes.
pub(super) const FILE_BYTES_MAX: usize = 32 << 20;

/// The type of these messages, as `message.type` in conditions.
const MESSAGE_TYPE: &str = "HTTP^DOC";

/// A type of file that is accepted.
struct FileType {
    /// The first bytes of every file of this type.
    signature: &'static [u8],
    media_type: &'static str,
}

const FILE_TYPES: [FileType; 3] = [
    FileType { signature: b"%PDF-", media_type: "application/pdf" },
    FileType { signature: b"\x89PNG\r\n\x1a\n", media_type: "image/png" },
    FileType { signature: b"\xff\xd8\xff", media_type: "image/jpeg" },
];

/// The media type of a file, by its first bytes.
fn media_type(file: &[u8]) -> Option<&'static str> {
    FILE_TYPES.iter().find(|it| file.starts_with(it.signature)).map(|it| it.media_type)
}

/// What the query says about the file in the body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct About {
    /// The identifier of the patient.
    patient: String,
    /// The issuer of that identifier.
    #[serde(default)]
    issuer: String,
    /// The accession number of the order it belongs to.
    #[serde(default)]
    accession: String,
    /// The name of the file.
    #[serde(default)]
    name: String,
    /// The sender's number of the file: a file that comes again under its number is stored once.
    #[serde(default)]
    number: String,
}

/// The answer to a file that is stored.
#[derive(Serialize)]
pub(super) struct StoredDocument {
    number: String,
    sha256: String,
    #[serde(rename = "type")]
    media_type: &'static str,
}

/// Stores a file. The answer is given only when the file is durable.
pub(super) async fn accept(
    State(intake): State<Arc<IntakeService>>,
    Extension(by): Extension<Reviewer>,
    Query(about): Query<About>,
    body: Bytes,
) -> Result<(StatusCode, Json<StoredDocument>), Problem> {
    intake.check_admitting().map_err(|_| Problem::Unavailable)?;
    let media_type = media_type(&body).ok_or(Problem::UnsupportedType)?;
    let patient = PatientId::new(&about.patient, &about.issuer)
        .ok_or_else(|| Problem::Unreadable("`patient` is no identifier".to_owned()))?;
    let sha256 = hex::encode(Sha256::digest(&body));
    let number = if about.number.is_empty() { sha256.clone() } else { about.number.clone() };
    let answer = StoredDocument { number: number.clone(), sha256: sha256.clone(), media_type };
    let answer_bytes = serde_json::to_vec(&answer).map_err(|_| Problem::Unavailable)?;
    let document = ExchangedDocument {
        message_type: MESSAGE_TYPE.to_owned(),
        attachments: vec![Attachment {
            name: about.name,
            media_type: media_type.to_owned(),
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
        processing_id: String::new(),
        stated_at: None,
        effects,
        answers: Answers { first: Some(answer_bytes), application: None },
        acknowledgement_code: "201".to_owned(),
        problem: None,
        flags: Vec::new(),
    };
    intake.accept_message(arrival).await.map_err(|_| Problem::Unavailable)?;
    Ok((StatusCode::CREATED, Json(answer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_its_first_bytes_say() {
        assert_eq!(media_type(b"%PDF-1.7"), Some("application/pdf"));
        assert_eq!(media_type(b"\x89PNG\r\n\x1a\n\0"), Some("image/png"));
        assert_eq!(media_type(b"\xff\xd8\xff\xe0"), Some("image/jpeg"));
        assert_eq!(media_type(b"PK\x03\x04"), None);
        assert_eq!(media_type(b""), None);
    }

    #[test]
    fn the_answer_names_number_digest_and_type() {
        let answer = StoredDocument {
            number: "7".to_owned(),
            sha256: "ab".to_owned(),
            media_type: "image/png",
        };
        let json = serde_json::to_string(&answer).unwrap();
        assert_eq!(json, r#"{"number":"7","sha256":"ab","type":"image/png"}"#);
    }

    #[test]
    fn a_misspelt_parameter_is_an_error() {
        let parse = |text: &str| serde_json::from_str::<About>(text).is_ok();
        assert!(parse(r#"{"patient": "77"}"#));
        assert!(!parse(r#"{"patient": "77", "acession": "A1"}"#));
        assert!(!parse("{}"));
    }
}
