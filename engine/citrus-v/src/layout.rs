//! Which tensors a model is made of, and how large they are: known before any file is opened.

use std::collections::BTreeMap;

use crate::config::{Config, SamConfig, SegConfig, TextConfig, VisionConfig};

/// Names and shapes.
pub type Layout = BTreeMap<String, Vec<usize>>;

/// A layout being written down.
#[derive(Default)]
struct Writer(Layout);

impl Writer {
    fn add(&mut self, name: String, shape: &[usize]) {
        self.0.insert(name, shape.to_vec());
    }

    /// A weight of `[out, in]` and a bias.
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

    /// A transposed convolution of 2 x 2, whose weight has what comes in first.
    fn conv_up(&mut self, name: &str, from: usize, to: usize) {
        self.add(format!("{name}.weight"), &[from, to, 2, 2]);
        self.add(format!("{name}.bias"), &[to]);
    }
}

/// All tensors of a model.
pub fn layout(config: &Config) -> Layout {
    let mut writer = Writer::default();
    text(&mut writer, &config.text);
    vision(&mut writer, &config.vision);
    if let Some(seg) = &config.seg {
        projector(&mut writer, config.text.hidden, seg);
        sam(&mut writer, &seg.sam);
    }
    writer.0
}

/// The tensors of a SAM2 on its own.
pub fn sam_layout(config: &SamConfig) -> Layout {
    let mut writer = Writer::default();
    sam(&mut writer, config);
    writer.0
}

fn text(writer: &mut Writer, it: &TextConfig) {
    let (hidden, keys) = (it.hidden, it.kv_heads * it.head());
    let at = |rest: &str| format!("language_model.{rest}");
    writer.add(at("embed_tokens.weight"), &[it.vocabulary, hidden]);
    writer.add(at("norm.weight"), &[hidden]);
    if !it.is_tied {
        writer.add("lm_head.weight".to_owned(), &[it.vocabulary, hidden]);
    }
    for layer in 0..it.layers {
        let at = |rest: &str| format!("language_model.layers.{layer}.{rest}");
        writer.linear(&at("self_attn.q_proj"), hidden, hidden);
        writer.linear(&at("self_attn.k_proj"), hidden, keys);
        writer.linear(&at("self_attn.v_proj"), hidden, keys);
        writer.add(at("self_attn.o_proj.weight"), &[hidden, hidden]);
        writer.add(at("mlp.gate_proj.weight"), &[it.intermediate, hidden]);
        writer.add(at("mlp.up_proj.weight"), &[it.intermediate, hidden]);
        writer.add(at("mlp.down_proj.weight"), &[hidden, it.intermediate]);
        writer.add(at("input_layernorm.weight"), &[hidden]);
        writer.add(at("post_attention_layernorm.weight"), &[hidden]);
    }
}

fn vision(writer: &mut Writer, it: &VisionConfig) {
    let patch = [it.hidden, it.channels, it.frames, it.patch, it.patch];
    writer.add("visual.patch_embed.proj.weight".to_owned(), &patch);
    for block in 0..it.depth {
        let at = |rest: &str| format!("visual.blocks.{block}.{rest}");
        writer.add(at("norm1.weight"), &[it.hidden]);
        writer.add(at("norm2.weight"), &[it.hidden]);
        writer.linear(&at("attn.qkv"), it.hidden, 3 * it.hidden);
        writer.linear(&at("attn.proj"), it.hidden, it.hidden);
        writer.linear(&at("mlp.gate_proj"), it.hidden, it.intermediate);
        writer.linear(&at("mlp.up_proj"), it.hidden, it.intermediate);
        writer.linear(&at("mlp.down_proj"), it.intermediate, it.hidden);
    }
    let merged = it.hidden * it.merged();
    writer.add("visual.merger.ln_q.weight".to_owned(), &[it.hidden]);
    writer.linear("visual.merger.mlp.0", merged, merged);
    writer.linear("visual.merger.mlp.2", merged, it.out);
}

fn projector(writer: &mut Writer, hidden: usize, seg: &SegConfig) {
    let to = seg.sam.hidden;
    if seg.is_residual {
        writer.linear("seg_projector.linear1", hidden, hidden);
        writer.linear("seg_projector.linear2", hidden, to);
        writer.linear("seg_projector.residual_mapping", hidden, to);
    } else {
        writer.linear("seg_projector.0", hidden, hidden);
        writer.linear("seg_projector.2", hidden, to);
    }
}

fn sam(writer: &mut Writer, it: &SamConfig) {
    trunk(writer, it);
    prompt(writer, it.hidden);
    decoder(writer, it);
    writer.add("sam.no_mem_embed".to_owned(), &[1, 1, it.hidden]);
}

