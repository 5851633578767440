//! The client against a gateway in this process, over real sockets: what it sends, what it refuses, when it tries again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloister_client::{Client, ClientError, Policy, Refusal};
use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::summarize::{Limits, Message, Request, Response, Style, Usage};
use cloister_protocol::api::{media, paths, rewrite};
use cloister_protocol::bhttp;
use cloister_protocol::evidence::{Enclosures, Evidence, Kind, parse_nonce};
use cloister_protocol::ohttp::Gateway;
use cloister_protocol::padding::BUCKETS_BYTES;
use getrandom::SysRng;
use rand_core::UnwrapErr;

const TIMEOUT: Duration = Duration::from_secs(20);

fn accept() -> Policy {
    Policy {
        accept_unattested: true,
        ..Policy::default()
    }
}

/// How the server differs from one that does all right.
#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    Right,
    /// New keys after the first evidence, as when an epoch ends.
    RotatesOnce,
    /// New keys before each request.
    RotatesAlways,
    /// Evidence without the nonce.
    Stale,
    /// Answers with altered bytes.
    AltersAnswers,
    /// Answers 422 inside the encapsulation.
    Refuses,
    /// Not a Cloister server at all.
    Foreign,
}

struct Server {
    url: String,
    /// Method and path of each outer request, in order.
    seen: Arc<Mutex<Vec<String>>>,
}

fn gateway() -> Gateway {
    Gateway::generate(&mut UnwrapErr(SysRng))
}

fn serve(behaviour: Behaviour) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    std::thread::spawn(move || {
        let mut state = State {
            behaviour,
            gateway: gateway(),
            rotated: false,
        };
        for stream in listener.incoming().flatten() {
            serve_one(&mut state, stream, &log);
        }
    });
    Server { url, seen }
}

struct State {
    behaviour: Behaviour,
    gateway: Gateway,
    rotated: bool,
}

fn serve_one(state: &mut State, stream: TcpStream, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a request line");
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("a header line");
        match header
            .trim()
            .to_ascii_lowercase()
            .strip_prefix("content-length:")
        {
            Some(value) => length = value.trim().parse().expect("a length"),
            None if header.trim().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    let target = line.split(' ').nth(1).expect("a target").to_owned();
    let method = line.split(' ').next().expect("a method");
    log.lock().expect("no panic").push(format!(
        "{method} {}",
        target.split('?').next().expect("a path")
    ));
    let (status, media_type, content) = answer(state, &target, &body);
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        content.len()
    );
    let mut stream = reader.into_inner();
    stream
        .write_all(&[head.as_bytes(), &content].concat())
        .expect("the client reads");
}

fn answer(state: &mut State, target: &str, body: &[u8]) -> (u16, &'static str, Vec<u8>) {
    if state.behaviour == Behaviour::Foreign {
        return (200, "text/html", b"<p>hello".to_vec());
    }
    if let Some(nonce) = target.strip_prefix(&format!("{}?nonce=", paths::EVIDENCE)) {
        let nonce = parse_nonce(nonce).filter(|_| state.behaviour != Behaviour::Stale);
        let key_configs = state.gateway.key_configs();
        return (
            200,
            media::CMW_CBOR,
            Evidence {
                kind: Kind::None,
                key_configs,
                epoch: 1,
                nonce,
                tls_public_key: Vec::new(),
                enclosures: Enclosures::default(),
            }
            .encode(),
        );
    }
    let rotate = match state.behaviour {
        Behaviour::RotatesOnce => !std::mem::replace(&mut state.rotated, true),
        Behaviour::RotatesAlways => true,
        _ => false,
    };
    if rotate {
        state.gateway = gateway();
    }
    match state.gateway.decapsulate(body) {
        Err(error) => {
            let problem = Problem::from(error);
            (problem.status, media::PROBLEM_JSON, problem.to_json())
        }
        Ok((opened, sealer)) => {
            assert!(
                BUCKETS_BYTES.contains(&opened.len()),
                "padded to a bucket, not {}",
                opened.len()
            );
            let request =
                bhttp::Request::decode(&opened, &bhttp::Limits::DEFAULT).expect("binary HTTP");
            let response = inner_answer(state.behaviour, &request)
                .encode_padded()
                .expect("fits");
            let mut sealed = sealer.seal(&mut UnwrapErr(SysRng), &response);
            if state.behaviour == Behaviour::AltersAnswers {
                *sealed.last_mut().expect("not empty") ^= 1;
            }
            (200, media::OHTTP_RESPONSE, sealed)
        }
    }
}

