//! How fast a model is on this machine, and how far two of them are apart.

use std::path::Path;
use std::time::Instant;

use citrus_v::preprocess::patches;
use citrus_v::{CitrusV, Compute, Decoding, ModelError, Need, Question, Session};
use domain::ErrorChain;
use imaging::Picture;
use serde::Serialize;

use crate::memory;

pub use citrus_v::compute::begin_again_with_memory_that_stays;

/// Tokens of a question that is timed.
const ASKED: usize = 64;

/// Words of an answer that is timed.
const SAID: usize = 32;

/// Answers side by side.
const TOGETHER: usize = 8;

/// Side of the picture.
const SIDE: u32 = 448;

/// What two models are compared on.
const TEXT: &str = "The heart is of normal size. There is a small effusion on the left side, and no \
    pneumothorax. The liver is enlarged; its outline is smooth. No fracture of the ribs can be seen. \
    Compared with the study before, the opacity in the right lower lobe has become smaller. \
    心脏大小正常,左侧少量胸腔积液,未见气胸。肝脏增大,边缘光滑。与前片比较,右下叶密度影缩小。";

/// What was measured: medians.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    /// Seconds until it was loaded.
    pub load_seconds: f64,
    /// Bytes that this process has in memory with it.
    pub resident_bytes: Option<u64>,
    /// Tokens of a question that are read in a second.
    pub read_per_second: f64,
    /// Words of one answer that are said in a second.
    pub said_per_second: f64,
    /// Words of eight answers side by side.
    pub said_together_per_second: f64,
    /// Seconds to see a picture of 448 x 448 pixels.
    pub see_seconds: f64,
    /// Seconds to draw a mask into it; nothing, if it draws none.
    pub draw_seconds: Option<f64>,
}

/// How far what two models expect is apart, over all places of a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Apart {
    /// How many places.
    pub places: usize,
    /// Share of them at which both expect the same word.
    pub same_word: f64,
    /// Mean of the Kullback-Leibler divergence from the second to the first, in nats.
    pub divergence: f64,
}

/// A model that is timed.
pub struct Bench {
    model: CitrusV,
    load_seconds: f64,
}

impl Bench {
    /// Loads a checkpoint.
    ///
    /// # Errors
    ///
    /// Says why it cannot be had.
    pub fn open(checkpoint: &Path, is_eight_bit: bool, compute: Compute) -> Result<Self, String> {
        let begun = Instant::now();
        let model = crate::host::load(checkpoint, is_eight_bit, compute)?;
        Ok(Self { model, load_seconds: begun.elapsed().as_secs_f64() })
    }

    /// Times everything `rounds` times.
    ///
    /// # Errors
    ///
    /// Fails if the device does.
    pub fn speed(&self, rounds: usize) -> Result<Speed, String> {
        self.measured(rounds).map_err(|it| ErrorChain(&it).to_string())
    }

    fn measured(&self, rounds: usize) -> Result<Speed, ModelError> {
        let (mut read, mut said, mut together) = (Vec::new(), Vec::new(), Vec::new());
        let (mut see, mut draw) = (Vec::new(), Vec::new());
        for _ in 0..rounds.max(1) {
            let (reading, saying) = self.answers(1)?;
            read.push(ASKED as f64 / reading);
            said.push(SAID as f64 / saying);
            let (_, saying) = self.answers(TOGETHER)?;
            together.push((SAID * TOGETHER) as f64 / saying);
            see.push(self.seen()?);
            draw.extend(self.drawn()?);
        }
        Ok(Speed {
            load_seconds: self.load_seconds,
            resident_bytes: memory::resident(),
            read_per_second: median(read),
            said_per_second: median(said),
            said_together_per_second: median(together),
            see_seconds: median(see),
            draw_seconds: Some(median(draw)).filter(|it| it.is_finite()),
        })
    }

    /// Seconds that reading and saying take, of so many answers side by side.
    fn answers(&self, count: usize) -> Result<(f64, f64), ModelError> {
        let decoding = Decoding { tokens_max: SAID, ..Decoding::default() };
        let words = (0..).step_by(7).take(ASKED);
        let ids: Vec<u32> = words.map(|it| it % self.words()).collect();
        let begun = Instant::now();
        let mut sessions = Vec::new();
        for _ in 0..count {
            let mut session = self.model.begin(Question::of_words(ids.clone()), &decoding)?;
            self.model.read(&mut session, usize::MAX)?;
            sessions.push(session);
        }
        let reading = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        while sessions.iter().any(|it| it.need() == Need::Say) {
            let mut speakers: Vec<&mut Session> = sessions.iter_mut().collect();
            self.model.say(&mut speakers, &mut |_, _, _| {})?;
        }
        Ok((reading, begun.elapsed().as_secs_f64()))
    }

