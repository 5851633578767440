//! The real [`Generator`]: the engine with the image's model.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use cloister_boot::manifest::{Limits, ModelRef};
use cloister_engine::answer::{Answer as AnswerJob, AnswerError, AnswerStep, Bounds};
use cloister_engine::generate::Finish;
use cloister_engine::pack::PackError;
use cloister_engine::rewrite::{self as rewriting, RewriteJob, RewriteRequest, RewriteStep};
use cloister_engine::sample::Sampling;
use cloister_engine::session::{MAX_SEQUENCES, SessionError};
use cloister_engine::summary::{
    self, Summaries, SummaryError, SummaryJob, SummaryRequest, SummaryStep,
};
use cloister_engine::tokenizer::{Role, Turn};
use cloister_engine::{Batch, BatchLimits, Model};
use cloister_protocol::api::problem::{self, Problem};
use cloister_protocol::api::{chat, rewrite, summarize};
use zeroize::Zeroizing;

use super::generator::{Answer, Generator, ModelInfo, Progress, Task};
use crate::smp;

/// The model of this image, opened, and the batch that all jobs go through.
pub struct Engine {
    model: Model<'static>,
    batch: Batch,
    reference: ModelRef,
    summaries: Summaries,
    prompt_tokens: usize,
    output_tokens: usize,
}

/// A text in the making.
pub enum Job {
    /// A summary, and what was shown of it; `None` if nothing is to be shown before the end.
    Summary(SummaryJob, Option<Zeroizing<String>>),
    /// Other wordings.
    Rewrite(RewriteJob),
    /// The next message of a conversation.
    Chat(AnswerJob),
}

impl Engine {
    /// Opens a pack whose digest was checked. Batch and sequences may take so many bytes of memory, and as many as the
    /// manifest reserves for them in any case.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn open(
        pack: &'static [u8],
        reference: ModelRef,
        limits: &Limits,
        memory_bytes: u64,
    ) -> Result<Self, PackError> {
        let limits = summary::Limits {
            prompt_tokens: limits.prompt_tokens as usize,
            output_tokens: limits.output_tokens as usize,
            ..summary::Limits::default()
        };
        let model = Model::open(pack)?.with_workers(smp::workers());
        let tokens = reference.context_tokens as usize;
        let bytes = memory_bytes.max(reference.working_bytes);
        let batch_limits = BatchLimits::within(model.config(), MAX_SEQUENCES, tokens, bytes);
        Ok(Self {
            batch: Batch::new(&model, batch_limits),
            summaries: Summaries::new(&model, limits),
            prompt_tokens: limits.prompt_tokens,
            output_tokens: limits.output_tokens,
            model,
            reference,
        })
    }
}

impl Generator for Engine {
    type Job = Job;

    fn model(&self) -> ModelInfo<'_> {
        ModelInfo {
            name: &self.reference.name,
            digest: &self.reference.root,
            context_tokens: self.reference.context_tokens,
        }
    }

    fn start(&mut self, task: Task) -> Result<Job, Problem> {
        match task {
            Task::Summary(request, is_shown) => {
                let job = self.summaries.begin(&self.model, summary_request(request));
                let shown = is_shown.then(Zeroizing::default);
                job.map(|job| Job::Summary(job, shown))
                    .map_err(|error| summary_problem(&error))
            }
            Task::Rewrite(request) => self
                .start_rewrite(request)
                .map(Job::Rewrite)
                .map_err(|error| answer_problem(&error)),
            Task::Chat(request) => self
                .start_chat(request)
                .map(Job::Chat)
                .map_err(|error| answer_problem(&error)),
        }
    }

    fn step(&mut self) {
        self.batch.step(&self.model);
    }

    fn advance(&mut self, job: &mut Job, may_begin: bool) -> Progress {
        let begins = match job {
            Job::Summary(job, _) => job.needs_place(),
            Job::Rewrite(job) => job.needs_place(),
            Job::Chat(job) => job.needs_place(),
        };
        if begins && !may_begin {
            return Progress::Waiting;
        }
        let progress = match job {
            Job::Summary(job, shown) => self.advance_summary(job, shown),
            Job::Rewrite(job) => self.advance_rewrite(job),
            Job::Chat(job) => self.advance_chat(job),
        };
        match progress {
            Progress::Working if begins => Progress::Begun,
            progress => progress,
        }
    }

    fn cancel(&mut self, job: Job) {
        let (model, batch) = (&self.model, &mut self.batch);
        match job {
            Job::Summary(job, _) => job.cancel(model, batch),
            Job::Rewrite(job) => job.cancel(model, batch),
            Job::Chat(job) => job.cancel(model, batch),
        }
    }
}

impl Engine {
    fn start_rewrite(&self, mut request: rewrite::Request) -> Result<RewriteJob, AnswerError> {
        let request = RewriteRequest {
            text: Zeroizing::new(core::mem::take(&mut request.text)),
            tone: match request.tone {
                rewrite::Tone::Friendly => rewriting::Tone::Friendly,
                rewrite::Tone::Formal => rewriting::Tone::Formal,
                rewrite::Tone::Shorter => rewriting::Tone::Shorter,
                rewrite::Tone::Fix => rewriting::Tone::Fix,
            },
            count: request.count as usize,
        };
        RewriteJob::new(
            &self.model,
            &request,
            self.prompt_tokens,
            self.output_tokens,
        )
    }

