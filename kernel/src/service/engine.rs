//! The real [`Summarizer`]: the engine with the image's model.

use alloc::string::{String, ToString};
use cloister_boot::manifest::{Limits, ModelRef};
use cloister_engine::pack::PackError;
use cloister_engine::session::{MAX_SEQUENCES, SessionError};
use cloister_engine::summary::{
    self, Summaries, SummaryError, SummaryJob, SummaryRequest, SummaryStep,
};
use cloister_engine::{Batch, BatchLimits, Model};
use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::summarize::{Message, Request, Response, Style, Usage};

use super::summarizer::{ModelInfo, Progress, Summarizer};
use crate::smp;

/// The model of this image, opened, and the batch that all jobs go through.
pub struct Engine {
    model: Model<'static>,
    batch: Batch,
    reference: ModelRef,
    summaries: Summaries,
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
            model,
            reference,
        })
    }
}

impl Summarizer for Engine {
    type Job = SummaryJob;

    fn model(&self) -> ModelInfo<'_> {
        ModelInfo {
            name: &self.reference.name,
            digest: &self.reference.root,
            context_tokens: self.reference.context_tokens,
        }
    }

    fn start(&mut self, request: Request) -> Result<Self::Job, Problem> {
        let request = SummaryRequest {
            style: engine_style(request.style),
            max_tokens: request.max_tokens.map(|tokens| tokens as usize),
            messages: request.messages.into_iter().map(engine_message).collect(),
        };
        let job = self.summaries.begin(&self.model, request);
        job.map_err(|error| to_problem(&error))
    }

    fn step(&mut self) {
        self.batch.step(&self.model);
    }

    fn advance(&mut self, job: &mut SummaryJob, may_begin: bool) -> Progress {
        let begins = job.needs_place();
        if begins && !may_begin {
            return Progress::Waiting;
        }
        match job.advance(&self.model, &mut self.batch) {
            Ok(SummaryStep::Working { .. }) if begins => Progress::Begun,
            Ok(SummaryStep::Working { .. }) => Progress::Working,
            Ok(SummaryStep::NoRoom) => Progress::Waiting,
            Ok(SummaryStep::Done(summary)) => Progress::Done(self.response(summary)),
            Err(error) => Progress::Failed(to_problem(&error)),
        }
    }

    fn cancel(&mut self, job: SummaryJob) {
        job.cancel(&self.model, &mut self.batch);
    }
}

impl Engine {
    fn response(&self, mut summary: summary::Summary) -> Response {
        let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
        Response {
            summary: core::mem::take::<String>(&mut summary.text),
            usage: Usage {
                prompt_tokens: count(summary.prompt_tokens),
                output_tokens: count(summary.output_tokens),
                parts: count(summary.parts),
            },
            model: self.reference.name.clone(),
        }
    }
}

fn engine_message(message: Message) -> summary::Message {
    let (from, text) = message.into_parts();
    summary::Message::new(from, text)
}

fn engine_style(style: Style) -> summary::Style {
    match style {
        Style::Bullets => summary::Style::Bullets,
        Style::Paragraph => summary::Style::Paragraph,
        Style::Headline => summary::Style::Headline,
    }
}

fn to_problem(error: &SummaryError) -> Problem {
    let status = match error {
        SummaryError::Empty | SummaryError::NoTokens | SummaryError::TooSmall { .. } => 422,
        SummaryError::TooLong { .. } | SummaryError::Session(SessionError::TooLarge { .. }) => 413,
        _ => 500,
    };
    Problem::from_status(status).with_detail(error.to_string())
}
