//! The language model of Qwen2.5-VL ([arXiv 2502.13923](https://arxiv.org/abs/2502.13923)): a
//! decoder of pre-norm layers with grouped-query attention, M-RoPE and SwiGLU.

use candle_core::{DType, Module, Result, Tensor};

use crate::attention::{PackedSamples, packed_attention, scaled_dot_product_attention};
use crate::checkpoint_index::WeightsError;
use crate::config::TextConfig;
use crate::kv_cache::KvCache;
use crate::layers::{Linear, RmsNorm, SwiGlu};
use crate::rope::RotaryEmbedding;
use crate::weights::Weights;

/// The language model with its weights.
pub struct LanguageModel {
    config: TextConfig,
    embed_tokens: Tensor,
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    lm_head: Linear,
}

struct Attention {
    num_heads: usize,
    num_kv_heads: usize,
    head_dim: usize,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
}

/// The projections of a layer's input, queries and keys rotated.
struct Projections {
    /// `[B, L, num_heads, head_dim]`.
    q: Tensor,
    /// `[B, L, num_kv_heads, head_dim]`.
    k: Tensor,
    /// `[B, L, num_kv_heads, head_dim]`.
    v: Tensor,
}

impl Attention {
    fn load(
        weights: &Weights,
        name: &str,
        config: &TextConfig,
    ) -> std::result::Result<Self, WeightsError> {
        Ok(Self {
            num_heads: config.heads,
            num_kv_heads: config.kv_heads,
            head_dim: config.head_dim(),
            q_proj: Linear::load(weights, &format!("{name}.q_proj"))?,
            k_proj: Linear::load(weights, &format!("{name}.k_proj"))?,
            v_proj: Linear::load(weights, &format!("{name}.v_proj"))?,
            o_proj: Linear::load(weights, &format!("{name}.o_proj"))?,
        })
    }

    /// Queries, keys and values of `[B, L, hidden]`.
    fn project(&self, x: &Tensor, rotary: &RotaryEmbedding) -> Result<Projections> {
        let (batch, length, _) = x.dims3()?;
        let q_shape = (batch, length, self.num_heads, self.head_dim);
        let kv_shape = (batch, length, self.num_kv_heads, self.head_dim);
        Ok(Projections {
            q: rotary.apply(&self.q_proj.forward(x)?.reshape(q_shape)?)?,
            k: rotary.apply(&self.k_proj.forward(x)?.reshape(kv_shape)?)?,
            v: self.v_proj.forward(x)?.reshape(kv_shape)?,
        })
    }

    /// Attention within sequences `[B, L, hidden]`, before the output projection.
    fn forward(
        &self,
        x: &Tensor,
        rotary: &RotaryEmbedding,
        visible: Visible<'_>,
        cache: Option<LayerCache<'_>>,
    ) -> Result<Tensor> {
        let Projections { q, k, v } = self.project(x, rotary)?;
        let (k, v) = match cache {
            Some(LayerCache { cache, layer }) => cache.append(layer, &k, &v)?,
            None => (k, v),
        };
        match visible {
            Visible::Mask(mask) => scaled_dot_product_attention(&q, &k, &v, mask),
            Visible::Samples(samples) => packed_attention(&q, &k, &v, samples),
        }
    }

    /// Attention of one token of each of several sequences, `[B, hidden]`, each with a KV cache of
    /// its own; before the output projection.
    fn forward_batch(
        &self,
        x: &Tensor,
        rotary: &RotaryEmbedding,
        caches: &mut [KvCache],
        layer: usize,
    ) -> Result<Tensor> {
        let (_, hidden) = x.dims2()?;
        let Projections { q, k, v } = self.project(&x.unsqueeze(1)?, rotary)?;
        let mut outputs = Vec::new();
        for (row, cache) in caches.iter_mut().enumerate() {
            let (k, v) = cache.append(layer, &k.narrow(0, row, 1)?, &v.narrow(0, row, 1)?)?;
            let output = scaled_dot_product_attention(&q.narrow(0, row, 1)?, &k, &v, None)?;
            outputs.push(output.reshape((1, hidden))?);
        }
        Tensor::cat(&outputs, 0)
    }
}

/// What the tokens of a sequence attend to.
#[derive(Clone, Copy)]
enum Visible<'a> {
    /// What a mask leaves; everything without one.
    Mask(Option<&'a Tensor>),
    /// The tokens before them in their sample of a packed row.
    Samples(&'a PackedSamples),
}

/// The KV cache of a sequence, for one layer.
struct LayerCache<'a> {
    cache: &'a mut KvCache,
    layer: usize,
}

struct DecoderLayer {
    input_layernorm: RmsNorm,
    self_attention: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: SwiGlu,
}

