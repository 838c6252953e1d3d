//! The state of one generation between two steps, so that many sequences can share one device.
//!
//! A sequence passes through its phases in this order:
//!
//! ```text
//! EncodeImage (one step per picture) -> Prefill (one step per chunk) -> Decode (one per token)
//!                                          ^                              |      |
//!                                          +--------- release ------------+      v
//!                                                                             Finished
//! ```
//!
//! [`Sequence::release`] gives the memory of the KV cache back; the sequence then prefills prompt
//! and generated tokens again.

use candle_core::{Result, Tensor};

use crate::input::ModelInput;
use crate::kv_cache::KvCache;
use crate::output::{FinishReason, Generation};
use crate::positions::MropePositions;
use crate::prefix_cache::{ImageStart, Prefix, SegState};
use crate::sampling::{GenerationConfig, Sampler};

/// The kind of step that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The vision encoder encodes the next picture.
    EncodeImage,
    /// The language model processes the next chunk of the prompt.
    Prefill,
    /// The language model generates the next token.
    Decode,
    /// SAM 2 segments masks. A sequence never reports this phase: its caller decides in which
    /// picture each mask belongs.
    Segment,
    /// The generation is complete.
    Finished,
}

/// One generation in progress.
pub struct Sequence {
    pub(crate) input: ModelInput,
    pub(crate) positions: MropePositions,
    /// Where each picture begins, by its digest; none if this sequence must not be cached.
    pub(crate) image_starts: Option<Vec<ImageStart>>,
    /// The number of prompt tokens taken over from the prefix cache.
    pub(crate) cached_tokens: usize,
    pub(crate) was_released: bool,
    /// The features of the pictures encoded so far.
    pub(crate) image_features: Vec<Tensor>,
    /// The embeddings of the prompt, once all pictures are encoded.
    pub(crate) prompt_embeddings: Option<Tensor>,
    pub(crate) kv_cache: KvCache,
    /// The hidden state of the last token, `[1, hidden]`, once all tokens are processed.
    pub(crate) last_hidden: Option<Tensor>,
    pub(crate) generated: Vec<u32>,
    pub(crate) seg_states: Vec<SegState>,
    pub(crate) sampler: Sampler,
    pub(crate) config: GenerationConfig,
    pub(crate) finish_reason: Option<FinishReason>,
}

impl Sequence {
    /// A sequence that has not processed anything.
    pub(crate) fn new(
        input: ModelInput,
        positions: MropePositions,
        image_starts: Option<Vec<ImageStart>>,
        config: GenerationConfig,
    ) -> Self {
        Self {
            input,
            positions,
            image_starts,
            cached_tokens: 0,
            was_released: false,
            image_features: Vec::new(),
            prompt_embeddings: None,
            kv_cache: KvCache::default(),
            last_hidden: None,
            generated: Vec::new(),
            seg_states: Vec::new(),
            sampler: Sampler::new(config.clone()),
            config,
            finish_reason: None,
        }
    }

    /// The kind of step that comes next.
    pub fn phase(&self) -> Phase {
        let has_images_left =
            self.image_features.len() < self.input.grids.len() && self.prompt_embeddings.is_none();
        if self.finish_reason.is_some() {
            Phase::Finished
        } else if has_images_left {
            Phase::EncodeImage
        } else if self.last_hidden.is_none() {
            Phase::Prefill
        } else {
            Phase::Decode
        }
    }

    /// The prompt with its pictures.
    pub const fn input(&self) -> &ModelInput {
        &self.input
    }

    /// The tokens generated so far.
    pub fn generated(&self) -> &[u32] {
        &self.generated
    }

    /// The number of prompt tokens that were taken over from the prefix cache.
    pub const fn cached_tokens(&self) -> usize {
        self.cached_tokens
    }

    /// The upper bound on the tokens in the KV cache.
    pub fn tokens_max(&self) -> usize {
        self.input.token_ids.len().saturating_add(self.config.tokens_max)
    }

    /// Releases the KV cache. A finished sequence keeps the hidden states of its `[SEG]`, since it
    /// will not process them again.
    pub fn release(&mut self) {
        self.was_released = true;
        self.kv_cache = KvCache::default();
        self.last_hidden = None;
        if self.finish_reason.is_none() {
            self.seg_states.clear();
        }
    }

    /// The number of `[SEG]` processed so far.
    pub const fn seg_count(&self) -> usize {
        self.seg_states.len()
    }

    /// The hidden states of all `[SEG]` so far, `[n, hidden]`; none without a `[SEG]`.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn seg_hidden(&self) -> Result<Option<Tensor>> {
        let rows: Vec<&Tensor> = self.seg_states.iter().map(|it| &it.hidden).collect();
        if rows.is_empty() { Ok(None) } else { Tensor::cat(&rows, 0).map(Some) }
    }

    /// Ends the generation with what there is.
    pub fn cancel(&mut self) {
        self.finish_reason.get_or_insert(FinishReason::Cancelled);
    }

    /// The result of the generation.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn into_generation(self) -> Result<Generation> {
        let seg_hidden = self.seg_hidden()?;
        Ok(Generation {
            token_ids: self.generated,
            finish_reason: self.finish_reason.unwrap_or(FinishReason::Cancelled),
            seg_positions: self.seg_states.iter().map(|it| it.position).collect(),
            seg_hidden,
        })
    }

    /// The first `count` tokens as a key of the prefix cache; none if they must not be cached.
    pub(crate) fn prefix(&self, count: usize) -> Option<Prefix> {
        let images = self.image_starts.as_ref()?.iter().filter(|it| it.position < count);
        let token_ids = self.input.token_ids.iter().chain(&self.generated).take(count);
        Some(Prefix { token_ids: token_ids.copied().collect(), images: images.copied().collect() })
    }

    /// The token at an index into prompt and completion.
    pub(crate) fn token(&self, index: usize) -> Option<u32> {
        match index.checked_sub(self.input.token_ids.len()) {
            Some(index) => self.generated.get(index).copied(),
            None => self.input.token_ids.get(index).copied(),
        }
    }

    /// The M-RoPE position of the token at an index into prompt and completion.
    pub(crate) fn position(&self, index: usize) -> [i64; 3] {
        let after_prompt = i64::try_from(index).unwrap_or(i64::MAX) + self.positions.delta;
        self.positions.axes.each_ref().map(|axis| axis.get(index).copied().unwrap_or(after_prompt))
    }

    /// Samples the next token; none if the generation ends without it.
    pub(crate) fn sample(&mut self, logits: &[f32]) -> Option<u32> {
        if self.generated.len() >= self.config.tokens_max {
            self.finish_reason = Some(FinishReason::Length);
            return None;
        }
        let context: Vec<u32> =
            self.input.token_ids.iter().chain(&self.generated).copied().collect();
        let token = self.sampler.sample(logits.to_vec(), &context);
        if self.config.stop_tokens.contains(&token) {
            self.finish_reason = Some(FinishReason::Stop);
            return None;
        }
        self.generated.push(token);
        if self.generated.len() == self.config.tokens_max {
            // The last token is not processed: it needs no hidden state.
            self.finish_reason = Some(FinishReason::Length);
        }
        Some(token)
    }
}
