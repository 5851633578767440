//! Anonymous tokens over real sockets: an issuer, a client with a wallet, and a server that takes each token once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloister_client::issuer::load_key;
use cloister_client::tokens::{IssuerClient, IssuerError, Purse, PurseError, Wallet};
use cloister_client::{Authorities, Client, ClientError, Policy, TlsIdentity};
use cloister_protocol::api::problem::{Problem, TOKEN_INVALID, TOKEN_REQUIRED, TOKEN_SPENT};
use cloister_protocol::api::rewrite;
use cloister_protocol::api::summarize::{Message, Request, Response, Style, Usage};
use cloister_protocol::api::{media, paths};
use cloister_protocol::bhttp;
use cloister_protocol::evidence::{Enclosures, Evidence, Kind, parse_nonce};
use cloister_protocol::ohttp::Gateway;
use cloister_tokens::issuer::IssuerKey;
use cloister_tokens::origin::{Limits, Origin, Refusal};
use cloister_tokens::request::{REQUEST_TYPE, RESPONSE_TYPE};
use getrandom::SysRng;
use rand_core::UnwrapErr;

#[expect(clippy::unwrap_used, reason = "what fails here is a failed test")]
#[expect(dead_code, reason = "the proxy's tests need more of it")]
#[path = "common/certificates.rs"]
mod certificates;
#[path = "common/issuing.rs"]
mod issuing;
#[path = "common/running.rs"]
mod running;

use certificates::{Authority, Issued};
use issuing::{Issuing, key_file, named};
use running::Running;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A server that demands tokens.
struct Server {
    url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    gateway: Gateway,
    origin: Origin,
    /// What came of each request for work.
    served: Vec<Result<(), Refusal>>,
    /// New keys before the next request.
    rotate: bool,
}

fn new_origin() -> Origin {
    Origin::new(named(), Limits::DEFAULT, &mut UnwrapErr(SysRng), 0).expect("an origin")
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let state = Arc::new(Mutex::new(State {
            gateway: Gateway::generate(&mut UnwrapErr(SysRng)),
            origin: new_origin(),
            served: Vec::new(),
            rotate: false,
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve_one(&mut shared.lock().expect("no panic"), stream);
            }
        });
        Self { url, state }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn client(&self, purse: Purse) -> Client {
        let policy = Policy {
            accept_unattested: true,
            ..Policy::default()
        };
        let client = Client::connect(&self.url, TIMEOUT, policy).expect("connected");
        client.with_tokens(purse)
    }

    /// What came of the requests since this was last asked.
    fn served(&self) -> Vec<Result<(), Refusal>> {
        std::mem::take(&mut self.state().served)
    }
}

fn serve_one(state: &mut State, stream: TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a request line");
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("a header line");
        let header = header.trim().to_ascii_lowercase();
        match header.strip_prefix("content-length:") {
            Some(value) => length = value.trim().parse().expect("a length"),
            None if header.is_empty() => break,
            None => assert!(
                !header.starts_with("authorization"),
                "a token outside: {header}"
            ),
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    let (status, media_type, content) =
        outer(state, line.split(' ').nth(1).expect("a target"), &body);
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        content.len()
    );
    // The client may have left.
    let _ = reader
        .into_inner()
        .write_all(&[head.as_bytes(), &content].concat());
}

fn outer(state: &mut State, target: &str, body: &[u8]) -> (u16, &'static str, Vec<u8>) {
    if let Some(nonce) = target.strip_prefix(&format!("{}?nonce=", paths::EVIDENCE)) {
        let evidence = Evidence {
            tls_public_key: Vec::new(),
            kind: Kind::None,
            key_configs: state.gateway.key_configs(),
            epoch: 1,
            nonce: parse_nonce(nonce),
            enclosures: Enclosures::default(),
        };
        return (200, media::CMW_CBOR, evidence.encode());
    }
    if std::mem::take(&mut state.rotate) {
        state.gateway = Gateway::generate(&mut UnwrapErr(SysRng));
    }
    match state.gateway.decapsulate(body) {
        Err(error) => {
            let problem = Problem::from(error);
            (problem.status, media::PROBLEM_JSON, problem.to_json())
        }
        Ok((opened, sealer)) => {
            let request =
                bhttp::Request::decode(&opened, &bhttp::Limits::DEFAULT).expect("binary HTTP");
            let response = inner(state, &request).encode_padded().expect("fits");
            (
                200,
                media::OHTTP_RESPONSE,
                sealer.seal(&mut UnwrapErr(SysRng), &response),
            )
        }
    }
}

