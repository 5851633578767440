//! A whole guest on the host, for tests: card, stack, server, and a model that repeats what it was told.

use std::cell::Cell;
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec::Vec;

use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::summarize::{self, Request};
use cloister_protocol::api::{chat, media, paths};
use cloister_protocol::bhttp;
use cloister_protocol::evidence::Enclosures;
use cloister_protocol::keyconfig::{self, KeyConfigList};
use cloister_protocol::ohttp::{Client as OhttpClient, ResponseOpener, chunked};
use cloister_protocol::records;
use zeroize::Zeroizing;

use super::gate::Gate;
use super::generator::{self, Generator, ModelInfo, Progress, Task};
use super::keys::{Attester, Lifetime};
use super::server::{OVERFLOW_PLACES, Server, Settings};
use crate::device::virtio::PciTransport;
use crate::entropy::Drbg;
use crate::http;
use crate::net::Stack;
use crate::net::lan::{Client, Lan};
use crate::platform::Evidence;
use crate::tls::{Identity, Tls};

/// A model that repeats what it was told, see [`Script`].
pub(super) struct Parrot {
    live: Rc<Cell<usize>>,
    begun: usize,
    /// Most jobs that have room at one time.
    room: Rc<Cell<usize>>,
    stepped: bool,
}

pub(super) struct ParrotJob {
    script: Script,
    has_begun: bool,
    live: Rc<Cell<usize>>,
}

/// What a job says, the next word last; each word takes a step. `~9` is nine steps without a word, `fail` fails.
struct Script {
    words: Vec<String>,
    silent_steps: u32,
    at_end: Vec<String>,
}

impl Script {
    /// A summary is the first message, after as many steps as `max_tokens` says; if it is shown, that is a script. So
    /// is the last message of a conversation, whose words are divided by `|`. Other wordings are those words.
    fn of(task: &Task) -> Self {
        let words = |text: &str| text.split('|').rev().map(String::from).collect::<Vec<_>>();
        match task {
            Task::Summary(request, is_shown) => {
                let text = request.messages[0].text.clone();
                let (words, at_end) = match (text.as_str(), is_shown) {
                    ("fail", _) => (words("fail"), Vec::new()),
                    (_, true) => (words(&text), Vec::new()),
                    (_, false) => (Vec::new(), [text].to_vec()),
                };
                Self {
                    words,
                    silent_steps: request.max_tokens.unwrap_or(1) - 1,
                    at_end,
                }
            }
            Task::Rewrite(request) => Self {
                words: Vec::new(),
                silent_steps: 0,
                at_end: request.text.split('|').map(String::from).collect(),
            },
            Task::Chat(request) => Self {
                words: words(&request.messages.last().unwrap().content),
                silent_steps: 0,
                at_end: Vec::new(),
            },
        }
    }

    fn step(&mut self) -> Progress {
        if self.silent_steps > 0 {
            self.silent_steps -= 1;
            return Progress::Working;
        }
        match self.words.pop() {
            Some(word) if word == "fail" => {
                Progress::Failed(Problem::from_status(500).with_detail("failed"))
            }
            Some(word) => match word.strip_prefix('~') {
                Some(steps) => {
                    self.silent_steps = steps.parse::<u32>().unwrap() - 1;
                    Progress::Working
                }
                None => Progress::Text(Zeroizing::new(word)),
            },
            None => Progress::Done(generator::Answer {
                texts: self.at_end.drain(..).map(Zeroizing::new).collect(),
                prompt_tokens: 7,
                output_tokens: 5,
                parts: 1,
                finish: chat::Finish::Stop,
            }),
        }
    }
}

impl Drop for ParrotJob {
    fn drop(&mut self) {
        self.live.set(self.live.get() - 1);
    }
}

impl Generator for Parrot {
    type Job = ParrotJob;

    fn model(&self) -> ModelInfo<'_> {
        ModelInfo {
            name: "parrot",
            digest: &[0xaa; 32],
            context_tokens: 2048,
        }
    }

    fn start(&mut self, task: Task) -> Result<ParrotJob, Problem> {
        let script = Script::of(&task);
        if [&script.words, &script.at_end].contains(&&["refuse".to_string()].to_vec()) {
            return Err(Problem::from_status(422).with_detail("refused"));
        }
        self.live.set(self.live.get() + 1);
        Ok(ParrotJob {
            script,
            has_begun: false,
            live: Rc::clone(&self.live),
        })
    }

    fn step(&mut self) {
        self.stepped = true;
    }

    fn advance(&mut self, job: &mut ParrotJob, may_begin: bool) -> Progress {
        assert!(self.stepped, "there is a step before its results");
        if !job.has_begun {
            if !may_begin || self.begun >= self.room.get() {
                return Progress::Waiting;
            }
            self.begun += 1;
            job.has_begun = true;
            return Progress::Begun;
        }
        let progress = job.script.step();
        if matches!(progress, Progress::Done(_) | Progress::Failed(_)) {
            self.begun -= 1;
        }
        progress
    }

    fn cancel(&mut self, job: ParrotJob) {
        self.begun -= usize::from(job.has_begun);
    }
}