    fn start_chat(&self, request: chat::Request) -> Result<AnswerJob, AnswerError> {
        let turns: Vec<Turn<'_>> = request.messages.iter().map(turn).collect();
        let prompt = self.model.tokenizer().encode_chat(&turns);
        let bounds = Bounds {
            prompt_tokens: self.prompt_tokens,
            output_tokens: self.output_tokens.min(request.max_tokens as usize),
            sampling: Sampling {
                temperature: request.temperature,
                top_p: request.top_p,
                seed: request.seed.unwrap_or_default(),
                ..Sampling::default()
            },
            stops: request.stop,
        };
        AnswerJob::new(&self.model, prompt, bounds)
    }

    fn advance_summary(
        &mut self,
        job: &mut SummaryJob,
        shown: &mut Option<Zeroizing<String>>,
    ) -> Progress {
        match job.advance(&self.model, &mut self.batch) {
            Ok(SummaryStep::Working { .. }) => match shown {
                Some(shown) => show(shown, job.certain_text(&self.model)),
                None => Progress::Working,
            },
            Ok(SummaryStep::NoRoom) => Progress::Waiting,
            Ok(SummaryStep::Done(summary)) => {
                let shown = shown.as_ref().map_or("", |shown| shown.as_str());
                // A model that repeats itself may have its end cut off: what was shown stays then.
                let rest = summary.text.strip_prefix(shown).unwrap_or_default();
                Progress::Done(Answer {
                    texts: [Zeroizing::new(rest.into())].into(),
                    prompt_tokens: count(summary.prompt_tokens),
                    output_tokens: count(summary.output_tokens),
                    parts: count(summary.parts),
                    finish: finish(summary.finish),
                })
            }
            Err(error) => Progress::Failed(summary_problem(&error)),
        }
    }

    fn advance_rewrite(&mut self, job: &mut RewriteJob) -> Progress {
        match job.advance(&self.model, &mut self.batch) {
            Ok(RewriteStep::Working) => Progress::Working,
            Ok(RewriteStep::NoRoom) => Progress::Waiting,
            Ok(RewriteStep::Done(rewritten)) => Progress::Done(Answer {
                texts: rewritten.texts,
                prompt_tokens: count(rewritten.prompt_tokens),
                output_tokens: count(rewritten.output_tokens),
                parts: 1,
                finish: chat::Finish::Stop,
            }),
            Err(error) => Progress::Failed(answer_problem(&error)),
        }
    }

    fn advance_chat(&mut self, job: &mut AnswerJob) -> Progress {
        match job.advance(&self.model, &mut self.batch) {
            Ok(AnswerStep::Working(piece)) if piece.is_empty() => Progress::Working,
            Ok(AnswerStep::Working(piece)) => Progress::Text(piece),
            Ok(AnswerStep::NoRoom) => Progress::Waiting,
            Ok(AnswerStep::Done(answered)) => Progress::Done(Answer {
                texts: [answered.text].into(),
                prompt_tokens: count(answered.prompt_tokens),
                output_tokens: count(answered.output_tokens),
                parts: 1,
                finish: finish(answered.finish),
            }),
            Err(error) => Progress::Failed(answer_problem(&error)),
        }
    }
}

/// What is certain of a summary and was not shown yet.
fn show(shown: &mut Zeroizing<String>, certain: Zeroizing<String>) -> Progress {
    match certain.strip_prefix(shown.as_str()) {
        Some(piece) if !piece.is_empty() => {
            let piece = Zeroizing::new(piece.into());
            *shown = certain;
            Progress::Text(piece)
        }
        _ => Progress::Working,
    }
}

fn turn(message: &chat::Message) -> Turn<'_> {
    Turn {
        role: match message.role {
            chat::Role::System => Role::System,
            chat::Role::User => Role::User,
            chat::Role::Assistant => Role::Assistant,
        },
        text: &message.content,
    }
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

fn finish(finish: Finish) -> chat::Finish {
    match finish {
        Finish::Stop => chat::Finish::Stop,
        _ => chat::Finish::Length,
    }
}

fn summary_request(request: summarize::Request) -> SummaryRequest {
    SummaryRequest {
        style: match request.style {
            summarize::Style::Bullets => summary::Style::Bullets,
            summarize::Style::Paragraph => summary::Style::Paragraph,
            summarize::Style::Headline => summary::Style::Headline,
        },
        max_tokens: request.max_tokens.map(|tokens| tokens as usize),
        messages: request.messages.into_iter().map(engine_message).collect(),
    }
}

fn engine_message(message: summarize::Message) -> summary::Message {
    let (from, text) = message.into_parts();
    summary::Message::new(from, text)
}

fn summary_problem(error: &SummaryError) -> Problem {
    let status = match error {
        SummaryError::Empty | SummaryError::NoTokens | SummaryError::TooSmall { .. } => 422,
        SummaryError::TooLong { .. } | SummaryError::Session(SessionError::TooLarge { .. }) => 413,
        _ => 500,
    };
    Problem::from_status(status).with_detail(error.to_string())
}

fn answer_problem(error: &AnswerError) -> Problem {
    match error {
        AnswerError::TooLong { .. } | AnswerError::Session(SessionError::TooLarge { .. }) => {
            Problem::new(413, problem::CONTEXT_LENGTH, error.to_string())
        }
        _ => Problem::from_status(500).with_detail(error.to_string()),
    }
}
