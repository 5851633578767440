//! An engine that is measured: what of it the clock sees.

use std::time::Instant;

use super::protocol::{Batch, Single};

/// Sequences of a batch begin with different tokens.
const SEQUENCE_STRIDE: usize = 977;
/// Tokens that a reply repeats, so that it can be seen that engines wrote about the same.
const SHOWN_TOKENS: usize = 8;

/// What went wrong in an engine, in its words.
pub(super) type Failed = String;

/// An engine with one model.
pub(super) trait Subject {
    /// Token ids.
    fn vocabulary(&self) -> usize;

    /// Most sequences that it advances together.
    fn max_batch(&self) -> usize;

    /// Forgets every sequence and begins `count` of them, with room for `capacity` tokens each.
    fn start(&mut self, count: usize, capacity: usize) -> Result<(), Failed>;

    /// Feeds each sequence its prompt; the most probable next token of each.
    fn prefill(&mut self, prompts: &[Vec<u32>]) -> Result<Vec<u32>, Failed>;

    /// Feeds each sequence one token; the most probable next token of each.
    fn decode(&mut self, tokens: &[u32]) -> Result<Vec<u32>, Failed>;
}

/// One sequence: reads `prompt` tokens, then writes `steps`.
pub(super) fn single(
    subject: &mut dyn Subject,
    prompt: usize,
    steps: usize,
) -> Result<Single, Failed> {
    let prompts = prompts(1, prompt, subject.vocabulary());
    let started = Instant::now();
    subject.start(1, prompt + steps)?;
    let began = Instant::now();
    let next = subject.prefill(&prompts)?;
    let (prefill_s, first_token_s) = (began.elapsed(), started.elapsed());
    let (decode_s, tokens) = write(subject, next, steps)?;
    Ok(Single {
        prefill_s: prefill_s.as_secs_f64(),
        first_token_s: first_token_s.as_secs_f64(),
        decode_s,
        tokens,
    })
}

/// The same for `count` sequences side by side; only the writing is timed.
pub(super) fn batch(
    subject: &mut dyn Subject,
    count: usize,
    prompt: usize,
    steps: usize,
) -> Result<Batch, Failed> {
    if count > subject.max_batch() {
        return Ok(Batch { decode_s: None });
    }
    let prompts = prompts(count, prompt, subject.vocabulary());
    subject.start(count, prompt + steps)?;
    let next = subject.prefill(&prompts)?;
    let (decode_s, _) = write(subject, next, steps)?;
    Ok(Batch {
        decode_s: Some(decode_s),
    })
}

/// Seconds of `steps` steps, and the first tokens of the first sequence.
fn write(
    subject: &mut dyn Subject,
    mut next: Vec<u32>,
    steps: usize,
) -> Result<(f64, Vec<u32>), Failed> {
    let mut tokens = Vec::with_capacity(SHOWN_TOKENS);
    let started = Instant::now();
    for step in 0..steps {
        if step < SHOWN_TOKENS {
            tokens.extend(next.first());
        }
        next = subject.decode(&next)?;
    }
    Ok((started.elapsed().as_secs_f64(), tokens))
}

/// Any tokens do: the work does not depend on which they are. The driver of llama.cpp has the same.
fn prompts(count: usize, length: usize, vocabulary: usize) -> Vec<Vec<u32>> {
    let token = |sequence: usize, index: usize| {
        ((index * 31 + sequence * SEQUENCE_STRIDE) % vocabulary) as u32
    };
    let prompt = |sequence| (0..length).map(|index| token(sequence, index)).collect();
    (0..count).map(prompt).collect()
}

/// The id of the largest of `logits`.
pub(super) fn most_probable(logits: &[f32]) -> u32 {
    let best = logits
        .iter()
        .enumerate()
        .max_by(|one, other| one.1.total_cmp(other.1));
    best.map_or(0, |(token, _)| token as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next token is the last one plus one.
    #[derive(Default)]
    struct Counter {
        fed: Vec<usize>,
    }

    impl Subject for Counter {
        fn vocabulary(&self) -> usize {
            1000
        }

        fn max_batch(&self) -> usize {
            4
        }

        fn start(&mut self, count: usize, capacity: usize) -> Result<(), Failed> {
            assert_eq!(capacity, 7);
            self.fed = vec![0; count];
            Ok(())
        }

        fn prefill(&mut self, prompts: &[Vec<u32>]) -> Result<Vec<u32>, Failed> {
            assert_eq!(prompts.len(), self.fed.len());
            Ok(prompts
                .iter()
                .map(|prompt| prompt[prompt.len() - 1] + 1)
                .collect())
        }

        fn decode(&mut self, tokens: &[u32]) -> Result<Vec<u32>, Failed> {
            assert_eq!(tokens.len(), self.fed.len());
            self.fed.iter_mut().for_each(|fed| *fed += 1);
            Ok(tokens.iter().map(|token| token + 1).collect())
        }
    }

    #[test]
    fn a_sequence_writes_what_it_is_told_to() {
        let mut counter = Counter::default();
        let single = single(&mut counter, 4, 3).expect("it counts");
        assert_eq!(counter.fed, [3]);
        assert_eq!(single.tokens, [94, 95, 96]);
        assert!(single.first_token_s >= single.prefill_s);
    }

    #[test]
    fn too_many_sequences_are_not_measured() {
        let mut counter = Counter::default();
        assert!(batch(&mut counter, 4, 5, 2).is_ok_and(|batch| batch.decode_s.is_some()));
        assert_eq!(counter.fed, [2; 4]);
        assert_eq!(batch(&mut counter, 5, 5, 2), Ok(Batch { decode_s: None }));
    }

    #[test]
    fn prompts_differ_and_stay_in_the_vocabulary() {
        let prompts = prompts(3, 50, 100);
        assert!(prompts.iter().flatten().all(|&token| token < 100));
        assert_eq!(prompts[0][..3], [0, 31, 62]);
        assert_ne!(prompts[0], prompts[1]);
    }
}
