//! Answering a prompt token by token, until something ends the answer.

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use crate::{
    Batch, BatchLimits, BatchStep, Model, SequenceId,
    sample::{Sampler, Sampling},
    session::{MAX_SEQUENCES, SessionError},
    tokenizer::Tokenizer,
};

/// What generation needs of a model. [`Model`] is the one; tests have others.
pub trait LanguageModel {
    /// Sequences of tokens that go through the model together.
    type Batch;

    /// Text to tokens and back.
    fn tokenizer(&self) -> &Tokenizer<'_>;

    /// Most tokens that a sequence may have.
    fn context_tokens(&self) -> usize;

    /// An empty batch whose buffers and sequences, of at most `tokens` tokens each, take so many bytes together.
    fn batch(&self, tokens: usize, bytes: u64) -> Self::Batch;

    /// Takes a sequence of at most `capacity_tokens` into the batch.
    ///
    /// # Errors
    /// [`SessionError::NoRoom`] until others have ended; [`SessionError::TooLarge`] if it never fits.
    fn open(
        &self,
        batch: &mut Self::Batch,
        capacity_tokens: usize,
    ) -> Result<SequenceId, SessionError>;

    /// Queues tokens.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is queued then.
    fn push(
        &self,
        batch: &mut Self::Batch,
        sequence: SequenceId,
        tokens: &[u32],
    ) -> Result<(), SessionError>;

    /// Does the next piece of work for all sequences.
    fn step(&self, batch: &mut Self::Batch) -> BatchStep;

    /// Logits of the token that follows, if the last step has processed the sequence's last token.
    fn logits<'b>(&self, batch: &'b Self::Batch, sequence: SequenceId) -> Option<&'b [f32]>;

    /// Ends a sequence, which may have ended before, and wipes it.
    fn close(&self, batch: &mut Self::Batch, sequence: SequenceId);
}

impl LanguageModel for Model<'_> {
    type Batch = Batch;

    fn tokenizer(&self) -> &Tokenizer<'_> {
        Model::tokenizer(self)
    }

    fn context_tokens(&self) -> usize {
        self.config().context_tokens
    }

    fn batch(&self, tokens: usize, bytes: u64) -> Batch {
        let limits = BatchLimits::within(self.config(), MAX_SEQUENCES, tokens, bytes);
        Batch::new(self, limits)
    }

    fn open(&self, batch: &mut Batch, capacity_tokens: usize) -> Result<SequenceId, SessionError> {
        batch.open(self, capacity_tokens)
    }

    fn push(
        &self,
        batch: &mut Batch,
        sequence: SequenceId,
        tokens: &[u32],
    ) -> Result<(), SessionError> {
        batch.push(self, sequence, tokens)
    }

    fn step(&self, batch: &mut Batch) -> BatchStep {
        batch.step(self)
    }

    fn logits<'b>(&self, batch: &'b Batch, sequence: SequenceId) -> Option<&'b [f32]> {
        batch.logits(sequence)
    }

    fn close(&self, batch: &mut Batch, sequence: SequenceId) {
        batch.close(sequence);
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The model said that it is done.
    Stop,
    /// It has as many tokens as it may have.
    Cap,
    /// The last tokens repeat; the repetitions are cut off.
    Loop {
        /// Tokens that repeat.
        period: usize,
        /// How often they stood there.
        repeats: usize,
    },
}

impl fmt::Display for Finish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop => f.write_str("end of the answer"),
            Self::Cap => f.write_str("most tokens reached"),
            Self::Loop { period, repeats } => {
                write!(f, "{period} tokens repeated {repeats} times")
            }
        }
    }
}

/// What a call of [`Generation::advance`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenerationStep {
    /// The model has not come to the next token yet.
    Working,
    /// The next token of the answer.
    Token(u32),
    /// The answer is complete; further calls say the same.
    Finished(Finish),
}

/// An answer in the making: a place in a batch, and what was said. It must end in that batch, by itself or by
/// [`Generation::cancel`], or the place is lost. What it holds itself is wiped when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Generation {
    sequence: SequenceId,
    sampler: Sampler,
    /// Prompt and answer. Only the answer counts for the repeat penalty: names and numbers of the
    /// prompt are to be repeated.
    tokens: Zeroizing<Vec<u32>>,
    prompt_tokens: usize,
    max_tokens: usize,
    finish: Option<Finish>,
}

