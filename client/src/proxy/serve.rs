//! What programs on this machine see: OpenAI's paths, and the server's own.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::{media, paths};
use cloister_protocol::bhttp::{self, Response as Inner};
use cloister_protocol::padding::MAX_MESSAGE_BYTES;
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::Failure;
use super::guard::Guard;
use super::session::Session;
use super::upstream::{Pieces, Upstream};
use crate::serving::Service;
use crate::serving::reply::{Content, Reply, read_body, whole};
use crate::verify;

/// How long a request's content may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of an event of a streamed answer.
const MAX_EVENT_BYTES: usize = 1 << 20;
/// What was shown of the server, for those who want to see it.
const ATTESTATION: &str = "/cloister/attestation";

/// The proxy.
pub(super) struct Proxy {
    pub(super) upstream: Upstream,
    pub(super) guard: Guard,
}

impl Service for Proxy {
    type Content = Content;
    type Connection = ();

    fn opened(self: &Arc<Self>, _: SocketAddr) -> Option<()> {
        Some(())
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, _: SocketAddr) -> Reply {
        let outcome = match self.guard.check(&request) {
            Ok(()) => self.route(request).await,
            Err(failure) => Err(failure),
        };
        outcome.unwrap_or_else(|failure| failure.reply())
    }
}

/// What of a request says how its answer is to come; the server judges the rest.
#[derive(Default, Deserialize)]
struct Wish {
    #[serde(default)]
    stream: Option<bool>,
}

impl Proxy {
    async fn route(&self, request: Request<Incoming>) -> Result<Reply, Failure> {
        let path = request.uri().path().to_owned();
        let is_get = request.method() == Method::GET;
        let is_post = request.method() == Method::POST;
        let model = path
            .strip_prefix(paths::MODELS)
            .and_then(|rest| rest.strip_prefix('/'));
        match (path.as_str(), model) {
            (paths::CHAT_COMPLETIONS | paths::SUMMARIZE | paths::REWRITE, _) if is_post => {
                self.post(&path, request.into_body()).await
            }
            (paths::MODELS, _) if is_get => pass_on(&self.models().await?),
            (_, Some(id)) if is_get => self.model(id).await,
            (ATTESTATION, _) if is_get => {
                let session = self.upstream.sessions.get().await?;
                Ok(whole(200, media::JSON, shown(&session).to_string()))
            }
            (paths::CHAT_COMPLETIONS | paths::SUMMARIZE | paths::REWRITE, _) => {
                Err(wrong_method("POST"))
            }
            (paths::MODELS | ATTESTATION, _) | (_, Some(_)) => Err(wrong_method("GET")),
            _ => Err(Failure::request(
                404,
                "unknown_url",
                format!(
                    "there is no {path} here, but {}, {}, {}, {} and {ATTESTATION}",
                    paths::CHAT_COMPLETIONS,
                    paths::MODELS,
                    paths::SUMMARIZE,
                    paths::REWRITE
                ),
            )),
        }
    }

    async fn post(&self, path: &str, body: Incoming) -> Result<Reply, Failure> {
        let content = read_body(body, MAX_MESSAGE_BYTES, BODY_TIMEOUT).await?;
        // What is not JSON is the server's to refuse.
        let wish: Wish = serde_json::from_slice(&content).unwrap_or_default();
        let request = bhttp::Request::new("POST", path).with_content(media::JSON, content.to_vec());
        let request = request.map_err(|error| {
            Failure::request(
                400,
                "request",
                format!("the request cannot be sent: {error}"),
            )
        })?;
        if wish.stream != Some(true) {
            return pass_on(&self.upstream.send(&request).await?);
        }
        let (head, pieces) = self.upstream.stream(&request).await?;
        if head.status != 200 {
            return Err(error_of(head.status, &head.content));
        }
        let mut reply = Response::new(Streamed::new(pieces).boxed_unsync());
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, content_type(&head));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(reply)
    }

    async fn models(&self) -> Result<Inner, Failure> {
        let request = bhttp::Request::new("GET", paths::MODELS);
        self.upstream.send(&request).await
    }

    /// One model out of the list, as OpenAI's clients ask for it.
    async fn model(&self, id: &str) -> Result<Reply, Failure> {
        let answer = self.models().await?;
        if answer.status != 200 {
            return pass_on(&answer);
        }
        let list: Value = serde_json::from_slice(&answer.content).unwrap_or_default();
        let models = list["data"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let model = models.iter().find(|model| model["id"] == id);
        let model = model.ok_or_else(|| {
            let names: Vec<&str> = models.iter().filter_map(|it| it["id"].as_str()).collect();
            let text = format!("there is no model {id:?}, but {}", names.join(", "));
            Failure::request(404, "model_not_found", text)
        })?;
        Ok(whole(200, media::JSON, model.to_string()))
    }
}

