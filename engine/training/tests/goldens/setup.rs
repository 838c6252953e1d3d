//! The trainable model of a set, and its batch as a packed row.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor, Var};
use citrus_v::positions::Grid;
use citrus_v::tensor_names::{CanonicalName, canonical_name};
use citrus_v::tokenizer::Tokenizer;
use citrus_v::{CheckpointIndex, CitrusV, Config, Weights};
use serde_json::Value;
use training::forward::{GradientScale, RowInput, RowLosses, ScaledModules, row_losses};
use training::losses::{DiceSmoothing, LossSettings, LossWeights};
use training::row::PackedRow;
use training::sample::{Sample, SamplePicture, SegTarget};

use crate::set::{Set, Tensors, device};

/// A trainable model and a batch.
pub(crate) struct TrainingSetup {
    pub(crate) model: CitrusV,
    pub(crate) variables: BTreeMap<String, Var>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) grids: Vec<Grid>,
    pub(crate) input: RowInput,
}

/// The tokens and labels of a sample.
pub(crate) struct Tokens<'a> {
    pub(crate) ids: &'a [u32],
    pub(crate) labels: &'a [i64],
}

pub(crate) fn canonical(name: &str) -> String {
    match canonical_name(name) {
        CanonicalName::Tensor(canonical) => canonical,
        other => panic!("{name}: {other:?}"),
    }
}

pub(crate) fn rows<T: Clone>(all: &[T], length: usize) -> Vec<Vec<T>> {
    all.chunks(length).map(<[T]>::to_vec).collect()
}

/// How the losses of a set are weighted.
pub(crate) fn settings(weights: &Value) -> LossSettings {
    let weight = |name: &str| weights[name].as_f64().unwrap();
    let weights = LossWeights { token: weight("token"), dice: weight("dice"), mask: weight("bce") };
    LossSettings { weights, smoothing: DiceSmoothing::RELEASE }
}

/// The scaling of a set.
pub(crate) fn scale(is_scaled: &Value) -> Option<GradientScale> {
    let scale = GradientScale { at: ScaledModules::ProjectorOutput, factor: 0.001 };
    is_scaled.as_bool().unwrap().then_some(scale)
}

impl TrainingSetup {
    /// The model of a set, of which the tensors are trained that `is_trained` names.
    pub(crate) fn open(set: &Set, is_trained: fn(&str) -> bool) -> Self {
        let folder = set.path("ckpt/citrus_tiny");
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let config = Config::parse(&text).unwrap();
        let tokens = Tokenizer::open(&folder, config.seg.as_ref().map(|it| it.token)).unwrap();
        let index = CheckpointIndex::read(&folder).unwrap();
        let weights = Weights::open_for_partial_training(index, &device(), is_trained).unwrap();
        let model = CitrusV::new(config, tokens, &weights).unwrap();
        let batch = set.tensors("citrus/train_batch.safetensors");
        let about = set.json("citrus/train.json")["samples"].clone();
        let (patches, grids) = pictures(set, &about);
        let samples = batch_samples(&model, &batch, &grids);
        let row = packed(&model, &samples);
        let count = u32::try_from(row.targets.len()).unwrap();
        let input = RowInput {
            row,
            patches: Some(Tensor::cat(&patches, 0).unwrap()),
            squares: Some(squares(&batch)),
            square_of_target: (0..count).collect(),
            truth: Some(batch.get("gt_masks").to_dtype(DType::F32).unwrap()),
        };
        Self { variables: weights.variables(), samples, grids, input, model }
    }

    /// The losses of the batch, all of which is one row.
    pub(crate) fn forward(
        &self,
        input: &RowInput,
        weights: &Value,
        is_scaled: &Value,
    ) -> RowLosses {
        let counts = input.row.counts();
        row_losses(&self.model, input, counts, &settings(weights), scale(is_scaled)).unwrap()
    }
}

