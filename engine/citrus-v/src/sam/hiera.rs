//! Hiera, the trunk of SAM2: tokens in four stages, each half as fine and twice as wide.

use candle_core::{Module, Result, Tensor};

use crate::config::SamConfig;
use crate::convolutions::ConvOverlapping;
use crate::ops::{LayerNorm, Linear, attention, bicubic_matrix, max_pool_2x2};
use crate::plan::WeightsError;
use crate::weights::Weights;

/// Of LayerNorm in the trunk.
const EPS: f64 = 1e-6;

/// How far patches are apart, and how far they reach over the edge.
const STRIDE: usize = 4;
const PADDING: usize = 3;

/// The trunk.
pub struct Hiera {
    patches: ConvOverlapping,
    table: Tensor,
    window_table: Tensor,
    blocks: Vec<Block>,
}

struct Block {
    norm1: LayerNorm,
    norm2: LayerNorm,
    qkv: Linear,
    proj: Linear,
    mlp_in: Linear,
    mlp_out: Linear,
    /// Makes it wider, where a stage begins.
    widen: Option<Linear>,
    /// Whether rows and columns are halved here.
    is_pooled: bool,
    /// Side of a window before that; all of it is one, if it is nought.
    window: usize,
    heads: usize,
    /// Whether a stage ends here.
    ends_stage: bool,
}

impl Block {
    fn load(
        weights: &Weights,
        config: &SamConfig,
        index: usize,
        stage: usize,
        is_first: bool,
        is_last: bool,
    ) -> std::result::Result<Self, WeightsError> {
        let at = |rest: &str| format!("sam.image_encoder.trunk.blocks.{index}.{rest}");
        let linear = |rest: &str| Linear::load(weights, &at(rest));
        let begins = stage > 0 && is_first;
        // The first block of a stage still has the windows of the one before.
        let spec = config.windows.get(if begins { stage - 1 } else { stage }).copied();
        let is_global = config.global_blocks.contains(&index);
        Ok(Self {
            norm1: LayerNorm::load(weights, &at("norm1"), EPS)?,
            norm2: LayerNorm::load(weights, &at("norm2"), EPS)?,
            qkv: linear("attn.qkv")?,
            proj: linear("attn.proj")?,
            mlp_in: linear("mlp.layers.0")?,
            mlp_out: linear("mlp.layers.1")?,
            widen: if begins { Some(linear("proj")?) } else { None },
            is_pooled: begins,
            window: if is_global { 0 } else { spec.unwrap_or_default() },
            heads: config.heads << stage,
            ends_stage: is_last,
        })
    }

    /// `[B, H, W, C]` to the same, or half as fine and twice as wide.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let shortcut = match &self.widen {
            Some(widen) => max_pool_2x2(&widen.forward(&normed)?)?,
            None => x.clone(),
        };
        let (_, rows, columns, _) = normed.dims4()?;
        let out = if self.window == 0 {
            self.attend(&normed)?
        } else {
            let out = self.attend(&windows(&normed, self.window)?)?;
            let halved = if self.is_pooled { 2 } else { 1 };
            joined(&out, self.window / halved, rows / halved, columns / halved)?
        };
        let x = (shortcut + out)?;
        let inner = self.mlp_in.forward_gelu(&self.norm2.forward(&x)?)?;
        self.mlp_out.forward_onto(&inner, &x)
    }

    fn attend(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, rows, columns, _) = x.dims4()?;
        let qkv = self.qkv.forward(x)?;
        let width = qkv.dim(3)? / 3;
        let (heads, head) = (self.heads, width / self.heads);
        let qkv = qkv.reshape((batch, rows * columns, 3 * heads, head))?;
        let part = |it: usize| qkv.narrow(2, it * heads, heads);
        let (mut q, mut to) = (part(0)?, (rows, columns));
        if self.is_pooled {
            to = (rows / 2, columns / 2);
            let map = q.contiguous()?.reshape((batch, rows, columns, width))?;
            q = max_pool_2x2(&map)?.reshape((batch, to.0 * to.1, heads, head))?;
        }
        let out = attention(&q, &part(1)?, &part(2)?, None)?;
        self.proj.forward(&out.reshape((batch, to.0, to.1, width))?)
    }
}

