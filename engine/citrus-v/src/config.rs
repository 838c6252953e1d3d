//! `config.json` of a checkpoint: the dimensions of the networks and the special tokens.
//!
//! Two layouts are in use: flat keys, as on the model hub and in the release, and a nested
//! `text_config`, as newer programs write it. Both are read into the same types.

use serde_json::Value;

/// Why `config.json` cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is not JSON.
    #[error("config.json is not JSON: {0}")]
    NotJson(String),
    /// A key is missing or of the wrong kind.
    #[error("config.json has no usable `{0}`")]
    Missing(String),
    /// Its numbers contradict each other.
    #[error("config.json does not fit together: {0}")]
    Contradiction(String),
    /// It names a SAM 2 size that is not published.
    #[error("`{0}` is no SAM2 size that is known: t, s, b+ or l")]
    UnknownPreset(String),
}

/// The dimensions of the language model (Qwen2.5).
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// The width of the hidden states.
    pub hidden: usize,
    /// The width inside of the MLPs.
    pub intermediate: usize,
    /// The number of layers.
    pub layers: usize,
    /// The number of query heads.
    pub heads: usize,
    /// The number of key and value heads.
    pub kv_heads: usize,
    /// The number of tokens in the vocabulary.
    pub vocabulary: usize,
    /// The epsilon of RMSNorm.
    pub rms_norm_eps: f64,
    /// The base of the rotary embedding's frequencies.
    pub rope_theta: f64,
    /// The number of frequencies that M-RoPE uses for time, row and column.
    pub mrope_sections: [usize; 3],
    /// Whether the table of embeddings is the output layer as well.
    pub has_tied_embeddings: bool,
}

impl TextConfig {
    /// The width of an attention head.
    pub const fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }
}

/// The dimensions of the vision encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisionConfig {
    /// The number of blocks.
    pub depth: usize,
    /// The width of the hidden states.
    pub hidden: usize,
    /// The width inside of the MLPs.
    pub intermediate: usize,
    /// The number of attention heads.
    pub heads: usize,
    /// The number of colour channels.
    pub channels: usize,
    /// The side of a patch, in pixels.
    pub patch: usize,
    /// The number of video frames in a patch; a picture is repeated.
    pub temporal_patch: usize,
    /// The side of the square of patches that is merged into one token, in patches.
    pub merge: usize,
    /// The side of an attention window, in pixels.
    pub window: usize,
    /// The blocks with full attention instead of windows.
    pub full_attention_blocks: Vec<usize>,
    /// The width of the features: that of the language model.
    pub out_hidden: usize,
}

impl VisionConfig {
    /// The number of values in a patch.
    pub const fn patch_len(&self) -> usize {
        self.channels * self.temporal_patch * self.patch * self.patch
    }

    /// The number of patches that are merged into one token.
    pub const fn merge_unit(&self) -> usize {
        self.merge * self.merge
    }

    /// The sides of a resized picture are multiples of this, in pixels.
    pub const fn size_factor(&self) -> usize {
        self.patch * self.merge
    }
}

/// The dimensions of SAM 2, without its memory for video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamConfig {
    /// The side of the square input image, in pixels.
    pub image: usize,
    /// The width of the first stage of Hiera; it doubles with each stage.
    pub embed: usize,
    /// The number of attention heads of the first stage.
    pub heads: usize,
    /// The number of blocks of each stage.
    pub stages: [usize; 4],
    /// The blocks with global attention instead of windows.
    pub global_attention_blocks: Vec<usize>,
    /// The side of the attention windows of each stage.
    pub window_sizes: [usize; 4],
    /// The shape of the global position embedding.
    pub pos_embed_size: [usize; 2],
    /// The width of the image embedding and of the mask decoder.
    pub hidden: usize,
    /// The width inside of the mask decoder's MLPs.
    pub mlp: usize,
}

/// The `[SEG]` token, its projector, and SAM 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegConfig {
    /// The id of the `[SEG]` token.
    pub token: u32,
    /// Whether the projector has a residual connection.
    pub has_residual_projector: bool,
    /// The dimensions of SAM 2.
    pub sam: SamConfig,
}

/// The special tokens of Qwen2.5-VL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenIds {
    /// The placeholder for one merged patch of a picture.
    pub image: u32,
    /// The token before a picture.
    pub vision_start: u32,
}

