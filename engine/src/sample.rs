//! Choosing the next token from its logits.

use alloc::vec::Vec;

use zeroize::Zeroizing;

/// How to choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token; more makes the others likelier.
    pub temperature: f32,
    /// Of the likeliest tokens, only those are drawn from that have this share of the odds together, and at least one; 1
    /// is all.
    pub top_p: f32,
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
            top_p: 1.0,
            repeat_penalty: 1.1,
            repeat_window: 64,
            seed: 0,
        }
    }
}

/// With a temperature, only this many of the likeliest tokens are drawn from.
const CANDIDATES: usize = 40;

/// Most tokens that count as lately, however many [`Sampling::repeat_window`] asks for.
const MAX_WINDOW: usize = 1024;

/// Chooses tokens one after the other.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: Random,
    /// The last tokens, each once and in order, with their logits after the penalty. Wiped when dropped, as are the
    /// others: the logits themselves are only read, since those of a large vocabulary are many and a batch has many
    /// samplers.
    penalized: Zeroizing<Vec<(u32, f32)>>,
    /// The likeliest tokens so far, the likeliest first.
    candidates: Zeroizing<Vec<(u32, f32)>>,
}

impl Sampler {
    /// A sampler at its start.
    #[must_use]
    pub fn new(sampling: Sampling) -> Self {
        Self {
            sampling,
            random: Random(sampling.seed),
            penalized: Zeroizing::new(Vec::with_capacity(sampling.repeat_window.min(MAX_WINDOW))),
            candidates: Zeroizing::new(Vec::with_capacity(CANDIDATES + 1)),
        }
    }

    /// Chooses a token; `logits` is `[vocabulary]` and not empty, `before` the tokens so far. A NaN
    /// is never chosen unless there is nothing else.
    pub fn choose(&mut self, logits: &[f32], before: &[u32]) -> u32 {
        self.penalize(logits, before);
        let is_drawn = self.sampling.temperature > 0.0;
        self.find_likeliest(logits, if is_drawn { CANDIDATES } else { 1 });
        if is_drawn && !self.candidates.is_empty() {
            self.draw()
        } else {
            self.candidates.first().map_or(0, |&(token, _)| token)
        }
    }

    /// Divides positive logits of the last tokens by the penalty and multiplies negative ones, once
    /// a token (Keskar et al., 2019, section 4.1).
    fn penalize(&mut self, logits: &[f32], before: &[u32]) {
        let window = self.sampling.repeat_window.min(MAX_WINDOW);
        let window = &before[before.len().saturating_sub(window)..];
        let penalty = self.sampling.repeat_penalty;
        self.penalized.clear();
        self.penalized.extend(window.iter().filter_map(|&token| {
            let logit = *logits.get(token as usize)?;
            let penalized = if logit > 0.0 {
                logit / penalty
            } else {
                logit * penalty
            };
            Some((token, penalized))
        }));
        self.penalized.sort_unstable_by_key(|&(token, _)| token);
        self.penalized.dedup_by_key(|&mut (token, _)| token);
    }

    /// Finds the `count` highest logits that are no NaN, the first of equal ones first.
    fn find_likeliest(&mut self, logits: &[f32], count: usize) {
        self.candidates.clear();
        let mut lowest = f32::NEG_INFINITY;
        let mut consider = |token: u32, logit: f32| {
            // Nearly always false.
            if logit > lowest {
                let place = self
                    .candidates
                    .partition_point(|&(_, other)| other >= logit);
                self.candidates.insert(place, (token, logit));
                self.candidates.truncate(count);
                if self.candidates.len() == count {
                    lowest = self.candidates[count - 1].1;
                }
            }
        };
        let mut from = 0;
        for &(token, logit) in self.penalized.iter() {
            (from..token).for_each(|token| consider(token, logits[token as usize]));
            consider(token, logit);
            from = token + 1;
        }
        (from..logits.len() as u32).for_each(|token| consider(token, logits[token as usize]));
    }

    /// Draws one of the likeliest tokens in proportion to `exp(logit / temperature)`.
    fn draw(&mut self) -> u32 {
        let highest = self.candidates[0].1;
        for (_, weight) in self.candidates.iter_mut() {
            *weight = libm::expf((*weight - highest) / self.sampling.temperature);
        }
        self.keep_share();
        let total: f32 = self.candidates.iter().map(|(_, weight)| weight).sum();
        let mut rest = self.random.unit() * total;
        for &(token, weight) in self.candidates.iter() {
            rest -= weight;
            if rest < 0.0 {
                return token;
            }
        }
        self.candidates[0].0
    }
}

impl Sampler {
    /// Drops what is behind the first candidates that have the share of the odds that is drawn from.
    fn keep_share(&mut self) {
        let total: f32 = self.candidates.iter().map(|(_, weight)| weight).sum();
        let share = self.sampling.top_p * total;
        let mut sum = 0.0;
        let kept = self.candidates.iter().position(|(_, weight)| {
            sum += weight;
            sum >= share
        });
        if let Some(last) = kept.filter(|_| self.sampling.top_p < 1.0) {
            self.candidates.truncate(last + 1);
        }
    }
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
            ..Sampling::default()
        })
    }

    #[test]
    fn only_the_share_of_the_odds_is_drawn_from() {
        // Odds of about 0.67, 0.24 and 0.09.
        let logits = [1.0, 0.0, 2.0];
        let drawn = |top_p: f32| {
            let mut sampler = Sampler::new(Sampling {
                top_p,
                ..sampler(1.0, 1.0, 3).sampling
            });
            let mut drawn: Vec<u32> = (0..1000).map(|_| sampler.choose(&logits, &[])).collect();
            drawn.sort_unstable();
            drawn.dedup();
            drawn
        };
        assert_eq!(drawn(0.0), [2]);
        assert_eq!(drawn(0.6), [2]);
        assert_eq!(drawn(0.8), [0, 2]);
        assert_eq!(drawn(1.0), [0, 1, 2]);
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
