//! SAM 2 ([arXiv 2408.00714](https://arxiv.org/abs/2408.00714)) for single images, without its
//! memory for video:
//!
//! - [`hiera`]: the trunk of the image encoder.
//! - [`prompt_encoder`]: points, boxes, masks, and embeddings of the language model.
//! - [`mask_decoder`]: masks with their predicted IoU.
//!
//! [`Sam`] adds the neck of the image encoder, a feature pyramid with lateral 1 x 1 convolutions.

pub mod hiera;
pub mod mask_decoder;
pub mod prompt_encoder;

use candle_core::{Module, Result, Tensor};

use crate::checkpoint_index::WeightsError;
use crate::config::SamConfig;
use crate::layers::Linear;
use crate::resampling::upsample_nearest_2x;
use crate::weights::Weights;
use hiera::Hiera;
use mask_decoder::{MaskDecoder, MaskPrediction};
use prompt_encoder::{Prompt, PromptEncoder};

/// SAM 2 with its weights.
pub struct Sam {
    config: SamConfig,
    trunk: Hiera,
    /// The lateral convolutions of the neck, from the finest level to the coarsest.
    laterals: Vec<Linear>,
    /// The embedding that stands for an empty memory.
    no_memory: Tensor,
    prompt_encoder: PromptEncoder,
    mask_decoder: MaskDecoder,
}

/// What the image encoder computes for a batch of images.
#[derive(Clone, Debug)]
pub struct ImageEmbedding {
    /// The image embedding `[B, S/16, S/16, D]`, with the embedding of an empty memory added.
    pub embedding: Tensor,
    /// High-resolution features for the mask decoder: `[B, S/4, S/4, D/8]` and
    /// `[B, S/8, S/8, D/4]`.
    pub high_res: [Tensor; 2],
}

impl ImageEmbedding {
    /// The embedding of one image of the batch.
    ///
    /// # Errors
    ///
    /// Fails if the batch has fewer images.
    pub fn of(&self, index: usize) -> Result<Self> {
        let [finest, finer] = &self.high_res;
        Ok(Self {
            embedding: self.embedding.narrow(0, index, 1)?,
            high_res: [finest.narrow(0, index, 1)?, finer.narrow(0, index, 1)?],
        })
    }

    /// The embedding of one image, repeated for each of several objects.
    fn repeat(&self, count: usize) -> Result<Self> {
        let [finest, finer] = &self.high_res;
        Ok(Self {
            embedding: repeat(&self.embedding, count)?,
            high_res: [repeat(finest, count)?, repeat(finer, count)?],
        })
    }
}

fn repeat(map: &Tensor, count: usize) -> Result<Tensor> {
    let (_, rows, columns, channels) = map.dims4()?;
    map.broadcast_as((count, rows, columns, channels))?.contiguous()
}

impl Sam {
    /// Loads the SAM 2 of a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is missing.
    pub fn load(weights: &Weights, config: &SamConfig) -> std::result::Result<Self, WeightsError> {
        let lateral = |level: usize| {
            let name = format!("sam.image_encoder.neck.convs.{}.conv", 3 - level);
            Linear::load(weights, &name)
        };
        Ok(Self {
            trunk: Hiera::load(weights, config)?,
            laterals: (0..4).map(lateral).collect::<std::result::Result<_, _>>()?,
            no_memory: weights.get("sam.no_mem_embed")?,
            prompt_encoder: PromptEncoder::load(weights, config)?,
            mask_decoder: MaskDecoder::load(weights)?,
            config: config.clone(),
        })
    }

    /// The dimensions of this SAM 2.
    pub const fn config(&self) -> &SamConfig {
        &self.config
    }

    /// The prompt encoder, for callers that need encoded prompts.
    pub const fn prompt_encoder(&self) -> &PromptEncoder {
        &self.prompt_encoder
    }

    /// Encodes images `[B, 3, S, S]`.
    ///
    /// # Errors
    ///
    /// Fails if they are of another size.
    pub fn encode_image(&self, images: &Tensor) -> Result<ImageEmbedding> {
        self.encode_image_traced(images, &mut |_, _| {})
    }

    /// As [`encode_image`](Self::encode_image), showing the output of each block `[B, H, W, C]` to
    /// `observe`.
    ///
    /// # Errors
    ///
    /// Fails if the images are of another size.
    pub fn encode_image_traced(
        &self,
        images: &Tensor,
        observe: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<ImageEmbedding> {
        let levels = self.trunk.forward_traced(images, observe)?;
        let mut maps = Vec::new();
        for (lateral, level) in self.laterals.iter().zip(&levels) {
            maps.push(lateral.forward(level)?);
        }
        let [finest, finer, middle, coarsest]: [Tensor; 4] = maps
            .try_into()
            .map_err(|_| candle_core::Error::Msg("SAM2 has four levels".to_owned()))?;
        // The coarsest level is only added to the one below it.
        let middle = (middle + upsample_nearest_2x(&coarsest)?)?;
        observe("fpn_level2", &middle);
        let no_memory = self.no_memory.flatten_all()?;
        Ok(ImageEmbedding {
            embedding: middle.broadcast_add(&no_memory)?,
            high_res: self.mask_decoder.reduce_high_res([&finest, &finer])?,
        })
    }

    /// Predicts the masks of one object per prompt, all in one image or each in its own.
    ///
    /// # Errors
    ///
    /// Fails if a prompt does not fit.
    pub fn predict_masks(&self, image: &ImageEmbedding, prompt: &Prompt) -> Result<MaskPrediction> {
        let prompt = self.prompt_encoder.encode(prompt)?;
        let image_positions = self.prompt_encoder.image_positions()?;
        let objects = prompt.sparse.dim(0)?;
        if image.embedding.dim(0)? == objects {
            self.mask_decoder.forward(image, &image_positions, &prompt)
        } else {
            self.mask_decoder.forward(&image.repeat(objects)?, &image_positions, &prompt)
        }
    }
}
