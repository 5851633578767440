//! What the service needs of the engine: jobs that go through it together, one bounded step at a time.

use alloc::string::String;
use alloc::vec::Vec;
use cloister_protocol::api::chat;
use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::{rewrite, summarize};
use zeroize::Zeroizing;

/// What a job is to do. Dropping it wipes the request.
#[derive(Debug)]
pub enum Task {
    /// A summary; whether it is shown while it is written.
    Summary(summarize::Request, bool),
    /// Other wordings.
    Rewrite(rewrite::Request),
    /// The next message of a conversation.
    Chat(chat::Request),
}

/// Generates text.
pub trait Generator {
    /// A text in the making. It must come to its end by [`Generator::advance`] or by [`Generator::cancel`]; what it
    /// holds itself is wiped when it is dropped.
    type Job;

    /// The model, for clients.
    fn model(&self) -> ModelInfo<'_>;

    /// Prepares a job.
    ///
    /// # Errors
    /// What is wrong with the request, or why it cannot be served.
    fn start(&mut self, task: Task) -> Result<Self::Job, Problem>;

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
    /// The next piece of the text, in whole characters; there is more to do.
    Text(Zeroizing<String>),
    /// It has begun a prompt.
    Begun,
    /// It has to begin a prompt, and may not or has no room.
    Waiting,
    /// It is finished.
    Done(Answer),
    /// It cannot be finished.
    Failed(Problem),
}

/// What a finished job has to say.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// What was not given as pieces: the rest of the text, or each of the wordings.
    pub texts: Vec<Zeroizing<String>>,
    /// Tokens read.
    pub prompt_tokens: u32,
    /// Tokens written.
    pub output_tokens: u32,
    /// Parts that the input was taken in.
    pub parts: u32,
    /// Why the text ended.
    pub finish: chat::Finish,
}
