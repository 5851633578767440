//! Streamed answers from a gateway in this process: what the client shows when, what it refuses, when it hangs up.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use cloister_client::issuer::{self, Admission, Denied, Issuer};
use cloister_client::relay::Stop;
use cloister_client::tokens::{IssuerClient, Purse, PurseError};
use cloister_client::{Client, ClientError, Policy, ReplyStream};
use cloister_protocol::api::problem::{ErrorBody, Problem, TOKEN_REQUIRED};
use cloister_protocol::api::summarize::{Event, Limits, Message, Request, Style, Usage};
use cloister_protocol::api::{events, media, paths};
use cloister_protocol::bhttp::{self, stream};
use cloister_protocol::evidence::{Enclosures, Evidence, Kind, parse_nonce};
use cloister_protocol::ohttp::Gateway;
use cloister_protocol::ohttp::chunked::ResponseSealer;
use cloister_protocol::padding::BUCKETS_BYTES;
use cloister_protocol::records::{self, PAYLOAD_BYTES};
use cloister_tokens::issuer::IssuerKey;
use cloister_tokens::origin::{self, Origin};
use getrandom::SysRng;
use rand_core::UnwrapErr;

const TIMEOUT: Duration = Duration::from_secs(20);

/// The answer to a chunked request, as the gateway writes it.
struct Answer {
    socket: TcpStream,
    sealer: Option<ResponseSealer>,
    alters: bool,
}

impl Answer {
    /// A piece of the chunked coding.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let head = format!("{:x}\r\n", bytes.len());
        self.socket
            .write_all(&[head.as_bytes(), bytes, b"\r\n"].concat())
    }

    /// Whole records of these bytes; one empty record if there are none.
    fn records(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        loop {
            let (record, taken) = records::encode(rest);
            self.chunk(&record[..])?;
            rest = &rest[taken..];
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn chunk(&mut self, content: &[u8]) -> io::Result<()> {
        let sealer = self.sealer.as_mut().expect("not finished");
        let mut sealed = sealer.seal(content).expect("sealed");
        if self.alters {
            *sealed.last_mut().expect("not empty") ^= 1;
        }
        self.write(&sealed)
    }

    /// The last record, which is empty, and the end.
    fn finish(mut self) -> io::Result<()> {
        let sealer = self.sealer.take().expect("not finished");
        let sealed = sealer.finish(&records::encode(b"").0[..]).expect("sealed");
        self.write(&sealed)?;
        self.write(b"")
    }
}

/// What a gateway does with an inner request; it may end early, which cuts the connection.
type Script = dyn Fn(&bhttp::Request, Answer) -> io::Result<()> + Send + Sync;

struct Server {
    url: String,
    keys: Arc<Mutex<Gateway>>,
}

fn gateway() -> Gateway {
    Gateway::generate(&mut UnwrapErr(SysRng))
}

fn serve(
    script: impl Fn(&bhttp::Request, Answer) -> io::Result<()> + Send + Sync + 'static,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let keys = Arc::new(Mutex::new(gateway()));
    let (server, script): (_, Arc<Script>) = (Arc::clone(&keys), Arc::new(script));
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let (keys, script) = (Arc::clone(&server), Arc::clone(&script));
            // What a client does to a connection is not this server's fault.
            std::thread::spawn(move || serve_one(socket, &keys, &*script));
        }
    });
    Server { url, keys }
}

