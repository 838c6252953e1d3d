//! The names of tensors: every format in use is mapped to one canonical name.
//!
//! Canonical names are those of the release without its prefix: `visual.*`, `language_model.*`,
//! `lm_head.weight`, `seg_projector.*`, and `sam.*` with the names of the SAM 2 repository.

/// What the name of a tensor in a file refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanonicalName {
    /// A tensor of the model.
    Tensor(String),
    /// A table whose rows are tensors of the model, with these names.
    Rows(Vec<String>),
    /// A part of SAM 2 for video, or a buffer that the configuration determines.
    Unused,
    /// A tensor that the model does not have.
    Unknown,
}

/// The parts of SAM 2 that only video needs (2.0 and 2.1, in both namings), and buffers.
const UNUSED_OF_SAM: [&str; 17] = [
    "memory_attention.",
    "memory_encoder.",
    "maskmem_tpos_enc",
    "no_mem_pos_enc",
    "no_obj_ptr",
    "no_obj_embed_spatial",
    "mask_downsample.",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
    "memory_temporal_positional_encoding",
    "no_memory_positional_encoding",
    "no_object_pointer",
    "object_pointer_proj.",
    "temporal_positional_encoding_projection_layer.",
    "occlusion_spatial_embedding_parameter",
    // Buffers that the configuration determines.
    "rotary_emb.",
    "inv_freq",
];

/// The canonical name of a tensor with this name in a file.
pub fn canonical_name(name: &str) -> CanonicalName {
    let name = name.strip_prefix("mllm.").unwrap_or(name);
    if let Some(rest) = name.strip_prefix("grounding_encoder.sam2_model.") {
        return sam_name(rest);
    }
    for prefix in ["model.visual.", "visual."] {
        if let Some(rest) = name.strip_prefix(prefix) {
            return if rest.ends_with("inv_freq") {
                CanonicalName::Unused
            } else {
                CanonicalName::Tensor(format!("visual.{rest}"))
            };
        }
    }
    for prefix in ["model.language_model.", "language_model.model.", "model."] {
        if let Some(rest) = name.strip_prefix(prefix) {
            let known = ["embed_tokens.", "layers.", "norm."].iter().any(|it| rest.starts_with(it));
            return match known {
                _ if rest.ends_with("inv_freq") => CanonicalName::Unused,
                true => CanonicalName::Tensor(format!("language_model.{rest}")),
                false => CanonicalName::Unknown,
            };
        }
    }
    if name == "lm_head.weight" || name == "language_model.lm_head.weight" {
        return CanonicalName::Tensor("lm_head.weight".to_owned());
    }
    if name.starts_with("seg_projector.") {
        return CanonicalName::Tensor(name.to_owned());
    }
    sam_name(name)
}

/// The name of a tensor in the files of the release, by its canonical name.
pub fn release_name(canonical: &str) -> String {
    if let Some(rest) = canonical.strip_prefix("sam.") {
        return format!("grounding_encoder.sam2_model.{rest}");
    }
    if canonical.starts_with("seg_projector.") {
        return canonical.to_owned();
    }
    if canonical.starts_with("lm_head.") {
        return format!("mllm.{canonical}");
    }
    format!("mllm.model.{canonical}")
}

fn sam_name(name: &str) -> CanonicalName {
    if UNUSED_OF_SAM.iter().any(|it| name.starts_with(it)) {
        return CanonicalName::Unused;
    }
    let ours = ["image_encoder.", "sam_prompt_encoder.", "sam_mask_decoder."];
    if name == "no_mem_embed" || ours.iter().any(|it| name.starts_with(it)) {
        return CanonicalName::Tensor(format!("sam.{name}"));
    }
    if name == "no_memory_embedding" {
        return CanonicalName::Tensor("sam.no_mem_embed".to_owned());
    }
    // Some files contain this tensor under two names.
    if name == "shared_image_embedding.positional_embedding" {
        return sam_name("prompt_encoder.shared_embedding.positional_embedding");
    }
    if name == "prompt_encoder.point_embed.weight" {
        let row = |it| format!("sam.sam_prompt_encoder.point_embeddings.{it}.weight");
        return CanonicalName::Rows((0..4).map(row).collect());
    }
    let translated = if let Some(rest) = name.strip_prefix("vision_encoder.") {
        vision_encoder_name(rest)
    } else if let Some(rest) = name.strip_prefix("prompt_encoder.") {
        Some(prompt_encoder_name(rest))
    } else {
        name.strip_prefix("mask_decoder.").map(mask_decoder_name)
    };
    translated.map_or(CanonicalName::Unknown, |it| CanonicalName::Tensor(format!("sam.{it}")))
}

