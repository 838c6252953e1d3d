//! The requests to the shared model and its responses, as JSON.
//!
//! Plugins, the engine and the model's host process exchange these types. They live here because
//! `domain` is the only crate below all three: a plugin may not depend on the `inference` crate.
//!
//! An [`InferRequest`] is a conversation with pictures. The [`InferResponse`] holds the generated
//! text, the reasoning and the answer in it, the boxes the text cites, and one mask for every
//! `[SEG]` token.

use serde::{Deserialize, Serialize};

/// How urgent a request is; the scheduler serves urgent requests first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// A person waits for the response beside a patient.
    Stat,
    /// Everything else.
    #[default]
    Routine,
}

/// The author of a message in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The author of the instructions that hold for the whole conversation.
    System,
    /// The person or plugin that asks.
    User,
    /// The model.
    Assistant,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// The author.
    pub role: Role,
    /// The text, which follows the pictures.
    pub text: String,
    /// The number of pictures before the text, taken from [`InferRequest::pictures`] in order.
    #[serde(default)]
    pub pictures: usize,
}

/// How the next token is chosen from the model's distribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// The maximum number of generated tokens.
    pub tokens_max: usize,
    /// The softmax temperature; 0 selects greedy decoding.
    pub temperature: f32,
    /// Nucleus sampling: only the most likely tokens whose probabilities add up to this are drawn.
    pub top_p: f32,
    /// The penalty on tokens that occur in the text already; 1 means none.
    pub repetition_penalty: f32,
    /// The seed of the random generator; equal seeds give equal texts.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { tokens_max: 1024, temperature: 0.0, top_p: 1.0, repetition_penalty: 1.0, seed: 0 }
    }
}

/// A request to the shared model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferRequest {
    /// How urgent it is.
    #[serde(default)]
    pub priority: Priority,
    /// Milliseconds after which the response is of no use to the caller.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// The conversation; the model continues after its last message.
    pub messages: Vec<ChatMessage>,
    /// The pictures in the order of the conversation, as PNG or JPEG in base 64.
    #[serde(default)]
    pub pictures: Vec<String>,
    /// For each `[SEG]` in order, the picture it is segmented in, counted from 0. The last entry
    /// holds for all further `[SEG]`. Empty: the first picture for all, as in the release.
    #[serde(default)]
    pub mask_pictures: Vec<usize>,
    /// Lower and upper bound on the pixels of a picture as the vision encoder receives it.
    #[serde(default)]
    pub pixels: Option<[u64; 2]>,
    /// How tokens are sampled.
    #[serde(default)]
    pub sampling: Sampling,
}

/// The upper limit of [`Sampling::tokens_max`].
const TOKENS_MAX: usize = 32_768;

/// The upper limit of [`InferRequest::pixels`]: the memory of attention grows with their square.
const PIXELS_MAX: u64 = 2_000_000;

/// The maximum number of pictures in a request.
const PICTURES_MAX: usize = 16;

/// The maximum size of all pictures of a request together, in base 64.
const PICTURE_BYTES_MAX: usize = 192 << 20;

/// The maximum size of all texts of a request together.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// The limit that an [`InferRequest`] exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidInferRequest {
    /// A sampling parameter is out of range or not a number.
    #[error("temperature is from 0 to 10, top_p from 0 to 1, repetition_penalty from 0.1 to 10")]
    Sampling,
    /// [`Sampling::tokens_max`] is too large.
    #[error("tokens_max is at most {TOKENS_MAX}")]
    TokensMax,
    /// [`InferRequest::pixels`] is empty as a range, or its upper bound is too large.
    #[error("pixels are a lower and an upper bound, of at most {PIXELS_MAX}")]
    Pixels,
    /// There are too many pictures, or they are too large.
    #[error("at most {PICTURES_MAX} pictures, and {} MiB of them in base 64", PICTURE_BYTES_MAX >> 20)]
    Pictures,
    /// The messages refer to more or fewer pictures than the request holds.
    #[error("the messages have places for more or fewer pictures than there are")]
    PictureCount,
    /// The messages are too long.
    #[error("at most {} MiB of text", TEXT_BYTES_MAX >> 20)]
    Text,
    /// [`InferRequest::mask_pictures`] refers to a picture that the request does not hold.
    #[error("mask_pictures names a picture that is not there; the first is 0")]
    MaskPicture,
}