fn inner_answer(behaviour: Behaviour, request: &bhttp::Request) -> bhttp::Response {
    if behaviour == Behaviour::Refuses {
        let problem = Problem::from_status(422)
            .with_detail("the field is wrong")
            .to_json();
        return bhttp::Response::new(422)
            .with_content(media::PROBLEM_JSON, problem)
            .expect("valid");
    }
    if request.path == paths::REWRITE {
        let request = rewrite::Request::from_json(&request.content, 100).expect("a request");
        let response = rewrite::Response {
            suggestions: vec![format!("{} in {:?}", request.text, request.tone)],
            usage: rewrite::Usage::default(),
            model: "test".to_owned(),
        };
        return bhttp::Response::new(200)
            .with_content(media::JSON, response.to_json())
            .expect("valid");
    }
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", paths::SUMMARIZE)
    );
    let request = Request::from_json(&request.content, &Limits::DEFAULT).expect("a request");
    let summary = format!("{} wrote", request.messages[0].from);
    let response = Response {
        summary,
        usage: Usage::default(),
        model: "test".to_owned(),
    };
    bhttp::Response::new(200)
        .with_content(media::JSON, response.to_json())
        .expect("valid")
}

fn request() -> Request {
    let messages = vec![Message::new("Ana", "The launch moves to Thursday.")];
    Request {
        messages,
        style: Style::Bullets,
        max_tokens: None,
    }
}

fn ask(server: &Server) -> Result<Response, ClientError> {
    Client::connect(&server.url, TIMEOUT, accept())?.summarize(&request())
}

fn seen(server: &Server) -> Vec<String> {
    server.seen.lock().expect("no panic").clone()
}

const EVIDENCE: &str = "GET /.well-known/cloister/evidence";
const POST: &str = "POST /.well-known/ohttp-gateway";

#[test]
fn a_summary_comes_back() {
    let server = serve(Behaviour::Right);
    assert_eq!(ask(&server).expect("an answer").summary, "Ana wrote");
    assert_eq!(seen(&server), [EVIDENCE, POST]);
}

#[test]
fn without_the_flag_nothing_is_sent() {
    let server = serve(Behaviour::Right);
    let outcome = Client::connect(&server.url, TIMEOUT, Policy::default());
    assert!(matches!(
        outcome.err(),
        Some(ClientError::Refused(Refusal::Unattested))
    ));
    assert_eq!(seen(&server), [EVIDENCE]);
}

#[test]
fn stale_evidence_is_refused() {
    let server = serve(Behaviour::Stale);
    assert!(matches!(
        ask(&server),
        Err(ClientError::Refused(Refusal::Stale))
    ));
    assert_eq!(seen(&server), [EVIDENCE]);
}

#[test]
fn a_new_key_is_fetched_once() {
    let server = serve(Behaviour::RotatesOnce);
    assert_eq!(ask(&server).expect("the second try").summary, "Ana wrote");
    assert_eq!(seen(&server), [EVIDENCE, POST, EVIDENCE, POST]);
}

#[test]
fn and_not_more_than_once() {
    let server = serve(Behaviour::RotatesAlways);
    let error = ask(&server).expect_err("no key ever fits");
    assert!(
        matches!(&error, ClientError::Problem { problem, sealed: false } if problem.is_key_problem()),
        "{error}"
    );
    assert_eq!(seen(&server), [EVIDENCE, POST, EVIDENCE, POST]);
}

#[test]
fn an_altered_answer_is_not_believed() {
    let error = ask(&serve(Behaviour::AltersAnswers)).expect_err("altered");
    assert!(matches!(error, ClientError::Open(_)), "{error}");
}

#[test]
fn the_servers_words_are_repeated() {
    let error = ask(&serve(Behaviour::Refuses))
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("422") && error.contains("the field is wrong"),
        "{error}"
    );
}

