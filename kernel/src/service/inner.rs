//! Paths inside the encapsulation.

use cloister_protocol::api::models::Models;
use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::{media, paths, summarize};
use cloister_protocol::bhttp;

use super::gate::{Admitted, Gate};
use super::summarizer::ModelInfo;

/// What a decrypted request asks for.
#[derive(Debug)]
pub enum Wanted {
    /// This answer; it was there already.
    Answer(bhttp::Response),
    /// A summary, and what it costs.
    Summary(summarize::Request, Admitted),
}

/// Reads a decrypted request, which names `GET /v1/models` or `POST /v1/summarize`. What makes work must be let in.
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
    match (path, request.method.as_str()) {
        (paths::MODELS, "GET") => Ok(Wanted::Answer(list_models(model))),
        (paths::SUMMARIZE, "POST") => match gate.admit(&request) {
            Ok(admitted) => read_summary(&request, model, limits, admitted),
            Err(refusal) => Ok(Wanted::Answer(refusal)),
        },
        (paths::MODELS, _) => Err(Problem::from_status(405).with_detail("this path has only GET")),
        (paths::SUMMARIZE, _) => {
            Err(Problem::from_status(405).with_detail("this path has only POST"))
        }
        _ => Err(Problem::from_status(404).with_detail("there is nothing at this inner path")),
    }
}

fn read_summary(
    request: &bhttp::Request,
    model: Option<ModelInfo<'_>>,
    limits: &summarize::Limits,
    admitted: Admitted,
) -> Result<Wanted, Problem> {
    let content_type = request.field("content-type").unwrap_or_default();
    if !media::is(content_type, media::JSON) {
        return Err(Problem::from_status(415).with_detail("the content must be application/json"));
    }
    let request =
        summarize::Request::from_json(&request.content, limits).map_err(|error| error.problem())?;
    if model.is_none() {
        return Err(Problem::from_status(503).with_detail("this image has no model"));
    }
    Ok(Wanted::Summary(request, admitted))
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

/// A summary as an answer inside the encapsulation.
#[must_use]
pub fn answer_summary(summary: &summarize::Response) -> bhttp::Response {
    answer(200, media::JSON, summary.to_json())
}

fn answer(status: u16, media_type: &str, content: alloc::vec::Vec<u8>) -> bhttp::Response {
    bhttp::Response::new(status)
        .with_content(media_type, content)
        .expect("our media types are field values")
}