impl Generation {
    /// Begins the answer to a prompt: at most `max_tokens` tokens, fewer if the model's context ends
    /// before.
    ///
    /// # Errors
    /// [`SessionError`] if the prompt does not fit the model, or the batch; it has no place there then.
    pub fn new<M: LanguageModel>(
        model: &M,
        batch: &mut M::Batch,
        prompt: &[u32],
        max_tokens: usize,
        sampling: Sampling,
    ) -> Result<Self, SessionError> {
        let capacity = model
            .context_tokens()
            .min(prompt.len().saturating_add(max_tokens));
        let sequence = model.open(batch, capacity)?;
        if let Err(error) = model.push(batch, sequence, prompt) {
            model.close(batch, sequence);
            return Err(error);
        }
        let mut tokens = Zeroizing::new(Vec::with_capacity(capacity));
        tokens.extend_from_slice(prompt);
        Ok(Self {
            sequence,
            sampler: Sampler::new(sampling),
            tokens,
            prompt_tokens: prompt.len(),
            max_tokens: capacity - prompt.len(),
            finish: None,
        })
    }

    /// The answer so far, without the token that ended it.
    #[must_use]
    pub fn answer(&self) -> &[u32] {
        &self.tokens[self.prompt_tokens..]
    }

    /// Tokens of the prompt.
    #[must_use]
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// Takes what the batch's last step has brought, and queues what the next one needs. Model and batch must be those
    /// that the answer was begun with.
    ///
    /// # Errors
    /// [`SessionError`] if memory runs out; the place in the batch is given back then.
    pub fn advance<M: LanguageModel>(
        &mut self,
        model: &M,
        batch: &mut M::Batch,
    ) -> Result<GenerationStep, SessionError> {
        if let Some(finish) = self.finish {
            return Ok(GenerationStep::Finished(finish));
        }
        let step = self.take_token(model, batch);
        if !matches!(step, Ok(GenerationStep::Working | GenerationStep::Token(_))) {
            self.cancel(model, batch);
        }
        step
    }

    fn take_token<M: LanguageModel>(
        &mut self,
        model: &M,
        batch: &mut M::Batch,
    ) -> Result<GenerationStep, SessionError> {
        if self.prompt_tokens == 0 {
            // There is nothing to answer.
            return Ok(self.end(Finish::Stop));
        }
        if self.answer().len() >= self.max_tokens {
            return Ok(self.end(Finish::Cap));
        }
        let Some(logits) = model.logits(batch, self.sequence) else {
            return Ok(GenerationStep::Working);
        };
        let token = self
            .sampler
            .choose(logits, &self.tokens[self.prompt_tokens..]);
        if model.tokenizer().is_stop(token) {
            return Ok(self.end(Finish::Stop));
        }
        self.tokens.push(token);
        if let Some((period, repeats)) = find_loop(self.answer()) {
            let once = self.tokens.len() - period * (repeats - 1);
            self.tokens.truncate(once);
            return Ok(self.end(Finish::Loop { period, repeats }));
        }
        if self.answer().len() < self.max_tokens {
            model.push(batch, self.sequence, &[token])?;
        }
        Ok(GenerationStep::Token(token))
    }

    /// Gives the place in the batch back, wiped, whether the answer is complete or not.
    pub fn cancel<M: LanguageModel>(&self, model: &M, batch: &mut M::Batch) {
        model.close(batch, self.sequence);
    }

    fn end(&mut self, finish: Finish) -> GenerationStep {
        self.finish = Some(finish);
        GenerationStep::Finished(finish)
    }
}

/// Longest stretch of tokens whose repetition is noticed.
const MAX_PERIOD: usize = 48;
/// A stretch of at least this many tokens is a loop when it stands there twice.
const LONG_PERIOD: usize = 16;

/// The shortest stretch that the tokens end with again and again: its length and how often it stands
/// there. A long stretch is a loop the second time, since people do not write a sentence twice; a
/// short one ("ha ha ha", a row of dashes) the more often the shorter it is. Bounded work: at most
/// the square of `MAX_PERIOD` comparisons.
#[must_use]
pub fn find_loop(tokens: &[u32]) -> Option<(usize, usize)> {
    (1..=MAX_PERIOD.min(tokens.len() / 2)).find_map(|period| {
        let needed = match period {
            1 => 8,
            2..=3 => 5,
            4..LONG_PERIOD => 3,
            _ => 2,
        };
        let stretch = &tokens[tokens.len() - period..];
        let repeats = tokens
            .rchunks_exact(period)
            .take(needed)
            .take_while(|&chunk| chunk == stretch)
            .count();
        (repeats >= needed).then_some((period, repeats))
    })
}

#[cfg(test)]
pub(crate) mod tests;
