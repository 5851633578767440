//! A guest with TLS that asks for tokens: secrets of connections, heads of requests, tokens and texts, before, in the middle
//! of, and after requests of several fates.

use std::collections::HashSet;
use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cloister_protocol::api::summarize::{self, Request, Style};
use cloister_protocol::api::{media, paths};
use cloister_protocol::bhttp;
use cloister_protocol::keyconfig::{KeyConfigList, decode_list};
use cloister_tests::guests::{boot, image_with_tls_and_tokens};
use cloister_tests::known_exchange::KnownExchange;
use cloister_tests::known_tls::{
    KnownTls, TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use cloister_tests::monitor::{Monitor, MonitorSocket};
use cloister_tests::private_keys;
use cloister_tests::raw::{self, Answer, post_bytes};
use cloister_tests::secrets::Secrets;
use cloister_tokens::field::{Offer, read_offers, write_token};
use cloister_tokens::issuer::IssuerKey;
use cloister_tokens::request::Pending;
use cloister_tokens::{Token, origin};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use xtask::image_build::Image;
use xtask::qemu::{Guest, GuestOptions};

use crate::canary::{canary, thread};
use crate::fates::{add_exchange, add_text, open};
use crate::{Turn, emulated_with, plain_with};

/// Requests that are begun and left.
const LEFT: usize = 12;
/// No test waits longer for a figure of `/metrics`.
const PATIENCE: Duration = Duration::from_secs(120);
/// A guest under emulation has seen the end of a connection after this time.
const END: Duration = Duration::from_millis(500);
/// When nothing is left to do, the other processors wipe what they left after 20 ms of their own.
const REST: Duration = Duration::from_secs(2);
/// Secrets that the guest needs as long as a connection lives.
const OF_A_CONNECTION: [&str; 3] = [
    "CLIENT_TRAFFIC_SECRET_0",
    "SERVER_TRAFFIC_SECRET_0",
    "SERVER_TRAFFIC_SECRET_0 iv",
];

/// Secrets that it needs no more once hands are shaken.
const OF_A_HANDSHAKE: [&str; 5] = [
    "shared secret",
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET key",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET key",
];

#[test]
fn a_plain_guest_with_tls_forgets() {
    forgets(plain_with);
}

#[test]
fn an_snp_guest_with_tls_forgets() {
    forgets(emulated_with);
}

/// A guest under observation, and all that is known of what it was told.
struct Subject {
    guest: Guest,
    monitor: Monitor,
    ranges: Vec<Range<u64>>,
    issuer: IssuerKey,
    keys: Option<KeyConfigList>,
    connections: usize,
    secrets: Secrets,
    shares: HashSet<[u8; 32]>,
}

fn forgets(boots: fn(&Image) -> (GuestOptions, Vec<Range<u64>>)) {
    let _turn = Turn::wait();
    let issuer = IssuerKey::generate(&mut UnwrapErr(SysRng)).expect("a key");
    let image = image_with_tls_and_tokens(origin::Issuer {
        name: "issuer.example".to_owned(),
        token_key: issuer.public().clone(),
        origin_info: "cloister.example".to_owned(),
    });
    let mut subject = Subject::boot(boots(&image), issuer);
    let offer = subject.known();
    let before = subject.memory();

    subject.handshakes();
    subject.answered(&offer);
    subject.refused(&offer);
    subject.left(&offer);
    subject.broken_off(&offer);

    let after = subject.rest();
    let secrets = std::mem::take(&mut subject.secrets).without(&before);
    let found = secrets.find(&after);
    assert!(found.is_empty(), "left in memory:{found}");
    let pack = std::fs::read(image.model_pack().expect("it has a model")).expect("readable");
    assert!(!subject.shares.is_empty());
    for (at, bytes) in private_keys::candidates(&after, &pack) {
        let share = private_keys::x25519_public(bytes);
        assert!(
            !subject.shares.contains(&share),
            "a key that a connection was made with lies at {at:#x}"
        );
    }
}

impl Subject {
    fn boot((mut options, ranges): (GuestOptions, Vec<Range<u64>>), issuer: IssuerKey) -> Self {
        let socket = MonitorSocket::new();
        options.extra.extend(socket.words());
        let guest = boot(&options);
        let mut subject = Self {
            monitor: socket.connect(),
            ranges,
            guest,
            issuer,
            keys: None,
            connections: 0,
            secrets: Secrets::new(),
            shares: HashSet::new(),
        };
        let answer = subject.get(paths::OHTTP_GATEWAY);
        subject.keys = Some(decode_list(&answer.body).expect("keys"));
        subject
    }

    fn memory(&mut self) -> Vec<u8> {
        self.monitor.memory(&self.ranges)
    }

    /// Each connection with the next suite.
    fn begin(&mut self) -> KnownTls {
        KnownTls::new(self.guest.port(), self.next_suite())
    }

    fn connect(&mut self) -> KnownTls {
        KnownTls::connect(self.guest.port(), self.next_suite())
    }

    fn next_suite(&mut self) -> rustls::SupportedCipherSuite {
        let suites = [
            TLS13_AES_128_GCM_SHA256,
            TLS13_CHACHA20_POLY1305_SHA256,
            TLS13_AES_256_GCM_SHA384,
        ];
        self.connections += 1;
        suites[self.connections % suites.len()]
    }

    /// All secrets of a connection must be forgotten.
    fn note(&mut self, fate: &str, tls: &KnownTls) {
        let secrets = tls.secrets();
        assert!(!secrets.is_empty(), "{fate}: nothing was agreed on");
        for (name, secret) in secrets {
            self.secrets.add(&format!("{fate}: {name}"), &secret);
        }
        self.shares.extend(tls.server_share());
    }

    fn get(&mut self, path: &str) -> Answer {
        let mut tls = self.connect();
        tls.send(
            format!("GET {path} HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        let answer = raw::read_answer(&mut tls);
        assert_eq!(answer.status, 200, "{path}");
        self.note("outside", &tls);
        tls.close();
        answer
    }

    fn metric(&mut self, name: &str) -> u64 {
        let text = self.get(paths::METRICS).text();
        let mut lines = text.lines();
        let figure = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        figure
            .and_then(|figure| figure.parse().ok())
            .expect("a figure")
    }

    fn wait_for(&mut self, name: &str, wanted: impl Fn(u64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let figure = self.metric(name);
            if wanted(figure) {
                return;
            }
            assert!(Instant::now() < deadline, "{name} is {figure}");
            sleep(Duration::from_millis(20));
        }
    }

    /// Its memory when nothing is left to do.
    fn rest(&mut self) -> Vec<u8> {
        self.wait_for("cloister_jobs", |jobs| jobs == 0);
        self.wait_for("cloister_connections", |connections| connections <= 1);
        sleep(REST);
        self.memory()
    }

    /// What tells nothing of a request to come: how the guest refuses one without a token. It says what it asks for.
    fn known(&mut self) -> Offer {
        let (_, answer) = self.ask("known", None, b"{}");
        assert_eq!(answer.status, 401);
        let offers = read_offers(answer.field("www-authenticate").expect("a challenge"));
        offers.expect("a challenge").remove(0)
    }

    fn token(&self, offer: &Offer) -> Token {
        let mut rng = UnwrapErr(SysRng);
        let (request, pending) =
            Pending::new(&offer.token_key, &offer.challenge, &mut rng).expect("a sound key");
        let signed = self.issuer.issue(&request, &mut rng).expect("its own key");
        pending.finalize(&signed).expect("a signature")
    }

    /// A request with its token; all of its secrets are noted.
    fn seal(&mut self, fate: &str, token: Option<&Token>, json: &[u8]) -> KnownExchange {
        let message = message(token, json);
        if let Some(token) = token {
            let mut own = Secrets::new();
            for secrets in [&mut own, &mut self.secrets] {
                add_token(secrets, fate, token);
            }
            let found = own.find(&message);
            assert!(
                found.has(&format!("{fate}: token")),
                "it is found where it is"
            );
        }
        let keys = self.keys.as_ref().expect("fetched");
        let exchange = KnownExchange::seal(keys.preferred(), &message);
        add_exchange(&mut self.secrets, fate, &exchange);
        exchange
    }

    /// The bytes of a request with a word in its head that nobody else says.
    fn post(&mut self, fate: &str, exchange: &KnownExchange) -> Vec<u8> {
        let word = canary();
        self.secrets.add(&format!("{fate}: head"), word.as_bytes());
        let media_type = format!("{}\r\nX-Word: {word}", media::OHTTP_REQUEST);
        post_bytes(paths::OHTTP_GATEWAY, &media_type, &exchange.sealed)
    }

    fn ask(
        &mut self,
        fate: &str,
        token: Option<&Token>,
        json: &[u8],
    ) -> (KnownExchange, bhttp::Response) {
        let mut exchange = self.seal(fate, token, json);
        let bytes = self.post(fate, &exchange);
        let mut tls = self.connect();
        tls.send(&bytes);
        let answer = raw::read_answer(&mut tls);
        assert_eq!(answer.status, 200, "{fate}: {}", answer.text());
        let response = open(&mut exchange, &answer.body);
        self.note(fate, &tls);
        add_exchange(&mut self.secrets, fate, &exchange);
        tls.close();
        (exchange, response)
    }

    /// Connections that bring no request. Nothing follows that would cover what they leave.
    fn handshakes(&mut self) {
        for _ in 0..3 {
            let mut tls = self.begin();
            tls.take_hello();
            self.gone("hello", tls, drop);

            // The client's last message is no record.
            let mut tls = self.begin();
            tls.take_hello();
            self.gone("wrong hello", tls, |mut tls| {
                tls.send_raw(&[23, 3, 3, 0, 40]);
                tls.send_raw(&[7; 40]);
                drop(tls);
            });

            let tls = self.connect();
            self.gone("silent", tls, drop);

            let tls = self.connect();
            self.gone("closed", tls, KnownTls::close);

            let tls = self.connect();
            self.gone("altered record", tls, |mut tls| {
                let mut records = tls.records(b"GET /healthz HTTP/1.1\r\n\r\n");
                records[9] ^= 1;
                tls.send_raw(&records);
            });
        }
    }

    /// Ends a connection, and sees that its secrets go with it at once.
    fn gone(&mut self, fate: &str, tls: KnownTls, end: impl FnOnce(KnownTls)) {
        self.note(fate, &tls);
        let mut own = Secrets::new();
        for (name, secret) in tls.secrets() {
            own.add(&name, &secret);
        }
        sleep(END);
        let found = own.find(&self.memory());
        assert!(!found.is_empty(), "{fate}: nothing is found while it lives");
        if !fate.contains("hello") {
            for name in OF_A_HANDSHAKE {
                assert!(!found.has(name), "{fate}: {name} is among{found}");
            }
        }
        end(tls);
        sleep(END);
        let found = own.find(&self.memory());
        assert!(found.is_empty(), "left of a connection ({fate}):{found}");
    }

    fn answered(&mut self, offer: &Offer) {
        for (style, filling) in [
            (Style::Headline, 2),
            (Style::Bullets, 20),
            (Style::Headline, 1),
        ] {
            let told = thread(style, filling, 8);
            let token = self.token(offer);
            let (_, response) = self.ask("answered", Some(&token), &told.to_json());
            assert_eq!(response.status, 200);
            let summary = summarize::Response::from_json(&response.content);
            let summary = summary.expect("a summary").summary.clone();
            add_text(&mut self.secrets, "answered", &told);
            if summary.len() >= 8 {
                self.secrets.add("answered: answer", summary.as_bytes());
            }
        }
    }

    /// Without a token that is good, and with one that is but for a bad request.
    fn refused(&mut self, offer: &Offer) {
        let told = thread(Style::Headline, 1, 4);
        add_text(&mut self.secrets, "refused", &told);
        let json = told.to_json();
        let good = self.token(offer);
        let mut altered = self.token(offer);
        altered.authenticator[200] ^= 1;
        let word = canary();
        self.secrets.add("refused: text", word.as_bytes());
        let wrong = format!(r#"{{"messages":[{{"text":"{word}"}}],"{word}":1}}"#);
        for (token, json, status) in [
            (None, &json[..], 401),
            (Some(&altered), &json, 401),
            (Some(&good), wrong.as_bytes(), 422),
            (Some(&good), &json, 200),
            (Some(&good), &json, 401),
        ] {
            let (_, response) = self.ask("refused", token, json);
            let said = String::from_utf8_lossy(&response.content).into_owned();
            assert_eq!(response.status, status, "{said}");
        }
    }

    /// Requests whose clients leave while they are at work; in the middle the search finds what it looks for.
    fn left(&mut self, offer: &Offer) {
        let fate = "left";
        let told: Vec<Request> = (0..LEFT)
            .map(|_| thread(Style::Bullets, 100, 300))
            .collect();
        let mut connections = Vec::new();
        for told in &told {
            let token = self.token(offer);
            add_text(&mut self.secrets, fate, told);
            let exchange = self.seal(fate, Some(&token), &told.to_json());
            let bytes = self.post(fate, &exchange);
            let mut tls = self.connect();
            tls.send(&bytes);
            self.note(fate, &tls);
            connections.push(tls);
        }
        self.wait_for("cloister_jobs", |jobs| jobs == LEFT as u64);
        assert!(self.metric("cloister_jobs_running") > 0);
        let memory = self.memory();
        let found = self.secrets.find(&memory);
        let sealed = ["text", "response secret"].iter().chain(&OF_A_CONNECTION);
        for name in sealed {
            let name = format!("{fate}: {name}");
            assert!(found.has(&name), "{name} is not among{found}");
        }
        drop(connections);
        self.wait_for("cloister_jobs", |jobs| jobs == 0);
    }

    /// Requests that are cut in the middle of records, or altered.
    fn broken_off(&mut self, offer: &Offer) {
        let fate = "broken off";
        let told = thread(Style::Headline, 2, 4);
        add_text(&mut self.secrets, fate, &told);
        for (place, alter) in [
            (1, false),
            (40, false),
            (700, false),
            (3000, false),
            (30, true),
            (700, true),
        ] {
            let token = self.token(offer);
            let exchange = self.seal(fate, Some(&token), &told.to_json());
            let bytes = self.post(fate, &exchange);
            let mut tls = self.connect();
            let mut records = tls.records(&bytes);
            let place = place.min(records.len() - 1);
            if alter {
                records[place] ^= 1;
                tls.send_raw(&records);
            } else {
                tls.send_raw(&records[..place]);
            }
            self.note(fate, &tls);
            sleep(Duration::from_millis(50));
            drop(tls);
        }
        // A connection that is used again, and then goes on with something else.
        let mut tls = self.connect();
        for _ in 0..3 {
            tls.send(b"GET /healthz HTTP/1.1\r\nHost: guest\r\n\r\n");
            assert_eq!(raw::read_answer(&mut tls).status, 200);
        }
        tls.send_raw(b"GET / HTTP/1.1\r\n\r\n");
        self.note("used again", &tls);
    }
}

fn add_token(secrets: &mut Secrets, fate: &str, token: &Token) {
    let name = format!("{fate}: token");
    secrets.add(&name, &token.nonce);
    secrets.add(&name, &token.authenticator);
    // As it stands in the field, but for what is the same in all of them.
    let field = write_token(token);
    let text = field.split('"').nth(1).expect("a value");
    secrets.add(&name, &text.as_bytes()[4..40]);
    secrets.add(&name, &text.as_bytes()[140..]);
}

/// The binary HTTP of a request for a summary.
fn message(token: Option<&Token>, json: &[u8]) -> Vec<u8> {
    let request =
        bhttp::Request::new("POST", paths::SUMMARIZE).with_content(media::JSON, json.to_vec());
    let request = request.and_then(|request| match token {
        Some(token) => request.with_header("authorization", write_token(token)),
        None => Ok(request),
    });
    let padded = request.expect("fields").encode_padded();
    padded.expect("it fits").to_vec()
}
