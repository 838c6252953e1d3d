//! What is to be drawn: points, boxes, a rough mask, or a vector of the language model.

use candle_core::{D, Module, Result, Tensor};

use crate::config::SamConfig;
use crate::convolutions::ConvPatch;
use crate::ops::{LayerNorm, Linear, gelu};
use crate::plan::WeightsError;
use crate::weights::Weights;

/// Of LayerNorm over channels.
const EPS: f64 = 1e-6;

/// What a point says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// It is none.
    None,
    /// Outside of the object.
    Outside,
    /// Inside of it.
    Inside,
}

/// A point, in pixels of the picture as SAM2 sees it.
pub type Point = ([f32; 2], Label);

/// What is to be drawn, object by object.
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    /// Points of each object; all have the same number. An object may have none.
    pub points: Vec<Vec<Point>>,
    /// A box of each object: left, top, right, bottom.
    pub boxes: Vec<[f32; 4]>,
    /// A rough mask `[objects, 1, S/4, S/4]`.
    pub masks: Option<Tensor>,
    /// A vector of each object, `[objects, D]`.
    pub vectors: Option<Tensor>,
}

/// Puts prompts into vectors.
pub struct PromptEncoder {
    image: usize,
    hidden: usize,
    matrix: Tensor,
    /// Outside, inside, and the two corners of a box.
    kinds: Vec<Tensor>,
    not_a_point: Tensor,
    no_mask: Tensor,
    mask1: ConvPatch,
    norm1: LayerNorm,
    mask2: ConvPatch,
    norm2: LayerNorm,
    mask3: Linear,
    /// Where each place of the map is, where nobody changes the matrix.
    places: Option<Tensor>,
}

impl PromptEncoder {
    /// The encoder of a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is not there.
    pub fn load(weights: &Weights, config: &SamConfig) -> std::result::Result<Self, WeightsError> {
        let at = |rest: &str| format!("sam.sam_prompt_encoder.{rest}");
        let kind = |it: usize| weights.get(&at(&format!("point_embeddings.{it}.weight")));
        let conv = |it: usize, side| {
            ConvPatch::load(weights, &at(&format!("mask_downscaling.{it}")), side)
        };
        let norm =
            |it: usize| LayerNorm::load(weights, &at(&format!("mask_downscaling.{it}")), EPS);
        let encoder = Self {
            image: config.image,
            hidden: config.hidden,
            matrix: weights.get(&at("pe_layer.positional_encoding_gaussian_matrix"))?,
            kinds: (0..4).map(kind).collect::<std::result::Result<_, _>>()?,
            not_a_point: weights.get(&at("not_a_point_embed.weight"))?,
            no_mask: weights.get(&at("no_mask_embed.weight"))?,
            mask1: conv(0, 2)?,
            norm1: norm(1)?,
            mask2: conv(3, 2)?,
            norm2: norm(4)?,
            mask3: Linear::load(weights, &at("mask_downscaling.6"))?,
            places: None,
        };
        if !cpu_kernels::can_take(&[&encoder.matrix]) {
            return Ok(encoder);
        }
        Ok(Self { places: Some(encoder.places()?), ..encoder })
    }

    /// Places in the unit square, `[.., 2]`, as `[.., D]`.
    fn waves(&self, places: &Tensor) -> Result<Tensor> {
        let places = ((places * 2.0)? - 1.0)?.to_dtype(self.matrix.dtype())?;
        let waves = (places.broadcast_matmul(&self.matrix)? * (2.0 * std::f64::consts::PI))?;
        Tensor::cat(&[waves.sin()?, waves.cos()?], D::Minus1)
    }

    /// Where each place of the map is, `[1, S/16 * S/16, D]`.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn places(&self) -> Result<Tensor> {
        if let Some(places) = &self.places {
            return Ok(places.clone());
        }
        let side = self.image / 16;
        let middle = |it: usize| (it as f32 + 0.5) / side as f32;
        let all = (0..side).flat_map(|row| (0..side).flat_map(move |it| [middle(it), middle(row)]));
        let places = Tensor::from_vec(all.collect(), (side * side, 2), self.matrix.device())?;
        self.waves(&places)?.unsqueeze(0)
    }

    /// One point as a vector `[1, D]`; a corner of a box has kind 2 or 3.
    fn point(&self, place: [f32; 2], kind: Option<usize>) -> Result<Tensor> {
        let Some(kind) = kind.and_then(|it| self.kinds.get(it)) else {
            return Ok(self.not_a_point.clone());
        };
        let side = self.image as f32;
        let unit = place.map(|it| (it + 0.5) / side);
        self.waves(&Tensor::new(&[unit], self.matrix.device())?)? + kind
    }

    fn object(&self, prompt: &Prompt, index: usize) -> Result<Tensor> {
        let mut rows = Vec::new();
        for (place, label) in prompt.points.get(index).into_iter().flatten() {
            let kind = match label {
                Label::None => None,
                Label::Outside => Some(0),
                Label::Inside => Some(1),
            };
            rows.push(self.point(*place, kind)?);
        }
        if let Some([left, top, right, bottom]) = prompt.boxes.get(index) {
            rows.push(self.point([*left, *top], Some(2))?);
            rows.push(self.point([*right, *bottom], Some(3))?);
        }
        // One that is no point ends the list, and stands for it where it is empty: so was the network
        // trained.
        if rows.is_empty() {
            rows.push(self.not_a_point.clone());
        }
        rows.push(self.not_a_point.clone());
        if let Some(vectors) = &prompt.vectors {
            rows.push(vectors.narrow(0, index, 1)?);
        }
        Tensor::cat(&rows, 0)?.unsqueeze(0)
    }

    /// Vectors of the prompts, `[objects, n, D]`, and a map of the rough mask, `[1 or objects, S/16,
    /// S/16, D]`.
    ///
    /// # Errors
    ///
    /// Fails if objects have different numbers of points, or a mask is of another size.
    pub fn encode(&self, prompt: &Prompt) -> Result<(Tensor, Tensor)> {
        let vectors = prompt.vectors.as_ref().map(|it| it.dim(0)).transpose()?.unwrap_or_default();
        let objects = prompt.points.len().max(prompt.boxes.len()).max(vectors).max(1);
        let all = (0..objects).map(|it| self.object(prompt, it));
        let sparse = Tensor::cat(&all.collect::<Result<Vec<_>>>()?, 0)?;
        let dense = if let Some(masks) = &prompt.masks {
            self.rough(masks)?
        } else {
            let side = self.image / 16;
            let plain = self.no_mask.reshape((1, 1, 1, self.hidden))?;
            plain.broadcast_as((1, side, side, self.hidden))?.contiguous()?
        };
        Ok((sparse, dense))
    }

    fn rough(&self, masks: &Tensor) -> Result<Tensor> {
        let masks = masks.permute((0, 2, 3, 1))?.contiguous()?;
        let x = gelu(&self.norm1.forward(&self.mask1.forward(&masks)?)?)?;
        let x = gelu(&self.norm2.forward(&self.mask2.forward(&x)?)?)?;
        self.mask3.forward(&x)
    }
}