fn serve_one(socket: TcpStream, keys: &Mutex<Gateway>, script: &Script) -> io::Result<()> {
    let mut reader = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head)?;
    }
    let head = head.to_ascii_lowercase();
    let field = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let length = field("content-length:").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut socket = reader.into_inner();
    let target = head.split(' ').nth(1).expect("a target");
    if let Some(nonce) = target.strip_prefix(&format!("{}?nonce=", paths::EVIDENCE)) {
        let evidence = Evidence {
            tls_public_key: Vec::new(),
            kind: Kind::None,
            key_configs: keys.lock().expect("no panic").key_configs(),
            epoch: 1,
            nonce: parse_nonce(nonce),
            enclosures: Enclosures::default(),
        };
        return reply(&mut socket, 200, media::CMW_CBOR, &evidence.encode());
    }
    assert_eq!(field("content-type:"), Some(media::OHTTP_CHUNKED_REQUEST));
    let opened = keys.lock().expect("no panic").decapsulate_chunked(&body);
    let (message, key) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let problem = Problem::from(error);
            return reply(
                &mut socket,
                problem.status,
                media::PROBLEM_JSON,
                &problem.to_json(),
            );
        }
    };
    assert!(BUCKETS_BYTES.contains(&message.len()), "padded to a bucket");
    let request = bhttp::Request::decode(&message, &bhttp::Limits::DEFAULT).expect("binary HTTP");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        media::OHTTP_CHUNKED_RESPONSE
    );
    socket.write_all(head.as_bytes())?;
    let (nonce, sealer) = key.start(&mut UnwrapErr(SysRng));
    let mut answer = Answer {
        socket,
        sealer: Some(sealer),
        alters: false,
    };
    answer.write(&nonce)?;
    script(&request, answer)
}

fn reply(socket: &mut TcpStream, status: u16, media_type: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(&[head.as_bytes(), body].concat())
}

/// The head of an event stream.
fn head() -> Vec<u8> {
    let response = bhttp::Response::new(200)
        .with_header("content-type", "text/event-stream")
        .expect("valid");
    let mut out = Vec::new();
    stream::put_head(&mut out, &response).expect("a final status");
    out
}

fn piece(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    stream::put_content(&mut out, content);
    out
}

fn end() -> Vec<u8> {
    let mut out = Vec::new();
    stream::put_end(&mut out);
    out
}

fn connect(server: &Server) -> Client {
    let policy = Policy {
        accept_unattested: true,
        ..Policy::default()
    };
    Client::connect(&server.url, TIMEOUT, policy).expect("accepted")
}

fn open(server: &Server) -> Result<ReplyStream, ClientError> {
    let request = bhttp::Request::new("POST", "/v1/any")
        .with_content(media::JSON, b"{}".to_vec())
        .expect("valid");
    connect(server).stream(&request)
}

