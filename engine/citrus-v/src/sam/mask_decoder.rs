//! The mask decoder of SAM 2: a two-way transformer, in which prompts and image attend to each
//! other, then upscaling and one hypernetwork per mask.

use candle_core::{DType, Module, Result, Tensor};

use crate::attention::scaled_dot_product_attention;
use crate::checkpoint_index::WeightsError;
use crate::convolutions::ConvTranspose2x2;
use crate::layers::{LayerNorm, Linear, Mlp, gelu};
use crate::sam::ImageEmbedding;
use crate::sam::prompt_encoder::EncodedPrompt;
use crate::weights::Weights;

/// The epsilon of the norms in the transformer.
const TRANSFORMER_NORM_EPS: f64 = 1e-5;

/// The epsilon of the norm over channels.
const CHANNEL_NORM_EPS: f64 = 1e-6;

/// The number of attention heads.
const HEADS: usize = 8;

/// The margin by which logits are moved to measure the stability of a mask.
const STABILITY_MARGIN: f64 = 0.05;

/// The least share of its area that a stable mask keeps when the logits are moved.
const STABILITY_MIN: f32 = 0.98;

/// The index of the token of the object score.
const OBJECT_SCORE_TOKEN: usize = 0;

/// The index of the token of the IoU prediction.
const IOU_TOKEN: usize = 1;

/// The index of the first mask token.
const FIRST_MASK_TOKEN: usize = 2;

/// The masks predicted for a batch of objects.
#[derive(Clone, Debug)]
pub struct MaskPrediction {
    /// The logits of four masks, `[objects, 4, S/4, S/4]`: the first for an unambiguous prompt, the
    /// other three (multimask output) for an ambiguous one.
    pub masks: Tensor,
    /// The predicted IoU of each mask, `[objects, 4]`.
    pub ious: Tensor,
    /// The logits of whether there is an object at all, `[objects, 1]`.
    pub object_scores: Tensor,
}

/// Masks with their predicted IoU.
#[derive(Clone, Debug)]
pub struct ScoredMasks {
    /// The logits, `[objects, n, S/4, S/4]`.
    pub masks: Tensor,
    /// The predicted IoU, `[objects, n]`.
    pub ious: Tensor,
}

/// The mask with the highest predicted IoU of each object.
#[derive(Clone, Debug)]
pub struct BestMasks {
    /// The logits, `[objects, 1, S/4, S/4]`.
    pub masks: Tensor,
    /// Which of the three masks of the multimask output it is.
    pub which: Vec<u32>,
}

impl MaskPrediction {
    /// The three masks of the multimask output.
    ///
    /// # Errors
    ///
    /// Fails if there are fewer.
    pub fn multimask(&self) -> Result<ScoredMasks> {
        Ok(ScoredMasks { masks: self.masks.narrow(1, 1, 3)?, ious: self.ious.narrow(1, 1, 3)? })
    }

    /// One mask for each object: the single mask if it is stable, otherwise the best of the
    /// multimask output.
    ///
    /// # Errors
    ///
    /// Fails if there are fewer masks.
    pub fn single(&self) -> Result<ScoredMasks> {
        let single = self.masks.narrow(1, 0, 1)?;
        let certain = areas_above(&single, STABILITY_MARGIN)?;
        let possible = areas_above(&single, -STABILITY_MARGIN)?;
        let best = self.best()?;
        let mut masks = Vec::new();
        let mut ious = Vec::new();
        for (object, (certain, possible)) in certain.into_iter().zip(possible).enumerate() {
            let is_stable = possible <= 0.0 || certain / possible >= STABILITY_MIN;
            let best_index = best.which.get(object).map_or(0, |it| *it as usize + 1);
            let chosen = if is_stable { &single } else { &best.masks };
            let index = if is_stable { 0 } else { best_index };
            masks.push(chosen.narrow(0, object, 1)?);
            ious.push(self.ious.narrow(0, object, 1)?.narrow(1, index, 1)?);
        }
        Ok(ScoredMasks { masks: Tensor::cat(&masks, 0)?, ious: Tensor::cat(&ious, 0)? })
    }

    /// The mask of the multimask output with the highest predicted IoU.
    ///
    /// # Errors
    ///
    /// Fails if there are fewer masks.
    pub fn best(&self) -> Result<BestMasks> {
        let ScoredMasks { masks, ious } = self.multimask()?;
        let which: Vec<u32> = ious.argmax(1)?.to_vec1()?;
        let mut best = Vec::new();
        for (object, mask) in which.iter().enumerate() {
            best.push(masks.narrow(0, object, 1)?.narrow(1, *mask as usize, 1)?);
        }
        Ok(BestMasks { masks: Tensor::cat(&best, 0)?, which })
    }
}

/// The number of pixels of each mask with a logit above a threshold.
fn areas_above(masks: &Tensor, threshold: f64) -> Result<Vec<f32>> {
    masks.gt(threshold)?.to_dtype(DType::F32)?.flatten_from(1)?.sum(1)?.to_vec1()
}

struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl Attention {
    fn load(weights: &Weights, name: &str) -> std::result::Result<Self, WeightsError> {
        Ok(Self {
            q: Linear::load(weights, &format!("{name}.q_proj"))?,
            k: Linear::load(weights, &format!("{name}.k_proj"))?,
            v: Linear::load(weights, &format!("{name}.v_proj"))?,
            out: Linear::load(weights, &format!("{name}.out_proj"))?,
        })
    }

    fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let q = split_heads(&self.q.forward(q)?)?;
        let k = split_heads(&self.k.forward(k)?)?;
        let v = split_heads(&self.v.forward(v)?)?;
        self.out.forward(&scaled_dot_product_attention(&q, &k, &v, None)?)
    }
}

/// `[B, L, H * d]` to `[B, L, H, d]`.
fn split_heads(x: &Tensor) -> Result<Tensor> {
    let (batch, length, width) = x.dims3()?;
    x.reshape((batch, length, HEADS, width / HEADS))
}

/// A block of the two-way transformer.
struct TwoWayBlock {
    self_attention: Attention,
    token_to_image: Attention,
    image_to_token: Attention,
    mlp: Mlp,
    norm1: LayerNorm,
    norm2: LayerNorm,
    norm3: LayerNorm,
    norm4: LayerNorm,
}

/// Tokens `[objects, n, D]` and image `[objects, S/16 * S/16, D]`.
struct TokensAndImage {
    tokens: Tensor,
    image: Tensor,
}

impl TwoWayBlock {
    fn load(weights: &Weights, index: usize) -> std::result::Result<Self, WeightsError> {
        let at = |rest: &str| format!("sam.sam_mask_decoder.transformer.layers.{index}.{rest}");
        Ok(Self {
            self_attention: Attention::load(weights, &at("self_attn"))?,
            token_to_image: Attention::load(weights, &at("cross_attn_token_to_image"))?,
            image_to_token: Attention::load(weights, &at("cross_attn_image_to_token"))?,
            mlp: Mlp::load(weights, &at("mlp.layers"), 2)?,
            norm1: LayerNorm::load(weights, &at("norm1"), TRANSFORMER_NORM_EPS)?,
            norm2: LayerNorm::load(weights, &at("norm2"), TRANSFORMER_NORM_EPS)?,
            norm3: LayerNorm::load(weights, &at("norm3"), TRANSFORMER_NORM_EPS)?,
            norm4: LayerNorm::load(weights, &at("norm4"), TRANSFORMER_NORM_EPS)?,
        })
    }

    /// Self-attention of the tokens, attention from tokens to image, MLP, and attention from image
    /// to tokens. The initial tokens serve as their positions.
    fn forward(
        &self,
        x: &TokensAndImage,
        token_positions: &Tensor,
        image_positions: &Tensor,
        is_first: bool,
    ) -> Result<TokensAndImage> {
        let TokensAndImage { tokens, image } = x;
        let tokens = if is_first {
            self.self_attention.forward(tokens, tokens, tokens)?
        } else {
            let q = (tokens + token_positions)?;
            (tokens + self.self_attention.forward(&q, &q, tokens)?)?
        };
        let tokens = self.norm1.forward(&tokens)?;
        let image_keys = image.broadcast_add(image_positions)?;
        let q = (&tokens + token_positions)?;
        let attended = self.token_to_image.forward(&q, &image_keys, image)?;
        let tokens = self.norm2.forward(&(tokens + attended)?)?;
        let tokens = self.norm3.forward(&(&tokens + self.mlp.forward(&tokens)?)?)?;
        let token_keys = (&tokens + token_positions)?;
        let attended = self.image_to_token.forward(&image_keys, &token_keys, &tokens)?;
        let image = self.norm4.forward(&(image + attended)?)?;
        Ok(TokensAndImage { tokens, image })
    }
}

/// The mask decoder with its weights.
pub struct MaskDecoder {
    object_score_token: Tensor,
    iou_token: Tensor,
    mask_tokens: Tensor,
    blocks: Vec<TwoWayBlock>,
    final_attention: Attention,
    final_norm: LayerNorm,
    /// Reduce the channels of the high-resolution features.
    conv_s0: Linear,
    conv_s1: Linear,
    upscale1: ConvTranspose2x2,
    upscale_norm: LayerNorm,
    upscale2: ConvTranspose2x2,
    /// One for each mask token.
    hypernetworks: Vec<Mlp>,
    iou_head: Mlp,
    object_score_head: Mlp,
}

