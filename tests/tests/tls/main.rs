//! The guest's TLS, in this process, with clients of other people: OpenSSL and curl; and with our own.

mod host;
mod relayed;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use std::{fs, thread};

use cloister_client::{Client, ClientError, Policy, Refusal};
use host::HostGuest;

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs a client with `input`; `None`, and a line about it, where there is no such program.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> Option<Output> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            eprintln!("NOT RUN: {program}: {error}");
            return None;
        }
    };
    // A client that was refused does not read on.
    let _ = child.stdin.take().expect("piped").write_all(input);
    Some(child.wait_with_output().expect("it ends"))
}

/// `openssl s_client` with more arguments: whether it was content, and all that it printed.
fn s_client(guest: &HostGuest, arguments: &[&str], input: &[u8]) -> Option<(bool, String)> {
    let address = format!("127.0.0.1:{}", guest.port);
    let start = ["s_client", "-connect", &address, "-ign_eof"];
    let output = run("openssl", &[&start[..], arguments].concat(), input)?;
    let text = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

#[test]
fn openssl_speaks_tls_1_3_with_every_algorithm_and_nothing_older() {
    let guest = HostGuest::start(0, None);
    for options in [
        ["-groups", "X25519"],
        ["-groups", "P-256"],
        ["-ciphersuites", "TLS_AES_128_GCM_SHA256"],
        ["-ciphersuites", "TLS_AES_256_GCM_SHA384"],
        ["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
        ["-alpn", "http/1.1"],
    ] {
        let Some((_, text)) = s_client(&guest, &[&["-tls1_3"], &options[..]].concat(), REQUEST)
        else {
            return;
        };
        assert!(
            text.contains("200 OK") && text.contains("ready\n"),
            "{options:?}: {text}"
        );
        assert!(text.contains("TLSv1.3"), "{options:?}: {text}");
        assert!(!text.contains("New Session Ticket"), "{options:?}: {text}");
    }
    for (options, alert) in [
        (&["-tls1_2"][..], "protocol version"),
        (&["-tls1_3", "-groups", "P-521"], "handshake failure"),
        (&["-tls1_3", "-alpn", "h2"], "no application protocol"),
    ] {
        let Some((success, text)) = s_client(&guest, options, REQUEST) else {
            return;
        };
        assert!(!success && text.contains(alert), "{options:?}: {text}");
    }
}

#[test]
fn openssl_finds_the_certificate_signed_by_its_own_key() {
    let guest = HostGuest::start(0, None);
    let Some((_, text)) = s_client(&guest, &["-tls1_3", "-showcerts"], REQUEST) else {
        return;
    };
    let begin = text.find("-----BEGIN CERTIFICATE-----").expect(&text);
    let end = text.find("-----END CERTIFICATE-----").expect(&text) + 25;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("certificate.pem");
    fs::write(&path, format!("{}\n", &text[begin..end])).expect("written");
    let path = path.to_str().expect("a path");
    let verify = ["verify", "-check_ss_sig", "-CAfile", path, path];
    let output = run("openssl", &verify, b"").expect("it was there");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn curl_asks_over_it() {
    let guest = HostGuest::start(0, None);
    let base = format!("https://127.0.0.1:{}", guest.port);
    let Some(output) = run("curl", &["-sk", &format!("{base}/healthz")], b"") else {
        return;
    };
    assert_eq!(output.stdout, b"ready\n", "{output:?}");
    // 200 KiB in one body: a request that cannot be opened is answered all the same.
    let url = format!("{base}/.well-known/ohttp-gateway");
    let kind = "content-type: message/ohttp-req";
    let words = ["-sk", "-H", kind, "--data-binary", "@-", &url];
    let output = run("curl", &words, &[7; 200 << 10]).expect("it was there");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("\"status\":400"), "{text}");
}

fn accept() -> Policy {
    Policy {
        accept_unattested: true,
        ..Policy::default()
    }
}

fn connect(guest: &HostGuest) -> Result<Client, ClientError> {
    let url = format!("https://127.0.0.1:{}", guest.port);
    Client::connect(&url, TIMEOUT, accept())
}

#[test]
fn our_client_takes_the_key_that_the_evidence_names_and_no_other() {
    let guest = HostGuest::start(0, None);
    let client = connect(&guest).expect("the evidence names the key");
    assert!(client.models().expect("an answer").data.is_empty());
    for named in [Vec::new(), b"of somebody else".to_vec()] {
        let guest = HostGuest::start(0, Some(named));
        let refused = connect(&guest).err();
        assert!(
            matches!(refused, Some(ClientError::Refused(Refusal::TlsKey))),
            "{refused:?}"
        );
    }
}

#[test]
fn a_server_that_has_started_again_is_appraised_again() {
    let guest = HostGuest::start(0, None);
    let port = guest.port;
    let client = connect(&guest).expect("accepted");
    client.models().expect("an answer");
    drop(guest);
    let _guest = restart(port, None);
    assert!(client.models().expect("asked again").data.is_empty());
    // What has started in its place names a key that it does not show.
    drop(_guest);
    let _guest = restart(port, Some(b"of somebody else".to_vec()));
    let refused = client.models().err();
    assert!(
        matches!(refused, Some(ClientError::Refused(Refusal::TlsKey))),
        "{refused:?}"
    );
}

/// On the same port, which closing connections may still hold for a moment.
fn restart(port: u16, named: Option<Vec<u8>>) -> HostGuest {
    for _ in 0..600 {
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return HostGuest::start(port, named);
        }
        thread::sleep(Duration::from_millis(200));
    }
    panic!("port {port} is not free again");
}

#[test]
fn plain_http_to_a_port_with_tls_fails() {
    let guest = HostGuest::start(0, None);
    let url = format!("http://127.0.0.1:{}", guest.port);
    let error = Client::connect(&url, TIMEOUT, accept())
        .err()
        .expect("no HTTP");
    assert!(matches!(error, ClientError::Transport(_)), "{error}");
}
