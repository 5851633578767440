//! A server in this process: the real protocol, and a model that says what it was told.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use cloister_protocol::api::models::Models;
use cloister_protocol::api::problem::{self, Problem};
use cloister_protocol::api::{media, paths};
use cloister_protocol::bhttp::{self, stream};
use cloister_protocol::evidence::{Enclosures, Evidence, Kind, parse_nonce};
use cloister_protocol::keyconfig::Epoch;
use cloister_protocol::ohttp::Gateway;
use cloister_protocol::records;
use cloister_tokens::origin::{self, Limits, Origin, Refusal};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde_json::{Value, json};

use super::raw::{read_message, wait_until};

/// From one record to the next.
const TICK: Duration = Duration::from_millis(2);
/// The fewest records of an answer.
const RECORDS: usize = 16;

/// How a streamed answer ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Well,
    /// Empty records until the client leaves.
    Never,
    /// In the middle.
    Cut,
}

/// The server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    gateway: Mutex<Gateway>,
    seen: Mutex<Vec<String>>,
    /// Streams that a client ended.
    cancelled: AtomicUsize,
    /// Streams that came to their end.
    completed: AtomicUsize,
    stale: Mutex<bool>,
    /// SubjectPublicKeyInfo, DER; none where it is empty.
    tls_public_key: Mutex<Vec<u8>>,
    /// Who takes tokens; without one, everybody is let in.
    origin: Mutex<Option<Origin>>,
    /// What came of requests that make work, and their tokens.
    shown: Mutex<Vec<Shown>>,
}

/// A request came to the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) field: Vec<u8>,
    pub(crate) outcome: Result<(), Refusal>,
}

fn gateway(number: u64, lasts: Duration) -> Gateway {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let start_s = now.unwrap().as_secs();
    let epoch = Epoch {
        number,
        start_s,
        end_s: start_s + lasts.as_secs(),
    };
    Gateway::generate_for_epoch(&mut UnwrapErr(SysRng), epoch)
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with_epoch(Duration::from_secs(3600))
    }

    /// Its first epoch lasts so long.
    pub(crate) fn with_epoch(lasts: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::new(Shared {
                gateway: Mutex::new(gateway(1, lasts)),
                seen: Mutex::default(),
                cancelled: AtomicUsize::new(0),
                completed: AtomicUsize::new(0),
                stale: Mutex::new(false),
                tls_public_key: Mutex::default(),
                origin: Mutex::default(),
                shown: Mutex::default(),
            }),
        };
        let shared = Arc::clone(&server.shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // The client may end it at any point.
                thread::spawn(move || shared.converse(stream));
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// New keys; requests to the old ones are answered as RFC 9458 says.
    pub(crate) fn rotate(&self) {
        let mut gateway_in_use = self.shared.gateway.lock().unwrap();
        let number = gateway_in_use.epoch().unwrap().number + 1;
        *gateway_in_use = gateway(number, Duration::from_secs(3600));
    }

    /// From now on its evidence is an old one.
    pub(crate) fn spoil_evidence(&self) {
        *self.shared.stale.lock().unwrap() = true;
    }

    /// From now on its evidence binds this TLS key.
    pub(crate) fn bind_tls_key(&self, public_key: &[u8]) {
        *self.shared.tls_public_key.lock().unwrap() = public_key.to_vec();
    }

    /// From now on each request that makes work needs a token of this issuer, for a challenge of now.
    pub(crate) fn demand_tokens(&self, issuer: origin::Issuer) {
        let limits = Limits {
            capacity: 1024,
            ..Limits::DEFAULT
        };
        let origin = Origin::new(issuer, limits, &mut UnwrapErr(SysRng), 0).unwrap();
        *self.shared.origin.lock().unwrap() = Some(origin);
    }

    /// What came to the gate since this was last asked.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        std::mem::take(&mut *self.shared.shown.lock().unwrap())
    }

    /// How often evidence was asked for.
    pub(crate) fn looks(&self) -> usize {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().filter(|path| *path == paths::EVIDENCE).count()
    }

    /// Inner requests, in order.
    pub(crate) fn inner(&self) -> Vec<String> {
        let seen = self.shared.seen.lock().unwrap();
        let inner = seen.iter().filter(|path| path.starts_with("/v1/"));
        inner.cloned().collect()
    }

    pub(crate) fn wait_for_cancellation(&self) {
        wait_until(|| self.shared.cancelled.load(Ordering::SeqCst) > 0);
    }

    pub(crate) fn wait_for_completion(&self) {
        wait_until(|| self.shared.completed.load(Ordering::SeqCst) > 0);
    }
}

