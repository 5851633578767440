//! Requests to the server: sealed, sent through the relay if there is one, and their answers opened, whole or as they come.

use std::sync::Arc;
use std::time::Duration;

use cloister_protocol::api::media;
use cloister_protocol::api::problem::Problem;
use cloister_protocol::bhttp::{self, Response};
use cloister_protocol::ohttp::chunked::ResponseOpener;
use getrandom::SysRng;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Uri};
use rand_core::UnwrapErr;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::session::{Session, Sessions};
use super::tokens::{Held, Met, Tokens};
use crate::opening::Opening;
use crate::serving::reply::{BodyError, read_body};
use crate::tokens::with_token;
use crate::upstream::{Bounded, Lease, Pool, PoolNews};

/// The most bytes of an answer that is sealed as a whole, or of an error in the clear.
const MAX_ANSWER_BYTES: usize = 2 << 20;
/// The most bytes of the records that carry it.
const MAX_STREAM_BYTES: usize = 32 << 20;
/// The most bytes of the content of an answer that is an error and comes as a stream.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// Pieces of a streamed answer that a client has not taken yet.
const PIECES: usize = 16;

/// The content of a streamed answer, piece by piece.
pub(super) type Pieces = mpsc::Receiver<Result<Bytes, Failure>>;

/// The way to the server.
pub(super) struct Upstream {
    pub(super) sessions: Sessions,
    pub(super) tokens: Arc<Tokens>,
    pool: Pool,
    resource: Uri,
    timeout: Duration,
}

/// An answer whose head is there.
struct Sealed {
    body: Incoming,
    lease: Lease,
}

impl Upstream {
    /// `resource` is the path of the gateway, or of the relay's resource for it.
    pub(super) fn new(
        sessions: Sessions,
        tokens: Arc<Tokens>,
        pool: Pool,
        resource: Uri,
        timeout: Duration,
    ) -> Self {
        Self {
            sessions,
            tokens,
            pool,
            resource,
            timeout,
        }
    }

    /// Sends an inner request, with a token if it makes work and there is one, and once more where the server asks for
    /// another; gives the answer to it as a whole. Dropped, it ends the request at the server.
    pub(super) async fn send(&self, request: &bhttp::Request) -> Result<Response, Failure> {
        let held = self.tokens.take(request).await?;
        let answer = self.send_with(request, held.as_ref()).await?;
        match self.tokens.meet(answer, held).await? {
            Met::Answer(answer) => Ok(answer),
            Met::Token(other) => Tokens::last(self.send_with(request, Some(&other)).await?),
        }
    }

    async fn send_with(
        &self,
        request: &bhttp::Request,
        held: Option<&Held>,
    ) -> Result<Response, Failure> {
        let padded = encode(request, held)?;
        let mut session = self.sessions.get().await?;
        for is_last in [false, true] {
            let sealed = session.keys.encapsulate(&mut UnwrapErr(SysRng), &padded);
            let (sealed, opener) = sealed.map_err(unusable)?;
            let types = (media::OHTTP_REQUEST, media::OHTTP_RESPONSE);
            let answer = self.post(&session, sealed, types, held, is_last).await?;
            let Some(answer) = answer else {
                session = self.sessions.renew(Some(&session)).await?;
                continue;
            };
            let body = read_body(answer.body, MAX_ANSWER_BYTES, self.timeout).await;
            let body = body.map_err(unread)?;
            answer.lease.give_back();
            let opened = opener.open(&body).map_err(unusable)?;
            return Response::decode(&opened, &bhttp::Limits::DEFAULT).map_err(unusable);
        }
        Err(outdated())
    }

    /// Sends an inner request, with tokens as [`Upstream::send`] does, and gives status and fields of the answer once they
    /// are there, and its content as it comes; an answer with a status other than 200 has its content. Whoever drops the
    /// content before its end ends the request at the server; after it the rest of the records is taken, so that nobody on
    /// the way learns where the answer ended.
    pub(super) async fn stream(
        &self,
        request: &bhttp::Request,
    ) -> Result<(Response, Pieces), Failure> {
        let held = self.tokens.take(request).await?;
        let (answer, pieces) = self.stream_with(request, held.as_ref()).await?;
        match self.tokens.meet(answer, held).await? {
            Met::Answer(answer) => Ok((answer, pieces)),
            Met::Token(other) => {
                let (answer, pieces) = self.stream_with(request, Some(&other)).await?;
                Ok((Tokens::last(answer)?, pieces))
            }
        }
    }

    async fn stream_with(
        &self,
        request: &bhttp::Request,
        held: Option<&Held>,
    ) -> Result<(Response, Pieces), Failure> {
        let padded = encode(request, held)?;
        let mut session = self.sessions.get().await?;
        for is_last in [false, true] {
            let (sealed, opener) = encapsulate_chunked(&session, &padded)?;
            let types = (media::OHTTP_CHUNKED_REQUEST, media::OHTTP_CHUNKED_RESPONSE);
            let answer = self.post(&session, sealed, types, held, is_last).await?;
            let Some(answer) = answer else {
                session = self.sessions.renew(Some(&session)).await?;
                continue;
            };
            let mut reading = Reading::new(answer, opener, self.timeout);
            let mut head = reading.head().await?;
            let (sender, mut pieces) = mpsc::channel(PIECES);
            tokio::spawn(reading.pass_on(sender));
            if head.status != 200 {
                head.content = collect(&mut pieces).await?.into();
            }
            return Ok((head, pieces));
        }
        Err(outdated())
    }

