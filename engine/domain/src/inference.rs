//! What is asked of the shared model and what it answers: the same for plugins, for the engine, and for the
//! model's own process.

use serde::{Deserialize, Serialize};

/// How urgent a question is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Somebody waits for it beside a patient.
    Stat,
    /// In its turn.
    #[default]
    Routine,
}

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

/// Most bytes of text of a question.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// A question that nobody can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidQuestion(&'static str);

impl InferRequest {
    /// Whether it can be asked at all: before it reaches a process that has others to answer.
    ///
    /// # Errors
    ///
    /// Says what is beyond its limit.
    pub fn check(&self) -> Result<(), InvalidQuestion> {
        let Sampling { tokens_max, temperature, top_p, repetition_penalty, .. } = self.sampling;
        let told = |what| Err(InvalidQuestion(what));
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
        let placed = self.messages.iter().try_fold(0_usize, |sum, it| sum.checked_add(it.pictures));
        if placed != Some(self.pictures.len()) {
            return told("the messages have places for more or fewer pictures than there are");
        }
        let text: usize = self.messages.iter().map(|it| it.text.len()).sum();
        if text > TEXT_BYTES_MAX {
            return told("at most 1 MiB of text");
        }
        if self.mask_pictures.iter().any(|it| *it >= self.pictures.len()) {
            return told("mask_pictures names a picture that is not there; the first is 0");
        }
        Ok(())
    }

    /// Which picture the `[SEG]` of this number is drawn into.
    pub fn mask_picture(&self, seg: usize) -> usize {
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
    /// Tokens of the question that were not read again, because one before began alike. Plugins are not told:
    /// they would learn what others have asked.
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
    /// Whether its products were computed in eight bits; filled in by the engine.
    #[serde(default)]
    pub is_eight_bit: bool,
    /// What has to be said with it; filled in by the engine.
    #[serde(default)]
    pub warning: Option<String>,
}
