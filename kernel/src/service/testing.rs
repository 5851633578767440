//! A whole guest on the host, for tests: card, stack, server, and a model that repeats what it was told.

use std::cell::Cell;
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec::Vec;

use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::summarize::{self, Request, Usage};
use cloister_protocol::api::{media, paths};
use cloister_protocol::bhttp;
use cloister_protocol::evidence::Enclosures;
use cloister_protocol::keyconfig::{self, KeyConfigList};
use cloister_protocol::ohttp::{Client as OhttpClient, ResponseOpener};

use super::keys::{Attester, Lifetime};
use super::server::{OVERFLOW_PLACES, Server, Settings};
use super::summarizer::{ModelInfo, Progress, Summarizer};
use crate::device::virtio::PciTransport;
use crate::entropy::Drbg;
use crate::http;
use crate::net::Stack;
use crate::net::lan::{Client, Lan};
use crate::platform::Evidence;
use crate::tls::{Identity, Tls};

/// A model whose summary is the first message, after as many steps as `max_tokens` says.
pub(super) struct Parrot {
    live: Rc<Cell<usize>>,
    begun: usize,
    /// Most jobs that have room at one time.
    room: Rc<Cell<usize>>,
    stepped: bool,
}

pub(super) struct ParrotJob {
    request: Request,
    steps_left: u32,
    has_begun: bool,
    live: Rc<Cell<usize>>,
}

impl Drop for ParrotJob {
    fn drop(&mut self) {
        self.live.set(self.live.get() - 1);
    }
}

impl Summarizer for Parrot {
    type Job = ParrotJob;

    fn model(&self) -> ModelInfo<'_> {
        ModelInfo {
            name: "parrot",
            digest: &[0xaa; 32],
            context_tokens: 2048,
        }
    }

    fn start(&mut self, request: Request) -> Result<ParrotJob, Problem> {
        if request.messages[0].text == "refuse" {
            return Err(Problem::from_status(422).with_detail("refused"));
        }
        self.live.set(self.live.get() + 1);
        let steps_left = request.max_tokens.unwrap_or(1);
        Ok(ParrotJob {
            request,
            steps_left,
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
        job.steps_left -= 1;
        if job.steps_left > 0 {
            return Progress::Working;
        }
        self.begun -= 1;
        if job.request.messages[0].text == "fail" {
            return Progress::Failed(Problem::from_status(500).with_detail("failed"));
        }
        Progress::Done(summarize::Response {
            summary: job.request.messages[0].text.clone(),
            usage: Usage::default(),
            model: "parrot".to_string(),
        })
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
        Self::build(has_model, Lifetime::of_epoch(3600), None)
    }

    /// With key epochs of so many seconds.
    pub(super) fn with_epoch(epoch_s: u32) -> Self {
        Self::build(true, Lifetime::of_epoch(epoch_s), None)
    }

    /// With TLS on the port.
    pub(super) fn with_tls(identity: &Identity) -> Self {
        Self::build(true, Lifetime::of_epoch(3600), Some(identity))
    }

    fn build(has_model: bool, keys: Lifetime, identity: Option<&Identity>) -> Self {
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
            heap_used: || 4711,
        };
        let places = settings.connections + OVERFLOW_PLACES;
        let handshake_ms = settings.http.header_ms;
        let tls = identity.map(|identity| Tls::new(identity, places, handshake_ms));
        let (lan, stack) = Lan::with_address(places);
        let live = Rc::new(Cell::new(0));
        let room = Rc::new(Cell::new(usize::MAX));
        let summarizer = has_model.then(|| Parrot {
            live: Rc::clone(&live),
            begun: 0,
            room: Rc::clone(&room),
            stepped: false,
        });
        let rng = Drbg::from_seed([1; 32]);
        let server = Server::new(settings, summarizer, rng, places, lan.now_us / 1000);
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
        answer
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

/// A POST of an encapsulated request.
pub(super) fn post(sealed: &[u8]) -> Vec<u8> {
    let mut request = std::format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        paths::OHTTP_GATEWAY,
        media::OHTTP_REQUEST,
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
