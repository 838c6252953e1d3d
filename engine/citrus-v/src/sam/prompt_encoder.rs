//! The prompt encoder of SAM 2: encodes points, boxes, rough masks, and embeddings of the language
//! model, one prompt per object.

use candle_core::{D, Module, Result, Tensor};

use crate::checkpoint_index::WeightsError;
use crate::config::SamConfig;
use crate::convolutions::StridedConv;
use crate::layers::{LayerNorm, Linear, gelu};
use crate::weights::Weights;

/// The epsilon of the norms over channels.
const LAYER_NORM_EPS: f64 = 1e-6;

/// The image embedding has one place for this number of pixels, along each axis.
const EMBEDDING_STRIDE: usize = 16;

/// What a point states about the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointLabel {
    /// Nothing: the point is padding.
    Padding,
    /// The point is outside of the object.
    Background,
    /// The point is inside of the object.
    Foreground,
}

/// A point on the image with what it states about the object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Column and row, in pixels of the square image that SAM 2 receives.
    pub position: [f32; 2],
    /// What the point states.
    pub label: PointLabel,
}

/// The prompts of a batch of objects.
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    /// The points of each object, the same number for all; empty for objects without points.
    pub points: Vec<Vec<Point>>,
    /// The box of each object: left, top, right and bottom.
    pub boxes: Vec<[f32; 4]>,
    /// Rough masks, `[objects, 1, S/4, S/4]`.
    pub masks: Option<Tensor>,
    /// Embeddings of the language model, `[objects, D]`.
    pub embeddings: Option<Tensor>,
}

/// The prompts of a batch of objects, encoded for the mask decoder.
#[derive(Clone, Debug)]
pub struct EncodedPrompt {
    /// The embeddings of points, boxes and language, `[objects, n, D]`.
    pub sparse: Tensor,
    /// The embedding of the rough mask, `[1 or objects, S/16, S/16, D]`.
    pub dense: Tensor,
}

/// The rows of the table of point embeddings.
#[derive(Clone, Copy)]
enum PointKind {
    Background = 0,
    Foreground = 1,
    TopLeft = 2,
    BottomRight = 3,
}

/// The prompt encoder with its weights.
pub struct PromptEncoder {
    image_side: usize,
    hidden: usize,
    /// The Gaussian matrix of the random Fourier features that encode positions.
    gaussian_matrix: Tensor,
    /// The embeddings of [`PointKind`].
    point_embeddings: Vec<Tensor>,
    not_a_point: Tensor,
    no_mask: Tensor,
    mask_conv1: StridedConv,
    mask_norm1: LayerNorm,
    mask_conv2: StridedConv,
    mask_norm2: LayerNorm,
    mask_conv3: Linear,
    /// The positions of the image embedding, computed once unless the matrix is trained.
    image_positions: Option<Tensor>,
}

impl PromptEncoder {
    /// Loads the prompt encoder of a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is missing.
    pub fn load(weights: &Weights, config: &SamConfig) -> std::result::Result<Self, WeightsError> {
        let at = |rest: &str| format!("sam.sam_prompt_encoder.{rest}");
        let point_embedding =
            |kind: usize| weights.get(&at(&format!("point_embeddings.{kind}.weight")));
        let mask = |index: usize| at(&format!("mask_downscaling.{index}"));
        let encoder = Self {
            image_side: config.image,
            hidden: config.hidden,
            gaussian_matrix: weights.get(&at("pe_layer.positional_encoding_gaussian_matrix"))?,
            point_embeddings: (0..4).map(point_embedding).collect::<std::result::Result<_, _>>()?,
            not_a_point: weights.get(&at("not_a_point_embed.weight"))?,
            no_mask: weights.get(&at("no_mask_embed.weight"))?,
            mask_conv1: StridedConv::load(weights, &mask(0), 2)?,
            mask_norm1: LayerNorm::load(weights, &mask(1), LAYER_NORM_EPS)?,
            mask_conv2: StridedConv::load(weights, &mask(3), 2)?,
            mask_norm2: LayerNorm::load(weights, &mask(4), LAYER_NORM_EPS)?,
            mask_conv3: Linear::load(weights, &mask(6))?,
            image_positions: None,
        };
        if !cpu_kernels::supports(&[&encoder.gaussian_matrix]) {
            return Ok(encoder);
        }
        Ok(Self { image_positions: Some(encoder.image_positions()?), ..encoder })
    }