fn trunk(writer: &mut Writer, it: &SamConfig) {
    let at = |rest: &str| format!("sam.image_encoder.trunk.{rest}");
    writer.conv(&at("patch_embed.proj"), [it.embed, 3, 7, 7]);
    let [rows, columns] = it.background;
    writer.add(at("pos_embed"), &[1, it.embed, rows, columns]);
    writer.add(at("pos_embed_window"), &[1, it.embed, it.windows[0], it.windows[0]]);
    let mut before = it.embed;
    let stages = it.stages.iter().enumerate().flat_map(|(at, it)| std::iter::repeat_n(at, *it));
    for (block, stage) in stages.enumerate() {
        let at = |rest: &str| format!("sam.image_encoder.trunk.blocks.{block}.{rest}");
        let width = it.width(stage);
        writer.norm(&at("norm1"), before);
        writer.norm(&at("norm2"), width);
        writer.linear(&at("attn.qkv"), before, 3 * width);
        writer.linear(&at("attn.proj"), width, width);
        writer.linear(&at("mlp.layers.0"), width, 4 * width);
        writer.linear(&at("mlp.layers.1"), 4 * width, width);
        if width != before {
            writer.linear(&at("proj"), before, width);
        }
        before = width;
    }
    for level in 0..4 {
        let name = format!("sam.image_encoder.neck.convs.{level}.conv");
        writer.conv(&name, [it.hidden, it.width(3 - level), 1, 1]);
    }
}

fn prompt(writer: &mut Writer, hidden: usize) {
    let at = |rest: &str| format!("sam.sam_prompt_encoder.{rest}");
    writer.add(at("pe_layer.positional_encoding_gaussian_matrix"), &[2, hidden / 2]);
    for point in 0..4 {
        writer.add(at(&format!("point_embeddings.{point}.weight")), &[1, hidden]);
    }
    writer.add(at("not_a_point_embed.weight"), &[1, hidden]);
    writer.add(at("no_mask_embed.weight"), &[1, hidden]);
    writer.conv(&at("mask_downscaling.0"), [4, 1, 2, 2]);
    writer.norm(&at("mask_downscaling.1"), 4);
    writer.conv(&at("mask_downscaling.3"), [16, 4, 2, 2]);
    writer.norm(&at("mask_downscaling.4"), 16);
    writer.conv(&at("mask_downscaling.6"), [hidden, 16, 1, 1]);
}

fn decoder(writer: &mut Writer, it: &SamConfig) {
    let hidden = it.hidden;
    let at = |rest: &str| format!("sam.sam_mask_decoder.{rest}");
    for (token, count) in [("iou_token", 1), ("mask_tokens", 4), ("obj_score_token", 1)] {
        writer.add(at(&format!("{token}.weight")), &[count, hidden]);
    }
    let attention = |writer: &mut Writer, name: String, inside: usize| {
        for part in ["q_proj", "k_proj", "v_proj"] {
            writer.linear(&format!("{name}.{part}"), hidden, inside);
        }
        writer.linear(&format!("{name}.out_proj"), inside, hidden);
    };
    for layer in 0..2 {
        let at = |rest: &str| format!("sam.sam_mask_decoder.transformer.layers.{layer}.{rest}");
        attention(writer, at("self_attn"), hidden);
        attention(writer, at("cross_attn_token_to_image"), hidden / 2);
        attention(writer, at("cross_attn_image_to_token"), hidden / 2);
        writer.linear(&at("mlp.layers.0"), hidden, it.mlp);
        writer.linear(&at("mlp.layers.1"), it.mlp, hidden);
        for norm in 1..=4 {
            writer.norm(&at(&format!("norm{norm}")), hidden);
        }
    }
    attention(writer, at("transformer.final_attn_token_to_image"), hidden / 2);
    writer.norm(&at("transformer.norm_final_attn"), hidden);
    writer.conv(&at("conv_s0"), [hidden / 8, hidden, 1, 1]);
    writer.conv(&at("conv_s1"), [hidden / 4, hidden, 1, 1]);
    writer.conv_up(&at("output_upscaling.0"), hidden, hidden / 4);
    writer.norm(&at("output_upscaling.1"), hidden / 4);
    writer.conv_up(&at("output_upscaling.3"), hidden / 4, hidden / 8);
    let mut head = |name: &str, inside: usize, out: usize| {
        writer.linear(&at(&format!("{name}.layers.0")), hidden, inside);
        writer.linear(&at(&format!("{name}.layers.1")), inside, inside);
        writer.linear(&at(&format!("{name}.layers.2")), inside, out);
    };
    for mask in 0..4 {
        head(&format!("output_hypernetworks_mlps.{mask}"), hidden, hidden / 8);
    }
    // 256 whatever the width of the decoder.
    head("iou_prediction_head", 256, 4);
    head("pred_obj_score_head", hidden, 1);
}
