//! Text generation, step by step: image encoding, prefill, decode.
//!
//! A [`Sequence`] holds the state between the steps, so that a scheduler can interleave the steps
//! of many. [`CitrusV::generate`] runs all steps of one sequence.

use std::ops::{ControlFlow, Range};

use candle_core::Tensor;

use crate::attention::causal_mask;
use crate::input::ModelInput;
use crate::model::{CitrusV, ModelError};
use crate::output::{Generation, Segmentation};
use crate::positions::{Grid, mrope_positions};
use crate::prefix_cache::{ImageStart, SegState, digest};
use crate::rope::RotaryEmbedding;
use crate::sampling::GenerationConfig;
use crate::sequence::{Phase, Sequence};

/// A token that a decode step has generated, for observers.
#[derive(Clone, Copy, Debug)]
pub struct DecodedToken<'a> {
    /// The index of the sequence in the batch.
    pub sequence: usize,
    /// The generated token.
    pub token: u32,
    /// The logits it was sampled from.
    pub logits: &'a [f32],
}

/// A generated token that has to be processed, so that it gets a hidden state.
struct NewToken {
    /// The index of the sequence in the batch.
    sequence: usize,
    token: u32,
}

impl CitrusV {
    /// Generates text for an input, and captures the hidden state of every `[SEG]` in the same
    /// pass. The release generates twice for that; the result is the same.
    ///
    /// Each token and its logits are shown to `observe`, which may end the generation.
    ///
    /// # Errors
    ///
    /// Fails if text and pictures of the input do not fit together, or the device fails.
    pub fn generate(
        &self,
        input: &ModelInput,
        config: &GenerationConfig,
        observe: &mut dyn FnMut(u32, &[f32]) -> ControlFlow<()>,
    ) -> Result<Generation, ModelError> {
        let mut sequence = self.start(input.clone(), config)?;
        loop {
            match sequence.phase() {
                Phase::EncodeImage => self.encode_next_image(&mut sequence)?,
                Phase::Prefill => self.prefill(&mut sequence, usize::MAX)?,
                Phase::Segment | Phase::Finished => return Ok(sequence.into_generation()?),
                Phase::Decode => {
                    let mut is_cancelled = false;
                    self.decode(&mut [&mut sequence], &mut |decoded| {
                        is_cancelled = observe(decoded.token, decoded.logits).is_break();
                    })?;
                    if is_cancelled {
                        sequence.cancel();
                    }
                }
            }
        }
    }

    /// Starts a sequence. Nothing is computed yet.
    ///
    /// # Errors
    ///
    /// Fails if text and pictures of the input do not fit together.
    pub fn start(
        &self,
        input: ModelInput,
        config: &GenerationConfig,
    ) -> Result<Sequence, ModelError> {
        let image_token = self.config().tokens.image;
        let merge = self.config().vision.merge;
        let positions = mrope_positions(&input.token_ids, image_token, &input.grids, merge)?;
        let image_starts = self.image_starts(&input);
        Ok(Sequence::new(input, positions, image_starts, config.clone()))
    }

    /// Where each picture of an input begins, with its digest; none if the input cannot be cached,
    /// because its pictures came as patches only and have no digest.
    fn image_starts(&self, input: &ModelInput) -> Option<Vec<ImageStart>> {
        let is_enabled = self.prefix_cache().is_enabled();
        if !is_enabled {
            return None;
        }
        let image_token = self.config().tokens.image;
        let merge = self.config().vision.merge;
        let starts: Vec<ImageStart> =
            first_image_tokens(&input.token_ids, image_token, &input.grids, merge)
                .into_iter()
                .zip(&input.resized)
                .map(|(position, picture)| ImageStart { position, digest: digest(picture) })
                .collect();
        Some(starts).filter(|it| it.len() == input.grids.len())
    }