fn inner(state: &mut State, request: &bhttp::Request) -> bhttp::Response {
    let outcome = state.origin.check(request.field("authorization"));
    let outcome = outcome.and_then(|token| state.origin.spend(token));
    state.served.push(outcome);
    match outcome {
        Ok(()) => {
            let model = "test".to_owned();
            let json = match request.path.as_str() {
                paths::REWRITE => rewrite::Response {
                    suggestions: vec!["done".to_owned()],
                    usage: rewrite::Usage::default(),
                    model,
                }
                .to_json(),
                _ => Response {
                    summary: "done".to_owned(),
                    usage: Usage::default(),
                    model,
                }
                .to_json(),
            };
            let response = bhttp::Response::new(200).with_content(media::JSON, json);
            response.expect("valid")
        }
        Err(refusal) => {
            let kind = match refusal {
                Refusal::Missing => TOKEN_REQUIRED,
                Refusal::Spent => TOKEN_SPENT,
                _ => TOKEN_INVALID,
            };
            let problem = Problem::new(401, kind, refusal.to_string());
            bhttp::Response::new(401)
                .with_content(media::PROBLEM_JSON, problem.to_json())
                .and_then(|answer| {
                    answer.with_header("www-authenticate", state.origin.offer(0).to_field())
                })
                .expect("valid")
        }
    }
}

fn request() -> Request {
    Request {
        messages: vec![Message::new("Ana", "The launch moves to Thursday.")],
        style: Style::Bullets,
        max_tokens: None,
    }
}

fn ask(client: &mut Client) -> Result<String, ClientError> {
    Ok(client.summarize(&request())?.summary.clone())
}

#[test]
fn a_client_gets_tokens_once_and_spends_one_a_request() {
    let (issuing, server) = (Issuing::start(50), Server::start());
    let file = issuing.folder.path().join("wallet");
    let purse = || Purse::new(Some(Wallet::new(&file)), Some(issuing.client()), 4);
    let mut client = server.client(purse());
    for _ in 0..3 {
        assert_eq!(ask(&mut client).expect("served"), "done");
    }
    let (ok, missing) = (Ok(()), Err(Refusal::Missing));
    assert_eq!(server.served(), [missing, ok, ok, ok]);
    assert_eq!(
        issuing.outcomes(),
        [1, 2, 3, 4].map(|count| format!("200 ana, {count} of 50 today"))
    );
    // Another process goes on with the same file, and with new keys of the server at the same token.
    server.state().rotate = true;
    let mut client = server.client(purse());
    assert_eq!(ask(&mut client).expect("served"), "done");
    assert_eq!(server.served(), [ok]);
    assert_eq!(
        issuing.outcomes().len(),
        4,
        "the issuer was not asked again"
    );
    assert_eq!(ask(&mut client).expect("served"), "done");
    assert_eq!(server.served(), [missing, ok]);
    assert_eq!(issuing.outcomes().len(), 8);
}

#[test]
fn a_restarted_server_gets_new_tokens_and_old_ones_are_forgotten() {
    let (issuing, server) = (Issuing::start(50), Server::start());
    let wallet = Wallet::new(&issuing.folder.path().join("wallet"));
    let purse = Purse::new(Some(wallet.clone()), Some(issuing.client()), 5);
    let mut client = server.client(purse);
    ask(&mut client).expect("served");
    assert_eq!(wallet.count(0).expect("read"), 4);
    server.state().origin = new_origin();
    server.served();
    ask(&mut client).expect("served");
    assert_eq!(server.served(), [Err(Refusal::OtherChallenge), Ok(())]);
    assert_eq!(wallet.count(0).expect("read"), 4, "the new ones only");
    ask(&mut client).expect("served");
    assert_eq!(server.served(), [Ok(())]);
}

#[test]
fn a_wallet_from_a_backup_costs_one_more_try() {
    let (issuing, server) = (Issuing::start(50), Server::start());
    let file = issuing.folder.path().join("wallet");
    let purse = || Purse::new(Some(Wallet::new(&file)), Some(issuing.client()), 3);
    ask(&mut server.client(purse())).expect("served");
    let backup = std::fs::read(&file).expect("written");
    ask(&mut server.client(purse())).expect("served");
    std::fs::write(&file, backup).expect("restored");
    server.served();
    ask(&mut server.client(purse())).expect("served");
    assert_eq!(server.served(), [Err(Refusal::Spent), Ok(())]);
}

