//! Hiera ([arXiv 2306.00989](https://arxiv.org/abs/2306.00989)), the trunk of SAM 2's image
//! encoder: a hierarchical vision transformer of four stages, each with half the resolution and
//! twice the width of the one before.

use candle_core::{Module, Result, Tensor};

use crate::attention::scaled_dot_product_attention;
use crate::checkpoint_index::WeightsError;
use crate::config::SamConfig;
use crate::convolutions::PatchConv;
use crate::layers::{LayerNorm, Linear};
use crate::resampling::{bicubic_matrix, max_pool_2x2};
use crate::weights::Weights;

/// The epsilon of all norms.
const LAYER_NORM_EPS: f64 = 1e-6;

/// The stride of the patch embedding.
const PATCH_STRIDE: usize = 4;

/// The padding of the patch embedding.
const PATCH_PADDING: usize = 3;

/// The trunk with its weights.
pub struct Hiera {
    patch_embed: PatchConv,
    /// The global position embedding, interpolated to the size of the map.
    pos_embed: Tensor,
    /// The position embedding within a window, repeated over the map.
    pos_embed_window: Tensor,
    blocks: Vec<Block>,
}

/// The place of a block in the trunk.
#[derive(Clone, Copy)]
struct BlockIndex {
    /// The index among all blocks.
    block: usize,
    stage: usize,
    /// Whether the block is the first of its stage.
    is_first: bool,
    /// Whether the block is the last of its stage.
    is_last: bool,
}

struct Block {
    norm1: LayerNorm,
    norm2: LayerNorm,
    qkv: Linear,
    proj: Linear,
    mlp_in: Linear,
    mlp_out: Linear,
    /// Widens the residual, in the first block of a stage.
    residual_proj: Option<Linear>,
    /// Whether queries are pooled, which halves the resolution.
    has_query_pooling: bool,
    /// The side of the attention windows before pooling; none for global attention.
    window: Option<usize>,
    num_heads: usize,
    is_last_of_stage: bool,
}

impl Block {
    fn load(
        weights: &Weights,
        config: &SamConfig,
        index: BlockIndex,
    ) -> std::result::Result<Self, WeightsError> {
        let at = |rest: &str| format!("sam.image_encoder.trunk.blocks.{}.{rest}", index.block);
        let begins_new_stage = index.stage > 0 && index.is_first;
        // The first block of a stage still has the windows of the previous stage.
        let window_stage = if begins_new_stage { index.stage - 1 } else { index.stage };
        let is_global = config.global_attention_blocks.contains(&index.block);
        let window = config.window_sizes.get(window_stage).copied();
        let residual_proj =
            if begins_new_stage { Some(Linear::load(weights, &at("proj"))?) } else { None };
        Ok(Self {
            norm1: LayerNorm::load(weights, &at("norm1"), LAYER_NORM_EPS)?,
            norm2: LayerNorm::load(weights, &at("norm2"), LAYER_NORM_EPS)?,
            qkv: Linear::load(weights, &at("attn.qkv"))?,
            proj: Linear::load(weights, &at("attn.proj"))?,
            mlp_in: Linear::load(weights, &at("mlp.layers.0"))?,
            mlp_out: Linear::load(weights, &at("mlp.layers.1"))?,
            residual_proj,
            has_query_pooling: begins_new_stage,
            window: if is_global { None } else { window },
            num_heads: config.heads << index.stage,
            is_last_of_stage: index.is_last,
        })
    }

    /// `[B, H, W, C]` to the same shape, or to `[B, H/2, W/2, 2C]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let residual = match &self.residual_proj {
            Some(proj) => max_pool_2x2(&proj.forward(&normed)?)?,
            None => x.clone(),
        };
        let (_, rows, columns, _) = normed.dims4()?;
        let attended = match self.window {
            None => self.attention(&normed)?,
            Some(side) => {
                let attended = self.attention(&partition_windows(&normed, side)?)?;
                let pooling = if self.has_query_pooling { 2 } else { 1 };
                join_windows(&attended, side / pooling, rows / pooling, columns / pooling)?
            }
        };
        let x = (residual + attended)?;
        let inner = self.mlp_in.forward_gelu(&self.norm2.forward(&x)?)?;
        self.mlp_out.forward_residual(&inner, &x)
    }

    /// Attention within each map of `[B, H, W, C]`.
    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, mut rows, mut columns, _) = x.dims4()?;
        let qkv = self.qkv.forward(x)?;
        let width = qkv.dim(3)? / 3;
        let heads = self.num_heads;
        let head_dim = width / heads;
        let qkv = qkv.reshape((batch, rows * columns, 3 * heads, head_dim))?;
        let mut q = qkv.narrow(2, 0, heads)?;
        let k = qkv.narrow(2, heads, heads)?;
        let v = qkv.narrow(2, 2 * heads, heads)?;
        if self.has_query_pooling {
            let map = q.contiguous()?.reshape((batch, rows, columns, width))?;
            rows /= 2;
            columns /= 2;
            q = max_pool_2x2(&map)?.reshape((batch, rows * columns, heads, head_dim))?;
        }
        let attended = scaled_dot_product_attention(&q, &k, &v, None)?;
        self.proj.forward(&attended.reshape((batch, rows, columns, width))?)
    }
}

