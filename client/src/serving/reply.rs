//! Answers, and the bodies of requests.

use std::time::Duration;

use cloister_protocol::api::media;
use cloister_protocol::api::problem::Problem;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::time::timeout;

/// An answer.
pub(crate) type Reply = Response<Full<Bytes>>;

/// An answer that is there as a whole.
pub(crate) fn whole(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = HeaderValue::from_static(content_type);
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// A problem document (RFC 9457) whose status says what kind it is, and whose detail what is wrong here.
pub(crate) fn problem(status: u16, detail: impl Into<String>) -> Reply {
    let problem = Problem::from_status(status).with_detail(detail);
    whole(status, media::PROBLEM_JSON, problem.to_json())
}

/// The same answer, with the methods that are taken.
pub(crate) fn with_methods(mut reply: Reply, methods: &'static str) -> Reply {
    let methods = HeaderValue::from_static(methods);
    reply.headers_mut().insert(ALLOW, methods);
    reply
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It is longer than the limit.
    TooLarge,
    /// It ended before its end, or is framed wrongly.
    Broken,
    /// It took too long.
    TooSlow,
}

impl BodyError {
    /// The status and the words for whoever sent it.
    pub(crate) fn describe(self) -> (u16, &'static str) {
        match self {
            Self::TooLarge => (413, "the request is too large"),
            Self::Broken => (400, "the request's body is broken"),
            Self::TooSlow => (408, "the request's body took too long"),
        }
    }
}

/// Reads a whole body.
pub(crate) async fn read_body(
    body: Incoming,
    most_bytes: usize,
    longest: Duration,
) -> Result<Bytes, BodyError> {
    let limited = Limited::new(body, most_bytes).collect();
    match timeout(longest, limited).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::TooSlow),
    }
}
