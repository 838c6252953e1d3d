//! The output of the model: generated tokens and segmentation masks.

use candle_core::Tensor;
use imaging::FlatMask;

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model generated a stop token.
    Stop,
    /// The maximum number of tokens was reached.
    Length,
    /// The caller cancelled the generation.
    Cancelled,
}

/// The tokens of a finished generation, and the hidden states for segmentation.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The generated tokens, without the stop token.
    pub token_ids: Vec<u32>,
    /// Why the generation ended.
    pub finish_reason: FinishReason,
    /// The positions of `[SEG]` in prompt and completion.
    pub seg_positions: Vec<usize>,
    /// The hidden states at these positions, `[n, hidden]`; none without a `[SEG]`.
    pub seg_hidden: Option<Tensor>,
}

/// The segmentation of one `[SEG]`.
#[derive(Clone, Debug)]
pub struct Segmentation {
    /// The logits of the mask, `[1, S/4, S/4]`.
    pub logits: Tensor,
    /// The IoU that the mask decoder predicts for this mask.
    pub iou: f32,
    /// Which of the three masks of the multimask output this is: the one with the highest IoU.
    pub which: u32,
    /// The pixels with a positive logit.
    pub mask: FlatMask,
}
