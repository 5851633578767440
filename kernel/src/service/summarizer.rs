//! What the service needs of the engine: jobs that go through it together, one bounded step at a time.

use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::summarize::{Request, Response};

/// Makes summaries.
pub trait Summarizer {
    /// A summary in the making. It must come to its end by [`Summarizer::advance`] or by [`Summarizer::cancel`]; what
    /// it holds itself is wiped when it is dropped.
    type Job;

    /// The model, for clients.
    fn model(&self) -> ModelInfo<'_>;

    /// Prepares a summary.
    ///
    /// # Errors
    /// What is wrong with the request, or why it cannot be served.
    fn start(&mut self, request: Request) -> Result<Self::Job, Problem>;

    /// Does a bounded piece of work for all jobs together, short enough that the network can wait for it.
    fn step(&mut self);

    /// Takes what the last step has brought for a job, which is over unless it goes on. Begins its next prompt only if
    /// it `may_begin`: that takes time, and room.
    fn advance(&mut self, job: &mut Self::Job, may_begin: bool) -> Progress;

    /// Ends a job whose client has left: what the engine holds of it is wiped.
    fn cancel(&mut self, job: Self::Job);
}

/// A model's public face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// The root digest of its pack, as the image manifest names it.
    pub digest: &'a [u8; 32],
    /// Tokens of its context.
    pub context_tokens: u32,
}

/// Where a job stands.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do.
    Working,
    /// It has begun a prompt.
    Begun,
    /// It has to begin a prompt, and may not or has no room.
    Waiting,
    /// The summary.
    Done(Response),
    /// It cannot be finished.
    Failed(Problem),
}