    /// Encodes the next picture of a sequence, or takes its features from the cache.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn encode_next_image(&self, sequence: &mut Sequence) -> Result<(), ModelError> {
        let index = sequence.image_features.len();
        let grids = &sequence.input.grids;
        let (Some(grid), Some(patches)) = (grids.get(index), &sequence.input.patches) else {
            return Ok(());
        };
        let key = sequence.image_starts.as_ref().and_then(|it| it.get(index)).map(|it| it.digest);
        if let Some(features) = key.and_then(|it| self.prefix_cache().vision_features(&it)) {
            sequence.image_features.push(features);
            return Ok(());
        }
        let first: usize = grids.iter().take(index).map(patch_count).sum();
        let patches = patches.narrow(0, first, patch_count(grid))?.to_dtype(self.dtype())?;
        let features = self.vision_encoder().forward(&patches, &[*grid])?;
        if let Some(key) = key {
            self.prefix_cache().store_vision_features(key, &features);
        }
        sequence.image_features.push(features);
        Ok(())
    }

    /// Processes at most `chunk` further tokens of a sequence: of its prompt, and, after a release,
    /// of the tokens generated before.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn prefill(&self, sequence: &mut Sequence, chunk: usize) -> Result<(), ModelError> {
        let prompt = self.prompt_embeddings(sequence)?;
        let total = prompt.dim(0)? + sequence.generated.len();
        self.reuse_prefix(sequence, total)?;
        let start = sequence.kv_cache.len();
        let count = chunk.max(1).min(total - start);
        let range = start..start + count;
        let embeddings = self.embeddings_in(sequence, &prompt, range.clone())?.unsqueeze(0)?;
        let rotary = self.rotary_embedding_in(sequence, range)?;
        let mask = causal_mask(count, start, &[], self.device(), self.dtype())?;
        let kv_cache = Some(&mut sequence.kv_cache);
        let hidden =
            self.language_model().forward(&embeddings, &rotary, mask.as_ref(), kv_cache)?;
        self.capture_seg_states(sequence, start, &hidden.squeeze(0)?)?;
        if start + count == total {
            sequence.last_hidden = Some(hidden.narrow(1, count - 1, 1)?.squeeze(0)?);
            self.cache_prompt(sequence)?;
        }
        Ok(())
    }

    /// The embeddings of a sequence's prompt, `[L, hidden]`, with image features in their places.
    fn prompt_embeddings(&self, sequence: &mut Sequence) -> Result<Tensor, ModelError> {
        if let Some(embeddings) = &sequence.prompt_embeddings {
            return Ok(embeddings.clone());
        }
        let token_ids = &sequence.input.token_ids;
        let embeddings = self.embed_with_features(token_ids, &sequence.image_features)?;
        sequence.prompt_embeddings = Some(embeddings.clone());
        sequence.image_features.clear();
        Ok(embeddings)
    }

    /// The embeddings of some tokens of prompt and completion, `[L, hidden]`.
    fn embeddings_in(
        &self,
        sequence: &Sequence,
        prompt: &Tensor,
        range: Range<usize>,
    ) -> Result<Tensor, ModelError> {
        let prompt_length = prompt.dim(0)?;
        let mut parts = Vec::new();
        if range.start < prompt_length {
            let count = range.len().min(prompt_length - range.start);
            parts.push(prompt.narrow(0, range.start, count)?);
        }
        let generated: Vec<u32> = (range.start.max(prompt_length)..range.end)
            .filter_map(|index| sequence.token(index))
            .collect();
        if !generated.is_empty() {
            parts.push(self.language_model().embed(&generated)?);
        }
        Ok(Tensor::cat(&parts, 0)?)
    }

    fn rotary_embedding_in(
        &self,
        sequence: &Sequence,
        range: Range<usize>,
    ) -> Result<RotaryEmbedding, ModelError> {
        let positions: Vec<[i64; 3]> = range.map(|index| sequence.position(index)).collect();
        let axes: [Vec<i64>; 3] = std::array::from_fn(|axis| {
            positions.iter().filter_map(|it| it.get(axis).copied()).collect()
        });
        let axes = axes.each_ref().map(Vec::as_slice);
        Ok(RotaryEmbedding::multimodal(self.language_model().config(), &[axes], self.device())?)
    }

    /// Starts with the longest cached prefix, if the sequence has processed nothing. The last token
    /// is always processed: its hidden state is not cached.
    fn reuse_prefix(&self, sequence: &mut Sequence, total: usize) -> Result<(), ModelError> {
        if !sequence.kv_cache.is_empty() {
            return Ok(());
        }
        let Some(prefix) = sequence.prefix(total) else { return Ok(()) };
        let found = self.prefix_cache().longest_prefix(&prefix, total.saturating_sub(1))?;
        if let Some(found) = found {
            // After a release a sequence finds its own prompt, which nobody has sent before.
            if sequence.cached_tokens == 0 && !sequence.was_released {
                sequence.cached_tokens = found.kv_cache.len();
            }
            sequence.kv_cache = found.kv_cache;
            sequence.seg_states = found.seg_states;
        }
        Ok(())
    }

    /// Caches the prompt of a sequence for others that begin with it.
    fn cache_prompt(&self, sequence: &Sequence) -> Result<(), ModelError> {
        let prompt_length = sequence.input.token_ids.len();
        let Some(prefix) = sequence.prefix(prompt_length) else { return Ok(()) };
        let mut cache = self.prefix_cache();
        if !cache.contains(&prefix) && cache.can_store(sequence.kv_cache.size_bytes()) {
            let seg_states = sequence
                .seg_states
                .iter()
                .filter(|it| it.position < prompt_length)
                .cloned()
                .collect();
            cache.store_prefix(prefix, sequence.kv_cache.prefix(prompt_length)?, seg_states);
        }
        Ok(())
    }

    /// Moves the KV cache of a finished sequence to the prefix cache: the conversation may continue
    /// from there.
    fn cache_conversation(&self, sequence: &mut Sequence) {
        let kv_cache = std::mem::take(&mut sequence.kv_cache);
        if let Some(prefix) = sequence.prefix(kv_cache.len()) {
            let seg_states = sequence.seg_states.clone();
            self.prefix_cache().store_prefix(prefix, kv_cache, seg_states);
        }
    }

    /// Generates the next token of each sequence that is decoding, in one batch: the weights are
    /// read once for all. Each token is shown to `observe`.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn decode(
        &self,
        batch: &mut [&mut Sequence],
        observe: &mut dyn FnMut(DecodedToken<'_>),
    ) -> Result<(), ModelError> {
        let mut hidden_states = Vec::new();
        let mut decoding = Vec::new();
        for (index, sequence) in batch.iter().enumerate() {
            if let (Phase::Decode, Some(hidden)) = (sequence.phase(), &sequence.last_hidden) {
                hidden_states.push(hidden.clone());
                decoding.push(index);
            }
        }
        if hidden_states.is_empty() {
            return Ok(());
        }
        let logits = self.language_model().logits(&Tensor::cat(&hidden_states, 0)?)?;
        let mut new_tokens = Vec::new();
        for (index, logits) in decoding.into_iter().zip(logits.to_vec2::<f32>()?) {
            let Some(sequence) = batch.get_mut(index) else { continue };
            if let Some(token) = sequence.sample(&logits) {
                observe(DecodedToken { sequence: index, token, logits: &logits });
                if sequence.finish_reason.is_none() {
                    new_tokens.push(NewToken { sequence: index, token });
                }
            }
            if sequence.finish_reason.is_some() {
                self.cache_conversation(sequence);
            }
        }
        self.process_new_tokens(batch, &new_tokens)
    }

    /// Processes one new token of each of these sequences, in one batch.
    fn process_new_tokens(
        &self,
        batch: &mut [&mut Sequence],
        new_tokens: &[NewToken],
    ) -> Result<(), ModelError> {
        if new_tokens.is_empty() {
            return Ok(());
        }
        let mut caches = Vec::new();
        let mut positions = Vec::new();
        for new in new_tokens {
            let Some(sequence) = batch.get_mut(new.sequence) else { continue };
            positions.push(sequence.position(sequence.kv_cache.len()).map(|it| [it]));
            caches.push(std::mem::take(&mut sequence.kv_cache));
        }
        let token_ids: Vec<u32> = new_tokens.iter().map(|it| it.token).collect();
        let axes: Vec<[&[i64]; 3]> =
            positions.iter().map(|it| it.each_ref().map(<[i64; 1]>::as_slice)).collect();
        let model = self.language_model();
        let rotary = RotaryEmbedding::multimodal(model.config(), &axes, self.device())?;
        let hidden = model.forward_batch(&token_ids, &rotary, &mut caches)?;
        for (row, (new, cache)) in new_tokens.iter().zip(caches).enumerate() {
            let Some(sequence) = batch.get_mut(new.sequence) else { continue };
            let hidden = hidden.narrow(0, row, 1)?;
            sequence.kv_cache = cache;
            self.capture_seg_states(sequence, sequence.kv_cache.len() - 1, &hidden)?;
            sequence.last_hidden = Some(hidden);
        }
        Ok(())
    }

    /// Captures the hidden states `[n, hidden]` of every `[SEG]` among the tokens from `start` on.
    fn capture_seg_states(
        &self,
        sequence: &mut Sequence,
        start: usize,
        hidden: &Tensor,
    ) -> Result<(), ModelError> {
        let Some(seg) = &self.config().seg else { return Ok(()) };
        for offset in 0..hidden.dim(0)? {
            let position = start + offset;
            if sequence.token(position) == Some(seg.token) {
                // A copy: a view would keep the hidden states of the whole chunk in memory.
                let hidden = hidden.narrow(0, offset, 1)?.copy()?;
                sequence.seg_states.push(SegState { position, hidden });
            }
        }
        Ok(())
    }

    /// The logits of the next token after each token of a text, `[L][vocabulary]`.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn next_token_logits(&self, token_ids: &[u32]) -> Result<Vec<Vec<f32>>, ModelError> {
        let model = self.language_model();
        let positions: Vec<i64> = (0..).take(token_ids.len()).collect();
        let axes = [positions.as_slice(); 3];
        let rotary = RotaryEmbedding::multimodal(model.config(), &[axes], self.device())?;
        let mask = causal_mask(token_ids.len(), 0, &[], self.device(), self.dtype())?;
        let embeddings = model.embed(token_ids)?.unsqueeze(0)?;
        let hidden = model.forward(&embeddings, &rotary, mask.as_ref(), None)?;
        Ok(model.logits(&hidden.squeeze(0)?)?.to_vec2()?)
    }

    /// Segments what some `[SEG]` of a sequence, by their index, refer to in one of its pictures.
    ///
    /// # Errors
    ///
    /// Fails if this model does not segment, or the device fails.
    pub fn segment_sequence(
        &self,
        sequence: &Sequence,
        segs: &[usize],
        picture: usize,
    ) -> Result<Vec<Segmentation>, ModelError> {
        let hidden: Vec<&Tensor> = segs
            .iter()
            .filter_map(|seg| sequence.seg_states.get(*seg))
            .map(|state| &state.hidden)
            .collect();
        match sequence.input.resized.get(picture) {
            Some(picture) if !hidden.is_empty() => self.segment(picture, &Tensor::cat(&hidden, 0)?),
            _ => Ok(Vec::new()),
        }
    }
}

fn patch_count(grid: &Grid) -> usize {
    grid.iter().product()
}

/// The position of the first image token of each picture.
fn first_image_tokens(
    token_ids: &[u32],
    image_token: u32,
    grids: &[Grid],
    merge: usize,
) -> Vec<usize> {
    let is_image = |(_, token): &(usize, &u32)| **token == image_token;
    let image_tokens: Vec<usize> =
        token_ids.iter().enumerate().filter(is_image).map(|(position, _)| position).collect();
    let mut first = 0;
    let mut starts = Vec::new();
    for grid in grids {
        starts.extend(image_tokens.get(first).copied());
        first += patch_count(grid) / (merge * merge);
    }
    starts
}
