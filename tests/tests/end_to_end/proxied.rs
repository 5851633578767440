//! Programs that speak OpenAI's interface, through `cloister proxy`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cloister_tests::guests::{Shared, workspace};
use serde_json::{Value, json};
use xtask::workspace::cargo;

/// The command as it is now. It is another package's, so nobody else builds it for this test.
fn cloister() -> PathBuf {
    let mut build = cargo();
    // The features of the tests: then nothing but the command itself is built.
    build.args(["build", "--locked", "--quiet", "--workspace"]);
    build.args(["--features", "cloister-tests/slow", "--bin", "cloister"]);
    let status = build.current_dir(workspace().root()).status();
    assert!(status.expect("cargo starts").success());
    workspace().target().join("debug/cloister")
}

/// A process that is killed when dropped.
struct Proxy {
    child: Child,
    address: String,
}

impl Proxy {
    fn start(server: &str) -> Self {
        let mut child = Command::new(cloister())
            .args(["proxy", "--server", server, "--listen", "127.0.0.1:0"])
            .args(["--insecure-no-attestation", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        out.read_line(&mut line).expect("a line");
        let document: Value = serde_json::from_str(&line).expect("JSON");
        let url = document["url"].as_str().expect("an address");
        Self {
            child,
            address: url.strip_prefix("http://").expect("http").to_owned(),
        }
    }

    fn send(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let limit = Some(Duration::from_secs(300));
        stream.set_read_timeout(limit).expect("a limit");
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .expect("sent");
        stream
    }

    /// Head and content, as they come.
    fn exchange(&self, method: &str, path: &str, body: &str) -> (String, String) {
        let mut text = String::new();
        let mut stream = self.send(method, path, body);
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        (head.to_owned(), body.to_owned())
    }

    fn ask(&self, path: &str, body: &Value) -> Value {
        let (head, body) = self.exchange("POST", path, &body.to_string());
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}\n{body}");
        serde_json::from_str(&body).expect("JSON")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It has ended, or a test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CHAT: &str = "/v1/chat/completions";

fn chat(members: &Value) -> Value {
    let mut request = json!({
        "model": "any",
        "messages": [{ "role": "user", "content": "The launch moves to Thursday." }],
        "max_tokens": 8,
    });
    let object = request.as_object_mut().expect("an object");
    object.extend(members.as_object().expect("an object").clone());
    request
}

#[test]
fn conversations_whole_streamed_refused_and_left() {
    let guest = Shared::lease();
    let proxy = Proxy::start(&format!("http://127.0.0.1:{}", guest.port()));
    let whole = proxy.ask(CHAT, &chat(&json!({})));
    let said = whole["choices"][0]["message"]["content"].as_str();
    let said = said.expect("text");

    let streamed = chat(&json!({ "stream": true })).to_string();
    let (head, events) = proxy.exchange("POST", CHAT, &streamed);
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    // Each event is whole within a chunk of the transfer coding.
    let data = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    let data: Vec<&str> = data.collect();
    assert_eq!(data.last(), Some(&"[DONE]"));
    let words = data
        .iter()
        .filter(|text| text.starts_with('{'))
        .map(|text| {
            let chunk: Value = serde_json::from_str(text).expect("JSON");
            let content = chunk["choices"][0]["delta"]["content"].as_str();
            content.unwrap_or_default().to_owned()
        });
    assert_eq!(words.collect::<String>(), said, "the same, streamed");

    let (_, models) = proxy.exchange("GET", "/v1/models", "");
    let models: Value = serde_json::from_str(&models).expect("JSON");
    assert_eq!(models["data"][0]["object"], "model");
    let summary = json!({ "messages": [{ "from": "Ana", "text": "Hello." }], "max_tokens": 4 });
    assert!(proxy.ask("/v1/summarize", &summary)["summary"].is_string());

    let tools = chat(&json!({ "tools": [{ "type": "function" }] }));
    for stream in [false, true] {
        let mut tools = tools.clone();
        tools["stream"] = stream.into();
        let (head, body) = proxy.exchange("POST", CHAT, &tools.to_string());
        assert!(head.starts_with("HTTP/1.1 422 "), "{head}\n{body}");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["error"]["param"], "tools");
    }

    let cancelled = guest.metric("cloister_jobs_cancelled_total");
    let long = "The quick brown fox jumps over the lazy dog. ".repeat(60);
    let long = json!({
        "messages": [{ "role": "user", "content": long }],
        "max_tokens": 400,
        "temperature": 1.5,
    });
    let program = proxy.send("POST", CHAT, &chat(&long).to_string());
    guest.wait_for_metric("cloister_jobs", |jobs| jobs == 1);
    drop(program);
    guest.wait_for_metric("cloister_jobs", |jobs| jobs == 0);
    let now = guest.metric("cloister_jobs_cancelled_total");
    assert_eq!(now, cancelled + 1, "a program that leaves ends its job");
}
