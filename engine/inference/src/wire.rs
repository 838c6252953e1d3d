//! The messages between the engine and the host process of a model, and the conversion of requests
//! and responses from and to the JSON of plugins.

use contracts::ModelFault;
use domain::{
    AnswerBox, AnswerFlaw, AnswerMask, InferRequest, InferResponse, InvalidInferRequest,
    RunLengths, TokenUsage,
};
use encoding::model_answer::{CitedBox, Flaw, ModelAnswer, cited_boxes};
use imaging::FlatMask;
use serde::{Deserialize, Serialize};

/// Reads the request of a plugin.
pub(crate) fn parse_request(json: &[u8]) -> Result<InferRequest, InferFault> {
    serde_json::from_slice(json)
        .map_err(|error| InferFault::refused(format!("the request cannot be read: {error}")))
}

/// Writes a response for a plugin.
pub(crate) fn write_response(response: &InferResponse) -> Result<String, InferFault> {
    serde_json::to_string(response)
        .map_err(|error| InferFault::refused(format!("the response cannot be written: {error}")))
}

/// Scales a mask of the mask decoder to the picture, which has this width and height.
pub(crate) fn answer_mask(
    decoded: &FlatMask,
    [width, height]: [u32; 2],
    iou: Option<f32>,
) -> AnswerMask {
    AnswerMask {
        picture: 0,
        size: [height, width],
        counts: decoded.resized(height, width).to_text(),
        drawn: RunLengths { size: [decoded.height, decoded.width], counts: decoded.to_text() },
        iou,
    }
}

/// Parses the generated text into a response without masks.
///
/// `resized` and `source` are width and height of the first picture, as the vision encoder
/// received it and as it was sent: cited boxes are mapped from the one to the other.
pub(crate) fn response_of_text(
    text: String,
    resized: Option<[u32; 2]>,
    source: Option<[u32; 2]>,
) -> InferResponse {
    let parts = ModelAnswer::parse(&text);
    let boxes = cited_boxes(&text).into_iter().map(|cited| answer_box(cited, resized, source));
    InferResponse {
        boxes: boxes.collect(),
        think: parts.think,
        answer: parts.answer,
        flaws: parts.flaws.into_iter().map(answer_flaw).collect(),
        is_truncated: false,
        masks: Vec::new(),
        usage: TokenUsage::default(),
        milliseconds: 0,
        model: String::new(),
        digest: String::new(),
        is_eight_bit: false,
        warning: None,
        text,
    }
}

fn answer_box(cited: CitedBox, resized: Option<[u32; 2]>, source: Option<[u32; 2]>) -> AnswerBox {
    let mapped =
        resized.zip(source).and_then(|(resized, source)| cited.on_source(resized, source).ok());
    AnswerBox {
        label: cited.label,
        cited: cited.corners,
        on_picture: mapped.map(|(corners, _is_clipped)| corners),
    }
}

const fn answer_flaw(flaw: Flaw) -> AnswerFlaw {
    match flaw {
        Flaw::Unmarked => AnswerFlaw::Unmarked,
        Flaw::UnclosedThought => AnswerFlaw::UnclosedThought,
        Flaw::UnclosedAnswer => AnswerFlaw::UnclosedAnswer,
        Flaw::Repeated => AnswerFlaw::Repeated,
        Flaw::Empty => AnswerFlaw::Empty,
    }
}

/// Which party can do something about a fault, and so whether a retry could help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The request itself cannot be served, now or later.
    Refused,
    /// The deadline of the request has passed.
    DeadlineExceeded,
    /// The model cannot serve the request now; a retry may succeed.
    Unavailable,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct InferFault {
    /// The kind of fault, on which callers decide.
    pub kind: FaultKind,
    /// The reason for people.
    pub reason: String,
}

impl InferFault {
    /// A request that cannot be served, now or later.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self { kind: FaultKind::Refused, reason: reason.into() }
    }

    /// A request whose deadline has passed.
    pub(crate) fn deadline_exceeded() -> Self {
        Self { kind: FaultKind::DeadlineExceeded, reason: "it was not answered in time".to_owned() }
    }

    /// A request that may be served another time.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self { kind: FaultKind::Unavailable, reason: reason.into() }
    }

    /// Whether the same request could be served another time.
    pub const fn is_retryable(&self) -> bool {
        matches!(self.kind, FaultKind::Unavailable)
    }
}

impl From<InvalidInferRequest> for InferFault {
    fn from(error: InvalidInferRequest) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<InferFault> for ModelFault {
    fn from(fault: InferFault) -> Self {
        Self { is_retryable: fault.is_retryable(), reason: fault.reason }
    }
}

/// A message from the engine to the host process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum HostCommand {
    /// Serve a request.
    Infer {
        /// The number that all messages about this request carry.
        id: u64,
        /// The request.
        request: Box<InferRequest>,
        /// Whether the generated text is sent as it grows.
        is_streamed: bool,
    },
    /// Drop a request: its caller has gone.
    Cancel {
        /// The number of the request.
        id: u64,
    },
}

/// A message from the host process to the engine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum HostEvent {
    /// The model is loaded.
    Ready,
    /// The model cannot be loaded.
    LoadFailed {
        /// The reason for people.
        reason: String,
    },
    /// The process works on a request that takes long.
    Heartbeat,
    /// More of a generated text.
    TextDelta {
        /// The number of the request.
        id: u64,
        /// The text since the last delta.
        text: String,
    },
    /// The response to a request, or the reason there is none.
    Finished {
        /// The number of the request.
        id: u64,
        /// The response or the fault.
        outcome: Box<Result<InferResponse, InferFault>>,
    },
}
