//! Other wordings of a text: friendlier, more formal, shorter, or without mistakes.

mod prompt;

use alloc::{string::String, vec::Vec};

use zeroize::Zeroizing;

use crate::{
    answer::{Answer, AnswerError, AnswerStep, Answered, Bounds},
    generate::{Finish, LanguageModel},
    sample::Sampling,
    tokenizer::Special,
};

/// What becomes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Warmer.
    Friendly,
    /// As in a letter to somebody whom one does not know.
    Formal,
    /// The same in fewer words.
    Shorter,
    /// The same words without mistakes.
    Fix,
}

/// What is to be written anew, and how.
#[derive(Clone, Debug)]
pub struct RewriteRequest {
    /// The text.
    pub text: Zeroizing<String>,
    /// What is to become of it.
    pub tone: Tone,
    /// Most suggestions; 0 counts as 1.
    pub count: usize,
}

/// What a call of [`RewriteJob::advance`] did.
#[derive(Debug, PartialEq, Eq)]
pub enum RewriteStep {
    /// Nothing: the next prompt has no room in the batch until another sequence ends.
    NoRoom,
    /// A part of the work.
    Working,
    /// The suggestions; the job is over.
    Done(Rewritten),
}

/// Finished suggestions.
#[derive(Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The suggestions, the likeliest first; at least one, no two the same.
    pub texts: Vec<Zeroizing<String>>,
    /// Tokens of all prompts.
    pub prompt_tokens: usize,
    /// Tokens of all answers.
    pub output_tokens: usize,
}

/// How the suggestions after the first are drawn.
const TEMPERATURE: f32 = 0.8;

/// Suggestions in the making, one after the other. It must end in its batch, by itself or by [`RewriteJob::cancel`], or
/// its place there is lost. What it holds itself is wiped when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct RewriteJob {
    prompt: Zeroizing<Vec<u32>>,
    prompt_limit: usize,
    output_tokens: usize,
    /// Answers that are still to begin.
    left: usize,
    current: Answer,
    /// What the current answer has said.
    text: Zeroizing<String>,
    done: Rewritten,
}

impl RewriteJob {
    /// Begins suggestions of at most `output_tokens` tokens each; no work is done for the model yet.
    ///
    /// # Errors
    /// [`AnswerError::TooLong`] if text and instructions are longer than `prompt_tokens`, or the text is longer than an
    /// answer may be that does not shorten it.
    pub fn new<M: LanguageModel>(
        model: &M,
        request: &RewriteRequest,
        prompt_tokens: usize,
        output_tokens: usize,
    ) -> Result<Self, AnswerError> {
        let text = request.text.trim();
        let tokens = model.tokenizer().encode(text, Special::Plain).len();
        if request.tone != Tone::Shorter && tokens > output_tokens {
            return Err(AnswerError::TooLong {
                tokens,
                most: output_tokens,
            });
        }
        let prompt = prompt::encode(text, request.tone, model.tokenizer());
        let bounds = bounds(prompt_tokens, output_tokens, 0);
        Ok(Self {
            current: Answer::new(model, prompt.clone(), bounds)?,
            prompt,
            prompt_limit: prompt_tokens,
            output_tokens,
            left: request.count.saturating_sub(1),
            text: Zeroizing::default(),
            done: Rewritten {
                texts: Vec::new(),
                prompt_tokens: 0,
                output_tokens: 0,
            },
        })
    }

    /// Whether it has no place in a batch: the next call of [`RewriteJob::advance`] takes one, if there is room.
    #[must_use]
    pub fn needs_place(&self) -> bool {
        self.current.needs_place()
    }

    /// Takes what the batch's last step has brought, or begins the next prompt. `model` must be the one that the job
    /// was made for, and `batch` always the same. After an error or the end, the job is over and has no place.
    ///
    /// # Errors
    /// [`AnswerError`]
    pub fn advance<M: LanguageModel>(
        &mut self,
        model: &M,
        batch: &mut M::Batch,
    ) -> Result<RewriteStep, AnswerError> {
        match self.current.advance(model, batch)? {
            AnswerStep::NoRoom => Ok(RewriteStep::NoRoom),
            AnswerStep::Working(piece) => {
                self.say(&piece);
                Ok(RewriteStep::Working)
            }
            AnswerStep::Done(answered) => self.end_answer(model, &answered),
        }
    }

    /// Gives the place in the batch back, wiped. The job is over then.
    pub fn cancel<M: LanguageModel>(self, model: &M, batch: &mut M::Batch) {
        self.current.cancel(model, batch);
    }

    /// Appends to what the current answer has said; a buffer that must move leaves no copy behind.
    fn say(&mut self, piece: &str) {
        let needed = self.text.len() + piece.len();
        if self.text.capacity() < needed {
            let mut moved = Zeroizing::new(String::with_capacity(2 * needed));
            moved.push_str(&self.text);
            self.text = moved;
        }
        self.text.push_str(piece);
    }

    fn end_answer<M: LanguageModel>(
        &mut self,
        model: &M,
        answered: &Answered,
    ) -> Result<RewriteStep, AnswerError> {
        self.say(&answered.text);
        self.done.prompt_tokens += answered.prompt_tokens;
        self.done.output_tokens += answered.output_tokens;
        let text = tidy(&self.text, answered.finish == Finish::Stop);
        self.text = Zeroizing::default();
        if !text.is_empty() && !self.done.texts.contains(&text) {
            self.done.texts.push(text);
        }
        if self.left > 0 {
            let bounds = bounds(self.prompt_limit, self.output_tokens, self.left as u64);
            self.left -= 1;
            self.current = Answer::new(model, self.prompt.clone(), bounds)?;
            return Ok(RewriteStep::Working);
        }
        if self.done.texts.is_empty() {
            return Err(AnswerError::NoAnswer);
        }
        let empty = Rewritten {
            texts: Vec::new(),
            prompt_tokens: 0,
            output_tokens: 0,
        };
        Ok(RewriteStep::Done(core::mem::replace(&mut self.done, empty)))
    }
}

/// Seed 0 takes the likeliest words.
fn bounds(prompt_tokens: usize, output_tokens: usize, seed: u64) -> Bounds {
    let temperature = if seed == 0 { 0.0 } else { TEMPERATURE };
    Bounds {
        prompt_tokens,
        output_tokens,
        sampling: Sampling {
            temperature,
            seed,
            ..Sampling::default()
        },
        stops: Vec::new(),
    }
}

/// Without what models put around a text; with an ellipsis if it was cut off.
fn tidy(answer: &str, is_complete: bool) -> Zeroizing<String> {
    const QUOTES: [(char, char); 4] = [('"', '"'), ('“', '”'), ('«', '»'), ('„', '“')];
    let text = answer.trim();
    let unquoted = QUOTES.iter().find_map(|&(open, close)| {
        let inner = text.strip_prefix(open)?.strip_suffix(close)?;
        (!inner.contains([open, close])).then_some(inner.trim())
    });
    let text = unquoted.unwrap_or(text);
    let mut out = Zeroizing::new(String::with_capacity(text.len() + '…'.len_utf8()));
    out.push_str(text.trim_end_matches(char::REPLACEMENT_CHARACTER));
    if !is_complete && !out.is_empty() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests;
