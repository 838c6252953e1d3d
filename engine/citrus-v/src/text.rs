//! The language model of Qwen2.5-VL.

use candle_core::{DType, Device, Module, Result, Tensor};

use crate::cache::Cache;
use crate::config::TextConfig;
use crate::ops::{Linear, RmsNorm, attention, rotated, silu_times};
use crate::plan::WeightsError;
use crate::positions::frequencies;
use crate::weights::Weights;

/// The model.
pub struct Text {
    config: TextConfig,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
}

struct Layer {
    norm1: RmsNorm,
    norm2: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// Cosines and sines of the positions of tokens, `[B, L, head]` each.
#[derive(Clone, Debug)]
pub struct Turn {
    cos: Tensor,
    sin: Tensor,
}

impl Turn {
    /// Positions of each sequence on the three axes. Which axis turns a number is said by the sections
    /// of M-RoPE, first for one half of a head, then the same for the other.
    ///
    /// # Errors
    ///
    /// Fails if the sequences are not of one length.
    pub fn of(config: &TextConfig, sequences: &[[&[i64]; 3]], device: &Device) -> Result<Self> {
        let frequencies = frequencies(config.theta, config.head());
        let axis_of = config.sections.iter().enumerate();
        let axis_of: Vec<usize> =
            axis_of.flat_map(|(axis, count)| std::iter::repeat_n(axis, *count)).collect();
        let length = sequences.first().map_or(0, |it| it[0].len());
        let mut angles = Vec::with_capacity(sequences.len() * length * config.head());
        for axes in sequences {
            for token in 0..length {
                let angle = |(frequency, axis): (&f32, &usize)| {
                    let place = axes.get(*axis).and_then(|it| it.get(token));
                    place.copied().unwrap_or_default() as f32 * frequency
                };
                let half: Vec<f32> = frequencies.iter().zip(&axis_of).map(angle).collect();
                angles.extend_from_slice(&half);
                angles.extend(half);
            }
        }
        let angles = Tensor::from_vec(angles, (sequences.len(), length, config.head()), device)?;
        Ok(Self { cos: angles.cos()?, sin: angles.sin()? })
    }
}

impl Layer {
    fn load(weights: &Weights, index: usize, eps: f64) -> std::result::Result<Self, WeightsError> {
        let at = |rest: &str| format!("language_model.layers.{index}.{rest}");
        let linear = |rest: &str| Linear::load(weights, &at(rest));
        Ok(Self {
            norm1: RmsNorm::load(weights, &at("input_layernorm"), eps)?,
            norm2: RmsNorm::load(weights, &at("post_attention_layernorm"), eps)?,
            q: linear("self_attn.q_proj")?,
            k: linear("self_attn.k_proj")?,
            v: linear("self_attn.v_proj")?,
            o: linear("self_attn.o_proj")?,
            gate: linear("mlp.gate_proj")?,
            up: linear("mlp.up_proj")?,
            down: linear("mlp.down_proj")?,
        })
    }

    /// What tokens see in each other.
    fn attend(
        &self,
        config: &TextConfig,
        x: &Tensor,
        turn: &Turn,
        mask: Option<&Tensor>,
        cache: Option<(&mut Cache, usize)>,
    ) -> Result<Tensor> {
        let (batch, length, _) = x.dims3()?;
        let (head, kv) = (config.head(), config.kv_heads);
        let heads = |it: Tensor, count: usize| it.reshape((batch, length, count, head));
        let q = rotated(&heads(self.q.forward(x)?, config.heads)?, &turn.cos, &turn.sin)?;
        let k = rotated(&heads(self.k.forward(x)?, kv)?, &turn.cos, &turn.sin)?;
        let v = heads(self.v.forward(x)?, kv)?;
        let (k, v) = match cache {
            Some((cache, layer)) => cache.extended(layer, &k, &v)?,
            None => (k, v),
        };
        attention(&q, &k, &v, mask)
    }

    /// One token of each of several sequences, `[B, hidden]`, each with a cache of its own.
    fn attend_each(
        &self,
        config: &TextConfig,
        x: &Tensor,
        turn: &Turn,
        caches: &mut [Cache],
        layer: usize,
    ) -> Result<Tensor> {
        let (batch, width) = x.dims2()?;
        let (head, kv) = (config.head(), config.kv_heads);
        let heads = |it: Tensor, count: usize| it.reshape((batch, 1, count, head));
        let q = rotated(&heads(self.q.forward(x)?, config.heads)?, &turn.cos, &turn.sin)?;
        let k = rotated(&heads(self.k.forward(x)?, kv)?, &turn.cos, &turn.sin)?;
        let v = heads(self.v.forward(x)?, kv)?;
        let mut outs = Vec::new();
        for (row, cache) in caches.iter_mut().enumerate() {
            let one = |it: &Tensor| it.narrow(0, row, 1);
            let (k, v) = cache.extended(layer, &one(&k)?, &one(&v)?)?;
            outs.push(attention(&one(&q)?, &k, &v, None)?.reshape((1, width))?);
        }
        Tensor::cat(&outs, 0)
    }

