//! Paths inside the encapsulation.

use alloc::vec::Vec;
use cloister_protocol::api::models::Models;
use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::{chat, media, paths, rewrite, summarize};
use cloister_protocol::bhttp;

use super::gate::{Admitted, Gate};
use super::generator::{ModelInfo, Task};

/// What a decrypted request asks for.
#[derive(Debug)]
pub enum Wanted {
    /// This answer; it was there already.
    Answer(bhttp::Response),
    /// A job, and what it costs.
    Task(Task, Admitted),
}

/// Reads a decrypted request: a path of [`paths`] that is an inner one, with its method. What makes work must be let in.
#[must_use]
pub fn read(
    message: &[u8],
    model: Option<ModelInfo<'_>>,
    limits: &summarize::Limits,
    gate: &Gate,
) -> Wanted {
    match route(message, model, limits, gate) {
        Ok(wanted) => wanted,
        Err(problem) => Wanted::Answer(answer_problem(&problem)),
    }
}

fn route(
    message: &[u8],
    model: Option<ModelInfo<'_>>,
    limits: &summarize::Limits,
    gate: &Gate,
) -> Result<Wanted, Problem> {
    let request = bhttp::Request::decode(message, &bhttp::Limits::DEFAULT)?;
    let path = request.path.split('?').next().unwrap_or_default();
    let (read, allowed): (Option<ReadTask>, _) = match path {
        paths::MODELS => (None, "GET"),
        paths::SUMMARIZE => (Some(read_summary), "POST"),
        paths::REWRITE => (Some(read_rewrite), "POST"),
        paths::CHAT_COMPLETIONS => (Some(read_chat), "POST"),
        _ => {
            let detail = "there is nothing at this inner path";
            return Err(Problem::from_status(404).with_detail(detail));
        }
    };
    let outcome =
        match read {
            _ if request.method != allowed => Err(Problem::from_status(405)
                .with_detail(alloc::format!("this path has only {allowed}"))),
            None => Ok(Wanted::Answer(list_models(model))),
            Some(read) => match gate.admit(&request) {
                Ok(admitted) => read_task(&request, read, model, limits)
                    .map(|task| Wanted::Task(task, admitted)),
                Err(refusal) => Ok(Wanted::Answer(refusal)),
            },
        };
    match path {
        // Existing clients show what the member `error` says.
        paths::CHAT_COMPLETIONS | paths::MODELS => outcome.map_err(Problem::with_error),
        _ => outcome,
    }
}

/// Reads a JSON text.
type ReadTask = fn(&[u8], &summarize::Limits) -> Result<Task, Problem>;

fn read_task(
    request: &bhttp::Request,
    read: ReadTask,
    model: Option<ModelInfo<'_>>,
    limits: &summarize::Limits,
) -> Result<Task, Problem> {
    let content_type = request.field("content-type").unwrap_or_default();
    if !media::is(content_type, media::JSON) {
        return Err(Problem::from_status(415).with_detail("the content must be application/json"));
    }
    let task = read(&request.content, limits)?;
    if model.is_none() {
        return Err(Problem::from_status(503).with_detail("this image has no model"));
    }
    Ok(task)
}

fn read_summary(json: &[u8], limits: &summarize::Limits) -> Result<Task, Problem> {
    let request = summarize::Request::from_json_streamed(json, limits);
    let (request, is_streamed) = request.map_err(|error| error.problem())?;
    Ok(Task::Summary(request, is_streamed))
}

fn read_rewrite(json: &[u8], limits: &summarize::Limits) -> Result<Task, Problem> {
    let request = rewrite::Request::from_json(json, limits.text_bytes);
    Ok(Task::Rewrite(request.map_err(|error| error.problem())?))
}

fn read_chat(json: &[u8], limits: &summarize::Limits) -> Result<Task, Problem> {
    let limits = chat::Limits {
        messages: limits.messages,
        text_bytes: limits.text_bytes,
        output_tokens: limits.output_tokens,
    };
    let request = chat::Request::from_json(json, &limits);
    Ok(Task::Chat(request.map_err(|error| error.problem())?))
}

fn list_models(model: Option<ModelInfo<'_>>) -> bhttp::Response {
    let model = model.map(|model| (model.name, model.digest, model.context_tokens));
    answer(200, media::JSON, Models::new(model).to_json())
}

/// A problem as an answer inside the encapsulation.
#[must_use]
pub fn answer_problem(problem: &Problem) -> bhttp::Response {
    answer(problem.status, media::PROBLEM_JSON, problem.to_json())
}

/// An answer inside the encapsulation, of one of our media types.
#[must_use]
pub fn answer(status: u16, media_type: &str, content: Vec<u8>) -> bhttp::Response {
    bhttp::Response::new(status)
        .with_content(media_type, content)
        .expect("our media types are field values")
}