    /// The answer to sealed bytes; `None` where the server no longer has the key, of HPKE or of TLS, and there is another
    /// try. Without TLS, as to a relay, the second of them is nobody's.
    async fn post(
        &self,
        session: &Session,
        sealed: Vec<u8>,
        (request_type, answer_type): (&'static str, &'static str),
        held: Option<&Held>,
        is_last: bool,
    ) -> Result<Option<Sealed>, Failure> {
        let content = Full::new(Bytes::from(sealed)).map_err(|never| match never {});
        let mut request = Request::new(content.boxed_unsync());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.resource.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.pool.origin().authority());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(request_type));
        let news: &dyn PoolNews = held.map_or(&(), |held| held);
        let sent = self.pool.send(request, Some(session.tls_key), news);
        let (response, lease) = match sent.await {
            Err(error) if error.other_key().is_some() && !is_last => return Ok(None),
            outcome => outcome?,
        };
        let status = response.status().as_u16();
        let found = response.headers().get(CONTENT_TYPE);
        let found = found.map_or(&b""[..], HeaderValue::as_bytes);
        if status == 200 {
            if !media::is(found, answer_type) {
                return Err(broken("its answer is of another type"));
            }
            let body = response.into_body();
            return Ok(Some(Sealed { body, lease }));
        }
        let is_problem = media::is(found, media::PROBLEM_JSON);
        let body = read_body(response.into_body(), MAX_ANSWER_BYTES, self.timeout).await;
        let body = body.map_err(unread)?;
        lease.give_back();
        let said = is_problem.then(|| Problem::from_json(&body).ok()).flatten();
        let mut problem = said.unwrap_or_else(|| Problem::from_status(status));
        problem.status = status;
        match problem.is_key_problem() {
            true if !is_last => Ok(None),
            true => Err(outdated()),
            false => Err(Failure::on_the_way(&problem)),
        }
    }
}

/// A request with its token, padded.
fn encode(request: &bhttp::Request, held: Option<&Held>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match held {
        Some(held) => with_token(request, held.token())?.encode_padded(),
        None => request.encode_padded(),
    }
    .map_err(too_large)
}

/// The content of an answer that is an error.
async fn collect(pieces: &mut Pieces) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    while let Some(piece) = pieces.recv().await {
        content.extend_from_slice(&piece?);
        if content.len() > MAX_ERROR_BYTES {
            break;
        }
    }
    Ok(content)
}

fn encapsulate_chunked(
    session: &Arc<Session>,
    padded: &[u8],
) -> Result<(Vec<u8>, ResponseOpener), Failure> {
    let sealed = session
        .keys
        .encapsulate_chunked(&mut UnwrapErr(SysRng), padded);
    sealed.map_err(unusable)
}

/// A streamed answer that is being read.
struct Reading {
    body: Bounded<Incoming, Lease>,
    opening: Opening,
}

impl Reading {
    fn new(answer: Sealed, opener: ResponseOpener, timeout: Duration) -> Self {
        let Sealed { body, lease } = answer;
        Self {
            body: Bounded::new(body, MAX_STREAM_BYTES, timeout, lease, Lease::give_back),
            opening: Opening::new(opener),
        }
    }

    /// Waits for status and fields.
    async fn head(&mut self) -> Result<Response, Failure> {
        loop {
            if let Some(head) = self.opening.message.head() {
                return Ok(head.clone());
            }
            if self.opening.is_over() {
                return Err(broken("its answer was cut short"));
            }
            self.receive().await?;
        }
    }

    /// Gives the content to whoever takes it, and reads on to the end of the stream.
    async fn pass_on(mut self, pieces: mpsc::Sender<Result<Bytes, Failure>>) {
        loop {
            let content = self.opening.message.take_content();
            if !content.is_empty() {
                let piece = Bytes::copy_from_slice(&content);
                if pieces.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
            if self.opening.message.is_complete() {
                // What follows says nothing; an error of it is nobody's loss any more.
                drop(pieces);
                while !self.opening.is_over() && self.receive().await.is_ok() {}
                return;
            }
            if self.opening.is_over() {
                return;
            }
            let received = tokio::select! {
                received = self.receive() => received,
                // The client has left: the connection ends, and with it the request at the server.
                () = pieces.closed() => return,
            };
            if let Err(failure) = received {
                // Nobody may be left to hear it.
                let _ = pieces.send(Err(failure)).await;
                return;
            }
        }
    }

    /// Waits for the next bytes, and takes the records that they complete.
    async fn receive(&mut self) -> Result<(), Failure> {
        if self.opening.is_over() {
            return Ok(());
        }
        let Some(frame) = self.body.frame().await else {
            return self.opening.end().map_err(unusable);
        };
        let frame = frame.map_err(|_| broken("its answer was cut short"))?;
        let data = frame.into_data().unwrap_or_default();
        self.opening.push(&data).map_err(unusable)
    }
}

fn too_large(error: bhttp::EncodeError) -> Failure {
    Failure::request(
        413,
        "too_large",
        format!("the request is too large: {error}"),
    )
}

fn broken(what: &str) -> Failure {
    let text = format!("the server (or the relay) cannot be used: {what}");
    Failure::server(502, "broken_answer", text)
}

fn unread(error: BodyError) -> Failure {
    match error {
        BodyError::TooLarge(most) => broken(&format!("its answer has over {most} bytes")),
        BodyError::Broken => broken("its answer was cut short"),
        BodyError::TooSlow(longest) => {
            let text = format!("the server's answer took over {} s", longest.as_secs());
            Failure::server(504, "timeout", text)
        }
    }
}

/// What came cannot be opened or read: it was altered, or is no answer.
fn unusable(error: impl std::fmt::Display) -> Failure {
    broken(&error.to_string())
}

fn outdated() -> Failure {
    let text = "the server does not take the key that it has just shown; try again";
    Failure::server(502, "key", text)
}