    /// Words that stand for themselves: those below any that was added.
    const fn words(&self) -> u32 {
        self.model.config().tokens.image / 2
    }

    fn picture() -> Result<Picture, ModelError> {
        let wave = |at: u32| u8::try_from(at * at / 97 % 256).unwrap_or_default();
        Ok(Picture::new(SIDE, SIDE, (0..SIDE * SIDE * 3).map(|it| wave(it % 9973)).collect())?)
    }

    fn seen(&self) -> Result<f64, ModelError> {
        let (device, kind) = (self.model.device(), self.model.dtype());
        let (rows, grid) = patches(&Self::picture()?, &self.model.config().vision, device)?;
        let rows = rows.to_dtype(kind)?;
        let begun = Instant::now();
        // To the machine's memory, so that nothing of it is still under way.
        let features = self.model.vision().forward(&rows, &[grid])?;
        features.to_device(&citrus_v::Device::Cpu)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    fn drawn(&self) -> Result<Option<f64>, ModelError> {
        let Some(seg) = &self.model.config().seg else { return Ok(None) };
        let question =
            Question { fitted: vec![Self::picture()?], ..Question::of_words(vec![1, seg.token]) };
        let mut session = self.model.begin(question, &Decoding::default())?;
        self.model.read(&mut session, usize::MAX)?;
        let begun = Instant::now();
        self.model.draw(&session, &[0], 0)?;
        Ok(Some(begun.elapsed().as_secs_f64()))
    }

    /// How far another model is apart from this one.
    ///
    /// # Errors
    ///
    /// Fails if the device does, or the two do not have the same words.
    pub fn apart(&self, other: &Self) -> Result<Apart, String> {
        let told = |error: &dyn std::error::Error| ErrorChain(error).to_string();
        let ids = self.model.tokens().encode(TEXT).map_err(|it| told(&it))?;
        if other.model.tokens().encode(TEXT).map_err(|it| told(&it))? != ids {
            return Err("they have other words: what they expect cannot be compared".to_owned());
        }
        let ours = self.model.expected(&ids).map_err(|it| told(&it))?;
        let theirs = other.model.expected(&ids).map_err(|it| told(&it))?;
        Ok(compared(&ours, &theirs))
    }
}

/// Compares logits, place by place.
fn compared(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> Apart {
    let (mut same, mut divergence) = (0_usize, 0.0);
    for (ours, theirs) in ours.iter().zip(theirs) {
        let (p, q) = (log_shares(theirs), log_shares(ours));
        let most =
            |it: &[f64]| it.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|it| it.0);
        same += usize::from(most(&p) == most(&q));
        divergence += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
    }
    let places = ours.len();
    let share = |it: f64| it / places.max(1) as f64;
    Apart { places, same_word: share(same as f64), divergence: share(divergence) }
}

fn log_shares(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let all: f64 = logits.iter().map(|it| f64::from(it - most).exp()).sum();
    logits.iter().map(|it| f64::from(it - most) - all.ln()).collect()
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_models_expect_is_compared_place_by_place() {
        let one = vec![vec![0.0, 1.0_f32.exp().ln()], vec![3.0, 1.0]];
        let same = compared(&one, &one);
        assert_eq!((same.places, same.same_word), (2, 1.0));
        assert!(same.divergence.abs() < 1e-12);
        // ln 3 apart in the first of two: KL of (1/2, 1/2) to (1/4, 3/4) is ln(2/sqrt 3).
        let even = vec![vec![0.0, 0.0], vec![3.0, 1.0]];
        let odd = vec![vec![0.0, 3.0_f32.ln()], vec![3.0, 1.0]];
        let found = compared(&odd, &even);
        assert!((found.divergence - (2.0 / 3.0_f64.sqrt()).ln() / 2.0).abs() < 1e-7, "{found:?}");
    }

    #[test]
    fn a_median_is_the_one_in_the_middle() {
        assert!((median(vec![5.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
        assert!(median(Vec::new()).is_nan());
    }
}