#[test]
fn without_a_token_or_an_issuer_the_user_is_told() {
    let (issuing, server) = (Issuing::start(1), Server::start());
    let error = ask(&mut server.client(Purse::default())).expect_err("no token");
    let words = error.to_string();
    assert!(
        words.contains("issuer.example for cloister.example") && words.contains("--issuer"),
        "{words}"
    );
    assert_eq!(server.served(), [Err(Refusal::Missing)], "it is tried once");
    let wallet = Wallet::new(&issuing.folder.path().join("wallet"));
    let error = ask(&mut server.client(Purse::new(Some(wallet), None, 3))).expect_err("empty");
    assert!(
        matches!(error, ClientError::Tokens(PurseError::Empty { .. })),
        "{error}"
    );
    // In memory, until the quota is used up.
    let mut client = server.client(Purse::new(None, Some(issuing.client()), 1));
    ask(&mut client).expect("served");
    let error = ask(&mut client).expect_err("used up").to_string();
    assert!(error.contains("429") && error.contains("quota"), "{error}");
    let stranger = IssuerClient::new(&issuing.url, "guess", TIMEOUT).expect("an address");
    let error = ask(&mut server.client(Purse::new(None, Some(stranger), 1))).expect_err("unknown");
    assert!(error.to_string().contains("401"), "{error}");
}

#[test]
fn a_batch_that_meets_the_quota_gives_what_there_was() {
    let issuing = Issuing::start(3);
    let offer = new_origin().offer(0);
    assert_eq!(issuing.client().fetch(&offer, 10).expect("some").len(), 3);
}

#[test]
fn tokens_are_asked_only_of_the_issuer_that_has_the_servers_key() {
    let other = IssuerKey::generate(&mut UnwrapErr(SysRng)).expect("a key");
    let issuing = Issuing::with_keys(5, vec![other]);
    let error = issuing
        .client()
        .fetch(&new_origin().offer(0), 1)
        .expect_err("another key");
    assert!(matches!(error, IssuerError::OtherKey { .. }), "{error}");
    assert!(issuing.outcomes().is_empty(), "it was asked for nothing");
    // An issuer that has both, as when keys follow each other.
    let other = IssuerKey::generate(&mut UnwrapErr(SysRng)).expect("a key");
    let issuing = Issuing::with_keys(5, vec![other, load_key(key_file(), None).expect("a key")]);
    assert_eq!(
        issuing
            .client()
            .fetch(&new_origin().offer(0), 2)
            .expect("both")
            .len(),
        2
    );
}

/// The credential goes to nobody that an authority does not vouch for.
#[test]
fn an_issuer_with_https_gives_tokens() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("authority");
    let (certificate, key) = Issued::by(&authority).files(folder.path());
    let identity = TlsIdentity::load(&certificate, &key).expect("an identity");
    let keys = vec![load_key(key_file(), None).expect("a key")];
    let issuing = Issuing::with(5, keys, Some(identity));
    let client = |authorities: &Authorities| {
        let credential = issuing.credential();
        IssuerClient::vouched_by(authorities, &issuing.url, &credential, TIMEOUT)
    };
    let trusted = Authorities::default().with_file(&authority.file(folder.path()));
    let trusted = trusted.expect("an authority");
    let issuer = client(&trusted).expect("an address");
    let tokens = issuer.fetch(&new_origin().offer(0), 2).expect("tokens");
    assert_eq!((tokens.len(), issuing.outcomes().len()), (2, 2));
    let server = Server::start();
    let issuer = client(&trusted).expect("an address");
    ask(&mut server.client(Purse::new(None, Some(issuer), 1))).expect("served");

    let other = Authority::new("other").file(folder.path());
    let other = Authorities::default().with_file(&other);
    let issuer = client(&other.expect("an authority")).expect("an address");
    let error = issuer
        .fetch(&new_origin().offer(0), 1)
        .expect_err("unknown");
    let text = error.to_string();
    assert!(
        text.contains("no authority") && text.contains(&issuing.url),
        "{text}"
    );
    assert_eq!(issuing.outcomes().len(), 3, "nothing was asked");
}

