//! The throughput of a model on this machine, and how far the predictions of two models diverge,
//! such as of one model before and after quantization.

use std::path::Path;
use std::time::Instant;

use citrus_v::preprocess::to_patches;
use citrus_v::{CitrusV, Compute, GenerationConfig, ModelError, ModelInput, Phase, Sequence};
use domain::ErrorChain;
use imaging::Picture;
use serde::Serialize;

use crate::memory;

pub use citrus_v::compute::restart_with_allocator_tuning;

/// Tokens of the prompt that is timed.
const PROMPT_TOKENS: usize = 64;

/// Tokens of the completion that is timed.
const COMPLETION_TOKENS: usize = 32;

/// Sequences in the batch that is timed.
const BATCH: usize = 8;

/// Width and height of the picture.
const SIDE: u32 = 448;

/// The text on which two models are compared.
const TEXT: &str = "The heart is of normal size. There is a small effusion on the left side, and no \
    pneumothorax. The liver is enlarged; its outline is smooth. No fracture of the ribs can be seen. \
    Compared with the study before, the opacity in the right lower lobe has become smaller. \
    心脏大小正常,左侧少量胸腔积液,未见气胸。肝脏增大,边缘光滑。与前片比较,右下叶密度影缩小。";

/// The throughput of a model: medians over all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    /// Seconds until the model was loaded.
    pub load_seconds: f64,
    /// Bytes of this process in memory with the model loaded.
    pub resident_bytes: Option<u64>,
    /// Prompt tokens per second in prefill.
    pub prefill_tokens_per_second: f64,
    /// Tokens per second in decode, of one sequence.
    pub decode_tokens_per_second: f64,
    /// Tokens per second in decode, of a batch of eight sequences together.
    pub batch_decode_tokens_per_second: f64,
    /// Seconds to encode an image of 448 x 448 pixels.
    pub image_encode_seconds: f64,
    /// Seconds to segment one mask in it; none if the model does not segment.
    pub segment_seconds: Option<f64>,
}

/// How far the predictions of two models for the next token diverge, over all positions of a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Divergence {
    /// The number of positions.
    pub positions: usize,
    /// The share of positions at which both predict the same token.
    pub same_token: f64,
    /// The mean Kullback-Leibler divergence from the second model to the first, in nats.
    pub kl_divergence: f64,
}

/// Seconds that the two phases of generation took.
struct GenerationTimes {
    prefill: f64,
    decode: f64,
}

/// A loaded model that is timed.
pub struct Bench {
    model: CitrusV,
    load_seconds: f64,
}

impl Bench {
    /// Loads a checkpoint.
    ///
    /// # Errors
    ///
    /// Returns the reason if it cannot be loaded.
    pub fn open(checkpoint: &Path, is_eight_bit: bool, compute: Compute) -> Result<Self, String> {
        let started = Instant::now();
        let model = crate::host::load(checkpoint, is_eight_bit, compute)?;
        Ok(Self { model, load_seconds: started.elapsed().as_secs_f64() })
    }