fn wrong_method(methods: &str) -> Failure {
    Failure::request(405, "method", format!("this is for {methods}"))
}

/// The server's answer.
fn pass_on(answer: &Inner) -> Result<Reply, Failure> {
    if answer.status != 200 {
        return Err(error_of(answer.status, &answer.content));
    }
    let mut reply = whole(200, media::JSON, Bytes::copy_from_slice(&answer.content));
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, content_type(answer));
    Ok(reply)
}

fn content_type(answer: &Inner) -> HeaderValue {
    let found = answer
        .field("content-type")
        .unwrap_or(media::JSON.as_bytes());
    HeaderValue::from_bytes(found).unwrap_or(HeaderValue::from_static(media::JSON))
}

/// An error that the server told inside the encapsulation.
fn error_of(status: u16, content: &[u8]) -> Failure {
    let problem = Problem::from_json(content).unwrap_or_else(|_| Problem::from_status(status));
    Failure::problem(&Problem { status, ..problem })
}

/// What the server has shown.
fn shown(session: &Session) -> Value {
    let attestation = &session.attestation;
    json!({
        "kind": attestation.kind(),
        "attested": attestation.is_attested(),
        "notice": attestation.notice(),
        "appraisal": attestation.appraisal().map(verify::document),
        "epoch": session.epoch.map(|epoch| json!({
            "number": epoch.number,
            "start": epoch.start_s,
            "end": epoch.end_s,
        })),
        "renewed_in_s": session.left().as_secs(),
    })
}

/// A streamed answer: whole events only. An error in the middle of it is its last event, which is how OpenAI's clients are
/// told of one; what had come of an event is left out then.
struct Streamed {
    pieces: Pieces,
    /// The beginning of an event.
    begun: Vec<u8>,
}

impl Streamed {
    fn new(pieces: Pieces) -> Self {
        Self {
            pieces,
            begun: Vec::new(),
        }
    }

    /// What is complete now.
    fn take(&mut self, piece: Result<Bytes, Failure>) -> Bytes {
        match piece {
            Ok(piece) => {
                self.begun.extend_from_slice(&piece);
                let end = self.begun.windows(2).rposition(|two| two == b"\n\n");
                let end = end.map_or(0, |at| at + 2);
                let rest = self.begun.split_off(end);
                match rest.len() {
                    ..=MAX_EVENT_BYTES => std::mem::replace(&mut self.begun, rest).into(),
                    _ => self.end(&Failure::server(
                        502,
                        "broken_answer",
                        "an event is too long",
                    )),
                }
            }
            Err(failure) => self.end(&failure),
        }
    }

    fn end(&mut self, failure: &Failure) -> Bytes {
        self.pieces.close();
        self.begun.clear();
        format!("data: {}\n\n", failure.document()).into()
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            let Some(piece) = ready!(self.pieces.poll_recv(cx)) else {
                // What is left is no event, and the end of the answer.
                let rest = std::mem::take(&mut self.begun);
                let rest = (!rest.is_empty()).then(|| Ok(Frame::data(rest.into())));
                return Poll::Ready(rest);
            };
            let complete = self.take(piece);
            if !complete.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(complete))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streamed() -> Streamed {
        Streamed::new(tokio::sync::mpsc::channel(1).1)
    }

    #[test]
    fn events_come_whole_however_they_are_cut() {
        let text = "data: one\n\n: comment\n\ndata: two\n\n";
        for size in 1..text.len() {
            let mut streamed = streamed();
            let mut out = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                let complete = streamed.take(Ok(Bytes::copy_from_slice(piece)));
                assert!(complete.is_empty() || complete.ends_with(b"\n\n"));
                out.extend_from_slice(&complete);
            }
            assert_eq!(out, text.as_bytes(), "{size}");
        }
    }

    #[test]
    fn an_error_takes_the_place_of_what_had_begun() {
        let mut streamed = streamed();
        let first = streamed.take(Ok("data: one\n\ndata: tw".into()));
        assert_eq!(first, "data: one\n\n");
        let last = streamed.take(Err(Failure::server(502, "cut", "it was cut short")));
        let text = String::from_utf8(last.to_vec()).unwrap();
        assert!(
            text.starts_with("data: {\"error\":{") && text.ends_with("\n\n"),
            "{text}"
        );
        assert!(streamed.begun.is_empty());
    }

    #[test]
    fn an_event_without_end_is_not_waited_for() {
        let mut streamed = streamed();
        let piece = vec![b'x'; MAX_EVENT_BYTES + 1];
        let text = streamed.take(Ok(piece.into()));
        assert!(text.starts_with(b"data: {\"error\""));
    }
}
