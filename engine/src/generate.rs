//! Answering a prompt token by token, until something ends the answer.

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use crate::{
    Model, Session, Step,
    sample::{Sampler, Sampling},
    session::SessionError,
    tokenizer::Tokenizer,
};

/// What generation needs of a model. [`Model`] is the one; tests have others.
pub trait LanguageModel {
    /// A sequence of tokens on its way through the model.
    type Session;

    /// Text to tokens and back.
    fn tokenizer(&self) -> &Tokenizer<'_>;

    /// Most tokens that a sequence may have.
    fn context_tokens(&self) -> usize;

    /// Begins a sequence of at most `capacity_tokens`.
    fn start(&self, capacity_tokens: usize) -> Self::Session;

    /// Queues tokens.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is queued then.
    fn push(&self, session: &mut Self::Session, tokens: &[u32]) -> Result<(), SessionError>;

    /// Does the next piece of work.
    fn step<'s>(&self, session: &'s mut Self::Session) -> Step<'s>;
}

impl LanguageModel for Model<'_> {
    type Session = Session;

    fn tokenizer(&self) -> &Tokenizer<'_> {
        Model::tokenizer(self)
    }

    fn context_tokens(&self) -> usize {
        self.config().context_tokens
    }

    fn start(&self, capacity_tokens: usize) -> Session {
        Session::new(self, capacity_tokens)
    }

    fn push(&self, session: &mut Session, tokens: &[u32]) -> Result<(), SessionError> {
        session.push(self, tokens)
    }

    fn step<'s>(&self, session: &'s mut Session) -> Step<'s> {
        session.step(self)
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

/// What a call of [`Generation::step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenerationStep {
    /// A part of the work for the next token; see [`Step::Working`].
    Working {
        /// Steps done since the last token.
        done: usize,
        /// Steps until the next token, the done ones included.
        total: usize,
    },
    /// The next token of the answer.
    Token(u32),
    /// The answer is complete; further calls say the same.
    Finished(Finish),
}

/// An answer in the making. Its memory is wiped when it is dropped.
pub struct Generation<M: LanguageModel> {
    session: M::Session,
    sampler: Sampler,
    /// Prompt and answer. Only the answer counts for the repeat penalty: names and numbers of the
    /// prompt are to be repeated.
    tokens: Zeroizing<Vec<u32>>,
    prompt_tokens: usize,
    max_tokens: usize,
    finish: Option<Finish>,
}

impl<M: LanguageModel> Generation<M> {
    /// Begins the answer to a prompt, which may not be empty: at most `max_tokens` tokens, fewer if
    /// the model's context ends before.
    ///
    /// # Errors
    /// [`SessionError`] if the prompt does not fit the model.
    pub fn new(
        model: &M,
        prompt: &[u32],
        max_tokens: usize,
        sampling: Sampling,
    ) -> Result<Self, SessionError> {
        let capacity = model
            .context_tokens()
            .min(prompt.len().saturating_add(max_tokens));
        let mut session = model.start(capacity);
        model.push(&mut session, prompt)?;
        let mut tokens = Zeroizing::new(Vec::with_capacity(capacity));
        tokens.extend_from_slice(prompt);
        Ok(Self {
            session,
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

    /// Does the next piece of work; `model` must be the one that the answer was begun with.
    ///
    /// # Errors
    /// [`SessionError`] if memory runs out.
    pub fn step(&mut self, model: &M) -> Result<GenerationStep, SessionError> {
        if let Some(finish) = self.finish {
            return Ok(GenerationStep::Finished(finish));
        }
        if self.answer().len() >= self.max_tokens {
            return Ok(self.end(Finish::Cap));
        }
        let token = match model.step(&mut self.session) {
            Step::Working { done, total } => return Ok(GenerationStep::Working { done, total }),
            // Nothing is queued only if the prompt was empty: there is nothing to answer.
            Step::Idle => return Ok(self.end(Finish::Stop)),
            Step::Logits(logits) => self
                .sampler
                .choose(logits, &self.tokens[self.prompt_tokens..]),
        };
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
            model.push(&mut self.session, &[token])?;
        }
        Ok(GenerationStep::Token(token))
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
