//! The witness's server over sockets: the vectors, its limits, and a log that asks two of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cloister_client::follow::read_view;
use cloister_client::witness::{AskError, Exchange, Stop, ask_witness, serve};
use cloister_transparency::note::Signature;
use cloister_transparency::witness::{
    DirectoryStore, MAX_REQUEST_BYTES, ReplyError, Witness, origin_hash,
};
use cloister_transparency::{KeyType, SigningKey, VerifierKey};
use serde_json::Value;
use tempfile::TempDir;

use super::fixture::{Log, ORIGIN, filling, freshness, key, log_key, policy, witness_key};

pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A witness that is stopped when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    url: String,
    pub(crate) key: VerifierKey,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    stop: Stop,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    state: TempDir,
}

impl Server {
    pub(crate) fn new(key: SigningKey, log: VerifierKey) -> Self {
        let state = tempfile::tempdir().expect("a folder");
        Self::on(state, key, log)
    }

    fn on(state: TempDir, key: SigningKey, log: VerifierKey) -> Self {
        let verifier = key.verifier().clone();
        let store = DirectoryStore::open(state.path()).expect("a folder of its own");
        let witness = Witness::new(key, [log], store).expect("a cosigner");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, exchanges) = (Stop::new(), Arc::new(Mutex::new(Vec::new())));
        let (stopped, seen) = (stop.clone(), Arc::clone(&exchanges));
        let thread = thread::spawn(move || {
            serve(listener, witness, &stopped, move |exchange| {
                seen.lock().expect("no panic").push(exchange.clone());
            })
        });
        Self {
            address,
            url: format!("http://{address}"),
            key: verifier,
            exchanges,
            stop,
            thread: Some(thread),
            state,
        }
    }

    /// Stops it, and gives its state.
    fn end(mut self) -> TempDir {
        self.join();
        std::mem::replace(&mut self.state, tempfile::tempdir().expect("a folder"))
    }

    fn join(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic").expect("served");
        }
    }

    /// Sends bytes and gives the status line with the headers, and the body.
    fn send(&self, request: &[u8]) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a socket");
        // It may close before it has read all that is too long.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        (head.to_lowercase(), body.to_owned())
    }

    fn request(&self, method: &str, path: &str, body: &str) -> (u16, String, String) {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        let (head, body) = self.send(&[head.as_bytes(), body.as_bytes()].concat());
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        let header = head
            .lines()
            .find_map(|line| line.strip_prefix("content-type: "));
        let header = header.unwrap_or_default().to_owned();
        (status.expect("a status"), header, body)
    }

    fn ask(&self, log: &Log, known_size: u64) -> Result<Vec<Signature>, AskError> {
        let mut request = |size| log.log.witness_request(size);
        ask_witness(&self.url, &self.key, TIMEOUT, known_size, &mut request)
    }

    fn statuses(&self) -> Vec<u16> {
        let exchanges = self.exchanges.lock().expect("no panic");
        exchanges.iter().map(|exchange| exchange.status).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.join();
        }
    }
}