/// One guest, its network, and a clock that only tests move.
pub(super) struct World {
    pub(super) lan: Lan,
    pub(super) stack: Stack<PciTransport>,
    pub(super) server: Server<Parrot>,
    pub(super) tls: Option<Tls>,
    /// Jobs that hold memory at the moment.
    pub(super) live: Rc<Cell<usize>>,
    /// Most jobs that have room in the model at one time.
    pub(super) room: Rc<Cell<usize>>,
    rng: Drbg,
}

/// An answer as a client sees it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_model(true)
    }

    pub(super) fn with_model(has_model: bool) -> Self {
        Self::with_gate(has_model, Gate::default())
    }

    pub(super) fn with_gate(has_model: bool, gate: Gate) -> Self {
        Self::build(has_model, gate, Lifetime::of_epoch(3600), None)
    }

    /// With key epochs of so many seconds.
    pub(super) fn with_epoch(epoch_s: u32) -> Self {
        Self::build(true, Gate::default(), Lifetime::of_epoch(epoch_s), None)
    }

    /// With TLS on the port.
    pub(super) fn with_tls(identity: &Identity) -> Self {
        let lifetime = Lifetime::of_epoch(3600);
        Self::build(true, Gate::default(), lifetime, Some(identity))
    }

    fn build(has_model: bool, gate: Gate, keys: Lifetime, identity: Option<&Identity>) -> Self {
        let settings = Settings {
            connections: 64,
            request_bytes: 256 * 1024,
            http: http::Limits::default(),
            summarize: summarize::Limits::DEFAULT,
            start_s: 1_800_000_000,
            keys,
            attester: Attester {
                attest: |_| Evidence::None,
                tls_public_key: identity
                    .map(|identity| identity.public_key().to_vec())
                    .unwrap_or_default(),
                enclosures: Enclosures::default(),
            },
            gate,
            heap_used: || 4711,
        };
        let places = settings.connections + OVERFLOW_PLACES;
        let handshake_ms = settings.http.header_ms;
        let tls = identity.map(|identity| Tls::new(identity, places, handshake_ms));
        let (lan, stack) = Lan::with_address(places);
        let live = Rc::new(Cell::new(0));
        let room = Rc::new(Cell::new(usize::MAX));
        let generator = has_model.then(|| Parrot {
            live: Rc::clone(&live),
            begun: 0,
            room: Rc::clone(&room),
            stepped: false,
        });
        let rng = Drbg::from_seed([1; 32]);
        let server = Server::new(settings, generator, rng, places, lan.now_us / 1000);
        Self {
            lan,
            stack,
            server,
            tls,
            live,
            room,
            rng: Drbg::from_seed([2; 32]),
        }
    }

    pub(super) fn turn(&mut self) {
        self.lan.turn(&mut self.stack);
        self.server.network_served(self.lan.now_us);
        self.server_turn();
    }

    /// The server's part of a turn.
    pub(super) fn server_turn(&mut self) {
        let now_ms = self.lan.now_us / 1000;
        match &mut self.tls {
            Some(tls) => {
                let mut clear = tls.over(&mut self.stack, now_ms);
                self.server.turn(&mut clear, now_ms)
            }
            None => self.server.turn(&mut self.stack, now_ms),
        };
    }

    pub(super) fn turns(&mut self, count: usize) {
        (0..count).for_each(|_| self.turn());
    }

    /// Lets time pass quickly, a second a turn.
    pub(super) fn skip_s(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.lan.now_us += 999_000;
            self.turn();
        }
    }

    pub(super) fn connect(&mut self) -> Client {
        let client = self.lan.connect();
        for _ in 0..100 {
            self.turn();
            if self.lan.socket(client).may_send() {
                break;
            }
        }
        client
    }

    /// Sends everything, however long that takes; stops early if the guest has closed.
    pub(super) fn send(&mut self, client: Client, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.lan.socket(client).may_send() {
            let sent = self.lan.socket(client).send_slice(bytes).unwrap();
            bytes = &bytes[sent..];
            self.turn();
        }
    }

    /// The next whole answer, interim ones skipped; `None` if the connection ends first.
    pub(super) fn answer(&mut self, client: Client) -> Option<Answer> {
        let mut bytes = Vec::new();
        for _ in 0..20_000 {
            bytes.extend(self.lan.received(client));
            if let Some(answer) = parse_answer(&bytes) {
                return Some(answer);
            }
            if !self.lan.socket(client).may_recv() {
                return None;
            }
            self.turn();
        }
        panic!("no answer: {:?}", String::from_utf8_lossy(&bytes));
    }

    /// A request on a connection of its own.
    pub(super) fn exchange(&mut self, request: &[u8]) -> Answer {
        let client = self.connect();
        self.send(client, request);
        let answer = self.answer(client).expect("an answer");
        self.lan.socket(client).close();
        self.turns(5);
        self.lan.vanish(client);
        answer
    }

    /// Turns until a connection is over on both sides, and forgets it here too.
    pub(super) fn part(&mut self, client: Client) {
        for _ in 0..100 {
            if !self.lan.socket(client).is_open() {
                break;
            }
            self.lan.received(client);
            self.turn();
        }
        self.lan.vanish(client);
        self.turns(3);
    }

    pub(super) fn get(&mut self, target: &str) -> Answer {
        self.exchange(std::format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    }

    pub(super) fn keys(&mut self) -> KeyConfigList {
        let answer = self.get(paths::OHTTP_GATEWAY);
        assert_eq!(answer.status, 200);
        keyconfig::decode_list(&answer.body).unwrap()
    }

    /// The HTTP request that carries an inner request, and what opens the answer.
    pub(super) fn encapsulate(
        &mut self,
        keys: &KeyConfigList,
        inner: &bhttp::Request,
    ) -> (Vec<u8>, ResponseOpener) {
        let padded = inner.encode_padded().unwrap();
        self.encapsulate_bytes(keys, &padded)
    }

    pub(super) fn encapsulate_bytes(
        &mut self,
        keys: &KeyConfigList,
        message: &[u8],
    ) -> (Vec<u8>, ResponseOpener) {
        let client = OhttpClient::new(keys.preferred());
        let (sealed, opener) = client.encapsulate(&mut self.rng, message).unwrap();
        (post(&sealed), opener)
    }

    /// The HTTP request that carries an inner request in chunks, and what opens the answer.
    pub(super) fn encapsulate_chunked(
        &mut self,
        keys: &KeyConfigList,
        inner: &bhttp::Request,
    ) -> (Vec<u8>, chunked::ResponseOpener) {
        let padded = inner.encode_padded().unwrap();
        let client = OhttpClient::new(keys.preferred());
        let sealed = client.encapsulate_chunked(&mut self.rng, &padded);
        let (sealed, opener) = sealed.unwrap();
        (post_as(media::OHTTP_CHUNKED_REQUEST, &sealed), opener)
    }

    /// Sends an inner request in chunks on a connection of its own.
    pub(super) fn send_streamed(
        &mut self,
        inner: &bhttp::Request,
    ) -> (Client, chunked::ResponseOpener) {
        let keys = self.keys();
        let (request, opener) = self.encapsulate_chunked(&keys, inner);
        let client = self.connect();
        self.send(client, &request);
        (client, opener)
    }

    /// What arrives until the chunked coding ends, and when: milliseconds since the first of it, bytes.
    pub(super) fn capture(&mut self, client: Client) -> Vec<(u64, Vec<u8>)> {
        let mut seen: Vec<(u64, Vec<u8>)> = Vec::new();
        for _ in 0..200_000 {
            let bytes = self.lan.received(client);
            if !bytes.is_empty() {
                seen.push((self.lan.now_us / 1000, bytes));
            }
            let is_over = seen
                .last()
                .is_some_and(|(_, bytes)| bytes.ends_with(b"\r\n0\r\n\r\n"));
            if is_over || !self.lan.socket(client).may_recv() {
                let start_ms = seen.first().map_or(0, |(at_ms, _)| *at_ms);
                seen.iter_mut().for_each(|(at_ms, _)| *at_ms -= start_ms);
                return seen;
            }
            self.turn();
        }
        panic!("no end");
    }

    /// The inner answer to an inner request in chunks, which comes in so many records.
    pub(super) fn ask_streamed(&mut self, inner: &bhttp::Request) -> (bhttp::Response, u64) {
        let (client, opener) = self.send_streamed(inner);
        let bytes: Vec<u8> = self
            .capture(client)
            .into_iter()
            .flat_map(|(_, bytes)| bytes)
            .collect();
        open_streamed(&bytes, opener)
    }

    /// The inner answer to an inner request.
    pub(super) fn ask(&mut self, inner: &bhttp::Request) -> bhttp::Response {
        let keys = self.keys();
        let (request, opener) = self.encapsulate(&keys, inner);
        let answer = self.exchange(&request);
        open(answer, opener)
    }
}

