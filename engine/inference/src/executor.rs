//! Runs the scheduler's steps on the network of `citrus-v`.
//!
//! An [`ActiveRequest`] is a request with its sequence and its masks so far. After the last token
//! come the masks: all `[SEG]` of one picture are segmented together, at most [`MASK_BATCH_MAX`] in
//! one step.

use std::cell::RefCell;
use std::time::Instant;

use citrus_v::{CitrusV, FinishReason, ModelError, Phase, Segmentation, Sequence};
use domain::{AnswerMask, ErrorChain, InferRequest, InferResponse, TokenUsage};

use crate::scheduler::Executor;
use crate::wire::{InferFault, answer_mask, response_of_text};

/// The maximum number of masks segmented in one step: each takes memory, and other requests wait.
const MASK_BATCH_MAX: usize = 8;

/// A request that the executor works on.
pub(crate) struct ActiveRequest {
    pub(crate) id: u64,
    pub(crate) sequence: Sequence,
    /// Width and height of each picture as it was sent.
    pub(crate) source_sizes: Vec<[u32; 2]>,
    /// The request without its pictures, which the sequence holds in the resized form.
    pub(crate) request: InferRequest,
    /// Whether the generated text is sent as it grows.
    pub(crate) is_streamed: bool,
    /// When the request arrived.
    pub(crate) arrived: Instant,
    /// The segmentation of each `[SEG]`, where it is done.
    pub(crate) segmentations: Vec<Option<Segmentation>>,
    /// The number of generated tokens that were sent as text.
    pub(crate) streamed_tokens: usize,
}

impl ActiveRequest {
    /// The first `[SEG]` whose mask is still missing.
    fn next_seg(&self) -> Option<usize> {
        (0..self.sequence.seg_count()).find(|seg| self.has_picture(*seg) && !self.is_done(*seg))
    }

    fn is_done(&self, seg: usize) -> bool {
        self.segmentations.get(seg).is_some_and(Option::is_some)
    }

    fn has_picture(&self, seg: usize) -> bool {
        self.request.mask_picture(seg) < self.source_sizes.len()
    }
}

/// More text of a request whose response is streamed.
pub(crate) struct TextDelta {
    pub(crate) id: u64,
    pub(crate) text: String,
}

/// The network, and the text that waits to be sent.
pub(crate) struct ModelExecutor {
    pub(crate) model: CitrusV,
    deltas: RefCell<Vec<TextDelta>>,
}

impl ModelExecutor {
    pub(crate) const fn new(model: CitrusV) -> Self {
        Self { model, deltas: RefCell::new(Vec::new()) }
    }

    /// Takes the text that was generated since the last call.
    pub(crate) fn take_deltas(&self) -> Vec<TextDelta> {
        self.deltas.take()
    }

    /// The response to a finished request.
    pub(crate) fn response(&self, active: ActiveRequest) -> Result<InferResponse, InferFault> {
        let input = active.sequence.input();
        let usage = TokenUsage {
            prompt_tokens: input.token_ids.len(),
            completion_tokens: active.sequence.generated().len(),
            cached_tokens: active.sequence.cached_tokens(),
        };
        let resized = input.resized.first().map(|it| [it.width, it.height]);
        let generation = active.sequence.into_generation().map_err(|it| failed(&it))?;
        let text =
            self.model.tokenizer().decode(&generation.token_ids).map_err(|it| failed(&it))?;
        let mut response = response_of_text(text, resized, active.source_sizes.first().copied());
        for (seg, segmentation) in active.segmentations.iter().enumerate() {
            let picture = active.request.mask_picture(seg);
            let size = active.source_sizes.get(picture);
            if let (Some(segmentation), Some(size)) = (segmentation, size) {
                let mask = answer_mask(&segmentation.mask, *size, Some(segmentation.iou));
                response.masks.push(AnswerMask { picture, ..mask });
            }
        }
        response.is_truncated = generation.finish_reason != FinishReason::Stop;
        response.usage = usage;
        response.milliseconds =
            u64::try_from(active.arrived.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(response)
    }

    /// Decodes the tokens since the last delta, once they make up whole characters.
    fn add_delta(&self, active: &mut ActiveRequest) {
        let generated = active.sequence.generated();
        let new_tokens = generated.get(active.streamed_tokens..).unwrap_or_default();
        // Tokens that cannot be decoded are reported with the response.
        if let Ok(text) = self.model.tokenizer().decode(new_tokens)
            && !text.is_empty()
            && !text.ends_with(char::REPLACEMENT_CHARACTER)
        {
            active.streamed_tokens = generated.len();
            self.deltas.borrow_mut().push(TextDelta { id: active.id, text });
        }
    }
}

fn failed(error: &dyn std::error::Error) -> InferFault {
    InferFault::unavailable(ErrorChain(error).to_string())
}

impl Executor for ModelExecutor {
    type Request = ActiveRequest;
    type Error = ModelError;

    fn phase(&self, active: &ActiveRequest) -> Phase {
        match active.sequence.phase() {
            Phase::Finished if active.next_seg().is_some() => Phase::Segment,
            phase => phase,
        }
    }

    fn tokens_max(&self, active: &ActiveRequest) -> usize {
        active.sequence.tokens_max()
    }

    fn encode_image(&self, active: &mut ActiveRequest) -> Result<(), ModelError> {
        self.model.encode_next_image(&mut active.sequence)
    }

    fn prefill(&self, active: &mut ActiveRequest, chunk: usize) -> Result<(), ModelError> {
        self.model.prefill(&mut active.sequence, chunk)
    }

    fn decode(&self, batch: &mut [&mut ActiveRequest]) -> Result<(), ModelError> {
        let mut sequences: Vec<&mut Sequence> =
            batch.iter_mut().map(|it| &mut it.sequence).collect();
        self.model.decode(&mut sequences, &mut |_| {})?;
        for active in batch.iter_mut().filter(|it| it.is_streamed) {
            self.add_delta(active);
        }
        Ok(())
    }

    fn segment(&self, active: &mut ActiveRequest) -> Result<(), ModelError> {
        let Some(first) = active.next_seg() else { return Ok(()) };
        let picture = active.request.mask_picture(first);
        let seg_count = active.sequence.seg_count();
        let segs: Vec<usize> = (first..seg_count)
            .filter(|seg| active.request.mask_picture(*seg) == picture)
            .take(MASK_BATCH_MAX)
            .collect();
        let segmentations = self.model.segment_sequence(&active.sequence, &segs, picture)?;
        active.segmentations.resize_with(seg_count, || None);
        for (seg, segmentation) in segs.into_iter().zip(segmentations) {
            if let Some(slot) = active.segmentations.get_mut(seg) {
                *slot = Some(segmentation);
            }
        }
        Ok(())
    }

    fn release(&self, active: &mut ActiveRequest) {
        active.sequence.release();
    }
}
