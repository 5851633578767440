//! Requests of every fate, and what must not be found of them.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::TcpStream;
use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cloister_protocol::api::summarize::{self, Request, Style};
use cloister_protocol::api::{media, paths};
use cloister_protocol::bhttp;
use cloister_protocol::keyconfig::{KeyConfig, KeyConfigList};
use cloister_tests::guests::{boot, fixture_image, metric};
use cloister_tests::known_exchange::KnownExchange;
use cloister_tests::monitor::{Monitor, MonitorSocket};
use cloister_tests::raw::{self, connect, post_bytes, send};
use cloister_tests::sealed::{self, summarize_message};
use cloister_tests::secrets::Secrets;
use xtask::qemu::{Guest, GuestOptions};

use crate::canary::{canary, thread};
use crate::reference::{self, Reference};
use crate::streams::{rewritten, streamed};

/// Requests that are begun and left: more than are at work at one time.
const LEFT: usize = 20;
/// No test waits longer for a figure of `/metrics`.
const PATIENCE: Duration = Duration::from_secs(120);
/// When nothing is left to do, the other processors wipe what they left after 20 ms of their own.
const REST: Duration = Duration::from_secs(2);

/// A guest under observation.
pub(crate) struct Subject<'r> {
    pub(crate) guest: Guest,
    monitor: Monitor,
    ranges: &'r [Range<u64>],
    pub(crate) keys: KeyConfigList,
    pub(crate) pack: Vec<u8>,
}

impl<'r> Subject<'r> {
    pub(crate) fn boot(options: &GuestOptions, ranges: &'r [Range<u64>]) -> Self {
        let socket = MonitorSocket::new();
        let mut options = options.clone();
        options.extra.extend(socket.words());
        let guest = boot(&options);
        let pack = fixture_image().model_pack().expect("it has a model");
        Self {
            monitor: socket.connect(),
            keys: sealed::keys(guest.port()),
            guest,
            ranges,
            pack: std::fs::read(pack).expect("readable"),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.guest.port()
    }

    pub(crate) fn key(&self) -> &KeyConfig {
        self.keys.preferred()
    }

    /// All of its memory at one moment.
    pub(crate) fn memory(&mut self) -> Vec<u8> {
        self.monitor.memory(self.ranges)
    }

    /// What tells nothing of a request to come: all memory, and how the guest refuses what has nothing to tell. Those
    /// answers have numbers in them, as others have that are secret (`s":400,"`).
    pub(crate) fn known(&mut self) -> Vec<u8> {
        let exchange = sealed_and_altered(self.key(), &summarize_message(b"{}"), usize::MAX);
        let mut known = self.memory();
        let refused = [
            (400, Vec::new()),
            (413, vec![0; 1 << 20]),
            (422, exchange.sealed),
        ];
        for (status, body) in refused {
            let answer = sealed::post(self.port(), &body);
            assert_eq!(answer.status, status, "{}", answer.text());
            known.extend([answer.head.as_bytes(), &answer.body].concat());
        }
        known
    }

    /// Its memory when nothing is left to do.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        wait_for(self.port(), "cloister_jobs", |jobs| jobs == 0);
        wait_for(self.port(), "cloister_connections", |connections| {
            connections <= 1
        });
        sleep(REST);
        self.memory()
    }

    pub(crate) fn reference(&self, told: &Request) -> Reference {
        reference::summary(&self.pack, told)
    }
}

