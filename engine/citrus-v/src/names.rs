//! What tensors are called: one name for each, whoever wrote the file.
//!
//! Ours are those of the release without the word in front: `visual.*`, `language_model.*`,
//! `lm_head.weight`, `seg_projector.*`, and `sam.*` with the names of the SAM2 repository.

/// What a name in a file stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A tensor of ours.
    Tensor(String),
    /// A table whose rows are tensors of ours, called so.
    Rows(Vec<String>),
    /// Something of SAM2 that only films need, or a second copy.
    Unused,
    /// Nobody knows.
    Unknown,
}

/// Parts of SAM2 that only films need (2.0 and 2.1, in both namings).
const OF_FILMS: [&str; 17] = [
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
    // Buffers that say nothing a configuration does not.
    "rotary_emb.",
    "inv_freq",
];

/// What a name stands for.
pub fn meaning(name: &str) -> Meaning {
    let name = name.strip_prefix("mllm.").unwrap_or(name);
    if let Some(rest) = name.strip_prefix("grounding_encoder.sam2_model.") {
        return of_sam(rest);
    }
    let tensor = |text: String| Meaning::Tensor(text);
    for prefix in ["model.visual.", "visual."] {
        if let Some(rest) = name.strip_prefix(prefix) {
            return if rest.ends_with("inv_freq") {
                Meaning::Unused
            } else {
                tensor(format!("visual.{rest}"))
            };
        }
    }
    for prefix in ["model.language_model.", "language_model.model.", "model."] {
        if let Some(rest) = name.strip_prefix(prefix) {
            let known = ["embed_tokens.", "layers.", "norm."].iter().any(|it| rest.starts_with(it));
            return match known {
                _ if rest.ends_with("inv_freq") => Meaning::Unused,
                true => tensor(format!("language_model.{rest}")),
                false => Meaning::Unknown,
            };
        }
    }
    if name == "lm_head.weight" || name == "language_model.lm_head.weight" {
        return tensor("lm_head.weight".to_owned());
    }
    if name.starts_with("seg_projector.") {
        return tensor(name.to_owned());
    }
    of_sam(name)
}

fn of_sam(name: &str) -> Meaning {
    if OF_FILMS.iter().any(|it| name.starts_with(it)) {
        return Meaning::Unused;
    }
    let ours = ["image_encoder.", "sam_prompt_encoder.", "sam_mask_decoder."];
    if name == "no_mem_embed" || ours.iter().any(|it| name.starts_with(it)) {
        return Meaning::Tensor(format!("sam.{name}"));
    }
    if name == "no_memory_embedding" {
        return Meaning::Tensor("sam.no_mem_embed".to_owned());
    }
    // Written down once or twice.
    if name == "shared_image_embedding.positional_embedding" {
        return of_sam("prompt_encoder.shared_embedding.positional_embedding");
    }
    if name == "prompt_encoder.point_embed.weight" {
        let row = |it| format!("sam.sam_prompt_encoder.point_embeddings.{it}.weight");
        return Meaning::Rows((0..4).map(row).collect());
    }
    let translated = if let Some(rest) = name.strip_prefix("vision_encoder.") {
        of_vision(rest)
    } else if let Some(rest) = name.strip_prefix("prompt_encoder.") {
        Some(of_prompt(rest))
    } else {
        name.strip_prefix("mask_decoder.").map(of_decoder)
    };
    translated.map_or(Meaning::Unknown, |it| Meaning::Tensor(format!("sam.{it}")))
}

fn replaced(text: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn of_vision(rest: &str) -> Option<String> {
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

fn of_prompt(rest: &str) -> String {
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

fn of_decoder(rest: &str) -> String {
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
    // The heads of three layers: the one in the middle is called 0 there, and 1 here.
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
            assert_eq!(meaning(name), Meaning::Tensor(expected.to_owned()), "{name}");
        }
    }

    #[test]
    fn every_naming_of_a_tensor_is_the_same_tensor() {
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
    fn what_is_not_needed_and_what_nobody_knows_are_told_apart() {
        assert_eq!(meaning("memory_encoder.out_proj.weight"), Meaning::Unused);
        assert_eq!(meaning("model.visual.rotary_pos_emb.inv_freq"), Meaning::Unused);
        for name in ["model.layer.0.weight", "vision_encoder.neck", "x"] {
            assert_eq!(meaning(name), Meaning::Unknown, "{name}");
        }
    }
}
