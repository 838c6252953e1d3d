//! The losses of a packed row: one pass through the model.

use candle_core::{DType, Tensor};
use citrus_v::attention::PackedSamples;
use citrus_v::rope::RotaryEmbedding;
use citrus_v::sam::ImageEmbedding;
use citrus_v::sam::prompt_encoder::Prompt;
use citrus_v::{CitrusV, ModelError, ModelInput};
use serde::{Deserialize, Serialize};

use crate::losses::{BatchCounts, LossSettings, dice_loss, mask_loss, scale_gradient, token_loss};
use crate::row::PackedRow;

/// A packed row with its pictures and masks.
#[derive(Clone, Debug)]
pub struct RowInput {
    /// The tokens.
    pub row: PackedRow,
    /// The patches of all pictures, `[N, patch_len]`; none without pictures.
    pub patches: Option<Tensor>,
    /// The pictures as SAM 2 gets them, `[P, 3, S, S]`: those that a `[SEG]` refers to.
    pub squares: Option<Tensor>,
    /// For each `[SEG]`, the index of its picture in `squares`.
    pub square_of_target: Vec<u32>,
    /// The mask of each `[SEG]`, `[T, S/4, S/4]`, zeros and ones.
    pub truth: Option<Tensor>,
}

/// Where the gradient of the masks is scaled (3.4 of the paper). The paper says "segmentation
/// modules", the code of the release scales what the projector gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaledModules {
    /// At the output of the projector: SAM 2 has the full gradient, projector and language model
    /// the scaled one.
    ProjectorOutput,
    /// At the losses of the masks: projector, SAM 2 and language model have the scaled one.
    AllSegmentation,
}

/// The scaling of the gradient of the masks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GradientScale {
    /// Where it is scaled.
    pub at: ScaledModules,
    /// The factor.
    pub factor: f64,
}

/// The masks that a row predicts, one for each `[SEG]`.
#[derive(Clone, Debug)]
pub struct PredictedMasks {
    /// The logits, `[T, S/4, S/4]`.
    pub logits: Tensor,
    /// Which of the three masks of SAM 2 each is.
    pub which: Vec<u32>,
}

/// The losses of a row, each its part of the loss of the whole batch, without weights.
#[derive(Clone, Debug, Default)]
pub struct RowLosses {
    /// The cross entropy of tokens; none without a label.
    pub token: Option<Tensor>,
    /// The Dice loss; none without a mask.
    pub dice: Option<Tensor>,
    /// The cross entropy of masks; none without a mask.
    pub mask: Option<Tensor>,
    /// The masks, if there are any.
    pub predicted: Option<PredictedMasks>,
}

impl RowLosses {
    /// The weighted sum, of which the gradient is taken; none if the row has nothing to learn.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn total(
        &self,
        settings: &LossSettings,
        scale: Option<GradientScale>,
    ) -> candle_core::Result<Option<Tensor>> {
        let weights = settings.weights;
        let mut total = None;
        for (loss, weight, is_of_masks) in [
            (&self.token, weights.token, false),
            (&self.dice, weights.dice, true),
            (&self.mask, weights.mask, true),
        ] {
            let Some(loss) = loss.as_ref().filter(|_| weight > 0.0) else { continue };
            let loss = (loss * weight)?;
            let loss = match scale {
                Some(GradientScale { at: ScaledModules::AllSegmentation, factor })
                    if is_of_masks =>
                {
                    scale_gradient(&loss, factor)?
                }
                _ => loss,
            };
            total = Some(match total {
                Some(total) => (total + loss)?,
                None => loss,
            });
        }
        Ok(total)
    }
}

/// The hidden states of a row after the final norm, `[L, hidden]`.
///
/// # Errors
///
/// Fails if pictures and tokens do not fit together, or the device fails.
pub fn hidden_states(model: &CitrusV, input: &RowInput) -> Result<Tensor, ModelError> {
    let RowInput { row, patches, .. } = input;
    let embedded = model.embed(&ModelInput {
        token_ids: row.token_ids.clone(),
        patches: patches.clone(),
        grids: row.pictures.iter().map(|it| it.grid).collect(),
        resized: Vec::new(),
    })?;
    let embedded = embedded.unsqueeze(0)?;
    let axes = row.axes.each_ref().map(Vec::as_slice);
    let device = model.device();
    let rotary = RotaryEmbedding::multimodal(&model.config().text, &[axes], device)?;
    let samples = PackedSamples::new(&row.ranges, device, model.dtype())?;
    Ok(model.language_model().forward_packed(&embedded, &rotary, &samples)?.squeeze(0)?)
}

/// The losses of a row, as its part of a batch with these counts.
///
/// # Errors
///
/// Fails if the parts of the row do not fit together, or the device fails.
pub fn row_losses(
    model: &CitrusV,
    input: &RowInput,
    counts: BatchCounts,
    settings: &LossSettings,
    scale: Option<GradientScale>,
) -> Result<RowLosses, ModelError> {
    let hidden = hidden_states(model, input)?;
    let mut losses = RowLosses::default();
    let predictions = input.row.predictions();
    if !predictions.tokens.is_empty() && settings.weights.token > 0.0 {
        // Logits are as wide as the vocabulary, and needed only where a token is predicted.
        let rows = Tensor::new(predictions.positions.as_slice(), model.device())?;
        let logits = model.language_model().logits(&hidden.index_select(&rows, 0)?)?;
        losses.token = Some(token_loss(&logits, &predictions.tokens, counts.tokens)?);
    }
    if let (Some(squares), Some(truth)) = (&input.squares, &input.truth) {
        let predicted = predict_masks(model, input, &hidden, squares, scale)?;
        let logits = &predicted.logits;
        losses.dice = Some(dice_loss(logits, truth, settings.smoothing, counts.masks)?);
        losses.mask = Some(mask_loss(logits, truth, counts.masks)?);
        losses.predicted = Some(predicted);
    }
    Ok(losses)
}

/// The mask of each `[SEG]`. A picture is encoded once for all `[SEG]` that refer to it.
fn predict_masks(
    model: &CitrusV,
    input: &RowInput,
    hidden: &Tensor,
    squares: &Tensor,
    scale: Option<GradientScale>,
) -> Result<PredictedMasks, ModelError> {
    let device = model.device();
    let positions =
        input.row.targets.iter().map(|it| u32::try_from(it.position).unwrap_or(u32::MAX));
    let positions = Tensor::new(positions.collect::<Vec<_>>().as_slice(), device)?;
    let vectors = model.project_seg(&hidden.index_select(&positions, 0)?)?;
    let vectors = match scale {
        Some(GradientScale { at: ScaledModules::ProjectorOutput, factor }) => {
            scale_gradient(&vectors, factor)?
        }
        _ => vectors,
    };
    let sam = model.sam()?;
    let images = sam.encode_image(squares)?;
    let of_target = Tensor::new(input.square_of_target.as_slice(), device)?;
    let [finest, finer] = &images.high_res;
    let images = ImageEmbedding {
        embedding: images.embedding.index_select(&of_target, 0)?,
        high_res: [finest.index_select(&of_target, 0)?, finer.index_select(&of_target, 0)?],
    };
    let prompt = Prompt { embeddings: Some(vectors), ..Prompt::default() };
    let best = sam.predict_masks(&images, &prompt)?.best()?;
    let logits = best.masks.squeeze(1)?.to_dtype(DType::F32)?;
    Ok(PredictedMasks { logits, which: best.which })
}
