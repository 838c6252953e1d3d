//! What the engine and the model's process say to each other, and how questions and answers are read and
//! written.

use contracts::ModelFault;
use domain::{AnswerBox, AnswerMask, InferAnswer, InferRequest, InvalidQuestion, Runs};
use encoding::model_answer::{ModelAnswer, cited_boxes};
use imaging::FlatMask;
use serde::{Deserialize, Serialize};

/// A plugin's question.
pub(crate) fn question(json: &[u8]) -> Result<InferRequest, InferFault> {
    serde_json::from_slice(json)
        .map_err(|error| InferFault::refused(format!("the question cannot be read: {error}")))
}

/// An answer as a plugin gets it.
pub(crate) fn written(answer: &InferAnswer) -> Result<String, InferFault> {
    serde_json::to_string(answer)
        .map_err(|error| InferFault::refused(format!("the answer cannot be written: {error}")))
}

/// A mask as it was drawn into the first picture, which has this width and height.
pub(crate) fn mask_of(drawn: &FlatMask, [width, height]: [u32; 2], iou: Option<f32>) -> AnswerMask {
    AnswerMask {
        picture: 0,
        size: [height, width],
        counts: drawn.resized(height, width).to_text(),
        drawn: Runs { size: [drawn.height, drawn.width], counts: drawn.to_text() },
        iou,
    }
}

/// What a text says: `seen` and `source` are width and height of the first picture as the model saw
/// it and as it was sent.
pub(crate) fn answer_of(
    text: String,
    seen: Option<[u32; 2]>,
    source: Option<[u32; 2]>,
) -> InferAnswer {
    let parts = ModelAnswer::parse(&text);
    let boxes = cited_boxes(&text).into_iter().map(|it| {
        let on = seen.zip(source).and_then(|(seen, source)| it.on_source(seen, source).ok());
        AnswerBox { label: it.label, cited: it.corners, on_picture: on.map(|it| it.0) }
    });
    InferAnswer {
        boxes: boxes.collect(),
        think: parts.think,
        answer: parts.answer,
        flaws: parts.flaws.iter().map(|it| format!("{it:?}")).collect(),
        is_cut: false,
        masks: Vec::new(),
        tokens: [0, 0],
        recalled: 0,
        milliseconds: 0,
        model: String::new(),
        digest: String::new(),
        is_eight_bit: false,
        warning: None,
        text,
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct InferFault {
    /// Whether the same question could be answered another time.
    pub is_retryable: bool,
    /// Why.
    pub reason: String,
}

impl InferFault {
    /// The question cannot be answered, now or later.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self { is_retryable: false, reason: reason.into() }
    }

    /// Its deadline has passed.
    pub(crate) fn late() -> Self {
        Self::refused("it was not answered in time")
    }

    /// It may be answered another time.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self { is_retryable: true, reason: reason.into() }
    }
}

impl From<InvalidQuestion> for InferFault {
    fn from(error: InvalidQuestion) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<InferFault> for ModelFault {
    fn from(fault: InferFault) -> Self {
        Self { is_retryable: fault.is_retryable, reason: fault.reason }
    }
}

/// From the engine to the model's process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub(crate) enum Ask {
    /// A question, by a number.
    Infer {
        /// Its number.
        id: u64,
        /// The question.
        request: Box<InferRequest>,
        /// Whether somebody wants to hear every word of the answer at once.
        is_heard: bool,
    },
    /// Nobody wants the answer any more.
    Cancel {
        /// Its number.
        id: u64,
    },
}

/// From the model's process to the engine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase")]
pub(crate) enum Say {
    /// The model is loaded.
    Ready,
    /// It cannot be.
    Unusable {
        /// Why.
        reason: String,
    },
    /// It works, and has not come to the end of anything.
    Alive,
    /// Further words of an answer.
    Said {
        /// Of which question.
        id: u64,
        /// The words.
        text: String,
    },
    /// An answer, or why there is none.
    Done {
        /// Of which question.
        id: u64,
        /// The answer.
        outcome: Box<Result<InferAnswer, InferFault>>,
    },
}