#[test]
fn another_kind_of_server_is_recognized() {
    let error = ask(&serve(Behaviour::Foreign))
        .expect_err("not a Cloister server")
        .to_string();
    assert!(
        error.contains("text/html") && error.contains("is this a Cloister server?"),
        "{error}"
    );
}

#[test]
fn a_request_without_text_is_not_sent() {
    let server = serve(Behaviour::Right);
    let client = Client::connect(&server.url, TIMEOUT, accept()).expect("connected");
    let empty = Request {
        messages: vec![],
        style: Style::Bullets,
        max_tokens: None,
    };
    assert!(matches!(
        client.summarize(&empty),
        Err(ClientError::Request(_))
    ));
    assert_eq!(seen(&server), [EVIDENCE]);
}

#[test]
fn the_command_prints_other_wordings() {
    let server = serve(Behaviour::Right);
    let run = |words: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_cloister"))
            .args([
                "rewrite",
                "--server",
                &server.url,
                "--insecure-no-attestation",
            ])
            .args(words)
            .stdin(std::process::Stdio::null())
            .output()
            .expect("the command runs");
        let text = String::from_utf8(output.stdout).expect("text");
        (output.status.code(), text)
    };
    let (status, text) = run(&["--tone", "formal", "hey"]);
    assert_eq!(status, Some(0));
    assert!(
        text.starts_with("hey in Formal\n\nWritten by a machine"),
        "{text}"
    );
    assert!(text.contains("NOT ATTESTED"), "{text}");
    let (status, text) = run(&["--json", "hey"]);
    let document: serde_json::Value = serde_json::from_str(&text).expect("one JSON document");
    assert_eq!(
        (status, &document["suggestions"][0]),
        (Some(0), &"hey in Friendly".into())
    );
    assert_eq!(document["attestation"]["kind"], "none");
    assert_eq!(run(&["-"]).0, Some(1), "nothing on standard input");
    assert_eq!(run(&["--tone", "rude", "hey"]).0, Some(2));
}

#[test]
fn any_request_can_be_sent_and_problems_are_answers() {
    let send = |behaviour| {
        let client = Client::connect(&serve(behaviour).url, TIMEOUT, accept()).expect("connected");
        let request = bhttp::Request::new("POST", paths::SUMMARIZE)
            .with_content(media::JSON, request().to_json().to_vec())
            .expect("valid");
        client.send(&request)
    };
    let answer = send(Behaviour::RotatesOnce).expect("the second try");
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .content
            .windows(9)
            .any(|window| window == b"Ana wrote")
    );
    let answer = send(Behaviour::Refuses).expect("an answer");
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.field("content-type"),
        Some(media::PROBLEM_JSON.as_bytes())
    );
}

/// The command itself, with its exit status and its two streams.
#[test]
fn the_command_reports_by_status_and_json() {
    let server = serve(Behaviour::Right);
    let run = |words: &[&str]| {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_cloister"))
            .args(["ask", "--server", &server.url, "--json"])
            .args(words)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("the command starts");
        let input = br#"[{"from":"Ana","text":"Hi"}]"#;
        // The command may end before it reads its input.
        let _ = child.stdin.take().expect("piped").write_all(input);
        let output = child.wait_with_output().expect("it ends");
        let document: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("one JSON document");
        (output.status.code(), document)
    };
    let (status, document) = run(&["--insecure-no-attestation"]);
    assert_eq!(status, Some(0));
    assert_eq!(
        (&document["summary"], &document["machine_made"]),
        (&"Ana wrote".into(), &true.into())
    );
    assert_eq!(document["attestation"]["attested"], false);
    assert!(
        document["attestation"]["notice"]
            .as_str()
            .is_some_and(|notice| notice.contains("NOT ATTESTED"))
    );
    let (status, document) = run(&[]);
    assert_eq!(status, Some(3));
    assert!(
        document["error"]
            .as_str()
            .is_some_and(|error| error.contains("nothing was sent"))
    );
    let (status, _) = run(&["--insecure-no-attestation", "--messages", "no-such-file"]);
    assert_eq!(status, Some(1));
}
