//! Summaries of chat threads, mails and articles.
//!
//! Messages are cleaned (`clean`), cut into parts that fit the model (`split`), put into a prompt
//! with a worked example in their language (`prompt`), answered, and the answers tidied
//! (`tidy`). What does not fit one prompt is summarized part by part, and then the summaries together,
//! again in parts if need be: nothing is left out unsaid.

mod clean;
mod prompt;
mod split;
mod tidy;

use alloc::{format, string::String, vec::Vec};
use core::{fmt, mem};

use zeroize::Zeroizing;

use self::{prompt::Prompt, split::Line};
use crate::{
    generate::{Finish, Generation, GenerationStep, LanguageModel},
    sample::Sampling,
    session::SessionError,
    tokenizer::Special,
};

/// One message of a thread, a mail, or a whole article.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Who wrote it; empty if that is not known or does not matter.
    pub from: Zeroizing<String>,
    /// What was written.
    pub text: Zeroizing<String>,
}

impl Message {
    /// A message of these two texts.
    #[must_use]
    pub fn new(from: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            from: Zeroizing::new(from.into()),
            text: Zeroizing::new(text.into()),
        }
    }
}

/// What a summary looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A few lines that begin with `- `.
    Bullets,
    /// Two or three sentences.
    Paragraph,
    /// One line without a full stop.
    Headline,
}

impl Style {
    /// Most tokens of a summary whose request does not say.
    fn default_tokens(self) -> usize {
        match self {
            Self::Bullets => 192,
            Self::Paragraph => 160,
            Self::Headline => 32,
        }
    }
}

/// What is to be summarized, and how.
#[derive(Clone, Debug)]
pub struct SummaryRequest {
    /// The messages, the oldest first.
    pub messages: Vec<Message>,
    /// What the summary looks like.
    pub style: Style,
    /// Most tokens of the summary; `None` leaves it to the style.
    pub max_tokens: Option<usize>,
}

/// Bounds that the caller sets.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most tokens of one prompt; longer requests are summarized in parts.
    pub prompt_tokens: usize,
    /// Most tokens of one answer.
    pub output_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            prompt_tokens: 8192,
            output_tokens: 512,
            sampling: Sampling::default(),
        }
    }
}

/// Why there is no summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SummaryError {
    /// No message has any text.
    Empty,
    /// A summary of no tokens was asked for.
    NoTokens,
    /// Prompt and answer do not fit the model or the limits.
    TooSmall {
        /// Tokens that one prompt and its answer may have together.
        context_tokens: usize,
        /// Tokens that they need at least.
        needed: usize,
    },
    /// The request has more parts than are ever summarized one by one.
    TooLong {
        /// Parts that it has.
        parts: usize,
    },
    /// The model said nothing.
    NoAnswer,
    /// The model's session failed.
    Session(SessionError),
}

impl fmt::Display for SummaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no text to summarize"),
            Self::NoTokens => f.write_str("a summary needs at least one token"),
            Self::TooSmall {
                context_tokens,
                needed,
            } => {
                write!(
                    f,
                    "a prompt may have {context_tokens} tokens with its answer, but needs {needed}"
                )
            }
            Self::TooLong { parts } => {
                write!(f, "the text has {parts} parts, more than {MAX_PARTS}")
            }
            Self::NoAnswer => f.write_str("the model gave no summary"),
            Self::Session(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SummaryError {}

impl From<SessionError> for SummaryError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

/// A finished summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The summary.
    pub text: Zeroizing<String>,
    /// Tokens of all prompts.
    pub prompt_tokens: usize,
    /// Tokens of all answers.
    pub output_tokens: usize,
    /// Parts into which the messages were cut; 1 if they fit one prompt.
    pub parts: usize,
    /// Why the model's last answer ended. After anything but [`Finish::Stop`] the text was trimmed to
    /// whole sentences or bullets.
    pub finish: Finish,
}

/// Summaries with one model under given limits: what all jobs share, found out once.
#[derive(Clone, Copy, Debug)]
pub struct Summaries {
    limits: Limits,
    /// Tokens of the longest prompt without its text.
    frame_tokens: usize,
}

impl Summaries {
    /// Encodes every prompt that there is around a text, to know how much room is left for the text.
    #[must_use]
    pub fn new<M: LanguageModel>(model: &M, limits: Limits) -> Self {
        Self {
            limits,
            frame_tokens: prompt::longest_frame(model.tokenizer()),
        }
    }

