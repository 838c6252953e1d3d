//! The vision encoder of Qwen2.5-VL ([arXiv 2502.13923](https://arxiv.org/abs/2502.13923), 2.1.1):
//! a vision transformer on patches, with window attention in most blocks and full attention in a
//! few, followed by the patch merger, which turns 2 x 2 patches into one token of the language
//! model.

use candle_core::{Device, Module, Result, Tensor};

use crate::attention::scaled_dot_product_attention;
use crate::checkpoint_index::WeightsError;
use crate::config::VisionConfig;
use crate::layers::{Linear, RmsNorm, SwiGlu};
use crate::positions::{Grid, WindowPartition, patch_angles};
use crate::rope::RotaryEmbedding;
use crate::weights::Weights;

/// The epsilon of RMSNorm, which is not part of the configuration.
const RMS_NORM_EPS: f64 = 1e-6;

/// The vision encoder with its weights.
pub struct VisionEncoder {
    config: VisionConfig,
    patch_embed: Linear,
    blocks: Vec<VisionBlock>,
    merger: PatchMerger,
}

struct VisionBlock {
    norm1: RmsNorm,
    attention: VisionAttention,
    norm2: RmsNorm,
    mlp: SwiGlu,
}

struct VisionAttention {
    num_heads: usize,
    qkv: Linear,
    proj: Linear,
}

/// Merges the patches of one token: norm, concatenation, and an MLP with GELU.
struct PatchMerger {
    norm: RmsNorm,
    mlp_in: Linear,
    mlp_out: Linear,
    /// The width of the concatenated patches.
    merged_width: usize,
}

/// Consecutive segments of equal length.
struct SegmentRun {
    start: usize,
    length: usize,
    count: usize,
}

impl VisionBlock {
    fn load(
        weights: &Weights,
        index: usize,
        config: &VisionConfig,
    ) -> std::result::Result<Self, WeightsError> {
        let name = format!("visual.blocks.{index}");
        Ok(Self {
            norm1: RmsNorm::load(weights, &format!("{name}.norm1"), RMS_NORM_EPS)?,
            attention: VisionAttention {
                num_heads: config.heads,
                qkv: Linear::load(weights, &format!("{name}.attn.qkv"))?,
                proj: Linear::load(weights, &format!("{name}.attn.proj"))?,
            },
            norm2: RmsNorm::load(weights, &format!("{name}.norm2"), RMS_NORM_EPS)?,
            mlp: SwiGlu::load(weights, &format!("{name}.mlp"))?,
        })
    }

    /// `boundaries` are the start and end of each segment within which patches attend to each
    /// other.
    fn forward(
        &self,
        x: &Tensor,
        rotary: &RotaryEmbedding,
        boundaries: &[usize],
    ) -> Result<Tensor> {
        let attended = self.attention.forward(&self.norm1.forward(x)?, rotary, boundaries)?;
        let x = self.attention.proj.forward_residual(&attended, x)?;
        let normed = self.norm2.forward(&x)?;
        self.mlp.forward_residual(&normed, &x)
    }
}

impl VisionAttention {
    /// Attention within segments of patches `[N, hidden]`, before the output projection.
    fn forward(
        &self,
        x: &Tensor,
        rotary: &RotaryEmbedding,
        boundaries: &[usize],
    ) -> Result<Tensor> {
        let (count, hidden) = x.dims2()?;
        let heads = self.num_heads;
        let head_dim = hidden / heads;
        let qkv = self.qkv.forward(x)?.reshape((1, count, 3 * heads, head_dim))?;
        let q = rotary.apply(&qkv.narrow(2, 0, heads)?)?;
        let k = rotary.apply(&qkv.narrow(2, heads, heads)?)?;
        let v = qkv.narrow(2, 2 * heads, heads)?;
        let mut outputs = Vec::new();
        // Consecutive segments of equal length make up a batch.
        for run in segment_runs(boundaries) {
            let q = run.segments_of(&q)?;
            let k = run.segments_of(&k)?;
            let v = run.segments_of(&v)?;
            let output = scaled_dot_product_attention(&q, &k, &v, None)?;
            outputs.push(output.reshape((run.length * run.count, hidden))?);
        }
        Tensor::cat(&outputs, 0)
    }
}