/// The configuration of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The dimensions of the language model.
    pub text: TextConfig,
    /// The dimensions of the vision encoder.
    pub vision: VisionConfig,
    /// The ids of the special tokens for pictures.
    pub tokens: TokenIds,
    /// The segmentation part; a plain Qwen2.5-VL has none.
    pub seg: Option<SegConfig>,
}

/// A JSON object of the configuration.
struct Keys<'a>(&'a Value);

impl<'a> Keys<'a> {
    fn at(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|it| !it.is_null())
    }

    fn number(&self, key: &str) -> Result<usize, ConfigError> {
        let value = self.at(key).and_then(Value::as_u64).and_then(|it| usize::try_from(it).ok());
        // A dimension beyond any memory is an error or an attack.
        value.filter(|it| *it < 1 << 32).ok_or_else(|| ConfigError::Missing(key.to_owned()))
    }

    fn number_or(&self, key: &str, default: usize) -> Result<usize, ConfigError> {
        if self.at(key).is_some() { self.number(key) } else { Ok(default) }
    }

    fn token(&self, key: &str) -> Result<u32, ConfigError> {
        u32::try_from(self.number(key)?).map_err(|_| ConfigError::Missing(key.to_owned()))
    }

    fn float(&self, key: &str) -> Option<f64> {
        self.at(key).and_then(Value::as_f64)
    }

    fn numbers(&self, key: &str) -> Result<Vec<usize>, ConfigError> {
        let all = self.at(key).and_then(Value::as_array);
        let one = |it: &Value| it.as_u64().and_then(|it| usize::try_from(it).ok());
        let numbers = all.and_then(|it| it.iter().map(one).collect::<Option<Vec<_>>>());
        numbers.ok_or_else(|| ConfigError::Missing(key.to_owned()))
    }

    fn fixed<const N: usize>(&self, key: &str) -> Result<[usize; N], ConfigError> {
        self.numbers(key)?.try_into().map_err(|_| ConfigError::Missing(key.to_owned()))
    }
}

impl Config {
    /// Reads `config.json` in either layout.
    ///
    /// # Errors
    ///
    /// Returns the key that is missing, or the contradiction.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let json: Value =
            serde_json::from_str(text).map_err(|it| ConfigError::NotJson(it.to_string()))?;
        let outer = Keys(&json);
        let inner = Keys(outer.at("text_config").unwrap_or(&json));
        let vision =
            outer.at("vision_config").ok_or(ConfigError::Missing("vision_config".into()))?;
        let config = Self {
            text: text_config(&outer, &inner)?,
            vision: vision_config(&Keys(vision))?,
            tokens: TokenIds {
                image: outer.token("image_token_id")?,
                vision_start: outer.token("vision_start_token_id")?,
            },
            seg: seg_config(&outer)?,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let Self { text, vision, .. } = self;
        let of_text = [text.hidden, text.layers, text.heads, text.kv_heads, text.vocabulary];
        let of_vision = [vision.hidden, vision.heads, vision.patch, vision.merge, vision.window];
        if of_text.contains(&0) || of_vision.contains(&0) {
            return contradiction("a size is zero");
        }
        if text.hidden % text.heads != 0 || text.heads % text.kv_heads != 0 {
            return contradiction("heads do not divide the width, or key heads the heads");
        }
        if text.mrope_sections.iter().sum::<usize>() * 2 != text.head_dim() {
            return contradiction("the sections of M-RoPE do not add up to half a head");
        }
        if vision.hidden % vision.heads != 0 || (vision.hidden / vision.heads) % 4 != 0 {
            return contradiction("heads of the vision encoder do not divide its width by four");
        }
        if vision.out_hidden != text.hidden {
            return contradiction("vision features and hidden states differ in width");
        }
        if vision.window < vision.size_factor() {
            return contradiction("a window is smaller than a token");
        }
        Ok(())
    }
}

fn contradiction<T>(what: &str) -> Result<T, ConfigError> {
    Err(ConfigError::Contradiction(what.to_owned()))
}

