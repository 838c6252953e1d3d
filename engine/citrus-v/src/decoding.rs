//! Which token comes next. Pure.

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoding {
    /// Most tokens.
    pub tokens_max: usize,
    /// Tokens that end the answer.
    pub stop: Vec<u32>,
    /// What has been said counts less by this: its logit is divided by it, or multiplied if negative.
    pub repetition_penalty: f32,
    /// How much chance there is: none at nought.
    pub temperature: f32,
    /// With chance, only the likeliest that make up this share are drawn from.
    pub top_p: f32,
    /// The same seed draws the same.
    pub seed: u64,
}

impl Default for Decoding {
    /// As the release answers: the likeliest token each time.
    fn default() -> Self {
        Self {
            tokens_max: 1024,
            stop: Vec::new(),
            repetition_penalty: 1.0,
            temperature: 0.0,
            top_p: 1.0,
            seed: 0,
        }
    }
}

/// Chooses one token after the other.
pub struct Chooser {
    decoding: Decoding,
    state: u64,
}

impl Chooser {
    /// One that has chosen nothing yet.
    pub const fn new(decoding: Decoding) -> Self {
        let state = decoding.seed;
        Self { decoding, state }
    }

    /// The next token after `said`, by these logits.
    pub fn choose(&mut self, mut logits: Vec<f32>, said: &[u32]) -> u32 {
        if (self.decoding.repetition_penalty - 1.0).abs() > f32::EPSILON {
            let mut seen = said.to_vec();
            seen.sort_unstable();
            seen.dedup();
            for token in seen {
                if let Some(logit) = logits.get_mut(token as usize) {
                    let by = self.decoding.repetition_penalty;
                    *logit = if *logit < 0.0 { *logit * by } else { *logit / by };
                }
            }
        }
        if self.decoding.temperature <= 0.0 {
            return likeliest(&logits);
        }
        self.drawn(&logits)
    }

    fn drawn(&mut self, logits: &[f32]) -> u32 {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let share = |it: &f32| f64::from((it - most) / self.decoding.temperature).exp();
        let mut shares: Vec<(u32, f64)> = (0..).zip(logits.iter().map(share)).collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let all: f64 = shares.iter().map(|it| it.1).sum();
        let wanted = all * f64::from(self.decoding.top_p.clamp(0.0, 1.0));
        let mut kept = 0.0;
        let enough = shares.iter().position(|it| {
            kept += it.1;
            kept >= wanted
        });
        shares.truncate(enough.map_or(shares.len(), |it| it + 1));
        let mut rest = self.chance() * shares.iter().map(|it| it.1).sum::<f64>();
        let drawn = shares.iter().find(|it| {
            rest -= it.1;
            rest <= 0.0
        });
        drawn.or(shares.last()).map_or(0, |it| it.0)
    }

    /// A number from 0 to 1 (SplitMix64).
    fn chance(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The token with the highest logit; the first, if several have it.
fn likeliest(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, logit) in (0..).zip(logits) {
        if *logit > best.1 {
            best = (token, *logit);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_chance_the_likeliest_comes_unless_it_was_said() {
        let plain = Decoding::default();
        assert_eq!(Chooser::new(plain.clone()).choose(vec![1.0, 3.0, 2.0], &[1]), 1);
        let penalty = Decoding { repetition_penalty: 2.0, ..plain };
        assert_eq!(Chooser::new(penalty.clone()).choose(vec![1.0, 3.0, 2.0], &[1]), 2);
        // What is unlikely becomes less likely, not more.
        assert_eq!(Chooser::new(penalty).choose(vec![-1.0, -1.5], &[0]), 1);
    }

    #[test]
    fn with_chance_tokens_come_as_often_as_their_share() {
        let decoding = Decoding { temperature: 1.0, seed: 7, ..Decoding::default() };
        let mut chooser = Chooser::new(decoding.clone());
        let logits = [0.5_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln()];
        let mut counts = [0_u32; 3];
        for _ in 0..10_000 {
            let token = chooser.choose(logits.to_vec(), &[]);
            *counts.get_mut(token as usize).unwrap() += 1;
        }
        for (count, share) in counts.iter().zip([0.5, 0.3, 0.2]) {
            assert!((f64::from(*count) / 10_000.0 - share).abs() < 0.02, "{counts:?}");
        }
        let narrow = Decoding { top_p: 0.6, ..decoding.clone() };
        let mut narrow = Chooser::new(narrow);
        assert!((0..1000).all(|_| narrow.choose(logits.to_vec(), &[]) != 2));
        let [mut one, mut two] = [(); 2].map(|()| Chooser::new(decoding.clone()));
        let draw = |it: &mut Chooser| it.choose(logits.to_vec(), &[]);
        assert!((0..100).all(|_| draw(&mut one) == draw(&mut two)));
    }
}
