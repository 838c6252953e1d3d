//! What a checkpoint says of itself: `config.json`, in all the shapes it comes in.

use serde_json::Value;

/// A checkpoint's own description cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is not JSON.
    #[error("config.json is not JSON: {0}")]
    NotJson(String),
    /// A key is missing or of the wrong kind.
    #[error("config.json has no usable `{0}`")]
    Missing(String),
    /// The numbers do not fit together.
    #[error("config.json does not fit together: {0}")]
    Contradiction(String),
    /// It names a SAM2 size that nobody knows.
    #[error("`{0}` is no SAM2 size that is known: t, s, b+ or l")]
    UnknownPreset(String),
}

/// The language model (Qwen2.5).
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside of an MLP.
    pub intermediate: usize,
    /// Number of layers.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Of RMSNorm.
    pub eps: f64,
    /// Base of the rotary positions.
    pub theta: f64,
    /// How many frequencies turn with time, row and column.
    pub sections: [usize; 3],
    /// Whether the embedding is the output layer, too.
    pub is_tied: bool,
}

impl TextConfig {
    /// Width of a head.
    pub const fn head(&self) -> usize {
        self.hidden / self.heads
    }
}

/// The vision tower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisionConfig {
    /// Number of blocks.
    pub depth: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside of an MLP.
    pub intermediate: usize,
    /// Heads.
    pub heads: usize,
    /// Channels of a picture.
    pub channels: usize,
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Frames of a patch.
    pub frames: usize,
    /// Side of what is merged into one token, in patches.
    pub merge: usize,
    /// Side of a window, in pixels.
    pub window: usize,
    /// Blocks that attend to a whole frame.
    pub full_blocks: Vec<usize>,
    /// Width of what comes out.
    pub out: usize,
}

impl VisionConfig {
    /// Numbers of one patch.
    pub const fn patch_len(&self) -> usize {
        self.channels * self.frames * self.patch * self.patch
    }

    /// Patches of one token of text.
    pub const fn merged(&self) -> usize {
        self.merge * self.merge
    }

    /// What sides of a picture are multiples of, in pixels.
    pub const fn factor(&self) -> usize {
        self.patch * self.merge
    }
}

/// SAM2, as far as pictures go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamConfig {
    /// Side of the picture.
    pub image: usize,
    /// Width of the first stage; each further one is twice as wide.
    pub embed: usize,
    /// Heads of the first stage.
    pub heads: usize,
    /// Blocks of each stage.
    pub stages: [usize; 4],
    /// Blocks without windows.
    pub global_blocks: Vec<usize>,
    /// Side of a window in each stage.
    pub windows: [usize; 4],
    /// Shape of the table of positions.
    pub background: [usize; 2],
    /// Width of neck and decoder.
    pub hidden: usize,
    /// Width of the decoder's MLPs.
    pub mlp: usize,
}

/// What turns `[SEG]` into masks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegConfig {
    /// Its token.
    pub token: u32,
    /// Whether the projector has a second way around.
    pub is_residual: bool,
    /// What draws.
    pub sam: SamConfig,
}

/// Tokens with a meaning of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenIds {
    /// Stands where a piece of a picture goes.
    pub image: u32,
    /// Before a picture.
    pub vision_start: u32,
}

/// A whole model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The language model.
    pub text: TextConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// Tokens.
    pub tokens: TokenIds,
    /// What draws masks; a plain Qwen2.5-VL has none.
    pub seg: Option<SegConfig>,
}

/// An object of a configuration, read key by key.
struct Keys<'a>(&'a Value);

impl<'a> Keys<'a> {
    fn at(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|it| !it.is_null())
    }

    fn number(&self, key: &str) -> Result<usize, ConfigError> {
        let value = self.at(key).and_then(Value::as_u64).and_then(|it| usize::try_from(it).ok());
        // A size that no machine holds is a mistake or an attack.
        value.filter(|it| *it < 1 << 32).ok_or_else(|| ConfigError::Missing(key.to_owned()))
    }

    fn number_or(&self, key: &str, usual: usize) -> Result<usize, ConfigError> {
        if self.at(key).is_some() { self.number(key) } else { Ok(usual) }
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
    /// Reads `config.json`: flat keys as on the hub and in the release, or a `text_config` of its own
    /// as newer programs write it.
    ///
    /// # Errors
    ///
    /// Says which key is missing, or what does not fit together.
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
        let wrong = |what: &str| Err(ConfigError::Contradiction(what.to_owned()));
        let zero = [text.hidden, text.layers, text.heads, text.kv_heads, text.vocabulary];
        let also = [vision.hidden, vision.heads, vision.patch, vision.merge, vision.window];
        if zero.iter().chain(&also).any(|it| *it == 0) {
            return wrong("a size is nought");
        }
        if text.hidden % text.heads != 0 || text.heads % text.kv_heads != 0 {
            return wrong("heads do not divide the width, or key heads the heads");
        }
        if text.sections.iter().sum::<usize>() * 2 != text.head() {
            return wrong("the sections of M-RoPE do not add up to half a head");
        }
        if vision.hidden % vision.heads != 0 || (vision.hidden / vision.heads) % 4 != 0 {
            return wrong("heads of the vision tower do not divide its width by four");
        }
        if vision.out != text.hidden {
            return wrong("the vision tower ends wider or narrower than the text begins");
        }
        if vision.window < vision.factor() {
            return wrong("a window is smaller than a token");
        }
        Ok(())
    }
}

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
        eps: inner.float("rms_norm_eps").unwrap_or(1e-6),
        theta: theta.ok_or_else(|| ConfigError::Missing("rope_theta".to_owned()))?,
        sections: rope.fixed("mrope_section")?,
        is_tied: tied(outer).or_else(|| tied(inner)).unwrap_or(false),
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
        frames: keys.number_or("temporal_patch_size", 2)?,
        merge: keys.number_or("spatial_merge_size", 2)?,
        window: keys.number_or("window_size", 112)?,
        full_blocks: keys.numbers("fullatt_block_indexes")?,
        out: keys.number("out_hidden_size")?,
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
    let is_residual = outer.at("use_res_seg_projector").and_then(Value::as_bool).unwrap_or(false);
    Ok(Some(SegConfig { token: outer.token("seg_token_idx")?, is_residual, sam }))
}