/// Reads the language model's part; `inner` is `text_config`, or the outer object without one.
fn text_config(outer: &Keys<'_>, inner: &Keys<'_>) -> Result<TextConfig, ConfigError> {
    let rope = inner.at("rope_parameters").or_else(|| inner.at("rope_scaling"));
    let rope = rope.or_else(|| outer.at("rope_scaling"));
    let rope = Keys(rope.ok_or_else(|| ConfigError::Missing("rope_scaling".to_owned()))?);
    let theta = inner.float("rope_theta").or_else(|| rope.float("rope_theta"));
    let tied = |it: &Keys<'_>| it.at("tie_word_embeddings").and_then(Value::as_bool);
    let heads = inner.number("num_attention_heads")?;
    Ok(TextConfig {
        hidden: inner.number("hidden_size")?,
        intermediate: inner.number("intermediate_size")?,
        layers: inner.number("num_hidden_layers")?,
        heads,
        kv_heads: inner.number_or("num_key_value_heads", heads)?,
        vocabulary: inner.number("vocab_size")?,
        rms_norm_eps: inner.float("rms_norm_eps").unwrap_or(1e-6),
        rope_theta: theta.ok_or_else(|| ConfigError::Missing("rope_theta".to_owned()))?,
        mrope_sections: rope.fixed("mrope_section")?,
        has_tied_embeddings: tied(outer).or_else(|| tied(inner)).unwrap_or(false),
    })
}

fn vision_config(keys: &Keys<'_>) -> Result<VisionConfig, ConfigError> {
    Ok(VisionConfig {
        depth: keys.number("depth")?,
        hidden: keys.number("hidden_size")?,
        intermediate: keys.number("intermediate_size")?,
        heads: keys.number("num_heads")?,
        channels: keys.number_or("in_channels", keys.number_or("in_chans", 3)?)?,
        patch: keys.number_or("patch_size", 14)?,
        temporal_patch: keys.number_or("temporal_patch_size", 2)?,
        merge: keys.number_or("spatial_merge_size", 2)?,
        window: keys.number_or("window_size", 112)?,
        full_attention_blocks: keys.numbers("fullatt_block_indexes")?,
        out_hidden: keys.number("out_hidden_size")?,
    })
}

fn seg_config(outer: &Keys<'_>) -> Result<Option<SegConfig>, ConfigError> {
    let Some(grounding) = outer.at("grounding_encoder_config") else { return Ok(None) };
    let grounding = Keys(grounding);
    let sam = if let Some(explicit) = grounding.at("sam2") {
        SamConfig::explicit(explicit)?
    } else {
        let path = grounding.at("cfg_path").and_then(Value::as_str);
        SamConfig::preset(path.ok_or_else(|| ConfigError::Missing("cfg_path".to_owned()))?)?
    };
    let has_residual = outer.at("use_res_seg_projector").and_then(Value::as_bool);
    Ok(Some(SegConfig {
        token: outer.token("seg_token_idx")?,
        has_residual_projector: has_residual.unwrap_or(false),
        sam,
    }))
}

