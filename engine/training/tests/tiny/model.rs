//! The tiny model, and samples for it.

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use citrus_v::positions::Grid;
use citrus_v::tokenizer::{MessageRole, Tokenizer};
use citrus_v::{CheckpointIndex, CitrusV, Config, Weights};
use training::batch::SampleData;
use training::labels::{Pictures, Turn, encode};
use training::losses::{DiceSmoothing, LossSettings, LossWeights};
use training::sample::Sample;

/// The patches of every picture.
pub(crate) const GRID: Grid = [1, 4, 6];

/// The losses of all tests.
pub(crate) const LOSSES: LossSettings =
    LossSettings { weights: LossWeights::PAPER, smoothing: DiceSmoothing::RELEASE };

/// The folder of the model.
pub(crate) fn folder() -> PathBuf {
    let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    PathBuf::from(crates).join("citrus-v/tests/goldens/own/ckpt/citrus_tiny")
}

pub(crate) fn config() -> Config {
    Config::parse(&std::fs::read_to_string(folder().join("config.json")).unwrap()).unwrap()
}

pub(crate) fn tokenizer() -> Tokenizer {
    Tokenizer::open(&folder(), config().seg.map(|it| it.token)).unwrap()
}

/// The model, and its weights with the variables that `is_trained` names.
pub(crate) struct Trainable {
    pub(crate) model: CitrusV,
    pub(crate) weights: Weights,
}

pub(crate) fn open(is_trained: impl Fn(&str) -> bool + Send + Sync + 'static) -> Trainable {
    let index = CheckpointIndex::read(&folder()).unwrap();
    let weights = Weights::open_for_partial_training(index, &Device::Cpu, is_trained).unwrap();
    let model = CitrusV::new(config(), tokenizer(), &weights).unwrap();
    Trainable { model, weights }
}

/// A question and an answer.
pub(crate) fn turns(question: &str, answer: &str) -> [Turn; 2] {
    [
        Turn { role: MessageRole::User, text: question.to_owned() },
        Turn { role: MessageRole::Assistant, text: answer.to_owned() },
    ]
}

/// The tokens and labels of a question about pictures of [`GRID`], and its answer.
pub(crate) fn sample(question: &str, answer: &str, pictures: &Pictures) -> Sample {
    encode(&tokenizer(), config().vision.merge, &turns(question, answer), pictures).unwrap()
}

/// Numbers that depend on a seed, between minus one and one.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| random.f32().mul_add(2.0, -1.0)).collect()
}

fn tensor(seed: u64, shape: &[usize]) -> Tensor {
    let count = shape.iter().product();
    Tensor::from_vec(numbers(seed, count), shape, &Device::Cpu).unwrap()
}

/// A mask that covers the rows below `rows`.
fn mask(rows: usize, side: usize) -> Tensor {
    let pixels = (0..side * side).map(|it| f32::from(u8::from(it / side < rows)));
    Tensor::from_vec(pixels.collect::<Vec<_>>(), (side, side), &Device::Cpu).unwrap()
}

/// A sample with random pictures, each of which may have masks.
pub(crate) fn data(question: &str, answer: &str, of_masks: &[usize]) -> SampleData {
    let count = question.matches("<image>").count();
    let pictures = Pictures { grids: vec![GRID; count], of_masks: of_masks.to_vec() };
    let config = config();
    let side = config.seg.unwrap().sam.image;
    let seeds = 0..u64::try_from(count).unwrap();
    let patch_count = GRID.iter().product();
    let patch_len = config.vision.patch_len();
    SampleData {
        sample: sample(question, answer, &pictures),
        patches: seeds.clone().map(|it| tensor(it, &[patch_count, patch_len])).collect(),
        squares: seeds.map(|it| tensor(100 + it, &[1, 3, side, side])).collect(),
        masks: (0..of_masks.len()).map(|it| mask(6 + 7 * it, side / 4)).collect(),
    }
}

/// Samples of every kind: words, a picture, masks of several pictures in any order.
pub(crate) fn mixed_data() -> Vec<SampleData> {
    vec![
        data("What is a heart?", "A muscle.", &[]),
        data("<image>\nWhat is here?", "Nothing.", &[]),
        data("<image>\nOutline the liver.", "Sure, [SEG] liver.", &[0]),
        data("<image> and <image>", "[SEG] here, [SEG] there, [SEG].", &[1, 0, 1]),
        data("Say yes.", "Yes yes yes.", &[]),
    ]
}