pub(crate) fn wait_for(port: u16, name: &str, wanted: impl Fn(u64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted(metric(port, name)) {
        assert!(
            Instant::now() < deadline,
            "{name} is {}",
            metric(port, name)
        );
        sleep(Duration::from_millis(20));
    }
}

/// A request on its way, and the connection that it went over.
fn begin(port: u16, sealed: &[u8]) -> TcpStream {
    begin_as(port, media::OHTTP_REQUEST, sealed)
}

/// The same with the media type of another form.
pub(crate) fn begin_as(port: u16, media_type: &str, sealed: &[u8]) -> TcpStream {
    let mut stream = connect(port);
    let bytes = post_bytes(paths::OHTTP_GATEWAY, media_type, sealed);
    send(&mut stream, &bytes);
    stream
}

/// Senders and texts: every eight bytes of them, those of the filling too.
pub(crate) fn add_text(secrets: &mut Secrets, fate: &str, told: &Request) {
    for message in &told.messages {
        for text in [&message.from, &message.text] {
            secrets.add(&format!("{fate}: text"), text.as_bytes());
        }
    }
}

pub(crate) fn add_exchange(secrets: &mut Secrets, fate: &str, exchange: &KnownExchange) {
    for (name, bytes) in exchange.secrets() {
        secrets.add(&format!("{fate}: {name}"), bytes);
    }
}

pub(crate) fn add_reference(secrets: &mut Secrets, fate: &str, reference: &Reference) {
    secrets.add_tokens(&format!("{fate}: tokens of the prompt"), &reference.prompt);
    secrets.add_tokens(&format!("{fate}: tokens of the answer"), &reference.answer);
    secrets.add_numbers(&format!("{fate}: logits"), &reference.logits);
}

/// Requests of every fate, whose words, tokens and keys are added to `secrets`.
pub(crate) fn every_fate(subject: &mut Subject<'_>, secrets: &mut Secrets, before: &[u8]) {
    answered(subject, secrets, before);
    left(subject, secrets);
    refused(subject, secrets);
    broken_off(subject, secrets);
    rewritten(subject, secrets);
    streamed(subject, secrets, before);
}

/// Requests that are answered, in parts too. In the middle of the first one the search finds what the guest works with.
fn answered(subject: &mut Subject<'_>, secrets: &mut Secrets, before: &[u8]) {
    let (talkative, reference) = long_answer(subject);
    watch(subject, secrets, &talkative, &reference, before);
    answer(subject, secrets, &talkative, &reference);
    for told in [
        thread(Style::Paragraph, 20, 24),
        thread(Style::Headline, 250, 8),
    ] {
        let reference = subject.reference(&told);
        answer(subject, secrets, &told, &reference);
    }
}

/// A request that the model says much to: its answer is there to be looked at for a while.
pub(crate) fn long_answer(subject: &Subject<'_>) -> (Request, Reference) {
    let mut tries = (0..100).map(|_| {
        let told = thread(Style::Bullets, 4, 400);
        let reference = subject.reference(&told);
        (told, reference)
    });
    let long = tries.find(|(_, reference)| reference.answer.len() > 150);
    long.expect("random weights say much now and then")
}

/// Asks, and looks at the memory again and again while the answer is made.
fn watch(
    subject: &mut Subject<'_>,
    secrets: &mut Secrets,
    told: &Request,
    reference: &Reference,
    before: &[u8],
) {
    const NAMES: [&str; 4] = [
        "tokens of the prompt",
        "tokens of the answer",
        "logits",
        "response secret",
    ];
    let mut seen = BTreeSet::new();
    for _ in 0..5 {
        let message = summarize_message(&told.to_json());
        let exchange = KnownExchange::seal(subject.key(), &message);
        let mut now = Secrets::new();
        add_exchange(&mut now, "now", &exchange);
        add_reference(&mut now, "now", reference);
        let now = now.without(before);
        add_exchange(secrets, "watched", &exchange);
        let mut stream = begin(subject.port(), &exchange.sealed);
        wait_for(subject.port(), "cloister_jobs_running", |jobs| jobs == 1);
        loop {
            let ranges = subject.ranges;
            let found = subject.monitor.look(ranges, |memory| now.find(&memory));
            if metric(subject.port(), "cloister_jobs_running") == 0 {
                break;
            }
            seen.extend(
                NAMES
                    .into_iter()
                    .filter(|name| found.has(&format!("now: {name}"))),
            );
        }
        assert_eq!(raw::read_answer(&mut stream).status, 200);
        if seen.len() == NAMES.len() {
            return;
        }
    }
    panic!("only {seen:?} was found while the guest worked with it");
}

/// Asks for a summary, and adds all that there is to know of it.
fn answer(subject: &Subject<'_>, secrets: &mut Secrets, told: &Request, reference: &Reference) {
    let mut exchange = KnownExchange::seal(subject.key(), &summarize_message(&told.to_json()));
    let answer = sealed::post(subject.port(), &exchange.sealed);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let response = open(&mut exchange, &answer.body);
    let json = String::from_utf8_lossy(&response.content);
    let summary = summarize::Response::from_json(&response.content);
    let summary = summary
        .unwrap_or_else(|error| panic!("{error}: {json}"))
        .summary
        .clone();
    assert_eq!(summary, reference.text, "the host computes the same");
    let fate = "answered";
    add_text(secrets, fate, told);
    add_exchange(secrets, fate, &exchange);
    add_reference(secrets, fate, reference);
    secrets.add(&format!("{fate}: answer"), summary.as_bytes());
    // As it stood in JSON, too.
    secrets.add(&format!("{fate}: answer"), &response.content);
}

pub(crate) fn open(exchange: &mut KnownExchange, body: &[u8]) -> bhttp::Response {
    let opened = exchange.open(body);
    bhttp::Response::decode(&opened, &bhttp::Limits::DEFAULT).expect("binary HTTP")
}

/// Requests whose clients leave while they wait and while they are at work.
fn left(subject: &mut Subject<'_>, secrets: &mut Secrets) {
    let port = subject.port();
    let cancelled = metric(port, "cloister_jobs_cancelled_total");
    let told: Vec<Request> = (0..LEFT)
        .map(|_| thread(Style::Bullets, 100, 300))
        .collect();
    let mut streams = Vec::new();
    let mut exchanges = Vec::new();
    for told in &told {
        let message = summarize_message(&told.to_json());
        let exchange = KnownExchange::seal(subject.key(), &message);
        streams.push(begin(port, &exchange.sealed));
        exchanges.push(exchange);
    }
    wait_for(port, "cloister_jobs", |jobs| jobs == LEFT as u64);
    let (running, waiting) = (
        metric(port, "cloister_jobs_running"),
        metric(port, "cloister_jobs_waiting"),
    );
    assert!(
        running > 0 && waiting > 0,
        "{running} at work, {waiting} wait"
    );

    let (fate, now) = ("left", &mut Secrets::new());
    let references: Vec<Reference> = told[..2]
        .iter()
        .map(|told| subject.reference(told))
        .collect();
    for secrets in [&mut *secrets, &mut *now] {
        told.iter().for_each(|told| add_text(secrets, fate, told));
        exchanges
            .iter()
            .for_each(|exchange| add_exchange(secrets, fate, exchange));
        references
            .iter()
            .for_each(|reference| add_reference(secrets, fate, reference));
    }
    let found = now.find(&subject.memory());
    for name in ["text", "tokens of the prompt", "response secret"] {
        assert!(
            found.has(&format!("{fate}: {name}")),
            "{name} is not among{found}"
        );
    }
    drop(streams);
    wait_for(port, "cloister_jobs", |jobs| jobs == 0);
    assert_eq!(
        metric(port, "cloister_jobs_cancelled_total"),
        cancelled + LEFT as u64
    );
}

/// An inner request.
fn message(method: &str, path: &str, media_type: &str, content: String) -> Vec<u8> {
    let request = bhttp::Request::new(method, path).with_content(media_type, content.into_bytes());
    let encoded = request.and_then(|request| request.encode());
    encoded.expect("valid").to_vec()
}

/// One that asks for a summary.
fn summary(content: String) -> Vec<u8> {
    message("POST", paths::SUMMARIZE, media::JSON, content)
}

/// Messages with `word` in them, and with which status each is refused.
fn reasons(word: &str) -> Vec<(u16, Vec<u8>)> {
    let many = vec![format!(r#"{{"from":"{word}","text":"{word}"}}"#); 2_100].join(",");
    Vec::from([
        (400, summary(format!(r#"{{"messages":[{{"text":"{word}"#))),
        (
            400,
            summary(format!(r#"{{"messages":[{{"text":"{word}\uD800"}}]}}"#)),
        ),
        (
            422,
            summary(format!(
                r#"{{"messages":[{{"text":"{word}"}}],"{word}":1}}"#
            )),
        ),
        (
            422,
            summary(format!(
                r#"{{"messages":[{{"text":"{word}"}}],"style":"{word}"}}"#
            )),
        ),
        (
            422,
            summary(format!(
                r#"{{"messages":[{{"text":"{word}"}}],"max_tokens":100000}}"#
            )),
        ),
        (
            422,
            summary(format!(
                r#"{{"messages":[{{"from":"{word}","text":" "}}]}}"#
            )),
        ),
        (413, summary(format!(r#"{{"messages":[{many}]}}"#))),
        (
            415,
            message("POST", paths::SUMMARIZE, "text/plain", word.to_owned()),
        ),
        (
            405,
            message("PUT", paths::SUMMARIZE, media::JSON, word.to_owned()),
        ),
        (
            404,
            message("POST", &format!("/v1/{word}"), media::JSON, word.to_owned()),
        ),
        (400, [b"\x07", word.as_bytes()].concat()),
    ])
}

/// Requests that are refused, each for another reason.
fn refused(subject: &Subject<'_>, secrets: &mut Secrets) {
    let word = canary();
    for (status, message) in reasons(&word) {
        let mut exchange = KnownExchange::seal(subject.key(), &message);
        let answer = sealed::post(subject.port(), &exchange.sealed);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let response = open(&mut exchange, &answer.body);
        let shown = String::from_utf8_lossy(&response.content);
        assert_eq!(response.status, status, "{shown}");
        add_exchange(secrets, "refused", &exchange);
    }
    secrets.add("refused: text", word.as_bytes());
    altered(subject, secrets, &word);
    too_long(subject, secrets, &word);
}

/// Requests of which a byte was changed on the way.
fn altered(subject: &Subject<'_>, secrets: &mut Secrets, word: &str) {
    let message = summary(format!(r#"{{"messages":[{{"text":"{word}"}}]}}"#));
    for place in [0, 100, 1127, usize::MAX] {
        let exchange = sealed_and_altered(subject.key(), &message, place);
        let answer = sealed::post(subject.port(), &exchange.sealed);
        assert!(
            [400, 422].contains(&answer.status),
            "{place}: {}",
            answer.text()
        );
        add_exchange(secrets, "altered", &exchange);
    }
}

/// With another byte at `place`, or at the end where it is shorter.
fn sealed_and_altered(key: &KeyConfig, message: &[u8], place: usize) -> KnownExchange {
    let mut exchange = KnownExchange::seal(key, message);
    let place = place.min(exchange.sealed.len() - 1);
    exchange.sealed[place] ^= 1;
    exchange
}

/// One whose content is longer than the guest takes.
fn too_long(subject: &Subject<'_>, secrets: &mut Secrets, word: &str) {
    let long = summary(format!(
        r#"{{"messages":[{{"text":"{}"}}]}}"#,
        word.repeat(12_800)
    ));
    let exchange = KnownExchange::seal(subject.key(), &long);
    assert_eq!(sealed::post(subject.port(), &exchange.sealed).status, 413);
    add_exchange(secrets, "too long", &exchange);
}

/// Requests that are cut at several bytes, and answers that are not read to their end.
fn broken_off(subject: &Subject<'_>, secrets: &mut Secrets) {
    let told = thread(Style::Headline, 2, 4);
    let message = summarize_message(&told.to_json());
    let exchange = KnownExchange::seal(subject.key(), &message);
    let bytes = post_bytes(paths::OHTTP_GATEWAY, media::OHTTP_REQUEST, &exchange.sealed);
    let body = bytes.len() - exchange.sealed.len();
    for place in [
        1,
        body / 2,
        body,
        body + 7,
        body + 500,
        body + 1127,
        body + 1400,
        bytes.len() - 1,
    ] {
        for half_closed in [false, true] {
            let mut stream = connect(subject.port());
            send(&mut stream, &bytes[..place]);
            sleep(Duration::from_millis(50));
            if half_closed {
                raw::half_close(&stream);
                assert_eq!(raw::read_answer(&mut stream).status, 400, "{place}");
            }
        }
    }
    add_text(secrets, "broken off", &told);
    add_exchange(secrets, "broken off", &exchange);
    for read in [1, 40, 300] {
        let exchange = KnownExchange::seal(subject.key(), &message);
        let mut stream = begin(subject.port(), &exchange.sealed);
        let mut some = vec![0; read];
        stream.read_exact(&mut some).expect("the answer begins");
        drop(stream);
        add_exchange(secrets, "answer not read", &exchange);
    }
}