    /// Begins a summary: cleans and cuts the messages; no work is done for the model yet. `model` must be the one of
    /// [`Summaries::new`].
    ///
    /// # Errors
    /// [`SummaryError`] if there is nothing to summarize or it cannot fit.
    pub fn begin<M: LanguageModel>(
        &self,
        model: &M,
        request: SummaryRequest,
    ) -> Result<SummaryJob, SummaryError> {
        let lines: Vec<Line> = request
            .messages
            .iter()
            .filter_map(Line::of_message)
            .collect();
        if lines.is_empty() {
            return Err(SummaryError::Empty);
        }
        let max_tokens = request
            .max_tokens
            .unwrap_or(request.style.default_tokens())
            .min(self.limits.output_tokens);
        if max_tokens == 0 {
            return Err(SummaryError::NoTokens);
        }
        let text_tokens = self.text_tokens(model.context_tokens(), max_tokens)?;
        let sampling = self.limits.sampling;
        SummaryJob::new(
            model,
            request.style,
            &lines,
            max_tokens,
            text_tokens,
            sampling,
        )
    }

    /// Tokens of text that one prompt has room for.
    fn text_tokens(&self, context_tokens: usize, max_tokens: usize) -> Result<usize, SummaryError> {
        let answer = max_tokens.max(PART_TOKENS);
        let prompt = self
            .limits
            .prompt_tokens
            .min(MAX_PROMPT_TOKENS)
            .min(context_tokens.saturating_sub(answer));
        prompt
            .checked_sub(self.frame_tokens)
            .filter(|&text| text >= MIN_TEXT_TOKENS)
            .ok_or(SummaryError::TooSmall {
                context_tokens: prompt + answer,
                needed: self.frame_tokens + MIN_TEXT_TOKENS + answer,
            })
    }
}

/// What a call of [`SummaryJob::advance`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SummaryStep {
    /// Nothing: the next prompt has no room in the batch until another sequence ends.
    NoRoom,
    /// A part of the work.
    Working {
        /// Answers finished so far.
        done: usize,
        /// Answers that are known to be needed, the done ones included.
        total: usize,
    },
    /// The summary; the job is over.
    Done(Summary),
}

/// Most parts of one request. A request of 256 KiB has fewer in every script.
const MAX_PARTS: usize = 512;
/// Most times that summaries are summarized again. Each time makes at most half as many parts.
const MAX_ROUNDS: usize = 10;
/// Most tokens of one prompt, however many the limits allow: with more text than that before it, a
/// small model forgets the middle, and the time that attention takes grows with the square.
const MAX_PROMPT_TOKENS: usize = 3072;
/// Most tokens of the summary of one part.
const PART_TOKENS: usize = 160;
/// Summaries of parts that a prompt has room for at least, so that each round makes fewer of them.
const PARTS_TOGETHER: usize = 4;
/// Tokens of `Part 123: ` and the line end, in the vocabulary that has only bytes.
const PART_LABEL_TOKENS: usize = 12;
/// Least tokens of text that a prompt must have room for.
const MIN_TEXT_TOKENS: usize = 128;

/// A summary in the making, with a place in a batch while one of its prompts is answered. It must end in that batch, by
/// itself or by [`SummaryJob::cancel`], or the place is lost. What it holds itself is wiped when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct SummaryJob {
    style: Style,
    max_tokens: usize,
    text_tokens: usize,
    sampling: Sampling,
    /// The texts of this round's prompts that are still to be answered, the last one first.
    waiting: Vec<Zeroizing<String>>,
    /// This round's answers.
    answers: Vec<Line>,
    /// Whether this round's one answer is the summary itself.
    last_round: bool,
    rounds: usize,
    /// What a prompt of the first round is made of; later ones are made of summaries.
    shape: prompt::Shape,
    /// The next prompt, kept while there is no room for it.
    prompt: Option<Zeroizing<Vec<u32>>>,
    current: Option<Generation>,
    parts: usize,
    done: usize,
    prompt_tokens: usize,
    output_tokens: usize,
}

impl SummaryJob {
    fn new<M: LanguageModel>(
        model: &M,
        style: Style,
        lines: &[Line],
        max_tokens: usize,
        text_tokens: usize,
        sampling: Sampling,
    ) -> Result<Self, SummaryError> {
        let mut job = Self {
            style,
            max_tokens,
            text_tokens,
            sampling,
            waiting: Vec::new(),
            answers: Vec::new(),
            last_round: false,
            rounds: 0,
            shape: prompt::Shape::of(lines),
            prompt: None,
            current: None,
            parts: 0,
            done: 0,
            prompt_tokens: 0,
            output_tokens: 0,
        };
        job.begin_round(model, lines)?;
        job.parts = job.waiting.len();
        Ok(job)
    }

    /// Whether it has no place in a batch: the next call of [`SummaryJob::advance`] takes one, if there is room.
    #[must_use]
    pub fn needs_place(&self) -> bool {
        self.current.is_none()
    }