fn read_some(stream: &mut ReplyStream) -> String {
    let mut buffer = [0; 1000];
    let count = stream.read(&mut buffer).expect("content");
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

fn error_of(error: io::Error) -> ClientError {
    let inner = error.into_inner().expect("an error of ours");
    *inner.downcast::<ClientError>().expect("an error of ours")
}

#[test]
fn content_is_there_before_the_rest_is_sent() {
    let (seen, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let server = serve(move |request, mut answer| {
        assert_eq!(
            (request.path.as_str(), &request.content[..]),
            ("/v1/any", &b"{}"[..])
        );
        answer.records(b"")?;
        answer.records(&[head(), piece(b"first")].concat())?;
        gate.lock()
            .expect("no panic")
            .recv()
            .expect("the client has read");
        answer.records(b"")?;
        answer.records(&[piece(b" second"), end()].concat())?;
        answer.records(b"")?;
        answer.finish()
    });
    let mut stream = open(&server).expect("an answer");
    assert_eq!(stream.status(), 200);
    assert_eq!(
        stream.head().field("content-type"),
        Some(&b"text/event-stream"[..])
    );
    assert_eq!(read_some(&mut stream), "first");
    seen.send(()).expect("the server waits");
    assert_eq!(read_some(&mut stream), " second");
    assert_eq!(read_some(&mut stream), "");
    stream.finish().expect("the end is right");
}

#[test]
fn long_content_comes_over_many_records() {
    let long = "0123456789".repeat(PAYLOAD_BYTES);
    let content = long.clone();
    let server = serve(move |_, mut answer| {
        answer.records(&[head(), piece(content.as_bytes()), end()].concat())?;
        answer.finish()
    });
    let mut stream = open(&server).expect("an answer");
    let mut read = String::new();
    stream.read_to_string(&mut read).expect("content");
    assert_eq!(read, long);
}

#[test]
fn the_status_may_come_late_and_problems_keep_their_words() {
    let server = serve(|_, mut answer| {
        for _ in 0..5 {
            answer.records(b"")?;
        }
        let problem = Problem::from_status(413).with_detail("the prompt has too many tokens");
        let response = bhttp::Response::new(413)
            .with_content(media::PROBLEM_JSON, problem.to_json())
            .expect("valid");
        answer.records(&response.encode().expect("valid"))?;
        answer.finish()
    });
    let stream = open(&server).expect("an answer");
    assert_eq!(stream.status(), 413);
    let error = stream.expect_ok().err().expect("a problem");
    assert!(matches!(error, ClientError::Problem { sealed: true, .. }));
    assert!(error.to_string().contains("too many tokens"), "{error}");
}

#[test]
fn a_stream_that_is_cut_is_an_error() {
    // Before the head, in the content, and after it.
    let server = serve(|_, mut answer| answer.records(b""));
    assert!(open(&server).is_err());
    let server = serve(|_, mut answer| answer.records(&[head(), piece(b"half")].concat()));
    let mut stream = open(&server).expect("an answer");
    assert_eq!(read_some(&mut stream), "half");
    assert!(stream.read(&mut [0; 10]).is_err());
    let server = serve(|_, mut answer| answer.records(&[head(), piece(b"all"), end()].concat()));
    let mut stream = open(&server).expect("an answer");
    let mut content = String::new();
    stream.read_to_string(&mut content).expect("all of it");
    assert_eq!(content, "all");
    assert!(stream.finish().is_err(), "the last record is missing");
}

/// The error of a stream that goes on like this once its first piece was read.
fn error_after_the_first_piece(
    goes_on: impl Fn(&mut Answer) -> io::Result<()> + Send + Sync + 'static,
) -> ClientError {
    let (seen, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let server = serve(move |_, mut answer| {
        answer.records(&[head(), piece(b"right")].concat())?;
        gate.lock()
            .expect("no panic")
            .recv()
            .expect("the client has read");
        goes_on(&mut answer)
    });
    let mut stream = open(&server).expect("an answer");
    assert_eq!(read_some(&mut stream), "right");
    seen.send(()).expect("the server waits");
    let error = error_of(stream.read(&mut [0; 10]).expect_err("not believed"));
    assert!(stream.read(&mut [0; 10]).is_err(), "an error is no end");
    assert!(stream.finish().is_err());
    error
}

#[test]
fn altered_and_uneven_records_are_not_believed() {
    let error = error_after_the_first_piece(|answer| {
        answer.alters = true;
        answer.records(&piece(b"wrong"))
    });
    assert!(matches!(error, ClientError::Open(_)), "{error}");
    let error = error_after_the_first_piece(|answer| answer.chunk(&[0; 100]));
    assert!(matches!(error, ClientError::Record(_)), "{error}");
}

/// More than any socket's buffers hold.
const MANY_RECORDS: usize = 40_000;

#[test]
fn the_end_of_the_content_is_not_shown_and_leaving_before_it_is() {
    for is_complete in [true, false] {
        let (dropped, gate) = mpsc::channel::<()>();
        let (told, outcome) = mpsc::channel::<bool>();
        let (gate, told) = (Mutex::new(gate), Mutex::new(told));
        let server = serve(move |_, mut answer| {
            let end = if is_complete { end() } else { Vec::new() };
            answer.records(&[head(), piece(b"all"), end].concat())?;
            gate.lock()
                .expect("no panic")
                .recv()
                .expect("the client has left");
            let sent = (0..MANY_RECORDS).all(|_| answer.records(b"").is_ok());
            let sent = sent && answer.finish().is_ok();
            told.lock()
                .expect("no panic")
                .send(sent)
                .expect("the test waits");
            Ok(())
        });
        let mut stream = open(&server).expect("an answer");
        assert_eq!(read_some(&mut stream), "all");
        drop(stream);
        dropped.send(()).expect("the server waits");
        let sent = outcome.recv_timeout(TIMEOUT).expect("the server ends");
        assert_eq!(sent, is_complete);
    }
}

fn event(event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    events::put(&mut out, &event.to_json());
    piece(&out)
}

/// A summary in two pieces, the second after `gate`.
fn serve_summary(gate: mpsc::Receiver<()>) -> Server {
    let gate = Mutex::new(gate);
    serve(move |request, mut answer| {
        assert_eq!(request.path, paths::SUMMARIZE);
        let read = Request::from_json_streamed(&request.content, &Limits::DEFAULT);
        assert!(read.expect("a request").1, "it asks for a stream");
        answer.records(&[head(), event(&Event::piece("- one"))].concat())?;
        gate.lock()
            .expect("no panic")
            .recv()
            .expect("the client has read");
        let mut done = Vec::new();
        events::put(&mut done, events::DONE.as_bytes());
        let last = [
            event(&Event::piece("\n- two\u{1b}")),
            event(&Event::end(Usage::default(), "test")),
            piece(&done),
            end(),
        ];
        answer.records(&last.concat())?;
        answer.finish()
    })
}

#[test]
fn a_summary_comes_in_pieces() {
    let (seen, gate) = mpsc::channel();
    let client = connect(&serve_summary(gate));
    let request = Request {
        messages: vec![Message::new("Ana", "Hi")],
        style: Style::Bullets,
        max_tokens: None,
    };
    let mut pieces = client.summarize_streamed(&request).expect("an answer");
    let mut next = || {
        pieces
            .next()
            .map(|piece| piece.expect("a piece").to_string())
    };
    assert_eq!(next().as_deref(), Some("- one"));
    seen.send(()).expect("the server waits");
    assert_eq!(next().as_deref(), Some("\n- two\u{1b}"));
    assert_eq!(next(), None);
    let (usage, model) = pieces.finish().expect("the end");
    assert_eq!((usage, model.as_str()), (Usage::default(), "test"));
}

#[test]
fn the_command_shows_a_summary_while_it_is_written() {
    let (seen, gate) = mpsc::channel();
    let server = serve_summary(gate);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_cloister"))
        .args([
            "ask",
            "--stream",
            "--insecure-no-attestation",
            "--server",
            &server.url,
        ])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(b"A text.").expect("read");
    drop(input);
    let mut output = child.stdout.take().expect("piped");
    let mut first = [0; 5];
    output.read_exact(&mut first).expect("the first piece");
    assert_eq!(&first, b"- one");
    seen.send(()).expect("the server waits");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("text");
    assert!(
        rest.starts_with("\n- two\u{fffd}\n\nWritten by a machine"),
        "{rest}"
    );
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_summary_that_fails_or_is_cut_in_the_middle_is_an_error() {
    let outcome = |server: Server| {
        let request = Request {
            messages: vec![Message::new("Ana", "Hi")],
            style: Style::Bullets,
            max_tokens: None,
        };
        let pieces = connect(&server)
            .summarize_streamed(&request)
            .expect("an answer");
        let outcomes: Vec<_> = pieces.take(3).collect();
        assert_eq!(outcomes.len(), 2);
        assert!(outcomes[0].is_ok());
        outcomes[1]
            .as_ref()
            .map(drop)
            .expect_err("an error")
            .to_string()
    };
    let server = serve(|_, mut answer| {
        let mut failed = Event::piece("");
        failed.error = Some(ErrorBody {
            message: "no memory is left".to_owned(),
            ..ErrorBody::default()
        });
        let all = [head(), event(&Event::piece("- one")), event(&failed), end()];
        answer.records(&all.concat())?;
        answer.finish()
    });
    assert!(outcome(server).contains("no memory is left"));
    let server = serve(|_, mut answer| {
        answer.records(&[head(), event(&Event::piece("- one")), end()].concat())?;
        answer.finish()
    });
    assert!(outcome(server).contains("cut short"));
}

#[test]
fn a_new_key_is_fetched_once() {
    let server = serve(|_, mut answer| {
        answer.records(&[head(), piece(b"new"), end()].concat())?;
        answer.finish()
    });
    let client = connect(&server);
    *server.keys.lock().expect("no panic") = gateway();
    let mut stream = client
        .stream(&bhttp::Request::new("GET", "/"))
        .expect("the second try");
    assert_eq!(read_some(&mut stream), "new");
}

/// Lets everybody in.
struct Everybody;

impl Admission for Everybody {
    fn admit(&mut self, _: Option<&str>, _: u64) -> Result<String, Denied> {
        Ok("somebody".to_owned())
    }
}

/// An answer that refuses, with the challenge of this origin.
fn refusal(origin: &Origin, kind: &str) -> Vec<u8> {
    let response = bhttp::Response::new(401)
        .with_header("content-type", media::PROBLEM_JSON)
        .and_then(|answer| answer.with_header("www-authenticate", origin.offer(0).to_field()))
        .expect("valid");
    let mut out = Vec::new();
    stream::put_head(&mut out, &response).expect("a final status");
    let problem = Problem::new(401, kind, "words");
    [out, piece(&problem.to_json()), end()].concat()
}

#[test]
fn a_stream_that_needs_a_token_is_asked_for_again_with_one() {
    let key = IssuerKey::generate(&mut UnwrapErr(SysRng)).expect("a key");
    let named = origin::Issuer {
        name: "issuer.example".to_owned(),
        token_key: key.public().clone(),
        origin_info: String::new(),
    };
    let limits = origin::Limits::DEFAULT;
    let origin = Origin::new(named, limits, &mut UnwrapErr(SysRng), 0).expect("an origin");
    let origin = Mutex::new(origin);
    let server = serve(move |request, mut answer| {
        let mut origin = origin.lock().expect("no panic");
        let checked = origin.check(request.field("authorization"));
        let records = match checked.and_then(|token| origin.spend(token)) {
            Ok(()) => [head(), piece(b"served"), end()].concat(),
            Err(_) => refusal(&origin, TOKEN_REQUIRED),
        };
        answer.records(&records)?;
        answer.finish()
    });
    let error = open(&server).err().expect("there is no token");
    let is_none = matches!(error, ClientError::Tokens(PurseError::None { .. }));
    assert!(is_none, "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let stop = Stop::new();
    let until = stop.clone();
    let issuing = std::thread::spawn(move || {
        let issuer = Issuer {
            keys: vec![key],
            admission: Everybody,
        };
        issuer::serve(listener, issuer, &until, |_| {})
    });
    let issuer = IssuerClient::new(&url, "anything", TIMEOUT).expect("an address");
    let client = connect(&server).with_tokens(Purse::new(None, Some(issuer), 2));
    let request = bhttp::Request::new("POST", "/v1/any");
    for _ in 0..3 {
        let mut stream = client.stream(&request).expect("served");
        assert_eq!(
            (stream.status(), read_some(&mut stream).as_str()),
            (200, "served")
        );
        stream.finish().expect("the end is right");
    }
    stop.stop();
    issuing.join().expect("no panic").expect("it served");
}

#[test]
fn another_refusal_can_be_read_after_it_was_looked_at() {
    let named = origin::Issuer {
        name: "issuer.example".to_owned(),
        token_key: IssuerKey::generate(&mut UnwrapErr(SysRng))
            .expect("a key")
            .public()
            .clone(),
        origin_info: String::new(),
    };
    let limits = origin::Limits::DEFAULT;
    let origin = Origin::new(named, limits, &mut UnwrapErr(SysRng), 0).expect("an origin");
    let server = serve(move |_, mut answer| {
        answer.records(&refusal(&origin, "about:blank"))?;
        answer.finish()
    });
    let mut stream = open(&server).expect("an answer");
    let mut content = Vec::new();
    stream.read_to_end(&mut content).expect("content");
    let problem = Problem::from_json(&content).expect("a problem");
    assert_eq!(
        (stream.status(), problem.kind.as_str()),
        (401, "about:blank")
    );
    stream.finish().expect("the end is right");
}