    /// Encodes positions in the unit square, `[.., 2]`, as `[.., D]`: sine and cosine of random
    /// frequencies.
    fn encode_positions(&self, positions: &Tensor) -> Result<Tensor> {
        let centred = ((positions * 2.0)? - 1.0)?.to_dtype(self.gaussian_matrix.dtype())?;
        let phases = centred.broadcast_matmul(&self.gaussian_matrix)?;
        let phases = (phases * (2.0 * std::f64::consts::PI))?;
        Tensor::cat(&[phases.sin()?, phases.cos()?], D::Minus1)
    }

    /// The encoded positions of the image embedding, `[1, S/16 * S/16, D]`.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn image_positions(&self) -> Result<Tensor> {
        if let Some(positions) = &self.image_positions {
            return Ok(positions.clone());
        }
        let side = self.image_side / EMBEDDING_STRIDE;
        let centre = |index: usize| (index as f32 + 0.5) / side as f32;
        let mut positions = Vec::with_capacity(side * side);
        for row in 0..side {
            for column in 0..side {
                positions.push([centre(column), centre(row)]);
            }
        }
        let device = self.gaussian_matrix.device();
        let positions = Tensor::from_vec(positions.concat(), (side * side, 2), device)?;
        self.encode_positions(&positions)?.unsqueeze(0)
    }

    /// The embedding of a point, `[1, D]`.
    fn encode_point(&self, position: [f32; 2], kind: PointKind) -> Result<Tensor> {
        let Some(embedding) = self.point_embeddings.get(kind as usize) else {
            return Ok(self.not_a_point.clone());
        };
        let side = self.image_side as f32;
        let position = position.map(|it| (it + 0.5) / side);
        let position = Tensor::new(&[position], self.gaussian_matrix.device())?;
        self.encode_positions(&position)? + embedding
    }

    /// The sparse embeddings of one object, `[1, n, D]`.
    fn encode_object(&self, prompt: &Prompt, index: usize) -> Result<Tensor> {
        let mut rows = Vec::new();
        for point in prompt.points.get(index).into_iter().flatten() {
            rows.push(match point.label {
                PointLabel::Padding => self.not_a_point.clone(),
                PointLabel::Background => {
                    self.encode_point(point.position, PointKind::Background)?
                }
                PointLabel::Foreground => {
                    self.encode_point(point.position, PointKind::Foreground)?
                }
            });
        }
        if let Some([left, top, right, bottom]) = prompt.boxes.get(index) {
            rows.push(self.encode_point([*left, *top], PointKind::TopLeft)?);
            rows.push(self.encode_point([*right, *bottom], PointKind::BottomRight)?);
        }
        // As in training: a padding point ends the list, and stands for it if it is empty.
        if rows.is_empty() {
            rows.push(self.not_a_point.clone());
        }
        rows.push(self.not_a_point.clone());
        if let Some(embeddings) = &prompt.embeddings {
            rows.push(embeddings.narrow(0, index, 1)?);
        }
        Tensor::cat(&rows, 0)?.unsqueeze(0)
    }

    /// Encodes the prompts of a batch of objects.
    ///
    /// # Errors
    ///
    /// Fails if objects have different numbers of points, or a mask is of another size.
    pub fn encode(&self, prompt: &Prompt) -> Result<EncodedPrompt> {
        let embedding_count = match &prompt.embeddings {
            Some(embeddings) => embeddings.dim(0)?,
            None => 0,
        };
        let objects = prompt.points.len().max(prompt.boxes.len()).max(embedding_count).max(1);
        let sparse: Vec<Tensor> =
            (0..objects).map(|index| self.encode_object(prompt, index)).collect::<Result<_>>()?;
        let dense = match &prompt.masks {
            Some(masks) => self.encode_masks(masks)?,
            None => self.encode_no_mask()?,
        };
        Ok(EncodedPrompt { sparse: Tensor::cat(&sparse, 0)?, dense })
    }

    fn encode_masks(&self, masks: &Tensor) -> Result<Tensor> {
        let masks = masks.permute((0, 2, 3, 1))?.contiguous()?;
        let x = gelu(&self.mask_norm1.forward(&self.mask_conv1.forward(&masks)?)?)?;
        let x = gelu(&self.mask_norm2.forward(&self.mask_conv2.forward(&x)?)?)?;
        self.mask_conv3.forward(&x)
    }

    fn encode_no_mask(&self) -> Result<Tensor> {
        let side = self.image_side / EMBEDDING_STRIDE;
        let no_mask = self.no_mask.reshape((1, 1, 1, self.hidden))?;
        no_mask.broadcast_as((1, side, side, self.hidden))?.contiguous()
    }
}
