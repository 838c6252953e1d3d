//! SAM2 for single pictures: [`hiera`] sees, [`prompt`] takes points, boxes, masks and the vectors of
//! the language model, [`decoder`] draws.

pub mod decoder;
pub mod hiera;
pub mod prompt;

use candle_core::{D, DType, Module, Result, Tensor};

use crate::config::SamConfig;
use crate::ops::{Linear, doubled};
use crate::plan::WeightsError;
use crate::weights::Weights;
use decoder::{Decoder, Drawn};
use hiera::Hiera;
use prompt::{Prompt, PromptEncoder};

/// SAM2.
pub struct Sam {
    config: SamConfig,
    trunk: Hiera,
    /// From the finest level to the coarsest.
    laterals: Vec<Linear>,
    no_memory: Tensor,
    prompts: PromptEncoder,
    decoder: Decoder,
}

/// What was seen in pictures.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `[B, S/16, S/16, D]`, with what stands for an empty memory.
    pub embedding: Tensor,
    /// Finer ones: `[B, S/4, S/4, D/8]` and `[B, S/8, S/8, D/4]`.
    pub fine: [Tensor; 2],
}

impl Seen {
    /// That of one picture.
    ///
    /// # Errors
    ///
    /// Fails if there are not so many.
    pub fn of(&self, index: usize) -> Result<Self> {
        let one = |it: &Tensor| it.narrow(0, index, 1);
        let [finest, finer] = &self.fine;
        Ok(Self { embedding: one(&self.embedding)?, fine: [one(finest)?, one(finer)?] })
    }

    /// The same for each of several objects.
    fn repeated(&self, count: usize) -> Result<Self> {
        let many = |it: &Tensor| {
            let (_, rows, columns, channels) = it.dims4()?;
            it.broadcast_as((count, rows, columns, channels))?.contiguous()
        };
        let [finest, finer] = &self.fine;
        Ok(Self { embedding: many(&self.embedding)?, fine: [many(finest)?, many(finer)?] })
    }
}

impl Sam {
    /// The SAM2 of a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is not there.
    pub fn load(weights: &Weights, config: &SamConfig) -> std::result::Result<Self, WeightsError> {
        let lateral = |level: usize| {
            let name = format!("sam.image_encoder.neck.convs.{}.conv", 3 - level);
            Linear::load(weights, &name)
        };
        Ok(Self {
            trunk: Hiera::load(weights, config)?,
            // The coarsest level of the trunk only feeds the one below it.
            laterals: (0..4).map(lateral).collect::<std::result::Result<_, _>>()?,
            no_memory: weights.get("sam.no_mem_embed")?,
            prompts: PromptEncoder::load(weights, config)?,
            decoder: Decoder::load(weights, config)?,
            config: config.clone(),
        })
    }

    /// Its sizes.
    pub const fn config(&self) -> &SamConfig {
        &self.config
    }

    /// Looks at pictures `[B, 3, S, S]`.
    ///
    /// # Errors
    ///
    /// Fails if they are of another size.
    pub fn see(&self, pictures: &Tensor) -> Result<Seen> {
        self.traced(pictures, &mut |_, _| {})
    }

    /// The same, showing what comes out of each block, `[B, H, W, C]`.
    ///
    /// # Errors
    ///
    /// Fails if they are of another size.
    pub fn traced(&self, pictures: &Tensor, seen: &mut dyn FnMut(&str, &Tensor)) -> Result<Seen> {
        let levels = self.trunk.traced(pictures, seen)?;
        let mut maps = Vec::new();
        for (lateral, level) in self.laterals.iter().zip(&levels) {
            maps.push(lateral.forward(level)?);
        }
        let [finest, finer, middle, coarsest]: [Tensor; 4] = maps
            .try_into()
            .map_err(|_| candle_core::Error::Msg("SAM2 has four levels".to_owned()))?;
        let middle = (middle + doubled(&coarsest)?)?;
        seen("fpn_level2", &middle);
        let no_memory = self.no_memory.flatten_all()?;
        Ok(Seen {
            embedding: middle.broadcast_add(&no_memory)?,
            fine: self.decoder.fine([&finest, &finer])?,
        })
    }

    /// Draws one object per prompt into one picture.
    ///
    /// # Errors
    ///
    /// Fails if a prompt does not fit.
    pub fn draw(&self, seen: &Seen, prompt: &Prompt) -> Result<Drawn> {
        let (sparse, dense) = self.prompts.encode(prompt)?;
        let places = self.prompts.places()?;
        let objects = sparse.dim(0)?;
        let seen =
            if seen.embedding.dim(0)? == objects { seen.clone() } else { seen.repeated(objects)? };
        self.decoder.draw(&seen, &places, &sparse, &dense)
    }

    /// The prompts.
    pub const fn prompts(&self) -> &PromptEncoder {
        &self.prompts
    }
}

/// Masks in another size: `[B, N, H, W]` in bilinear steps, pixels at the middle of their places.
///
/// # Errors
///
/// Fails if the shape does not fit.
pub fn bilinear(masks: &Tensor, side: usize) -> Result<Tensor> {
    let from = masks.dim(D::Minus1)?;
    let matrix = bilinear_matrix(from, side, masks)?;
    let wide = masks.to_dtype(DType::F32)?.broadcast_matmul(&matrix.t()?)?;
    matrix.broadcast_matmul(&wide)
}

fn bilinear_matrix(from: usize, to: usize, like: &Tensor) -> Result<Tensor> {
    let mut matrix = vec![0.0_f32; from * to];
    let scale = from as f32 / to as f32;
    for (row, weights) in matrix.chunks_exact_mut(from).enumerate() {
        let place = ((row as f32 + 0.5) * scale - 0.5).max(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place on the axis"
        )]
        let first = place as usize;
        let share = place - first as f32;
        for (at, weight) in [(first, 1.0 - share), ((first + 1).min(from - 1), share)] {
            if let Some(it) = weights.get_mut(at) {
                *it += weight;
            }
        }
    }
    Tensor::from_vec(matrix, (to, from), like.device())
}
