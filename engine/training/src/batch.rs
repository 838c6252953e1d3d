//! The data of samples, put together as rows for the model.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::error::TrainingError;
use crate::forward::RowInput;
use crate::row::PackedRow;
use crate::sample::Sample;

/// A sample with its pictures and masks.
#[derive(Clone, Debug)]
pub struct SampleData {
    /// Tokens and labels.
    pub sample: Sample,
    /// The patches of each picture that the sample came with, `[n, patch_len]`.
    pub patches: Vec<Tensor>,
    /// Each picture as SAM 2 gets it, `[1, 3, S, S]`; empty if the sample has no mask.
    pub squares: Vec<Tensor>,
    /// Each mask, `[S/4, S/4]`, zeros and ones.
    pub masks: Vec<Tensor>,
}

/// Puts the samples with these numbers into one row.
///
/// # Errors
///
/// Fails if a sample lacks a picture or a mask that it refers to.
pub fn row_input(
    data: &[SampleData],
    numbers: &[usize],
    image_token: u32,
    merge: usize,
) -> Result<RowInput, TrainingError> {
    let sample = |number: usize| data.get(number).ok_or(TrainingError::Incomplete { number });
    let mut row = PackedRow::default();
    for number in numbers {
        row.push(*number, &sample(*number)?.sample, image_token, merge)?;
    }
    let mut patches = Vec::new();
    for picture in &row.pictures {
        let number = picture.sample;
        let found = sample(number)?.patches.get(picture.picture);
        patches.push(found.ok_or(TrainingError::Incomplete { number })?.clone());
    }
    let mut squares = Vec::new();
    let mut square_of_picture = BTreeMap::new();
    let mut square_of_target = Vec::new();
    let mut masks = Vec::new();
    for target in &row.targets {
        let number = target.sample;
        let incomplete = || TrainingError::Incomplete { number };
        let of_sample = sample(number)?;
        masks.push(of_sample.masks.get(target.mask).ok_or_else(incomplete)?.clone());
        let picture = row.pictures.get(target.picture).ok_or_else(incomplete)?.picture;
        let square = of_sample.squares.get(picture).ok_or_else(incomplete)?;
        let index = *square_of_picture.entry(target.picture).or_insert_with(|| {
            squares.push(square.clone());
            squares.len() - 1
        });
        square_of_target.push(u32::try_from(index).unwrap_or(u32::MAX));
    }
    Ok(RowInput {
        patches: cat(&patches)?,
        squares: cat(&squares)?,
        square_of_target,
        truth: if masks.is_empty() { None } else { Some(Tensor::stack(&masks, 0)?) },
        row,
    })
}

/// The tensors one after the other, if there are any.
fn cat(tensors: &[Tensor]) -> candle_core::Result<Option<Tensor>> {
    if tensors.is_empty() { Ok(None) } else { Tensor::cat(tensors, 0).map(Some) }
}
