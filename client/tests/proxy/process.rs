//! The proxy's process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::raw::{PATIENCE, read_message};

/// A process that is killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) document: Value,
}

/// What it answers.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// A member of the error.
    pub(crate) fn error(&self, member: &str) -> String {
        let document = self.json();
        let value = &document["error"][member];
        value
            .as_str()
            .unwrap_or_else(|| panic!("no {member}: {document}"))
            .to_owned()
    }
}

/// The next answer, without its transfer coding.
pub(crate) fn answer(stream: &mut TcpStream) -> Answer {
    let message = read_message(stream, |_| ()).expect("a whole answer");
    let text = String::from_utf8(message.expect("an answer")).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let is_chunked = head.contains("transfer-encoding: chunked");
    Answer {
        status: head[9..12].parse().expect("a status"),
        head: head.to_owned(),
        body: if is_chunked {
            joined(body)
        } else {
            body.to_owned()
        },
    }
}

/// The content of chunks.
fn joined(mut chunks: &str) -> String {
    let mut content = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n").expect("a length");
        let length = usize::from_str_radix(length, 16).expect("a length");
        if length == 0 {
            return content;
        }
        content += &rest[..length];
        chunks = &rest[length + 2..];
    }
}

fn command(server: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloister"));
    command
        .args([
            "proxy",
            "--server",
            server,
            "--listen",
            "127.0.0.1:0",
            "--json",
        ])
        .args(more);
    command
}

/// Runs it where it is to end by itself.
pub(crate) fn run(server: &str, more: &[&str]) -> Output {
    command(server, more).output().expect("it is built")
}

impl Proxy {
    pub(crate) fn start(server: &str, more: &[&str]) -> Self {
        let mut child = command(server, more)
            .arg("--insecure-no-attestation")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it is built");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        out.read_line(&mut line).expect("a line");
        if line.is_empty() {
            let mut errors = String::new();
            let pipe = child.stderr.as_mut().expect("a pipe");
            pipe.read_to_string(&mut errors).expect("text");
            panic!("it did not start: {errors}");
        }
        let document = serde_json::from_str(&line).expect("one JSON document");
        Self { child, document }
    }

    pub(crate) fn base_url(&self) -> &str {
        self.document["base_url"].as_str().expect("an address")
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let url = self.document["url"].as_str().expect("an address");
        let stream = TcpStream::connect(url.strip_prefix("http://").expect("http"));
        let stream = stream.expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        stream
    }

    pub(crate) fn send(&self, method: &str, path: &str, fields: &str, body: &str) -> TcpStream {
        let mut stream = self.connect();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\n{fields}content-length: {length}\r\n\r\n{body}"
        )
        .expect("sent");
        stream
    }

    /// With these fields, and nothing else.
    pub(crate) fn exchange(&self, method: &str, path: &str, fields: &str, body: &str) -> Answer {
        answer(&mut self.send(method, path, fields, body))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.exchange("GET", path, "host: localhost\r\n", "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        let fields = "host: localhost\r\ncontent-type: application/json\r\n";
        self.exchange("POST", path, fields, body)
    }

    pub(crate) fn terminate(mut self) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status();
        assert!(sent.expect("kill is there").success());
        let mut errors = String::new();
        let pipe = self.child.stderr.as_mut().expect("a pipe");
        pipe.read_to_string(&mut errors).expect("text");
        (self.child.wait().expect("it ends").code(), errors)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It has ended, or a test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
