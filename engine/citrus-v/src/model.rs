//! The model: loading a checkpoint, preparing inputs, and segmentation.
//!
//! [`CitrusV`] owns the networks, the tokenizer and the caches. The steps of text generation are in
//! the module `generation`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Module, Tensor};
use imaging::{FlatMask, Picture, PictureError};

use crate::checkpoint_index::{CheckpointIndex, WeightsError};
use crate::config::{Config, ConfigError, SegConfig};
use crate::input::ModelInput;
use crate::language_model::LanguageModel;
use crate::layers::Linear;
use crate::output::Segmentation;
use crate::positions::ImageTokenMismatch;
use crate::prefix_cache::{PrefixCache, digest};
use crate::preprocess::{PixelBounds, sam_image, smart_resize, to_patches};
use crate::sam::prompt_encoder::Prompt;
use crate::sam::{ImageEmbedding, Sam};
use crate::tensor_shapes::tensor_shapes;
use crate::tokenizer::{
    Message, Tokenizer, TokenizerError, apply_chat_template, expand_image_tokens,
};
use crate::vision_encoder::VisionEncoder;
use crate::weights::{Precision, Weights};

/// Why a model cannot be loaded, or fails.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// `config.json` cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tokenizer cannot be used, or fails.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A picture cannot be used.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// Text and pictures do not fit together.
    #[error(transparent)]
    ImageTokens(#[from] ImageTokenMismatch),
    /// The model does not segment.
    #[error("this model draws no masks: it has no [SEG] projector and no SAM2")]
    NoSegmentation,
    /// The device failed, or ran out of memory.
    #[error("the device failed")]
    Candle(#[from] candle_core::Error),
}

/// Projects the hidden state of `[SEG]` to a prompt embedding of SAM 2.
enum SegProjector {
    /// Linear, ReLU, linear.
    Plain { linear1: Linear, linear2: Linear },
    /// The same with a linear residual connection.
    Residual { linear1: Linear, linear2: Linear, residual: Linear },
}

impl SegProjector {
    fn load(weights: &Weights, config: &SegConfig) -> Result<Self, WeightsError> {
        if config.has_residual_projector {
            Ok(Self::Residual {
                linear1: Linear::load(weights, "seg_projector.linear1")?,
                linear2: Linear::load(weights, "seg_projector.linear2")?,
                residual: Linear::load(weights, "seg_projector.residual_mapping")?,
            })
        } else {
            Ok(Self::Plain {
                linear1: Linear::load(weights, "seg_projector.0")?,
                linear2: Linear::load(weights, "seg_projector.2")?,
            })
        }
    }

    fn forward(&self, hidden: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Plain { linear1, linear2 } => linear2.forward(&linear1.forward(hidden)?.relu()?),
            Self::Residual { linear1, linear2, residual } => {
                linear2.forward(&linear1.forward(hidden)?.relu()?)? + residual.forward(hidden)?
            }
        }
    }
}

/// The segmentation part: projector and SAM 2.
struct Segmenter {
    projector: SegProjector,
    sam: Sam,
}

/// The model with its weights and caches.
pub struct CitrusV {
    config: Config,
    tokenizer: Tokenizer,
    vision_encoder: VisionEncoder,
    language_model: LanguageModel,
    segmenter: Option<Segmenter>,
    device: Device,
    dtype: DType,
    prefix_cache: Mutex<PrefixCache>,
}

