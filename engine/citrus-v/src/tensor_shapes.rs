//! The names and shapes of all tensors that a model needs, derived from its configuration before
//! any file is opened.

use std::collections::BTreeMap;

use crate::config::{Config, SamConfig, SegConfig, TextConfig, VisionConfig};

/// The shape of each tensor by canonical name.
pub type TensorShapes = BTreeMap<String, Vec<usize>>;

/// Collects the tensors of layers.
#[derive(Default)]
struct Collector(TensorShapes);

impl Collector {
    fn add(&mut self, name: String, shape: &[usize]) {
        self.0.insert(name, shape.to_vec());
    }

    /// A linear layer: a weight `[out, in]` and a bias.
    fn linear(&mut self, name: &str, from: usize, to: usize) {
        self.add(format!("{name}.weight"), &[to, from]);
        self.add(format!("{name}.bias"), &[to]);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), &[width]);
        self.add(format!("{name}.bias"), &[width]);
    }

    fn conv(&mut self, name: &str, shape: [usize; 4]) {
        self.add(format!("{name}.weight"), &shape);
        self.add(format!("{name}.bias"), &[shape[0]]);
    }

    /// A transposed convolution with a kernel of 2 x 2: its weight is `[in, out, 2, 2]`.
    fn conv_transpose(&mut self, name: &str, from: usize, to: usize) {
        self.add(format!("{name}.weight"), &[from, to, 2, 2]);
        self.add(format!("{name}.bias"), &[to]);
    }

    /// An attention layer of the mask decoder.
    fn attention(&mut self, name: &str, hidden: usize, inside: usize) {
        for part in ["q_proj", "k_proj", "v_proj"] {
            self.linear(&format!("{name}.{part}"), hidden, inside);
        }
        self.linear(&format!("{name}.out_proj"), inside, hidden);
    }

    /// An MLP of three layers of the mask decoder.
    fn head(&mut self, name: &str, hidden: usize, inside: usize, out: usize) {
        self.linear(&format!("{name}.layers.0"), hidden, inside);
        self.linear(&format!("{name}.layers.1"), inside, inside);
        self.linear(&format!("{name}.layers.2"), inside, out);
    }
}

/// The tensors of a model.
pub fn tensor_shapes(config: &Config) -> TensorShapes {
    let mut collector = Collector::default();
    add_language_model(&mut collector, &config.text);
    add_vision_encoder(&mut collector, &config.vision);
    if let Some(seg) = &config.seg {
        add_projector(&mut collector, config.text.hidden, seg);
        add_sam(&mut collector, &seg.sam);
    }
    collector.0
}

/// The tensors of SAM 2 alone.
pub fn sam_tensor_shapes(config: &SamConfig) -> TensorShapes {
    let mut collector = Collector::default();
    add_sam(&mut collector, config);
    collector.0
}

fn add_language_model(collector: &mut Collector, config: &TextConfig) {
    let hidden = config.hidden;
    let kv_width = config.kv_heads * config.head_dim();
    let at = |rest: &str| format!("language_model.{rest}");
    collector.add(at("embed_tokens.weight"), &[config.vocabulary, hidden]);
    collector.add(at("norm.weight"), &[hidden]);
    if !config.has_tied_embeddings {
        collector.add("lm_head.weight".to_owned(), &[config.vocabulary, hidden]);
    }
    for layer in 0..config.layers {
        let at = |rest: &str| format!("language_model.layers.{layer}.{rest}");
        collector.linear(&at("self_attn.q_proj"), hidden, hidden);
        collector.linear(&at("self_attn.k_proj"), hidden, kv_width);
        collector.linear(&at("self_attn.v_proj"), hidden, kv_width);
        collector.add(at("self_attn.o_proj.weight"), &[hidden, hidden]);
        collector.add(at("mlp.gate_proj.weight"), &[config.intermediate, hidden]);
        collector.add(at("mlp.up_proj.weight"), &[config.intermediate, hidden]);
        collector.add(at("mlp.down_proj.weight"), &[hidden, config.intermediate]);
        collector.add(at("input_layernorm.weight"), &[hidden]);
        collector.add(at("post_attention_layernorm.weight"), &[hidden]);
    }
}

fn add_vision_encoder(collector: &mut Collector, config: &VisionConfig) {
    let patch = [config.hidden, config.channels, config.temporal_patch, config.patch, config.patch];
    collector.add("visual.patch_embed.proj.weight".to_owned(), &patch);
    for block in 0..config.depth {
        let at = |rest: &str| format!("visual.blocks.{block}.{rest}");
        collector.add(at("norm1.weight"), &[config.hidden]);
        collector.add(at("norm2.weight"), &[config.hidden]);
        collector.linear(&at("attn.qkv"), config.hidden, 3 * config.hidden);
        collector.linear(&at("attn.proj"), config.hidden, config.hidden);
        collector.linear(&at("mlp.gate_proj"), config.hidden, config.intermediate);
        collector.linear(&at("mlp.up_proj"), config.hidden, config.intermediate);
        collector.linear(&at("mlp.down_proj"), config.intermediate, config.hidden);
    }
    let merged = config.hidden * config.merge_unit();
    collector.add("visual.merger.ln_q.weight".to_owned(), &[config.hidden]);
    collector.linear("visual.merger.mlp.0", merged, merged);
    collector.linear("visual.merger.mlp.2", merged, config.out_hidden);
}