#[test]
fn what_the_issuer_refuses_and_what_it_counts() {
    let issuing = Issuing::start(2);
    let bearer = format!("authorization: Bearer {}", issuing.credential());
    let post = |fields: &str, body: &[u8]| {
        issuing
            .raw(&format!("POST /token-request HTTP/1.1\r\n{fields}"), body)
            .0
    };
    let typed = format!("content-type: {REQUEST_TYPE}\r\n{bearer}");
    let offer = new_origin().offer(0);
    let (good, _) = cloister_tokens::request::Pending::new(
        &offer.token_key,
        &offer.challenge,
        &mut UnwrapErr(SysRng),
    )
    .expect("a request");
    let good = good.encode();
    assert_eq!(
        post(&format!("content-type: text/plain\r\n{bearer}"), &good),
        415
    );
    assert_eq!(post(&typed, &good[1..]), 422);
    assert_eq!(post(&typed, &[&good[..], &[0]].concat()), 413);
    let mut wrong = good;
    wrong[1] = 1;
    assert_eq!(post(&typed, &wrong), 422, "another type");
    wrong = good;
    wrong[2] ^= 1;
    assert_eq!(post(&typed, &wrong), 422, "another key");
    wrong = good;
    wrong[3..].fill(0xff);
    assert_eq!(post(&typed, &wrong), 422, "not below the modulus");
    assert_eq!(post(&format!("content-type: {REQUEST_TYPE}"), &good), 401);
    assert_eq!(
        post(
            &format!("content-type: {REQUEST_TYPE}\r\nauthorization: Bearer x"),
            &good
        ),
        401
    );
    // None of them counted.
    let (status, answer) = issuing.raw(&format!("POST /token-request HTTP/1.1\r\n{typed}"), &good);
    assert_eq!(status, 200);
    assert!(
        answer.contains(&format!("content-type: {RESPONSE_TYPE}")),
        "{answer}"
    );
    assert_eq!(post(&typed, &good), 200);
    assert_eq!(post(&typed, &good), 429);
    assert!(
        issuing
            .outcomes()
            .iter()
            .all(|line| !line.contains(&issuing.credential()))
    );

    assert_eq!(issuing.raw("GET /token-request HTTP/1.1", b"").0, 405);
    assert_eq!(issuing.raw("GET /other HTTP/1.1", b"").0, 404);
    let path = cloister_tokens::directory::PATH;
    assert_eq!(issuing.raw(&format!("POST {path} HTTP/1.1"), b"").0, 405);
    let (status, answer) = issuing.raw(&format!("GET {path} HTTP/1.1"), b"");
    assert_eq!(status, 200);
    assert!(
        answer.contains("content-type: application/private-token-issuer-directory"),
        "{answer}"
    );
    assert!(answer.contains("cache-control: max-age=86400"), "{answer}");
    assert!(
        answer.contains("\"issuer-request-uri\":\"/token-request\""),
        "{answer}"
    );
}

/// The commands themselves.
#[test]
fn a_deployment_with_the_commands() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let cloister = || std::process::Command::new(env!("CARGO_BIN_EXE_cloister"));
    let added = cloister()
        .args([
            "issuer",
            "--clients",
            &path("clients"),
            "--add-client",
            "ana",
            "--quota",
            "9",
        ])
        .args(["--credential", &path("ana")])
        .output()
        .expect("it runs");
    assert_eq!(
        added.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&added.stderr)
    );
    std::fs::copy(key_file(), path("key")).expect("copied");
    let authority = Authority::new("authority");
    let authorities = authority.file(folder.path()).display().to_string();
    let (certificate, tls_key) = Issued::by(&authority).files(folder.path());
    let issuer = Running::start(
        cloister()
            .args(["issuer", "--listen", "127.0.0.1:0", "--json"])
            .args(["--clients", &path("clients"), "--key", &path("key")])
            .arg("--tls-certificate")
            .arg(certificate)
            .arg("--tls-key")
            .arg(tls_key),
    );
    let url = issuer.said("url").replace("127.0.0.1", "localhost");
    assert!(url.starts_with("https://localhost:"), "{url}");

    let server = Server::start();
    std::fs::write(path("messages.json"), br#"[{"from":"Ana","text":"Hi"}]"#).expect("written");
    let run = |words: &[&str], more: &[&str]| {
        let output = cloister()
            .args(words)
            .args([
                "--server",
                &server.url,
                "--insecure-no-attestation",
                "--json",
            ])
            .args(more)
            .output()
            .expect("it runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let messages = path("messages.json");
    let ask = |more: &[&str]| run(&["ask", "--messages", &messages], more);
    let rewrite = |more: &[&str]| run(&["rewrite", "hi"], more);
    for (status, said) in [ask(&[]), rewrite(&[])] {
        assert_eq!(status, Some(1));
        assert!(said.contains("--issuer"), "{said}");
    }
    let with = [
        "--tokens",
        &path("tokens"),
        "--issuer",
        &url,
        "--credential",
        &path("ana"),
        "--token-batch",
        "2",
        "--ca-certificate",
        &authorities,
    ];
    for (status, said) in [rewrite(&with), ask(&with)] {
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("done"), "{said}");
    }
    // The second one was kept, and is all that is left.
    let (status, said) = ask(&["--tokens", &path("tokens")]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("there is none in"), "{said}");
    let (status, _) = issuer.terminate();
    assert_eq!(status.code(), Some(0), "SIGTERM is a graceful end");
}
