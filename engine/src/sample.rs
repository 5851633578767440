//! Choosing the next token from its logits.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::wiped::fit;

/// How to choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token; more makes the others likelier.
    pub temperature: f32,
    /// Divides the odds of tokens that came lately; 1 leaves them alone.
    pub repeat_penalty: f32,
    /// How many of the last tokens count as lately.
    pub repeat_window: usize,
    /// Where the random numbers begin; the same seed gives the same choices.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            repeat_penalty: 1.1,
            repeat_window: 64,
            seed: 0,
        }
    }
}

/// With a temperature, only this many of the likeliest tokens are drawn from.
const CANDIDATES: usize = 40;

/// Chooses tokens one after the other.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: Random,
    /// `[vocabulary]`: logits with the penalty applied.
    logits: Zeroizing<Vec<f32>>,
}

impl Sampler {
    /// A sampler at its start.
    #[must_use]
    pub fn new(sampling: Sampling) -> Self {
        Self {
            sampling,
            random: Random(sampling.seed),
            logits: Zeroizing::default(),
        }
    }

    /// Chooses a token; `logits` is `[vocabulary]` and not empty, `before` the tokens so far. A NaN
    /// is never chosen unless there is nothing else.
    pub fn choose(&mut self, logits: &[f32], before: &[u32]) -> u32 {
        fit(&mut self.logits, logits.len());
        self.logits.copy_from_slice(logits);
        self.penalize(before);
        if self.sampling.temperature > 0.0 {
            self.draw()
        } else {
            likeliest(&self.logits)
        }
    }

    /// Divides positive logits of the last tokens by the penalty and multiplies negative ones, once
    /// a token (Keskar et al., 2019, section 4.1).
    fn penalize(&mut self, before: &[u32]) {
        let window = &before[before.len().saturating_sub(self.sampling.repeat_window)..];
        for (index, &token) in window.iter().enumerate() {
            let first = !window[..index].contains(&token);
            if let (true, Some(logit)) = (first, self.logits.get_mut(token as usize)) {
                let penalty = self.sampling.repeat_penalty;
                *logit = if *logit > 0.0 {
                    *logit / penalty
                } else {
                    *logit * penalty
                };
            }
        }
    }

    /// Draws one of the likeliest tokens in proportion to `exp(logit / temperature)`.
    fn draw(&mut self) -> u32 {
        let mut candidates = Zeroizing::new(Vec::with_capacity(CANDIDATES));
        for _ in 0..CANDIDATES.min(self.logits.len()) {
            let token = likeliest(&self.logits);
            let logit = core::mem::replace(&mut self.logits[token as usize], f32::NEG_INFINITY);
            candidates.push((token, logit));
        }
        let highest = candidates[0].1;
        for (_, weight) in candidates.iter_mut() {
            *weight = libm::expf((*weight - highest) / self.sampling.temperature);
        }
        let total: f32 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut rest = self.random.unit() * total;
        for &(token, weight) in candidates.iter() {
            rest -= weight;
            if rest < 0.0 {
                return token;
            }
        }
        candidates[0].0
    }
}

/// The first of the highest logits.
fn likeliest(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (index as u32, logit);
        }
    }
    best.0
}

/// splitmix64 (Steele, Lea, Flood, 2014). What it draws is no secret: it only varies the wording.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    /// A number in `[0, 1)`.
    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f32, repeat_penalty: f32, seed: u64) -> Sampler {
        Sampler::new(Sampling {
            temperature,
            repeat_penalty,
            repeat_window: 4,
            seed,
        })
    }

    #[test]
    fn greedy_takes_the_first_of_the_likeliest_and_no_nan() {
        let mut greedy = sampler(0.0, 1.0, 0);
        assert_eq!(greedy.choose(&[1.0, 3.0, f32::NAN, 3.0], &[]), 1);
        assert_eq!(greedy.choose(&[f32::NAN, -5.0], &[]), 1);
        assert_eq!(greedy.choose(&[f32::NAN], &[]), 0);
    }

    #[test]
    fn tokens_that_came_lately_are_less_likely() {
        let mut greedy = sampler(0.0, 2.0, 0);
        assert_eq!(greedy.choose(&[4.0, 3.0], &[0]), 1);
        assert_eq!(greedy.choose(&[-1.0, -1.5], &[0, 0]), 1);
        // Twice in the window counts once, and before the window not at all.
        assert_eq!(greedy.choose(&[7.0, 3.0], &[0, 0, 0]), 0);
        assert_eq!(greedy.choose(&[4.0, 3.0], &[0, 1, 1, 1, 1]), 0);
        assert_eq!(greedy.choose(&[4.0, 3.0], &[9]), 0);
    }

    #[test]
    fn a_seed_gives_the_same_choices_and_the_odds_are_right() {
        let logits = [0.0, 1.0, 2.0];
        let draw = |seed| {
            let mut sampler = sampler(1.0, 1.0, seed);
            (0..3000)
                .map(|_| sampler.choose(&logits, &[]))
                .collect::<Vec<u32>>()
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
        let share = draw(5).iter().filter(|&&token| token == 2).count() as f32 / 3000.0;
        // exp(2) / (1 + exp(1) + exp(2))
        assert!((share - 0.665).abs() < 0.03, "{share}");
    }

    #[test]
    fn only_the_likeliest_are_drawn() {
        let logits: Vec<f32> = (0..100).map(|index| index as f32 * 0.001).collect();
        let mut sampler = sampler(10.0, 1.0, 1);
        for _ in 0..2000 {
            assert!(sampler.choose(&logits, &[]) as usize >= 100 - CANDIDATES);
        }
    }
}