impl InferRequest {
    /// Checks all limits before the request reaches the host process, which other requests share.
    ///
    /// # Errors
    ///
    /// Returns the first limit that the request exceeds.
    pub fn check(&self) -> Result<(), InvalidInferRequest> {
        let Sampling { tokens_max, temperature, top_p, repetition_penalty, .. } = self.sampling;
        if !(0.0..=10.0).contains(&temperature)
            || !(0.0..=1.0).contains(&top_p)
            || !(0.1..=10.0).contains(&repetition_penalty)
        {
            return Err(InvalidInferRequest::Sampling);
        }
        if tokens_max > TOKENS_MAX {
            return Err(InvalidInferRequest::TokensMax);
        }
        if self.pixels.is_some_and(|[min, max]| min > max || max > PIXELS_MAX) {
            return Err(InvalidInferRequest::Pixels);
        }
        let picture_bytes: usize = self.pictures.iter().map(String::len).sum();
        if self.pictures.len() > PICTURES_MAX || picture_bytes > PICTURE_BYTES_MAX {
            return Err(InvalidInferRequest::Pictures);
        }
        let referenced =
            self.messages.iter().try_fold(0_usize, |sum, it| sum.checked_add(it.pictures));
        if referenced != Some(self.pictures.len()) {
            return Err(InvalidInferRequest::PictureCount);
        }
        let text_bytes: usize = self.messages.iter().map(|it| it.text.len()).sum();
        if text_bytes > TEXT_BYTES_MAX {
            return Err(InvalidInferRequest::Text);
        }
        if self.mask_pictures.iter().any(|it| *it >= self.pictures.len()) {
            return Err(InvalidInferRequest::MaskPicture);
        }
        Ok(())
    }

    /// The index of the picture in which the `[SEG]` with this index is segmented.
    pub fn mask_picture(&self, seg: usize) -> usize {
        self.mask_pictures.get(seg).or(self.mask_pictures.last()).copied().unwrap_or_default()
    }
}

/// A bounding box that the generated text cites.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerBox {
    /// The name of the object inside.
    pub label: String,
    /// Left, top, right and bottom as the text has them: pixels of the resized picture.
    pub cited: [f64; 4],
    /// The same corners on the first picture as it was sent; none if the box lies outside of it or
    /// the size of the resized picture is not known.
    pub on_picture: Option<[u32; 4]>,
}

/// A mask as run lengths in the compressed text of COCO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLengths {
    /// Rows and columns.
    pub size: [u32; 2],
    /// The run lengths.
    pub counts: String,
}

/// The segmentation mask of one `[SEG]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerMask {
    /// The index of the picture that the mask belongs to.
    #[serde(default)]
    pub picture: usize,
    /// Rows and columns: those of this picture as it was sent.
    pub size: [u32; 2],
    /// The run lengths at that size, in the compressed text of COCO.
    pub counts: String,
    /// The same mask at the resolution of the mask decoder.
    pub drawn: RunLengths,
    /// The IoU that the mask decoder predicts for this mask, from 0 to 1; none if the server does
    /// not report it.
    pub iou: Option<f32>,
}

/// A defect of the generated text or of the server's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnswerFlaw {
    /// The text has neither `<think>` nor `<answer>` tags.
    Unmarked,
    /// `<think>` is not closed.
    UnclosedThought,
    /// `<answer>` is not closed.
    UnclosedAnswer,
    /// A tag occurs more than once.
    Repeated,
    /// There is no answer.
    Empty,
    /// A remote server does not report masks, so that "no mask" does not mean "nothing found".
    MasksNotReported,
}

impl AnswerFlaw {
    /// Whether the answer is complete nevertheless: without tags, all of the text is the answer.
    pub const fn is_harmless(self) -> bool {
        matches!(self, Self::Unmarked | Self::MasksNotReported)
    }

