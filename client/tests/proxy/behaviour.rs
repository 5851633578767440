//! What it does.

use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use super::process::{Proxy, answer, run};
use super::raw::{Relaying, wait_until};
use super::server::{Server, read_all};

pub(crate) const CHAT: &str = "/v1/chat/completions";

pub(crate) fn ask(said: &str, stream: bool) -> String {
    serde_json::json!({
        "model": "any",
        "stream": stream,
        "messages": [{ "role": "user", "content": said }],
    })
    .to_string()
}

/// The data of the events in an answer.
fn data(body: &str) -> Vec<&str> {
    let lines = body.lines();
    lines
        .filter_map(|line| line.strip_prefix("data: "))
        .collect()
}

/// What the chunks of a streamed answer say together.
pub(crate) fn said(body: &str) -> String {
    let chunks = data(body).into_iter().filter(|text| text.starts_with('{'));
    let content = chunks.filter_map(|text| {
        let chunk: serde_json::Value = serde_json::from_str(text).unwrap();
        let content = chunk["choices"][0]["delta"]["content"].as_str();
        content.map(str::to_owned)
    });
    content.collect()
}

#[test]
fn answers_whole_and_streamed() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url(), &[]);
    assert!(
        proxy.0.document["notice"]
            .as_str()
            .unwrap()
            .contains("NOT ATTESTED")
    );
    let answer = proxy.post(CHAT, &ask("good day", false));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let message = answer.json()["choices"][0]["message"]["content"].clone();
    assert_eq!(message, "You said: good day");
    let answer = proxy.post(CHAT, &ask("good day", true));
    assert!(
        answer.head.contains("content-type: text/event-stream"),
        "{}",
        answer.head
    );
    assert!(answer.body.contains("data: [DONE]\n\n"), "{}", answer.body);
    assert_eq!(said(&answer.body), "You said: good day");
    server.wait_for_completion();
    let models = proxy.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], "fake");
    assert_eq!(proxy.get("/v1/models/fake").json()["id"], "fake");
    let none = proxy.get("/v1/models/other");
    assert_eq!(
        (none.status, none.error("code").as_str()),
        (404, "model_not_found")
    );
    for path in ["/v1/summarize", "/v1/rewrite"] {
        let answer = proxy.post(path, r#"{"text":"hi"}"#).json();
        assert_eq!(
            answer,
            serde_json::json!({ "path": path, "asked": { "text": "hi" } })
        );
    }
    assert_eq!(server.looks(), 1, "keys are kept");
    assert_eq!(proxy.0.terminate().0.code(), Some(0));
}

#[test]
fn nothing_of_a_program_but_its_request_goes_to_the_server() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url(), &[]);
    // The server asserts that an inner request has a media type and nothing else.
    let fields = "host: localhost:8000\r\ncontent-type: application/json; charset=utf-8\r\nuser-agent: x\r\n\
        authorization: Bearer secret\r\ncookie: id=1\r\nopenai-organization: org\r\nx-stainless-os: Linux\r\n";
    let answer = proxy.exchange("POST", CHAT, fields, &ask("hi", false));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(!answer.head.contains("access-control"), "{}", answer.head);
}

#[test]
fn errors_have_the_shape_that_programs_know() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url(), &[]);
    for stream in ["", r#""stream":true,"#] {
        let answer = proxy.post(CHAT, &format!("{{{stream}\"messages\":[]}}"));
        assert_eq!(answer.status, 422, "{}", answer.body);
        assert_eq!(answer.error("message"), "there is no message");
        assert_eq!(answer.error("type"), "invalid_request_error");
        assert_eq!(answer.error("param"), "messages");
    }
    let local = "host: localhost\r\n";
    let json = "host: localhost\r\ncontent-type: application/json\r\n";
    for (method, path, fields, status, code) in [
        ("GET", "/v1/embeddings", local, 404, "unknown_url"),
        ("GET", CHAT, local, 405, "method"),
        ("POST", "/v1/models", json, 405, "method"),
        ("POST", CHAT, local, 415, "content_type"),
        (
            "POST",
            CHAT,
            "host: evil.example\r\ncontent-type: application/json\r\n",
            403,
            "host",
        ),
        ("GET", "/v1/models", "host: evil.example\r\n", 403, "host"),
        (
            "POST",
            CHAT,
            "host: localhost\r\norigin: https://evil.example\r\ncontent-type: application/json\r\n",
            403,
            "origin",
        ),
    ] {
        let answer = proxy.exchange(method, path, fields, "");
        assert_eq!(
            (answer.status, answer.error("code").as_str()),
            (status, code),
            "{path}"
        );
    }
    let mut large = proxy.connect();
    let head = format!("POST {CHAT} HTTP/1.1\r\n{json}content-length: 300000\r\n\r\n");
    large.write_all(head.as_bytes()).unwrap();
    let large = answer(&mut large);
    assert_eq!(
        (large.status, large.error("code").as_str()),
        (413, "too_large")
    );
    assert_eq!(server.inner(), [CHAT, CHAT]);
}

