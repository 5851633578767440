//! Answers, and the bodies of requests.

use std::convert::Infallible;
use std::time::Duration;

use cloister_protocol::api::media;
use cloister_protocol::api::problem::Problem;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use tokio::time::timeout;

/// The content of an answer: whole, or as it comes.
pub(crate) type Content = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// An answer.
pub(crate) type Reply = Response<Content>;

/// An answer that is there as a whole.
pub(crate) fn whole(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let content = Full::new(body.into()).map_err(|never: Infallible| match never {});
    let mut reply = Response::new(content.boxed_unsync());
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

/// 405: these methods are taken.
pub(crate) fn not_allowed(methods: &'static str) -> Reply {
    let mut reply = problem(405, format!("this is for {methods}"));
    let methods = HeaderValue::from_static(methods);
    reply.headers_mut().insert(ALLOW, methods);
    reply
}

/// The same answer, with the seconds after which another try makes sense.
pub(crate) fn try_again(mut reply: Reply, after_s: u32) -> Reply {
    reply.headers_mut().insert(RETRY_AFTER, after_s.into());
    reply
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It is longer than the limit, in bytes.
    TooLarge(usize),
    /// It ended before its end, or is framed wrongly.
    Broken,
    /// It took longer than this.
    TooSlow(Duration),
}

impl BodyError {
    /// The problem that says so to whoever sent it.
    pub(crate) fn reply(self) -> Reply {
        match self {
            Self::TooLarge(most) => problem(413, format!("a request has at most {most} bytes")),
            Self::Broken => problem(400, "the request's body is broken"),
            Self::TooSlow(longest) => problem(
                408,
                format!("the request's body took over {} s", longest.as_secs()),
            ),
        }
    }
}

/// Reads a whole body.
pub(crate) async fn read_body<B>(
    body: B,
    most_bytes: usize,
    longest: Duration,
) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    // What says that it is too long is not read at all.
    if body.size_hint().lower() > most_bytes as u64 {
        return Err(BodyError::TooLarge(most_bytes));
    }
    let limited = Limited::new(body, most_bytes).collect();
    match timeout(longest, limited).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge(most_bytes)),
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::TooSlow(longest)),
    }
}