/// Opens an encapsulated answer and checks that it is padded.
pub(super) fn open(answer: Answer, opener: ResponseOpener) -> bhttp::Response {
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    assert!(
        answer.head.contains(media::OHTTP_RESPONSE),
        "{}",
        answer.head
    );
    let padded = opener.open(&answer.body).unwrap();
    assert!(
        padded.len().is_power_of_two() && padded.len() >= 1024,
        "{}",
        padded.len()
    );
    bhttp::Response::decode(&padded, &bhttp::Limits::DEFAULT).unwrap()
}

/// Opens an answer in records and checks the size of each; how many there are.
pub(super) fn open_streamed(
    answer: &[u8],
    mut opener: chunked::ResponseOpener,
) -> (bhttp::Response, u64) {
    let body = dechunk(answer);
    let mut decoder = records::Decoder::default();
    let mut message = Vec::new();
    let mut count = 0;
    let mut read = |record: &[u8]| {
        assert_eq!(record.len(), records::RECORD_BYTES);
        message.extend_from_slice(decoder.read(record).unwrap());
        count += 1;
    };
    for piece in body {
        for record in opener.push(&piece).unwrap() {
            read(&record);
        }
    }
    read(&opener.finish().unwrap());
    assert_eq!(records::bucket(count), count);
    let response = bhttp::Response::decode(&message, &bhttp::Limits::DEFAULT).unwrap();
    (response, count)
}