/// Partitions `[B, H, W, C]` into windows `[B * n, side, side, C]`. Where windows do not divide the
/// map it is padded with zeros, which take part in attention, as in the reference.
fn partition_windows(x: &Tensor, side: usize) -> Result<Tensor> {
    let (batch, rows, columns, width) = x.dims4()?;
    let padded_rows = rows.next_multiple_of(side);
    let padded_columns = columns.next_multiple_of(side);
    let x = x.pad_with_zeros(1, 0, padded_rows - rows)?;
    let x = x.pad_with_zeros(2, 0, padded_columns - columns)?;
    let shape = [batch, padded_rows / side, side, padded_columns / side, side, width];
    let x = x.reshape(&shape[..])?.permute(&[0, 1, 3, 2, 4, 5][..])?.contiguous()?;
    x.reshape(((), side, side, width))
}

/// Joins windows to maps of `rows` x `columns`, without the padding.
fn join_windows(x: &Tensor, side: usize, rows: usize, columns: usize) -> Result<Tensor> {
    let padded_rows = rows.next_multiple_of(side);
    let padded_columns = columns.next_multiple_of(side);
    let width = x.dim(3)?;
    let batch = x.dim(0)? / (padded_rows / side * (padded_columns / side));
    let shape = [batch, padded_rows / side, padded_columns / side, side, side, width];
    let x = x.reshape(&shape[..])?.permute(&[0, 1, 3, 2, 4, 5][..])?.contiguous()?;
    let x = x.reshape((batch, padded_rows, padded_columns, width))?;
    x.narrow(1, 0, rows)?.narrow(2, 0, columns)?.contiguous()
}

impl Hiera {
    /// Loads the trunk of a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is missing.
    pub fn load(weights: &Weights, config: &SamConfig) -> std::result::Result<Self, WeightsError> {
        let at = |rest: &str| format!("sam.image_encoder.trunk.{rest}");
        let mut blocks = Vec::new();
        for (stage, count) in config.stages.iter().enumerate() {
            for inside in 0..*count {
                let index = BlockIndex {
                    block: blocks.len(),
                    stage,
                    is_first: inside == 0,
                    is_last: inside + 1 == *count,
                };
                blocks.push(Block::load(weights, config, index)?);
            }
        }
        let patch_embed = at("patch_embed.proj");
        Ok(Self {
            patch_embed: PatchConv::load(weights, &patch_embed, PATCH_STRIDE, PATCH_PADDING)?,
            pos_embed: weights.get(&at("pos_embed"))?,
            pos_embed_window: weights.get(&at("pos_embed_window"))?,
            blocks,
        })
    }

    /// The last map of each stage, `[B, H, W, C]`, from the finest to the coarsest. `patch_embed`
    /// and the output of each `block_N` are shown to `observe`.
    ///
    /// # Errors
    ///
    /// Fails if the size of the images does not fit the windows.
    pub fn forward_traced(
        &self,
        images: &Tensor,
        observe: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Vec<Tensor>> {
        let patches = self.patch_embed.forward(images)?;
        observe("patch_embed", &patches);
        let positions = self.position_embedding(patches.dim(1)?, patches.dim(2)?)?;
        let mut x = patches.broadcast_add(&positions)?;
        let mut stages = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x)?;
            observe(&format!("block_{index}"), &x);
            if block.is_last_of_stage {
                stages.push(x.clone());
            }
        }
        Ok(stages)
    }

    /// The position embedding of each patch, `[1, H, W, C]`: the global one, interpolated, plus the
    /// one within a window, repeated.
    fn position_embedding(&self, rows: usize, columns: usize) -> Result<Tensor> {
        let (_, channels, height, width) = self.pos_embed.dims4()?;
        let vertical = bicubic_matrix(height, rows, &self.pos_embed)?;
        let horizontal = bicubic_matrix(width, columns, &self.pos_embed)?;
        let global = self.pos_embed.squeeze(0)?.broadcast_matmul(&horizontal.t()?)?;
        let global = vertical.broadcast_matmul(&global)?;
        let side = self.pos_embed_window.dim(2)?;
        let window = self.pos_embed_window.squeeze(0)?;
        let window = window.repeat((1, rows / side, columns / side))?;
        let positions = (global + window)?.reshape((1, channels, rows, columns))?;
        positions.permute((0, 2, 3, 1))?.contiguous()
    }
}