/// `[B, H, W, C]` in windows `[B * n, side, side, C]`. Where windows do not divide the map, noughts are
/// added, and take part.
fn windows(x: &Tensor, side: usize) -> Result<Tensor> {
    let (batch, rows, columns, width) = x.dims4()?;
    let (down, right) = (rows.next_multiple_of(side), columns.next_multiple_of(side));
    let x = x.pad_with_zeros(1, 0, down - rows)?.pad_with_zeros(2, 0, right - columns)?;
    let x = x.reshape(&[batch, down / side, side, right / side, side, width][..])?;
    let x = x.permute(&[0, 1, 3, 2, 4, 5][..])?.contiguous()?;
    x.reshape(((), side, side, width))
}

/// The other way round, to a map of `rows` x `columns`.
fn joined(x: &Tensor, side: usize, rows: usize, columns: usize) -> Result<Tensor> {
    let (down, right) = (rows.next_multiple_of(side), columns.next_multiple_of(side));
    let width = x.dim(3)?;
    let batch = x.dim(0)? / (down / side * (right / side));
    let x = x.reshape(&[batch, down / side, right / side, side, side, width][..])?;
    let x = x.permute(&[0, 1, 3, 2, 4, 5][..])?.contiguous()?;
    let x = x.reshape((batch, down, right, width))?;
    x.narrow(1, 0, rows)?.narrow(2, 0, columns)?.contiguous()
}

impl Hiera {
    /// The trunk of a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is not there.
    pub fn load(weights: &Weights, config: &SamConfig) -> std::result::Result<Self, WeightsError> {
        let at = |rest: &str| format!("sam.image_encoder.trunk.{rest}");
        let mut blocks = Vec::new();
        for (stage, count) in config.stages.iter().enumerate() {
            for inside in 0..*count {
                let (is_first, is_last) = (inside == 0, inside + 1 == *count);
                let index = blocks.len();
                blocks.push(Block::load(weights, config, index, stage, is_first, is_last)?);
            }
        }
        Ok(Self {
            patches: ConvOverlapping::load(weights, &at("patch_embed.proj"), STRIDE, PADDING)?,
            table: weights.get(&at("pos_embed"))?,
            window_table: weights.get(&at("pos_embed_window"))?,
            blocks,
        })
    }

    /// The last map of each stage, `[B, H, W, C]`, from the finest on.
    ///
    /// # Errors
    ///
    /// Fails if the pictures are not of four times a multiple of the windows.
    pub fn traced(
        &self,
        pictures: &Tensor,
        seen: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Vec<Tensor>> {
        let patches = self.patches.forward(pictures)?;
        seen("patch_embed", &patches);
        let mut x = patches.broadcast_add(&self.places(patches.dim(1)?, patches.dim(2)?)?)?;
        let mut stages = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x)?;
            seen(&format!("block_{index}"), &x);
            if block.ends_stage {
                stages.push(x.clone());
            }
        }
        Ok(stages)
    }

    /// Where each patch is: a coarse table, stretched, and a fine one, repeated. `[1, H, W, C]`.
    ///
    /// # Errors
    ///
    /// Fails if the fine one does not fit the map.
    pub fn places(&self, rows: usize, columns: usize) -> Result<Tensor> {
        let (_, channels, height, width) = self.table.dims4()?;
        let down = bicubic_matrix(height, rows, &self.table)?;
        let right = bicubic_matrix(width, columns, &self.table)?;
        let stretched = self.table.squeeze(0)?.broadcast_matmul(&right.t()?)?;
        let stretched = down.broadcast_matmul(&stretched)?;
        let side = self.window_table.dim(2)?;
        let repeated = self.window_table.squeeze(0)?.repeat((1, rows / side, columns / side))?;
        let places = (stretched + repeated)?.reshape((1, channels, rows, columns))?;
        places.permute((0, 2, 3, 1))?.contiguous()
    }
}