impl SamConfig {
    /// Reads the description of a SAM2 on its own: shapes as the repository of SAM2 has them, or as
    /// newer programs write them.
    ///
    /// # Errors
    ///
    /// Says which key is missing.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let json: Value =
            serde_json::from_str(text).map_err(|it| ConfigError::NotJson(it.to_string()))?;
        let vision = json.get("vision_config");
        match vision.and_then(|it| it.get("backbone_config").map(|inner| (it, inner))) {
            Some((vision, backbone)) => Self::of_modules(&json, &Keys(vision), &Keys(backbone)),
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
            global_blocks: keys.numbers("global_att_blocks")?,
            windows: keys.fixed("window_spec")?,
            background: keys.fixed("bkg")?,
            hidden: keys.number("d_model")?,
            mlp: keys.number("mlp_dim")?,
        }
        .checked()
    }

    fn of_modules(
        json: &Value,
        vision: &Keys<'_>,
        backbone: &Keys<'_>,
    ) -> Result<Self, ConfigError> {
        let prompt = Keys(json.get("prompt_encoder_config").unwrap_or(&Value::Null));
        let decoder = Keys(json.get("mask_decoder_config").unwrap_or(&Value::Null));
        Self {
            image: prompt.number_or("image_size", 1024)?,
            embed: backbone.number("hidden_size")?,
            heads: backbone.number("num_attention_heads")?,
            stages: backbone.fixed("blocks_per_stage")?,
            global_blocks: backbone.numbers("global_attention_blocks")?,
            windows: backbone.fixed("window_size_per_stage")?,
            background: backbone.fixed("window_positional_embedding_background_size")?,
            hidden: vision.number_or("fpn_hidden_size", 256)?,
            mlp: decoder.number_or("mlp_dim", 2048)?,
        }
        .checked()
    }

    /// One of the published sizes, by the name of its file; 2.0 and 2.1 are the same for pictures.
    ///
    /// # Errors
    ///
    /// Fails if it is none of them.
    pub fn preset(path: &str) -> Result<Self, ConfigError> {
        let file = path.rsplit('/').next().unwrap_or(path);
        let name = file.trim_end_matches(".yaml");
        let usual = |embed, heads, stages, global: [usize; 3], windows, background| Self {
            image: 1024,
            embed,
            heads,
            stages,
            global_blocks: global.into(),
            windows,
            background,
            hidden: 256,
            mlp: 2048,
        };
        match name.rsplit('_').next().unwrap_or(name) {
            "t" => Ok(usual(96, 1, [1, 2, 7, 2], [5, 7, 9], [8, 4, 14, 7], [7, 7])),
            "s" => Ok(usual(96, 1, [1, 2, 11, 2], [7, 10, 13], [8, 4, 14, 7], [7, 7])),
            "b+" => Ok(usual(112, 2, [2, 3, 16, 3], [12, 16, 20], [8, 4, 14, 7], [14, 14])),
            "l" => Ok(usual(144, 2, [2, 6, 36, 4], [23, 33, 43], [8, 4, 16, 8], [7, 7])),
            _ => Err(ConfigError::UnknownPreset(file.to_owned())),
        }
    }

    fn checked(self) -> Result<Self, ConfigError> {
        let wrong = |what: &str| Err(ConfigError::Contradiction(what.to_owned()));
        if self.embed == 0 || self.heads == 0 || !self.embed.is_multiple_of(self.heads) {
            return wrong("heads of SAM2 do not divide its width");
        }
        if self.image == 0
            || !self.image.is_multiple_of(32)
            || self.hidden == 0
            || !self.hidden.is_multiple_of(16)
        {
            return wrong("SAM2 needs an image_size in multiples of 32 and a d_model of 16");
        }
        if self.windows.contains(&0) || self.stages.contains(&0) || self.background.contains(&0) {
            return wrong("a size of SAM2 is nought");
        }
        Ok(self)
    }

    /// Width of a stage.
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
    fn all_shapes_of_a_configuration_say_the_same() {
        let flat = Config::parse(FLAT).unwrap();
        assert_eq!((flat.text.head(), flat.text.kv_heads), (128, 4));
        assert_eq!(flat.seg.as_ref().unwrap().sam, SamConfig::preset("l").unwrap());
        // As newer programs write it.
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
    fn what_does_not_fit_is_told() {
        let told = |error: Result<Config, ConfigError>| error.unwrap_err().to_string();
        assert!(told(Config::parse("{")).contains("not JSON"));
        let missing = changed(|it| it["hidden_size"] = Value::Null);
        assert!(told(missing).contains("`hidden_size`"));
        assert!(told(changed(|it| it["hidden_size"] = 3585.into())).contains("heads"));
        let sections = changed(|it| it["rope_scaling"]["mrope_section"] = vec![1, 2, 3].into());
        assert!(told(sections).contains("M-RoPE"));
        let preset =
            |it: &mut Value| it["grounding_encoder_config"]["cfg_path"] = "x_xl.yaml".into();
        assert!(told(changed(preset)).contains("x_xl.yaml"));
    }
}