impl CitrusV {
    /// Loads a checkpoint from a folder with `config.json`, `tokenizer.json` and safetensors files.
    /// The headers of the files are checked before any weight is read.
    ///
    /// # Errors
    ///
    /// Returns what is missing or does not fit.
    pub fn load(
        folder: &Path,
        precision: impl Into<Precision>,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ModelError::Io { path: path.clone(), source })?;
        let config = Config::parse(&text)?;
        let index = CheckpointIndex::read(folder)?;
        index.check(&tensor_shapes(&config))?;
        let tokenizer = Tokenizer::open(folder, config.seg.as_ref().map(|it| it.token))?;
        Self::new(config, tokenizer, &Weights::open(index, precision, device)?)
    }

    /// A model of these parts.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is missing.
    pub fn new(
        config: Config,
        tokenizer: Tokenizer,
        weights: &Weights,
    ) -> Result<Self, ModelError> {
        let segmenter = match &config.seg {
            Some(seg) => Some(Segmenter {
                projector: SegProjector::load(weights, seg)?,
                sam: Sam::load(weights, &seg.sam)?,
            }),
            None => None,
        };
        Ok(Self {
            vision_encoder: VisionEncoder::load(weights, &config.vision)?,
            language_model: LanguageModel::load(weights, &config.text)?,
            segmenter,
            tokenizer,
            device: weights.device().clone(),
            dtype: weights.dtype(),
            prefix_cache: Mutex::default(),
            config,
        })
    }

    /// The same model with caches for image features and prefixes of at most this size in bytes.
    #[must_use]
    pub fn with_cache(self, bytes_max: usize) -> Self {
        Self { prefix_cache: Mutex::new(PrefixCache::new(bytes_max)), ..self }
    }

    /// Removes everything from the caches, which hold patient data.
    pub fn clear_caches(&self) {
        self.prefix_cache().clear();
    }

    pub(crate) fn prefix_cache(&self) -> MutexGuard<'_, PrefixCache> {
        self.prefix_cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The memory that one token occupies in a KV cache, in bytes.
    pub fn kv_bytes_per_token(&self) -> usize {
        let text = &self.config.text;
        2 * text.layers * text.kv_heads * text.head_dim() * self.dtype.size_in_bytes()
    }

    /// The configuration that `config.json` of the checkpoint specifies.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The tokenizer, with the special tokens of Citrus-V if the model segments.
    pub const fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The device that holds the weights and computes.
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// The number type of activations and KV caches.
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// The vision encoder, for callers that need features without generation.
    pub const fn vision_encoder(&self) -> &VisionEncoder {
        &self.vision_encoder
    }

    /// The language model, for callers that compute hidden states themselves.
    pub const fn language_model(&self) -> &LanguageModel {
        &self.language_model
    }

    /// SAM 2, for callers with prompts of their own.
    ///
    /// # Errors
    ///
    /// Fails if this model does not segment.
    pub fn sam(&self) -> Result<&Sam, ModelError> {
        Ok(&self.segmenter()?.sam)
    }

    fn segmenter(&self) -> Result<&Segmenter, ModelError> {
        self.segmenter.as_ref().ok_or(ModelError::NoSegmentation)
    }

    /// Resizes a picture for the vision encoder.
    ///
    /// # Errors
    ///
    /// Fails if the picture is too narrow.
    pub fn resize(&self, picture: &Picture, bounds: PixelBounds) -> Result<Picture, ModelError> {
        Ok(smart_resize(picture, &self.config.vision, bounds)?)
    }

    /// Prepares the input of a conversation: resizes its pictures and tokenizes its text.
    ///
    /// # Errors
    ///
    /// Fails if a picture cannot be used, or the messages have places for more or fewer pictures.
    pub fn prepare(
        &self,
        messages: &[Message],
        pictures: &[Picture],
        bounds: PixelBounds,
    ) -> Result<ModelInput, ModelError> {
        let resized = pictures.iter().map(|it| self.resize(it, bounds));
        self.prepare_resized(messages, resized.collect::<Result<_, _>>()?)
    }

    /// As [`prepare`](Self::prepare), with pictures that are [resized](Self::resize) already.
    ///
    /// # Errors
    ///
    /// Fails if the messages have places for more or fewer pictures.
    pub fn prepare_resized(
        &self,
        messages: &[Message],
        resized: Vec<Picture>,
    ) -> Result<ModelInput, ModelError> {
        let vision = &self.config.vision;
        let mut patches = Vec::new();
        let mut grids = Vec::new();
        for picture in &resized {
            let (picture_patches, grid) = to_patches(picture, vision, &self.device)?;
            patches.push(picture_patches);
            grids.push(grid);
        }
        let token_ids = self.tokenizer.encode(&apply_chat_template(messages))?;
        let image_token = self.config.tokens.image;
        let token_ids = expand_image_tokens(&token_ids, image_token, &grids, vision.merge)?;
        let patches = if patches.is_empty() { None } else { Some(Tensor::cat(&patches, 0)?) };
        Ok(ModelInput { token_ids, patches, grids, resized })
    }

    /// The embeddings of an input, `[L, hidden]`, with image features in the places of image
    /// tokens.
    ///
    /// # Errors
    ///
    /// Fails if the number of image tokens is not that of the features, or the device fails.
    pub fn embed(&self, input: &ModelInput) -> Result<Tensor, ModelError> {
        let Some(patches) = &input.patches else {
            return self.embed_with_features(&input.token_ids, &[]);
        };
        let patches = patches.to_dtype(self.dtype)?;
        let features = self.vision_encoder.forward(&patches, &input.grids)?;
        self.embed_with_features(&input.token_ids, &[features])
    }

    /// The embeddings of tokens, `[L, hidden]`, with these image features in the places of image
    /// tokens.
    pub(crate) fn embed_with_features(
        &self,
        token_ids: &[u32],
        features: &[Tensor],
    ) -> Result<Tensor, ModelError> {
        let embeddings = self.language_model.embed(token_ids)?;
        if features.is_empty() {
            return Ok(embeddings);
        }
        let features = Tensor::cat(features, 0)?;
        // Each row is selected from the embeddings or, behind them, from the features.
        let mut next_feature = token_ids.len();
        let mut rows = Vec::with_capacity(token_ids.len());
        for (index, token) in token_ids.iter().enumerate() {
            let row = if *token == self.config.tokens.image {
                next_feature += 1;
                next_feature - 1
            } else {
                index
            };
            rows.push(u32::try_from(row).unwrap_or(u32::MAX));
        }
        let found = next_feature - token_ids.len();
        let expected = features.dim(0)?;
        if found != expected {
            return Err(ImageTokenMismatch { found, expected }.into());
        }
        let both = Tensor::cat(&[&embeddings, &features.to_dtype(embeddings.dtype())?], 0)?;
        Ok(both.index_select(&Tensor::new(rows.as_slice(), &self.device)?, 0)?)
    }

    /// Projects hidden states of `[SEG]` to prompt embeddings of SAM 2, `[n, D]`.
    ///
    /// # Errors
    ///
    /// Fails if this model does not segment.
    pub fn project_seg(&self, seg_hidden: &Tensor) -> Result<Tensor, ModelError> {
        Ok(self.segmenter()?.projector.forward(seg_hidden)?)
    }

    /// Segments what each `[SEG]`, given by its hidden state, refers to in a picture in the size
    /// the vision encoder receives.
    ///
    /// # Errors
    ///
    /// Fails if this model does not segment, or the device fails.
    pub fn segment(
        &self,
        resized: &Picture,
        seg_hidden: &Tensor,
    ) -> Result<Vec<Segmentation>, ModelError> {
        let segmenter = self.segmenter()?;
        let embeddings = segmenter.projector.forward(seg_hidden)?;
        let image = self.sam_embedding(&segmenter.sam, resized)?;
        let prompt = Prompt { embeddings: Some(embeddings), ..Prompt::default() };
        let prediction = segmenter.sam.predict_masks(&image, &prompt)?;
        let best = prediction.best()?;
        let ious = prediction.multimask()?.ious.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let mut segmentations = Vec::new();
        for (object, which) in best.which.into_iter().enumerate() {
            let logits = best.masks.get(object)?.to_dtype(DType::F32)?;
            let iou = ious.get(object).and_then(|it| it.get(which as usize)).copied();
            let mask = positive_pixels(&logits)?;
            let iou = iou.unwrap_or_default();
            segmentations.push(Segmentation { logits, iou, which, mask });
        }
        Ok(segmentations)
    }

    /// The image embedding of SAM 2 for a picture, computed or from the cache.
    fn sam_embedding(&self, sam: &Sam, resized: &Picture) -> Result<ImageEmbedding, ModelError> {
        let is_enabled = self.prefix_cache().is_enabled();
        let key = is_enabled.then(|| digest(resized));
        if let Some(embedding) = key.and_then(|it| self.prefix_cache().sam_embedding(&it)) {
            return Ok(embedding);
        }
        let image = sam_image(resized, sam.config(), &self.device)?.to_dtype(self.dtype)?;
        let embedding = sam.encode_image(&image)?;
        if let Some(key) = key {
            self.prefix_cache().store_sam_embedding(key, &embedding);
        }
        Ok(embedding)
    }
}

/// The pixels with a positive logit, of logits `[1, H, W]`: their probability is above one half.
fn positive_pixels(logits: &Tensor) -> candle_core::Result<FlatMask> {
    let (_, height, width) = logits.dims3()?;
    let pixels = logits.flatten_all()?.to_vec1::<f32>()?.into_iter().map(|it| it > 0.0).collect();
    let side = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
    Ok(FlatMask { height: side(height), width: side(width), pixels })
}