    /// The name in JSON and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unmarked => "Unmarked",
            Self::UnclosedThought => "UnclosedThought",
            Self::UnclosedAnswer => "UnclosedAnswer",
            Self::Repeated => "Repeated",
            Self::Empty => "Empty",
            Self::MasksNotReported => "MasksNotReported",
        }
    }
}

/// The number of tokens that a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUsage {
    /// Tokens of the conversation, image tokens included.
    pub prompt_tokens: usize,
    /// Generated tokens.
    pub completion_tokens: usize,
    /// Prompt tokens that the prefix cache held already. Always 0 for plugins: otherwise a plugin
    /// could find out what others have asked.
    #[serde(default)]
    pub cached_tokens: usize,
}

/// The response of the shared model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InferResponse {
    /// The whole generated text.
    pub text: String,
    /// The reasoning between `<think>` and `</think>`; it never becomes part of a report (OUT-41).
    pub think: Option<String>,
    /// The text without the reasoning.
    pub answer: String,
    /// Defects of the text, for the caller to judge.
    pub flaws: Vec<AnswerFlaw>,
    /// Whether generation stopped at [`Sampling::tokens_max`], so that the text may be incomplete.
    pub is_truncated: bool,
    /// The bounding boxes that the text cites.
    pub boxes: Vec<AnswerBox>,
    /// One mask for every `[SEG]`.
    pub masks: Vec<AnswerMask>,
    /// The number of tokens of prompt and completion.
    pub usage: TokenUsage,
    /// Milliseconds from the arrival of the request to the response.
    pub milliseconds: u64,
    /// The name of the model; the engine fills it in.
    #[serde(default)]
    pub model: String,
    /// The digest of the model's files; the engine fills it in.
    #[serde(default)]
    pub digest: String,
    /// Whether the language model's weights are quantized to eight bits; the engine fills it in.
    #[serde(default)]
    pub is_eight_bit: bool,
    /// The warning that must accompany the text, such as "not for clinical use"; the engine fills
    /// it in.
    #[serde(default)]
    pub warning: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> InferRequest {
        InferRequest {
            priority: Priority::Routine,
            deadline_ms: None,
            messages: vec![ChatMessage { role: Role::User, text: "?".to_owned(), pictures: 1 }],
            pictures: vec!["QUJD".to_owned()],
            mask_pictures: Vec::new(),
            pixels: None,
            sampling: Sampling::default(),
        }
    }

    #[test]
    fn the_limit_that_a_request_exceeds_is_reported() {
        assert_eq!(request().check(), Ok(()));
        let sampling = Sampling { top_p: f32::NAN, ..Sampling::default() };
        let text = "x".repeat(TEXT_BYTES_MAX);
        let long = ChatMessage { role: Role::User, text, pictures: 0 };
        let messages = vec![request().messages.remove(0), long];
        for (request, expected) in [
            (InferRequest { sampling, ..request() }, InvalidInferRequest::Sampling),
            (InferRequest { pixels: Some([9, 3]), ..request() }, InvalidInferRequest::Pixels),
            (InferRequest { pictures: Vec::new(), ..request() }, InvalidInferRequest::PictureCount),
            (InferRequest { messages, ..request() }, InvalidInferRequest::Text),
            (
                InferRequest { mask_pictures: vec![1], ..request() },
                InvalidInferRequest::MaskPicture,
            ),
        ] {
            assert_eq!(request.check(), Err(expected));
        }
    }

    #[test]
    fn the_last_mask_picture_holds_for_all_further_segs() {
        let request = InferRequest { mask_pictures: vec![2, 1], ..request() };
        assert_eq!([0, 1, 7].map(|seg| request.mask_picture(seg)), [2, 1, 1]);
    }

    #[test]
    fn a_flaw_has_the_same_name_in_json_and_in_messages() {
        for flaw in [
            AnswerFlaw::Unmarked,
            AnswerFlaw::UnclosedThought,
            AnswerFlaw::UnclosedAnswer,
            AnswerFlaw::Repeated,
            AnswerFlaw::Empty,
            AnswerFlaw::MasksNotReported,
        ] {
            assert_eq!(serde_json::to_value(flaw).unwrap(), flaw.name());
        }
    }
}