    /// Takes what the batch's last step has brought, or begins the next prompt. `model` must be the one that the job
    /// was made for, and `batch` always the same. After an error or the summary, the job is over and has no place.
    ///
    /// # Errors
    /// [`SummaryError`]
    pub fn advance<M: LanguageModel>(
        &mut self,
        model: &M,
        batch: &mut M::Batch,
    ) -> Result<SummaryStep, SummaryError> {
        let Some(generation) = &mut self.current else {
            return self.begin_answer(model, batch);
        };
        match generation.advance(model, batch) {
            Ok(GenerationStep::Working | GenerationStep::Token(_)) => Ok(self.progress()),
            Ok(GenerationStep::Finished(finish)) => self.end_answer(model, finish),
            Err(error) => Err(error.into()),
        }
    }

    /// The beginning of the summary that is certain by now: whole bullets or sentences. It only grows, and nearly always
    /// the summary begins with it (the end of a model that repeats itself is cut off).
    #[must_use]
    pub fn certain_text<M: LanguageModel>(&self, model: &M) -> Zeroizing<String> {
        match &self.current {
            Some(generation) if self.last_round => {
                let answer = model.tokenizer().decode(generation.answer());
                tidy::certain(self.style, &answer)
            }
            _ => Zeroizing::default(),
        }
    }

    /// Gives the place in the batch back, wiped. The job is over then.
    pub fn cancel<M: LanguageModel>(self, model: &M, batch: &mut M::Batch) {
        if let Some(generation) = &self.current {
            generation.cancel(model, batch);
        }
    }

    fn progress(&self) -> SummaryStep {
        let total = self.done + self.waiting.len() + usize::from(self.current.is_some());
        SummaryStep::Working {
            done: self.done,
            total: total + usize::from(!self.last_round),
        }
    }

    fn begin_round<M: LanguageModel>(
        &mut self,
        model: &M,
        lines: &[Line],
    ) -> Result<(), SummaryError> {
        let count = |text: &str| model.tokenizer().encode(text, Special::Plain).len();
        self.waiting = split::parts(lines, self.text_tokens, count);
        if self.waiting.len() > MAX_PARTS || self.rounds >= MAX_ROUNDS {
            return Err(SummaryError::TooLong {
                parts: self.waiting.len(),
            });
        }
        self.waiting.reverse();
        self.last_round = self.waiting.len() == 1;
        self.rounds += 1;
        Ok(())
    }

    fn begin_answer<M: LanguageModel>(
        &mut self,
        model: &M,
        batch: &mut M::Batch,
    ) -> Result<SummaryStep, SummaryError> {
        let (style, max_tokens) = if self.last_round {
            (self.style, self.max_tokens)
        } else {
            (Style::Paragraph, part_tokens(self.text_tokens))
        };
        let prompt = match self.prompt.take() {
            Some(prompt) => prompt,
            None => {
                let text = self.waiting.pop().ok_or(SummaryError::NoAnswer)?;
                let prompt = Prompt {
                    shape: self.shape,
                    style,
                    text: &text,
                };
                prompt.encode(model.tokenizer())
            }
        };
        match Generation::new(model, batch, &prompt, max_tokens, self.sampling) {
            Ok(generation) => self.current = Some(generation),
            Err(SessionError::NoRoom) => {
                self.prompt = Some(prompt);
                return Ok(SummaryStep::NoRoom);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(self.progress())
    }

    fn end_answer<M: LanguageModel>(
        &mut self,
        model: &M,
        finish: Finish,
    ) -> Result<SummaryStep, SummaryError> {
        let generation = self.current.take().ok_or(SummaryError::NoAnswer)?;
        self.done += 1;
        self.prompt_tokens += generation.prompt_tokens();
        self.output_tokens += generation.answer().len();
        let answer = model.tokenizer().decode(generation.answer());
        let style = if self.last_round {
            self.style
        } else {
            Style::Paragraph
        };
        let text = tidy::tidy(style, &answer, finish).ok_or(SummaryError::NoAnswer)?;
        if self.last_round {
            return Ok(SummaryStep::Done(self.summary(text, finish)));
        }
        let number = self.answers.len() + 1;
        self.answers.extend(Line::of_message(&Message {
            from: format!("Part {number}").into(),
            text,
        }));
        if self.waiting.is_empty() {
            let answers = mem::take(&mut self.answers);
            self.shape = prompt::Shape::Parts;
            self.begin_round(model, &answers)?;
        }
        Ok(self.progress())
    }

    fn summary(&self, text: Zeroizing<String>, finish: Finish) -> Summary {
        Summary {
            text,
            prompt_tokens: self.prompt_tokens,
            output_tokens: self.output_tokens,
            parts: self.parts,
            finish,
        }
    }
}

/// Most tokens of the summary of one part, where a prompt has room for so much text.
fn part_tokens(text_tokens: usize) -> usize {
    PART_TOKENS.min(text_tokens / PARTS_TOGETHER - PART_LABEL_TOKENS)
}

#[cfg(test)]
mod tests;