/// In order, as the state carries over. A log that is not known is 404 now; the vectors are of an older specification.
#[test]
fn the_conversation_of_the_vectors() {
    let vectors = include_str!("../../../tests/vectors/tlog/witness-add-checkpoint.json");
    let vectors: Value = serde_json::from_str(vectors).expect("JSON");
    let hex = vectors["log_public_key_hex"].as_str().expect("a key");
    let public =
        std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"));
    let origin =
        "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562";
    let log = VerifierKey::new(origin, KeyType::Ed25519, &public).expect("the log's");
    let name = vectors["witness_name"].as_str().expect("a name");
    let server = Server::new(key(name, KeyType::CosignatureV1, 3), log);
    let cases = vectors["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 9);
    let mut cosigned = 0;
    for (number, case) in cases.iter().enumerate() {
        let field = |name: &str| case[name].as_str().unwrap_or_default();
        let sent = server.request(field("method"), field("path"), field("request_body"));
        let (status, content_type, body) = sent;
        let expected = case["expected"][0].as_str().expect("what is expected");
        let wanted = match expected {
            "body contains \"unknown log\"" => 404,
            _ => case["expected_status"].as_u64().expect("a status"),
        };
        assert_eq!(u64::from(status), wanted, "case {number}: {body}");
        match expected.split_once("contains ") {
            Some((_, quoted)) => assert!(body.contains(quoted.trim_matches('"')), "{body}"),
            None => assert_eq!(format!("body == {body:?}"), expected),
        }
        let size = "text/x.tlog.size";
        assert_eq!(content_type == size, status == 409, "{content_type}");
        cosigned += usize::from(status == 200);
    }
    let exchanges = server.exchanges.lock().expect("no panic").clone();
    assert_eq!(exchanges.len(), 9);
    let lines = exchanges.iter().map(ToString::to_string);
    let lines: Vec<String> = lines.filter(|line| line.contains("cosigned")).collect();
    assert_eq!(lines.len(), cosigned);
    assert!(lines.iter().all(|line| line.contains(origin)), "{lines:?}");
}

/// A log that grows asks two witnesses, and what it publishes then is accepted by a policy that wants both.
#[test]
fn a_log_is_cosigned_by_two_witnesses_as_it_grows() {
    let servers = [1, 2].map(|n| Server::new(witness_key(n), log_key().verifier().clone()));
    let mut log = Log::new();
    let mut last = 0;
    for size in [1, 2, 255, 256, 257, 600] {
        log.log.stage(&filling(last..size)).expect("room");
        let lines = servers.iter().map(|server| server.ask(&log, last as u64));
        let lines: Vec<_> = lines.collect::<Result<_, _>>().expect("cosigned");
        log.log.publish(&lines.concat()).expect("published");
        let view = read_view(&log.location(), &policy(true), &[], &freshness(), None);
        assert_eq!(view.expect("a quorum").witnesses.len(), 2);
        last = size;
    }
    for server in &servers {
        assert_eq!(server.statuses(), [200; 6]);
        let path = format!("/{}/checkpoint", origin_hash(ORIGIN));
        let (status, content_type, body) = server.request("GET", &path, "");
        assert_eq!(
            (status, content_type.as_str()),
            (200, "text/plain; charset=utf-8")
        );
        assert!(body.starts_with(&format!("{ORIGIN}\n600\n")), "{body}");
        assert!(
            body.contains(&format!("\u{2014} {} ", server.key.name())),
            "{body}"
        );
    }
}

#[test]
fn a_witness_that_knows_another_size_is_asked_once_more() {
    let server = Server::new(witness_key(1), log_key().verifier().clone());
    let mut log = Log::new();
    log.append(&filling(0..10));
    server.ask(&log, 0).expect("the first");
    log.append(&filling(10..20));
    server.ask(&log, 3).expect("from 10");
    server.ask(&log, 0).expect("the same again");
    assert_eq!(server.statuses(), [200, 409, 200, 409, 200]);
    // The witness remembers when it is started again, and refuses what does not follow.
    let state = server.end();
    let server = Server::on(state, witness_key(1), log_key().verifier().clone());
    let mut other = Log::new();
    other.append(&filling(50..55));
    assert!(matches!(
        server.ask(&other, 0),
        Err(AskError::Ahead {
            witnessed: 20,
            size: 5,
            ..
        })
    ));
    other.append(&filling(55..90));
    assert!(matches!(
        server.ask(&other, 0),
        Err(AskError::Reply {
            error: ReplyError::Refused { status: 422 },
            ..
        })
    ));
    assert_eq!(server.statuses(), [409, 409, 422]);
}

#[test]
fn a_cosignature_by_another_key_is_not_taken() {
    let server = Server::new(witness_key(1), log_key().verifier().clone());
    let mut log = Log::new();
    log.append(&filling(0..1));
    for other in [
        witness_key(2),
        key("w1.example", KeyType::CosignatureV1, 99),
    ] {
        let mut request = |size| log.log.witness_request(size);
        let asked = ask_witness(&server.url, other.verifier(), TIMEOUT, 0, &mut request);
        let error = asked.expect_err("not its key");
        assert!(matches!(
            error,
            AskError::Reply {
                error: ReplyError::Cosignature(_),
                ..
            }
        ));
    }
    let stranger = Server::new(witness_key(1), witness_key(2).verifier().clone());
    assert!(matches!(
        stranger.ask(&log, 0),
        Err(AskError::Reply {
            error: ReplyError::Refused { status: 404 },
            ..
        })
    ));
}

#[test]
fn requests_have_limits() {
    let server = Server::new(witness_key(1), log_key().verifier().clone());
    let status = |method: &str, path: &str, body: &str| server.request(method, path, body).0;
    assert_eq!(status("GET", "/", ""), 404);
    assert_eq!(status("POST", "/other", ""), 404);
    assert_eq!(status("GET", "/add-checkpoint", ""), 405);
    let hash = origin_hash(ORIGIN);
    assert_eq!(status("POST", &format!("/{hash}/checkpoint"), ""), 405);
    assert_eq!(status("GET", &format!("/{hash}/checkpoint"), ""), 404);
    assert_eq!(status("GET", "/../checkpoint", ""), 404);
    assert_eq!(status("POST", "/add-checkpoint", ""), 400);
    let longest = "x".repeat(MAX_REQUEST_BYTES);
    assert_eq!(status("POST", "/add-checkpoint", &longest), 400);
    let longer = format!("{longest}x");
    assert_eq!(status("POST", "/add-checkpoint", &longer), 413);
    // In chunks, so that no length is promised.
    let chunked = "POST /add-checkpoint HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = format!("{chunked}{:x}\r\n{longer}\r\n0\r\n\r\n", longer.len());
    assert!(server.send(chunks.as_bytes()).0.contains(" 413 "));
    let field = format!("X: {}\r\n", "x".repeat(32 << 10));
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{field}\r\n");
    assert!(server.send(head.as_bytes()).0.contains(" 431 "));
    let fields = "X: y\r\n".repeat(100);
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    assert!(server.send(head.as_bytes()).0.contains(" 431 "));
    assert!(server.send(b"nonsense\r\n\r\n").0.contains(" 400 "));
    // It still serves.
    let mut log = Log::new();
    log.append(&filling(0..1));
    server.ask(&log, 0).expect("cosigned");
}
