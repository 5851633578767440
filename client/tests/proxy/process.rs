//! The proxy's process.

use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Output};

use serde_json::Value;

use super::raw::{PATIENCE, read_message};
use super::running::Running;

/// The process, and how it is asked.
pub(crate) struct Proxy(pub(crate) Running);

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
        Self(Running::start(
            command(server, more).arg("--insecure-no-attestation"),
        ))
    }

    pub(crate) fn base_url(&self) -> &str {
        self.0.said("base_url")
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let url = self.0.said("url");
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
}