/// The samples of the batch of a set, without padding.
fn batch_samples(model: &CitrusV, batch: &Tensors, grids: &[Grid]) -> Vec<Sample> {
    let length = batch.get("input_ids").dim(1).unwrap();
    let ids = rows(&batch.ids("input_ids"), length);
    let labels = rows(&batch.numbers("labels"), length);
    let masks = rows(&batch.numbers("attention_mask"), length);
    let mut samples = Vec::new();
    for (row, mask) in masks.iter().enumerate() {
        let start = mask.iter().position(|it| *it == 1).unwrap();
        let end = start + mask.iter().filter(|it| **it == 1).count();
        let tokens = Tokens { ids: &ids[row][start..end], labels: &labels[row][start..end] };
        samples.push(sample(model, &tokens, &grids[row..=row]));
    }
    samples
}

/// A sample with these tokens, whose pictures have these grids; each `[SEG]` refers to the picture
/// with its index.
pub(crate) fn sample(model: &CitrusV, tokens: &Tokens<'_>, grids: &[Grid]) -> Sample {
    let config = model.config();
    let image = config.tokens.image;
    let seg = config.seg.as_ref().map(|it| it.token);
    let ids = tokens.ids;
    let mut pictures = Vec::new();
    let mut position = 0;
    while let Some(start) = ids[position..].iter().position(|it| *it == image) {
        let start = position + start;
        let length = ids[start..].iter().take_while(|it| **it == image).count();
        position = start + length;
        let index = pictures.len();
        pictures.push(SamplePicture { index, grid: grids[index], span: start - 1..position + 1 });
    }
    let segs = ids.iter().enumerate().filter(|it| Some(*it.1) == seg).map(|it| it.0);
    let targets =
        segs.enumerate().map(|(mask, position)| SegTarget { position, picture: mask, mask });
    Sample {
        token_ids: ids.to_vec(),
        labels: tokens.labels.to_vec(),
        targets: targets.collect(),
        pictures,
    }
}

/// A picture of a set for the vision encoder.
pub(crate) struct PreparedPicture {
    pub(crate) grid: Grid,
    pub(crate) patches: Tensor,
}

/// The pictures of a set.
pub(crate) fn all_pictures(set: &Set) -> Vec<PreparedPicture> {
    let all = set.tensors("qwen/preprocess.safetensors");
    let mut first = 0;
    let mut pictures = Vec::new();
    for grid in all.numbers("image_grid_thw").chunks(3) {
        let grid: Grid = [0, 1, 2].map(|at| usize::try_from(grid[at]).unwrap());
        let count = grid.iter().product();
        let patches = all.get("pixel_values").narrow(0, first, count).unwrap();
        pictures.push(PreparedPicture { grid, patches });
        first += count;
    }
    pictures
}

/// Samples in one row.
pub(crate) fn packed(model: &CitrusV, samples: &[Sample]) -> PackedRow {
    let config = model.config();
    let mut row = PackedRow::default();
    for (number, sample) in samples.iter().enumerate() {
        row.push(number, sample, config.tokens.image, config.vision.merge).unwrap();
    }
    row
}

/// Patches and grids of the pictures that the samples use.
fn pictures(set: &Set, samples: &Value) -> (Vec<Tensor>, Vec<Grid>) {
    let about = set.json("qwen/preprocess.json");
    let all = all_pictures(set);
    let files = about["images"].as_array().unwrap();
    let used = samples.as_array().unwrap().iter().map(|sample| {
        let index = files.iter().position(|it| it["file"] == sample["image"]).unwrap();
        (all[index].patches.clone(), all[index].grid)
    });
    used.unzip()
}

/// The pictures of a batch after the preprocessing for SAM2.
fn squares(batch: &Tensors) -> Tensor {
    let (count, side, _, _) = batch.get("g_u8").dims4().unwrap();
    let side = u32::try_from(side).unwrap();
    let bytes = batch.bytes("g_u8");
    let planes = bytes.chunks(bytes.len() / count).map(|it| {
        let picture = imaging::Picture::new(side, side, it.to_vec()).unwrap();
        citrus_v::preprocess::normalize_for_sam(&picture, &device()).unwrap()
    });
    Tensor::cat(&planes.collect::<Vec<_>>(), 0).unwrap()
}