impl MaskDecoder {
    /// Loads the mask decoder of a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is missing.
    pub fn load(weights: &Weights) -> std::result::Result<Self, WeightsError> {
        let at = |rest: &str| format!("sam.sam_mask_decoder.{rest}");
        let head = |name: &str| Mlp::load(weights, &at(&format!("{name}.layers")), 3);
        Ok(Self {
            object_score_token: weights.get(&at("obj_score_token.weight"))?,
            iou_token: weights.get(&at("iou_token.weight"))?,
            mask_tokens: weights.get(&at("mask_tokens.weight"))?,
            blocks: (0..2)
                .map(|index| TwoWayBlock::load(weights, index))
                .collect::<std::result::Result<_, _>>()?,
            final_attention: Attention::load(
                weights,
                &at("transformer.final_attn_token_to_image"),
            )?,
            final_norm: LayerNorm::load(
                weights,
                &at("transformer.norm_final_attn"),
                TRANSFORMER_NORM_EPS,
            )?,
            conv_s0: Linear::load(weights, &at("conv_s0"))?,
            conv_s1: Linear::load(weights, &at("conv_s1"))?,
            upscale1: ConvTranspose2x2::load(weights, &at("output_upscaling.0"))?,
            upscale_norm: LayerNorm::load(weights, &at("output_upscaling.1"), CHANNEL_NORM_EPS)?,
            upscale2: ConvTranspose2x2::load(weights, &at("output_upscaling.3"))?,
            hypernetworks: (0..4)
                .map(|mask| head(&format!("output_hypernetworks_mlps.{mask}")))
                .collect::<std::result::Result<_, _>>()?,
            iou_head: head("iou_prediction_head")?,
            object_score_head: head("pred_obj_score_head")?,
        })
    }

    /// Reduces the two finer levels of the neck to the channels that upscaling adds.
    ///
    /// # Errors
    ///
    /// Fails if they are of another width.
    pub fn reduce_high_res(&self, [finest, finer]: [&Tensor; 2]) -> Result<[Tensor; 2]> {
        Ok([self.conv_s0.forward(finest)?, self.conv_s1.forward(finer)?])
    }

    /// Predicts the masks of each object. `image_positions` are the encoded positions of the image
    /// embedding.
    ///
    /// # Errors
    ///
    /// Fails if the shapes do not fit.
    pub fn forward(
        &self,
        image: &ImageEmbedding,
        image_positions: &Tensor,
        prompt: &EncodedPrompt,
    ) -> Result<MaskPrediction> {
        let initial_tokens = self.initial_tokens(&prompt.sparse)?;
        let map = image.embedding.broadcast_add(&prompt.dense)?;
        let (objects, rows, columns, hidden) = map.dims4()?;
        let mut x = TokensAndImage { tokens: initial_tokens.clone(), image: map.flatten(1, 2)? };
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, &initial_tokens, image_positions, index == 0)?;
        }
        let TokensAndImage { tokens, image: decoded } = x;
        let keys = decoded.broadcast_add(image_positions)?;
        let attended =
            self.final_attention.forward(&(&tokens + &initial_tokens)?, &keys, &decoded)?;
        let tokens = self.final_norm.forward(&(tokens + attended)?)?;
        let token = |index: usize| tokens.narrow(1, index, 1)?.squeeze(1);
        let decoded = decoded.reshape((objects, rows, columns, hidden))?;
        let upscaled = self.upscale(&decoded, &image.high_res)?;
        let (_, height, width, _) = upscaled.dims4()?;
        let mut weights = Vec::new();
        for (mask, hypernetwork) in self.hypernetworks.iter().enumerate() {
            let mask_token = token(FIRST_MASK_TOKEN + mask)?;
            weights.push(hypernetwork.forward(&mask_token)?.unsqueeze(1)?);
        }
        let weights = Tensor::cat(&weights, 1)?;
        let masks = weights.matmul(&upscaled.flatten(1, 2)?.transpose(1, 2)?)?;
        Ok(MaskPrediction {
            masks: masks.reshape((objects, weights.dim(1)?, height, width))?,
            ious: candle_nn::ops::sigmoid(&self.iou_head.forward(&token(IOU_TOKEN)?)?)?,
            object_scores: self.object_score_head.forward(&token(OBJECT_SCORE_TOKEN)?)?,
        })
    }

    /// The output tokens followed by those of the prompts, `[objects, n, D]`.
    fn initial_tokens(&self, sparse: &Tensor) -> Result<Tensor> {
        let output =
            Tensor::cat(&[&self.object_score_token, &self.iou_token, &self.mask_tokens], 0)?;
        let objects = sparse.dim(0)?;
        let (count, hidden) = output.dims2()?;
        let output = output.unsqueeze(0)?.broadcast_as((objects, count, hidden))?.contiguous()?;
        Tensor::cat(&[&output, &sparse.to_dtype(output.dtype())?], 1)
    }

    /// Upscales the image by four and adds the high-resolution features.
    fn upscale(&self, map: &Tensor, [finest, finer]: &[Tensor; 2]) -> Result<Tensor> {
        let x = (self.upscale1.forward(map)? + finer)?;
        let x = gelu(&self.upscale_norm.forward(&x)?)?;
        gelu(&(self.upscale2.forward(&x)? + finest)?)
    }
}
