//! The vision tower of Qwen2.5-VL: patches in, features for the text out.

use candle_core::{D, DType, Device, Module, Result, Tensor};

use crate::config::VisionConfig;
use crate::ops::{Linear, RmsNorm, attention, rotated, silu_times};
use crate::plan::WeightsError;
use crate::positions::{Grid, Windows, patch_angles};
use crate::weights::Weights;

/// Of RMSNorm; the configuration has no say in it.
const EPS: f64 = 1e-6;

/// The tower.
pub struct Vision {
    config: VisionConfig,
    patches: Linear,
    blocks: Vec<Block>,
    merge_norm: RmsNorm,
    merge_in: Linear,
    merge_out: Linear,
}

struct Block {
    norm1: RmsNorm,
    norm2: RmsNorm,
    qkv: Linear,
    proj: Linear,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    fn load(weights: &Weights, index: usize) -> std::result::Result<Self, WeightsError> {
        let at = |rest: &str| format!("visual.blocks.{index}.{rest}");
        Ok(Self {
            norm1: RmsNorm::load(weights, &at("norm1"), EPS)?,
            norm2: RmsNorm::load(weights, &at("norm2"), EPS)?,
            qkv: Linear::load(weights, &at("attn.qkv"))?,
            proj: Linear::load(weights, &at("attn.proj"))?,
            gate: Linear::load(weights, &at("mlp.gate_proj"))?,
            up: Linear::load(weights, &at("mlp.up_proj"))?,
            down: Linear::load(weights, &at("mlp.down_proj"))?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        turn: &(Tensor, Tensor),
        ends: &[usize],
        heads: usize,
    ) -> Result<Tensor> {
        let seen = self.attend(&self.norm1.forward(x)?, turn, ends, heads)?;
        let x = self.proj.forward_onto(&seen, x)?;
        let normed = self.norm2.forward(&x)?;
        let gated = silu_times(&self.gate.forward(&normed)?, &self.up.forward(&normed)?)?;
        self.down.forward_onto(&gated, &x)
    }

    fn attend(
        &self,
        x: &Tensor,
        (cos, sin): &(Tensor, Tensor),
        ends: &[usize],
        heads: usize,
    ) -> Result<Tensor> {
        let (count, width) = x.dims2()?;
        let qkv = self.qkv.forward(x)?.reshape((1, count, 3 * heads, width / heads))?;
        let part = |it: usize| qkv.narrow(2, it * heads, heads);
        let (q, k, v) = (rotated(&part(0)?, cos, sin)?, rotated(&part(1)?, cos, sin)?, part(2)?);
        let mut outs = Vec::new();
        // Neighbours of the same length go together.
        for (start, length, together) in runs(ends) {
            let segment = |it: &Tensor| {
                let it = it.narrow(1, start, length * together)?.contiguous()?;
                it.reshape((together, length, heads, width / heads))
            };
            let out = attention(&segment(&q)?, &segment(&k)?, &segment(&v)?, None)?;
            outs.push(out.reshape((length * together, width))?);
        }
        Tensor::cat(&outs, 0)
    }
}

/// Segments between `ends`: where a run of equally long ones begins, their length, their number.
fn runs(ends: &[usize]) -> Vec<(usize, usize, usize)> {
    let mut runs: Vec<(usize, usize, usize)> = Vec::new();
    for (start, end) in ends.iter().zip(ends.iter().skip(1)) {
        match runs.last_mut() {
            Some((_, length, together)) if *length == end - start => *together += 1,
            _ => runs.push((*start, end - start, 1)),
        }
    }
    runs
}

impl Vision {
    /// The tower of a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is not there.
    pub fn load(
        weights: &Weights,
        config: &VisionConfig,
    ) -> std::result::Result<Self, WeightsError> {
        let blocks = (0..config.depth).map(|it| Block::load(weights, it));
        Ok(Self {
            patches: Linear::load(weights, "visual.patch_embed.proj")?,
            blocks: blocks.collect::<std::result::Result<_, _>>()?,
            merge_norm: RmsNorm::load(weights, "visual.merger.ln_q", EPS)?,
            merge_in: Linear::load(weights, "visual.merger.mlp.0")?,
            merge_out: Linear::load(weights, "visual.merger.mlp.2")?,
            config: config.clone(),
        })
    }

    /// Features of patches `[N, patch]` of pictures with these grids: `[N / merged, out]`.
    ///
    /// # Errors
    ///
    /// Fails if the patches are not those of the grids.
    pub fn forward(&self, patches: &Tensor, grids: &[Grid]) -> Result<Tensor> {
        self.traced(patches, grids, &mut |_, _| {})
    }

    /// The same, showing what is between: `patch_embed` and each `block_N`, in the order of windows.
    ///
    /// # Errors
    ///
    /// Fails if the patches are not those of the grids.
    pub fn traced(
        &self,
        patches: &Tensor,
        grids: &[Grid],
        seen: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let windows = Windows::of(&self.config, grids);
        let merged = self.config.merged();
        let x = self.patches.forward(patches)?;
        seen("patch_embed", &x);
        let order = Tensor::new(windows.order.as_slice(), x.device())?;
        let turn = self.turn(grids, &order, x.device())?;
        let mut x = arranged(&x, &order, merged)?;
        for (index, block) in self.blocks.iter().enumerate() {
            let is_full = self.config.full_blocks.contains(&index);
            let ends = if is_full { &windows.frames } else { &windows.ends };
            x = block.forward(&x, &turn, ends, self.config.heads)?;
            seen(&format!("block_{index}"), &x);
        }
        let x = self.merge_norm.forward(&x)?;
        let x = x.reshape(((), merged * self.config.hidden))?;
        let x = self.merge_out.forward(&self.merge_in.forward_gelu(&x)?)?;
        x.index_select(&Tensor::new(windows.inverse().as_slice(), x.device())?, 0)
    }

    /// Cosines and sines of all patches, in the order of windows: `[1, N, head]`.
    fn turn(&self, grids: &[Grid], order: &Tensor, device: &Device) -> Result<(Tensor, Tensor)> {
        let half = self.config.hidden / self.config.heads / 2;
        let angles = patch_angles(&self.config, grids);
        let angles = Tensor::from_vec(angles.clone(), (angles.len() / half, half), device)?;
        let angles = arranged(&angles, order, self.config.merged())?;
        let angles = Tensor::cat(&[&angles, &angles], D::Minus1)?.unsqueeze(0)?;
        Ok((angles.cos()?.to_dtype(DType::F32)?, angles.sin()?.to_dtype(DType::F32)?))
    }
}

/// Rows in groups of `merged`, in another order.
fn arranged(x: &Tensor, order: &Tensor, merged: usize) -> Result<Tensor> {
    let (count, width) = x.dims2()?;
    let groups = x.reshape((count / merged, merged * width))?.index_select(order, 0)?;
    groups.reshape((count, width))
}
