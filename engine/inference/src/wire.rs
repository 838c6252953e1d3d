//! What is asked of the model and what it answers, as JSON: the same for plugins and for the model's own
//! process.

use contracts::ModelFault;
use encoding::model_answer::{ModelAnswer, cited_boxes};
use imaging::FlatMask;
use serde::{Deserialize, Serialize};

use crate::scheduler::Priority;

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Whoever set it up.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Utterance {
    /// By whom.
    pub role: Role,
    /// The text.
    pub text: String,
    /// How many of the pictures come before the text.
    #[serde(default)]
    pub pictures: usize,
}

/// How tokens are sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Most tokens of the answer.
    pub tokens_max: usize,
    /// Temperature of the sampling; at 0 the likeliest token is taken.
    pub temperature: f32,
    /// Nucleus sampling: only the likeliest tokens that make up this share.
    pub top_p: f32,
    /// Repetition penalty for tokens that were said already; 1 is none.
    pub repetition_penalty: f32,
    /// The same seed says the same.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { tokens_max: 1024, temperature: 0.0, top_p: 1.0, repetition_penalty: 1.0, seed: 0 }
    }
}

/// A question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferRequest {
    /// How urgent it is.
    #[serde(default)]
    pub priority: Priority,
    /// Milliseconds after which nobody wants the answer any more.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// The conversation, which ends with what is to be answered.
    pub messages: Vec<Utterance>,
    /// Pictures, PNG or JPEG in base 64, in the order of the conversation.
    #[serde(default)]
    pub pictures: Vec<String>,
    /// Which picture, counted from 0, the first `[SEG]` is drawn into, which the second, and so on; the
    /// last one holds for all further ones. Nothing: all into the first, as the release does.
    #[serde(default)]
    pub mask_pictures: Vec<usize>,
    /// Least and most pixels the model sees of a picture.
    #[serde(default)]
    pub pixels: Option<[u64; 2]>,
    /// How tokens are sampled.
    #[serde(default)]
    pub sampling: Sampling,
}

/// Most tokens that may be asked for.
const TOKENS_MAX: usize = 32_768;

/// Most pixels of a picture that the model may be shown: attention takes memory with their square.
const PIXELS_MAX: u64 = 2_000_000;

/// Most pictures of a question, and bytes of all of them in base 64.
const PICTURES_MAX: usize = 16;
const PICTURE_BYTES_MAX: usize = 192 << 20;

impl InferRequest {
    /// A plugin's question.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, InferFault> {
        serde_json::from_slice(json)
            .map_err(|error| InferFault::refused(format!("the question cannot be read: {error}")))
    }

    /// Whether it can be asked at all: before it reaches a process that has others to answer.
    ///
    /// # Errors
    ///
    /// Says what is beyond its limit.
    pub fn check(&self) -> Result<(), InferFault> {
        let Sampling { tokens_max, temperature, top_p, repetition_penalty, .. } = self.sampling;
        let told = |what: &str| Err(InferFault::refused(what));
        if !(0.0..=10.0).contains(&temperature)
            || !(0.0..=1.0).contains(&top_p)
            || !(0.1..=10.0).contains(&repetition_penalty)
        {
            return told(
                "temperature is from 0 to 10, top_p from 0 to 1, repetition_penalty from 0.1 to 10",
            );
        }
        if tokens_max > TOKENS_MAX {
            return told("tokens_max is at most 32768");
        }
        if self.pixels.is_some_and(|[min, max]| min > max || max > PIXELS_MAX) {
            return told("pixels are a least and a most, of at most 2000000");
        }
        let bytes: usize = self.pictures.iter().map(String::len).sum();
        if self.pictures.len() > PICTURES_MAX || bytes > PICTURE_BYTES_MAX {
            return told("at most 16 pictures, and 192 MiB of them in base 64");
        }
        if self.mask_pictures.iter().any(|it| *it >= self.pictures.len()) {
            return told("mask_pictures names a picture that is not there; the first is 0");
        }
        Ok(())
    }

    /// Which picture the `[SEG]` of this number is drawn into.
    pub(crate) fn mask_picture(&self, seg: usize) -> usize {
        self.mask_pictures.get(seg).or(self.mask_pictures.last()).copied().unwrap_or_default()
    }
}

/// A box that the answer cites.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerBox {
    /// What is in it.
    pub label: String,
    /// As it stands in the text, in pixels as the model saw them.
    pub cited: [f64; 4],
    /// On the first picture as it was sent; nothing, if it lies beside it or is none.
    pub on_picture: Option<[u32; 4]>,
}

/// A mask as run lengths, in the text of COCO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// Rows and columns.
    pub size: [u32; 2],
    /// The run lengths.
    pub counts: String,
}

/// A mask that was drawn for a `[SEG]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerMask {
    /// Which picture it lies on, counted from 0.
    #[serde(default)]
    pub picture: usize,
    /// Rows and columns: those of this picture as it was sent.
    pub size: [u32; 2],
    /// Run lengths, in the text of COCO.
    pub counts: String,
    /// As the network drew it, in its own size.
    pub drawn: Runs,
    /// How good the network thinks it is, from 0 to 1; nothing, if it does not say.
    pub iou: Option<f32>,
}

impl AnswerMask {
    /// A mask as it was drawn into the first picture, which has this width and height.
    pub(crate) fn of(drawn: &FlatMask, [width, height]: [u32; 2], iou: Option<f32>) -> Self {
        Self {
            picture: 0,
            size: [height, width],
            counts: drawn.resized(height, width).to_text(),
            drawn: Runs { size: [drawn.height, drawn.width], counts: drawn.to_text() },
            iou,
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InferAnswer {
    /// All of it.
    pub text: String,
    /// Its thoughts; never part of a report (OUT-41).
    pub think: Option<String>,
    /// Without them.
    pub answer: String,
    /// What is not as it should be with it.
    pub flaws: Vec<String>,
    /// Whether it was as long as it may be, and perhaps not at its end.
    pub is_cut: bool,
    /// Boxes it cites.
    pub boxes: Vec<AnswerBox>,
    /// A mask for every `[SEG]`.
    pub masks: Vec<AnswerMask>,
    /// Tokens of question and answer.
    pub tokens: [usize; 2],
    /// Tokens of the question that were not read again, because a question before began alike.
    #[serde(default)]
    pub recalled: usize,
    /// Milliseconds from when it was asked.
    pub milliseconds: u64,
    /// Which model it was; filled in by the engine.
    #[serde(default)]
    pub model: String,
    /// Digest of its files; filled in by the engine.
    #[serde(default)]
    pub digest: String,
    /// What has to be said with it; filled in by the engine.
    #[serde(default)]
    pub warning: Option<String>,
}

impl InferAnswer {
    /// As a plugin gets it.
    pub(crate) fn to_json(&self) -> Result<String, InferFault> {
        serde_json::to_string(self)
            .map_err(|error| InferFault::refused(format!("the answer cannot be written: {error}")))
    }

    /// What a text says: `seen` and `source` are width and height of the first picture as the model saw
    /// it and as it was sent.
    pub(crate) fn of_text(text: String, seen: Option<[u32; 2]>, source: Option<[u32; 2]>) -> Self {
        let parts = ModelAnswer::parse(&text);
        let boxes = cited_boxes(&text).into_iter().map(|it| {
            let on = seen.zip(source).and_then(|(seen, source)| it.on_source(seen, source).ok());
            AnswerBox { label: it.label, cited: it.corners, on_picture: on.map(|it| it.0) }
        });
        Self {
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
            warning: None,
            text,
        }
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