    /// Times every phase `rounds` times.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn speed(&self, rounds: usize) -> Result<Speed, String> {
        self.measure(rounds).map_err(|it| ErrorChain(&it).to_string())
    }

    fn measure(&self, rounds: usize) -> Result<Speed, ModelError> {
        let mut prefill = Vec::new();
        let mut decode = Vec::new();
        let mut batch_decode = Vec::new();
        let mut image_encode = Vec::new();
        let mut segment = Vec::new();
        for _ in 0..rounds.max(1) {
            let single = self.time_generation(1)?;
            prefill.push(PROMPT_TOKENS as f64 / single.prefill);
            decode.push(COMPLETION_TOKENS as f64 / single.decode);
            let batch = self.time_generation(BATCH)?;
            batch_decode.push((COMPLETION_TOKENS * BATCH) as f64 / batch.decode);
            image_encode.push(self.time_image_encoding()?);
            segment.extend(self.time_segmentation()?);
        }
        Ok(Speed {
            load_seconds: self.load_seconds,
            resident_bytes: memory::resident(),
            prefill_tokens_per_second: median(prefill),
            decode_tokens_per_second: median(decode),
            batch_decode_tokens_per_second: median(batch_decode),
            image_encode_seconds: median(image_encode),
            segment_seconds: Some(median(segment)).filter(|it| it.is_finite()),
        })
    }

    /// Times prefill and decode of this number of sequences in one batch.
    fn time_generation(&self, count: usize) -> Result<GenerationTimes, ModelError> {
        let config =
            GenerationConfig { tokens_max: COMPLETION_TOKENS, ..GenerationConfig::default() };
        let token_ids: Vec<u32> =
            (0..).step_by(7).take(PROMPT_TOKENS).map(|it| it % self.ordinary_tokens()).collect();
        let started = Instant::now();
        let mut sequences = Vec::new();
        for _ in 0..count {
            let mut sequence = self.model.start(ModelInput::of_text(token_ids.clone()), &config)?;
            self.model.prefill(&mut sequence, usize::MAX)?;
            sequences.push(sequence);
        }
        let prefill = started.elapsed().as_secs_f64();
        let started = Instant::now();
        while sequences.iter().any(|it| it.phase() == Phase::Decode) {
            let mut batch: Vec<&mut Sequence> = sequences.iter_mut().collect();
            self.model.decode(&mut batch, &mut |_| {})?;
        }
        Ok(GenerationTimes { prefill, decode: started.elapsed().as_secs_f64() })
    }

    /// The number of token ids, counted from 0, that certainly are not special tokens.
    const fn ordinary_tokens(&self) -> u32 {
        self.model.config().tokens.image / 2
    }

    fn time_image_encoding(&self) -> Result<f64, ModelError> {
        let vision = &self.model.config().vision;
        let (patches, grid) = to_patches(&test_picture()?, vision, self.model.device())?;
        let patches = patches.to_dtype(self.model.dtype())?;
        let started = Instant::now();
        let features = self.model.vision_encoder().forward(&patches, &[grid])?;
        // Copied to the memory of the machine, so that a GPU has finished.
        features.to_device(&citrus_v::Device::Cpu)?;
        Ok(started.elapsed().as_secs_f64())
    }

    fn time_segmentation(&self) -> Result<Option<f64>, ModelError> {
        let Some(seg) = &self.model.config().seg else { return Ok(None) };
        let input = ModelInput {
            resized: vec![test_picture()?],
            ..ModelInput::of_text(vec![1, seg.token])
        };
        let mut sequence = self.model.start(input, &GenerationConfig::default())?;
        self.model.prefill(&mut sequence, usize::MAX)?;
        let started = Instant::now();
        self.model.segment_sequence(&sequence, &[0], 0)?;
        Ok(Some(started.elapsed().as_secs_f64()))
    }

    /// How far the predictions of another model diverge from those of this one.
    ///
    /// # Errors
    ///
    /// Fails if the device does, or the two models tokenize text differently.
    pub fn compare(&self, other: &Self) -> Result<Divergence, String> {
        let token_ids = self.tokenize()?;
        if other.tokenize()? != token_ids {
            return Err("their tokenizers differ: their predictions cannot be compared".to_owned());
        }
        let ours = self.predict(&token_ids)?;
        let theirs = other.predict(&token_ids)?;
        Ok(divergence(&ours, &theirs))
    }

    fn tokenize(&self) -> Result<Vec<u32>, String> {
        self.model.tokenizer().encode(TEXT).map_err(|it| ErrorChain(&it).to_string())
    }

    fn predict(&self, token_ids: &[u32]) -> Result<Vec<Vec<f32>>, String> {
        self.model.next_token_logits(token_ids).map_err(|it| ErrorChain(&it).to_string())
    }
}

/// A picture with some structure, the same on every machine.
fn test_picture() -> Result<Picture, ModelError> {
    let wave = |at: u32| u8::try_from(at * at / 97 % 256).unwrap_or_default();
    Ok(Picture::new(SIDE, SIDE, (0..SIDE * SIDE * 3).map(|it| wave(it % 9973)).collect())?)
}

/// Compares logits, position by position.
fn divergence(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> Divergence {
    let positions = ours.len();
    let mut same_token = 0_usize;
    let mut kl_divergence = 0.0;
    for (ours, theirs) in ours.iter().zip(theirs) {
        let p = log_softmax(theirs);
        let q = log_softmax(ours);
        same_token += usize::from(argmax(&p) == argmax(&q));
        kl_divergence += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
    }
    let count = positions.max(1) as f64;
    Divergence {
        positions,
        same_token: same_token as f64 / count,
        kl_divergence: kl_divergence / count,
    }
}

fn argmax(values: &[f64]) -> Option<usize> {
    values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(index, _)| index)
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|it| f64::from(it - max).exp()).sum();
    logits.iter().map(|it| f64::from(it - max) - sum.ln()).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_of_two_models_are_compared_position_by_position() {
        let one = vec![vec![0.0, 1.0_f32.exp().ln()], vec![3.0, 1.0]];
        let same = divergence(&one, &one);
        assert_eq!((same.positions, same.same_token), (2, 1.0));
        assert!(same.kl_divergence.abs() < 1e-12);
        // ln 3 apart in the first of two: KL of (1/2, 1/2) to (1/4, 3/4) is ln(2/sqrt 3).
        let even = vec![vec![0.0, 0.0], vec![3.0, 1.0]];
        let odd = vec![vec![0.0, 3.0_f32.ln()], vec![3.0, 1.0]];
        let found = divergence(&odd, &even);
        let expected = (2.0 / 3.0_f64.sqrt()).ln() / 2.0;
        assert!((found.kl_divergence - expected).abs() < 1e-7, "{found:?}");
    }

    #[test]
    fn a_median_is_the_one_in_the_middle() {
        assert!((median(vec![5.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
        assert!(median(Vec::new()).is_nan());
    }
}