impl SegmentRun {
    /// The segments of this run as a batch, from `[1, N, H, d]` to `[count, length, H, d]`.
    fn segments_of(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, heads, head_dim) = x.dims4()?;
        let segments = x.narrow(1, self.start, self.length * self.count)?.contiguous()?;
        segments.reshape((self.count, self.length, heads, head_dim))
    }
}

fn segment_runs(boundaries: &[usize]) -> Vec<SegmentRun> {
    let mut runs: Vec<SegmentRun> = Vec::new();
    for (start, end) in boundaries.iter().zip(boundaries.iter().skip(1)) {
        match runs.last_mut() {
            Some(run) if run.length == end - start => run.count += 1,
            _ => runs.push(SegmentRun { start: *start, length: end - start, count: 1 }),
        }
    }
    runs
}

impl PatchMerger {
    fn load(weights: &Weights, config: &VisionConfig) -> std::result::Result<Self, WeightsError> {
        Ok(Self {
            norm: RmsNorm::load(weights, "visual.merger.ln_q", RMS_NORM_EPS)?,
            mlp_in: Linear::load(weights, "visual.merger.mlp.0")?,
            mlp_out: Linear::load(weights, "visual.merger.mlp.2")?,
            merged_width: config.merge_unit() * config.hidden,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.norm.forward(x)?.reshape(((), self.merged_width))?;
        self.mlp_out.forward(&self.mlp_in.forward_gelu(&x)?)
    }
}

impl VisionEncoder {
    /// Loads the vision encoder of a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is missing.
    pub fn load(
        weights: &Weights,
        config: &VisionConfig,
    ) -> std::result::Result<Self, WeightsError> {
        let blocks = (0..config.depth).map(|index| VisionBlock::load(weights, index, config));
        Ok(Self {
            patch_embed: Linear::load(weights, "visual.patch_embed.proj")?,
            blocks: blocks.collect::<std::result::Result<_, _>>()?,
            merger: PatchMerger::load(weights, config)?,
            config: config.clone(),
        })
    }

    /// The features of patches `[N, patch_len]` of pictures with these grids: one row per image
    /// token, `[N / merge_unit, out_hidden]`.
    ///
    /// # Errors
    ///
    /// Fails if the patches are not those of the grids.
    pub fn forward(&self, patches: &Tensor, grids: &[Grid]) -> Result<Tensor> {
        self.forward_traced(patches, grids, &mut |_, _| {})
    }

    /// As [`forward`](Self::forward), showing `patch_embed` and the output of each `block_N` to
    /// `observe`, in the order of windows.
    ///
    /// # Errors
    ///
    /// Fails if the patches are not those of the grids.
    pub fn forward_traced(
        &self,
        patches: &Tensor,
        grids: &[Grid],
        observe: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let windows = WindowPartition::of(&self.config, grids);
        let x = self.patch_embed.forward(patches)?;
        observe("patch_embed", &x);
        let order = Tensor::new(windows.order.as_slice(), x.device())?;
        let rotary = self.rotary_embedding(grids, &order, x.device())?;
        let mut x = permute_groups(&x, &order, self.config.merge_unit())?;
        for (index, block) in self.blocks.iter().enumerate() {
            let has_full_attention = self.config.full_attention_blocks.contains(&index);
            let boundaries = if has_full_attention {
                &windows.frame_boundaries
            } else {
                &windows.window_boundaries
            };
            x = block.forward(&x, &rotary, boundaries)?;
            observe(&format!("block_{index}"), &x);
        }
        let features = self.merger.forward(&x)?;
        let inverse = Tensor::new(windows.inverse_order().as_slice(), features.device())?;
        features.index_select(&inverse, 0)
    }

    /// The rotary embedding of all patches, in the order of windows.
    fn rotary_embedding(
        &self,
        grids: &[Grid],
        order: &Tensor,
        device: &Device,
    ) -> Result<RotaryEmbedding> {
        let half = self.config.hidden / self.config.heads / 2;
        let angles = patch_angles(&self.config, grids);
        let count = angles.len() / half;
        let angles = Tensor::from_vec(angles, (count, half), device)?;
        RotaryEmbedding::of_angles(&permute_groups(&angles, order, self.config.merge_unit())?)
    }
}

/// Permutes groups of `group` consecutive rows.
fn permute_groups(x: &Tensor, order: &Tensor, group: usize) -> Result<Tensor> {
    let (count, width) = x.dims2()?;
    let groups = x.reshape((count / group, group * width))?.index_select(order, 0)?;
    groups.reshape((count, width))
}
