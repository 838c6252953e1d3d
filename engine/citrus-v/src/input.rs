//! The input of a generation: a tokenized conversation with its preprocessed pictures.

use candle_core::Tensor;
use imaging::Picture;

use crate::positions::Grid;

/// A conversation and its pictures as the network receives them.
#[derive(Clone, Debug)]
pub struct ModelInput {
    /// The tokens of the prompt; a picture is one image token for each of its merged patches.
    pub token_ids: Vec<u32>,
    /// The patches of all pictures, `[patches, patch_len]`; none without pictures.
    pub patches: Option<Tensor>,
    /// The grid of each picture.
    pub grids: Vec<Grid>,
    /// The pictures in the size the vision encoder receives: cited boxes are in their pixels, and
    /// SAM 2 segments them.
    pub resized: Vec<Picture>,
}

impl ModelInput {
    /// An input without pictures.
    pub const fn of_text(token_ids: Vec<u32>) -> Self {
        Self { token_ids, patches: None, grids: Vec::new(), resized: Vec::new() }
    }
}