impl Shared {
    fn see(&self, path: &str) {
        self.seen.lock().unwrap().push(path.to_owned());
    }

    fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        while let Some(message) = read_message(&mut stream, |_| ())? {
            let end = message.windows(4).position(|four| four == b"\r\n\r\n");
            let (head, body) = message.split_at(end.unwrap() + 4);
            let head = String::from_utf8(head.to_vec()).unwrap();
            let target = head.split(' ').nth(1).unwrap();
            if target.starts_with(paths::EVIDENCE) {
                self.see(paths::EVIDENCE);
                stream.write_all(&whole(200, media::CMW_CBOR, &self.evidence(target)))?;
            } else if head.contains(media::OHTTP_CHUNKED_REQUEST) {
                self.stream(&mut stream, body)?;
            } else {
                stream.write_all(&self.answer(body))?;
            }
        }
        Ok(())
    }

    fn evidence(&self, target: &str) -> Vec<u8> {
        let nonce = target
            .split_once('=')
            .and_then(|(_, nonce)| parse_nonce(nonce));
        let gateway = self.gateway.lock().unwrap();
        Evidence {
            tls_public_key: self.tls_public_key.lock().unwrap().clone(),
            kind: Kind::None,
            key_configs: gateway.key_configs(),
            epoch: gateway.epoch().unwrap().number,
            nonce: nonce.filter(|_| !*self.stale.lock().unwrap()),
            enclosures: Enclosures::default(),
        }
        .encode()
    }

    fn answer(&self, body: &[u8]) -> Vec<u8> {
        let opened = self.gateway.lock().unwrap().decapsulate(body);
        match opened {
            Err(error) => {
                let problem = Problem::from(error);
                whole(problem.status, media::PROBLEM_JSON, &problem.to_json())
            }
            Ok((opened, sealer)) => {
                let (response, _) = self.inner(&opened);
                let padded = response.encode_padded().unwrap();
                let sealed = sealer.seal(&mut UnwrapErr(SysRng), &padded);
                whole(200, media::OHTTP_RESPONSE, &sealed)
            }
        }
    }

    /// The answer to an inner request, and how it ends where it is streamed.
    fn inner(&self, opened: &[u8]) -> (bhttp::Response, End) {
        let request = bhttp::Request::decode(opened, &bhttp::Limits::DEFAULT).unwrap();
        if let Some(refusal) = self.refusal(&request) {
            return (refusal, End::Well);
        }
        let fields = request.header.len() - usize::from(request.field("authorization").is_some());
        assert!(
            fields <= 1,
            "nothing of the program's fields: {:?}",
            request.header
        );
        self.see(&request.path);
        let ok = |kind: &str, content: Vec<u8>| {
            let response = bhttp::Response::new(200).with_content(kind, content);
            (response.unwrap(), End::Well)
        };
        if request.path == paths::MODELS {
            let models = Models::new([("fake", &[0xab; 32], 2048)]);
            return ok(media::JSON, models.to_json());
        }
        assert_eq!(request.field("content-type"), Some(media::JSON.as_bytes()));
        let asked: Value = serde_json::from_slice(&request.content).unwrap_or_default();
        if request.path != paths::CHAT_COMPLETIONS {
            let answer = json!({ "path": request.path, "asked": asked });
            return ok(media::JSON, answer.to_string().into_bytes());
        }
        let said = asked["messages"].as_array().and_then(|all| all.last());
        let Some(said) = said.and_then(|message| message["content"].as_str()) else {
            let problem = Problem {
                field: Some("messages".to_owned()),
                ..Problem::new(422, problem::INVALID_FIELD, "there is no message")
            };
            let response =
                bhttp::Response::new(422).with_content(media::PROBLEM_JSON, problem.to_json());
            return (response.unwrap(), End::Well);
        };
        if asked["stream"] != true {
            return ok(media::JSON, completion(said));
        }
        let (response, _) = ok(media::EVENT_STREAM, events(said));
        let end = match said {
            "forever" => End::Never,
            "cut" => End::Cut,
            _ => End::Well,
        };
        (response, end)
    }

    /// The answer to a request that is not let in.
    fn refusal(&self, request: &bhttp::Request) -> Option<bhttp::Response> {
        let mut origin = self.origin.lock().unwrap();
        let field = request.field("authorization");
        let Some(origin) = origin.as_mut().filter(|_| request.method == "POST") else {
            assert_eq!(field, None, "a token that nobody asked for");
            return None;
        };
        let outcome = origin.check(field).and_then(|token| origin.spend(token));
        self.shown.lock().unwrap().push(Shown {
            field: field.unwrap_or_default().to_vec(),
            outcome,
        });
        let refusal = outcome.err()?;
        let kind = match refusal {
            Refusal::Missing => problem::TOKEN_REQUIRED,
            Refusal::Spent => problem::TOKEN_SPENT,
            _ => problem::TOKEN_INVALID,
        };
        let problem = Problem::new(401, kind, refusal.to_string());
        let answer = bhttp::Response::new(401)
            .with_content(media::PROBLEM_JSON, problem.to_json())
            .and_then(|answer| answer.with_header("www-authenticate", origin.offer(0).to_field()));
        Some(answer.unwrap())
    }

    fn stream(&self, out: &mut TcpStream, body: &[u8]) -> io::Result<()> {
        let started = self.gateway.lock().unwrap().start_chunked(body);
        let (mut opener, used) = match started {
            Ok(started) => started,
            Err(error) => {
                let problem = Problem::from(error);
                return out.write_all(&whole(
                    problem.status,
                    media::PROBLEM_JSON,
                    &problem.to_json(),
                ));
            }
        };
        let mut opened = Vec::new();
        for chunk in opener.push(&body[used..]).unwrap() {
            opened.extend_from_slice(&chunk);
        }
        let (last, key) = opener.finish().unwrap();
        opened.extend_from_slice(&last);
        let (response, end) = self.inner(&opened);
        let mut message = Vec::new();
        stream::put_head(&mut message, &response).unwrap();
        for piece in response.content.chunks(50) {
            stream::put_content(&mut message, piece);
        }
        if end == End::Well {
            stream::put_end(&mut message);
        }
        let (nonce, mut sealer) = key.start(&mut UnwrapErr(SysRng));
        let head = "HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-chunked-res\r\ntransfer-encoding: chunked\r\n\r\n";
        self.counted(out.write_all(head.as_bytes()))?;
        self.counted(put_chunk(out, &nonce))?;
        let (mut rest, mut count) = (&message[..], 0);
        // A few empty ones at the end, as a bucket has.
        while end == End::Never || !rest.is_empty() || count < RECORDS {
            if end == End::Cut && count == 2 {
                return out.shutdown(Shutdown::Both);
            }
            let (record, taken) = records::encode(rest);
            rest = &rest[taken..];
            count += 1;
            self.counted(put_chunk(out, &sealer.seal(&record[..]).unwrap()))?;
            thread::sleep(TICK);
        }
        let (record, _) = records::encode(b"");
        put_chunk(out, &sealer.finish(&record[..]).unwrap())?;
        out.write_all(b"0\r\n\r\n")?;
        self.completed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// What cannot be written any more, from the first byte of an answer on, was ended by the client.
    fn counted(&self, written: io::Result<()>) -> io::Result<()> {
        written.inspect_err(|_| {
            self.cancelled.fetch_add(1, Ordering::SeqCst);
        })
    }
}

fn put_chunk(out: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let head = format!("{:x}\r\n", bytes.len());
    out.write_all(&[head.as_bytes(), bytes, b"\r\n"].concat())
}

fn whole(status: u16, media_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// What the model says.
fn words(said: &str) -> Vec<String> {
    let words = format!("You said: {said}");
    words.split_inclusive(' ').map(str::to_owned).collect()
}

fn completion(said: &str) -> Vec<u8> {
    let answer = json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "fake",
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": words(said).concat() },
            "finish_reason": "stop",
        }],
        "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 },
    });
    answer.to_string().into_bytes()
}

fn events(said: &str) -> Vec<u8> {
    let event = |delta: Value, finish: Value| {
        let chunk = json!({
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1_790_000_000,
            "model": "fake",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
        });
        format!("data: {chunk}\n\n")
    };
    let mut text = event(json!({ "role": "assistant", "content": "" }), Value::Null);
    for word in words(said) {
        text += &event(json!({ "content": word }), Value::Null);
    }
    text += &event(json!({}), "stop".into());
    text += "data: [DONE]\n\n";
    text.into_bytes()
}

/// Everything that comes, until it ends in whatever way.
pub(crate) fn read_all(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received);
    String::from_utf8_lossy(&received).into_owned()
}
