//! `cloister relay` as a process.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};

use serde_json::Value;

use super::raw::{ANSWER, POST, RawGateway, answer, refusal};
use super::running::Running;

/// The process, and how it is asked.
pub(crate) struct Process(pub(crate) Running);

pub(crate) fn start(gateway: &str, more: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloister"));
    command
        .args(["relay", "--listen", "127.0.0.1:0", "--json"])
        .args(["--gateway", gateway])
        .args(more);
    Process(Running::start(&mut command))
}

impl Process {
    pub(crate) fn connect(&self, what: &str) -> TcpStream {
        let url = self.0.said(what);
        let rest = url.strip_prefix("http://").expect("http");
        TcpStream::connect(rest.split('/').next().expect("a host")).expect("it listens")
    }

    /// Memory that it has, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.0.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let mut words = line.expect("a figure").split_whitespace();
        let digits = words.next().expect("a figure");
        digits.parse().expect("a number")
    }
}

#[test]
fn it_says_where_it_is_and_nothing_of_its_clients() {
    let gateway = RawGateway::answering(ANSWER);
    let process = start(&gateway.url(), &["--metrics", "127.0.0.1:0"]);
    assert_eq!(process.0.document["gateway"], gateway.url());
    let mut client = process.connect("url");
    let client_port = client.local_addr().expect("bound").port().to_string();
    client.write_all(POST.as_bytes()).expect("sent");
    assert!(answer(&mut client).ends_with("world"));
    let mut scraped = process.connect("metrics");
    write!(scraped, "GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n").expect("sent");
    let counters = answer(&mut scraped);
    assert!(
        counters.contains("\ncloister_relay_answers_total{status=\"2xx\"} 1\n"),
        "{counters}"
    );
    let (status, errors) = process.0.terminate();
    assert_eq!(status.code(), Some(0));
    assert_eq!(errors, "{\"event\":\"stopped\",\"message\":\"stopped\"}\n");
    for text in [&counters, &errors] {
        assert!(
            !text.contains(&client_port) && !text.contains("127.0.0.1"),
            "{text}"
        );
    }
}

#[test]
fn a_gateway_that_fails_is_said_once() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let url = format!("http://{}", closed.expect("a port"));
    let process = start(&url, &[]);
    for _ in 0..3 {
        let mut client = process.connect("url");
        client.write_all(POST.as_bytes()).expect("sent");
        assert_eq!(refusal(&answer(&mut client)).0, 502);
    }
    let (_, errors) = process.0.terminate();
    let lines: Vec<Value> = errors
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2, "{errors}");
    assert_eq!(lines[0]["event"], "gateway-fails");
    assert!(!errors.contains("127.0.0.1"), "{errors}");
}

fn run(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloister"));
    command
        .arg("relay")
        .args(words)
        .output()
        .expect("it is built")
}

#[test]
fn what_cannot_be_relayed_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let output = run(&["--listen", &address, "--gateway", "http://h"]);
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("cannot listen at") && text.contains(&address),
        "{text}"
    );
    for (words, word) in [
        (
            &["--listen", "127.0.0.1:0", "--gateway", "h:80"][..],
            "scheme",
        ),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--gateway",
                "http://h",
                "--gateway-key",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ],
            "no TLS",
        ),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--gateway",
                "https://h",
                "--gateway-key",
                "e3b0",
            ],
            "64 hexadecimal digits",
        ),
        (&["--listen", "127.0.0.1:0"], "--gateway"),
        (&["--listen", "here", "--gateway", "http://h"], "--listen"),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--gateway",
                "http://h",
                "--connections",
                "0",
            ],
            "1000000",
        ),
    ] {
        let output = run(words);
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(word), "{text}");
    }
}
