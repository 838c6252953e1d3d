//! Sampling: chooses the next token from the logits. Pure.

/// How tokens are generated.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationConfig {
    /// The maximum number of generated tokens.
    pub tokens_max: usize,
    /// The tokens that end the generation.
    pub stop_tokens: Vec<u32>,
    /// The penalty on tokens in the context: their logits are divided by it, or multiplied if
    /// negative. 1 means none.
    pub repetition_penalty: f32,
    /// The temperature of the softmax; 0 means greedy decoding.
    pub temperature: f32,
    /// Nucleus sampling: only the most likely tokens whose probabilities add up to this are drawn.
    pub top_p: f32,
    /// The seed of the random generator; equal seeds draw equal tokens.
    pub seed: u64,
}

impl Default for GenerationConfig {
    /// Greedy decoding, as in the release.
    fn default() -> Self {
        Self {
            tokens_max: 1024,
            stop_tokens: Vec::new(),
            repetition_penalty: 1.0,
            temperature: 0.0,
            top_p: 1.0,
            seed: 0,
        }
    }
}

/// Samples one token after the other, with a random generator of its own.
pub struct Sampler {
    config: GenerationConfig,
    random_state: u64,
}

/// A token and its probability, up to a common factor.
struct Candidate {
    token: u32,
    weight: f64,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    pub const fn new(config: GenerationConfig) -> Self {
        let random_state = config.seed;
        Self { config, random_state }
    }

    /// The token after `context`, by these logits.
    pub fn sample(&mut self, mut logits: Vec<f32>, context: &[u32]) -> u32 {
        self.penalize_repetition(&mut logits, context);
        if self.config.temperature <= 0.0 {
            return argmax(&logits);
        }
        self.sample_nucleus(&logits)
    }

    fn penalize_repetition(&self, logits: &mut [f32], context: &[u32]) {
        let penalty = self.config.repetition_penalty;
        if (penalty - 1.0).abs() <= f32::EPSILON {
            return;
        }
        let mut tokens = context.to_vec();
        tokens.sort_unstable();
        tokens.dedup();
        for token in tokens {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
            }
        }
    }

    fn sample_nucleus(&mut self, logits: &[f32]) -> u32 {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut candidates: Vec<Candidate> = (0..)
            .zip(logits)
            .map(|(token, logit)| Candidate {
                token,
                weight: f64::from((logit - max) / self.config.temperature).exp(),
            })
            .collect();
        candidates.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.token.cmp(&b.token)));
        let total: f64 = candidates.iter().map(|it| it.weight).sum();
        let nucleus = total * f64::from(self.config.top_p.clamp(0.0, 1.0));
        let mut cumulative = 0.0;
        let last = candidates.iter().position(|it| {
            cumulative += it.weight;
            cumulative >= nucleus
        });
        candidates.truncate(last.map_or(candidates.len(), |it| it + 1));
        let mut rest = self.random() * candidates.iter().map(|it| it.weight).sum::<f64>();
        let drawn = candidates.iter().find(|it| {
            rest -= it.weight;
            rest <= 0.0
        });
        drawn.or(candidates.last()).map_or(0, |it| it.token)
    }

    /// The next random number from 0 to 1 (SplitMix64).
    fn random(&mut self) -> f64 {
        self.random_state = self.random_state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random_state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The token with the highest logit; the first of several.
fn argmax(logits: &[f32]) -> u32 {
    let mut best_token = 0;
    let mut best_logit = f32::NEG_INFINITY;
    for (token, logit) in (0..).zip(logits) {
        if *logit > best_logit {
            best_token = token;
            best_logit = *logit;
        }
    }
    best_token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_decoding_takes_the_likeliest_token_less_the_repetition_penalty() {
        let plain = GenerationConfig::default();
        assert_eq!(Sampler::new(plain.clone()).sample(vec![1.0, 3.0, 2.0], &[1]), 1);
        let penalty = GenerationConfig { repetition_penalty: 2.0, ..plain };
        assert_eq!(Sampler::new(penalty.clone()).sample(vec![1.0, 3.0, 2.0], &[1]), 2);
        // A negative logit becomes less likely, not more.
        assert_eq!(Sampler::new(penalty).sample(vec![-1.0, -1.5], &[0]), 1);
    }

    #[test]
    fn tokens_are_drawn_as_often_as_their_probability() {
        let config = GenerationConfig { temperature: 1.0, seed: 7, ..GenerationConfig::default() };
        let mut sampler = Sampler::new(config.clone());
        let logits = [0.5_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln()];
        let mut counts = [0_u32; 3];
        for _ in 0..10_000 {
            let token = sampler.sample(logits.to_vec(), &[]);
            *counts.get_mut(token as usize).unwrap() += 1;
        }
        for (count, probability) in counts.iter().zip([0.5, 0.3, 0.2]) {
            assert!((f64::from(*count) / 10_000.0 - probability).abs() < 0.02, "{counts:?}");
        }
        let mut nucleus = Sampler::new(GenerationConfig { top_p: 0.6, ..config.clone() });
        assert!((0..1000).all(|_| nucleus.sample(logits.to_vec(), &[]) != 2));
        let [mut one, mut two] = [(); 2].map(|()| Sampler::new(config.clone()));
        let draw = |it: &mut Sampler| it.sample(logits.to_vec(), &[]);
        assert!((0..100).all(|_| draw(&mut one) == draw(&mut two)));
    }
}