impl SamConfig {
    /// Reads the configuration of SAM 2 alone, with the keys of its repository or those that newer
    /// programs write.
    ///
    /// # Errors
    ///
    /// Returns the key that is missing.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let json: Value =
            serde_json::from_str(text).map_err(|it| ConfigError::NotJson(it.to_string()))?;
        let vision = json.get("vision_config");
        match vision.and_then(|it| it.get("backbone_config").map(|inner| (it, inner))) {
            Some((vision, backbone)) => Self::nested(&json, &Keys(vision), &Keys(backbone)),
            None => Self::explicit(&json),
        }
    }

    fn explicit(json: &Value) -> Result<Self, ConfigError> {
        let keys = Keys(json);
        Self {
            image: keys.number("image_size")?,
            embed: keys.number("embed_dim")?,
            heads: keys.number("num_heads")?,
            stages: keys.fixed("stages")?,
            global_attention_blocks: keys.numbers("global_att_blocks")?,
            window_sizes: keys.fixed("window_spec")?,
            pos_embed_size: keys.fixed("bkg")?,
            hidden: keys.number("d_model")?,
            mlp: keys.number("mlp_dim")?,
        }
        .checked()
    }

    fn nested(json: &Value, vision: &Keys<'_>, backbone: &Keys<'_>) -> Result<Self, ConfigError> {
        let prompt = Keys(json.get("prompt_encoder_config").unwrap_or(&Value::Null));
        let decoder = Keys(json.get("mask_decoder_config").unwrap_or(&Value::Null));
        Self {
            image: prompt.number_or("image_size", 1024)?,
            embed: backbone.number("hidden_size")?,
            heads: backbone.number("num_attention_heads")?,
            stages: backbone.fixed("blocks_per_stage")?,
            global_attention_blocks: backbone.numbers("global_attention_blocks")?,
            window_sizes: backbone.fixed("window_size_per_stage")?,
            pos_embed_size: backbone.fixed("window_positional_embedding_background_size")?,
            hidden: vision.number_or("fpn_hidden_size", 256)?,
            mlp: decoder.number_or("mlp_dim", 2048)?,
        }
        .checked()
    }

    /// One of the published sizes, by the name of its configuration file; 2.0 and 2.1 do not differ
    /// for single images.
    ///
    /// # Errors
    ///
    /// Fails if it is none of them.
    pub fn preset(path: &str) -> Result<Self, ConfigError> {
        let file = path.rsplit('/').next().unwrap_or(path);
        let name = file.trim_end_matches(".yaml");
        let preset =
            |embed, heads, stages, global: [usize; 3], window_sizes, pos_embed_size| Self {
                image: 1024,
                embed,
                heads,
                stages,
                global_attention_blocks: global.into(),
                window_sizes,
                pos_embed_size,
                hidden: 256,
                mlp: 2048,
            };
        match name.rsplit('_').next().unwrap_or(name) {
            "t" => Ok(preset(96, 1, [1, 2, 7, 2], [5, 7, 9], [8, 4, 14, 7], [7, 7])),
            "s" => Ok(preset(96, 1, [1, 2, 11, 2], [7, 10, 13], [8, 4, 14, 7], [7, 7])),
            "b+" => Ok(preset(112, 2, [2, 3, 16, 3], [12, 16, 20], [8, 4, 14, 7], [14, 14])),
            "l" => Ok(preset(144, 2, [2, 6, 36, 4], [23, 33, 43], [8, 4, 16, 8], [7, 7])),
            _ => Err(ConfigError::UnknownPreset(file.to_owned())),
        }
    }

    fn checked(self) -> Result<Self, ConfigError> {
        if self.embed == 0 || self.heads == 0 || !self.embed.is_multiple_of(self.heads) {
            return contradiction("heads of SAM2 do not divide its width");
        }
        if self.image == 0
            || !self.image.is_multiple_of(32)
            || self.hidden == 0
            || !self.hidden.is_multiple_of(16)
        {
            return contradiction(
                "SAM2 needs an image_size in multiples of 32 and a d_model of 16",
            );
        }
        let has_zero = self.window_sizes.contains(&0)
            || self.stages.contains(&0)
            || self.pos_embed_size.contains(&0);
        if has_zero {
            return contradiction("a size of SAM2 is zero");
        }
        Ok(self)
    }

    /// The width of a stage.
    pub const fn width(&self, stage: usize) -> usize {
        self.embed << stage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAT: &str = include_str!("../tests/configs/flat.json");

    fn changed(change: impl FnOnce(&mut Value)) -> Result<Config, ConfigError> {
        let mut json: Value = serde_json::from_str(FLAT).unwrap();
        change(&mut json);
        Config::parse(&json.to_string())
    }

    #[test]
    fn all_layouts_of_a_configuration_are_read_alike() {
        let flat = Config::parse(FLAT).unwrap();
        assert_eq!((flat.text.head_dim(), flat.text.kv_heads), (128, 4));
        assert_eq!(flat.seg.as_ref().unwrap().sam, SamConfig::preset("l").unwrap());
        // The layout of newer programs.
        let nested = changed(|it| {
            let mut inner = it.clone();
            let rope = inner.as_object_mut().unwrap().remove("rope_scaling").unwrap();
            inner["rope_parameters"] = rope;
            inner["rope_parameters"]["rope_theta"] = inner["rope_theta"].take();
            let all = it.as_object_mut().unwrap();
            for key in ["hidden_size", "num_hidden_layers", "rope_scaling", "rope_theta"] {
                all.remove(key);
            }
            it["text_config"] = inner;
        });
        assert_eq!(nested, Ok(flat));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_reason() {
        let reason = |result: Result<Config, ConfigError>| result.unwrap_err().to_string();
        assert!(reason(Config::parse("{")).contains("not JSON"));
        let missing = changed(|it| it["hidden_size"] = Value::Null);
        assert!(reason(missing).contains("`hidden_size`"));
        assert!(reason(changed(|it| it["hidden_size"] = 3585.into())).contains("heads"));
        let sections = changed(|it| it["rope_scaling"]["mrope_section"] = vec![1, 2, 3].into());
        assert!(reason(sections).contains("M-RoPE"));
        let preset =
            |it: &mut Value| it["grounding_encoder_config"]["cfg_path"] = "x_xl.yaml".into();
        assert!(reason(changed(preset)).contains("x_xl.yaml"));
    }
}
