//! One answer to one prompt, as text: what every kind of job but a long summary comes down to.
//!
//! The text comes piece by piece, in whole characters, and never shows a string that ends it.

mod stops;

use alloc::{string::String, vec::Vec};
use core::fmt;

use zeroize::Zeroizing;

use self::stops::Text;
use crate::{
    generate::{Finish, Generation, GenerationStep, LanguageModel},
    sample::Sampling,
    session::SessionError,
};

/// Bounds of an answer.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Most tokens of the prompt.
    pub prompt_tokens: usize,
    /// Most tokens of the answer; fewer if the model's context ends before.
    pub output_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The answer ends before the first of these. Empty ones do not count.
    pub stops: Vec<Zeroizing<String>>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerError {
    /// Prompt or text have more tokens than the limits, or the model's context, have room for.
    TooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// The most, so that an answer has room.
        most: usize,
    },
    /// The model said nothing that is of use.
    NoAnswer,
    /// The model's session failed.
    Session(SessionError),
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { tokens, most } => {
                write!(f, "the text has {tokens} tokens, and the most is {most}")
            }
            Self::NoAnswer => f.write_str("the model gave no answer"),
            Self::Session(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for AnswerError {}

impl From<SessionError> for AnswerError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

/// What a call of [`Answer::advance`] did.
#[derive(Debug, PartialEq, Eq)]
pub enum AnswerStep {
    /// Nothing: the prompt has no room in the batch until another sequence ends.
    NoRoom,
    /// A part of the work, and what may be shown now; often nothing.
    Working(Zeroizing<String>),
    /// The answer is over.
    Done(Answered),
}

/// The end of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered {
    /// What was not given before.
    pub text: Zeroizing<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub output_tokens: usize,
    /// Why it ended; [`Finish::Stop`] also if it came to one of [`Bounds::stops`].
    pub finish: Finish,
}

/// An answer in the making, with a place in a batch once it has begun. It must end in that batch, by itself or by
/// [`Answer::cancel`], or the place is lost. What it holds itself is wiped when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Answer {
    prompt: Zeroizing<Vec<u32>>,
    output_tokens: usize,
    sampling: Sampling,
    generation: Option<Generation>,
    text: Text,
}

impl Answer {
    /// An answer to a prompt that ends where the model is to speak; no work is done for the model yet.
    ///
    /// # Errors
    /// [`AnswerError::TooLong`] if the prompt leaves no room for a token of the answer.
    pub fn new<M: LanguageModel>(
        model: &M,
        prompt: Zeroizing<Vec<u32>>,
        bounds: Bounds,
    ) -> Result<Self, AnswerError> {
        let most = model.context_tokens().saturating_sub(1);
        let most = most.min(bounds.prompt_tokens);
        let tokens = prompt.len();
        if tokens > most {
            return Err(AnswerError::TooLong { tokens, most });
        }
        let mut stops = bounds.stops;
        stops.retain(|stop| !stop.is_empty());
        Ok(Self {
            prompt,
            output_tokens: bounds.output_tokens,
            sampling: bounds.sampling,
            generation: None,
            text: Text::new(stops),
        })
    }

    /// Whether it has no place in a batch: the next call of [`Answer::advance`] takes one, if there is room.
    #[must_use]
    pub fn needs_place(&self) -> bool {
        self.generation.is_none()
    }

    /// Takes what the batch's last step has brought, or begins the prompt. `model` must be the one that the answer was
    /// made for, and `batch` always the same. After an error or the end, it is over and has no place.
    ///
    /// # Errors
    /// [`AnswerError::Session`]
    pub fn advance<M: LanguageModel>(
        &mut self,
        model: &M,
        batch: &mut M::Batch,
    ) -> Result<AnswerStep, AnswerError> {
        let Some(generation) = &mut self.generation else {
            return self.begin(model, batch);
        };
        let finish = match generation.advance(model, batch)? {
            GenerationStep::Working => return Ok(AnswerStep::Working(Zeroizing::default())),
            GenerationStep::Token(token) => {
                if self.text.push(model.tokenizer().text_bytes(token)) {
                    return Ok(AnswerStep::Working(self.text.take()));
                }
                generation.cancel(model, batch);
                Finish::Stop
            }
            GenerationStep::Finished(finish) => finish,
        };
        Ok(AnswerStep::Done(Answered {
            prompt_tokens: generation.prompt_tokens(),
            output_tokens: generation.answer().len(),
            text: self.text.finish(),
            finish,
        }))
    }

    /// Gives the place in the batch back, wiped. The answer is over then.
    pub fn cancel<M: LanguageModel>(self, model: &M, batch: &mut M::Batch) {
        if let Some(generation) = &self.generation {
            generation.cancel(model, batch);
        }
    }

    fn begin<M: LanguageModel>(
        &mut self,
        model: &M,
        batch: &mut M::Batch,
    ) -> Result<AnswerStep, AnswerError> {
        let (prompt, most) = (&self.prompt, self.output_tokens);
        match Generation::new(model, batch, prompt, most, self.sampling) {
            Ok(generation) => {
                self.generation = Some(generation);
                // The generation has its own copy.
                self.prompt = Zeroizing::default();
                Ok(AnswerStep::Working(Zeroizing::default()))
            }
            Err(SessionError::NoRoom) => Ok(AnswerStep::NoRoom),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
