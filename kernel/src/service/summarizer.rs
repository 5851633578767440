//! What the service needs of the engine: jobs that are started and advanced one step at a time.

use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::summarize::{Request, Response};

/// Makes summaries.
pub trait Summarizer {
    /// A summary in the making. Dropping it wipes what it holds.
    type Job;

    /// The model, for clients.
    fn model(&self) -> ModelInfo<'_>;

    /// Begins a summary.
    ///
    /// # Errors
    /// What is wrong with the request, or why it cannot be served.
    fn start(&self, request: Request) -> Result<Self::Job, Problem>;

    /// Does a bounded piece of work, short enough that the network can wait for it.
    fn step(&self, job: &mut Self::Job) -> Progress;
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
    /// The summary.
    Done(Response),
    /// It cannot be finished.
    Failed(Problem),
}
