//! One connection from its first byte to its last.

use alloc::format;
use alloc::vec::Vec;

use super::Limits;
use super::body::BodyReader;
use super::head::{Head, HeadReader, Method, Version};
use super::response::{Length, Response, Status};

/// Pause between two interim responses to a client that has shut its write side and waits.
const PROBE_MS: u64 = 1_000;
/// Bytes of an answer in pieces that wait for a slow client, beside what TCP holds.
const MAX_PIECES_BYTES: usize = 32 * 1024;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const PROCESSING: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";

/// Decides about a request once its head is there and before its body is read.
pub trait Admission {
    /// The most bytes that the body may have, or the answer that refuses the request.
    ///
    /// # Errors
    /// The response to send instead; it ends the connection if a body would follow.
    fn admit(&self, head: &Head) -> Result<usize, Response>;
}

/// A complete request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The head.
    pub head: Head,
    /// The body, decoded from its transfer coding.
    pub body: Vec<u8>,
}

/// The state of one connection. It never waits: it takes bytes, gives bytes, and is told the time.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    state: State,
    /// When the state's clock began: first byte of a request, end of the last answer, begin of the current answer.
    since_ms: u64,
    output: Vec<u8>,
    output_sent: usize,
    /// What the answer in progress must look like.
    version: Version,
    is_head: bool,
    keep_alive: bool,
    /// The client has shut its write side and every byte of it was taken.
    half_closed: bool,
    /// The client has shut its write side: it has finished sending, or it has left.
    may_have_left: bool,
    probed_ms: u64,
    answered: Option<Status>,
}

#[derive(Debug)]
enum State {
    /// Waiting for, or within, a request head.
    Head(HeadReader),
    /// Within a body.
    Body(Head, BodyReader),
    /// A complete request that nobody has taken yet.
    Ready(Request),
    /// The request was taken; its answer is being made.
    Working,
    /// The answer is being made, and sent as it is.
    Streaming,
    /// The answer is on its way out.
    Answering,
    /// The last answer was handed over, but the client has not received all of it yet.
    Flushing,
    /// Our side is finished; what still comes is dropped.
    Lingering,
    /// To be cut at once.
    Cut,
}

/// What the owner of the TCP connection has to do with it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Go on reading and writing.
    Open,
    /// Everything is written: shut the write side, go on reading.
    CloseWrite,
    /// Cut it.
    Cut,
}

impl Connection {
    /// A fresh connection, made at `now_ms`.
    #[must_use]
    pub fn new(limits: Limits, now_ms: u64) -> Self {
        Self {
            limits,
            state: State::Head(HeadReader::default()),
            since_ms: now_ms,
            output: Vec::new(),
            output_sent: 0,
            version: Version::Http11,
            is_head: false,
            keep_alive: true,
            half_closed: false,
            may_have_left: false,
            probed_ms: 0,
            answered: None,
        }
    }