fn replaced(text: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn vision_encoder_name(rest: &str) -> Option<String> {
    if let Some(conv) = rest.strip_prefix("neck.convs.") {
        let (number, leaf) = conv.split_once('.')?;
        return Some(format!("image_encoder.neck.convs.{number}.conv.{leaf}"));
    }
    let pairs = [
        ("patch_embed.projection.", "patch_embed.proj."),
        (".layer_norm1.", ".norm1."),
        (".layer_norm2.", ".norm2."),
        (".mlp.proj_in.", ".mlp.layers.0."),
        (".mlp.proj_out.", ".mlp.layers.1."),
    ];
    let rest = rest.strip_prefix("backbone.")?;
    Some(format!("image_encoder.trunk.{}", replaced(rest, &pairs)))
}

fn prompt_encoder_name(rest: &str) -> String {
    let pairs = [
        ("shared_embedding.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
        ("mask_embed.conv1.", "mask_downscaling.0."),
        ("mask_embed.layer_norm1.", "mask_downscaling.1."),
        ("mask_embed.conv2.", "mask_downscaling.3."),
        ("mask_embed.layer_norm2.", "mask_downscaling.4."),
        ("mask_embed.conv3.", "mask_downscaling.6."),
    ];
    format!("sam_prompt_encoder.{}", replaced(rest, &pairs))
}

fn mask_decoder_name(rest: &str) -> String {
    let pairs = [
        (".o_proj.", ".out_proj."),
        ("layer_norm_final_attn", "norm_final_attn"),
        (".layer_norm", ".norm"),
        ("upscale_conv1.", "output_upscaling.0."),
        ("upscale_layer_norm.", "output_upscaling.1."),
        ("upscale_conv2.", "output_upscaling.3."),
        (".mlp.proj_in.", ".mlp.layers.0."),
        (".mlp.proj_out.", ".mlp.layers.1."),
    ];
    let rest = replaced(rest, &pairs);
    // Heads with three layers: the middle one has number 0 there and number 1 here.
    let rest = if rest.starts_with("transformer.") {
        rest
    } else {
        let middle = [(".layers.0.", ".layers.1."), (".proj_in.", ".layers.0.")];
        replaced(&replaced(&rest, &middle), &[(".proj_out.", ".layers.2.")])
    };
    format!("sam_mask_decoder.{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str], expected: &str) {
        for name in names {
            assert_eq!(canonical_name(name), CanonicalName::Tensor(expected.to_owned()), "{name}");
        }
    }

    #[test]
    fn every_name_of_a_tensor_has_the_same_canonical_name() {
        let leaf = "layers.3.mlp.up_proj.weight";
        let names = ["mllm.model.language_model.", "model.language_model.", "model."];
        let names = names.map(|it| format!("{it}{leaf}"));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        check(&names, &format!("language_model.{leaf}"));
        check(&["mllm.lm_head.weight", "lm_head.weight"], "lm_head.weight");
        check(
            &[
                "mllm.model.visual.merger.ln_q.weight",
                "model.visual.merger.ln_q.weight",
                "visual.merger.ln_q.weight",
            ],
            "visual.merger.ln_q.weight",
        );
        check(
            &["grounding_encoder.sam2_model.no_mem_embed", "no_mem_embed", "no_memory_embedding"],
            "sam.no_mem_embed",
        );
    }

    #[test]
    fn unused_and_unknown_tensors_are_distinguished() {
        assert_eq!(canonical_name("memory_encoder.out_proj.weight"), CanonicalName::Unused);
        assert_eq!(canonical_name("model.visual.rotary_pos_emb.inv_freq"), CanonicalName::Unused);
        for name in ["model.layer.0.weight", "vision_encoder.neck", "x"] {
            assert_eq!(canonical_name(name), CanonicalName::Unknown, "{name}");
        }
    }
}
