//! The real [`Summarizer`]: the engine with the image's model.

use alloc::string::{String, ToString};
use cloister_boot::manifest::{Limits, ModelRef};
use cloister_engine::Model;
use cloister_engine::pack::PackError;
use cloister_engine::summary::{
    self, Summaries, SummaryError, SummaryJob, SummaryRequest, SummaryStep,
};
use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::summarize::{Message, Request, Response, Style, Usage};

use super::summarizer::{ModelInfo, Progress, Summarizer};
use crate::smp;

/// The model of this image, opened.
pub struct Engine {
    model: Model<'static>,
    reference: ModelRef,
    summaries: Summaries,
}

impl Engine {
    /// Opens a pack whose digest was checked.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn open(
        pack: &'static [u8],
        reference: ModelRef,
        limits: &Limits,
    ) -> Result<Self, PackError> {
        let limits = summary::Limits {
            prompt_tokens: limits.prompt_tokens as usize,
            output_tokens: limits.output_tokens as usize,
            ..summary::Limits::default()
        };
        let model = Model::open(pack)?.with_workers(smp::workers());
        Ok(Self {
            summaries: Summaries::new(&model, limits),
            model,
            reference,
        })
    }
}

impl Summarizer for Engine {
    type Job = SummaryJob<Model<'static>>;

    fn model(&self) -> ModelInfo<'_> {
        ModelInfo {
            name: &self.reference.name,
            digest: &self.reference.root,
            context_tokens: self.reference.context_tokens,
        }
    }

    fn start(&self, request: Request) -> Result<Self::Job, Problem> {
        let request = SummaryRequest {
            style: engine_style(request.style),
            max_tokens: request.max_tokens.map(|tokens| tokens as usize),
            messages: request.messages.into_iter().map(engine_message).collect(),
        };
        let job = self.summaries.begin(&self.model, request);
        job.map_err(|error| to_problem(&error))
    }

    fn step(&self, job: &mut Self::Job) -> Progress {
        match job.step(&self.model) {
            Ok(SummaryStep::Working { .. }) => Progress::Working,
            Ok(SummaryStep::Done(summary)) => Progress::Done(self.response(summary)),
            Err(error) => Progress::Failed(to_problem(&error)),
        }
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
        SummaryError::TooLong { .. } => 413,
        _ => 500,
    };
    Problem::from_status(status).with_detail(error.to_string())
}