    /// Takes what has arrived and returns how many bytes were taken. The rest stays with the network until the
    /// request at hand is answered, which is what bounds a client that pipelines.
    pub fn receive(&mut self, bytes: &[u8], admission: &impl Admission, now_ms: u64) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            taken += match &mut self.state {
                State::Head(_) => self.receive_head(&bytes[taken..], admission, now_ms),
                State::Body(_, reader) => match reader.push(&bytes[taken..]) {
                    Ok(count) => {
                        self.finish_body();
                        count
                    }
                    Err(error) => {
                        self.refuse(Response::problem(error.status(), error.detail()), now_ms);
                        0
                    }
                },
                State::Answering if !self.keep_alive => bytes.len() - taken,
                State::Flushing | State::Lingering | State::Cut => bytes.len() - taken,
                State::Ready(_) | State::Working | State::Streaming | State::Answering => break,
            };
        }
        taken
    }

    fn receive_head(&mut self, bytes: &[u8], admission: &impl Admission, now_ms: u64) -> usize {
        let State::Head(reader) = &mut self.state else {
            return 0;
        };
        if reader.is_empty() {
            self.since_ms = now_ms;
        }
        for (index, byte) in bytes.iter().enumerate() {
            match reader.push(*byte, self.limits.header_bytes) {
                Ok(None) => {}
                Ok(Some(head)) => {
                    self.begin_body(head, admission, now_ms);
                    return index + 1;
                }
                Err(error) => {
                    self.refuse(Response::problem(error.status(), error.detail()), now_ms);
                    return index + 1;
                }
            }
        }
        bytes.len()
    }

    fn begin_body(&mut self, head: Head, admission: &impl Admission, now_ms: u64) {
        self.version = head.version;
        self.is_head = head.method == Method::Head;
        self.keep_alive = head.keep_alive;
        let limit = match admission.admit(&head) {
            Ok(limit) => limit,
            // The body of a refused request is not read, so nothing can follow it.
            Err(response) if head.has_body() => return self.refuse(response, now_ms),
            Err(response) => return self.answer(&response, now_ms),
        };
        match BodyReader::new(head.framing, limit) {
            Ok(reader) => {
                if head.expects_continue && head.has_body() {
                    self.output.extend_from_slice(CONTINUE);
                }
                self.state = State::Body(head, reader);
                self.finish_body();
            }
            Err(error) => self.refuse(Response::problem(error.status(), error.detail()), now_ms),
        }
    }

    fn finish_body(&mut self) {
        self.state = match core::mem::replace(&mut self.state, State::Cut) {
            State::Body(head, reader) if reader.is_done() => State::Ready(Request {
                head,
                body: reader.into_body(),
            }),
            other => other,
        };
    }

    /// The complete request, once. [`Connection::respond`] or [`Connection::respond_in_pieces`] must follow.
    pub fn take_request(&mut self) -> Option<Request> {
        match core::mem::replace(&mut self.state, State::Working) {
            State::Ready(request) => Some(request),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Queues the answer to the request that was taken. Ignored if the connection has ended meanwhile.
    pub fn respond(&mut self, response: &Response, now_ms: u64) {
        if matches!(self.state, State::Working) {
            self.answer(response, now_ms);
        }
    }

    /// Begins the answer to the request that was taken; its body follows in pieces, however many there will be. Ignored
    /// if the connection has ended meanwhile.
    pub fn respond_in_pieces(&mut self, content_type: &'static str, now_ms: u64) {
        if matches!(self.state, State::Working) {
            // Without the chunked coding only the end of the connection can show the end.
            self.keep_alive &= self.version == Version::Http11;
            let keep_alive = self.keep_alive && !self.half_closed;
            let head = Response::ok(content_type, Vec::new()).encode_head(
                self.version,
                keep_alive,
                Length::Unknown,
            );
            self.output.extend_from_slice(&head);
            self.state = State::Streaming;
            self.since_ms = now_ms;
            self.answered = Some(Status::Ok);
        }
    }

    /// Queues a piece of the body. A client that takes too little of what waits for it is cut off.
    pub fn push_piece(&mut self, piece: &[u8]) {
        if !matches!(self.state, State::Streaming) {
            return;
        }
        self.output.drain(..self.output_sent);
        self.output_sent = 0;
        if self.output.len() + piece.len() > MAX_PIECES_BYTES {
            self.state = State::Cut;
        } else if self.version == Version::Http11 {
            let size = format!("{:x}\r\n", piece.len());
            self.output.extend_from_slice(size.as_bytes());
            self.output.extend_from_slice(piece);
            self.output.extend_from_slice(b"\r\n");
        } else {
            self.output.extend_from_slice(piece);
        }
    }

    /// The body is complete.
    pub fn end_pieces(&mut self, now_ms: u64) {
        if matches!(self.state, State::Streaming) {
            if self.version == Version::Http11 {
                self.output.extend_from_slice(b"0\r\n\r\n");
            }
            self.state = State::Answering;
            self.since_ms = now_ms;
        }
    }

    /// Answers instead of reading on, and closes.
    pub fn refuse(&mut self, response: Response, now_ms: u64) {
        self.keep_alive = false;
        self.answer(&response, now_ms);
    }

    fn answer(&mut self, response: &Response, now_ms: u64) {
        let bytes = response.encode(
            self.version,
            self.keep_alive && !self.half_closed,
            !self.is_head,
        );
        self.output.extend_from_slice(&bytes);
        self.state = State::Answering;
        self.since_ms = now_ms;
        self.is_head = false;
        self.answered = Some(response.status);
    }

    /// The status of an answer that was given since the last call.
    pub fn take_answered(&mut self) -> Option<Status> {
        self.answered.take()
    }

    /// The client has shut its write side. `unread`: whether bytes of it still wait with the network, so that this
    /// is not yet the end of the stream for us.
    pub fn peer_finished(&mut self, unread: bool, now_ms: u64) {
        self.may_have_left = true;
        if unread || self.half_closed {
            return;
        }
        self.half_closed = true;
        match &self.state {
            State::Head(reader) if reader.is_empty() => self.flush(now_ms),
            State::Head(_) | State::Body(..) => self.refuse(
                Response::problem(
                    Status::BadRequest,
                    "The request ended before it was complete.",
                ),
                now_ms,
            ),
            _ => {}
        }
    }

    fn flush(&mut self, now_ms: u64) {
        self.state = State::Flushing;
        self.since_ms = now_ms;
    }

    /// Lets time pass: refuses slow requests, closes idle connections, cuts those that don't take their answer.
    pub fn tick(&mut self, now_ms: u64) {
        let waited_ms = now_ms.saturating_sub(self.since_ms);
        match &self.state {
            State::Head(reader) if reader.is_empty() && waited_ms >= self.limits.idle_ms => {
                self.flush(now_ms);
            }
            State::Head(reader) if !reader.is_empty() && waited_ms >= self.limits.header_ms => {
                self.refuse_slow("The request head took too long.", now_ms);
            }
            State::Body(..) if waited_ms >= self.limits.request_ms => {
                self.refuse_slow("The request body took too long.", now_ms);
            }
            State::Working if self.may_have_left => self.probe(now_ms),
            State::Answering | State::Flushing if waited_ms >= self.limits.response_ms => {
                self.state = State::Cut;
            }
            State::Lingering if waited_ms >= self.limits.linger_ms => self.state = State::Cut,
            _ => {}
        }
    }

    /// Makes a client that has left show it: its side answers the interim response with a reset.
    fn probe(&mut self, now_ms: u64) {
        let is_due = now_ms.saturating_sub(self.probed_ms) >= PROBE_MS;
        if is_due && self.output.is_empty() && self.version == Version::Http11 {
            self.output.extend_from_slice(PROCESSING);
            self.probed_ms = now_ms;
        }
    }

    fn refuse_slow(&mut self, detail: &'static str, now_ms: u64) {
        self.refuse(Response::problem(Status::RequestTimeout, detail), now_ms);
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output[self.output_sent..]
    }

    /// The network has taken the first `count` bytes of [`Connection::output`].
    pub fn sent(&mut self, count: usize, now_ms: u64) {
        self.output_sent = self.output.len().min(self.output_sent + count);
        if self.output_sent < self.output.len() {
            return;
        }
        self.output = Vec::new();
        self.output_sent = 0;
        if !matches!(self.state, State::Answering) {
            return;
        }
        if self.keep_alive && !self.half_closed {
            self.state = State::Head(HeadReader::default());
            self.since_ms = now_ms;
        } else {
            self.flush(now_ms);
        }
    }

    /// The client has received everything that was handed over.
    pub fn delivered(&mut self, now_ms: u64) {
        if matches!(self.state, State::Flushing) {
            self.state = State::Lingering;
            self.since_ms = now_ms;
        }
    }

    /// Whether no request can come any more: what is left is to send the last answer and to part.
    #[must_use]
    pub fn is_finishing(&self) -> bool {
        match self.state {
            State::Answering => !self.keep_alive || self.half_closed,
            State::Flushing | State::Lingering | State::Cut => true,
            State::Streaming => !self.keep_alive,
            State::Head(_) | State::Body(..) | State::Ready(_) | State::Working => false,
        }
    }

    /// What to do with the TCP connection.
    #[must_use]
    pub fn wish(&self) -> Wish {
        match self.state {
            State::Flushing | State::Lingering => Wish::CloseWrite,
            State::Cut => Wish::Cut,
            _ => Wish::Open,
        }
    }
}