impl DecoderLayer {
    fn load(
        weights: &Weights,
        index: usize,
        config: &TextConfig,
    ) -> std::result::Result<Self, WeightsError> {
        let name = format!("language_model.layers.{index}");
        let eps = config.rms_norm_eps;
        Ok(Self {
            input_layernorm: RmsNorm::load(weights, &format!("{name}.input_layernorm"), eps)?,
            self_attention: Attention::load(weights, &format!("{name}.self_attn"), config)?,
            post_attention_layernorm: RmsNorm::load(
                weights,
                &format!("{name}.post_attention_layernorm"),
                eps,
            )?,
            mlp: SwiGlu::load(weights, &format!("{name}.mlp"))?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        rotary: &RotaryEmbedding,
        visible: Visible<'_>,
        cache: Option<LayerCache<'_>>,
    ) -> Result<Tensor> {
        let normed = self.input_layernorm.forward(x)?;
        let attended = self.self_attention.forward(&normed, rotary, visible, cache)?;
        self.forward_rest(&attended, x)
    }

    fn forward_batch(
        &self,
        x: &Tensor,
        rotary: &RotaryEmbedding,
        caches: &mut [KvCache],
        layer: usize,
    ) -> Result<Tensor> {
        let normed = self.input_layernorm.forward(x)?;
        let attended = self.self_attention.forward_batch(&normed, rotary, caches, layer)?;
        self.forward_rest(&attended, x)
    }

    /// The output projection of attention and the MLP, each with its residual connection.
    fn forward_rest(&self, attended: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let x = self.self_attention.o_proj.forward_residual(attended, residual)?;
        let normed = self.post_attention_layernorm.forward(&x)?;
        self.mlp.forward_residual(&normed, &x)
    }
}

impl LanguageModel {
    /// Loads the language model of a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is missing.
    pub fn load(weights: &Weights, config: &TextConfig) -> std::result::Result<Self, WeightsError> {
        let embed_tokens = weights.get("language_model.embed_tokens.weight")?;
        let lm_head = if config.has_tied_embeddings {
            "language_model.embed_tokens.weight"
        } else {
            "lm_head.weight"
        };
        let lm_head = weights.linear_weight(lm_head)?;
        let layers = (0..config.layers).map(|index| DecoderLayer::load(weights, index, config));
        Ok(Self {
            layers: layers.collect::<std::result::Result<_, _>>()?,
            norm: RmsNorm::load(weights, "language_model.norm", config.rms_norm_eps)?,
            lm_head: Linear::new(lm_head, None)?,
            embed_tokens,
            config: config.clone(),
        })
    }

    /// The configuration of the language model.
    pub const fn config(&self) -> &TextConfig {
        &self.config
    }

    /// The embeddings of tokens, `[L, hidden]`.
    ///
    /// # Errors
    ///
    /// Fails if a token is not in the vocabulary.
    pub fn embed(&self, token_ids: &[u32]) -> Result<Tensor> {
        let token_ids = Tensor::new(token_ids, self.embed_tokens.device())?;
        self.embed_tokens.index_select(&token_ids, 0)
    }

    /// The hidden states of embeddings `[B, L, hidden]`, after the final norm. `mask`
    /// `[B or 1, L, S]` is added to the attention scores.
    ///
    /// # Errors
    ///
    /// Fails if the shapes do not fit.
    pub fn forward(
        &self,
        embeddings: &Tensor,
        rotary: &RotaryEmbedding,
        mask: Option<&Tensor>,
        cache: Option<&mut KvCache>,
    ) -> Result<Tensor> {
        self.forward_traced(embeddings, rotary, mask, cache, &mut |_, _| {})
    }

    /// As [`forward`](Self::forward), showing the index and output of each layer to `observe`.
    ///
    /// # Errors
    ///
    /// Fails if the shapes do not fit.
    pub fn forward_traced(
        &self,
        embeddings: &Tensor,
        rotary: &RotaryEmbedding,
        mask: Option<&Tensor>,
        mut cache: Option<&mut KvCache>,
        observe: &mut dyn FnMut(usize, &Tensor),
    ) -> Result<Tensor> {
        let mut x = embeddings.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            let layer_cache = cache.as_deref_mut().map(|cache| LayerCache { cache, layer: index });
            x = layer.forward(&x, rotary, Visible::Mask(mask), layer_cache)?;
            observe(index, &x);
        }
        self.norm.forward(&x)
    }

    /// The hidden states of a packed row of embeddings `[1, L, hidden]`, after the final norm.
    ///
    /// # Errors
    ///
    /// Fails if the shapes do not fit.
    pub fn forward_packed(
        &self,
        embeddings: &Tensor,
        rotary: &RotaryEmbedding,
        samples: &PackedSamples,
    ) -> Result<Tensor> {
        let mut x = embeddings.clone();
        for layer in &self.layers {
            x = layer.forward(&x, rotary, Visible::Samples(samples), None)?;
        }
        self.norm.forward(&x)
    }

    /// The hidden states `[B, hidden]` of one more token of each of several sequences, after the
    /// final norm. The weights are read once for all sequences.
    ///
    /// # Errors
    ///
    /// Fails if there are not as many positions and caches as tokens.
    pub fn forward_batch(
        &self,
        token_ids: &[u32],
        rotary: &RotaryEmbedding,
        caches: &mut [KvCache],
    ) -> Result<Tensor> {
        let mut x = self.embed(token_ids)?;
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward_batch(&x, rotary, caches, index)?;
        }
        self.norm.forward(&x)
    }

    /// The logits of the next token after each hidden state, in f32.
    ///
    /// # Errors
    ///
    /// Fails if the width does not fit.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.lm_head.forward(hidden)?.to_dtype(DType::F32)
    }
}