    fn think(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm2.forward(x)?;
        let gated = silu_times(&self.gate.forward(&normed)?, &self.up.forward(&normed)?)?;
        self.down.forward_onto(&gated, x)
    }
}

impl Text {
    /// The model of a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is not there.
    pub fn load(weights: &Weights, config: &TextConfig) -> std::result::Result<Self, WeightsError> {
        let embedding = weights.get("language_model.embed_tokens.weight")?;
        let head =
            if config.is_tied { "language_model.embed_tokens.weight" } else { "lm_head.weight" };
        let head = weights.product(head)?;
        let layers = (0..config.layers).map(|it| Layer::load(weights, it, config.eps));
        Ok(Self {
            layers: layers.collect::<std::result::Result<_, _>>()?,
            norm: RmsNorm::load(weights, "language_model.norm", config.eps)?,
            head: Linear::of(head, None)?,
            embedding,
            config: config.clone(),
        })
    }

    /// Its sizes.
    pub const fn config(&self) -> &TextConfig {
        &self.config
    }

    /// Embeddings of tokens, `[L, hidden]`.
    ///
    /// # Errors
    ///
    /// Fails if a token is not in the vocabulary.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        self.embedding.index_select(&Tensor::new(ids, self.embedding.device())?, 0)
    }

    /// Hidden states of embeddings `[B, L, hidden]`, after the last norm. `mask` is added to the
    /// scores of `[B or 1, L, all]`.
    ///
    /// # Errors
    ///
    /// Fails if the shapes do not fit.
    pub fn forward(
        &self,
        embeddings: &Tensor,
        turn: &Turn,
        mask: Option<&Tensor>,
        cache: Option<&mut Cache>,
    ) -> Result<Tensor> {
        self.traced(embeddings, turn, mask, cache, &mut |_, _| {})
    }

    /// The same, showing what comes out of each layer.
    ///
    /// # Errors
    ///
    /// Fails if the shapes do not fit.
    pub fn traced(
        &self,
        embeddings: &Tensor,
        turn: &Turn,
        mask: Option<&Tensor>,
        mut cache: Option<&mut Cache>,
        seen: &mut dyn FnMut(usize, &Tensor),
    ) -> Result<Tensor> {
        let mut x = embeddings.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = layer.norm1.forward(&x)?;
            let slot = cache.as_deref_mut().map(|it| (it, index));
            let looked = layer.attend(&self.config, &normed, turn, mask, slot)?;
            x = layer.o.forward_onto(&looked, &x)?;
            x = layer.think(&x)?;
            seen(index, &x);
        }
        self.norm.forward(&x)
    }

    /// Hidden states `[B, hidden]` of one more token of each of several sequences, after the last norm.
    /// Weights are read once for all.
    ///
    /// # Errors
    ///
    /// Fails if there are not as many positions and caches as tokens.
    pub fn step(&self, tokens: &[u32], turn: &Turn, caches: &mut [Cache]) -> Result<Tensor> {
        let mut x = self.embed(tokens)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = layer.norm1.forward(&x)?;
            let looked = layer.attend_each(&self.config, &normed, turn, caches, index)?;
            x = layer.o.forward_onto(&looked, &x)?;
            x = layer.think(&x)?;
        }
        self.norm.forward(&x)
    }

    /// What each hidden state says comes next, in f32.
    ///
    /// # Errors
    ///
    /// Fails if the width does not fit.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head.forward(hidden)?.to_dtype(DType::F32)
    }
}

/// What a token may not look at: what comes after it, and, of each sequence, its `padding` (which is
/// true where nothing stands). `before` tokens are in the cache. `[B or 1, L, before + L]`.
///
/// # Errors
///
/// Fails if the device does.
pub fn causal_mask(
    length: usize,
    before: usize,
    padding: &[Vec<bool>],
    device: &Device,
    dtype: DType,
) -> Result<Option<Tensor>> {
    if length == 1 && padding.is_empty() {
        return Ok(None);
    }
    let all = before + length;
    let rows = padding.len().max(1);
    let mut mask = Vec::with_capacity(rows * length * all);
    for row in 0..rows {
        for token in 0..length {
            let hidden = |at: usize| {
                let is_padding = padding.get(row).and_then(|it| it.get(at)).copied();
                // A place that may look at nothing looks at itself, so that no share is 0 / 0.
                at > before + token || is_padding.unwrap_or(false) && at != before + token
            };
            mask.extend((0..all).map(|at| if hidden(at) { f32::NEG_INFINITY } else { 0.0 }));
        }
    }
    Tensor::from_vec(mask, (rows, length, all), device)?.to_dtype(dtype).map(Some)
}

/// The same for several samples in one row, which end at `ends`: none looks at another.
///
/// # Errors
///
/// Fails if the device does.
pub fn packed_mask(ends: &[usize], device: &Device, dtype: DType) -> Result<Tensor> {
    let length = ends.last().copied().unwrap_or_default();
    let sample = |at: usize| ends.iter().position(|end| at < *end);
    let samples: Vec<_> = (0..length).map(sample).collect();
    let mut mask = Vec::with_capacity(length * length);
    for (token, own) in samples.iter().enumerate() {
        let is_seen = |(at, other): (usize, &Option<usize>)| at <= token && other == own;
        let seen = samples.iter().enumerate().map(is_seen);
        mask.extend(seen.map(|it| if it { 0.0 } else { f32::NEG_INFINITY }));
    }
    Tensor::from_vec(mask, (1, length, length), device)?.to_dtype(dtype)
}