fn add_projector(collector: &mut Collector, hidden: usize, seg: &SegConfig) {
    let to = seg.sam.hidden;
    if seg.has_residual_projector {
        collector.linear("seg_projector.linear1", hidden, hidden);
        collector.linear("seg_projector.linear2", hidden, to);
        collector.linear("seg_projector.residual_mapping", hidden, to);
    } else {
        collector.linear("seg_projector.0", hidden, hidden);
        collector.linear("seg_projector.2", hidden, to);
    }
}

fn add_sam(collector: &mut Collector, config: &SamConfig) {
    add_trunk(collector, config);
    add_prompt_encoder(collector, config.hidden);
    add_mask_decoder(collector, config);
    collector.add("sam.no_mem_embed".to_owned(), &[1, 1, config.hidden]);
}

fn add_trunk(collector: &mut Collector, config: &SamConfig) {
    let at = |rest: &str| format!("sam.image_encoder.trunk.{rest}");
    collector.conv(&at("patch_embed.proj"), [config.embed, 3, 7, 7]);
    let [rows, columns] = config.pos_embed_size;
    collector.add(at("pos_embed"), &[1, config.embed, rows, columns]);
    collector.add(
        at("pos_embed_window"),
        &[1, config.embed, config.window_sizes[0], config.window_sizes[0]],
    );
    let mut before = config.embed;
    let stages = config.stages.iter().enumerate();
    let stages = stages.flat_map(|(stage, count)| std::iter::repeat_n(stage, *count));
    for (block, stage) in stages.enumerate() {
        let at = |rest: &str| format!("sam.image_encoder.trunk.blocks.{block}.{rest}");
        let width = config.width(stage);
        collector.norm(&at("norm1"), before);
        collector.norm(&at("norm2"), width);
        collector.linear(&at("attn.qkv"), before, 3 * width);
        collector.linear(&at("attn.proj"), width, width);
        collector.linear(&at("mlp.layers.0"), width, 4 * width);
        collector.linear(&at("mlp.layers.1"), 4 * width, width);
        if width != before {
            collector.linear(&at("proj"), before, width);
        }
        before = width;
    }
    for level in 0..4 {
        let name = format!("sam.image_encoder.neck.convs.{level}.conv");
        collector.conv(&name, [config.hidden, config.width(3 - level), 1, 1]);
    }
}

fn add_prompt_encoder(collector: &mut Collector, hidden: usize) {
    let at = |rest: &str| format!("sam.sam_prompt_encoder.{rest}");
    collector.add(at("pe_layer.positional_encoding_gaussian_matrix"), &[2, hidden / 2]);
    for point in 0..4 {
        collector.add(at(&format!("point_embeddings.{point}.weight")), &[1, hidden]);
    }
    collector.add(at("not_a_point_embed.weight"), &[1, hidden]);
    collector.add(at("no_mask_embed.weight"), &[1, hidden]);
    collector.conv(&at("mask_downscaling.0"), [4, 1, 2, 2]);
    collector.norm(&at("mask_downscaling.1"), 4);
    collector.conv(&at("mask_downscaling.3"), [16, 4, 2, 2]);
    collector.norm(&at("mask_downscaling.4"), 16);
    collector.conv(&at("mask_downscaling.6"), [hidden, 16, 1, 1]);
}

fn add_mask_decoder(collector: &mut Collector, config: &SamConfig) {
    let hidden = config.hidden;
    let at = |rest: &str| format!("sam.sam_mask_decoder.{rest}");
    for (token, count) in [("iou_token", 1), ("mask_tokens", 4), ("obj_score_token", 1)] {
        collector.add(at(&format!("{token}.weight")), &[count, hidden]);
    }
    for layer in 0..2 {
        let at = |rest: &str| format!("sam.sam_mask_decoder.transformer.layers.{layer}.{rest}");
        collector.attention(&at("self_attn"), hidden, hidden);
        collector.attention(&at("cross_attn_token_to_image"), hidden, hidden / 2);
        collector.attention(&at("cross_attn_image_to_token"), hidden, hidden / 2);
        collector.linear(&at("mlp.layers.0"), hidden, config.mlp);
        collector.linear(&at("mlp.layers.1"), config.mlp, hidden);
        for norm in 1..=4 {
            collector.norm(&at(&format!("norm{norm}")), hidden);
        }
    }
    collector.attention(&at("transformer.final_attn_token_to_image"), hidden, hidden / 2);
    collector.norm(&at("transformer.norm_final_attn"), hidden);
    collector.conv(&at("conv_s0"), [hidden / 8, hidden, 1, 1]);
    collector.conv(&at("conv_s1"), [hidden / 4, hidden, 1, 1]);
    collector.conv_transpose(&at("output_upscaling.0"), hidden, hidden / 4);
    collector.norm(&at("output_upscaling.1"), hidden / 4);
    collector.conv_transpose(&at("output_upscaling.3"), hidden / 4, hidden / 8);
    for mask in 0..4 {
        let name = at(&format!("output_hypernetworks_mlps.{mask}"));
        collector.head(&name, hidden, hidden, hidden / 8);
    }
    // Always 256, whatever the width of the decoder.
    collector.head(&at("iou_prediction_head"), hidden, 256, 4);
    collector.head(&at("pred_obj_score_head"), hidden, hidden, 1);
}