#[test]
fn a_key_may_be_asked_for() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url(), &["--api-key", "secret"]);
    let json = "host: localhost\r\ncontent-type: application/json\r\n";
    let with = |key: &str| {
        let fields = format!("{json}authorization: Bearer {key}\r\n");
        proxy.exchange("POST", CHAT, &fields, &ask("hi", false))
    };
    assert_eq!(with("secret").status, 200);
    let refused = with("other");
    assert_eq!(
        (refused.status, refused.error("code").as_str()),
        (401, "invalid_api_key")
    );
    assert_eq!(proxy.get("/v1/models").status, 401);
}

#[test]
fn new_keys_are_fetched_when_the_server_has_them() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url(), &[]);
    for stream in [false, true] {
        server.rotate();
        let answer = proxy.post(CHAT, &ask("hi", stream));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(server.looks(), 3);
    assert_eq!(
        proxy.get("/cloister/attestation").json()["epoch"]["number"],
        3
    );
}

#[test]
fn keys_are_renewed_by_themselves_around_the_end_of_their_epoch() {
    let server = Server::with_epoch(Duration::from_secs(63));
    let proxy = Proxy::start(&server.url(), &[]);
    wait_until(|| server.looks() >= 2);
    assert_eq!(proxy.post(CHAT, &ask("hi", false)).status, 200);
}

#[test]
fn a_client_that_leaves_ends_its_request_at_the_server() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url(), &[]);
    let json = "host: localhost\r\ncontent-type: application/json\r\n";
    let stream = proxy.send("POST", CHAT, json, &ask("forever", true));
    wait_until(|| server.inner().len() == 1);
    drop(stream);
    server.wait_for_cancellation();
}

#[test]
fn an_answer_that_is_cut_ends_with_an_error() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url(), &[]);
    let answer = proxy.post(CHAT, &ask("cut", true));
    let last = data(&answer.body).pop().unwrap().to_owned();
    let error: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!(error["error"]["code"], "broken_answer", "{last}");
    assert!(!answer.body.contains("[DONE]"));
}

#[test]
fn a_server_that_is_refused_gets_nothing_and_programs_are_told_why() {
    let server = Server::start();
    let output = run(&server.url(), &[]);
    assert_eq!(output.status.code(), Some(3));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        document["error"]
            .as_str()
            .unwrap()
            .contains("no attestation evidence")
    );

    let proxy = Proxy::start(&server.url(), &[]);
    assert_eq!(proxy.post(CHAT, &ask("hi", false)).status, 200);
    server.spoil_evidence();
    server.rotate();
    for _ in 0..2 {
        let answer = proxy.post(CHAT, &ask("hi", false));
        assert_eq!(answer.status, 502);
        assert_eq!(answer.error("type"), "attestation_error");
        assert_eq!(answer.error("code"), "nonce");
        assert!(
            answer
                .error("message")
                .contains("does not repeat the nonce")
        );
        assert!(
            answer.head.contains("x-should-retry: false"),
            "{}",
            answer.head
        );
    }
    assert_eq!(server.inner(), [CHAT], "one before, none after");
}

#[test]
fn a_server_that_is_not_there_yet_is_asked_later() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let url = format!("http://{}", closed.unwrap());
    let proxy = Proxy::start(&url, &[]);
    assert!(
        proxy.0.document["notice"]
            .as_str()
            .unwrap()
            .starts_with("NOT CHECKED YET")
    );
    let answer = proxy.post(CHAT, &ask("hi", false));
    assert_eq!(
        (answer.status, answer.error("code").as_str()),
        (502, "unreachable")
    );
}

#[test]
fn through_a_relay() {
    let server = Server::start();
    let relay = Relaying::start(&server.url(), cloister_client::relay::Limits::default());
    // Nothing listens where the server is said to be: only the relay is asked.
    let proxy = Proxy::start("http://127.0.0.1:1", &["--relay", &relay.url()]);
    let answer = proxy.post(CHAT, &ask("good day", false));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = proxy.post(CHAT, &ask("good day", true));
    assert_eq!(said(&answer.body), "You said: good day");
    server.rotate();
    assert_eq!(proxy.post(CHAT, &ask("good day", true)).status, 200);
    let json = "host: localhost\r\ncontent-type: application/json\r\n";
    let stream = proxy.send("POST", CHAT, json, &ask("forever", true));
    wait_until(|| server.inner().len() == 4);
    drop(stream);
    server.wait_for_cancellation();
    assert_eq!(server.looks(), 2);
}

#[test]
fn other_machines_are_let_in_only_on_purpose() {
    let server = Server::start();
    let output = run(&server.url(), &["--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2), "the address is there twice");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cloister"));
    let output = command.args(["proxy", "--server", &server.url(), "--listen", "0.0.0.0:0"]);
    let output = output.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("--allow-remote"), "{text}");
}

#[test]
fn a_program_that_stops_in_the_middle_of_its_request_is_let_go() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url(), &[]);
    let mut stream = proxy.connect();
    let head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n";
    stream.write_all(head).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let rest = read_all(&mut stream);
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 4"), "{rest}");
}
