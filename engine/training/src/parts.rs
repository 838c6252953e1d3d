//! The parts of the model that are trained with learning rates of their own, and which of their
//! tensors decay.

use candle_core::Var;
use serde::{Deserialize, Serialize};

/// A part of the model with a learning rate of its own (table 4 of the paper).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The language model, with embeddings and output layer.
    LanguageModel,
    /// The vision encoder, without its merger.
    VisionEncoder,
    /// The merger of the vision encoder, which aligns it with the language model.
    Aligner,
    /// The projector of `[SEG]` and SAM 2.
    Segmentation,
}

/// A trained tensor.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its canonical name.
    pub name: String,
    /// Its value.
    pub variable: Var,
    /// Its learning rate, before the schedule.
    pub rate: f64,
    /// Its weight decay; zero for biases and norms.
    pub weight_decay: f64,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 4] =
        [Self::LanguageModel, Self::VisionEncoder, Self::Aligner, Self::Segmentation];

    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LanguageModel => "language model",
            Self::VisionEncoder => "vision encoder",
            Self::Aligner => "aligner",
            Self::Segmentation => "segmentation",
        }
    }

    /// The part that a tensor belongs to, by its canonical name.
    pub fn of(canonical: &str) -> Self {
        if canonical.starts_with("visual.merger.") {
            Self::Aligner
        } else if canonical.starts_with("visual.") {
            Self::VisionEncoder
        } else if canonical.starts_with("sam.") || canonical.starts_with("seg_projector.") {
            Self::Segmentation
        } else {
            Self::LanguageModel
        }
    }
}

/// Whether a tensor is a constant of the network that is never trained: the random frequencies of
/// SAM 2's prompt encoder.
pub fn is_constant(canonical: &str) -> bool {
    canonical == "sam.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
}

/// Whether weight decay applies to a tensor, by its canonical name.
///
/// As in the release: biases, the norms of the language model and the layer norms of SAM 2 do not
/// decay; the RMS norms of the vision encoder and the norms of SAM 2 over channels do.
pub fn decays(canonical: &str) -> bool {
    let Some((module, leaf)) = canonical.rsplit_once('.') else { return true };
    if leaf == "bias" {
        return false;
    }
    let layer = module.rsplit_once('.').map_or(module, |it| it.1);
    let is_norm = match Part::of(canonical) {
        Part::LanguageModel => layer == "norm" || layer.ends_with("layernorm"),
        Part::Segmentation => layer.starts_with("norm"),
        Part::VisionEncoder | Part::Aligner => false,
    };
    !is_norm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pap_51_every_tensor_has_the_learning_rate_of_its_part() {
        for (name, part) in [
            ("visual.merger.mlp.0.weight", Part::Aligner),
            ("visual.blocks.0.attn.qkv.weight", Part::VisionEncoder),
            ("language_model.embed_tokens.weight", Part::LanguageModel),
            ("lm_head.weight", Part::LanguageModel),
            ("seg_projector.0.bias", Part::Segmentation),
            ("sam.no_mem_embed", Part::Segmentation),
        ] {
            assert_eq!(Part::of(name), part, "{name}");
        }
    }

    #[test]
    fn biases_and_norms_do_not_decay() {
        for name in [
            "visual.blocks.0.attn.qkv.bias",
            "language_model.norm.weight",
            "language_model.layers.3.input_layernorm.weight",
            "sam.image_encoder.trunk.blocks.0.norm1.weight",
            "sam.sam_mask_decoder.transformer.norm_final_attn.weight",
        ] {
            assert!(!decays(name), "{name}");
        }
        for name in [
            "visual.blocks.0.norm1.weight",
            "visual.merger.ln_q.weight",
            "sam.sam_prompt_encoder.mask_downscaling.1.weight",
            "sam.no_mem_embed",
            "lm_head.weight",
        ] {
            assert!(decays(name), "{name}");
        }
    }
}