/// The pieces of a body in the chunked coding, behind its head; what is not complete is left out.
pub(super) fn dechunk(answer: &[u8]) -> Vec<Vec<u8>> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, mut rest) = answer.split_at(end.unwrap() + 4);
    let head = String::from_utf8_lossy(head);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("\r\nTransfer-Encoding: chunked\r\n"),
        "{head}"
    );
    assert!(head.contains(media::OHTTP_CHUNKED_RESPONSE) && !head.contains("Content-Length"));
    let mut pieces = Vec::new();
    while let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = String::from_utf8_lossy(&rest[..at]);
        let size = usize::from_str_radix(&size, 16).unwrap();
        match rest.get(at + 2..at + 2 + size) {
            Some(piece) if size > 0 => pieces.push(piece.to_vec()),
            _ => break,
        }
        rest = rest.get(at + 2 + size + 2..).unwrap_or_default();
    }
    pieces
}

/// A POST of an encapsulated request.
pub(super) fn post(sealed: &[u8]) -> Vec<u8> {
    post_as(media::OHTTP_REQUEST, sealed)
}

fn post_as(media_type: &str, sealed: &[u8]) -> Vec<u8> {
    let mut request = std::format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        paths::OHTTP_GATEWAY,
        media_type,
        sealed.len()
    )
    .into_bytes();
    request.extend_from_slice(sealed);
    request
}

/// An inner request for a summary that takes so many steps.
pub(super) fn summarize(text: &str, steps: u32) -> bhttp::Request {
    let messages = [summarize::Message::new("Ana", text)].to_vec();
    let request = Request {
        messages,
        style: summarize::Style::Bullets,
        max_tokens: Some(steps),
    };
    bhttp::Request::new("POST", paths::SUMMARIZE)
        .with_content(media::JSON, request.to_json().to_vec())
        .unwrap()
}

/// An inner request with a JSON text.
pub(super) fn post_json(path: &str, json: &serde_json::Value) -> bhttp::Request {
    bhttp::Request::new("POST", path)
        .with_content(media::JSON, json.to_string().into_bytes())
        .unwrap()
}

/// A conversation whose answer is this script.
pub(super) fn chat(script: &str, is_streamed: bool) -> bhttp::Request {
    let json = serde_json::json!({
        "model": "any",
        "messages": [
            {"role": "system", "content": "Be a parrot."},
            {"role": "user", "content": script},
        ],
        "stream": is_streamed,
    });
    post_json(paths::CHAT_COMPLETIONS, &json)
}

pub(super) fn problem(response: &bhttp::Response) -> (u16, Problem) {
    assert_eq!(
        response.field("content-type"),
        Some(media::PROBLEM_JSON.as_bytes())
    );
    let problem = Problem::from_json(&response.content).unwrap();
    assert_eq!(problem.status, response.status);
    (response.status, problem)
}

pub(super) fn parse_answer(mut bytes: &[u8]) -> Option<Answer> {
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head[9..12].parse().unwrap();
        if status < 200 {
            bytes = &bytes[end..];
            continue;
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .map(|length| length.parse::<usize>().unwrap())
            .unwrap();
        let body = bytes.get(end..end + length)?.to_vec();
        return Some(Answer { status, head, body });
    }
}
